"""Checks of the whole suite: tests start only servers that their markers name, and no process outlives the run."""

import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

SESSION = "CUBESCOUT_TEST_SESSION"  # in the environment of all processes that the run starts
# Words of a command line, without folders, and the marker that a test needs to start such a server.
SERVERS = {
    "ray": "ray",
    "raylet": "ray",
    "gcs_server": "ray",
    "juicefs": "s3",
    "moto.server": "s3",
    "radosgw": "ceph",
    "run-driver": "browser",  # Playwright's, which starts Chromium
}
GRACE_S = 20
# Helpers that multiprocessing starts for a process end with that process.
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "joblib.externals.loky")

_running: list[pytest.Item] = []


def marker_of(command: Sequence[object]) -> str | None:
    """Marker that a test needs to start this command; None if it needs none."""
    for word in command:
        name = Path(os.fsdecode(word)).name if isinstance(word, (str, bytes, os.PathLike)) else ""
        if name in SERVERS:
            return SERVERS[name]
    return None


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "subprocess.Popen" or not _running:
        return
    marker = marker_of(arguments[1])
    if marker and not _running[-1].get_closest_marker(marker):
        pytest.fail(f"{_running[-1].nodeid} starts {arguments[1][0]}: it needs the marker {marker}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.pop()


def started_in(session: str) -> list[psutil.Process]:
    """Processes that were started in a run of the suite and still run, without the present one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            ours = process.environ().get(SESSION) == session and process.status() != psutil.STATUS_ZOMBIE
            # The forks of a server have its command line.
            helper = _is_helper(process) and not _is_helper(process.parent())
            if ours and process.pid != os.getpid() and not helper:
                found.append(process)
    return found


def _is_helper(process: psutil.Process | None) -> bool:
    return process is not None and any(name in " ".join(process.cmdline()) for name in HELPERS)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        sys.addaudithook(_on_event)
        return
    os.environ[SESSION] = uuid.uuid4().hex
    if not config.getoption("numprocesses", None):
        sys.addaudithook(_on_event)


@pytest.hookimpl(trylast=True)  # after pytest-xdist has ended its processes
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Kills processes that are left over, prints their commands, and fails the run."""
    if hasattr(session.config, "workerinput"):
        return
    deadline = time.monotonic() + GRACE_S
    while (left := started_in(os.environ[SESSION])) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            session.config.get_terminal_writer().line(f"\nLeft behind and killed: {process.pid} {command:.300}")
            process.kill()
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
