"""The loop of labels in mock surveys: how they are drawn, who asks for which galaxy, and what is reported."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import discovery
from benchmarks.anomaly.dataset import Data
from benchmarks.anomaly.execute import result_path
from benchmarks.anomaly.tiers import TIERS
from benchmarks.discovery import (
    ALL,
    BATCH,
    DETECTOR,
    NUM_LABELS,
    ONE,
    OURS,
    Scored,
    curves,
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

# Stands in for coniferest: galaxies are asked for in the order of their first feature, by AAD in the reverse; once 50
# have labels, in the order of the second.
CONIFEREST = {
    "__init__": "",
    "label": "class Label:\n    ANOMALY, REGULAR = -1, 1",
    "coniferest": """
class Coniferest:
    def __init__(self, random_seed, n_jobs): ...
    def fit(self, data):
        self.labels = 0
    def fit_known(self, data, known_data, known_labels):
        assert len(known_data) == len(known_labels)
        self.labels = len(known_labels)
    def score_samples(self, data):
        return self.sign * data[:, int(self.labels >= 50)]
""",
    "pineforest": "from coniferest.coniferest import Coniferest\nclass PineForest(Coniferest):\n    sign = 1",
    "aadforest": "from coniferest.coniferest import Coniferest\nclass AADForest(Coniferest):\n    sign = -1",
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
    expected: dict[str, list[list[bool]]] = {}
    for name, sign in (("PineForest", 1), ("AAD", -1)):
        asked = []
        for survey, wanted in surveys:
            first, second = (sign * survey.features[:, i] for i in (0, 1))
            known = first.argsort()[:50]
            rest = [row for row in second.argsort() if row not in known]
            asked += [family[[*known, *rest[:50]]].tolist() for family in wanted]
        expected |= {f"{name}, {batch} at a time": asked for batch in (1, BATCH)}
    assert answers == expected


def test_finds_are_those_up_to_each_label_over_families() -> None:
    answers = np.zeros((4, NUM_LABELS[-1]), dtype=bool)  # two surveys of two families
    answers[0, [0, 9]] = answers[1, 99] = answers[3, 4] = True
    finds = curves(answers.tolist(), 2)
    assert finds[:, [0, 4, 9, 98, 99]].tolist() == [[0.5, 0.5, 1, 1, 1.5], [0, 0.5, 0.5, 0.5, 0.5]]


def test_finds_are_compared_with_ours(capsys: pytest.CaptureFixture[str]) -> None:
    ours = np.linspace(0, 1, NUM_LABELS[-1] + 1)[1:] * np.array([[6], [8]])
    one_at_a_time = "AAD, 1 at a time"
    found = report({OURS: ours, ONE: 3 * ours, "score alone": ours / 2, one_at_a_time: 2 * ours, ALL: 2 * ours})
    assert found["finds_100_vs_score_alone"] == pytest.approx(2)
    assert found["finds_10_vs_AAD_1_at_a_time"] == pytest.approx(1.5)
    assert found["finds_100_vs_all"] == pytest.approx(0.5)
    printed = capsys.readouterr().out
    assert "7.0 +- 1.0" in printed  # mean and spread over two surveys
    assert "finds_100_vs_score_alone=2.00" in printed


def test_the_benchmark_runs_all_methods_and_draws_them(
    pool: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "prepare_data", lambda *_: None)
    monkeypatch.setattr(discovery, "read_scored", lambda _: [pool])
    monkeypatch.setattr(discovery, "NUM_LABELS", (10, 25))
    found = main(["--repeats", "1", "--work", str(tmp_path)])
    assert found["finds_25_vs_all"] == 1
    assert found["finds_25_vs_score_alone"] > 1
    assert found["finds_25_vs_chance"] > 1
    assert "finds_25_vs_rerank_without_lines_and_hypotheses_5_at_a_time" in found
    with Image.open(tmp_path / "finds.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels == (0xD5, 0x5E, 0x00)).all(axis=-1).sum() > 100  # the line of `rerank`


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
