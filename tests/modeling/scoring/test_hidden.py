"""Scores of a masked network: seeded cases with known answers."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from modeling.network.config import ModelConfig
from modeling.network.make import make_network
from modeling.network.masked_network import MaskedPredictor
from modeling.scoring import artefacts
from modeling.scoring.ensemble import average
from modeling.scoring.galaxy_scorer import GalaxyScorer, calibrate
from modeling.scoring.hidden import HiddenResiduals
from modeling.training.config import TrainConfig
from modeling.training.masked_objective import MaskedObjective
from tests.modeling.scoring.test_galaxy_scorer import (
    LINES,
    PSF_SIGMA,
    SAMPLES,
    SIZE,
    VELOCITY,
    galaxies,
    one_line,
    profile,
    spot,
    with_light,
)

pytestmark = pytest.mark.slow  # a training of five seconds

NAMES = ["Hb-4862", "OIII-5008", "SII-6718", "NII-6585"]
STEPS, BATCH = 100, 12


@cache
def trained() -> GalaxyScorer:
    config = ModelConfig(kind="masked", latent_dim=4, context_channels=16, lstm_channels=4)
    model = make_network(config, (LINES, SAMPLES, SIZE), NAMES, seed=0)
    assert isinstance(model, MaskedPredictor)
    objective = MaskedObjective(model, TrainConfig(loss="student-t"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(STEPS):
        flux, ivar, mask = galaxies(BATCH, seed=100 + step)
        optimizer.zero_grad()
        rows = map(torch.from_numpy, (flux, ivar, mask == 0))
        tensors = objective.prepared(*rows, step_seed=step, device=torch.device("cpu"))
        objective(*tensors)["loss"].mean().backward()
        optimizer.step()
    return calibrate(model, lambda: iter([galaxies(24, 0)]), VELOCITY, psf_fwhm_spaxels=2.3548 * PSF_SIGMA).regressed()


def test_typical_galaxies_are_predicted_to_within_noise_and_predicted_error() -> None:
    model = trained().model
    assert isinstance(model, MaskedPredictor)
    found = HiddenResiduals.predicted(model, *galaxies(8, seed=3), "cpu")
    for sigma in (found.from_patches, found.from_squares):
        assert 0.5 < (sigma**2).mean() < 1.5


def test_a_line_that_does_not_go_with_the_others_shows_in_the_prediction_from_patches() -> None:
    light = one_line(2, profile(sigma_kms=400), spot(4, 11)) * 2
    scores = trained().score(*with_light(light))
    score = trained().combined(scores)
    assert score[0] > 5 + max(score[1:])
    assert scores.code[0] == ""
    y, x = np.unravel_index(scores.by_spaxel[0].argmax(), (SIZE, SIZE))
    assert abs(y - 4) <= 2
    assert abs(x - 11) <= 2
    assert scores.by_line[0].argmax() == 2
    line, y, x = np.unravel_index(scores.by_place[0].argmax(), scores.by_place[0].shape)
    assert line == 2
    assert abs(y - 4) <= 2
    assert abs(x - 11) <= 2


def test_usual_spectra_at_an_unusual_place_show_in_the_prediction_from_squares() -> None:
    usual = np.array([1, 0.35, 0.4, 0.25])[:, None] * profile()
    scores = trained().score(*with_light(3 * usual[..., None, None] * spot(3, 12)))
    of_patches, of_squares = scores.significance[:, :2], scores.significance[:, 2:]
    assert (of_squares[0] > of_squares[1:].max() + 1).all()
    assert (of_squares[0] > of_patches[0]).all()
    y, x = np.unravel_index(scores.by_spaxel[0].argmax(), (SIZE, SIZE))
    assert abs(y - 3) <= 2
    assert abs(x - 12) <= 2
    assert scores.by_place[0].max() > 4  # so that it has a reason


def test_masked_samples_have_no_influence() -> None:
    flux, ivar, mask = galaxies(2, seed=4)
    mask[:, 1, 2:5, 4:8, 4:8] = 1
    plain = trained().score(flux, ivar, mask)
    flux[mask != 0], ivar[mask != 0] = np.nan, 1e9
    spoiled = trained().score(flux, ivar, mask)
    for name in ("significance", "by_place", "by_sample", "latent", "nll"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(spoiled, name))


def test_brightness_does_not_matter() -> None:
    flux, ivar, mask = galaxies(3, seed=5)
    found, brighter = trained().score(flux, ivar, mask), trained().score(3 * flux, ivar / 9, mask)
    np.testing.assert_allclose(brighter.significance, found.significance, rtol=0.01, atol=0.01)


def test_a_cosmic_ray_is_flagged_and_does_not_count_and_a_point_source_does() -> None:
    hit = one_line(1, np.eye(SAMPLES)[4], spot(5, 12, 0.5)) * 5
    scores = trained().score(*with_light(hit))
    assert scores.code.tolist() == ["spike", "", ""]
    left_in = replace(trained(), fall=0.01).score(*with_light(hit))
    assert left_in.code[0] == ""
    assert (scores.significance[0] < left_in.significance[0] - 0.5).all()
    source = trained().score(*with_light(one_line(1, np.eye(SAMPLES)[4], spot(5, 12)) * 5))
    assert source.code[0] == ""
    assert trained().combined(source)[0] > 5


def test_one_wavelength_over_the_whole_bundle_is_the_sky() -> None:
    stripe = one_line(3, np.eye(SAMPLES)[2], np.ones((SIZE, SIZE))) * 0.5
    scores = trained().score(*with_light(stripe))
    assert scores.code[0] == "sky_line"
    assert trained().combined(scores)[0] < 5


def test_a_galaxy_at_a_wrong_redshift_is_scored_nearer_the_right_one() -> None:
    flux, ivar, mask = galaxies(3, seed=11)
    flux[0] = np.roll(flux[0], 2, axis=1)
    scores = trained().score(flux, ivar, mask)
    assert scores.code.tolist() == ["redshift", "", ""]
    left = replace(trained(), line_offsets=artefacts.LineOffsets(0.0, np.inf)).score(flux, ivar, mask)
    assert left.code[0] != "redshift"
    assert scores.significance[0].mean() < left.significance[0].mean()


def test_a_galaxy_without_good_samples_has_no_score() -> None:
    flux, ivar, mask = galaxies(3, seed=9)
    mask[0] = 1
    known = np.array([np.nan, 3 * (VELOCITY[-1] - VELOCITY[0]), np.nan])  # its lines lie outside its windows
    scores = trained().score(flux, ivar, mask, known)
    np.testing.assert_array_equal(scores.significance[:2], 0)
    assert np.isfinite(trained().combined(scores)).tolist() == [False, False, True]


def test_a_galaxy_hidden_whole_is_not_compared_with_a_guess() -> None:
    """Of so few spaxels nothing is left to measure the brightness from: no unit of the flux may matter."""
    flux, ivar, mask = galaxies(2, seed=9)
    mask[0, :, :, :, :8] = mask[0, :, :, :, 11:] = 1
    mask[0, :, :, :8] = mask[0, :, :, 11:] = 1
    found = [trained().score(unit * flux, ivar / unit**2, mask) for unit in (np.float32(1e-3), np.float32(1e3))]
    np.testing.assert_allclose(found[0].significance, found[1].significance, rtol=1e-3, atol=1e-3)


def test_a_scorer_survives_json_and_averages_with_others() -> None:
    arrays = with_light(one_line(2, profile(sigma_kms=400), spot(4, 11)) * 2)
    before = [array.copy() for array in arrays]
    scores = trained().score(*arrays)
    for array, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, was)
    again = GalaxyScorer.from_json(trained().model, trained().to_json())
    found = again.score(*arrays)
    np.testing.assert_allclose(again.combined(found), trained().combined(scores), rtol=1e-5)
    mean = average([trained(), again], [scores, found], np.ones((2, 3), dtype=bool))
    np.testing.assert_allclose(mean.combined, trained().combined(scores), rtol=1e-5)
    assert mean.spread == pytest.approx(np.zeros(3), abs=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_scores_as_a_cpu_does() -> None:
    windows = galaxies(8, seed=5)
    expected, found = trained().score(*windows), replace(trained(), device="cuda").score(*windows)
    np.testing.assert_allclose(found.significance, expected.significance, atol=1e-3)
    trained().model.cpu()
