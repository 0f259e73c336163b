"""Test files side by side, under pytest-xdist: what goes to which process, and in which order.

The tests of a file share servers and trainings, so that a file stays in one process. All files that start Ray do, one
after another: two Rays on one machine would want twice its CPUs. They mostly wait, for which the other processes are
busy with the rest.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@cache
def starts_ray(file: str) -> bool:
    """Whether a test of the file bears the marker `ray`. The process that distributes tests knows their names alone."""
    return "mark.ray" in (ROOT / file).read_text()


def share_of(nodeid: str) -> str:
    """Name of the part of the suite that the test belongs to, which one process runs in order."""
    file = nodeid.partition("::")[0]
    return "ray" if starts_ray(file) else file


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
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (share_of(item.nodeid) != "ray", item.path not in slow))


def pytest_configure(config: pytest.Config) -> None:
    """Processes share the CPUs: with a thread a CPU each, OpenMP's threads would wait for one another, busily."""
    workers = config.getoption("numprocesses", None)
    if isinstance(workers, int) and workers:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
