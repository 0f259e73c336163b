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
