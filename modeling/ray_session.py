"""Ray session of a job, local or on the cluster of RAY_ADDRESS, and storage paths in the form that Ray takes."""

import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NOBODY_LISTENS = 9
# Longest path of a Unix socket in bytes, and the end of Ray's socket paths, below the temporary folder.
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
RAY_SOCKET = "/ray/session_2026-11-26_10-00-00_000000_4194304/sockets/plasma_store.1"
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a private folder is made in one of them

logger = logging.getLogger(__name__)


class RaySessionError(ValueError):
    """Ray cannot start on this machine, or has lost one of its own processes."""


@contextmanager
def ray_session(
    *, include_dashboard: bool = False, num_cpus: int | None = None, resources: Mapping[str, float] | None = None
) -> Iterator[None]:
    """Connects to Ray for the duration of the block: a running session, the cluster of RAY_ADDRESS, or a new local one.

    Ray's ports listen on all addresses of this machine, whatever address its node is given. A local Ray therefore gets
    a secret token, without which nobody can connect. It is stopped at the end of the block.

    Args:
        include_dashboard: whether a local Ray runs its dashboard, on loopback.
        num_cpus: CPUs of a local Ray; by default all of this machine.
        resources: custom resources of a local Ray, by name.

    Raises:
        RaySessionError: no folder for a local Ray has a path that is short enough, Ray does not start, or a process of
            it is lost that it cannot replace.
    """
    set_environment()
    address = os.environ.get("RAY_ADDRESS")
    import ray

    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    with ExitStack() as stack:
        if address:
            ray.init(address=address, **options)
        else:
            options |= {
                "include_dashboard": include_dashboard,
                "num_cpus": num_cpus,
                "resources": dict(resources or {}),
            }
            options["_temp_dir"] = stack.enter_context(short_folder())
            port = _free_port() if include_dashboard else NOBODY_LISTENS
            with _dashboard_at(port), _start_errors():
                ray.init(address="local", dashboard_host="127.0.0.1", dashboard_port=port, **options)
        stack.callback(ray.shutdown)
        for name in ("ray", "ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with _loss_errors():
            yield


@contextmanager
def short_folder() -> Iterator[str]:
    """Temporary folder for Ray, of this user alone and with a path short enough for sockets; deleted at the end.

    Ray's own folder is open to all users of the machine, who could replace its sockets and read its logs.

    Raises:
        RaySessionError: no folder with a short path can be created.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as Ray chooses it
    parents = [usual, os.environ.get("XDG_RUNTIME_DIR"), *SHORT_FOLDERS]
    usable = [
        parent for parent in parents if parent and os.access(parent, os.W_OK) and _holds_sockets(f"{parent}/{8 * 'x'}")
    ]
    if not usable:
        raise RaySessionError(
            f"TMPDIR is {usual}, too long for Ray's sockets, and none of {', '.join(SHORT_FOLDERS)} can be written to: "
            f"set RAY_TMPDIR to a folder of at most {SOCKET_BYTES - len(RAY_SOCKET) - 9} characters, or "
            "train.num_workers=0 (without Ray)"
        )
    with tempfile.TemporaryDirectory(prefix="", dir=usable[0], ignore_cleanup_errors=True) as folder:
        if usable[0] != usual:
            logger.info("Ray works in %s: the path of %s is too long for its sockets", folder, usual)
        yield folder


def _holds_sockets(folder: str) -> bool:
    return len(os.fsencode(folder + RAY_SOCKET)) <= SOCKET_BYTES


@contextmanager
def _dashboard_at(port: int) -> Iterator[None]:
    """Sets the dashboard address for a Ray that is started in the block.

    Ray Train asks the dashboard whether a controller is alive. Without a dashboard it would search for the port for
    forty seconds, and the end of a training would wait for twelve of them. With one, it would read the address from the
    file of the last `ray start` on this machine, whose cluster may be gone, and would then never release the resources
    of a stopped trial.
    """
    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
    try:
        yield
    finally:
        del os.environ["RAY_API_SERVER_ADDRESS"]
        if before is not None:
            os.environ["RAY_API_SERVER_ADDRESS"] = before


@contextmanager
def _start_errors() -> Iterator[None]:
    """Converts Ray's errors on starting, most of them a bare `Exception`, to a `RaySessionError`."""
    try:
        yield
    except Exception as error:
        text = str(error).strip().partition("\n")[0]
        raise RaySessionError(
            f"Ray did not start on this machine, which may be too busy; run the command again ({text})"
        ) from error


@contextmanager
def _loss_errors() -> Iterator[None]:
    """Converts errors of Ray itself to a `RaySessionError`; those that a task raised pass."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        text = str(error).strip().partition("\n")[0]
        raise RaySessionError(
            f"Ray lost a process that this job needs; run the same command to resume ({type(error).__name__}: {text})"
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def set_environment() -> None:
    """Sets environment variables that Ray reads on import and its processes at start; existing values are kept."""
    for key, value in {
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        # Time for a lost node to be replaced, or for earlier trials to end; there are three attempts
        # (`controller_failure_limit`).
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1200",
        "RAY_AIR_NEW_OUTPUT": "0",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }.items():
        os.environ.setdefault(key, value)
    if not os.environ.get("RAY_ADDRESS"):
        # Explicit, since Ray would otherwise enable tokens only if another tool had left one in the home directory. One
        # token per process, since Ray reads it once.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def storage_path(storage: str) -> str:
    """Path of a storage for Ray: a URL, or an absolute path, since workers have other working directories.

    Ray writes through pyarrow, which takes an S3 endpoint from the URL and not from AWS_ENDPOINT_URL.
    """
    if "://" not in storage:
        return str(Path(storage).absolute())
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    if not storage.startswith("s3://") or "?" in storage or not endpoint.netloc:
        return storage
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return f"{storage}?endpoint_override={endpoint.netloc}&scheme={endpoint.scheme}&region={region}"


def run_path(storage: str, name: str) -> str:
    """Path of one run in a storage, as Ray names it."""
    path, mark, query = storage_path(storage), "", ""
    if "://" in path:
        path, mark, query = path.partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{query}"
