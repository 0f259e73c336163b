"""Fixtures that several parts share, and what is run by default."""

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest

# Without a GPU, Triton's kernels run under its interpreter, which must be known before Triton is imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

pytest_plugins = ["tests.local_ray", "tests.migrations", "tests.side_by_side", "tests.watch"]

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def real_data() -> Path:
    """The folder of real survey files; tests that use it carry the marker `realdata`."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real survey files are not at {REAL_DATA}")
    return REAL_DATA


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Imported modules and collected tests stay: each search for garbage among them takes a third of a second.

    What tests import later stays too, so searches are made a tenth as often as by default.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000)
        gc.enable()


NOT_BY_DEFAULT = {
    "ceph": "Ceph is not started by default: make test-ceph",
    "long": "over half a minute, and much the same is tested in less: make test-long",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Some tests run only where they are asked for by `-m`, as some targets of the Makefile do."""
    for item in items:
        for name, reason in NOT_BY_DEFAULT.items():
            if item.get_closest_marker(name) and name not in config.option.markexpr:
                item.add_marker(pytest.mark.skip(reason=reason))
