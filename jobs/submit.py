"""Runs a job on a Ray cluster and follows it.

JOB is another command, and CONFIG a YAML file on this machine or the name of a shipped configuration. The file, its
--set values and this machine's code are sent to the cluster, which must have the packages that the code imports
(cluster.yaml installs them). `workspace` must be an absolute path shared by the nodes; cubes and store may be s3://
URLs. Credentials are never sent: the nodes have their own.

--address is the URL of the cluster's dashboard (default: RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265, where
`ray attach cluster.yaml -p 8265` forwards it). Token authentication is used if there is a token: RAY_AUTH_TOKEN or
~/.ray/auth_token.

With --follow, the default, the job's output is shown as it arrives and the exit code is the job's own. Ctrl-C asks
whether to stop the job; without an answer the job continues. With --no-follow the exit code is 0 as soon as Ray has
accepted the job.
"""

import asyncio
import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from cubeprep.config import ConfigError
from jobs.config import find_config, load_project
from jobs.console.command import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK

PACKAGES = ("cubeprep", "modeling", "jobs")
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
# Ray reports the end of a job shortly before it knows the exit code.
POLL_S = 0.5
CODE_WAIT_S = 10.0


class SubmitError(ValueError):
    """A cluster that cannot be reached, or that rejects the job."""


def submit(job: str, config: str, overrides: Sequence[str], *, address: str | None, follow: bool) -> int:
    """Submits a job; returns its exit code if it is followed.

    Raises:
        ConfigError: the configuration is wrong, or its workspace would be lost with the job.
        SubmitError: no cluster answers, or it rejects the job.
    """
    path = find_config(config)
    project = load_project(config, tuple(overrides))
    if not project.workspace.is_absolute():
        message = f"workspace: {project.workspace} is relative; it must be absolute, and shared by the cluster nodes"
        raise ConfigError(config, [message])
    where = address or os.environ.get("RAY_API_SERVER_ADDRESS", DEFAULT_ADDRESS)
    client = connect(where)
    with staged(path) as folder:
        command = entrypoint(job, path.name, overrides)
        try:
            job_id = client.submit_job(
                entrypoint=command,
                runtime_env={"working_dir": str(folder), "env_vars": {"PYTHONUNBUFFERED": "1"}},
                metadata={"cubescout": job},
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise SubmitError(f"{where} rejected the job: {error}") from error
    click.echo(f"Submitted {job_id} to {where}", err=True)
    if not follow:
        click.echo(_how_to_follow(job_id, where), err=True)
        return EXIT_OK
    return follow_job(client, job_id, where)


def connect(address: str) -> Any:
    """Client of the cluster whose dashboard is at an address.

    Raises:
        SubmitError: nothing answers there, or access is denied.
    """
    # Explicit: otherwise any token that another tool left in the home directory decides.
    token = Path("~/.ray/auth_token").expanduser()
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH") or token.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        # The client logs each package that it uploads, and sets its log level when it is created.
        for module in (
            "dashboard.modules.dashboard_sdk",
            "dashboard.modules.job.sdk",
            "_private.runtime_env.packaging",
        ):
            logging.getLogger(f"ray.{module}").setLevel(logging.WARNING)
        return client
    except (AuthenticationError, RuntimeError, ValueError, OSError) as error:
        raise SubmitError(f"no access to a Ray cluster at {address} (--address): {error}") from error


def entrypoint(job: str, config: str, overrides: Sequence[str]) -> str:
    """The command that runs on the cluster."""
    settings = [part for override in overrides for part in ("--set", override)]
    return shlex.join(["python", "-m", f"jobs.{job}", config, *settings])


@contextmanager
def staged(config: Path) -> Iterator[Path]:
    """Temporary working directory of a job: this code, its version and one configuration; under a megabyte."""
    with tempfile.TemporaryDirectory(prefix="cubescout-submit-") as scratch:
        folder = Path(scratch)
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyc")
            shutil.copytree(str(files(package)), folder / package, ignore=ignored)
        shutil.copy2(config, folder / config.name)
        _copy_version(folder)
        yield folder


def _copy_version(folder: Path) -> None:
    """Copies the package's version, which stores, models and catalogs made on the cluster record."""
    try:
        found = distribution("cubescout")
    except PackageNotFoundError:
        return
    info = folder / f"cubescout-{found.version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: cubescout\nVersion: {found.version}\n")


def follow_job(client: Any, job_id: str, address: str, *, confirm: Callable[..., bool] = click.confirm) -> int:
    """Shows a job's output until it ends; returns its exit code."""
    try:
        asyncio.run(_show(client, job_id))
        return exit_code(client, job_id)
    except KeyboardInterrupt:
        click.echo("", err=True)
        if _asked_to_stop(confirm, job_id):
            client.stop_job(job_id)
            click.echo(f"Stopped {job_id}; run the same command to resume", err=True)
        else:
            click.echo(f"{job_id} continues. {_how_to_follow(job_id, address)}", err=True)
        return EXIT_INTERRUPTED


def _asked_to_stop(confirm: Callable[..., bool], job_id: str) -> bool:
    try:
        return confirm(f"Stop {job_id} on the cluster?", default=False, err=True)
    except (click.Abort, KeyboardInterrupt):
        return False


async def _show(client: Any, job_id: str) -> None:
    async for text in client.tail_job_logs(job_id):
        click.echo(text, nl=False)


def exit_code(client: Any, job_id: str) -> int:
    """Exit code of a job, once it has ended; prints Ray's message if there is none.

    A broken connection ends the output but not the job, so this waits for the end.
    """
    while not client.get_job_status(job_id).is_terminal():
        time.sleep(POLL_S)
    deadline = time.monotonic() + CODE_WAIT_S
    info = client.get_job_info(job_id)
    while info.driver_exit_code is None and info.status != "STOPPED" and time.monotonic() < deadline:
        time.sleep(POLL_S)
        info = client.get_job_info(job_id)
    if info.status == "SUCCEEDED":
        return EXIT_OK
    if info.status == "STOPPED":
        click.echo(f"cubescout: {job_id} was stopped", err=True)
        return EXIT_INTERRUPTED
    if info.driver_exit_code:
        return int(info.driver_exit_code)
    click.echo(f"cubescout: {job_id} failed: {info.message}", err=True)
    return EXIT_FAILED


def _how_to_follow(job_id: str, address: str) -> str:
    return f"To follow it: ray job logs --follow --address {address} {job_id}"
