"""Extinction curve and emission-line profiles on MaNGA's wavelength grid."""

import numpy as np
from scipy.special import ndtr

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.simulate.instrument import FIRST_WAVE, LOG_STEP, NUM_WAVES, PIXEL_KMS, lsf_sigma_pixels, pixel_of
from cubeprep.simulate.ratios import LINE_WAVES

# Rest wavelength at which starlight is normalised and reddened spectra stay unchanged, Angstrom.
REFERENCE_WAVE = 5500.0


def extinction(wave: np.ndarray | float, r_v: float = 3.1) -> np.ndarray:
    """Extinction A(lambda) / E(B-V) from 3100 Angstrom to 2 micron, of the shape of `wave` (Angstrom).

    Source: Cardelli+1989 (doi:10.1086/167900), equations 2 and 3.
    """
    x = 1e4 / np.asarray(wave, dtype=np.float64)
    y = x - 1.82
    optical_a = np.polyval([0.32999, -0.77530, 0.01979, 0.72085, -0.02427, -0.50447, 0.17699, 1.0], y)
    optical_b = np.polyval([-2.09002, 5.30260, -0.62251, -5.38434, 1.07233, 2.28305, 1.41338, 0.0], y)
    infrared = x < 1.1
    a = np.where(infrared, 0.574 * x**1.61, optical_a)
    b = np.where(infrared, -0.527 * x**1.61, optical_b)
    return a * r_v + b


def render_lines(
    spectra: np.ndarray, flux: np.ndarray, z: float, velocity_kms: np.ndarray, sigma_kms: np.ndarray
) -> None:
    """Adds emission lines to spectra, in place.

    Args:
        spectra: float32 [sample, wavelength] flux density per Angstrom; modified.
        flux: [line, sample] line fluxes in the order of `LINE_WAVES`.
        z: redshift.
        velocity_kms: [sample] velocity relative to z.
        sigma_kms: [sample] dispersion without the instrument.
    """
    for rest_wave, line_flux in zip(LINE_WAVES.values(), flux, strict=True):
        add_line(spectra, rest_wave, line_flux, z, velocity_kms, sigma_kms)


def add_line(
    spectra: np.ndarray,
    rest_wave: float,
    flux: np.ndarray,
    z: float,
    velocity_kms: np.ndarray,
    sigma_kms: np.ndarray,
    *,
    with_instrument: bool = True,
) -> None:
    """Adds one Gaussian line to spectra, in place.

    The profile is integrated over each pixel, so that the flux is exact even for lines as narrow as a pixel.

    Args:
        spectra: float32 [sample, wavelength] flux density per Angstrom; modified.
        rest_wave: vacuum rest wavelength, Angstrom.
        flux: [sample] line flux.
        z: redshift.
        velocity_kms: [sample] velocity relative to z.
        sigma_kms: [sample] dispersion.
        with_instrument: whether to add the instrument's resolution to `sigma_kms`.
    """
    if not flux.any():
        return
    centre = pixel_of(rest_wave * (1 + z) * (1 + velocity_kms / SPEED_OF_LIGHT_KMS))
    lsf = lsf_sigma_pixels(rest_wave * (1 + z), with_pixel=False) if with_instrument else 0.0
    sigma = np.hypot(sigma_kms / PIXEL_KMS, lsf)
    start = max(int(np.floor((centre - 5 * sigma).min())), 0)
    stop = min(int(np.ceil((centre + 5 * sigma).max())) + 1, NUM_WAVES)
    if stop <= start:
        return
    edges = np.arange(start, stop + 1) - 0.5
    share = np.diff(ndtr((edges[None, :] - centre[:, None]) / sigma[:, None]), axis=1)
    width = FIRST_WAVE * np.diff(10 ** (LOG_STEP * edges))
    spectra[:, start:stop] += (flux[:, None] * share / width).astype(np.float32)
