"""Servers and commands of the pipeline in processes of their own, which tests kill at any moment."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil

from tests.s3 import free_port, wait_for
from tests.watch import HELPERS, SESSION, started_in

ROOT = Path(__file__).parent.parent
# A command that takes longer hangs: an undisturbed one takes half a minute, and retries of lost servers a few.
HANGS_S = 900
GONE_S = 60  # for processes to end that have lost their driver


class Tally:
    """Kills of each kind of victim in each step.

    A kind that was wanted and not there is wanted later, and earlier in its step: workers may live but for a moment.

    Args:
        victims: kinds of victims by step.
        num_kills: processes to kill, as many in each step as the number allows.
        rng: decides among kinds that were killed equally often.
    """

    def __init__(self, victims: Mapping[str, Sequence[str]], num_kills: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self.left = {step: len(range(i, num_kills, len(victims))) for i, step in enumerate(victims)}
        self.killed = {step: dict.fromkeys(kinds, 0) for step, kinds in victims.items()}
        self._missed = {step: dict.fromkeys(kinds, 0) for step, kinds in victims.items()}

    def wanted(self, step: str) -> tuple[str, float]:
        """Kind of victim to kill next, and the moment, as a fraction of the step, from which on to look for it."""
        missed = self._missed[step]
        tried = {kind: killed + missed[kind] for kind, killed in self.killed[step].items()}
        kind = str(self._rng.choice([kind for kind, count in tried.items() if count == min(tried.values())]))
        return kind, self._rng.uniform(0, 0.5 ** missed[kind])

    def count(self, step: str, kind: str, *, killed: bool) -> None:
        """Records a kill, or that there was nothing to kill."""
        (self.killed if killed else self._missed)[step][kind] += 1
        self.left[step] -= killed


class Server(Protocol):
    """A server that can be killed and started again on the same data and port."""

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class Spawned:
    """A Python module that listens on a port, in a process group of its own."""

    def __init__(self, port: int, *words: str) -> None:
        self.port = port
        self._words = [sys.executable, "-m", *words]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._process = subprocess.Popen(self._words, env=environment, start_new_session=True, **quiet)
        if self.port:
            wait_for(self.port, self._process, seconds=200)

    def kill(self) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    close = kill

    def children(self) -> list[psutil.Process]:
        """Processes that the server has started."""
        return psutil.Process(self._process.pid).children(recursive=True) if self._process else []


def mlflow_server(folder: Path) -> Spawned:
    """MLflow's server, with its database and artifacts in a folder."""
    port = free_port()
    where = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    stores = ("--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files"))
    return Spawned(port, "mlflow", "server", *where, *stores)


class DaskCluster:
    """A Dask scheduler and one worker with its nanny; to kill it is to kill the scheduler."""

    def __init__(self) -> None:
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        closed = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        self._scheduler = Spawned(port, "dask", "scheduler", "--port", str(port), *closed)
        self._nanny = Spawned(0, "dask", "worker", self.address, "--nthreads", "1", "--no-dashboard")

    def start(self) -> None:
        self.close()
        self._scheduler.start()
        self._nanny.start()

    def kill(self) -> None:
        self._scheduler.kill()

    def close(self) -> None:
        self._scheduler.kill()
        self._nanny.kill()

    def workers(self) -> list[psutil.Process]:
        return self._nanny.children()


class Command:
    """One run of `cubescout STEP CONFIG`, with all processes that it has started."""

    def __init__(self, step: str, config: Path, log: Path) -> None:
        self.step = step
        self._run = uuid.uuid4().hex
        self._log, self._start_of_log = log, log.stat().st_size if log.exists() else 0
        environment = os.environ | {SESSION: self._run, "OMP_NUM_THREADS": "1"}
        with log.open("ab") as file:
            words = [sys.executable, "-m", f"jobs.{step}", str(config)]
            self.driver = psutil.Popen(words, cwd=ROOT, env=environment, stdout=file, stderr=file)
        self._began = time.monotonic()
        # Ray's workers overwrite the environment by which `started_in` finds processes.
        self._family: set[psutil.Process] = set()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._log.read_bytes()[self._start_of_log :].decode(errors="replace")

    def family(self) -> list[psutil.Process]:
        """Processes that it has started, as far as they run."""
        with suppress(psutil.NoSuchProcess):
            self._family |= set(self.driver.children(recursive=True))
        return [process for process in self._family if _lives(process)]

    def runs_until(self, second: float) -> bool:
        """Waits until so many seconds after the start; says whether it still runs then."""
        while self.driver.poll() is None:
            self.family()
            left = second - self.seconds
            if left <= 0:
                return True
            with suppress(psutil.TimeoutExpired):
                self.driver.wait(min(left, 1))
        return False

    def finish(self) -> int:
        """Waits for the end; returns the exit code."""
        assert not self.runs_until(self.seconds + HANGS_S), f"it hangs: {_shown([self.driver, *self.family()])}"
        return int(self.driver.returncode)

    def assert_nothing_is_left(self) -> None:
        """Waits until none of its processes runs."""
        deadline = time.monotonic() + GONE_S
        while left := self._left():
            assert time.monotonic() < deadline, f"processes are left: {_shown(left)}"
            time.sleep(0.5)

    def kill_all(self) -> None:
        """Kills the driver and all that it has started."""
        for process in [self.driver, *self._left()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.driver.wait()

    def _left(self) -> list[psutil.Process]:
        own = {self.driver.pid, os.getpid()}
        found = {*self.family(), *started_in(self._run)}
        return [process for process in found if process.pid not in own and not _is_helper(process)]


def ray_workers(command: Command) -> list[psutil.Process]:
    """Ray's workers that hold a task or an actor."""
    titles = {process: " ".join(_words(process)) for process in command.family()}
    return [process for process, title in titles.items() if title.startswith("ray::") and not _is_service(title)]


def raylet(command: Command) -> list[psutil.Process]:
    """Ray's raylet."""
    return [process for process in command.family() if _words(process)[:1] and _words(process)[0].endswith("/raylet")]


def _is_service(title: str) -> bool:
    return any(name in title for name in ("ray::IDLE", "Agent", "ray::Dashboard"))


def _is_helper(process: psutil.Process) -> bool:
    return any(name in " ".join(_words(process)) for name in HELPERS)


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _words(process: psutil.Process) -> Sequence[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return ()


def _shown(processes: Sequence[psutil.Process]) -> str:
    return "; ".join(f"{process.pid} {' '.join(_words(process))[:150]}" for process in processes)
