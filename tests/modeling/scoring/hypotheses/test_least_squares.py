"""Fast fits against the formulas that they stand for, written out."""

import numpy as np
import pytest

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from modeling.scoring.hypotheses.components import SINGLE_SIGMA, SINGLE_VELOCITY, _grid
from modeling.scoring.hypotheses.extraction import Galaxy
from modeling.scoring.hypotheses.images import line_images
from modeling.scoring.hypotheses.least_squares import Whitened, best
from modeling.scoring.hypotheses.templates import NARROW_KMS
from tests.modeling.scoring.hypotheses.galaxies import LINES

NUM_SAMPLES = len(LINES.wave)


def gaussians(centre: np.ndarray, sigma_kms: np.ndarray, wave: np.ndarray) -> np.ndarray:
    """Lines [P, L, T], all of their samples computed."""
    sigma = (centre * sigma_kms / SPEED_OF_LIGHT_KMS)[..., None]
    return np.exp(-0.5 * ((wave - centre[..., None]) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))


def components(points: np.ndarray) -> np.ndarray:
    """Components [P, L, T] of velocities and widths [P, 2], less the straight lines through their sidebands.

    Narrow components have none in the sidebands of their own lines.
    """
    centre = np.array(LINES.rest_wave) * np.exp(points[:, :1] / SPEED_OF_LIGHT_KMS)
    sigma = np.broadcast_to(points[:, 1:], centre.shape)
    found = gaussians(centre, sigma, LINES.wave)
    if points[:, 1].max() < NARROW_KMS:
        return found
    for line, bands in enumerate(LINES._bands.swapaxes(0, 1)):
        blue, red = (gaussians(centre, sigma, band).mean(-1) for band in bands)
        own = line == LINES.line_of
        share = (LINES.wave[own] - bands[0].mean()) / (bands[1].mean() - bands[0].mean())
        found[..., own] -= blue[..., None] * (1 - share) + red[..., None] * share
    return found


def whitened(seed: int) -> Whitened:
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.5, 2, NUM_SAMPLES)
    variance[30:45] = np.inf
    nuisances = 3 * rng.standard_normal((NUM_SAMPLES, 12))
    return Whitened(rng.standard_normal(NUM_SAMPLES), variance, nuisances)


def covariance_inverse(data: Whitened) -> np.ndarray:
    """Inverse covariance [T, T]; samples without data have none."""
    seen = data.weight > 0
    inverse = np.zeros((NUM_SAMPLES, NUM_SAMPLES))
    covariance = np.diag(1 / data.weight[seen]) + data.nuisances[seen] @ data.nuisances[seen].T
    inverse[np.ix_(seen, seen)] = np.linalg.inv(covariance)
    return inverse


@pytest.mark.parametrize("widths", [(70.0, 110.0), (150.0, 300.0, 900.0)])
def test_lines_are_gaussians_less_their_sidebands(widths: tuple[float, ...]) -> None:
    points = np.array([(velocity, sigma) for velocity in (-400.0, 0.0, 90.0) for sigma in widths])
    plain = components(points)
    velocity, sigma = points.T
    assert LINES.component(velocity, sigma) == pytest.approx(plain, abs=1e-12 * plain.max())
    chosen = LINES.component(velocity, sigma, LINES.balmer)
    assert np.array_equal(chosen, LINES.component(velocity, sigma)[:, LINES.balmer])


@pytest.mark.parametrize("seed", [0, 1])
def test_normal_matrices_are_those_of_generalised_least_squares(seed: int) -> None:
    data = whitened(seed)
    inverse = covariance_inverse(data)
    grid = _grid(LINES, SINGLE_VELOCITY, SINGLE_SIGMA)
    templates = components(grid.points)
    gram, right = templates @ inverse @ templates.swapaxes(1, 2), templates @ inverse @ data.data
    for found in (data.normal(templates), grid.normal(data)):
        assert found[0] == pytest.approx(gram, abs=1e-9 * gram.max())
        assert found[1] == pytest.approx(right, abs=1e-9 * np.abs(right).max())
    assert data.chi2 == pytest.approx(data.data @ inverse @ data.data)


def test_the_best_trial_leaves_out_columns_of_negative_amplitude() -> None:
    rng = np.random.default_rng(2)
    columns, data = rng.standard_normal((5, 4, 40)), rng.standard_normal(40)
    columns[:, 3] = 0  # without data
    found = best(columns @ columns.swapaxes(1, 2), columns @ data)
    for gain, trial in zip(found.gains, columns, strict=True):
        used = [0, 1, 2]
        for _ in range(3):
            amplitude = np.linalg.lstsq(trial[used].T, data)[0]
            used = [each for each, value in zip(used, amplitude, strict=True) if value >= 0]
        rest = data - np.linalg.lstsq(trial[used].T, data)[0] @ trial[used]
        assert gain == pytest.approx(data @ data - rest @ rest, abs=1e-6)
    trial = columns[found.trial]
    positive = found.flux > 0
    assert found.gain == found.gains.max() > 0
    assert 0 < positive.sum() < 4
    assert found.error[positive] == pytest.approx(np.sqrt(np.diag(np.linalg.inv(trial[positive] @ trial[positive].T))))
    alone = ~positive & (trial != 0).any(1)
    assert found.error[alone] == pytest.approx(1 / np.linalg.norm(trial[alone], axis=1))


def test_images_are_fits_of_each_line_in_each_spaxel() -> None:
    rng = np.random.default_rng(3)
    shape = (NUM_SAMPLES, 3, 4)
    good = rng.random(shape) > 0.2
    flux = np.where(good, rng.standard_normal(shape), 0).astype(np.float32)
    variance = np.where(good, rng.uniform(0.5, 2, shape), 1).astype(np.float32)
    good[:, 1, 2] = False
    galaxy = Galaxy(flux, variance, good, 1.0)
    profiles = LINES.component(np.array([0.0]), np.array([110.0]))[0]
    images, ivars = line_images(galaxy, profiles)
    for line, y, x in np.ndindex(images.shape):
        used = good[:, y, x] & (profiles[line] > 0.02 * profiles[line].max())
        weight, profile = 1 / variance[used, y, x].astype(np.float64), profiles[line][used]
        ivar = profile**2 @ weight
        assert ivars[line, y, x] == pytest.approx(ivar)
        expected = profile @ (weight * flux[used, y, x]) / ivar if used.any() else 0
        assert images[line, y, x] == pytest.approx(expected, abs=1e-6)
