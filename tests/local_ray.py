"""One Ray on this machine for the tests of several files: each start and stop takes ten seconds of a processor.

Its dashboard takes as many again, so it is there only where a test asks for it.
"""

from contextlib import ExitStack
from pathlib import Path

import pytest

from modeling.ray_session import ray_session
from tests.ray_workers import forked_workers


class LocalRay:
    """Two CPUs, and room for two drivers of trials that have workers."""

    def __init__(self) -> None:
        self._session: ExitStack | None = None
        self._has_dashboard = False

    def start(self, *, include_dashboard: bool = False) -> None:
        """Starts it unless it runs already; one without a dashboard is replaced where that is needed."""
        if self._session and (self._has_dashboard or not include_dashboard):
            return
        self.stop()
        with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
            patch.delenv("RAY_ADDRESS", raising=False)
            patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # reports wait for the next
            options = {"include_dashboard": include_dashboard, "num_cpus": 2, "resources": {"tune_driver": 2}}
            stack.enter_context(forked_workers())
            stack.enter_context(ray_session(**options))
            self._session, self._has_dashboard = stack.pop_all(), include_dashboard

    def stop(self) -> None:
        if self._session:
            self._session.close()
            self._session = None


_RAY = LocalRay()
_FILES: set[Path] = set()  # those with tests that use it


@pytest.fixture
def local_ray() -> LocalRay:
    """Ray runs; a test may stop it, and start it anew."""
    _RAY.start()
    return _RAY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that share it next to each other."""
    _FILES.update(item.path for item in items if "local_ray" in getattr(item, "fixturenames", ()))
    items.sort(key=lambda item: item.path in _FILES)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stops it after the last of those files."""
    if item.path in _FILES and (nextitem is None or nextitem.path not in _FILES):
        _RAY.stop()
