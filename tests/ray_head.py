"""A real Ray head node with its dashboard, and perhaps a second node, on loopback addresses, for tests."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.ray_workers import forks_of
from tests.s3 import free_port

ROOT = Path(__file__).parent.parent
# For the head of `ray.cluster_utils.Cluster`: without processes that nobody asks, each of which takes seconds to start.
BARE_HEAD = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
NODE = ("--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block")


def token_environment() -> dict[str, str]:
    """This process's environment, with the token that all of Ray's processes share, and our code first.

    Left in the environment, as `ray_session` does: Ray reads the token once in the life of a process.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    binaries = str(Path(sys.executable).parent)
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    # Of this checkout nothing is on the cluster's path: what runs there is what was submitted.
    hidden = ("RAY_ADDRESS", "PYTHONPATH")
    return {key: value for key, value in os.environ.items() if key not in hidden} | {"PATH": path}


@contextmanager
def ray_cluster(*, num_nodes: int = 1) -> Iterator[str]:
    """Starts nodes of one CPU; yields the address of the dashboard."""
    environment = token_environment()
    folder = tempfile.mkdtemp(prefix="csray")  # short, since sockets' paths are limited
    port, dashboard = free_port(), free_port()
    ports = [f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"]
    head = ["--head", "--node-ip-address=127.0.0.2", f"--port={port}", f"--temp-dir={folder}", *ports]
    head += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    address = f"http://127.0.0.1:{dashboard}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(_node(head, environment))
        _wait_for(f"{address}/api/version", environment["RAY_AUTH_TOKEN"])
        for i in range(1, num_nodes):
            where = f"--node-ip-address=127.0.0.{2 + i}"
            agent = f"--dashboard-agent-listen-port={free_port()}"
            # Of its own: a node removes the working directory of a job as soon as it has no worker of it.
            own = tempfile.mkdtemp(prefix="csray")
            stack.callback(shutil.rmtree, own, ignore_errors=True)
            join = [f"--address=127.0.0.2:{port}", f"--temp-dir={own}", where, agent]
            stack.enter_context(_node(join, environment))
        yield address


def started_by(node: Any) -> list[psutil.Process]:
    """Processes of a node of `ray.cluster_utils.Cluster`: workers, tasks and actors, and its agents."""
    started = psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True)
    for pid in forks_of([child.pid for child in started]):
        with suppress(psutil.NoSuchProcess):  # it ended while we looked
            started.append(psutil.Process(pid))
    return started


@contextmanager
def _node(arguments: list[str], environment: dict[str, str]) -> Iterator[None]:
    command = [str(Path(sys.executable).with_name("ray")), "start", *arguments, *NODE]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        for child in started:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def _wait_for(url: str, token: str) -> None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    for _ in range(300):
        with suppress(OSError), urllib.request.urlopen(request, timeout=5):
            return
        time.sleep(0.2)
    raise RuntimeError(f"no Ray dashboard at {url}")
