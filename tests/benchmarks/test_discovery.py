"""The loop of labels in mock surveys: how they are drawn, who asks for which galaxy, and what is reported."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import discovery
from benchmarks.anomaly.dataset import Data
from benchmarks.anomaly.execute import result_path
from benchmarks.anomaly.tiers import TIERS
from benchmarks.discovery import (
    ALL,
    DETECTOR,
    NUM_LABELS,
    OURS,
    Scored,
    finds_of_coniferest,
    finds_of_rerank,
    main,
    mock_survey,
    read_scored,
    report,
)
from modeling.scoring.galaxy_scorer import SIGNIFICANCES

NUM_CLEAN = 300  # galaxies, of which each family replaces three
FAMILIES = ("shock", "outflow", "spike")  # the last is a kind of artefact

# Stands in for coniferest: galaxies are asked for in the order of their first feature, by AAD in the reverse.
CONIFEREST = {
    "__init__": "",
    "coniferest": "class Coniferest: ...",
    "label": "class Label:\n    ANOMALY, REGULAR = -1, 1",
    "pineforest": "class PineForest:\n    sign = 1\n    def __init__(self, random_seed, n_jobs): ...",
    "aadforest": "class AADForest:\n    sign = -1\n    def __init__(self, random_seed, n_jobs): ...",
    "session": """
class Session:
    def __init__(self, data, metadata, decision_callback, model):
        self.rows = metadata[(model.sign * data[:, 0]).argsort()]
        self.data, self.decide, self.ended = data, decision_callback, False
    def terminate(self):
        self.ended = True
    def run(self):
        for row in self.rows:
            self.decide(row, self.data[row], self)
            if self.ended:
                return
""",
}


@pytest.fixture
def pool() -> Scored:
    """Clean galaxies, and copies of a quarter of them in each family, which lie together in the latent space."""
    rng = np.random.default_rng(0)
    names = np.array([f"g{i}" for i in range(NUM_CLEAN)])
    twin, family = [names], [np.full(NUM_CLEAN, "")]
    for name in FAMILIES:
        twin.append(rng.permutation(names)[: NUM_CLEAN // 4])
        family.append(np.full(NUM_CLEAN // 4, name))
    families = np.concatenate(family)
    latent = rng.normal(size=(len(families), 5))
    for axis, name in enumerate(FAMILIES):
        latent[families == name, axis] += 8
    score = rng.normal(size=len(families)) + (families != "")
    kind = np.select([families == "", families == "spike"], ["", "C"], "A")
    lines, hypotheses = np.zeros((len(score), 2)), np.full(len(score), "")
    return Scored(score, score[:, None], latent, lines, hypotheses, families, kind, np.concatenate(twin))


def test_a_mock_survey_holds_each_galaxy_once_and_a_hundredth_of_each_family(pool: Scored) -> None:
    survey = mock_survey(pool, np.random.default_rng(1))
    assert sorted(survey.twin) == sorted(pool.twin[:NUM_CLEAN])
    assert {name: int((survey.family == name).sum()) for name in FAMILIES} == dict.fromkeys(FAMILIES, 3)
    assert (survey.family == "").sum() == NUM_CLEAN - 9
    injected = survey.family != ""
    for row in np.flatnonzero(injected):
        (copy,) = np.flatnonzero((pool.twin == survey.twin[row]) & (pool.family == survey.family[row]))
        np.testing.assert_array_equal(survey.latent[row], pool.latent[copy])
    assert set(survey.kind[injected]) == {"A", "C"}
    other = mock_survey(pool, np.random.default_rng(2))
    assert set(other.twin[other.family != ""]) != set(survey.twin[injected])


def test_rerank_finds_what_is_alike_where_the_score_does_not(pool: Scored) -> None:
    survey = mock_survey(pool, np.random.default_rng(1))
    wanted = survey.family == "shock"
    survey.score[wanted] = [survey.score.max() + 1, *np.quantile(survey.score, [0.5, 0.4])]
    answers = finds_of_rerank(survey, wanted)
    assert len(answers) == NUM_LABELS[-1]
    assert wanted[np.argsort(-survey.score)[: len(answers)]].sum() == 1
    assert sum(answers) == 3


def test_each_galaxy_is_asked_for_once(pool: Scored) -> None:
    survey = mock_survey(pool, np.random.default_rng(1)).of(np.arange(NUM_LABELS[-1]))
    wanted = np.arange(NUM_LABELS[-1]) % 3 == 0
    assert sum(finds_of_rerank(survey, wanted, reasons=False)) == wanted.sum()


def test_coniferest_is_asked_in_a_python_of_its_own(
    pool: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "coniferest"
    package.mkdir(parents=True)
    for name, text in CONIFEREST.items():
        (package / f"{name}.py").write_text(text)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ -z "$PYTHONPATH" ] && PYTHONPATH={package.parent} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", "/packages/of/this/python")
    surveys = []
    for seed in (1, 2):
        survey = mock_survey(pool, np.random.default_rng(seed))
        surveys.append((survey, [survey.family == family for family in survey.families("A")]))
    answers = finds_of_coniferest(str(python), surveys, tmp_path)
    orders = [(survey.features[:, 0].argsort(), family) for survey, wanted in surveys for family in wanted]
    assert answers == {
        "PineForest": [family[order[: NUM_LABELS[-1]]].tolist() for order, family in orders],
        "AAD": [family[order[::-1][: NUM_LABELS[-1]]].tolist() for order, family in orders],
    }


def test_finds_are_compared_with_ours(capsys: pytest.CaptureFixture[str]) -> None:
    ours = np.array([[1, 2, 4, 6], [3, 4, 6, 8]])
    found = report({OURS: ours, "score alone": ours // 2, "AAD": 2 * ours, ALL: 2 * ours}, 2)
    assert found["finds_100_vs_score_alone"] == pytest.approx(7 / 3.5)
    assert found["finds_10_vs_AAD"] == pytest.approx(0.5)
    assert found["finds_100_vs_all"] == pytest.approx(0.5)
    printed = capsys.readouterr().out
    assert "7.0 +- 1.0" in printed  # mean and spread over two surveys of one family
    assert "finds_100_vs_score_alone=2.00" in printed


def test_the_benchmark_runs_all_methods(pool: Scored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "prepare_data", lambda *_: None)
    monkeypatch.setattr(discovery, "read_scored", lambda _: [pool])
    monkeypatch.setattr(discovery, "NUM_LABELS", (10, 25))
    found = main(["--repeats", "1"])
    assert found["finds_25_vs_all"] == 1
    assert found["finds_25_vs_score_alone"] > 1
    assert found["finds_25_vs_chance"] > 1
    assert "finds_25_vs_rerank_without_lines_and_hypotheses" in found


def test_the_scored_galaxies_of_each_fold_are_read(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "fold": np.repeat([0, 1], 6),
            "half": np.tile([0, 1], 6),
            "family": np.tile(["", "", "", "", "shock", "spike"], 2),
            "kind": np.tile(["", "", "", "", "A", "C"], 2),
            "twin": [f"g{i}" for i in range(12)],
        }
    )
    data = Data(tmp_path, TIERS["tiny"], rows)
    with pytest.raises(FileNotFoundError, match=r"\.npz: run `python -m benchmarks.anomaly`"):
        read_scored(data)
    rng = np.random.default_rng(0)
    results = []
    for fold in range(2):
        arrays: dict[str, Any] = {f"variant:{name.replace('_', ' ')}": rng.normal(size=6) for name in SIGNIFICANCES}
        arrays |= {"score": rng.normal(size=6), "latents": rng.normal(size=(6, 3)), "lines": rng.normal(size=(6, 2))}
        path = result_path(data, DETECTOR, data.tier.network_runs[0], fold)
        path.parent.mkdir(exist_ok=True)
        np.savez(path, hypotheses=np.full(6, f"fold {fold}"), **arrays)
        results.append(arrays)
    for fold, found in enumerate(read_scored(data)):
        assert found.twin.tolist() == rows["twin"][rows["fold"] == fold].tolist()
        assert found.families("AC") == ["shock", "spike"]
        assert set(found.hypothesis) == {f"fold {fold}"}
        np.testing.assert_array_equal(found.scores[:, 2], results[fold]["variant:latent region"])
        for half in (0, 1):  # each is scaled by the other
            given = results[fold]["score"][half::2]
            np.testing.assert_array_equal(np.argsort(found.score[half::2]), np.argsort(given))
        np.testing.assert_allclose(found.latent.mean(axis=0), 0, atol=1e-6)
