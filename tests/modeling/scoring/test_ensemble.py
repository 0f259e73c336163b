"""Scores of several models combined: means, p-values, q-values."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modeling.latents.neighbours import nearest_neighbours
from modeling.scoring.calibration import q_values
from modeling.scoring.ensemble import EnsembleMean, average, combine, kinds, p_values
from modeling.scoring.galaxy_scorer import GalaxyScores
from modeling.scoring.residual_sums import LineSums


def galaxy_scores(num: int, rng: np.random.Generator) -> GalaxyScores:
    sums = LineSums(*(rng.uniform(1, 2, (num, 3)) for _ in range(7)))
    return GalaxyScores(
        sums=sums,
        snr=rng.uniform(1, 9, num),
        latent=rng.normal(size=(num, 4)).astype(np.float32),
        significance=rng.normal(size=(num, 4)),
        nll=rng.normal(size=num),
        nuisances=rng.normal(size=(num, 3)),
        code=np.full(num, ""),
        velocity_kms=rng.normal(size=num),
        by_sample=rng.normal(size=(num, 3, 5)),
        by_line=rng.normal(size=(num, 3)),
        by_spaxel=rng.normal(size=(num, 4, 4)),
        by_place=rng.normal(size=(num, 3, 4, 4)),
        triaged=rng.uniform(size=(num, 3, 4, 4)),
    )


class FakeScorer:
    """Scores by the first significance."""

    def combined(self, found: GalaxyScores) -> np.ndarray:
        return found.significance[:, 0]


def means_of(combined: np.ndarray, rng: np.random.Generator) -> EnsembleMean:
    num = len(combined)
    return EnsembleMean(galaxy_scores(num, rng), combined, np.full(num, np.nan), np.ones(num))


def test_only_models_that_count_count() -> None:
    rng = np.random.default_rng(0)
    parts = [galaxy_scores(6, rng) for _ in range(3)]
    scorers: Any = [FakeScorer()] * 3
    counts = np.array([[0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 1, 1], [0, 1, 1, 0, 0, 1]], dtype=bool)
    found = average(scorers, parts, counts)
    scores = np.stack([part.significance[:, 0] for part in parts])
    for i in range(6):
        assert found.combined[i] == pytest.approx(scores[counts[:, i], i].mean())
        assert found.scores.nll[i] == pytest.approx(
            np.mean([p.nll[i] for p, c in zip(parts, counts, strict=True) if c[i]])
        )
    spread = [scores[counts[:, i], i].std(ddof=1) if counts[:, i].sum() > 1 else np.nan for i in range(6)]
    np.testing.assert_allclose(found.spread, spread)
    np.testing.assert_array_equal(found.num_models, [1, 2, 1, 1, 2, 3])
    np.testing.assert_array_equal(found.scores.latent, parts[0].latent)


def test_parts_of_means_join() -> None:
    rng = np.random.default_rng(1)
    whole = means_of(rng.normal(size=8), rng)

    def part(rows: slice) -> EnsembleMean:
        taken = {name: getattr(whole.scores, name)[rows] for name in whole.scores.__dict__ if name != "sums"}
        sums = LineSums(*(values[rows] for values in whole.scores.sums.__dict__.values()))
        return EnsembleMean(
            GalaxyScores(sums=sums, **taken), whole.combined[rows], whole.spread[rows], whole.num_models[rows]
        )

    joined = EnsembleMean.concatenate([part(slice(0, 3)), part(slice(3, 8))])
    np.testing.assert_array_equal(joined.combined, whole.combined)
    np.testing.assert_array_equal(joined.scores.by_place, whole.scores.by_place)
    assert joined.without_maps().scores.by_place.size == 0


def test_p_values_of_galaxies_like_those_of_calibration_are_uniform() -> None:
    rng = np.random.default_rng(2)
    score, calibrating = rng.normal(size=20_000), np.arange(20_000) < 4000
    found = p_values(score, np.zeros(20_000, dtype=int), calibrating)
    for chosen in (calibrating, ~calibrating):
        for level in (0.01, 0.1, 0.5):
            assert (found[chosen] <= level).mean() == pytest.approx(level, abs=0.02 * np.sqrt(level) + 0.003)


def test_a_calibration_galaxy_is_not_among_its_own_references() -> None:
    calibrating = np.array([True, True, True, False])
    found = p_values(np.array([3.0, 1.0, 2.0, 2.5]), np.zeros(4, dtype=int), calibrating)
    np.testing.assert_allclose(found, [1 / 3, 3 / 3, 2 / 3, 2 / 4])


def test_p_values_hold_within_each_kind_whose_scores_differ() -> None:
    rng = np.random.default_rng(3)
    num = 9000
    nuisances = rng.normal(size=(num, 3))
    score = rng.normal(size=num) * np.where(nuisances[:, 1] > 0.5, 5, 1)
    calibrating = rng.random(num) < 0.3
    kind = kinds(nuisances, calibrating, 3)
    assert len(np.unique(kind)) == 9
    found = p_values(score, kind, calibrating)
    noisy = (nuisances[:, 1] > 0.6) & ~calibrating
    assert (found[noisy] <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert (p_values(score, np.zeros(num, dtype=int), calibrating)[noisy] <= 0.05).mean() > 0.1


def test_kinds_hold_as_many_calibration_galaxies_each_whatever_the_others_are_like() -> None:
    nuisances, calibrating = np.random.default_rng(8).normal(size=(1800, 3)), np.arange(1800) < 900
    nuisances[~calibrating] += 3
    held = np.bincount(kinds(nuisances, calibrating, 3)[calibrating], minlength=9)
    assert ((held > 70) & (held < 130)).all()


def test_few_calibration_galaxies_are_one_kind() -> None:
    assert set(kinds(np.random.default_rng(0).normal(size=(100, 3)), np.arange(100) < 50, 3)) == {0}


def test_without_calibration_galaxies_there_are_no_p_values() -> None:
    assert np.isnan(p_values(np.arange(5.0), np.zeros(5, dtype=int), np.zeros(5, dtype=bool))).all()


def test_nominal_false_discovery_rate_is_kept_over_100_splits() -> None:
    rng = np.random.default_rng(4)
    anomaly = np.arange(6000) >= 5600
    proportions = []
    for _ in range(100):
        calibrating = ~anomaly & (rng.random(6000) < 0.35)
        score = rng.normal(size=6000) + 6 * anomaly
        found = q_values(p_values(score, np.zeros(6000, dtype=int), calibrating), calibrating.sum()) <= 0.1
        assert found[anomaly].mean() > 0.9
        proportions.append((found & ~anomaly).sum() / found.sum())
    assert np.mean(proportions) == pytest.approx(0.1, abs=0.01)


def test_a_galaxy_without_a_score_has_no_p_value_and_calibrates_none() -> None:
    rng = np.random.default_rng(6)
    means = means_of(np.array([3.0, 1.0, np.nan, 2.5, np.nan]), rng)
    means.scores.nuisances[[2, 4]] = np.nan
    neighbours = nearest_neighbours(rng.normal(size=(5, 3)), np.arange(5).astype(str), 3)
    found = combine(means, neighbours, np.full(5, np.nan), np.array([True, True, True, False, False]))
    np.testing.assert_allclose(found.p_value, [1 / 2, 2 / 2, np.nan, 2 / 3, np.nan])
    np.testing.assert_array_equal(np.isnan(found.q_value), np.isnan(found.p_value))


def test_galaxies_of_unknown_size_are_in_no_bin_of_their_own() -> None:
    nuisances, calibrating = np.random.default_rng(8).normal(size=(1800, 3)), np.arange(1800) < 900
    nuisances[900:1000, 2] = np.nan
    assert set(kinds(nuisances, calibrating, 3)) <= set(range(9))


def test_redshift_is_taken_off_the_combined_score() -> None:
    rng = np.random.default_rng(5)
    z = rng.uniform(0.01, 0.1, 500)
    means = means_of(rng.normal(size=500) + 60 * z, rng)
    neighbours = nearest_neighbours(rng.normal(size=(500, 3)), np.arange(500).astype(str), 3)
    found = combine(means, neighbours, z, np.zeros(500, dtype=bool))
    assert abs(np.corrcoef(found.combined, z)[0, 1]) < 0.05
    assert np.corrcoef(means.combined, z)[0, 1] > 0.7


def test_density_leaves_repeat_observations_out() -> None:
    latent = np.array([[0.0], [0.1], [5.0], [5.2]])
    rng = np.random.default_rng(6)
    neighbours = nearest_neighbours(latent, np.array(["a", "a", "b", "c"]), 2)
    found = combine(means_of(rng.normal(size=4), rng), neighbours, np.full(4, np.nan), np.zeros(4, dtype=bool))
    assert found.density[0] == pytest.approx(5.0)
    assert found.density[3] == pytest.approx((0.2 + 5.1) / 2)


def test_significances_are_back_in_sigma() -> None:
    rng = np.random.default_rng(7)
    means = means_of(rng.normal(size=3), rng)
    excess = np.array([[1.0, 2.0, 3.0, 9.0], [0.0, 30.0, 1.0, 6.0], [4.0, 5.0, 8.0, 7.0]])
    means = replace(means, scores=replace(means.scores, significance=np.log1p(excess)))
    neighbours = nearest_neighbours(rng.normal(size=(3, 2)), np.array(["a", "b", "c"]), 2)
    found = combine(means, neighbours, np.full(3, np.nan), np.zeros(3, dtype=bool))
    for column, name in zip(excess.T, ("region", "peak", "latent_region", "latent_peak"), strict=True):
        np.testing.assert_allclose(getattr(found, name), column)
