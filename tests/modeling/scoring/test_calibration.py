import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, kstest, spearmanr

from modeling.scoring.calibration import (
    MIN_SHARE,
    NuisanceRegression,
    conformal_p_values,
    ordinary_share,
    q_values,
    quantile_bins,
)


def survey(
    num_galaxies: int, seed: int, *, contamination: float = 0.0, spread_follows: float = 0.4
) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose location follows two correlated nuisances; `spread_follows` says how steeply their spread does."""
    rng = np.random.default_rng(seed)
    flux = rng.normal(2, 1, num_galaxies)
    snr = 0.7 * flux + rng.normal(0, 0.5, num_galaxies)
    score = 1 + 2 * flux - 0.3 * snr**2 + np.exp(spread_follows * snr) * rng.normal(0, 1, num_galaxies)
    score[: int(contamination * num_galaxies)] += 60
    return score, np.column_stack([flux, snr])


@pytest.mark.parametrize("contamination", [0.0, 0.05])
def test_standardised_scores_do_not_follow_nuisances(contamination: float) -> None:
    calibration = survey(600, 0, contamination=contamination, spread_follows=0)
    test = survey(3000, 1, spread_follows=0)
    raw, nuisances = test
    scores = NuisanceRegression().fit(*calibration).transform(raw, nuisances)
    for k in range(2):
        assert abs(spearmanr(raw, nuisances[:, k]).statistic) > 0.3
        assert abs(spearmanr(scores, nuisances[:, k]).statistic) < 0.1
        assert abs(spearmanr(np.abs(scores), nuisances[:, k]).statistic) < 0.1
    assert abs(np.median(scores)) < 0.12
    assert 0.75 < np.std(scores) < 1.35


def test_p_values_within_kinds_are_valid_where_the_spread_follows_nuisances() -> None:
    (raw_a, nuisances_a), (raw_b, nuisances_b) = survey(6000, 0), survey(6000, 1)
    regression = NuisanceRegression().fit(raw_a, nuisances_a)
    calibration, scores = regression.transform(raw_a, nuisances_a), regression.transform(raw_b, nuisances_b)
    assert abs(spearmanr(np.abs(scores), nuisances_b[:, 1]).statistic) > 0.2
    edges = np.quantile(nuisances_a[:, 1], [0.25, 0.5, 0.75])
    kinds = [quantile_bins(nuisances[:, 1], edges) for nuisances in (nuisances_b, nuisances_a)]
    p = conformal_p_values(scores, calibration, *kinds)
    for kind in range(4):
        assert kstest(p[kinds[0] == kind], "uniform").statistic < 0.06


def test_anomalies_stand_out_from_galaxies_of_their_kind() -> None:
    raw, nuisances = survey(600, 0)
    regression = NuisanceRegression().fit(raw, nuisances)
    ordinary, unusual = regression.transform(raw, nuisances), regression.transform(raw + 50, nuisances)
    assert np.median(unusual) > np.quantile(ordinary, 0.99)


def test_unknown_nuisances_have_no_score_and_do_no_harm() -> None:
    raw, nuisances = survey(300, 0)
    expected = NuisanceRegression().fit(raw[1:], nuisances[1:]).transform(raw, nuisances)
    nuisances[0, 1] = np.nan
    scores = NuisanceRegression().fit(raw, nuisances).transform(raw, nuisances)
    assert np.isnan(scores[0])
    np.testing.assert_allclose(scores[1:], expected[1:])


def test_too_few_galaxies_are_refused() -> None:
    with pytest.raises(ValueError, match="2 galaxies"):
        NuisanceRegression().fit(np.array([1.0, 2.0, np.nan]), np.zeros((3, 1)))


def test_one_nuisance_that_does_not_vary_is_no_trouble() -> None:
    score = np.random.default_rng(0).normal(5, 2, 200)
    scores = NuisanceRegression().fit(score, np.ones((200, 2))).transform(score, np.ones((200, 2)))
    np.testing.assert_allclose(scores.std(), 1, atol=0.15)


def test_a_common_level_of_the_scores_leaves_no_excess() -> None:
    rng = np.random.default_rng(0)
    score, nuisances = 1000 + rng.normal(size=200), rng.normal(size=(200, 2))
    excess = NuisanceRegression().fit(score, nuisances).transform(score, nuisances)
    assert abs(np.median(excess)) < 0.2
    assert np.std(excess) == pytest.approx(1, abs=0.2)


def test_the_dependence_on_nuisances_ends_at_three_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    nuisances = rng.normal(5, 2, (500, 1))
    regression = NuisanceRegression().fit(3 * nuisances[:, 0] + rng.normal(size=500), nuisances)
    two, three, far = regression.transform(np.full(3, 100.0), np.array([[9.0], [11.3], [1e3]]))
    assert two > three + 5
    assert far == pytest.approx(three, abs=1)


def test_p_values_by_hand() -> None:
    p = conformal_p_values([0.0, 2.0, 2.5, 9.0, np.nan], [1.0, 2.0, 3.0, np.nan])
    np.testing.assert_array_equal(p, [1.0, 3 / 4, 2 / 4, 1 / 4, np.nan])
    p = conformal_p_values([5.0, 5.0, 5.0], [1.0, 9.0], kind=[0, 1, 2], calibration_kind=[0, 1])
    np.testing.assert_array_equal(p, [1 / 2, 1.0, 1.0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), num_calibration=st.integers(20, 200))
def test_p_values_of_exchangeable_galaxies_are_never_too_small(seed: int, num_calibration: int) -> None:
    rng = np.random.default_rng(seed)
    p = np.concatenate([conformal_p_values(rng.gumbel(size=10), rng.gumbel(size=num_calibration)) for _ in range(200)])
    for level in (0.05, 0.1, 0.3):
        assert (p <= level).mean() <= level + 0.05


def test_p_values_within_kinds_are_uniform_where_those_of_all_are_not() -> None:
    rng = np.random.default_rng(0)
    kind, calibration_kind = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    score, calibration = rng.normal(3 * kind), rng.normal(3 * calibration_kind)
    within = conformal_p_values(score, calibration, kind, calibration_kind)
    without = conformal_p_values(score, calibration)
    assert kstest(within[kind == 1], "uniform").statistic < 0.05
    assert kstest(without[kind == 1], "uniform").statistic > 0.3


def test_q_values_are_scipys_times_the_share_of_ordinary_galaxies_and_leave_out_the_unknown() -> None:
    p = np.random.default_rng(0).uniform(size=200) ** 3
    above_half = (p > 0.5).sum()
    plain = false_discovery_control(p, method="bh")
    np.testing.assert_allclose(q_values(p, MIN_SHARE), (1 + above_half) / 100 * plain)
    np.testing.assert_allclose(q_values(p, MIN_SHARE - 1), plain)
    q = q_values(np.insert(p, 3, np.nan), MIN_SHARE)
    assert np.isnan(q[3])
    np.testing.assert_array_equal(np.delete(q, 3), q_values(p, MIN_SHARE))
    assert np.isnan(q_values([np.nan], 100)).all()


def test_galaxies_less_unusual_than_ordinary_ones_do_not_raise_q_values() -> None:
    p = np.random.default_rng(0).uniform(size=200) ** (1 / 3)
    assert ordinary_share(p) == 1
    np.testing.assert_allclose(q_values(p, 200), false_discovery_control(p, method="bh"))


@pytest.mark.parametrize("num_anomalies", [10, 100, 300])
def test_finds_at_a_nominal_rate_hold_that_share_of_false_ones(num_anomalies: int) -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        score = np.concatenate([rng.normal(0, 1, 900), rng.normal(5, 1, num_anomalies)])
        found = q_values(conformal_p_values(score, rng.normal(0, 1, 5000)), 5000) <= 0.1
        shares.append(found[:900].sum() / max(found.sum(), 1))
    assert 0.085 < np.mean(shares) < 0.115


@pytest.mark.parametrize("num_galaxies", [20, 100])
def test_without_anomalies_one_survey_in_ten_has_a_find(num_galaxies: int) -> None:
    rng = np.random.default_rng(1)
    found = [(q_values(rng.uniform(size=num_galaxies), 5000) <= 0.1).any() for _ in range(2000)]
    assert 0.08 < np.mean(found) < 0.115


@pytest.mark.parametrize("num_calibration", [2, 9, MIN_SHARE - 1, MIN_SHARE, 200])
def test_few_calibration_galaxies_make_no_more_finds_than_the_nominal_rate(num_calibration: int) -> None:
    rng, found = np.random.default_rng(2), []
    for _ in range(1000):
        p = conformal_p_values(rng.normal(size=40), rng.normal(size=num_calibration))
        found.append((q_values(p, num_calibration) <= 0.2).any())
    assert np.mean(found) < 0.24


def test_bins_between_edges() -> None:
    assert quantile_bins([0.0, 1.0, 1.5, 9.0, np.nan], [1.0, 2.0]).tolist() == [0, 1, 1, 2, -1]
