"""MLflow's SQLite database in a workspace: created atomically, and still valid after the workspace is moved or copied.

MLflow records absolute paths of artifacts. Ours are in `mlartifacts/EXPERIMENT` beside the database: if that folder
differs from the recorded one, the workspace was moved or copied, and the records are updated.
"""

import fcntl
import glob
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

logger = logging.getLogger(__name__)

FOLDER = "mlartifacts"
# Columns that hold paths of artifacts.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
# Tables that are empty in a database that was never used.
USED = ("runs", "registered_models", "model_versions")


class DatabaseError(ValueError):
    """A database that cannot be created, read, or updated after its workspace was moved."""


def sqlite_uri(path: Path) -> str:
    """URI of a SQLite file, with `%` and `?` escaped: SQLAlchemy decodes `%`, and ends the path at `?`."""
    text = str(path.absolute()).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{text}"


def sqlite_path(uri: str) -> Path | None:
    """Path of the file of a SQLite URI; None for any other backend."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))


def artifact_location(path: Path, experiment: str) -> str:
    """URI of the folder with an experiment's artifacts, beside the database.

    Args:
        path: path of the database.
        experiment: name of the experiment; characters that are special in paths are escaped.
    """
    return (_root(path) / _folder_names(experiment)[-1]).as_uri()


def prepare_database(path: Path) -> None:
    """Creates a database or upgrades its schema and paths, under a lock, since concurrent upgrades fail.

    Args:
        path: path of the database.

    Raises:
        DatabaseError: the file is not an MLflow database, cannot be written, or its artifacts are elsewhere.
    """
    import sqlalchemy
    from mlflow.exceptions import MlflowException
    from mlflow.store.db import utils

    # MLflow does not decode `%3F` in the URI, and would create a folder of that name beside the workspace.
    utils._make_parent_dirs_if_sqlite = lambda uri: None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not path.exists() or _was_left_half_made(path):
                _make(path)
            else:
                _upgrade(path)
            _follow_folder(path)
    except (sqlalchemy.exc.DatabaseError, sqlite3.DatabaseError, MlflowException) as error:
        cause = getattr(error, "orig", None) or error
        raise DatabaseError(f"{path}: not an MLflow database, or not to be written: {cause}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    place = path.with_name(f"{path.name}.lock")
    try:
        lock = place.open("a")
    except OSError:
        if not path.exists():
            raise
        # A colleague's workspace, or one on a read-only disk: nothing can be changed there, but a file can be locked.
        lock = (place if place.exists() else path).open()
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(path: Path) -> None:
    """Creates an empty database under another name and renames it, so that an interruption leaves no partial one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    beginning = f".{path.name}.new-"
    for left in path.parent.glob(f"{glob.escape(beginning)}*"):
        left.unlink()
    made = path.with_name(f"{beginning}{os.getpid()}")
    with _engine(made) as engine:
        from mlflow.store.db import utils

        utils._initialize_tables(engine)
    # Creates the experiment `Default`, whose artifacts would otherwise go to the job's working directory.
    SqlAlchemyStore(sqlite_uri(made), _root(path).as_uri()).engine.dispose()
    made.replace(path)


def _upgrade(path: Path) -> None:
    """Upgrades the schema in place, where others may have the database open; a copy is kept until that is done.

    MLflow's migrations of SQLite are not transactional, and an interrupted one cannot continue with what it left.
    """
    from mlflow.store.db import utils

    before = path.with_name(f".{path.name}.before-upgrade")
    with _engine(path) as engine:
        if not _is_current(engine):
            if before.exists():
                logger.warning("%s: an earlier upgrade was interrupted and is begun again", path)
                _copy(before, path)
            else:
                partial = before.with_name(f"{before.name}.partial")
                _copy(path, partial)
                partial.replace(before)
            (utils._upgrade_db if utils._all_tables_exist(engine) else utils._initialize_tables)(engine)
    if before.exists():  # else nothing is changed, as in a folder that can only be read
        before.unlink()


def _is_current(engine: Any) -> bool:
    from mlflow.store.db import utils

    return utils._all_tables_exist(engine) and (
        utils._get_schema_version(engine) == utils._get_latest_schema_revision()
    )


def _copy(source: Path, target: Path) -> None:
    """Copies a database through SQLite, which keeps to its locks and undoes an interrupted copy."""
    with closing(sqlite3.connect(source, timeout=60)) as one, closing(sqlite3.connect(target, timeout=60)) as other:
        one.backup(other)


@contextmanager
def _engine(path: Path) -> Iterator[Any]:
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine_with_retry(sqlite_uri(path))
    try:
        yield engine
    finally:
        engine.dispose()


def _was_left_half_made(path: Path) -> bool:
    """Whether an earlier version was interrupted while it created this file: tables are missing, and none was used."""
    with closing(sqlite3.connect(path)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return True
        ours = "alembic_version" in tables or {"experiments", "runs", "metrics"} <= tables
        used = any(database.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in USED if name in tables)  # noqa: S608
    if not ours or used:
        return False
    from mlflow.store.db import utils

    with _engine(path) as engine:
        return not utils._all_tables_exist(engine)


def _follow_folder(path: Path) -> None:
    """Updates the paths of artifacts in a database that was moved or copied together with them.

    Raises:
        DatabaseError: the artifacts were left behind.
    """
    here = _root(path)
    with closing(sqlite3.connect(path, timeout=60)) as database, database:
        experiments = database.execute("SELECT experiment_id, name, artifact_location FROM experiments").fetchall()
        elsewhere = set()
        for experiment_id, name, location in experiments:
            found = _root_of(str(location), [*_folder_names(name), str(experiment_id)])
            if found is None or _same(found[0], here):
                continue
            old, folder = found
            if (old / folder).exists() and not (here / folder).exists():
                raise DatabaseError(
                    f"{path}: the artifacts of experiment {name} lie in {old / folder} and not in {here / folder}, "
                    "beside the database. Copy or move them there, or name that database by tracking.uri"
                )
            elsewhere.add(old)
        for old in elsewhere:
            logger.warning(
                "%s was moved or copied: artifacts are now looked for in %s and no more in %s", path, here, old
            )
            _rewrite(database, old, here)


def _rewrite(database: sqlite3.Connection, old: Path, new: Path) -> None:
    """Replaces one folder by another in all recorded paths, which MLflow writes as URIs and as plain paths."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for before, after in ((f"{old.as_uri()}/", f"{new.as_uri()}/"), (f"{old}/", f"{new}/")):
        for table, column in PLACES:
            if table in tables:
                command = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"  # noqa: S608
                database.execute(command, (after, len(before) + 1, len(before), before))


def _root(path: Path) -> Path:
    return path.absolute().parent / FOLDER


def _folder_names(experiment: str) -> list[str]:
    """Folder names of an experiment's artifacts: that of earlier versions, then the present one, safe with a `/`."""
    safe = re.sub(r"[^\w .-]", lambda match: quote(match[0], safe=""), experiment)
    return [experiment, safe if safe.strip(".") else f"%{safe}"]


def _root_of(location: str, folders: list[str]) -> tuple[Path, str] | None:
    """Folder `mlartifacts` of a recorded path, and the folder in it; None if the path is not one of ours."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    place = url2pathname(parts.path) if parts.scheme else location
    for folder in folders:
        if place.endswith(f"/{FOLDER}/{folder}"):
            return Path(place.removesuffix(f"/{folder}")), folder
    return None


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same folder, possibly through links."""
    return one == other or (one.exists() and other.exists() and one.samefile(other))
