"""The detector of docs/new-detector.md."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.anomaly.detectors.detector import DETECTORS
from benchmarks.anomaly.tiers import TIERS
from tests.synthetic import synthetic_store
from tests.test_architecture import ROOT


def test_the_documented_detector_registers_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "new-detector.md").read_text(), re.DOTALL)
    monkeypatch.setitem(DETECTORS, "peak", None)  # so that it is taken out again
    monkeypatch.delitem(DETECTORS, "peak")
    made: dict[str, Any] = {"__name__": "peak"}
    exec(compile(code, "new-detector.md", "exec"), made)
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
