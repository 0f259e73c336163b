"""Windows that no worker could hold are refused before anything is written."""

from pathlib import Path

import pytest

from cubeprep import prepare as module
from cubeprep.augment import AugmentConfig
from cubeprep.cluster import DaskConfig
from cubeprep.config import ConfigError
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.survey import SurveyConfig
from cubeprep.windows import WindowConfig
from tests.logcube import write_survey

# One galaxy a shard, without views: 19 lines x 10 samples x 8 x 8 spaxels x 9 bytes, twice.
CONFIG = PrepareConfig(
    windows=WindowConfig(size=8),
    augment=AugmentConfig(num_views=1),
    galaxies_per_shard=1,
    dask=DaskConfig(num_workers=0),
)
NEEDED = 2 * 9 * 19 * 10 * 8 * 8


def test_windows_beyond_the_free_memory_are_refused_with_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_survey(tmp_path / "survey", {"8000-1": 0.02, "8000-2": 0.03}, size=4)
    survey, store = SurveyConfig(root=str(tmp_path / "survey")), tmp_path / "s.zarr"
    # Each worker holds a shard.
    for workers, free in ((0, NEEDED - 1), (2, 2 * NEEDED - 1), (9, 2 * NEEDED - 1)):
        monkeypatch.setattr(module, "free_memory", lambda free=free: float(free))
        config = CONFIG.model_copy(update={"dask": DaskConfig(num_workers=workers)})
        with pytest.raises(ConfigError, match=r"windows\.size: windows of 8 spaxels .* choose a smaller windows\.size"):
            prepare(config, survey, str(store), seed=3)
        assert not store.exists()
    monkeypatch.setattr(module, "free_memory", lambda: float(NEEDED))
    assert prepare(CONFIG, survey, str(store), seed=3)["accepted"] == 2
