"""The plain network that predicts what is hidden: what it sees, what it is asked about, and what it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.anomaly.detectors.plain_masked import Galaxies, PlainMasked, PlainNetwork, draw_seen, peaks
from benchmarks.anomaly.tiers import TIERS
from modeling.network.line_groups import line_groups
from modeling.scoring.calibration import NuisanceRegression
from tests.benchmarks.test_anomaly_detectors import Sample, with_flux

TINY = TIERS["tiny"]
GROUPS, SIDE = [[0, 2], [1]], 3


def galaxies(seed: int, num: int = 4) -> Galaxies:
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(num, 3, 5, 8, 8, generator=generator)
    good = (torch.rand(value.shape, generator=generator) > 0.1).float()
    return Galaxies(value * good, torch.full_like(value, 0.5), good)


def test_the_noise_of_asinh_is_that_of_the_flux_over_its_slope():
    windows = Sample(3).windows
    found = Galaxies.of(windows)
    flux = windows.flux.copy()
    for y, x in ((0, 0), (3, 3)):  # the faintest and a bright spaxel, neither of which is the galaxy's scale
        flux[..., y, x] += 1e-3  # one sigma
    change = (Galaxies.of(with_flux(windows, flux)).value - found.value).numpy()
    for y, x in ((0, 0), (3, 3)):
        np.testing.assert_allclose(change[..., y, x] ** 2, found.noise.numpy()[..., y, x], rtol=0.05)
    assert found.noise[..., 3, 3].min() < 0.5 * found.noise[..., 0, 0].min()
    masked = replace(windows, mask=np.ones_like(windows.mask))
    assert (Galaxies.of(masked).noise == 1e4).all()


def test_a_prediction_does_not_see_what_it_predicts():
    torch.manual_seed(0)
    network, given = PlainNetwork(3, 5, 8, 16), galaxies(0)
    seen = draw_seen(4, GROUPS, (3, 5, 8), SIDE, np.random.default_rng(1))
    assert 0 < seen.mean() < 1
    other = torch.where(seen[:, :, None] > 0, given.value, galaxies(9).value * given.good)
    for first, second in zip(network(given, seen), network(given._replace(value=other), seen), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    changed = network(given._replace(value=given.value + seen[:, :, None] * given.good), seen)
    assert not torch.equal(changed[0], network(given, seen)[0])


def test_training_hides_squares_of_all_lines_or_whole_groups():
    seen = draw_seen(200, GROUPS, (3, 5, 8), SIDE, np.random.default_rng(0))
    whole = (seen.flatten(2) == seen.flatten(2)[..., :1]).all(-1).all(-1)
    assert 0.3 < whole.float().mean() < 0.7
    groups = seen[whole][..., 0, 0]
    assert {tuple(row) for row in groups.tolist()} == {(0, 1, 0), (1, 0, 1)}
    squares = seen[~whole]
    assert (squares == squares[:, :1]).all()


class Echo(torch.nn.Module):
    """Predicts what it sees without an error, and zero where it sees nothing."""

    def forward(self, given: Galaxies, seen: Tensor) -> tuple[Tensor, Tensor]:
        return given.value * seen[:, :, None], torch.full_like(given.value, 0.5)


def test_every_sample_is_scored_where_it_was_hidden():
    detector, windows = PlainMasked(TINY, TINY.runs[0]), Sample(4).windows
    detector.model, detector.groups, detector.side = Echo(), line_groups(Sample.line_names), SIDE
    found, known = detector._peaks(windows)
    given = Galaxies.of(windows)
    expected = peaks(given.value**2 / (0.5 + given.noise), given.good)
    np.testing.assert_allclose(found, np.concatenate([expected, expected], axis=1), rtol=1e-6)
    assert known.shape == (4, 3)


def test_a_peak_is_the_excess_of_a_region_over_its_spread():
    good = torch.ones(1, 3, 5, 8, 8)
    squares = torch.ones(1, 3, 5, 8, 8)
    squares[0, 1, :, 3:6, 3:6] = 3
    region, line = np.expm1(peaks(squares, good)[0])
    assert region == pytest.approx(2 * 5 * 9 / np.sqrt(2 * 3 * 5 * 9))
    assert line == pytest.approx(2 * 5 * 9 / np.sqrt(2 * 5 * 9))
    assert (peaks(squares, 0 * good) == 0).all()


@pytest.mark.slow
def test_it_finds_a_ratio_that_no_galaxy_has():
    budget = TINY.default
    tier = TINY.model_copy(
        update={"default": budget.model_copy(update={"train": budget.train.model_copy(update={"epochs": 20})})}
    )
    detector, sample = PlainMasked(tier, tier.runs[0]), Sample(80)
    detector.fit(sample, "train")
    assert all(isinstance(value, NuisanceRegression) for value in detector.regressions.values())
    clean = detector.score_windows(sample.windows)
    flux = sample.windows.flux.copy()
    flux[:, 1, :, 2:5, 2:5] *= 3
    changed = detector.score_windows(with_flux(sample.windows, flux))
    assert np.median(changed.score) > np.quantile(clean.score, 0.95)
    assert set(changed.variants) == {
        f"{what} of {part}" for what in ("region", "peak") for part in ("squares", "groups")
    }
