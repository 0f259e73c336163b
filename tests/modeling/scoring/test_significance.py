from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.scoring.significance import ERROR_GRID, ErrorSums, Residuals, Significance

SHAPE = (3, 8, 12, 12)  # lines, samples, y, x


def windows(num: int, error: float, seed: int = 0, sigma: float = 1e-3) -> tuple[np.ndarray, ...]:
    """Flux, ivar, mask, reconstruction: light of amplitude about 1 that a model misses by a share of it."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([-1.0, 1.0], (num, *SHAPE))
    reconstruction = truth + error * rng.normal(size=truth.shape)
    flux = truth + sigma * rng.normal(size=truth.shape)
    mask = (rng.random(truth.shape) < 0.1).astype(np.uint8)
    arrays = (flux, np.full(flux.shape, sigma**-2), mask, reconstruction)
    return tuple(array.astype(np.uint8 if array is mask else np.float32) for array in arrays)


def noise(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Residuals in sigma of a perfect model, and which are good."""
    rng = np.random.default_rng(seed)
    good = rng.random((num, *SHAPE)) > 0.1
    return np.where(good, rng.normal(size=good.shape), 0).astype(np.float32), good


@pytest.mark.parametrize("error", [0.01, 0.05, 0.3])
def test_a_known_relative_error_is_found(error: float) -> None:
    found = ErrorSums.of(Residuals.of(*windows(20, error))).typical_error()
    assert found.shape == SHAPE[:2]
    np.testing.assert_allclose(found, error, rtol=0.1)


def test_an_error_below_the_noise_is_found_on_average() -> None:
    arrays = windows(60, 0.05, sigma=0.1)
    found = ErrorSums.of(Residuals.of(*arrays)).typical_error()
    assert np.median(found) == pytest.approx(0.05, rel=0.1)


def test_a_perfect_model_has_the_least_error_and_so_has_one_without_data() -> None:
    flux, ivar, mask, _ = windows(4, 0)
    mask[:, 0] = 1
    found = ErrorSums.of(Residuals.of(flux, ivar, mask, flux)).typical_error()
    np.testing.assert_allclose(found, ERROR_GRID[0], rtol=1e-5)


def test_parts_sum_to_the_whole() -> None:
    arrays = windows(6, 0.05)
    parts = [ErrorSums.of(Residuals.of(*(array[cut] for array in arrays))) for cut in (slice(0, 1), slice(1, 6))]
    whole = ErrorSums.of(Residuals.of(*arrays))
    np.testing.assert_allclose(ErrorSums.total(parts).score, whole.score, rtol=1e-5)


def test_anomalies_among_the_galaxies_move_the_typical_error_little() -> None:
    flux, ivar, mask, reconstruction = windows(40, 0.05)
    expected = ErrorSums.of(Residuals.of(flux, ivar, mask, reconstruction)).typical_error()
    reconstruction[:2, :, :, 3:7, 3:7] += 3  # 5% of the galaxies, a ninth of each
    found = ErrorSums.of(Residuals.of(flux, ivar, mask, reconstruction)).typical_error()
    assert (found >= expected).all()
    np.testing.assert_allclose(found, expected, rtol=0.15)


def test_residuals_at_the_typical_error_have_unit_spread() -> None:
    residuals = Residuals.of(*windows(20, 0.05, sigma=0.05))
    residual_sigma = residuals.residual_sigma(ErrorSums.of(residuals).typical_error())
    assert residual_sigma[residuals.good].std() == pytest.approx(1, abs=0.02)
    assert (residual_sigma[~residuals.good] == 0).all()


@pytest.mark.parametrize("factor", [3.0, 30.0])
def test_light_missing_from_another_reconstruction_is_as_unusual_as_it_is_bright(factor: float) -> None:
    flux, ivar, mask, expected = windows(2, 0)
    flux[1] *= factor
    error = np.full(SHAPE[:2], 0.1, np.float32)
    own = Residuals.of(flux, ivar, mask, flux)
    residuals = own.against(expected)
    typical = np.abs(residuals.residual_sigma(error)[1][residuals.good[1]])
    np.testing.assert_allclose(np.median(typical), (factor - 1) / 0.1, rtol=0.05)
    assert np.median(np.abs(replace(residuals, amplitude=own.amplitude).residual_sigma(error)[1])) < 1 / 0.1


def test_where_nothing_is_expected_only_noise_counts() -> None:
    flux, ivar, mask, _ = windows(2, 0, sigma=1.0)
    residuals = Residuals.of(flux, ivar, mask, flux).against(np.full_like(flux, 1e-12))
    assert np.isfinite(ErrorSums.of(residuals).typical_error()).all()
    np.testing.assert_allclose(residuals.residual_sigma(np.ones(SHAPE[:2], np.float32)), residuals.residual, rtol=1e-5)


@pytest.mark.parametrize("held", [np.nan, np.inf, 1e30])
def test_masked_values_are_never_read(held: float) -> None:
    flux, ivar, mask, reconstruction = windows(3, 0.05)
    expected = Residuals.of(flux, ivar, mask, reconstruction)
    for array in (flux, ivar, reconstruction):
        array[mask > 0] = held
    found = Residuals.of(flux, ivar, mask, reconstruction)
    for field in fields(Residuals):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))


def test_samples_of_no_or_infinite_weight_are_not_good() -> None:
    flux, ivar, mask, reconstruction = windows(1, 0.05)
    mask[:] = 0
    for k, weight in enumerate((0.0, -1.0, np.inf, np.nan)):
        ivar[0, 0, k, 5, 5] = weight
    residuals = Residuals.of(flux, ivar, mask, reconstruction)
    assert (~residuals.good).sum() == 4
    assert np.isfinite(residuals.variance).all()


def test_samples_left_out_are_as_if_masked() -> None:
    flux, ivar, mask, reconstruction = windows(2, 0.05)
    spoiled = np.random.default_rng(1).random(flux.shape) < 0.2
    found = Residuals.of(flux, ivar, mask, reconstruction).without(spoiled)
    expected = Residuals.of(flux, ivar, mask | spoiled, reconstruction)
    for name in ("flux", "residual", "variance", "good"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_noise_is_not_significant() -> None:
    found = Significance.of(*noise(50))
    assert abs(found.nll.mean()) < 0.01
    assert np.abs(found.by_line.mean()) < 0.3
    assert found.by_line.std() == pytest.approx(1, abs=0.25)
    assert (found.region < 7).all()
    assert (found.peak < 9).all()


@settings(max_examples=20, deadline=None)
@given(y=st.integers(1, 10), x=st.integers(1, 10), line=st.integers(0, 2), seed=st.integers(0, 1000))
def test_a_spot_is_weighed_and_pointed_at(y: int, x: int, line: int, seed: int) -> None:
    residual_sigma, good = noise(1, seed)
    before = Significance.of(residual_sigma, good)
    spot = np.zeros(residual_sigma.shape, dtype=bool)
    spot[0, line, :, y - 1 : y + 2, x - 1 : x + 2] = True
    heights = []
    for height in (3.0, 6.0):
        found = Significance.of(np.where(spot & good, residual_sigma + height, residual_sigma), good)
        assert np.unravel_index(found.by_spaxel[0].argmax(), SHAPE[2:]) == (y, x)
        assert found.by_line[0].argmax() == line
        heights.append((found.region[0], found.peak[0], found.nll[0]))
    assert (np.array(heights[0]) > [before.region[0], before.peak[0], before.nll[0]]).all()
    assert (np.array(heights[1]) > heights[0]).all()


def test_peak_by_hand() -> None:
    residual_sigma, good = np.zeros((1, *SHAPE), np.float32), np.ones((1, *SHAPE), dtype=bool)
    residual_sigma[0, 1, :, 4:7, 4:7] = 3.0
    found = Significance.of(residual_sigma, good)
    num = 9 * SHAPE[1]
    assert found.peak[0] == pytest.approx(num * 8 / np.sqrt(2 * num))
    assert found.region[0] == pytest.approx((num * 8 - 2 * num) / np.sqrt(2 * 3 * num))
    np.testing.assert_allclose(found.table()[0], np.log1p([found.region[0], found.peak[0]]))


def test_a_few_good_samples_are_not_significant() -> None:
    residual_sigma, good = np.zeros((1, *SHAPE), np.float32), np.zeros((1, *SHAPE), dtype=bool)
    residual_sigma[0, 0, 0, 5, 5], good[0, 0, 0, 5, 5] = 3.0, True
    assert Significance.of(residual_sigma, good).peak[0] == pytest.approx(8 / np.sqrt(20))
    nothing = Significance.of(residual_sigma, np.zeros_like(good))
    assert nothing.nll[0] == nothing.peak[0] == nothing.region[0] == 0


def test_a_region_of_its_own_size_makes_an_excess_most_significant() -> None:
    residual_sigma = np.ones((1, *SHAPE), np.float32)  # an excess of zero
    residual_sigma[..., 3:8, 4:9] = 2.0
    good = np.ones(residual_sigma.shape, dtype=bool)
    small, fitting, large = (Significance.of(residual_sigma, good, side) for side in (3, 5, 7))
    # The excess of n spaxels grows with n, its standard deviation with the root of n.
    assert fitting.region[0] == pytest.approx(small.region[0] * 5 / 3)
    assert large.peak[0] == pytest.approx(fitting.peak[0] * 5 / 7)
    assert np.unravel_index(fitting.by_spaxel[0].argmax(), SHAPE[-2:]) == (5, 6)
    np.testing.assert_array_equal(fitting.by_line, small.by_line)
