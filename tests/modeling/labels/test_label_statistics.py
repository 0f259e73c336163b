"""Statistics of labels: against other implementations, known answers, and the values expected by chance."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from modeling.labels.label_statistics import (
    Sample,
    assess_label,
    assess_labels,
    auroc,
    enrichment,
    neighbour_agreement,
    newcombe,
)
from modeling.resampling import bootstrap_weights

RNG = np.random.default_rng(0)


def sample_of(score: np.ndarray, mangaid: np.ndarray | None = None, neighbours: np.ndarray | None = None) -> Sample:
    num = len(score)
    if neighbours is None:
        neighbours = np.random.default_rng(1).integers(num, size=(num, 10))
    return Sample(score, neighbours, np.arange(num).astype(str) if mangaid is None else mangaid)


def test_auroc_is_scikit_learns_with_ties_and_weights() -> None:
    score = RNG.integers(10, size=200).astype(float)
    labelled = RNG.random(200) < 0.3
    weight = RNG.integers(4, size=200)
    assert auroc(score, labelled, np.ones(200)) == pytest.approx(roc_auc_score(labelled, score))
    assert auroc(score, labelled, weight) == pytest.approx(roc_auc_score(labelled, score, sample_weight=weight))
    assert np.isnan(auroc(score, np.zeros(200, bool), np.ones(200)))


def test_enrichment_counts_what_lies_on_top() -> None:
    score = np.arange(100.0)
    labelled = score >= 90
    ones = np.ones(100)
    assert enrichment(score, labelled, ones, 0.05) == pytest.approx(10)
    assert enrichment(score, labelled, ones, 0.2) == pytest.approx(5)
    assert enrichment(score, score < 10, ones, 0.1) == 0
    assert enrichment(score, labelled, ones, 0.001) == pytest.approx(10)  # at least one galaxy
    assert enrichment(score, score == 90, ones, 0.095) == pytest.approx(0.5 / 9.5 * 100)  # half of it lies within


def test_agreement_is_the_share_among_known_neighbours() -> None:
    labelled = np.array([True, True, False, False])
    neighbours = np.array([[1, 2], [0, -1], [3, 0], [-1, -1]])
    np.testing.assert_allclose(neighbour_agreement(neighbours, labelled), [0.5, 1, 0.5, np.nan])


def test_a_perfect_score_and_a_pure_cluster() -> None:
    score = np.r_[np.arange(80), np.arange(1000, 1020)].astype(float)
    labelled = score >= 1000
    neighbours = np.where(labelled[:, None], RNG.integers(80, 100, (100, 5)), RNG.integers(0, 80, (100, 5)))
    found = assess_label(sample_of(score, neighbours=neighbours), labelled, percentages=(10,), num_bootstrap=200)
    assert (found.auroc.value, found.auroc.high) == (1, 1)
    assert 0.9 < found.auroc.low < 1
    assert found.enrichment[10].value == pytest.approx(5)
    assert found.enrichment[10].low < 5 < found.enrichment[10].high
    assert (found.purity.value, found.chance) == (1, pytest.approx(19 / 99))
    assert found.roc[:, -1].tolist() == [1, 1]


@pytest.mark.slow
def test_intervals_hold_chance_where_there_is_only_chance() -> None:
    """95% intervals, 60 trials: fewer than 48 of 60 happens once in 10,000."""
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = assess_label(
            sample_of(rng.normal(size=200)), rng.random(200) < 0.2, num_bootstrap=200, seed=seed, percentages=(10,)
        )
        hits += found.auroc.low <= 0.5 <= found.auroc.high
    assert hits >= 48


def test_three_galaxies_do_not_make_a_score_certain() -> None:
    """80 trials of true area 0.95: resamples alone hold it in 56%, and never widen where all three score highest."""
    hits, area = 0, 0.95
    for seed in range(80):
        rng = np.random.default_rng(seed)
        score = np.r_[rng.normal(size=100), rng.normal(norm.ppf(area) * 2**0.5, size=3)]
        found = assess_label(sample_of(score), np.arange(103) >= 100, num_bootstrap=20, seed=seed, percentages=())
        hits += found.auroc.low <= area <= found.auroc.high
    assert hits >= 72


def test_newcombes_interval_has_a_width_at_both_ends_and_narrows_with_galaxies() -> None:
    for area in (0.0, 0.3, 1.0):
        low, high = newcombe(area, 20, 50)
        assert 0 <= low <= area <= high <= 1
        assert high - low > 0.05
        assert newcombe(1 - area, 20, 50) == pytest.approx((1 - high, 1 - low))
    wide, narrow = newcombe(0.8, 5, 500), newcombe(0.8, 50, 500)
    assert wide[0] < narrow[0] < 0.8 < narrow[1] < wide[1]


def test_repeats_are_drawn_together_and_so_widen_the_interval() -> None:
    objects = np.repeat([f"1-{i}" for i in range(30)], 4)
    for weight in bootstrap_weights(objects, 20, seed=0):
        assert (weight.reshape(30, 4) == weight.reshape(30, 4)[:, :1]).all()
        assert weight.sum() == 120
    score = np.repeat(RNG.normal(size=30), 4)
    labelled = np.repeat(RNG.random(30) < 0.4, 4)
    apart = assess_label(sample_of(score), labelled).auroc
    together = assess_label(sample_of(score, objects), labelled).auroc
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_galaxies_without_a_score_count_as_least() -> None:
    score = np.r_[np.full(5, np.nan), np.arange(20.0)]
    found = assess_label(sample_of(score), np.isnan(score), num_bootstrap=10)
    assert found.auroc.value == 0


def test_labels_with_few_galaxies_are_refused_or_left_out() -> None:
    sample = sample_of(np.arange(20.0))
    two, most = np.arange(20) < 2, np.arange(20) < 18
    with pytest.raises(ValueError, match="2 galaxies with the label, 18 without"):
        assess_label(sample, two)
    assert list(assess_labels(sample, {"two": two, "most": most, "half": np.arange(20) < 10})) == ["half"]
