"""Jobs submitted to a real head node, which the test starts on loopback with token authentication."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from jobs import cli
from jobs import submit as submitting
from jobs.config import load_project
from jobs.console import command
from jobs.submit import SubmitError, connect, dashboard_address, entrypoint, follow_job, relative_paths, staged
from modeling.network.checkpoint import load_model
from tests import forks
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
    done = forks.cubescout("submit", *map(str, arguments))
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
    failing = submit("train", config, "--address", address, "--", "--resume", "no-such-run", code=2)
    assert "no-such-run" in failing
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
def test_without_the_token_nothing_is_taken(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    done = forks.cubescout("submit", "prepare", "demo", "--address", address, "--set", f"workspace={tmp_path}")
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
@pytest.mark.timeout(1800)
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


class Forwarder(threading.Thread):
    """A port of this machine that leads to a dashboard, as `ray attach` makes it, until it is cut."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.target = "127.0.0.1", int(address.rpartition(":")[2])
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.sockets: list[socket.socket] = []
        self.listen()
        self.start()

    def listen(self) -> None:
        self.server = socket.create_server(("127.0.0.1", self.port))

    def run(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                time.sleep(0.1)
                continue
            cluster = socket.create_connection(self.target)
            self.sockets += [client, cluster]
            for ends in ((client, cluster), (cluster, client)):
                threading.Thread(target=self.pump, args=ends, daemon=True).start()

    def pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        for end in self.sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("end", ["comes back", "stopped"])
def test_a_connection_that_breaks_changes_neither_output_nor_exit_code(address: str, tmp_path: Path, end: str) -> None:
    """With RAY_ADDRESS and a proxy in the environment that lead nowhere."""
    forwarder = Forwarder(address)
    nowhere = f"http://127.0.0.1:{free_port()}"
    environment = os.environ | {"RAY_ADDRESS": nowhere, "http_proxy": nowhere, "HTTP_PROXY": nowhere}
    num = 4 if end == "comes back" else 2000
    settings = [f"workspace={tmp_path}", "simulate.bundle_shares={19: 1}", f"simulate.num_galaxies={num}"]
    settings += ["simulate.num_workers=1", "simulate.maps=[]"]
    arguments = submit_command(
        "simulate", "demo", "--address", forwarder.address, *(f"--set={text}" for text in settings)
    )
    with subprocess.Popen(arguments, text=True, env=environment, stdout=-1, stderr=-1) as process:
        assert process.stderr
        job = process.stderr.readline().split()[1]
        client = connect(address)
        while client.get_job_status(job) == "PENDING":
            time.sleep(0.2)
        forwarder.cut()
        broke = process.stderr.readline()
        if end == "stopped":
            client.stop_job(job)
        forwarder.listen()
        output, errors = process.communicate(timeout=120)
    assert f"the connection to {forwarder.address} broke" in broke
    assert "Traceback" not in errors
    if end == "stopped":
        assert process.returncode == command.EXIT_INTERRUPTED
        assert f"{job} was stopped" in errors
    else:
        assert process.returncode == command.EXIT_OK, errors
        assert output.count("4 simulated galaxies") == 1


class FakeClient:
    """A job that prints two lines, on a connection that breaks as it is told to; by turns of the stream."""

    def __init__(self, *turns: str, status: str = "SUCCEEDED", code: int | None = 0) -> None:
        self.turns, self.end = list(turns), SimpleNamespace(status=status, driver_exit_code=code, message="told")
        self.requests = 0

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        turn = self.turns.pop(0) if self.turns else "whole"
        if turn == "refused":
            raise ConnectionRefusedError("refused")
        yield "one\n"
        if turn == "breaks":
            self.turns.insert(0, "broken")
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")
        if turn != "ends early":
            yield "two\nthr"
            yield "ee\n"

    def get_job_status(self, job_id: str) -> Any:
        self.requests += 1
        if self.turns and self.turns[0] == "broken":
            self.turns.pop(0)
            raise ConnectionError("broken")
        if self.turns and self.turns[0].startswith("Request failed"):
            raise RuntimeError(self.turns[0])
        ended = not self.turns
        return SimpleNamespace(is_terminal=lambda: ended)

    def get_job_logs(self, job_id: str) -> str:
        return "one\ntwo\nthree\n" if not self.turns else "one\ntwo\n"

    def get_job_info(self, job_id: str) -> Any:
        return self.end


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitting, "RETRY_S", 0.0)
    monkeypatch.setattr(submitting, "POLL_S", 0.0)
    monkeypatch.setattr(submitting, "CODE_WAIT_S", 0.0)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, command.EXIT_OK),
        ("FAILED", 3, command.EXIT_SET_ASIDE),
        ("FAILED", None, command.EXIT_FAILED),
        ("STOPPED", None, command.EXIT_INTERRUPTED),
        ("STOPPED", 1, command.EXIT_INTERRUPTED),
    ],
)
@pytest.mark.parametrize("turns", [(), ("breaks",), ("refused", "refused"), ("ends early", "breaks", "whole")])
@pytest.mark.usefixtures("quick")
def test_output_is_shown_once_and_the_code_is_the_jobs(
    turns: tuple[str, ...], status: str, code: int | None, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = follow_job(FakeClient(*turns, status=status, code=code), "job-1", "http://head:8265")
    assert found == expected
    shown = capsys.readouterr()
    assert shown.out == "one\ntwo\nthree\n"
    assert ("broke" in shown.err) == ("breaks" in turns)


@pytest.mark.usefixtures("quick")
def test_a_cluster_that_stays_away_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submitting, "GIVE_UP_S", 0.05)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    client = FakeClient(*["refused", "broken"] * 10_000)
    assert follow_job(client, "job-1", "http://head:8265") == command.EXIT_LOST
    told = capsys.readouterr().err
    assert "whether job-1 is still running is unknown" in told
    assert "RAY_ADDRESS= ray job logs --follow --address http://head:8265 job-1" in told
    assert told.count("broke (") == 1


@pytest.mark.usefixtures("quick")
def test_each_interruption_has_a_time_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    client = FakeClient("refused", "broken", "ends early", "refused", "broken")
    assert follow_job(client, "job-1", "http://head:8265") == command.EXIT_OK
    told = capsys.readouterr()
    assert told.err.count("broke (") == 2, "after the first, the connection held again"
    assert told.out == "one\ntwo\nthree\n"


@pytest.mark.usefixtures("quick")
def test_a_job_that_the_cluster_forgot_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    client = FakeClient("refused", "Request failed with status code 404: Job job-1 does not exist")
    assert follow_job(client, "job-1", "http://head:8265") == command.EXIT_LOST
    assert client.requests == 1
    assert "no longer knows job-1" in capsys.readouterr().err


def test_the_address_that_is_given_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dashboard_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://other:1")
    assert dashboard_address(None) == "http://other:1"
    assert dashboard_address("https://head:8265") == "https://head:8265"


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8265", "head", "ray://head:10001", "http://", "http://head:port", "auto"]
)
def test_an_address_that_is_no_url_is_a_wrong_command(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: Ray is not even imported."""
    monkeypatch.setattr(submitting, "connect", None)
    result = CliRunner().invoke(cli.main, ["submit", "prepare", "demo", "--set=workspace=/runs", "--address", address])
    assert result.exit_code == command.EXIT_USAGE
    assert f"'{address}': expected the URL of a dashboard" in result.output


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_goes_past_a_proxy_and_ray_address(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"http://{host}:{free_port()}"
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://proxy.invalid:3128")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "example.org")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:7")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8")
    with pytest.raises(SubmitError) as caught:
        connect(where)
    assert str(caught.value).count(where) == 2
    assert "proxy" not in str(caught.value)
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:8"
    assert os.environ["NO_PROXY"] == f"example.org,{host}"


def test_a_proxy_on_the_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(SubmitError, match=f"through the proxy {proxy}"):
        connect("http://head.invalid:8265")


@pytest.mark.slow
def test_what_travels_is_small_and_whole(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"workspace: {tmp_path}\n")
    with staged(config) as folder:
        found = [path for path in folder.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in found) < 8 << 20
        names = {str(path.relative_to(folder)) for path in found}
        code = """
import jobs.cli, cubeprep.version as v
from jobs.console.checks import versions
print(v.code_version(), jobs.cli.__file__, next(versions()).text)
"""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        version, file, *checked = done.stdout.split()
        assert version != "unknown"
        assert Path(file).is_relative_to(folder.resolve())
        assert int(checked[1]) > 10, "packages that it requires"
    assert {"mine.yaml", "jobs/configs/demo.yaml", "modeling/network/convlstm_cpu.py", "cubeprep/store.py"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_entry_point_is_quoted() -> None:
    made = entrypoint("train", "my survey.yaml", ["train.lr=1e-3", "tracking.experiment=a b"])
    assert made == "python -m jobs.train 'my survey.yaml' --set train.lr=1e-3 --set 'tracking.experiment=a b'"
    made = entrypoint("search", "my.yaml", [], ["8485-1901", "--region", "1:2, 3:4"])
    assert made == "python -m jobs.search my.yaml 8485-1901 --region '1:2, 3:4'"


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("train", ["--rezume", "mine"], "No such option"),
        ("train", ["mine"], "takes no such argument"),
        ("crossmatch", ["https://me:word@host/table.fits"], "holds a password"),
        ("search", ["8485-1901", "--output", "near.csv"], "near.csv: expected an absolute path"),
    ],
)
def test_arguments_of_the_job_are_checked_before_it_is_submitted(job: str, arguments: list[str], message: str) -> None:
    workspace = ("--set", "workspace=/shared/run")
    result = CliRunner().invoke(cli.main, ["submit", job, "demo", *workspace, "--", *arguments])
    assert result.exit_code == command.EXIT_USAGE
    assert message in result.output
    assert "word@" not in result.output


def test_a_password_that_a_later_setting_replaces_is_not_sent_either() -> None:
    given = ["workspace=/shared/run", "tracking.uri=http://me:word@host", "tracking.uri=http://host"]
    settings = [word for item in given for word in ("--set", item)]
    result = CliRunner().invoke(cli.main, ["submit", "train", "demo", *settings])
    assert result.exit_code == command.EXIT_USAGE
    assert "--set tracking.uri: holds a password" in result.output
    assert "word@" not in result.output


@pytest.mark.parametrize(
    "setting",
    [
        "workspace=runs/x",
        "survey.root=cubes",
        "survey.table=drpall.fits",
        "prepare.store=runs/windows.zarr",
        "train.storage=runs/training",
        "tracking.uri=sqlite:///runs/mlflow.db",
        "score.model=runs/model",
        "train.start_from=runs/model",
    ],
)
def test_what_a_job_wrote_to_a_relative_path_would_be_lost(setting: str) -> None:
    settings = ("--set", "workspace=/shared/x", "--set", setting)
    result = CliRunner().invoke(cli.main, ["submit", "prepare", "demo", *settings])
    assert result.exit_code == command.EXIT_USAGE
    assert f"{setting.partition('=')[0]}: " in result.output
    assert "must be absolute" in result.output


def test_urls_and_absolute_paths_are_no_relative_ones(tmp_path: Path) -> None:
    settings = ("workspace=/shared/x", "survey.root=s3://survey/redux", "tracking.uri=sqlite:////shared/mlflow.db")
    models = ("score.model=models:/cubescout@champion", "train.start_from=pretrained")
    assert relative_paths(load_project("demo", (*settings, *models)), "prepare") == {}


def test_the_survey_matters_to_jobs_that_read_it() -> None:
    project = load_project("line", ("workspace=/shared/x",))
    assert relative_paths(project, "train") == {}
    assert relative_paths(project, "prepare") == {"survey.root": project.survey.root}


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named() -> None:
    with pytest.raises(SubmitError, match="no access to a Ray cluster at http://127"):
        connect(f"http://127.0.0.1:{free_port()}")
