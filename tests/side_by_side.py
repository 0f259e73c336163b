"""Test files side by side, under pytest-xdist: what goes to which process, and in which order.

The tests of a file share servers and trainings, so that a file stays in one process. Some files share one process.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


# Files with these words share a process, and run in it one after another.
TOGETHER = {
    # Two Rays would want twice the CPUs of the machine. They mostly wait, and other processes are busy meanwhile.
    "mark.ray": "ray",
    # Of a test or of the catalog of such a project: UMAP is compiled anew in each process, for ten seconds.
    "MIN_UMAP": "umap",
    "make_project": "umap",
}


@cache
def share_of_file(file: str) -> str:
    """Name of the part of the suite that the file belongs to, which one process runs in order.

    By the file's text, since the process that hands out tests knows nothing of them but their names.
    """
    text = (ROOT / file).read_text()
    return next((share for words, share in TOGETHER.items() if words in text), file)


def share_of(nodeid: str) -> str:
    return share_of_file(nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Shares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share_of(nodeid)

    config.option.loadscopereorder = False  # it would start the files of many tests first, which are the quick ones
    return Shares(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where files run side by side, the long ones start first, so that no process is left with one at the end."""
    if not hasattr(config, "workerinput"):
        return
    slow = {share_of(item.nodeid) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (share_of(item.nodeid) != "ray", share_of(item.nodeid) not in slow))


def pytest_configure(config: pytest.Config) -> None:
    """Processes share the CPUs: with a thread a CPU each, OpenMP's threads would wait for one another, busily."""
    workers = config.getoption("numprocesses", None)
    if isinstance(workers, int) and workers:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
