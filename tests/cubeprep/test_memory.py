"""Windows that no worker could hold are refused before anything is written."""

from pathlib import Path

import pytest

from cubeprep import prepare as module
from cubeprep.cluster import DaskConfig
from cubeprep.config import ConfigError
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.survey import SurveyConfig
from cubeprep.windows import WindowConfig
from tests.logcube import write_survey

# One galaxy a shard and no views: 19 lines x 10 samples x 8 x 8 spaxels x 9 bytes, twice.
CONFIG = PrepareConfig(windows=WindowConfig(size=8), galaxies_per_shard=1, dask=DaskConfig(num_workers=0))
NEEDED = 2 * 9 * 19 * 10 * 8 * 8


def test_windows_beyond_the_free_memory_are_refused_with_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_survey(tmp_path / "survey", {"8000-1": 0.02})
    survey, store = SurveyConfig(root=str(tmp_path / "survey")), tmp_path / "s.zarr"
    monkeypatch.setattr(module, "free_memory", lambda: NEEDED - 1.0)
    config = CONFIG.model_copy(update={"split": CONFIG.split.model_copy(update={"validation": 0.0, "test": 0.0})})
    config = config.model_copy(update={"augment": config.augment.model_copy(update={"num_views": 1})})
    with pytest.raises(ConfigError, match=r"windows\.size: windows of 8 spaxels .* choose a smaller windows\.size"):
        prepare(config, survey, str(store), seed=3)
    assert not store.exists()
    # Each worker of this machine holds a shard, but no more workers than there are shards; others' memory is not known.
    two = config.model_copy(update={"dask": DaskConfig(num_workers=2)})
    monkeypatch.setattr(module, "free_memory", lambda: float(NEEDED))
    assert prepare(two, survey, str(store), seed=3)["accepted"] == 1
