"""The detector of docs/new-detector.md."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.anomaly.all_detectors import MODULES_VARIABLE, load_detectors, use_modules
from benchmarks.anomaly.dataset import Data
from benchmarks.anomaly.detectors.detector import DETECTORS
from benchmarks.anomaly.execute import result_path
from benchmarks.anomaly.tiers import TIERS
from tests.synthetic import synthetic_store
from tests.test_architecture import ROOT


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The documented module, in a folder on the path that has nothing to do with the benchmark."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "new-detector.md").read_text(), re.DOTALL)
    path = tmp_path / "elsewhere" / "peak.py"
    path.parent.mkdir()
    path.write_text(code)
    monkeypatch.syspath_prepend(path.parent)
    for registry, name in ((DETECTORS, "peak"), (sys.modules, "peak"), (os.environ, MODULES_VARIABLE)):
        monkeypatch.setitem(registry, name, "")  # so that it is taken out again
        monkeypatch.delitem(registry, name)
    return path


def test_a_detector_of_a_module_elsewhere_is_known_and_its_results_are_of_its_source(
    module: Path, tmp_path: Path
) -> None:
    use_modules(["peak"])
    assert load_detectors()["peak"].group == "classical"
    (tmp_path / "data").mkdir()
    data = Data(tmp_path / "data", TIERS["tiny"], pd.DataFrame())
    before = result_path(data, "peak", TIERS["tiny"].runs[0], 0)
    module.write_text(module.read_text() + "\n# changed")
    assert result_path(data, "peak", TIERS["tiny"].runs[0], 0) != before


def test_the_documented_detector_scores(module: Path, tmp_path: Path) -> None:
    use_modules(["peak"])
    load_detectors()
    store = synthetic_store(tmp_path / "windows.zarr", shape=(3, 4, 8))
    detector = DETECTORS["peak"](TIERS["tiny"], TIERS["tiny"].runs[0])
    detector.fit(store, "train")
    windows = store.read_shard("validation", 0)
    before = detector.score_windows(windows).score
    windows.flux[1, 0, 0, 4, 4] = 1e3
    after = detector.score_windows(windows).score
    assert before.shape == (len(windows),)
    assert (after > before).tolist() == [row == 1 for row in range(len(windows))]
    assert np.isfinite(before).all()
