"""The constants of a survey, from its reader through the store to whoever asks the store."""

from pathlib import Path
from typing import Any

import pytest

from cubeprep.cluster import DaskConfig
from cubeprep.facts import SurveyFacts
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.readers.manga_logcube import Reader
from cubeprep.simulate.survey import IDENTITY_FILE
from cubeprep.store import WindowStore
from cubeprep.survey import SurveyConfig, survey_facts
from cubeprep.windows import WindowConfig
from tests.logcube import write_survey


def store_attrs(tmp_path: Path, name: str, **windows: Any) -> dict[str, Any]:
    job = PrepareConfig(windows=WindowConfig(size=8, **windows), dask=DaskConfig(num_workers=0))
    prepare(job, SurveyConfig(root=str(tmp_path / "survey")), str(tmp_path / name), seed=0)
    return dict(WindowStore.open(str(tmp_path / name)).attrs)


def test_a_store_keeps_the_facts_of_its_survey(tmp_path: Path) -> None:
    write_survey(tmp_path / "survey", {"1-1": 0.03}, size=8)
    attrs = store_attrs(tmp_path, "s")
    assert survey_facts(attrs) == Reader.facts
    assert survey_facts(attrs).psf_fwhm_spaxels == 5
    assert survey_facts(attrs).north_up
    binned = survey_facts(store_attrs(tmp_path, "binned", space="bin", bin_factor=3))
    assert (binned.spaxel_arcsec, binned.psf_fwhm_arcsec) == (1.5, 2.5)
    (tmp_path / "survey" / IDENTITY_FILE).write_text("{}")
    assert store_attrs(tmp_path, "simulated")["survey_facts"]["page_url"] == ""


def test_the_facts_are_no_part_of_a_stores_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_survey(tmp_path / "survey", {"1-1": 0.03}, size=8)
    first = store_attrs(tmp_path, "s")
    monkeypatch.setattr(Reader, "facts", SurveyFacts(Reader.facts.flux_unit, 0.4))
    assert store_attrs(tmp_path, "again")["identity"] == first["identity"]
    assert survey_facts(store_attrs(tmp_path, "s")).spaxel_arcsec == 0.5, "a finished store is left as it is"


def test_stores_of_earlier_versions_get_the_facts_of_their_reader() -> None:
    attrs: dict[str, Any] = {"flux_unit": "u", "config": {"survey": {"reader": "sami"}}}
    assert survey_facts(attrs).spaxel_arcsec == 0.5
    assert "simbad" in survey_facts(attrs).page_url
    attrs["config"] = {"survey": {"reader": "gone.reader"}, "prepare": {"windows": {"space": "bin", "bin_factor": 2}}}
    assert survey_facts(attrs) == SurveyFacts("u")
    attrs["config"] = {}
    assert survey_facts(attrs) == SurveyFacts("u")
    attrs["survey_facts"] = {"flux_unit": "v", "spaxel_arcsec": 0.2, "of a later version": 1}
    assert survey_facts(attrs) == SurveyFacts("v", 0.2)


def test_a_grid_in_effective_radii_has_no_spaxel_size_of_its_own() -> None:
    windows = {"space": "scale-to-re", "bin_factor": 2}
    attrs = {"config": {"survey": {"reader": "sami"}, "prepare": {"windows": windows}}}
    assert survey_facts(attrs).spaxel_arcsec is None
    assert survey_facts(attrs).psf_fwhm_spaxels is None
