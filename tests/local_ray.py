"""One Ray on this machine for the tests of several files: each start and stop takes ten seconds of a processor."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from modeling.ray_session import ray_session


class LocalRay:
    """Two CPUs, the dashboard that trials with workers need, and room for two of their drivers."""

    def __init__(self) -> None:
        self._session: ExitStack | None = None

    def start(self) -> None:
        """Starts it unless it runs already."""
        if self._session:
            return
        with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
            patch.delenv("RAY_ADDRESS", raising=False)
            patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # reports wait for the next
            stack.enter_context(ray_session(include_dashboard=True, num_cpus=2, resources={"tune_driver": 2}))
            self._session = stack.pop_all()

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
