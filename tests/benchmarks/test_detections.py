"""Detections once unusual galaxies of the validation split have labels."""

from typing import Any

import numpy as np
import pytest

from benchmarks import detections
from benchmarks.detections import NUM_LABELS, SHARES, Found, Means, detect, joined, main
from benchmarks.discovery import Scored


def scored(num_clean: int, num_copies: int, *, height: float, seed: int = 0) -> Scored:
    """Clean galaxies, and copies of the first of them with an anomaly of one of two families."""
    rng = np.random.default_rng(seed)
    family = np.repeat(["", "shock", "outflow"], [num_clean, num_copies, num_copies])
    kind = np.where(family == "", "", "A")
    twin = np.array([f"{seed}-{i}" for i in (*range(num_clean), *range(num_copies), *range(num_copies))])
    score = rng.normal(size=len(family)) + height * (kind == "A")
    empty: Any = np.zeros((len(score), 1))
    return Scored(score, empty, empty, empty, np.full(len(score), ""), family, kind, twin)


def test_labels_of_unusual_galaxies_let_others_be_detected() -> None:
    survey = scored(2000, 80, height=20)
    validation = np.random.default_rng(1).random(len(survey.score)) < 0.2
    num_unusual = (validation & (survey.kind == "A")).sum()
    assert detect(survey, validation, 0) == Found(0, 0, 0, 0)
    assert 0 < detect(survey, validation, num_unusual // 2).power < 0.8
    found = detect(survey, validation, num_unusual)
    assert found.power == 1
    assert 0 < found.fdp < 0.15
    assert found.detections == 160 - num_unusual + found.wrong
    assert found.fdp == found.wrong / found.detections


def test_ordinary_galaxies_are_not_removed_by_labels() -> None:
    survey = scored(2000, 10, height=0)
    validation = np.random.default_rng(2).random(len(survey.score)) < 0.2
    assert detect(survey, validation, 50).detections == 0


def test_surveys_without_detections_count_in_the_rate_but_not_in_the_share_of_detections() -> None:
    means = Means.of([Found(0, 0, 0, 0), Found(0, 0, 0, 0), Found(8, 2, 0.25, 0.6)])
    assert means == pytest.approx((1 / 3, 8 / 3, 0.25 / 3, 0.25, 0.2))
    assert Means.of([Found(0, 0, 0, 0)]) == (0, 0, 0, 0, 0)


def test_one_command_prints_a_table_and_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = [scored(900, 300, height=9, seed=seed) for seed in (1, 2)]
    monkeypatch.setattr(detections, "prepare_data", lambda *_: None)
    monkeypatch.setattr(detections, "read_scored", lambda _: folds)
    assert len(joined(folds).score) == 3000
    figures = main(["--repeats", "2"])
    printed = capsys.readouterr().out
    assert all(f"{number} labels" in printed for number in NUM_LABELS)
    assert len(figures) == len(Means._fields) * len(SHARES) * len(NUM_LABELS)
    assert figures["detections_0_labels_0.040"] == 0
    assert figures["power_50_labels_0.040"] > 0.9
    assert f"power_50_labels_0.040={figures['power_50_labels_0.040']:.3f}" in printed
