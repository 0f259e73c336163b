"""Runs independent tasks on Dask: on local workers, on an existing scheduler, or in this process.

Whoever can connect to a Dask scheduler can run code as its user. The local scheduler and its workers therefore talk TLS
with keys that are made for the run and kept in memory: other users of the machine reach the ports on loopback, but
cannot connect.
"""

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from multiprocessing.resource_tracker import ensure_running
from typing import Any, TypeVar

from pydantic import Field

from cubeprep.config import Config
from cubeprep.redact import redact_process

# By default Dask makes workers return every freed page to the system at once; fetching the pages again takes a quarter
# of the time per galaxy. Its profiler and its 50 checks of each event loop per second take another 5%.
WORKER_SETTINGS = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    # The scheduler and each connection keep this many messages, with the tasks in them: 10 MiB of the default of 1,000.
    "distributed.admin.low-level-log-length": 10,
    "distributed.worker.preload": ["cubeprep.cluster"],  # see `dask_setup`
}

# Beside its dashboard Dask serves counts, metrics and a proxy to anybody, on each scheduler, worker and nanny.
CLOSED: dict[str, list[str]] = {f"distributed.{role}.http.routes": [] for role in ("scheduler", "worker", "nanny")}

# Tasks that the scheduler holds per thread of its workers, and at least in total.
TASKS_AHEAD, FEWEST_AHEAD = 4, 64

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def dask_setup(worker: Any) -> None:
    """Removes passwords in URLs from output and logs of a worker process; called by Dask."""
    redact_process()


class ClusterError(OSError):
    """The scheduler or the workers are lost. Finished tasks are kept; a rerun resumes with the others."""


class DaskConfig(Config):
    """Where the tasks of `prepare` run."""

    scheduler: str | None = Field(
        None,
        description="Address of a Dask scheduler, such as tcp://host:8786, or `ray`; default: workers on this machine",
    )
    num_workers: int | None = Field(
        None, ge=0, description="Worker processes on this machine; default: one per core, 0: none, run in this process"
    )
    dashboard_port: int | None = Field(
        None,
        ge=0,
        description="Port of Dask's dashboard on the loopback interface, visible to every user of this machine; "
        "its plots need `bokeh`; 0: any free port; default: no dashboard",
    )


def run_tasks(function: Callable[[TaskT], ResultT], tasks: Sequence[TaskT], config: DaskConfig) -> Iterator[ResultT]:
    """Yields the results in order of completion; a task whose worker dies is rerun on another.

    Args:
        function: run once per task; picklable unless the tasks run in this process.
        tasks: its arguments.
        config: where to run.

    Raises:
        ClusterError: the connection to the scheduler is lost, or one task killed several workers.
        Exception: any exception that a task raised.
    """
    if not tasks:
        return
    if config.num_workers == 0 and not config.scheduler:
        yield from map(function, tasks)
        return
    import dask

    # Read when distributed is imported, here and in workers. These would log failing tasks with their arguments, such
    # as URLs with passwords; the exceptions of tasks are raised here.
    dask.config.set({"logging": {"distributed": "warning", "distributed.worker": "critical"}})
    from distributed import Client

    with ExitStack() as stack:
        address: Any = config.scheduler or stack.enter_context(local_cluster(config, len(tasks)))
        with _cluster_errors(str(config.scheduler or "this machine")):
            yield from _results(stack.enter_context(Client(address)), function, tasks)


def _results(client: Any, function: Callable[[TaskT], ResultT], tasks: Sequence[TaskT]) -> Iterator[ResultT]:
    from distributed import as_completed

    waiting = iter(tasks)

    def submit(number: int) -> Any:
        return client.map(function, list(islice(waiting, number)), pure=False)

    running = as_completed(submit(FEWEST_AHEAD))
    for future in running:
        yield future.result()
        future.release()
        # Some at a time: the scheduler keeps a few kB per task, and on one machine it lives in this process.
        ahead = max(FEWEST_AHEAD, TASKS_AHEAD * sum(client.nthreads().values()))
        if running.count() <= ahead // 2:
            running.update(submit(ahead - running.count()))


@contextmanager
def _cluster_errors(where: str) -> Iterator[None]:
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError

    try:
        yield
    except (CommClosedError, FutureCancelledError, KilledWorker) as error:
        raise ClusterError(f"Dask on {where}: {type(error).__name__}: {error}; rerun to resume") from error


def local_workers(config: DaskConfig, num_tasks: int) -> int:
    """Processes of this machine for so many tasks; 0: they run in this process."""
    from dask.system import CPU_COUNT

    return min(CPU_COUNT if config.num_workers is None else config.num_workers, num_tasks)


@contextmanager
def local_cluster(config: DaskConfig, num_tasks: int) -> Iterator[Any]:
    """Yields a cluster on this machine: one single-threaded process per core, but no more than there are tasks."""
    import dask
    from distributed import LocalCluster
    from distributed.security import Security

    with_dashboard = config.dashboard_port is not None
    with (
        private_scratch(),
        dask.config.set(WORKER_SETTINGS | ({} if with_dashboard else CLOSED)),
        ExitStack() as stack,
    ):
        with _interrupted_afterwards():
            cluster = LocalCluster(
                n_workers=local_workers(config, num_tasks),
                threads_per_worker=1,
                host="127.0.0.1",
                security=Security.temporary(),
                # Without an address its (empty) server would listen on all of the machine's.
                dashboard_address=f"127.0.0.1:{config.dashboard_port or 0}",
                scheduler_kwargs={"dashboard": with_dashboard},
            )
            stack.enter_context(cluster)
            stack.push(lambda kind, *_: _kill_workers(cluster) if kind is KeyboardInterrupt else None)
        yield cluster


@contextmanager
def private_scratch() -> Iterator[None]:
    """Lets Dask keep the working folders of all processes started in the block in one of this user alone.

    By default it would take a folder of a fixed name among the temporary files, whoever made it, and import modules
    from there.
    """
    import dask

    with (
        tempfile.TemporaryDirectory(
            prefix="cubescout-dask-", dir=dask.config.get("temporary-directory", None), ignore_cleanup_errors=True
        ) as folder,
        dask.config.set({"temporary-directory": folder}),
    ):
        yield


@contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Delays Ctrl-C to the end of the block, or to a second Ctrl-C; processes started in the block never see it.

    A terminal sends Ctrl-C to all processes. Workers that it ended would report at length; the main process ends them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def wait(number: int, frame: Any) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            raise KeyboardInterrupt

    ensure_running()  # Python's tracker of resources, which would unblock the signal as it starts
    before = signal.signal(signal.SIGINT, wait)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt


def _kill_workers(cluster: Any) -> None:
    """Kills the workers, since workers told to end would report it at length."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        with suppress(ProcessLookupError, TypeError):  # it has ended, or not begun
            os.kill(nanny.pid, signal.SIGKILL)
