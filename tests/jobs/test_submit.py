"""Jobs submitted to a real head node, which the test starts on loopback with token authentication."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from jobs import cli
from jobs.console import command
from jobs.submit import SubmitError, connect, entrypoint, staged
from modeling.network.checkpoint import load_model
from tests.logcube import write_survey
from tests.ray_head import ray_cluster
from tests.s3 import free_port


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ray_cluster() as found:
        yield found


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_survey(tmp_path_factory.mktemp("survey"), {"1-1": 0.02, "1-2": 0.5}, size=9)


def write_config(folder: Path, survey: Path, **more: str) -> Path:
    """A user's own file."""
    path = folder / "mine.yaml"
    lines = [f"workspace: {folder / 'run'}", f"survey: {{root: {survey}}}"]
    lines += ["prepare: {dask: {num_workers: 0}, windows: {size: 8}}", *(f"{k}: {v}" for k, v in more.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def submit_command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from jobs.cli import main; main()", "submit", *map(str, arguments)]


def submit(*arguments: object, code: int) -> str:
    done = subprocess.run(submit_command(*arguments), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_output_and_exit_codes_pass_through(address: str, survey: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, survey)
    text = submit("prepare", config, "--address", address, code=command.EXIT_SET_ASIDE)
    assert "1 of 2 galaxies" in text
    assert "rejected.csv" in text
    assert (tmp_path / "run" / "windows.zarr" / "summary.json").exists()
    failing = submit("prepare", config, "--address", address, "--set", f"survey.root={tmp_path / 'no where'}", code=1)
    assert "no such folder" in failing
    assert "Traceback" not in failing


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_leaves_the_job_running_unless_told_otherwise(address: str, tmp_path: Path) -> None:
    big = ("--set", f"workspace={tmp_path}", "--set", "simulate.num_galaxies=2000", "--set", "simulate.num_workers=1")
    arguments = submit_command("simulate", "demo", "--address", address, *big)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A suite that a shell runs in the background ignores SIGINT, and so would this.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(arguments, text=True, preexec_fn=heed, **pipes)
    assert process.stderr
    line = process.stderr.readline()
    assert "Submitted" in line
    job = line.split()[1]
    client = connect(address)
    while client.get_job_status(job) == "PENDING":
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate("\n", timeout=60)
    assert process.returncode == command.EXIT_INTERRUPTED
    assert f"Stop {job}" in errors
    assert f"ray job logs --follow --address {address} {job}" in errors
    assert client.get_job_status(job) == "RUNNING"
    client.stop_job(job)


@pytest.mark.ray
@pytest.mark.slow
def test_without_the_token_nothing_is_taken(address: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_TOKEN"}
    environment["RAY_AUTH_MODE"] = "disabled"
    arguments = submit_command("prepare", "demo", "--address", address, "--set", f"workspace={tmp_path}")
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == command.EXIT_FAILED
    assert "no access to a Ray cluster" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_plain_ray_job_submit(address: str, survey: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, survey)
    with staged(config) as folder:
        ray = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", address]
        job = ["--working-dir", str(folder), "--", "python", "-m", "jobs.prepare", "mine.yaml"]
        done = subprocess.run([*ray, *job], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1  # Ray's own: the job's 3, done with galaxies rejected, is lost here
    assert "1 of 2 galaxies" in done.stdout + done.stderr


@pytest.mark.ray
@pytest.mark.long
def test_the_whole_path_on_two_nodes(tmp_path: Path) -> None:
    """Nodes have a CPU each: Dask's two workers, those of the training and two tasks of scoring need both."""
    config = tmp_path / "survey.yaml"
    run = tmp_path / "run"
    small = dict.fromkeys(("latent_dim", "step_channels", "lstm_channels", "decoder_channels"), 4)
    settings = {
        "workspace": str(run),
        "simulate": {"num_galaxies": 16, "bundle_shares": {19: 1}, "maps": [], "num_workers": 1},
        "prepare": {"windows": {"size": 8}, "dask": {"scheduler": "ray"}},
        "dask_on_ray": {"num_workers": 2},
        "model": small,
        "train": {"epochs": 1, "batch_size": 4, "num_workers": 2, "threads": 1},
        "score": {"num_workers": 2},
    }
    config.write_text(yaml.safe_dump(settings))
    with ray_cluster(num_nodes=2) as address:
        for job in ("simulate", "prepare", "train", "score"):
            submit(job, config, "--address", address, code=command.EXIT_OK)
    catalog = pd.read_parquet(run / "catalog.parquet")
    assert len(catalog) == 16
    assert catalog["score_combined"].notna().all()
    (model,) = (run / "models").iterdir()
    assert load_model(model)[1]["job"]["train"]["num_workers"] == 2


def test_what_travels_is_small_and_whole(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"workspace: {tmp_path}\n")
    with staged(config) as folder:
        found = [path for path in folder.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in found) < 5 << 20
        names = {str(path.relative_to(folder)) for path in found}
        code = "import jobs.cli, cubeprep.version as v; print(v.code_version(), jobs.cli.__file__)"
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split()[0] != "unknown"
        assert Path(done.stdout.split()[1]).is_relative_to(folder.resolve())
    assert {"mine.yaml", "jobs/configs/demo.yaml", "modeling/network/convlstm_cpu.py", "cubeprep/store.py"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_entry_point_is_quoted() -> None:
    made = entrypoint("train", "my survey.yaml", ["train.lr=1e-3", "tracking.experiment=a b"])
    assert made == "python -m jobs.train 'my survey.yaml' --set train.lr=1e-3 --set 'tracking.experiment=a b'"


def test_a_relative_workspace_would_be_lost() -> None:
    result = CliRunner().invoke(cli.main, ["submit", "prepare", "demo", "--set", "workspace=runs/x"])
    assert result.exit_code == command.EXIT_USAGE
    assert "must be absolute" in result.output


def test_a_cluster_that_is_not_there_is_named() -> None:
    with pytest.raises(SubmitError, match="no access to a Ray cluster at http://127"):
        connect(f"http://127.0.0.1:{free_port()}")
