"""Ray session of a job, local or on the cluster of RAY_ADDRESS, and the paths by which Ray addresses a storage."""

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
# The path of a Unix socket holds so many bytes; Ray's end in this, below the temporary folder.
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
RAY_SOCKET = "/ray/session_2026-11-26_10-00-00_000000_4194304/sockets/plasma_store.1"
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - where a private folder is made

logger = logging.getLogger(__name__)


class RaySessionError(ValueError):
    """A machine on which Ray cannot start."""


@contextmanager
def ray_session(
    *, include_dashboard: bool = False, num_cpus: int | None = None, resources: Mapping[str, float] | None = None
) -> Iterator[None]:
    """Ray for the duration of the block: a running session, the cluster of RAY_ADDRESS, or a new local one.

    Ray's own ports listen on all of this machine's addresses, whatever address its node is given. A local Ray therefore
    gets a secret token, without which nobody can connect; it is stopped at the end.

    Args:
        include_dashboard: whether a local Ray runs its dashboard, on loopback.
        num_cpus: CPUs of a local Ray; all of this machine's by default.
        resources: further resources of a local Ray, by name.
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
            with _dashboard_at(port):
                ray.init(address="local", dashboard_host="127.0.0.1", dashboard_port=port, **options)
        stack.callback(ray.shutdown)
        for name in ("ray", "ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.ERROR)
        yield


@contextmanager
def short_folder() -> Iterator[str | None]:
    """A private folder for Ray where the environment's is too long for its sockets, gone at the end; None if it is not.

    Raises:
        RaySessionError: no folder with a short path can be made.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as Ray chooses it
    if _holds_sockets(usual):
        yield None
        return
    parents = [os.environ.get("XDG_RUNTIME_DIR"), *SHORT_FOLDERS]
    usable = [
        parent for parent in parents if parent and os.access(parent, os.W_OK) and _holds_sockets(f"{parent}/{8 * 'x'}")
    ]
    if not usable:
        raise RaySessionError(
            f"TMPDIR is {usual}, too long for Ray's sockets, and none of {', '.join(SHORT_FOLDERS)} can be written to: "
            f"set RAY_TMPDIR to a folder of at most {SOCKET_BYTES - len(RAY_SOCKET)} characters, or "
            "train.num_workers=0 (without Ray)"
        )
    with tempfile.TemporaryDirectory(prefix="", dir=usable[0], ignore_cleanup_errors=True) as folder:
        logger.info("Ray works in %s: the path of %s is too long for its sockets", folder, usual)
        yield folder


def _holds_sockets(folder: str) -> bool:
    return len(os.fsencode(folder + RAY_SOCKET)) <= SOCKET_BYTES


@contextmanager
def _dashboard_at(port: int) -> Iterator[None]:
    """Sets the dashboard address that a Ray started in the block uses.

    Ray Train asks the dashboard whether a controller is alive. With the dashboard off it would search forty seconds for
    the port and wait for twelve of them at the end of a training. With it on it would take the address from the file of
    the last `ray start` on this machine, whose cluster may be gone, and then never release the resources of a stopped
    trial.
    """
    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
    try:
        yield
    finally:
        del os.environ["RAY_API_SERVER_ADDRESS"]
        if before is not None:
            os.environ["RAY_API_SERVER_ADDRESS"] = before


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def set_environment() -> None:
    """Sets the environment that Ray reads at import and its processes at start; variables already set are kept."""
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
        # Explicit, since Ray would otherwise decide by whether another tool has left a token in the home directory. One
        # token for the life of the process, since Ray reads it once.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def storage_path(storage: str) -> str:
    """Path where Ray keeps checkpoints: an absolute directory, since workers run elsewhere, or a URL.

    pyarrow, through which Ray writes, takes an S3 endpoint from the URL and not from AWS_ENDPOINT_URL.
    """
    if "://" not in storage:
        return str(Path(storage).absolute())
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    if not storage.startswith("s3://") or "?" in storage or not endpoint.netloc:
        return storage
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return f"{storage}?endpoint_override={endpoint.netloc}&scheme={endpoint.scheme}&region={region}"


def run_path(storage: str, name: str) -> str:
    """Where Ray keeps what belongs to one run."""
    path, mark, query = storage_path(storage), "", ""
    if "://" in path:
        path, mark, query = path.partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{query}"
