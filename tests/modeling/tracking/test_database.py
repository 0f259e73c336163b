"""The database of a workspace: whatever its name, wherever it is moved to, whenever its making is interrupted."""

import itertools
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from modeling.tracking.database import artifact_location, prepare_database, sqlite_path, sqlite_uri
from modeling.tracking.runs import TrackingError, find_run, make_client, start_run
from tests import forks

NAMES = ("run?1", "p%41ct", "50%", "a#b", "with space", "Größe", "q[1]*", "x&y=z;a+b@c", "file:x")


def prepare(uri: str) -> None:
    make_client(uri)


def prepare_and_die(path: str, number: int) -> None:
    """Prepares a database, and kills itself before its Nth statement that changes a table."""
    import sqlalchemy

    numbers = itertools.count(1)

    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
    def die(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.split()[0] in ("CREATE", "ALTER", "DROP", "INSERT", "UPDATE") and next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    prepare_database(Path(path))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database; to make one takes over a second."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    make_client(sqlite_uri(path))
    return path


@pytest.fixture
def new(empty: Path) -> Callable[[Path], str]:
    """Puts an empty database into a workspace; returns its URI."""

    def make(workspace: Path) -> str:
        workspace.mkdir(parents=True, exist_ok=True)
        shutil.copy(empty, workspace / "mlflow.db")
        return sqlite_uri(workspace / "mlflow.db")

    return make


def track(uri: str, content: str = "one", experiment: str = "exp") -> str:
    """A run with an artifact."""
    with start_run(uri, experiment, "run") as run:
        run.client.log_text(run.run_id, content, "note.txt")
    return run.run_id


def files(folder: Path) -> set[Path]:
    """All that lies in a folder but the database's own files."""
    return {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("mlflow.db")}


def note(uri: str, run: str) -> Path:
    """The artifact where it lies."""
    return Path(url2pathname(urlsplit(make_client(uri).get_run(run).info.artifact_uri).path)) / "note.txt"


@pytest.mark.parametrize("name", NAMES)
def test_all_of_a_workspace_lies_in_it_whatever_its_name(name: str, tmp_path: Path, new: Callable[[Path], str]) -> None:
    workspace = tmp_path / name
    uri = sqlite_uri(workspace / "mlflow.db") if name == NAMES[0] else new(workspace)
    assert sqlite_path(uri) == workspace / "mlflow.db"
    run = track(uri)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert note(uri, run) == workspace / "mlartifacts" / "exp" / run / "artifacts" / "note.txt"
    assert note(uri, run).read_text() == "one"
    assert make_client(uri).get_run(run).info.status == "FINISHED"


@pytest.mark.parametrize("experiment", ["Default", "a/b", "../../out", "/absolute", "..", "."])
def test_an_experiment_does_not_lead_out_of_the_workspace(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: Callable[[Path], str]
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    workspace = tmp_path / "in" / "side"
    uri = new(workspace)
    run = track(uri, experiment=experiment)
    (found,) = files(tmp_path)
    assert found == note(uri, run)
    assert found.is_relative_to(workspace / "mlartifacts")
    moved = workspace.rename(tmp_path / "moved")
    assert note(sqlite_uri(moved / "mlflow.db"), run).is_relative_to(moved)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("ws", "new"), ("run?1", "p%41ct"), ("a b", "ü#")])
@pytest.mark.parametrize("how", ["move", "copy"])
def test_a_workspace_that_is_moved_or_copied_takes_its_artifacts_along(
    how: str, before: str, after: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, new: Callable[[Path], str]
) -> None:
    """And whatever is written then goes to the new place, and nothing changes at the old one."""
    old = new(tmp_path / before)
    first = track(old)
    client = make_client(old)
    caplog.clear()
    client.create_registered_model("m")
    client.create_model_version("m", f"{client.get_run(first).info.artifact_uri}/model", first)
    (shutil.move if how == "move" else shutil.copytree)(tmp_path / before, tmp_path / after)
    left = files(tmp_path / before)
    uri = sqlite_uri(tmp_path / after / "mlflow.db")
    second = track(uri, "two")
    assert "was moved or copied" in caplog.text
    for run, content in ((first, "one"), (second, "two")):
        assert note(uri, run).is_relative_to(tmp_path / after)
        assert note(uri, run).read_text() == content
    here = artifact_location(tmp_path / after / "mlflow.db", "exp")
    version = make_client(uri).get_model_version("m", "1")
    assert version.source == f"{here}/{first}/artifacts/model"
    assert files(tmp_path / before) == left
    assert (tmp_path / before).exists() == (how == "copy")


def test_a_database_without_its_artifacts_is_refused_by_name(tmp_path: Path, new: Callable[[Path], str]) -> None:
    track(new(tmp_path / "ws"))
    (tmp_path / "new").mkdir()
    shutil.copy(tmp_path / "ws" / "mlflow.db", tmp_path / "new")
    before = files(tmp_path)
    with pytest.raises(TrackingError, match=r"lie in .*ws/mlartifacts/exp and not in .*new/mlartifacts/exp"):
        track(sqlite_uri(tmp_path / "new" / "mlflow.db"))
    assert files(tmp_path) == before


def test_a_workspace_behind_a_link_was_not_moved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, new: Callable[[Path], str]
) -> None:
    first = track(new(tmp_path / "ws"))
    caplog.clear()
    (tmp_path / "link").symlink_to("ws")
    track(sqlite_uri(tmp_path / "link" / "mlflow.db"))
    assert "moved" not in caplog.text
    info = make_client(sqlite_uri(tmp_path / "ws" / "mlflow.db")).get_run(first).info
    assert info.artifact_uri.startswith((tmp_path / "ws").as_uri())


def test_artifacts_that_were_never_ours_stay_where_they_are(tmp_path: Path, new: Callable[[Path], str]) -> None:
    uri = new(tmp_path / "ws")
    make_client(uri).create_experiment("s3", artifact_location="s3://bucket/mlartifacts/s3")
    make_client(uri).create_experiment("own", artifact_location=(tmp_path / "own").as_uri())
    (tmp_path / "ws").rename(tmp_path / "new")
    client = make_client(sqlite_uri(tmp_path / "new" / "mlflow.db"))
    assert client.get_experiment_by_name("s3").artifact_location == "s3://bucket/mlartifacts/s3"
    assert client.get_experiment_by_name("own").artifact_location == (tmp_path / "own").as_uri()


@pytest.mark.slow
def test_a_kill_while_the_database_is_made_spoils_nothing(tmp_path: Path) -> None:
    """Each time the same command then does its work; nothing is left but the database and its lock."""
    rng = random.Random(0)
    interrupted = 0
    for number in range(5):
        workspace = tmp_path / str(number)
        uri = sqlite_uri(workspace / "mlflow.db")
        process = forks.start(prepare, uri)
        while not list(workspace.glob(".mlflow.db.new-*")) and process.is_alive():
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        interrupted += not (workspace / "mlflow.db").exists()
        run = track(uri)
        assert find_run(uri, "exp", {}, run) == run
        names = {path.name for path in workspace.iterdir()}
        assert names == {"mlflow.db", "mlflow.db.lock", "mlartifacts"}
    assert interrupted >= 2, "kills came too late for the test to mean something"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of an earlier MLflow, with a run."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    path = tmp_path_factory.mktemp("earlier") / "mlflow.db"
    engine = utils.create_sqlalchemy_engine_with_retry(sqlite_uri(path))
    Base.metadata.create_all(engine)
    config = utils._get_alembic_config(sqlite_uri(path))
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    command.upgrade(config, revisions[25])
    engine.dispose()
    location = artifact_location(path, "exp")
    with sqlite3.connect(path) as database:
        experiment = (1, "exp", location, "active")
        database.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) VALUES (?, ?, ?, ?)",
            experiment,
        )
        run = ("0" * 32, "old", 1, "me", "FINISHED", 1, "active", f"{location}/run/artifacts")
        columns = "run_uuid, name, experiment_id, user_id, status, start_time, lifecycle_stage, artifact_uri"
        database.execute(f"INSERT INTO runs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", run)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("statement", [2, 12, 30])
def test_a_kill_while_the_schema_is_upgraded_loses_nothing(statement: int, tmp_path: Path, earlier: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(earlier, path)
    died = forks.run(prepare_and_die, str(path), statement)
    assert died.returncode == -signal.SIGKILL, died.stderr
    uri = sqlite_uri(path)
    assert find_run(uri, "exp", {}, "0" * 32) == "0" * 32
    track(uri)
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlartifacts"}


@pytest.mark.parametrize("tables", [0, 1, 5])
def test_what_an_earlier_version_left_half_made_is_made_anew(tables: int, tmp_path: Path, empty: Path) -> None:
    half = tmp_path / "mlflow.db"
    with sqlite3.connect(empty) as database:
        found = database.execute(
            "SELECT sql FROM sqlite_master WHERE name IN ('experiments','runs','metrics','tags','params')"
        )
        commands = ["CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)", *(sql for (sql,) in found)]
    half.touch()
    with sqlite3.connect(half) as database:
        for sql in commands[:tables]:
            database.execute(sql)
    track(sqlite_uri(half))


def test_a_database_in_use_is_not_taken_for_half_made(tmp_path: Path, new: Callable[[Path], str]) -> None:
    uri = new(tmp_path)
    run = track(uri)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("DROP TABLE inputs")
    with suppress(TrackingError):
        make_client(uri)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("SELECT run_uuid FROM runs").fetchall() == [(run,)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        make_client(sqlite_uri(tmp_path / "mlflow.db"))


@pytest.mark.parametrize("locked_before", [True, False])
def test_a_workspace_that_can_only_be_read_is_read(
    locked_before: bool, tmp_path: Path, new: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = new(tmp_path)
    run = track(uri)
    if not locked_before:
        (tmp_path / "mlflow.db.lock").unlink()
    really = Path.open

    def read_only(path: Path, mode: str = "r", *arguments: Any) -> Any:
        if mode != "r":
            raise PermissionError(path)
        return really(path, mode, *arguments)

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "open", read_only)
    monkeypatch.setattr(Path, "unlink", refused)
    assert make_client(uri).get_run(run).info.status == "FINISHED"
    with pytest.raises(PermissionError):
        make_client(sqlite_uri(tmp_path / "none" / "mlflow.db"))


def test_the_first_cause_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy
    from mlflow.store.db import utils

    def full(engine: Any) -> None:
        raise sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", full)
        with pytest.raises(TrackingError, match=r"mlflow\.db: .*: database or disk is full"):
            make_client(sqlite_uri(tmp_path / "mlflow.db"))
    assert not (tmp_path / "mlflow.db").exists()
    track(sqlite_uri(tmp_path / "mlflow.db"))
