import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from modeling.scoring.significance import (
    ERROR_GRID,
    REGION_SIDE,
    ErrorSums,
    RegionSums,
    Residuals,
    Significance,
    TypicalSums,
    mean_nll,
)

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


def judged(residual_sigma: np.ndarray, good: np.ndarray, side: int = REGION_SIDE) -> Significance:
    """Significance for a model whose residuals are independent."""
    return Significance.of(RegionSums.of(residual_sigma, good, side), TypicalSums.of_noise(SHAPE[0]))


def resampled(num: int, seed: int = 0, sigma: float = 0.8) -> np.ndarray:
    """Residuals that neighbouring spaxels share, of a smaller spread than 1."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(num, *SHAPE)), (0, 0, 0, 1, 1), mode="wrap")
    return (sigma * smooth / smooth.std()).astype(np.float32)


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
    residual_sigma, good = noise(50)
    found = judged(residual_sigma, good)
    assert abs(mean_nll(residual_sigma, good).mean()) < 0.01
    assert np.abs(found.by_line.mean()) < 0.3
    assert (found.region < 7).all()
    assert (found.peak < 9).all()


def test_ordinary_galaxies_are_typical_whatever_noise_their_spaxels_share() -> None:
    good = np.ones((80, *SHAPE), dtype=bool)
    typical = TypicalSums.of(RegionSums.of(resampled(80), good))
    # Of nine spaxels that are alike the square of the sum is large, although that of each is 0.64.
    np.testing.assert_allclose(typical.square, 3.2, rtol=0.1)
    sums = RegionSums.of(resampled(80, seed=1), good)
    lines, regions = typical.significance(typical.excess(sums), sums.samples)
    for values in (lines, regions):
        assert abs(np.median(values)) < 0.6  # chi2 of few samples is skewed
        assert np.quantile(np.abs(values), 0.68) == pytest.approx(1, abs=0.2)
    # Independent noise would have called half of them unusual, or none.
    assert np.median(judged(resampled(80), good).region) > 10


def test_unusual_galaxies_among_those_that_calibrate_move_what_is_typical_little() -> None:
    residual_sigma, good = resampled(60), np.ones((60, *SHAPE), dtype=bool)
    expected = TypicalSums.of(RegionSums.of(residual_sigma, good))
    residual_sigma[:3, :, :, 3:9, 3:9] += 6
    found = TypicalSums.of(RegionSums.of(residual_sigma, good))
    np.testing.assert_allclose(found.square, expected.square, rtol=0.05)
    assert found.region_spread == pytest.approx(expected.region_spread, rel=0.05)


def test_where_no_region_is_whole_residuals_count_as_independent() -> None:
    residual_sigma, good = noise(4)
    good[:, 0] = False
    good[:, :, :, ::2] = False
    found = TypicalSums.of(RegionSums.of(residual_sigma, good))
    np.testing.assert_array_equal(found.square, 1)
    assert TypicalSums.of(RegionSums.of(residual_sigma, np.zeros_like(good))).line_spread == 1


def test_typical_sums_survive_json() -> None:
    expected = TypicalSums(np.array([0.5, 2.0]), 1.5, 3.0)
    found = TypicalSums.from_json(json.loads(json.dumps(expected.to_json())))
    np.testing.assert_array_equal(found.square, expected.square)
    assert (found.line_spread, found.region_spread) == (1.5, 3.0)


def test_sums_of_parts_are_those_of_the_whole() -> None:
    residual_sigma, good = noise(5)
    whole = RegionSums.of(residual_sigma, good)
    parts = [RegionSums.of(residual_sigma[cut], good[cut]) for cut in (slice(0, 2), slice(2, 5))]
    for found, expected in zip(RegionSums.concatenate(parts).arrays, whole.arrays, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(y=st.integers(1, 10), x=st.integers(1, 10), line=st.integers(0, 2), seed=st.integers(0, 1000))
def test_a_spot_is_weighed_and_pointed_at(y: int, x: int, line: int, seed: int) -> None:
    residual_sigma, good = noise(1, seed)
    before = judged(residual_sigma, good)
    spot = np.zeros(residual_sigma.shape, dtype=bool)
    spot[0, line, :, y - 1 : y + 2, x - 1 : x + 2] = True
    heights = []
    for height in (3.0, 6.0):
        found = judged(np.where(spot & good, residual_sigma + height, residual_sigma), good)
        # Beside the spot fewer good spaxels may have nearly the same sum.
        at = np.unravel_index(found.by_spaxel[0].argmax(), SHAPE[2:])
        assert max(abs(at[0] - y), abs(at[1] - x)) <= 1
        assert found.by_line[0].argmax() == line
        heights.append((found.region[0], found.peak[0]))
    assert (np.array(heights[0]) > [before.region[0], before.peak[0]]).all()
    assert (np.array(heights[1]) > heights[0]).all()


def test_peak_by_hand() -> None:
    residual_sigma, good = np.zeros((1, *SHAPE), np.float32), np.ones((1, *SHAPE), dtype=bool)
    residual_sigma[0, 1, :, 4:7, 4:7] = 3.0
    found = judged(residual_sigma, good)
    # At each sample the nine spaxels add up to 27, over the root of 9.
    num = SHAPE[1]
    assert found.peak[0] == pytest.approx((num * 81 - num) / np.sqrt(2 * 10))
    assert found.region[0] == pytest.approx((num * 81 - 3 * num) / np.sqrt(2 * 50))
    np.testing.assert_allclose(found.table()[0], np.log1p([found.region[0], found.peak[0]]))
    typical = TypicalSums(np.array([1.0, 3.0, 1.0]), 2.0, 1.0)
    found = Significance.of(RegionSums.of(residual_sigma, good), typical)
    assert found.peak[0] == pytest.approx((num * 27 - num) / np.sqrt(2 * 10) / 2)


def test_a_few_good_samples_are_not_significant() -> None:
    residual_sigma, good = np.zeros((1, *SHAPE), np.float32), np.zeros((1, *SHAPE), dtype=bool)
    residual_sigma[0, 0, 0, 5, 5], good[0, 0, 0, 5, 5] = 3.0, True
    assert judged(residual_sigma, good).peak[0] == pytest.approx(8 / np.sqrt(20))
    nothing = judged(residual_sigma, np.zeros_like(good))
    assert nothing.peak[0] == nothing.region[0] == 0
    assert mean_nll(residual_sigma, np.zeros_like(good))[0] == 0


def test_a_region_of_its_own_size_makes_an_excess_most_significant() -> None:
    residual_sigma = np.zeros((1, *SHAPE), np.float32)
    residual_sigma[..., 3:8, 4:9] = 2.0
    good = np.ones(residual_sigma.shape, dtype=bool)
    small, fitting, large = (judged(residual_sigma, good, side) for side in (3, 5, 7))
    assert fitting.region[0] > 2 * small.region[0]
    assert fitting.peak[0] > 1.5 * large.peak[0]
    assert np.unravel_index(fitting.by_spaxel[0].argmax(), SHAPE[-2:]) == (5, 6)
