"""Fixtures that several parts share."""

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def real_data() -> Path:
    """The folder of real survey files; tests that use it carry the marker `realdata`."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real survey files are not at {REAL_DATA}")
    return REAL_DATA


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests on Ceph run where they are asked for by `-m ceph`, as `make test-ceph` does: its packages need root."""
    if "ceph" in config.option.markexpr:
        return
    skip = pytest.mark.skip(reason="Ceph is not started by default: make test-ceph")
    for item in items:
        if item.get_closest_marker("ceph"):
            item.add_marker(skip)
