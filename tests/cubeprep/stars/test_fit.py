"""Kinematics and populations of spectra that are made from the templates' own models, with dust, noise and lines."""

from dataclasses import replace

import numpy as np
import pytest

from cubeprep.lines import LINES_BY_NAME, SPEED_OF_LIGHT_KMS
from cubeprep.simulate.instrument import WAVE
from cubeprep.simulate.spectrum import extinction
from cubeprep.simulate.stars import template
from cubeprep.stars.blocks import BlockSpectra
from cubeprep.stars.kinematics import measure
from cubeprep.stars.population import LEAST_ERROR, Stars, fit_stars, relative_error
from cubeprep.stars.spectra import RestSpectra, line_regions, rest_spectra
from cubeprep.stars.templates import LOG_STEP, PIXEL_KMS, shifted, template_sigma_kms, templates

Z = 0.032
KINDS = {
    "old": (("old", 0.05),),
    "old, metal-poor": (("old", -0.4),),
    "mixed": (("young", -0.26), ("middle", -0.26), ("old", -0.41)),
}


def starlight(kind: str, sigma_kms: float = 150.0, ebv: float = 0.0, velocity_kms: float = 0.0) -> np.ndarray:
    z = (1 + Z) * (1 + velocity_kms / SPEED_OF_LIGHT_KMS) - 1
    flux = sum(template(name, metals, z, sigma_kms, 0).astype(float) for name, metals in KINDS[kind])
    flux *= 10 ** (-0.4 * ebv * (extinction(WAVE / (1 + Z)) - extinction(5500.0)))
    return flux / np.median(flux)


def spectra_of(*fluxes: np.ndarray, snr: float = 100.0, wave: np.ndarray = WAVE, seed: int = 0) -> RestSpectra:
    flux = np.stack(fluxes, axis=1) + np.random.default_rng(seed).normal(0, 1 / snr, (len(wave), len(fluxes)))
    variance = np.full(flux.shape, snr**-2)
    block = BlockSpectra(flux.astype(np.float32), variance.astype(np.float32), variance > 0, wave)
    return rest_spectra([block], Z, (3700, 6850))


def fitted(spectra: RestSpectra) -> Stars:
    stars = fit_stars(spectra)
    assert stars is not None
    return stars


def missed_width(spectra: RestSpectra, model: np.ndarray, truth: np.ndarray, line: str) -> float:
    """Equivalent width by which a model misses the stars within 480 km/s of a line, Angstrom."""
    wave = 10**spectra.log_wave
    rest_wave = LINES_BY_NAME[line].rest_wave
    near = np.abs(wave / rest_wave - 1) * SPEED_OF_LIGHT_KMS < 480
    stars = np.interp(wave, WAVE / (1 + Z), truth)[near]
    return float(((model[near] - stars) / stars.mean()).sum() * rest_wave * np.log(10) * LOG_STEP)


@pytest.mark.parametrize("ebv", [0.0, 0.35])
@pytest.mark.parametrize("kind", KINDS)
def test_the_absorption_below_the_balmer_lines_is_found_with_and_without_dust(kind: str, ebv: float) -> None:
    truth = starlight(kind, ebv=ebv)
    spectra = spectra_of(truth)
    stars = fitted(spectra)
    for line in ("Hb-4862", "Hgam-4341", "Hdel-4102"):
        assert abs(missed_width(spectra, stars.total.model, truth, line)) < 0.15
    assert stars.total.scatter < 0.015
    assert stars.total.used.mean() > 0.7


def test_emission_lines_and_a_spike_do_not_change_the_stars() -> None:
    truth = starlight("mixed", ebv=0.2)
    lines = np.zeros_like(truth)
    for name, flux in (("Hb-4862", 8.0), ("Ha-6564", 30.0), ("OIII-5008", 20.0), ("NII-6585", 9.0)):
        centre = LINES_BY_NAME[name].rest_wave * (1 + Z)
        lines += flux / 3 * np.exp(-0.5 * ((WAVE - centre) / 2.5) ** 2)
    lines[2000:2003] += 30.0
    spectra = spectra_of(truth + lines)
    stars = fitted(spectra)
    assert abs(missed_width(spectra, stars.total.model, truth, "Hb-4862")) < 0.15


@pytest.mark.parametrize(("velocity", "sigma"), [(0.0, 90.0), (180.0, 150.0), (-260.0, 220.0)])
def test_velocity_and_dispersion_are_measured(velocity: float, sigma: float) -> None:
    stars = fitted(spectra_of(starlight("old", sigma, velocity_kms=velocity)))
    assert stars.total_kinematics.velocity_kms[0] == pytest.approx(velocity, abs=8)
    assert stars.total_kinematics.sigma_kms[0] == pytest.approx(sigma, abs=15)


def test_each_bin_has_its_own_velocity() -> None:
    velocities = [-150.0, 0.0, 150.0]
    stars = fitted(spectra_of(*(starlight("mixed", 80.0, velocity_kms=v) for v in velocities), snr=60))
    np.testing.assert_allclose(stars.kinematics.velocity_kms, velocities, atol=12)
    again = measure(spectra_of(starlight("mixed", 80.0)), stars.total.weights, np.ones_like(stars.total.polynomial))
    assert abs(again.velocity_kms[0]) < 10


def test_two_arms_with_different_calibration_share_a_population() -> None:
    truth = starlight("mixed")
    blue, red = (WAVE > 3700) & (WAVE < 5700), (WAVE > 6300) & (WAVE < 7200)
    arms = []
    for where, factor, step in ((blue, 1.0, 1.05), (red, 1.4, 0.57)):  # linear grids, as SAMI's
        wave = np.arange(WAVE[where][0], WAVE[where][-1], step)
        flux = factor * np.interp(wave, WAVE, truth)[:, None] + np.random.default_rng(1).normal(0, 0.01, (len(wave), 1))
        arms.append(BlockSpectra(flux.astype(np.float32), np.full_like(flux, 1e-4), flux > 0, wave))
    spectra = rest_spectra(arms, Z, (3700, 6850))
    assert set(np.unique(spectra.arm)) == {0, 1}
    assert not (spectra.ivar[0] > 0)[(10**spectra.log_wave > 5600) & (10**spectra.log_wave < 6000)].any()
    stars = fitted(spectra)
    assert abs(missed_width(spectra, stars.total.model, truth, "Hb-4862")) < 0.25


@pytest.mark.parametrize("kind", ["old", "mixed"])
def test_light_without_lines_in_one_arm_is_told_from_that_of_the_stars(kind: str) -> None:
    truth = starlight(kind)
    blue, red = (WAVE > 3700) & (WAVE < 5700), (WAVE > 6300) & (WAVE < 7200)
    arms = []
    for where, added in ((blue, 0.25), (red, 0.0)):
        flux = (truth[where] + added)[:, None]
        flux = flux + np.random.default_rng(2).normal(0, 0.005, flux.shape)
        arms.append(BlockSpectra(flux.astype(np.float32), np.full_like(flux, 2.5e-5), flux > 0, WAVE[where]))
    spectra = rest_spectra(arms, Z, (3700, 6850))
    stars = fitted(spectra)
    shares = stars.total.weights / stars.total.weights.sum()
    assert 0.1 < shares[-2] < 0.25, "0.2; metal-poor, young stars can be taken for some of it"
    assert shares[-1] < 0.05
    assert abs(missed_width(spectra, stars.total.model, truth + 0.25, "Hb-4862")) < 0.15
    assert abs(missed_width(spectra, stars.total.model, truth, "Ha-6564")) < 0.15


def test_stars_without_such_light_are_fitted_without_it() -> None:
    for kind in KINDS:
        weights = fitted(spectra_of(starlight(kind))).total.weights
        assert weights[-1] / weights.sum() < 0.05


def test_the_error_of_the_model_is_what_its_residuals_exceed_the_noise_by() -> None:
    truth = starlight("old")
    wrong = 1 + np.where(WAVE < 5000, 0.03, 0.0) * np.random.default_rng(3).normal(0, 1, len(WAVE))
    spectra = spectra_of(truth * wrong)
    error, wave = relative_error(spectra.total(), fitted(spectra).total), 10**spectra.log_wave
    assert np.median(error[wave < 4600]) == pytest.approx(0.03, rel=0.15)
    assert np.median(error[wave > 5100]) < 0.01
    assert error.min() == pytest.approx(LEAST_ERROR)


def test_a_sharper_arm_has_narrower_lines_but_the_same_stars() -> None:
    sharper = 75.0  # km/s, by which the red arm exceeds the resolution of the templates, in quadrature
    truth = {0.0: starlight("old", 140.0), sharper: starlight("old", float(np.sqrt(140.0**2 - sharper**2)))}
    arms, together = [], np.zeros_like(WAVE)
    for (less, flux), where in zip(truth.items(), ((WAVE > 3700) & (WAVE < 5700), (WAVE > 6000)), strict=True):
        wave = WAVE[where]
        noisy = flux[where][:, None] + np.random.default_rng(4).normal(0, 0.005, (len(wave), 1))
        sigma = np.sqrt(np.maximum(template_sigma_kms(wave / (1 + Z)) ** 2 - less**2, 0))
        arms.append(BlockSpectra(noisy.astype(np.float32), np.full_like(noisy, 2.5e-5), noisy > 0, wave, sigma))
        together[where] = flux[where]
    limits = (3700, 8500)
    known, unknown = (
        fitted(rest_spectra([replace(arm, lsf_sigma_kms=lsf(arm)) for arm in arms], Z, limits))
        for lsf in (lambda arm: arm.lsf_sigma_kms, lambda arm: None)
    )
    assert known.total_kinematics.sigma_kms[0] == pytest.approx(140, abs=10)
    spectra = rest_spectra(arms, Z, limits)
    stars = np.interp(10**spectra.log_wave, WAVE / (1 + Z), together)
    red = (spectra.arm == 1) & (spectra.ivar[0] > 0)
    errors = [np.std((fit.total.model - stars)[red]) for fit in (known, unknown)]
    assert errors[0] < 0.9 * errors[1]


def test_a_spectrum_of_too_few_samples_is_not_fitted() -> None:
    short = WAVE[(WAVE > 4000) & (WAVE < 4100)]
    assert fit_stars(spectra_of(np.ones(len(short)), wave=short)) is None


def test_shifting_by_whole_pixels_copies_and_by_parts_interpolates() -> None:
    x = np.arange(200.0)
    spectrum = np.exp(-0.5 * ((x - 100) / 3) ** 2)[None]
    np.testing.assert_array_equal(shifted(spectrum, 10, 50), spectrum[:, 10:60])
    want = np.exp(-0.5 * ((np.arange(50) + 80.4 - 100) / 3) ** 2)
    np.testing.assert_allclose(shifted(spectrum, 80.4, 50)[0], want, atol=2e-3)
    beyond = shifted(spectrum + 1, 195.5, 20)
    np.testing.assert_allclose(beyond[0, 6:], 1.0, atol=1e-6)


def test_broadening_keeps_the_light() -> None:
    sharp, broad = templates(), templates(200.0)
    assert broad.flux.std(axis=1).mean() < sharp.flux.std(axis=1).mean()
    np.testing.assert_allclose(broad.flux.mean(axis=1), sharp.flux.mean(axis=1), rtol=2e-3)
    assert pytest.approx(69.03, abs=0.01) == PIXEL_KMS


def test_lines_are_masked_and_the_continuum_between_them_is_not() -> None:
    near = line_regions(np.array([4862.7, 4862.7 * (1 + 400 / SPEED_OF_LIGHT_KMS), 4780.0, 5250.0, 6564.6]))
    assert near.tolist() == [True, True, False, False, True]


def broad_balmer(excess: float, fwhm_kms: float) -> np.ndarray:
    """Broad Balmer lines [plane] that raise a spectrum of level 1 by `excess` at the peak of Halpha."""
    found = np.zeros(len(WAVE))
    for name, strength in {"Ha-6564": 1.0, "Hb-4862": 0.4, "Hgam-4341": 0.2, "Hdel-4102": 0.1}.items():
        velocity = (WAVE / (1 + Z) / LINES_BY_NAME[name].rest_wave - 1) * SPEED_OF_LIGHT_KMS
        found += excess * strength * np.exp(-0.5 * (velocity / (fwhm_kms / 2.3548)) ** 2)
    return found


@pytest.mark.parametrize("fwhm_kms", [3000.0, 5000.0])
@pytest.mark.parametrize("excess", [0.5, 3.0])
def test_broad_lines_are_not_taken_for_stars(excess: float, fwhm_kms: float) -> None:
    truth = starlight("mixed", ebv=0.1)
    broad = broad_balmer(excess, fwhm_kms)
    spectra = spectra_of(truth + broad)
    stars = fitted(spectra)
    assert stars.broad
    wave = 10**spectra.log_wave
    left = np.interp(wave, WAVE / (1 + Z), truth + broad) - stars.total.model
    for name, most in (("Ha-6564", 0.1), ("Hb-4862", 0.2)):
        near = np.abs(wave / LINES_BY_NAME[name].rest_wave - 1) * SPEED_OF_LIGHT_KMS < 1000
        expected = np.interp(wave[near], WAVE / (1 + Z), broad).sum()
        assert left[near].sum() == pytest.approx(expected, rel=most), name


@pytest.mark.parametrize("kind", KINDS)
def test_galaxies_without_broad_lines_are_fitted_near_the_balmer_lines(kind: str) -> None:
    stars = fitted(spectra_of(starlight(kind, ebv=0.35), snr=30.0))
    assert not stars.broad
    assert stars.total.used.sum() > 1800
