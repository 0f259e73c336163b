"""Galaxy scorer, its artefacts and significances: seeded cases with known answers."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from modeling.network.autoencoder import ConvLSTMAutoencoder, make_model
from modeling.network.inference import infer, reconstruct
from modeling.network.spaxel_code import local_amplitude
from modeling.scoring import artefacts
from modeling.scoring.galaxy_scorer import Arrays, GalaxyScorer, calibrate
from modeling.scoring.significance import ErrorSums, RegionSums, Residuals, Significance, TypicalSums
from modeling.training.config import TrainConfig
from modeling.training.objective import Objective

LINES, SAMPLES, SIZE = 4, 7, 16
VELOCITY = np.linspace(-207, 207, SAMPLES)
PSF_SIGMA = 2.1  # spaxels
SIGMA = 0.05


def profile(centre_kms: float = 0.0, sigma_kms: float = 80.0) -> np.ndarray:
    return np.exp(-0.5 * ((VELOCITY - centre_kms) / sigma_kms) ** 2)


def spot(y: float, x: float, sigma: float = PSF_SIGMA) -> np.ndarray:
    yy, xx = np.mgrid[:SIZE, :SIZE]
    return np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) / sigma**2)


def galaxies(num: int, seed: int = 0) -> Arrays:
    """Discs with a velocity field and one line ratio each, in normal noise."""
    rng = np.random.default_rng(seed)
    flux = np.empty((num, LINES, SAMPLES, SIZE, SIZE), np.float32)
    for i in range(num):
        disc = spot(7.5, 7.5, rng.uniform(3, 5)) * rng.uniform(1, 3)
        field = rng.uniform(-60, 60) * np.linspace(-1, 1, SIZE)
        cube = np.stack([profile(v) for v in field], axis=-1)[:, None, :] * disc
        flux[i] = np.array([1, 0.35, rng.uniform(0.2, 0.6), 0.25])[:, None, None, None] * cube
    flux += rng.normal(0, SIGMA, flux.shape).astype(np.float32)
    ivar = np.full(flux.shape, SIGMA**-2, np.float32)
    return flux, ivar, np.zeros(flux.shape, np.uint8)


@cache
def trained() -> GalaxyScorer:
    model = make_model(
        {"num_lines": LINES, "num_samples": SAMPLES, "size": SIZE, "latent_dim": 4, "step_channels": 2,
         "lstm_channels": 2, "decoder_channels": 2, "spaxel_code": 4}, seed=0,
    )  # fmt: skip
    flux, ivar, mask = galaxies(24)
    Objective(model, TrainConfig()).start_from(*map(torch.from_numpy, (flux, ivar, mask == 0)))

    def batches() -> Iterator[Arrays]:
        for seed in (0, 1):
            yield galaxies(24, seed)

    return calibrate(model, batches, VELOCITY, psf_fwhm_spaxels=2.3548 * PSF_SIGMA).regressed()


def with_light(light: np.ndarray, num: int = 3, seed: int = 7) -> Arrays:
    """Galaxies of which the first has some light added."""
    flux, ivar, mask = galaxies(num, seed)
    flux[0] += light.astype(np.float32)
    return flux, ivar, mask


def one_line(line: int, spectrum: np.ndarray, image: np.ndarray) -> np.ndarray:
    light = np.zeros((LINES, SAMPLES, SIZE, SIZE))
    light[line] = spectrum[:, None, None] * image
    return light


def network() -> ConvLSTMAutoencoder:
    return trained().model


def test_amplitude_is_the_root_mean_square_of_the_neighbourhood() -> None:
    flux, good = torch.full((1, 2, 3, 5, 5), 2.0), torch.ones(1, 2, 3, 5, 5, dtype=torch.bool)
    good[..., 0, 0] = False
    np.testing.assert_allclose(local_amplitude(flux * good, good), 2.0)
    np.testing.assert_array_equal(local_amplitude(torch.zeros_like(flux), torch.zeros_like(good)), 1.0)


def test_a_model_that_started_from_components_explains_typical_galaxies() -> None:
    flux, ivar, mask = galaxies(6, seed=3)
    residuals = Residuals.of(flux, ivar, mask, infer(network(), flux, ivar, mask).reconstruction)
    assert (residuals.residual**2 / residuals.variance).mean() < 1.3


def test_masked_samples_have_no_gradient_and_no_influence() -> None:
    flux, ivar, mask = galaxies(2, seed=4)
    mask[:, 1, 2:5, 4:8, 4:8] = 1
    tensors = [torch.from_numpy(values) for values in (flux, ivar)]
    tensors[0].requires_grad_(True)
    objective = Objective(network(), TrainConfig())
    loss = objective(*tensors, torch.from_numpy(mask == 0))["loss"].mean()
    loss.backward()
    assert tensors[0].grad is not None
    assert (tensors[0].grad[torch.from_numpy(mask != 0)] == 0).all()
    plain = trained().score(flux, ivar, mask)
    flux[mask != 0], ivar[mask != 0] = np.nan, 1e9
    spoiled = trained().score(flux, ivar, mask)
    np.testing.assert_array_equal(plain.significance, spoiled.significance)
    np.testing.assert_array_equal(plain.by_place, spoiled.by_place)


def test_brightness_does_not_matter() -> None:
    flux, ivar, mask = galaxies(3, seed=5)
    found, brighter = trained().score(flux, ivar, mask), trained().score(3 * flux, ivar / 9, mask)
    np.testing.assert_allclose(brighter.significance, found.significance, rtol=1e-3)


def test_rotation_and_flip_change_the_score_by_less_than_a_hundredth() -> None:
    flux, ivar, mask = with_light(one_line(1, profile(150), spot(4, 11)))
    found = trained().score(flux, ivar, mask)
    turned = trained().score(*(np.ascontiguousarray(np.rot90(a[..., ::-1], axes=(3, 4))) for a in (flux, ivar, mask)))
    np.testing.assert_allclose(turned.significance, found.significance, rtol=0.01)


def test_the_typical_error_adds_over_parts_and_is_robust_to_anomalies() -> None:
    rng = np.random.default_rng(6)
    flux, ivar, mask = galaxies(40, seed=6)
    flux += 10  # a level that makes the noise small
    found = Residuals.of(flux, ivar * 100, mask, flux)
    error = 0.05 * rng.normal(size=flux.shape) * found.amplitude[:, None, None]
    error[:1] *= 20
    found = replace(found, residual=error.astype(np.float32))
    parts = [
        ErrorSums.of(replace(found, **{n: getattr(found, n)[k : k + 10] for n in found.__dict__}))
        for k in (0, 10, 20, 30)
    ]
    whole = ErrorSums.of(found)
    np.testing.assert_allclose(ErrorSums.total(parts).score, whole.score, rtol=1e-4)
    assert (np.abs(np.log(whole.typical_error() / 0.05)) < np.log(1.5)).all()  # one of 40 is 20 times as far off


def test_noise_is_not_significant_and_a_spot_is_and_is_located() -> None:
    rng = np.random.default_rng(8)
    residual_sigma = rng.normal(size=(2, LINES, SAMPLES, SIZE, SIZE)).astype(np.float32)
    residual_sigma[1, 2, 3, 4:7, 9:12] += 8
    good = np.ones(residual_sigma.shape, dtype=bool)
    found = Significance.of(RegionSums.of(residual_sigma, good), TypicalSums.of_noise(LINES))
    assert found.region[0] < 6
    assert found.peak[1] > 4 * found.peak[0]
    assert np.unravel_index(found.by_spaxel[1].argmax(), (SIZE, SIZE)) == (5, 10)
    assert found.by_line[1].argmax() == 2


def test_each_reconstruction_has_a_typical_error_of_its_own() -> None:
    arrays = with_light(one_line(2, profile(sigma_kms=400), spot(4, 11)) * 2)
    scores = trained().score(*arrays).significance
    for name, changed, same in (("error", slice(0, 2), slice(2, 4)), ("latent_error", slice(2, 4), slice(0, 2))):
        lenient = replace(trained(), **{name: 100 * getattr(trained(), name)}).score(*arrays).significance
        assert (lenient[0, changed] < 0.9 * scores[0, changed]).all()
        np.testing.assert_allclose(lenient[0, same], scores[0, same], rtol=1e-5)


def test_unusual_light_raises_the_score_and_is_placed() -> None:
    light = one_line(2, profile(sigma_kms=400), spot(4, 11)) * 2
    scores = trained().score(*with_light(light))
    score = trained().combined(scores)
    assert score[0] > 5 + max(score[1:])
    assert scores.code[0] == ""
    y, x = np.unravel_index(scores.by_spaxel[0].argmax(), (SIZE, SIZE))
    assert abs(y - 4) <= 2
    assert abs(x - 11) <= 2
    assert scores.by_line[0].argmax() == 2
    assert not scores.triaged[0].any()


def test_what_is_sharper_than_the_psf_is_a_cosmic_ray_and_does_not_count() -> None:
    hit = one_line(1, np.eye(SAMPLES)[4], spot(5, 12, 0.5)) * 5
    scores = trained().score(*with_light(hit))
    assert scores.code[0] == "spike"
    flux, ivar, mask = with_light(hit)
    residuals = Residuals.of(flux, ivar, mask, infer(network(), flux, ivar, mask).reconstruction)
    sums = RegionSums.of(residuals.residual_sigma(trained().error), residuals.good)
    counted = Significance.of(sums, trained().typical[0]).table()[0]
    assert (np.expm1(scores.significance[0, :2]) < 0.2 * np.expm1(counted)).all()
    struck = np.zeros((LINES, SIZE, SIZE), dtype=bool)
    struck[1, 3:8, 10:15] = True
    np.testing.assert_array_equal(scores.triaged[0] > 0, struck)
    assert scores.triaged[0].max() == pytest.approx(min(5, SAMPLES) / SAMPLES)


def test_a_point_source_is_no_cosmic_ray() -> None:
    source = one_line(1, np.eye(SAMPLES)[4], spot(5, 12)) * 5
    scores = trained().score(*with_light(source))
    assert scores.code[0] == ""
    assert trained().combined(scores)[0] > 5


def test_a_galaxy_with_a_cosmic_ray_and_something_unusual_stays_unusual() -> None:
    hit = one_line(1, np.eye(SAMPLES)[4], spot(12, 3, 0.5)) * 5
    broad = one_line(2, profile(sigma_kms=400), spot(4, 11)) * 2
    scores = trained().score(*with_light(hit + broad))
    assert scores.code[0] == "spike"
    assert trained().combined(scores)[0] > 5


def test_one_wavelength_over_the_whole_bundle_is_the_sky() -> None:
    stripe = one_line(3, np.eye(SAMPLES)[2], np.ones((SIZE, SIZE))) * 0.3
    scores = trained().score(*with_light(stripe))
    assert scores.code[0] == "sky_line"
    assert trained().combined(scores)[0] < 5


def test_what_lies_in_the_outermost_spaxels_alone_is_an_edge() -> None:
    residual_sigma = np.zeros((1, LINES, SAMPLES, SIZE, SIZE), np.float32)
    good = np.ones(residual_sigma.shape, dtype=bool)
    residual_sigma[..., 0] = 20
    assert artefacts.edge_spaxels(residual_sigma, good)[0, :, 0].all()
    residual_sigma[..., 8:10] = 20
    assert not artefacts.edge_spaxels(residual_sigma, good).any()


def test_few_good_samples_get_the_code_mask() -> None:
    flux, ivar, mask = galaxies(2, seed=9)
    mask[0, :, :5] = 1
    assert trained().score(flux, ivar, mask).code.tolist() == ["mask", ""]


def test_displacement_is_measured_where_lines_agree() -> None:
    flux, ivar, _ = galaxies(1, seed=10)
    good = np.ones(flux.shape, dtype=bool)
    still = np.broadcast_to(profile()[None, None, :, None, None] * spot(7, 7, 4), flux.shape)
    moved = np.broadcast_to(profile(30)[None, None, :, None, None] * spot(7, 7, 4), flux.shape)
    assert artefacts.displacement_kms(still, 1 / ivar, good, VELOCITY)[0] == pytest.approx(0, abs=1)
    assert artefacts.displacement_kms(moved, 1 / ivar, good, VELOCITY)[0] == pytest.approx(30, abs=4)
    torn = moved.copy()
    torn[:, ::2] = profile(-150)[:, None, None] * spot(7, 7, 4)
    assert np.isnan(artefacts.displacement_kms(torn, 1 / ivar, good, VELOCITY)[0])


def test_a_galaxy_at_a_wrong_redshift_is_flagged_and_scored_nearer_the_right_one() -> None:
    flux, ivar, mask = galaxies(3, seed=11)
    flux[0] = np.roll(flux[0], 2, axis=1)
    scores = trained().score(flux, ivar, mask)
    assert scores.code.tolist() == ["redshift", "", ""]
    assert 60 < scores.velocity_kms[0] < 150  # the window cuts off what was moved by 138 km/s
    as_it_is = replace(trained(), line_offsets=artefacts.LineOffsets(0.0, np.inf))
    left = as_it_is.score(flux, ivar, mask)
    assert left.code[0] != "redshift"
    assert (np.expm1(scores.significance[0, :2]) < 0.6 * np.expm1(left.significance[0, :2])).all()


def test_a_known_offset_is_believed() -> None:
    flux, ivar, mask = galaxies(3, seed=11)
    flux[:2] = np.roll(flux[:2], 2, axis=2)
    known_offset_kms = np.array([2 * float(np.diff(VELOCITY)[0]), -1000, np.nan])
    scores, measured = trained().score(flux, ivar, mask, known_offset_kms), trained().score(flux, ivar, mask)
    assert scores.code.tolist() == ["redshift", "redshift", ""]
    np.testing.assert_allclose(scores.velocity_kms[:2], known_offset_kms[:2])
    assert (scores.significance[0, :2] < measured.significance[0, :2]).all()
    np.testing.assert_array_equal(scores.significance[1], 0)  # the lines are not in the windows
    np.testing.assert_array_equal(scores.significance[2], measured.significance[2])
    assert np.isfinite(trained().combined(scores)).tolist() == [True, False, True]


def test_the_latent_reconstructs_a_turned_galaxy_as_it_does_the_galaxy() -> None:
    windows = galaxies(2, seed=12)
    turned = tuple(np.ascontiguousarray(np.rot90(values[..., ::-1], axes=(3, 4))) for values in windows)
    found, again = (reconstruct(network(), *arrays, from_latent=True) for arrays in (windows, turned))
    np.testing.assert_allclose(again, np.rot90(found[..., ::-1], axes=(3, 4)), atol=1e-4)
    assert np.abs(again - found).max() > 0.01
    one = reconstruct(network(), *(values[1:] for values in windows), from_latent=True)
    np.testing.assert_allclose(one, found[1:], atol=1e-5)


@pytest.mark.slow
def test_typical_spectra_where_no_galaxy_has_them_are_significant_in_the_latent() -> None:
    model = copy.deepcopy(network())
    objective, optimizer = Objective(model, TrainConfig()), torch.optim.Adam(model.parameters(), lr=0.003)
    flux, ivar, mask = galaxies(24)
    for _ in range(40):
        optimizer.zero_grad()
        objective(*map(torch.from_numpy, (flux, ivar, mask == 0)))["loss"].mean().backward()
        optimizer.step()
    scorer = calibrate(
        model, lambda: (galaxies(24, seed) for seed in (1, 2, 3)), VELOCITY, psf_fwhm_spaxels=2.3548 * PSF_SIGMA
    ).regressed()
    flux, ivar, mask = galaxies(6, seed=13)
    usual = np.array([1, 0.35, 0.4, 0.25])[:, None] * profile()
    flux += (3 * usual[..., None, None] * spot(3, 12)).astype(np.float32)
    scores = scorer.score(flux, ivar, mask)
    # A median over galaxies: each network whose sums were rounded in another order has latents of its own.
    spectra, _, image, _ = (
        np.median(regression.transform(scores.significance[:, i], scores.nuisances))
        for i, regression in enumerate(scorer.regressions)
    )
    assert image > spectra + 2


def test_the_windows_stay_as_they_were_and_a_scorer_survives_json() -> None:
    arrays = with_light(one_line(1, np.eye(SAMPLES)[4], spot(5, 12, 0.5)) * 5)
    before = [array.copy() for array in arrays]
    first = trained().combined(trained().score(*arrays))
    for array, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, was)
    again = GalaxyScorer.from_json(network(), trained().to_json())
    np.testing.assert_allclose(again.combined(again.score(*arrays)), first, rtol=1e-5)


def test_a_scorer_of_an_earlier_version_is_refused() -> None:
    state = trained().to_json()
    del state["typical"]
    with pytest.raises(ValueError, match="calibrated by an earlier version"):
        GalaxyScorer.from_json(network(), state)


def test_nothing_to_calibrate_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="no galaxy"):
        calibrate(network(), lambda: iter(()), VELOCITY, psf_fwhm_spaxels=5)
