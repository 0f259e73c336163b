"""The steps of `score` that need no model: what is resumed, who calibrates, which galaxies are detections."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs.config import ProjectConfig
from jobs.models.survey_scores import Survey, labelled_finds, score_columns, with_survey_facts, work_folder
from modeling.labels.labels import Label, append
from modeling.scoring.config import ScoreConfig
from modeling.scoring.ensemble import SurveyScores
from modeling.scoring.hypotheses.explain import Hypothesis
from modeling.scoring.hypotheses.shard import Hypotheses

CONFIG = ProjectConfig(workspace=Path("runs"))


def folder(
    store: str = "a",
    digests: tuple[str, ...] = ("1",),
    num_left_out: int = 1,
    calibration: dict[str, Any] | None = None,
    **score: Any,
) -> Path:
    of_store: Any = SimpleNamespace(identity=store)
    of_model: Any = SimpleNamespace(digests=list(digests), num_left_out=num_left_out, calibration=calibration)
    return work_folder(CONFIG.model_copy(update={"score": ScoreConfig(**score)}), of_store, of_model)


def test_shards_are_resumed_for_the_same_models_store_and_calibration_alone() -> None:
    others = [{"store": "b"}, {"digests": ("2",)}, {"digests": ("1", "2")}, {"num_left_out": 2}]
    others += [{"calibration_galaxies": 99}, {"psf_fwhm_spaxels": 3.0}, {"calibration": {"fall": 0.5}}]
    assert len({folder(), *(folder(**changes) for changes in others)}) == 8
    assert folder(rank_by="mae", fdr=0.2, num_workers=2) == folder()


def survey(split: list[str], implausible: list[str] | None = None) -> Survey:
    galaxies = pd.DataFrame({"split": split} | ({} if implausible is None else {"implausible": implausible}))
    codes = np.array(["", "spike", "", "sky_line"][: len(split)])
    means: Any = SimpleNamespace(scores=SimpleNamespace(code=codes, velocity_kms=np.zeros(len(split))))
    ensemble: Any = None
    found = [Hypothesis("wing", "blue wing", 9.0, {"fwhm_kms": 500.0}), *[Hypothesis("", "", 0.0)] * 2]
    found.append(Hypothesis("unclear", "unclear: this; or that", 8.0))
    phrases = [["Ha excess", "Hb deficit"], [], [], ["Hb excess"]]
    return Survey(galaxies, means, phrases[: len(split)], Hypotheses.of(found[: len(split)]), [], ensemble)


def test_galaxies_that_a_model_was_fitted_to_or_selected_by_do_not_calibrate() -> None:
    found = survey(["train", "validation", "test", "validation"])
    assert found.calibrating(np.zeros(4, dtype=bool)).tolist() == [False, True, False, True]
    assert found.calibrating(np.array([1, 1, 0, 0], dtype=bool)).tolist() == [False, False, False, True]


def test_labelled_detections_are_those_of_objects_with_a_current_label_that_means_one(tmp_path: Path) -> None:
    names = [f"8000-190{i}" for i in range(6)]
    galaxies = pd.DataFrame({"plateifu": names, "mangaid": ["1-1", "1-2", "1-1", "1-3", "1-4", "1-5"]})
    config = CONFIG.model_copy(update={"workspace": tmp_path})
    assert not labelled_finds(config, galaxies).any(), "without labels"
    given = {0: "blueberry", 1: "artefact", 3: "merger", 4: "Usual"}
    append(config.labels_path, [Label(plateifu=names[i], label=label, author="ann") for i, label in given.items()])
    append(config.labels_path, [Label(plateifu=names[3], label="", author="ann")])
    append(config.labels_path, [Label(plateifu="9999-1", label="blueberry", author="ann")])
    assert labelled_finds(config, galaxies).tolist() == [True, False, True, False, False, False]


def columns(q_value: list[float], fdr: float = 0.1, implausible: list[str] | None = None) -> dict[str, Any]:
    values: dict[str, Any] = {name: np.zeros(4) for name in SurveyScores.__dataclass_fields__ if name != "by_redshift"}
    found = SurveyScores(**values | {"q_value": np.array(q_value), "by_redshift": None})
    return score_columns(survey(["train"] * 4, implausible), found, fdr)


def test_detections_are_within_the_nominal_rate_and_unknown_is_none() -> None:
    assert columns([0.05, 0.1, 0.11, np.nan])["is_find"].tolist() == [True, True, False, False]
    assert not columns([np.nan] * 4, fdr=0.99)["is_find"].any()


def test_doubtful_data_hide_other_codes() -> None:
    assert columns([1.0] * 4)["triage"].tolist() == ["", "spike", "", "sky_line"]
    doubted = columns([1.0] * 4, implausible=["", "flux 1e3 times", "noise", ""])
    assert doubted["triage"].tolist() == ["", "implausible", "implausible", "sky_line"]


def test_a_hypothesis_is_the_first_reason_also_where_two_are_as_good() -> None:
    found = columns([1.0] * 4)
    reasons = [[found[f"reason_{i}"][row] for i in (1, 2, 3)] for row in range(4)]
    assert reasons == [
        ["blue wing", "Ha excess", "Hb deficit"],
        ["", "", ""],
        ["", "", ""],
        ["unclear: this; or that", "Hb excess", ""],
    ]
    assert found["hypothesis"] == ["wing", "", "", "unclear"]
    assert found["hypothesis_text"][3] == "unclear: this; or that"
    assert found["hypothesis_fwhm_kms"][0] == 500
    assert np.isnan(found["hypothesis_fwhm_kms"][1])


@pytest.mark.parametrize(
    ("reader", "given", "expected"),
    [
        ("manga-logcube", {}, (5.0, 0.5)),
        ("sami", {}, (4.0, 0.5)),
        ("no.such.reader", {}, (5.0, None)),
        ("sami", {"psf_fwhm_spaxels": 3.0, "spaxel_arcsec": 0.7}, (3.0, 0.7)),
    ],
)
def test_what_is_configured_goes_before_the_surveys_facts(
    reader: str, given: dict[str, float], expected: tuple[float, float | None]
) -> None:
    store: Any = SimpleNamespace(attrs={"config": {"survey": {"reader": reader}}, "flux_unit": "erg"})
    found = with_survey_facts(CONFIG.model_copy(update={"score": ScoreConfig(**given)}), store).score
    assert (found.psf_fwhm_spaxels, found.spaxel_arcsec) == expected
