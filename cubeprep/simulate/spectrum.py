"""Spectra on MaNGA's wavelength grid: resolution, dust, stars and emission lines."""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.simulate.ratios import LINE_WAVES

NUM_WAVES = 4563
LOG_STEP = 1e-4
FIRST_WAVE = 3621.59598486
WAVE = 10 ** (np.log10(FIRST_WAVE) + LOG_STEP * np.arange(NUM_WAVES))
PIXEL_KMS = SPEED_OF_LIGHT_KMS * np.log(10) * LOG_STEP
REFERENCE_WAVE = 5500.0

# Reddening E(B-V) at which the stellar templates are tabulated; stars between two are interpolated.
DUST_LEVELS = (0.0, 0.15, 0.35)
POPULATIONS = ("young", "old")
NUM_TEMPLATES = len(POPULATIONS) * len(DUST_LEVELS)

_TEMPERATURE_K = {"young": 12000.0, "old": 4300.0}

# Absorption: vacuum wavelength, equivalent width in young and in old stars, Gaussian sigma; all Angstrom.
_ABSORPTION = np.array(
    [
        (3798.98, 4.5, 0.5, 5), (3836.48, 5.0, 0.8, 6), (3850.0, 0.2, 4.0, 20), (3890.16, 5.5, 1.0, 6),
        (3934.78, 1.0, 6.0, 5), (3969.59, 0.8, 5.0, 5), (3971.20, 6.0, 0.8, 6), (4102.90, 6.5, 1.0, 6),
        (4305.6, 0.3, 5.0, 8), (4341.69, 6.0, 1.0, 6), (4384.7, 0.5, 3.5, 10), (4862.69, 5.5, 1.2, 6),
        (5016.4, 0.5, 2.0, 10), (5168.7, 0.3, 1.2, 3), (5174.1, 0.3, 1.4, 3), (5185.0, 0.3, 1.2, 3),
        (5176.0, 0.2, 2.0, 18), (5271.5, 0.5, 2.2, 6), (5336.9, 0.4, 1.9, 6), (5891.6, 0.3, 1.5, 2.5),
        (5897.6, 0.3, 1.3, 2.5), (6564.63, 3.0, 1.0, 5), (7150.0, 0.0, 4.0, 40), (8500.4, 0.8, 1.3, 3),
        (8544.4, 2.0, 3.2, 3), (8664.5, 1.6, 2.7, 3),
    ]
)  # fmt: skip


def resolution(wave: np.ndarray | float) -> np.ndarray:
    """Resolving power lambda/FWHM, pixel included; a line through the SRES of the real spectra in shared/data."""
    return 1450.0 + 0.19 * (np.asarray(wave) - 3600.0)


def lsf_sigma_pixels(wave: np.ndarray | float, *, with_pixel: bool) -> np.ndarray:
    """Gaussian sigma of the line-spread function in wavelength pixels, with or without the pixel's own width."""
    sigma: np.ndarray = SPEED_OF_LIGHT_KMS / (resolution(wave) * np.sqrt(8 * np.log(2))) / PIXEL_KMS
    return sigma if with_pixel else np.sqrt(sigma**2 - 1 / 12)


def extinction(wave: np.ndarray | float, r_v: float = 3.1) -> np.ndarray:
    """A(lambda) / E(B-V) from 3100 Angstrom to 2 micron: Cardelli+1989 (doi:10.1086/167900), eqs. 2 and 3."""
    x = 1e4 / np.asarray(wave, dtype=np.float64)
    y = x - 1.82
    optical_a = np.polyval([0.32999, -0.77530, 0.01979, 0.72085, -0.02427, -0.50447, 0.17699, 1.0], y)
    optical_b = np.polyval([-2.09002, 5.30260, -0.62251, -5.38434, 1.07233, 2.28305, 1.41338, 0.0], y)
    infrared = x < 1.1
    a = np.where(infrared, 0.574 * x**1.61, optical_a)
    b = np.where(infrared, -0.527 * x**1.61, optical_b)
    return a * r_v + b


def pixel_of(wave: np.ndarray | float) -> np.ndarray:
    """Position of wavelengths on the grid, in pixels."""
    return (np.log10(wave) - np.log10(FIRST_WAVE)) / LOG_STEP


def stellar_templates(z: float, sigma_kms: float, margin: int) -> np.ndarray:
    """Templates [population x dust level, wavelengths] as observed, 1 at 5500 Angstrom at rest.

    Args:
        z: redshift.
        sigma_kms: velocity dispersion of the stars.
        margin: pixels that the grid is extended by on either side.

    Returns:
        float32, `NUM_TEMPLATES` x (`NUM_WAVES` + 2 x margin); populations vary slowest.
    """
    pixels = np.arange(-margin, NUM_WAVES + margin)
    rest_wave = FIRST_WAVE * 10 ** (LOG_STEP * pixels) / (1 + z)
    dust = [10 ** (-0.4 * level * (extinction(rest_wave) - extinction(REFERENCE_WAVE))) for level in DUST_LEVELS]
    stars = [_population(name, rest_wave) for name in POPULATIONS]
    rows = np.stack([population * curve for population in stars for curve in dust])
    lsf = np.median(lsf_sigma_pixels(WAVE, with_pixel=True))
    sigma_pixels = np.hypot(sigma_kms / PIXEL_KMS, lsf)
    return gaussian_filter1d(rows, sigma_pixels, axis=1, mode="nearest").astype(np.float32)


def render_stars(spectra: np.ndarray, light: np.ndarray, velocity_kms: np.ndarray, templates: np.ndarray) -> None:
    """Writes the stars' light into spectra [spaxels, wavelengths].

    Shifts are interpolated between whole pixels, for groups of spaxels that share one. einsum, not BLAS: its sums do
    not depend on the number of threads, so neither do the bytes of a file.

    Args:
        spectra: float32 [spaxels, wavelengths], overwritten.
        light: flux density at 5500 Angstrom, [templates, spaxels].
        velocity_kms: [spaxels].
        templates: of `stellar_templates`; its margin must exceed the largest shift.

    Raises:
        ValueError: the margin is too small.
    """
    margin = (templates.shape[1] - NUM_WAVES) // 2
    shift = np.log10(1 + velocity_kms / SPEED_OF_LIGHT_KMS) / LOG_STEP
    whole = np.floor(shift).astype(int)
    if whole.min(initial=0) < -margin or whole.max(initial=0) + 1 > margin:
        raise ValueError(f"velocities up to {np.abs(velocity_kms).max():.0f} km/s exceed a margin of {margin} pixels")
    part = (shift - whole).astype(np.float32)
    light = light.astype(np.float32)
    for step in np.unique(whole):
        spaxels = np.flatnonzero(whole == step)
        near, far = (templates[:, margin - k : margin - k + NUM_WAVES] for k in (step, step + 1))
        weights = np.concatenate([light[:, spaxels] * (1 - part[spaxels]), light[:, spaxels] * part[spaxels]])
        spectra[spaxels] = np.einsum("ks,kw->sw", weights, np.concatenate([near, far]))


def render_lines(
    spectra: np.ndarray, flux: np.ndarray, z: float, velocity_kms: np.ndarray, sigma_kms: np.ndarray
) -> None:
    """Adds Gaussian emission lines, integrated over pixels, to spectra [spaxels, wavelengths].

    Args:
        spectra: float32 [spaxels, wavelengths], per Angstrom; added to.
        flux: [lines, spaxels] in the order of `LINE_WAVES`.
        z: redshift.
        velocity_kms: [spaxels], relative to z.
        sigma_kms: [spaxels], without the instrument.
    """
    for rest_wave, line_flux in zip(LINE_WAVES.values(), flux, strict=True):
        if not line_flux.any():
            continue
        centre = pixel_of(rest_wave * (1 + z) * (1 + velocity_kms / SPEED_OF_LIGHT_KMS))
        lsf = lsf_sigma_pixels(rest_wave * (1 + z), with_pixel=False)
        sigma = np.hypot(sigma_kms / PIXEL_KMS, lsf)
        start = max(int(np.floor((centre - 5 * sigma).min())), 0)
        stop = min(int(np.ceil((centre + 5 * sigma).max())) + 1, NUM_WAVES)
        if stop <= start:
            continue
        edges = np.arange(start, stop + 1) - 0.5
        share = np.diff(ndtr((edges[None, :] - centre[:, None]) / sigma[:, None]), axis=1)
        width = FIRST_WAVE * np.diff(10 ** (LOG_STEP * edges))
        spectra[:, start:stop] += (line_flux[:, None] * share / width).astype(np.float32)


def _population(name: str, rest_wave: np.ndarray) -> np.ndarray:
    """An analytic stellar population: a black body, the breaks near 4000 Angstrom, absorption lines; 1 at 5500."""
    temperature = _TEMPERATURE_K[name]
    planck = (rest_wave / REFERENCE_WAVE) ** -5.0
    planck *= np.expm1(1.43878e8 / (REFERENCE_WAVE * temperature)) / np.expm1(1.43878e8 / (rest_wave * temperature))
    edge, softness, depth = (4000.0, 15.0, 0.40) if name == "old" else (3680.0, 25.0, 0.45)
    planck *= 1 - depth * ndtr((edge - rest_wave) / softness)
    centres, young_ew, old_ew, sigmas = _ABSORPTION.T[:, :, None]
    ew = young_ew if name == "young" else old_ew
    profiles = np.exp(-0.5 * ((rest_wave - centres) / sigmas) ** 2) / (sigmas * np.sqrt(2 * np.pi))
    return planck * np.prod(1 - ew * profiles, axis=0)
