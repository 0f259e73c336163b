"""No password in a URL of the configuration is shown, logged or kept by any job, whatever goes wrong."""

import functools
import http.server
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from jobs import cli, tune
from jobs.config import load_project
from jobs.console import command
from tests import forks
from tests.logcube import write_survey
from tests.s3 import free_port

CANARY = "cAnArY"
JOBS = ("prepare", "train", "tune", "score", "explore")
ON_CATALOG: dict[str, tuple[str, ...]] = {
    "search": ("{name}",),
    "label": ("{name}=agn",),
    "rerank": (),
    "assess": ("--labels={catalog}", "--label=split"),
    "figures": (),
    "export": (),
    "crossmatch": ("{catalog}",),
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A survey of three galaxies, of which one is out of range and one is broken; its address holds a password."""
    folder = write_survey(tmp_path / "survey", {"1-1": 0.02, "1-2": 0.5, "1-3": 0.03}, size=9)
    (broken,) = folder.rglob("*1-3*LOGCUBE*")
    broken.write_bytes(b"no FITS")
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://user:{CANARY}@127.0.0.1:{found.server_port}"
        found.shutdown()


def run(job: str, workspace: Path, *settings: str, arguments: Sequence[str] = ()) -> tuple[int, str]:
    """In a process of its own: what libraries print and log past our streams counts too."""
    small = ["prepare.windows.size=8", "prepare.dask.num_workers=1", "train.num_workers=0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        overrides = [f"--set={text}" for text in (f"workspace={workspace}", *small, *settings)]
        done = forks.cubescout(job, "demo", *arguments, *overrides)
    return done.returncode, done.stdout + done.stderr


def assert_clean(folder: Path) -> None:
    holding = [path for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert holding == []


@pytest.mark.slow
def test_a_survey_behind_a_password_leaves_none_in_store_tables_and_registry(server: str, tmp_path: Path) -> None:
    code, output = run("prepare", tmp_path / "ws", f"survey.root={server}")
    assert code == command.EXIT_SET_ASIDE, output
    assert "1 of 3 galaxies" in output
    assert CANARY not in output
    assert "127.0.0.1" in (tmp_path / "ws" / "windows.zarr" / "rejected.csv").read_text()
    assert (tmp_path / "ws" / "mlflow.db").stat().st_size > 10_000
    assert_clean(tmp_path / "ws")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "url", "expected"),
    [
        # No such host, a server that does not answer, and tables of a survey whose folder is not there.
        ("survey.root", f"http://u:p/{CANARY}@127.0.0.1:{{port}}/x", command.EXIT_USAGE),
        ("survey.root", f"http://127.0.0.1:{{port}}/x?sig={CANARY}", command.EXIT_FAILED),
        ("survey.table", f"http://u:p/{CANARY}@127.0.0.1:{{port}}/x", command.EXIT_USAGE),
        ("survey.table", f"http://127.0.0.1:{{port}}/x?sig={CANARY}", command.EXIT_USAGE),
    ],
)
def test_a_survey_that_is_not_there_is_named_without_its_password(
    key: str, url: str, expected: int, tmp_path: Path
) -> None:
    code, output = run("prepare", tmp_path, f"{key}={url.format(port=free_port())}")
    assert code == expected, output
    assert CANARY not in output
    assert_clean(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_registry_that_is_not_there_is_named_without_its_password(job: str, tmp_path: Path) -> None:
    from tests.synthetic import synthetic_store

    synthetic_store(tmp_path / "windows.zarr", shape=(2, 2, 8))
    code, output = run(job, tmp_path, f"tracking.uri=http://user:{CANARY}@127.0.0.1:{free_port()}")
    # These need the survey's folder or a catalog before the registry.
    assert code == (command.EXIT_USAGE if job in ("prepare", "explore") else command.EXIT_FAILED), output
    assert output
    assert CANARY not in output
    assert_clean(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("job", ON_CATALOG)
def test_commands_on_a_catalog_show_and_keep_no_password(job: str, tmp_path: Path) -> None:
    from tests.jobs.catalogs import write_synthetic_catalog
    from tests.synthetic import synthetic_store

    names = synthetic_store(tmp_path / "windows.zarr", shape=(2, 2, 8)).galaxies()["plateifu"].tolist()
    write_synthetic_catalog(tmp_path / "catalog.parquet", names=names)
    arguments = [text.format(name=names[0], catalog=tmp_path / "catalog.parquet") for text in ON_CATALOG[job]]
    url = f"http://user:{CANARY}@127.0.0.1:{free_port()}"
    code, output = run(job, tmp_path, f"tracking.uri={url}", f"survey.root={url}", arguments=arguments)
    assert code in (command.EXIT_OK, command.EXIT_FAILED, command.EXIT_USAGE), output
    assert output
    assert CANARY not in output
    assert_clean(tmp_path)


def test_the_best_configuration_of_a_search_holds_no_password(tmp_path: Path) -> None:
    from modeling.training.ray_tune import Trial

    urls = {"tracking.uri": f"https://me:{CANARY}@host", "survey.root": f"https://host/x?X-Amz-Signature={CANARY}"}
    config = load_project("demo", (f"workspace={tmp_path}", *(f"{key}={url}" for key, url in urls.items())))
    tuned: Any = Mock(trials=[Trial("a", {"train.lr": 0.5}, [], 1.0, None)])
    tracked = Mock()
    tune.leave_report(tracked, config, tuned, tune.best_config(config, tuned), tmp_path / "search")
    logged = [call.args[0] for call in tracked.log_file.call_args_list]
    assert sorted(logged) == sorted((tmp_path / "search").iterdir())
    assert_clean(tmp_path)
    best = load_project(str(tmp_path / "search" / "best.yaml"))
    assert best.train.lr == 0.5
    assert best.tracking_uri == "https://host"


@pytest.mark.slow
def test_a_wrong_value_is_shown_without_its_password(tmp_path: Path) -> None:
    code, output = run("train", tmp_path, f"tracking.experiment=[http://user:{CANARY}@host]")
    assert code == command.EXIT_USAGE
    assert "tracking.experiment" in output
    assert CANARY not in output


def test_no_secrets_are_submitted_to_a_cluster() -> None:
    """Ray shows the entry point of a job to all of its users, and keeps the configuration."""
    settings = [f"tracking.uri=http://user:{CANARY}@host", f"survey.root=https://host/x?X-Amz-Signature={CANARY}"]
    options = [f"--set={text}" for text in ("workspace=/runs/x", *settings)]
    result = CliRunner().invoke(cli.main, ["submit", "train", "demo", *options])
    assert result.exit_code == command.EXIT_USAGE
    assert "2 mistakes" in result.output
    assert "tracking.uri: holds a password" in result.output
    assert CANARY not in result.output


@pytest.mark.parametrize("line", ["tracking: {uri: 'http://me:%s@host'}", "# of http://me:%s@host"])
def test_nor_is_a_file_with_a_secret_that_does_not_count(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("workspace: /runs/x\n" + line % CANARY + "\n")
    result = CliRunner().invoke(cli.main, ["submit", "train", str(path), "--set", "tracking.uri=http://host"])
    assert result.exit_code == command.EXIT_USAGE
    assert "line 2: holds a password" in result.output
    assert CANARY not in result.output
