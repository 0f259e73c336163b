"""Scores with analytic answers, exact under masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling.scoring.residual_sums import (
    LineSums,
    Scores,
    line_sums,
    median_snr,
    nuisance_correlations,
    ranks,
    scores_from_sums,
    spearman,
)

SHAPE = (3, 4, 5, 6, 6)


def windows(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    flux = rng.normal(2, 1, shape).astype(np.float32)
    ivar = rng.uniform(1, 4, shape).astype(np.float32)
    mask = (rng.random(shape) < 0.2).astype(np.uint8)
    return flux, ivar, mask, (flux + rng.normal(0, 0.5, shape)).astype(np.float32)


def scored(*arrays: np.ndarray, rank_by: str = "unexplained") -> Scores:
    return scores_from_sums(line_sums(*arrays), median_snr(*arrays[:3]), rank_by)


def test_constant_residual_has_the_analytic_scores() -> None:
    flux = np.full(SHAPE, 4.0, dtype=np.float32)
    ivar = np.full(SHAPE, 0.25, dtype=np.float32)
    scores = scored(flux, ivar, np.zeros(SHAPE, np.uint8), flux - 3)
    np.testing.assert_allclose(scores.mae, 3)
    np.testing.assert_allclose(scores.chi2, 9 * 0.25)
    np.testing.assert_allclose(scores.unexplained, (9 * 0.25 - 1) / (16 * 0.25))
    np.testing.assert_allclose(scores.relative, 3 / 4)
    np.testing.assert_allclose(scores.line_shares, 1 / SHAPE[1])
    np.testing.assert_allclose(scores.total_flux, 4 * np.prod(SHAPE[1:]))
    np.testing.assert_allclose(scores.median_snr, 4 * 0.5)
    np.testing.assert_allclose(scores.strongest_line_snr, 4 * 0.5 * np.sqrt(np.prod(SHAPE[2:])))
    assert (scores.num_good == np.prod(SHAPE[1:])).all()


def test_scores_equal_a_plain_loop_over_good_samples() -> None:
    flux, ivar, mask, model = windows()
    scores = scored(flux, ivar, mask, model)
    for i in range(len(flux)):
        good = mask[i] == 0
        residual = (flux[i][good] - model[i][good]).astype(np.float64)
        assert scores.mae[i] == pytest.approx(np.abs(residual).mean(), rel=1e-6)
        assert scores.chi2[i] == pytest.approx((residual**2 * ivar[i][good]).mean(), rel=1e-6)


def test_pure_noise_has_a_chi2_of_one() -> None:
    rng = np.random.default_rng(1)
    shape = (2, 19, 10, 16, 16)
    sigma = rng.uniform(0.1, 3, shape)
    flux = 5 + sigma * rng.normal(size=shape)
    scores = scored(flux, sigma**-2, np.zeros(shape, np.uint8), np.full(shape, 5.0))
    tolerance = 5 * np.sqrt(2 / np.prod(shape[1:]))
    np.testing.assert_allclose(scores.chi2, 1, atol=tolerance)
    np.testing.assert_allclose(scores.unexplained, 0, atol=tolerance)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -5.0])
def test_what_lies_under_the_mask_changes_nothing(value: float) -> None:
    arrays = windows()
    reference = scored(*arrays)
    flux, ivar, mask, model = (array.copy() for array in arrays)
    for array in (flux, ivar, model):
        array[mask > 0] = value
    changed = scored(flux, ivar, mask, model)
    for name in (
        "mae",
        "chi2",
        "unexplained",
        "relative",
        "line_shares",
        "total_flux",
        "median_snr",
        "num_good",
        "rank",
    ):
        np.testing.assert_array_equal(getattr(changed, name), getattr(reference, name), err_msg=name)


@pytest.mark.parametrize("how", ["mask", "ivar", "flux"])
def test_masks_zero_weights_and_nan_all_leave_a_sample_out(how: str) -> None:
    flux, ivar, mask, model = windows()
    mask[:] = 0
    where = np.random.default_rng(2).random(SHAPE) < 0.3
    expected = [np.abs(flux[i] - model[i])[~where[i]].mean(dtype=np.float64) for i in range(SHAPE[0])]
    {"mask": mask, "ivar": ivar, "flux": flux}[how][where] = {"mask": 8, "ivar": 0, "flux": np.nan}[how]
    np.testing.assert_allclose(scored(flux, ivar, mask, model).mae, expected, rtol=1e-6)


def test_a_galaxy_without_good_samples_ranks_last_with_nan() -> None:
    flux, ivar, mask, model = windows()
    mask[0] = 1
    scores = scored(flux, ivar, mask, model)
    assert np.isnan(
        [getattr(scores, name)[0] for name in ("mae", "chi2", "unexplained", "relative", "median_snr")]
    ).all()
    assert scores.rank[0] == len(flux)
    assert scores.top_line[0] == scores.strongest_line[0] == -1
    assert np.isnan(scores.strongest_line_snr[0])
    assert sorted(scores.rank) == [1, 2, 3]


@pytest.mark.parametrize("rank_by", ["unexplained", "mae"])
def test_a_line_without_coverage_has_no_share(rank_by: str) -> None:
    flux, ivar, mask, model = windows()
    mask[:, 2] = 2
    model[0] = flux[0]  # explained to all digits: shares of nothing
    model[1, 1] = flux[1, 1]  # observed, and without a residual
    scores = scored(flux, ivar, mask, model, rank_by=rank_by)
    assert np.isnan(scores.line_shares).tolist() == [[True] * 4, *[[False, False, True, False]] * 2]
    assert scores.line_shares[1, 1] == 0
    np.testing.assert_allclose(np.nansum(scores.line_shares[1:], axis=1), 1)
    assert scores.top_line[0] == -1
    assert (scores.top_line[1:] != 2).all()


def test_the_strongest_line_is_that_of_the_highest_snr_of_good_samples() -> None:
    flux, ivar, mask, model = windows()
    flux[:, 2] += 3  # strong
    flux[:, 1], ivar[:, 1] = flux[:, 1] + 9, ivar[:, 1] / 400  # brighter, but noisier still
    flux[1, 2] *= -1  # absorption is not emission
    scores = scored(flux, ivar, mask, model)
    assert scores.strongest_line.tolist() == [2, scores.strongest_line[1], 2]
    assert scores.strongest_line[1] != 2
    good = mask[0, 2] == 0
    expected = flux[0, 2][good].sum(dtype=np.float64) / np.sqrt((1 / ivar[0, 2][good].astype(np.float64)).sum())
    assert scores.strongest_line_snr[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rank_by", ["unexplained", "chi2", "mae", "relative"])
@pytest.mark.parametrize("line", [0, 3])
def test_an_anomaly_in_one_line_is_found_and_named(rank_by: str, line: int) -> None:
    flux, ivar, mask, model = windows()
    flux[1, line] += 5
    scores = scored(flux, ivar, mask, model, rank_by=rank_by)
    assert scores.rank[1] == 1
    assert scores.top_line[1] == line
    assert scores.line_shares[1, line] > 0.5


def test_rank_by_chooses_the_score() -> None:
    flux, ivar, mask, model = windows()
    flux[0], model[0] = flux[0] * 100, model[0] * 100  # bright: the largest MAE
    ivar[0] /= 1e6  # and noisy, as it says: the smallest chi2
    assert scored(flux, ivar, mask, model, rank_by="mae").rank[0] == 1
    assert scored(flux, ivar, mask, model, rank_by="chi2").rank[0] == 3
    with pytest.raises(ValueError, match="brightness"):
        scored(flux, ivar, mask, model, rank_by="brightness")


def test_relative_and_chi2_do_not_depend_on_the_unit_of_flux() -> None:
    flux, ivar, mask, model = windows()
    reference, scaled = scored(flux, ivar, mask, model), scored(flux * 8, ivar / 64, mask, model * 8)
    np.testing.assert_allclose(scaled.chi2, reference.chi2, rtol=1e-6)
    np.testing.assert_allclose(scaled.relative, reference.relative, rtol=1e-6)
    np.testing.assert_allclose(scaled.mae, reference.mae * 8, rtol=1e-6)


def test_shards_give_the_scores_of_the_whole() -> None:
    arrays = windows(shape=(7, 3, 2, 4, 4))
    parts = [line_sums(*(array[rows] for array in arrays)) for rows in (slice(0, 3), slice(3, 4), slice(4, 7))]
    assert len(parts) > 1
    whole, joined = line_sums(*arrays), LineSums.concatenate(parts)
    for name in ("num_good", "abs_residual", "chi2", "snr2", "abs_flux", "flux"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_a_broken_model_and_wrong_shapes_are_errors() -> None:
    flux, ivar, mask, model = windows()
    with pytest.raises(ValueError, match="one shape"):
        line_sums(flux, ivar, mask, model[:, :2])
    mask[0, 0, 0, 0, 0] = 0
    model[0, 0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite for 1 of 3"):
        line_sums(flux, ivar, mask, model)


@given(st.lists(st.one_of(st.floats(0, 10), st.just(float("nan"))), max_size=20))
def test_ranks_are_a_permutation_that_falls_with_the_score(values: list[float]) -> None:
    score = np.array(values, dtype=float)
    rank = ranks(score)
    assert sorted(rank) == list(range(1, len(values) + 1))
    ordered = score[np.argsort(rank)]
    num_finite = int(np.isfinite(score).sum())
    assert (np.diff(ordered[:num_finite]) <= 0).all()
    assert np.isnan(ordered[num_finite:]).all()


def survey(depth: np.ndarray, brightness: np.ndarray) -> tuple[np.ndarray, ...]:
    """Galaxies alike but for brightness and noise, and a model that gets a tenth of the flux wrong."""
    rng = np.random.default_rng(3)
    shape = (len(depth), 3, 8, 9, 9)
    truth = brightness[:, None, None, None, None] * (1 + np.arange(8))[:, None, None]
    sigma = np.broadcast_to((1 / depth)[:, None, None, None, None], shape)
    return (
        truth + sigma * rng.normal(size=shape),
        sigma**-2,
        np.zeros(shape, np.uint8),
        np.broadcast_to(truth * 0.9, shape),
    )


def test_correlations_say_that_mae_and_chi2_follow_brightness() -> None:
    found = nuisance_correlations(scored(*survey(np.ones(12), np.geomspace(1, 100, 12))))
    assert found["mae"]["flux"] > 0.95
    assert found["chi2"]["flux"] > 0.95
    assert found["score"] == found["unexplained"]


def test_unexplained_is_the_same_for_galaxies_alike_in_all_but_brightness_and_noise() -> None:
    brightness, depth = (grid.ravel() for grid in np.meshgrid(np.geomspace(10, 100, 4), np.geomspace(1, 10, 4)))
    scores = scored(*survey(depth, brightness))
    np.testing.assert_allclose(scores.unexplained, 0.01, rtol=0.1)
    assert np.ptp(scores.chi2) / np.median(scores.chi2) > 10
    noisy = scored(*survey(np.array([1e-3]), np.array([1.0])))  # nothing but noise, and known as such
    assert abs(noisy.unexplained[0]) < 0.1
    assert noisy.relative[0] > 0.5


def test_spearman_is_a_rank_correlation_and_none_where_undefined() -> None:
    x = np.array([1.0, 2, 3, 4, np.nan])
    assert spearman(x, np.exp(x)) == pytest.approx(1)
    assert spearman(x, -(x**3)) == pytest.approx(-1)
    assert spearman(x[:2], x[:2]) is None
    assert spearman(x, np.ones(5)) is None
