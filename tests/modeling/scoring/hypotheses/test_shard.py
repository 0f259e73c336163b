"""Hypotheses of the galaxies of a shard, and of which stores."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modeling.scoring.hypotheses.explain import VALUES, Hypothesis
from modeling.scoring.hypotheses.shard import Hypotheses, hypotheses, survey_of
from tests.modeling.scoring.hypotheses.galaxies import (
    AGN,
    LINES,
    PSF_SIGMA,
    SURVEY,
    VELOCITY_KMS,
    Galaxy,
    spectrum,
    spot,
)

OFF = (4, 11)
SHAPE = (1, len(LINES.names), len(VELOCITY_KMS), 16, 16)


def store(continuum: str | None) -> Any:
    values = {"rest_wave": np.array(LINES.rest_wave), "velocity_kms": np.array(VELOCITY_KMS)}
    return SimpleNamespace(
        window_settings={"prepare.windows.continuum": continuum},
        splits=["train"],
        line_names=list(LINES.names),
        coordinate=lambda split, name: values[name],
    )


@pytest.mark.parametrize("continuum", [None, "none"])
def test_a_continuum_in_the_windows_is_not_explained(continuum: str | None) -> None:
    assert survey_of(store(continuum), 2.5, 1.0) is None


def test_lines_and_psf_are_those_of_the_store() -> None:
    survey = survey_of(store("sidebands"), 2.3548 * PSF_SIGMA, 1.0)
    assert survey == SURVEY
    assert survey_of(store("sidebands"), 2.3548 * PSF_SIGMA, 1.0, north_up=True) == replace(SURVEY, north_up=True)


def test_only_significant_regions_are_explained_at_their_place() -> None:
    galaxy = Galaxy(seed=7).add(spectrum(AGN, 0.0, 110.0), spot(*OFF), 1000)
    flux, ivar = (values.reshape(SHAPE).astype(np.float32) for values in (galaxy.flux, 1 / galaxy.variance))
    mask = np.zeros(SHAPE, dtype=np.uint8)
    by_spaxel = np.zeros((1, 16, 16))
    by_spaxel[0, 4, 11] = 30.0
    found = hypotheses(SURVEY, (flux, ivar, mask), by_spaxel, np.array([0.03]))
    assert found.name.tolist() == ["agn_ratios"]
    assert found.significance[0] > 7
    assert np.isfinite(found.values[0, list(VALUES).index("log_oiii_hb")])
    for other, significance in ((SURVEY, by_spaxel / 10), (None, by_spaxel), (SURVEY, np.nan * by_spaxel)):
        nothing = hypotheses(other, (flux, ivar, mask), significance, np.array([0.03]))
        assert nothing.name.tolist() == [""]
        assert nothing.significance.tolist() == [0]


@pytest.mark.parametrize(("samples", "named"), [(2, "redshift"), (7, "shifted_images"), (8, "")])
def test_a_displacement_that_is_known_from_wider_windows_is_the_hypothesis(samples: int, named: str) -> None:
    galaxy = Galaxy(seed=1)
    cube = galaxy.flux.reshape(SHAPE)
    moved = np.concatenate([np.zeros_like(cube[:, :, :samples]), cube[:, :, :-samples]], axis=2).astype(np.float32)
    arrays = moved, (1 / galaxy.variance).reshape(SHAPE).astype(np.float32), np.zeros(SHAPE, dtype=np.uint8)
    by_spaxel = np.zeros((1, 16, 16))
    by_spaxel[0, 4, 11] = 30.0
    measured = hypotheses(SURVEY, arrays, by_spaxel, np.array([0.03]), np.array([np.nan]))
    known = hypotheses(SURVEY, arrays, by_spaxel, np.array([0.03]), np.array([-617.0]))
    column = list(VALUES).index("velocity_kms")
    assert measured.name == [named]
    assert known.name == ["redshift"]
    assert np.isfinite(known.values[0]).tolist() == [name == "velocity_kms" for name in VALUES]
    assert known.values[0, column] == -617
    assert known.text[0] == "wrong redshift: all lines of the galaxy at -617 km/s"
    assert known.significance == (measured.significance or by_spaxel.max())


def test_parts_are_joined_in_order() -> None:
    one = Hypotheses.of([Hypothesis("wing", "blue wing", 9.0, {"fwhm_kms": 500.0})])
    two = Hypotheses.of([])
    joined = Hypotheses.concatenate([two, one, one])
    assert joined.name.tolist() == ["wing", "wing"]
    assert joined.values.shape == (2, len(VALUES))
