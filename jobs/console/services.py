"""Checks of the storage and the MLflow server of a configuration, for `cubescout doctor`."""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

from cubeprep.storage import filesystem, is_remote, remove_file, storage_errors, write_file
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.checks import CheckFailedError, Finding, check_reachable, folder

PORTS = {"http": 80, "https": 443}


def survey(config: ProjectConfig) -> Iterator[Finding]:
    """Whether the survey's folder can be listed."""
    root = config.survey_root if is_remote(config.survey_root) else str(Path(config.survey_root).absolute())
    _check_service("survey.root", root)
    with storage_errors(root):
        fs, name = filesystem(root)
        there = fs.exists(name)
    if there:
        yield Finding("ok", "survey.root", f"{root} can be read")
    elif config.survey.root is None:
        yield Finding("ok", "survey.root", f"{root} does not exist yet: `cubescout simulate` makes it")
    else:
        yield Finding("fail", "survey.root", f"{root}: nothing is there, or it may not be read", "correct survey.root")


def written(key: str, place: str | None) -> Iterator[Finding]:
    """Whether a folder or a place on S3 can be written to; nothing where it is not set.

    On S3 a small object is written beside it, or into it if it is a whole bucket, and removed.
    """
    if place is None:
        return
    if not is_remote(place):
        yield from folder(key, Path(place))
        return
    _check_service(key, place)
    folder_url = place.partition("?")[0].rstrip("/")
    separator = "" if "/" in folder_url.partition("://")[2] else "/"
    probe = f"{folder_url}{separator}.doctor-{secrets.token_hex(4)}"
    write_file(probe, b"cubescout doctor")
    remove_file(probe)
    yield Finding("ok", key, f"{place} can be written to")


def _check_service(key: str, url: str) -> None:
    """Checks that the service of a URL answers, and that there are credentials for S3.

    Raises:
        CheckFailedError: the service does not answer, or credentials are missing.
    """
    if not is_remote(url):
        return
    at = url
    if url.startswith("s3://"):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        at = endpoint or f"https://s3.{region}.amazonaws.com"
    _check_listens(key, at, "check the address, AWS_ENDPOINT_URL and the network")
    if url.startswith("s3://"):
        _check_credentials(key)


def _check_listens(what: str, url: str, advice: str) -> None:
    parts = urlsplit(url)
    check_reachable(what, parts.hostname or "", str(parts.port or PORTS.get(parts.scheme, 443)), advice)


def _check_credentials(key: str) -> None:
    from botocore.session import get_session

    if get_session().get_credentials() is None:
        text = "no credentials for S3 in the environment, a profile or the instance"
        advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        raise CheckFailedError(Finding("fail", key, text, advice))


def tracking(config: ProjectConfig) -> Iterator[Finding]:
    """Whether MLflow's server answers, or its database is valid."""
    from modeling.tracking.database import sqlite_path
    from modeling.tracking.runs import make_client

    uri = config.tracking_uri
    if path := sqlite_path(uri):
        path = path.absolute()
        yield _database(path) if path.exists() else Finding("ok", "MLflow", f"{path} does not exist yet: jobs make it")
        return
    if urlsplit(uri).scheme in PORTS:
        _check_listens("MLflow", uri, "start the server, or correct tracking.uri")
    experiments = make_client(uri).search_experiments(max_results=1)
    yield Finding("ok", "MLflow", f"{uri} answers" + ("" if experiments else ", without experiments yet"))


def _database(path: Path) -> Finding:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            (count,) = database.execute("select count(*) from runs").fetchone()
    except sqlite3.Error as error:
        advice = "name another database as tracking.uri, or move this file away"
        return Finding("fail", "MLflow", f"{path}: not an MLflow database ({error})", advice)
    if not os.access(path, os.W_OK):
        return Finding("fail", "MLflow", f"{path} cannot be written to", "correct its permissions")
    return Finding("ok", "MLflow", f"{path}, {counted(count, 'run')}")
