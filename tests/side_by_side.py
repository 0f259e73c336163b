"""Distribution of test files over the processes of pytest-xdist, and their order.

The tests of a file share servers and trainings, so a file runs in one process. Some files run together in one process.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


# Files that contain these words run in the same process, one after another.
TOGETHER = {
    # Two sessions of Ray would reserve twice the CPUs of the machine. One mostly waits, while other processes work.
    "mark.ray": "ray",
    # Each process would start a server of forks of its own, which takes five seconds.
    "import forks": "forks",
}


@cache
def share_of_file(file: str) -> str:
    """Name of the share of the suite that contains a file; one process runs the whole share, in order.

    It depends on the text of the file, since the process that distributes tests knows only their names.
    """
    text = (ROOT / file).read_text()
    return next((share for words, share in TOGETHER.items() if words in text), file)


def share_of(nodeid: str) -> str:
    """Name of the share that contains a test."""
    return share_of_file(nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Shares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share_of(nodeid)

    config.option.loadscopereorder = False  # it would start with the files with the most tests, which are quick ones
    return Shares(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts slow shares first if files run side by side, so that no process is left with one at the end."""
    if not hasattr(config, "workerinput"):
        return
    slow = {share_of(item.nodeid) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (share_of(item.nodeid) != "ray", share_of(item.nodeid) not in slow))


def pytest_configure(config: pytest.Config) -> None:
    """Divides the CPUs between the processes: with one OpenMP thread per CPU in each, waiting threads would spin."""
    # Ray would start a worker for each CPU with each session, also where none is needed.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    # Each training would start a process that waits for notices of nodes that will be taken away.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    workers = config.getoption("numprocesses", None)
    if isinstance(workers, int) and workers:
        threads = str(max(1, (os.cpu_count() or 1) // workers))
        os.environ.setdefault("OMP_NUM_THREADS", threads)
        # With UMAP, Numba sets the number of OpenMP's threads to its own, for PyTorch too.
        os.environ.setdefault("NUMBA_NUM_THREADS", threads)
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
