"""Runs a job on a Ray cluster and follows it.

JOB is another command; CONFIG is a YAML file on this machine or the name of a shipped configuration. The job's own
arguments and options follow after `--`, as in `submit search CONFIG -- 8485-1901 --num 5`. The file, its --set values
and this machine's code are sent to the cluster, which must have the packages that the code imports (cluster.yaml
installs them). `workspace` and other paths must be absolute and shared by the nodes; cubes and store may be s3:// URLs.
Credentials are never sent: the nodes have their own.

--address is the URL of the cluster's dashboard, http://HOST:PORT (default: RAY_API_SERVER_ADDRESS, else
http://127.0.0.1:8265, where `ray attach cluster.yaml -p 8265` forwards it); RAY_ADDRESS is ignored. Token
authentication is used if there is a token: RAY_AUTH_TOKEN or ~/.ray/auth_token.

With --follow, the default, the job's output is shown as it arrives and the exit code is the job's own. A broken
connection is retried for ten minutes; then the exit code is 5, and the command prints how to follow the job again.
Ctrl-C asks whether to stop the job; without an answer the job continues. With --no-follow the exit code is 0 as soon as
Ray has accepted the job.
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
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import click

from cubeprep.config import ConfigError
from cubeprep.redact import redact, secret_keys
from cubeprep.storage import is_remote
from jobs.config import ProjectConfig, find_config, load_project
from jobs.console.command import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_LOST, EXIT_OK
from modeling.network.pretrained import PRETRAINED
from modeling.tracking.database import sqlite_path

PACKAGES = ("cubeprep", "modeling", "jobs")
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
OF_SURVEY = ("simulate", "prepare", "demo", "doctor")  # jobs that read or write the survey's files
# Ray reports the end of a job shortly before its exit code.
POLL_S = 0.5
CODE_WAIT_S = 10.0
# Interval of retries after a broken connection, and time after which the command gives up and the job continues.
RETRY_S = 2.0
GIVE_UP_S = 600.0


class SubmitError(ValueError):
    """A cluster that cannot be reached, or that rejects the job."""


def submit(
    job: str,
    config: str,
    overrides: Sequence[str],
    *,
    arguments: Sequence[str] = (),
    address: str | None,
    follow: bool,
) -> int:
    """Submits a job; returns its exit code if it is followed, else 0.

    Args:
        job: name of the command that runs on the cluster.
        config: YAML file, or name of a shipped configuration.
        overrides: values of --set.
        arguments: of the job, beside its configuration.
        address: URL of the dashboard; None for that of the environment, or the default.
        follow: whether to show the job's output until it ends.

    Raises:
        ConfigError: the address or configuration is invalid, a path is relative, or there is a password in it.
        SubmitError: no cluster answers, or it rejects the job.
    """
    where = dashboard_address(address)
    path = find_config(config)
    project = load_project(config, tuple(overrides))
    if relative := relative_paths(project, job):
        rule = "it must be absolute, and shared by the cluster nodes"
        raise ConfigError(config, [f"{key}: {value} is relative; {rule}" for key, value in relative.items()])
    # The file is sent unchanged, with comments and values that --set replaces.
    lines = enumerate(path.read_text().splitlines(), start=1)
    secrets = (
        secret_keys(project.model_dump(mode="json") | {name: name for name in arguments})
        # All are sent, also those that a later one of the same key replaces.
        or [f"--set {item.partition('=')[0]}" for item in overrides if redact(item) != item]
        or [f"line {number}" for number, line in lines if redact(line) != line]
    )
    if secrets:
        known = "what a job is given can be read by all users of the cluster; give the nodes credentials of their own"
        raise ConfigError(config, [f"{redact(key)}: holds a password or a signature: {known}" for key in secrets])
    client = connect(where)
    with staged(path) as folder:
        command = entrypoint(job, path.name, overrides, arguments)
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


def relative_paths(project: ProjectConfig, job: str) -> dict[str, str]:
    """Relative paths, by their keys, which a job would read and write in a folder of Ray's."""
    paths = {
        "workspace": str(project.workspace),
        "prepare.store": project.prepare.store,
        "train.storage": project.train.storage,
        "tracking.uri": project.tracking.uri and str(sqlite_path(project.tracking.uri) or project.tracking.uri),
    }
    models = {"score.model": project.score.model, "train.start_from": project.train.start_from}
    paths |= {key: None if name == PRETRAINED else name for key, name in models.items()}
    if job in OF_SURVEY:
        paths |= {f"survey.{key}": getattr(project.survey, key) for key in ("root", "table", "maps_root")}
    given = {key: path for key, path in paths.items() if path and not (is_remote(path) or path.startswith("models:/"))}
    return {key: path for key, path in given.items() if not Path(path).is_absolute()}


def dashboard_address(address: str | None) -> str:
    """Address of the dashboard: the given one, that of the environment, or the default.

    Raises:
        ConfigError: it is not an http(s):// URL. Ray would read it as another kind of address, and wait long for it.
    """
    name = "--address" if address else "RAY_API_SERVER_ADDRESS"
    found = address or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
    try:
        parts = urlsplit(found)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(name, [f"{found!r}: expected the URL of a dashboard, such as {DEFAULT_ADDRESS}"])
    return found


def connect(address: str) -> Any:
    """Client of the cluster whose dashboard is at an address.

    Raises:
        SubmitError: nothing answers there, or access is denied.
    """
    # Explicit, so that a token is used whatever Ray's default is.
    token = Path("~/.ray/auth_token").expanduser()
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH") or token.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        with _only_address(address):
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
        proxy = _proxy(address)
        through = f" (through the proxy {proxy}; NO_PROXY names hosts that need none)" if proxy else ""
        raise SubmitError(f"no access to a Ray cluster at {address} (--address){through}: {error}") from error


@contextmanager
def _only_address(address: str) -> Iterator[None]:
    """Makes Ray use this address, although it prefers the environment's, and reach loopback without a proxy."""
    if _is_loopback(address):
        for name in ("no_proxy", "NO_PROXY"):
            host = str(urlsplit(address).hostname)
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), host]))
    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    try:
        yield
    finally:
        del os.environ["RAY_API_SERVER_ADDRESS"]
        if before is not None:
            os.environ["RAY_API_SERVER_ADDRESS"] = before


def _is_loopback(address: str) -> bool:
    host = str(urlsplit(address).hostname)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy(address: str) -> str:
    """Proxy for requests to an address, according to the environment; empty if there is none."""
    parts = urlsplit(address)
    return "" if proxy_bypass(str(parts.hostname)) else getproxies().get(parts.scheme, "")


def entrypoint(job: str, config: str, overrides: Sequence[str], arguments: Sequence[str] = ()) -> str:
    """Command line that runs on the cluster."""
    settings = [part for override in overrides for part in ("--set", override)]
    return shlex.join(["python", "-m", f"jobs.{job}", config, *settings, *arguments])


@contextmanager
def staged(config: Path) -> Iterator[Path]:
    """Temporary working directory of a job, of about 7 MB, with this code, its version and the configuration."""
    with tempfile.TemporaryDirectory(prefix="cubescout-submit-") as scratch:
        folder = Path(scratch)
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyc")
            shutil.copytree(str(files(package)), folder / package, ignore=ignored)
        shutil.copy2(config, folder / config.name)
        _copy_version(folder)
        yield folder


def _copy_version(folder: Path) -> None:
    """Copies the package's version, which the job's products record, and its requirements, which `doctor` checks."""
    try:
        found = distribution("cubescout")
    except PackageNotFoundError:
        return
    info = folder / f"cubescout-{found.version}.dist-info"
    info.mkdir()
    required = "".join(f"Requires-Dist: {text}\n" for text in found.requires or [])
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: cubescout\nVersion: {found.version}\n{required}")


def follow_job(client: Any, job_id: str, address: str, *, confirm: Callable[..., bool] = click.confirm) -> int:
    """Shows a job's output until it ends; returns its exit code, or EXIT_LOST if the connection was lost for good."""
    try:
        return _Follower(client, job_id, address).follow()
    except KeyboardInterrupt:
        click.echo("", err=True)
        if not _asked_to_stop(confirm, job_id):
            click.echo(f"{job_id} continues. {_how_to_follow(job_id, address)}", err=True)
            return EXIT_INTERRUPTED
    try:
        client.stop_job(job_id)
        click.echo(f"Stopped {job_id}; run the same command to resume", err=True)
    except _connection_errors() as error:
        click.echo(f"{job_id} continues, because {address} could not be reached ({_brief(error)})", err=True)
    return EXIT_INTERRUPTED


class _Follower:
    """Shows a job's output once, over as many connections as needed."""

    def __init__(self, client: Any, job_id: str, address: str) -> None:
        self._client, self._job_id, self._address = client, job_id, address
        self._num_shown = 0
        self._broken_since: float | None = None

    def follow(self) -> int:
        """Shows the output until the job has ended or the connection is given up; returns the exit code."""
        while True:
            cause: BaseException | None = None
            try:
                asyncio.run(self._tail())
            except _connection_errors() as error:
                cause = error
            try:
                # Plain requests may pass where streams do not, as behind some proxies.
                if self._client.get_job_status(self._job_id).is_terminal():
                    self._show(self._client.get_job_logs(self._job_id))
                    return exit_code(self._client, self._job_id)
                if cause:
                    self._show(self._client.get_job_logs(self._job_id))
                self._broken_since = None
            except _connection_errors() as error:
                if not self._worth_waiting(error):
                    click.echo(_how_to_follow(self._job_id, self._address), err=True)
                    return EXIT_LOST
            time.sleep(RETRY_S if cause else POLL_S)

    async def _tail(self) -> None:
        """Shows the output as it arrives, without the part shown before: each connection repeats it from the start."""
        behind = 0
        async for text in self._client.tail_job_logs(self._job_id):
            behind += len(text)
            new = behind - self._num_shown
            if new > 0:
                self._echo(text[-new:])

    def _show(self, output: str) -> None:
        """Shows the part of the whole output that was not shown before."""
        self._echo(output[self._num_shown :])

    def _echo(self, text: str) -> None:
        click.echo(text, nl=False)
        self._num_shown += len(text)

    def _worth_waiting(self, error: BaseException) -> bool:
        """Whether to retry after both stream and request failed; prints a message once per interruption."""
        if "status code 404" in str(error):
            click.echo(f"cubescout: {self._address} no longer knows {self._job_id}; it was lost", err=True)
            return False
        now = time.monotonic()
        if self._broken_since is None:
            self._broken_since = now
            click.echo(
                f"cubescout: the connection to {self._address} broke ({_brief(error)}); {self._job_id} continues. "
                f"Retrying for {GIVE_UP_S / 60:.0f} min",
                err=True,
            )
        if now - self._broken_since < GIVE_UP_S:
            return True
        click.echo(
            f"cubescout: no connection to {self._address}; whether {self._job_id} is still running is unknown", err=True
        )
        return False


def _connection_errors() -> tuple[type[BaseException], ...]:
    """Exceptions of Ray's client when it cannot reach the cluster; it raises RuntimeError for HTTP errors."""
    import aiohttp
    from ray.exceptions import AuthenticationError

    return OSError, RuntimeError, aiohttp.ClientError, AuthenticationError


def _brief(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _asked_to_stop(confirm: Callable[..., bool], job_id: str) -> bool:
    try:
        return confirm(f"Stop {job_id} on the cluster?", default=False, err=True)
    except (click.Abort, KeyboardInterrupt):
        return False


def exit_code(client: Any, job_id: str) -> int:
    """Exit code of a job that has ended; prints Ray's message if the job has no exit code."""
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
    # Ray's own command prefers the environment's address to its --address.
    hiding = "".join(f"{name}= " for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS") if os.environ.get(name))
    return f"To follow it: {hiding}ray job logs --follow --address {address} {job_id}"
