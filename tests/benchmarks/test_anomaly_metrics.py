"""Measures on cases whose answer is known."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.anomaly.inject import truth_mask
from benchmarks.anomaly.metrics import (
    amplitude_at_recall,
    area_below,
    auroc,
    average_precision,
    false_discovery_proportion,
    line_family,
    names_line,
    partial_auroc,
    points_at,
    pro_area,
    recall_at,
    share_at,
    threshold_at,
)
from modeling.scoring.calibration import conformal_p_values


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    positive = rng.random(400) < 0.3
    return np.round(rng.normal(size=400) + positive, 1), positive  # rounded: with ties


def test_auroc_is_scikit_learns_ties_included(sample):
    score, positive = sample
    assert auroc(score, positive) == pytest.approx(roc_auc_score(positive, score))


def test_partial_auroc_against_scikit_learns(sample):
    score, positive = sample
    # Scikit-learn gives McClish's: 0.5 (1 + (area - chance) / (best - chance)).
    mcclish = roc_auc_score(positive, score, max_fpr=0.1)
    area = 0.1 * partial_auroc(score, positive, 0.1)
    assert 0.5 * (1 + (area - 0.005) / (0.1 - 0.005)) == pytest.approx(mcclish)


def test_partial_auroc_of_perfection_of_chance_and_of_its_contrary():
    positive = np.arange(1000) >= 500
    assert partial_auroc(positive.astype(float), positive) == 1
    assert partial_auroc(-positive.astype(float), positive) == 0
    assert partial_auroc(np.zeros(1000), positive) == pytest.approx(0.005)


def test_average_precision_at_the_samples_own_prevalence_is_scikit_learns(sample):
    score, positive = sample
    found = average_precision(score, positive, positive.mean())
    assert found == pytest.approx(average_precision_score(positive, score))


def test_average_precision_at_one_percent():
    positive = np.arange(200) < 100
    assert average_precision(positive.astype(float), positive) == pytest.approx(1)
    assert average_precision(np.zeros(200), positive) == pytest.approx(0.01)
    # One negative of 100 above all positives: 1% false positives, so 0.01 / (0.01 + 0.99 * 0.01) precision throughout.
    score = positive + 2.0 * (np.arange(200) == 150)
    assert average_precision(score, positive) == pytest.approx(0.01 / (0.01 + 0.99 * 0.01))


def test_weights_are_as_good_as_copies(sample):
    score, positive = sample
    counts = np.random.default_rng(1).integers(0, 4, size=(3, len(score)))
    for measure in (auroc, partial_auroc, average_precision):
        copies = [measure(np.repeat(score, row), np.repeat(positive, row)) for row in counts]
        np.testing.assert_allclose(measure(score, positive, weight=counts), copies)


def test_area_stops_within_a_step():
    assert area_below(np.array([0, 0.5, 1.0]), np.array([0, 1.0, 1.0]), 0.25) == pytest.approx(0.0625)


def test_recall_and_share_of_the_highest():
    score, positive = np.arange(10.0), np.arange(10) >= 6
    assert recall_at(score, positive, 2) == 0.5
    assert recall_at(score, positive, 8) == 1
    assert share_at(score, positive, 8) == 0.5


def test_amplitude_at_half_recall_is_interpolated_in_the_logarithm():
    assert amplitude_at_recall([10, 100, 1000], [0.0, 0.25, 0.75]) == pytest.approx(10**2.5)
    assert amplitude_at_recall([10, 100], [0.6, 1.0]) == 10
    assert np.isnan(amplitude_at_recall([10, 100], [0.0, 0.4]))


def test_threshold_lets_as_many_pass_as_promised():
    rng = np.random.default_rng(0)
    rates = [(rng.normal(size=1000) > threshold_at(rng.normal(size=199), 0.01)).mean() for _ in range(300)]
    assert np.mean(rates) == pytest.approx(0.01, abs=0.002)
    assert threshold_at(np.arange(50.0), 0.01) == np.inf


def test_conformal_p_values_are_ranks():
    assert conformal_p_values(np.array([5.0, 0.5, -1.0]), np.arange(4.0)) == pytest.approx([1 / 5, 4 / 5, 1])


def test_false_discoveries_of_nothing_are_none():
    assert false_discovery_proportion(np.zeros(3, bool), np.ones(3, bool)) == 0
    assert false_discovery_proportion(np.array([True, True]), np.array([True, False])) == 0.5


def test_regions_count_alike_whatever_their_size():
    covered = np.ones((20, 20), dtype=bool)
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:12, 2:12] = True
    mask[17, 17] = True
    assert pro_area(mask.astype(float), mask, covered) == pytest.approx(1)
    only_large = mask.copy()
    only_large[17, 17] = False
    # The large region first, then everything else at once: half the overlap at once, the rest linearly.
    expected = 0.5 + 0.5 * 0.3 / 2
    assert pro_area(only_large.astype(float), mask, covered) == pytest.approx(expected, abs=1e-6)
    assert pro_area(np.zeros((20, 20)), mask, covered) == pytest.approx(0.15)
    assert np.isnan(pro_area(mask.astype(float), np.zeros_like(mask), covered))


def test_uncovered_spaxels_do_not_count():
    mask, covered, values = np.zeros((4, 4), bool), np.ones((4, 4), bool), np.zeros((4, 4))
    mask[0, 0], covered[3, 3], values[3, 3], values[0, 0] = True, False, 9, 1
    assert points_at(values, mask, covered)
    assert pro_area(values, mask, covered) == 1
    assert not points_at(values, mask, np.ones((4, 4), bool))


@pytest.mark.parametrize(
    ("name", "family"),
    [("Heta-3836", "Balmer"), ("Heps-3971", "Balmer"), ("HeI-5877", "HeI"), ("HeII-4687", "HeII"), ("NII-6585", "NII")],
)
def test_line_families(name, family):
    assert line_family(name) == family


def test_a_line_is_named_if_its_family_was_changed_most():
    families = ["Balmer", "OIII", "OIII"]
    assert names_line(np.array([1, 9, 2.0]), np.array([1, 4, 10.0]), families)
    assert not names_line(np.array([9, 1, 2.0]), np.array([1, 4, 10.0]), families)
    assert names_line(np.array([9, 1, 2.0]), np.array([6, 4, 10.0]), families)


def test_the_truth_mask_is_the_smallest_set_with_its_share():
    snr2 = np.array([[50.0, 30], [15, 5]])
    assert truth_mask(snr2).tolist() == [[True, True], [True, False]]
    assert not truth_mask(np.zeros((2, 2))).any()
