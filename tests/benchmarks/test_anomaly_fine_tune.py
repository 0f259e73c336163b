"""Real galaxies are scored by networks that were fine-tuned on the others."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.anomaly import fine_tune, real
from benchmarks.anomaly.detectors import networks
from benchmarks.anomaly.detectors.networks import Cubescout
from benchmarks.anomaly.fine_tune import fine_tuned
from benchmarks.anomaly.tiers import TIERS
from cubeprep.store import Windows
from modeling.network.inference import reconstruct
from modeling.network.make import make_network

TINY = TIERS["tiny"]
NAMES = ["A", "A+blueberry-0", "B", "A-again", "C"]


@pytest.fixture(scope="module")
def windows() -> Windows:
    rng = np.random.default_rng(0)
    shape = (len(NAMES), 3, 5, 8, 8)
    flux = (3 + rng.normal(size=shape)).astype(np.float32)
    return Windows(flux, np.ones_like(flux), np.zeros(shape, np.uint8), np.array(NAMES), np.zeros(len(NAMES), int))


def detector() -> Cubescout:
    made = Cubescout(TINY, TINY.runs[0])
    made.lines = np.array([2, 0, 1])
    made.model = make_network(TINY.default.model, (3, 5, 8), ["OIII-5008", "Hb-4862", "Ha-6564"], seed=0)
    return made


@pytest.mark.slow
def test_a_network_learns_the_galaxies_that_it_is_fine_tuned_on_and_stays_as_it_was(
    windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune, "LR", 1e-2)
    monkeypatch.setattr(fine_tune, "EPOCHS", 10)
    model = detector().model
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    train = TINY.default.train
    tuned, again = (fine_tuned(model, windows, train, TINY.augment, seed=0) for _ in range(2))

    def error(network: torch.nn.Module) -> float:
        return float(np.abs(reconstruct(network, windows.flux, windows.ivar, windows.mask) - windows.flux).mean())

    assert error(tuned) < 0.9 * error(model)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in tuned.state_dict().items())


def test_a_real_galaxy_is_scored_by_a_network_that_saw_the_others_alone(
    windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fake(model: object, galaxies: Windows, *_: object) -> set[str]:
        np.testing.assert_array_equal(galaxies.flux[0], windows.flux[NAMES.index(galaxies.plateifu[0])][[2, 0, 1]])
        seen.append(set(galaxies.plateifu))
        return set(galaxies.plateifu)

    class Scorer:
        def __init__(self, model: set[str], fall: float) -> None:
            self.model, self.fall = model, fall

        def score(self, flux: np.ndarray, *_: np.ndarray) -> np.ndarray:
            return np.full(len(flux), len(self.model) + self.fall)

        def combined(self, scores: np.ndarray) -> np.ndarray:
            return scores

    monkeypatch.setattr(networks, "fine_tuned", fake)
    monkeypatch.setattr(networks, "replace", lambda scorer, model, fall: Scorer(model, fall))
    made = detector()
    made.scorer = SimpleNamespace()  # type: ignore[assignment]
    rows = pd.DataFrame({"mangaid": ["1", "1", "2", "1", "3"], "family": ["", "blueberry", "", "", ""]})
    rows["psf_fwhm_spaxels"] = [2.0, 2.0, 3.0, 2.0, 2.0]
    score = made.score_real(windows, rows)
    assert seen == [{"B", "C"}, {"A", "A-again", "C"}, {"A", "A-again", "B"}]
    # A survey of a wider PSF has wider point sources.
    assert score == pytest.approx([2.5, 2.5, 3.7349, 2.5, 3.5], abs=1e-4)


def test_a_repeat_observation_takes_no_injections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    observations = [
        SimpleNamespace(plateifu=name, mangaid=name[0], z=0.1, psf_sigma=1.0) for name in ("1_A", "2_A", "1_B")
    ]
    windows = SimpleNamespace(flux=np.zeros(1), ivar=np.ones(1), mask=np.zeros(1, np.uint8))
    monkeypatch.setattr(real, "real_sources", lambda *_: observations)
    monkeypatch.setattr(real, "Host", lambda *_: None)
    monkeypatch.setattr(real, "injected", lambda *_: SimpleNamespace(windows=windows))
    monkeypatch.setattr(real, "measured", lambda *_: {})
    _, rows = real.real_rows(TINY.data, tmp_path, tmp_path)
    assert rows["name"][rows["family"] == ""].tolist() == ["1_A", "2_A", "1_B"]
    copies = rows[rows["family"] != ""]
    assert set(copies["twin"]) == {"1_A", "2_A"}
    assert len(copies) == 2 * 6 * len(TINY.data.amplitudes) * real.NUM_DRAWS
