"""Checks the redshift in the survey's table against the velocity of the strong emission lines."""

from typing import NamedTuple

import numpy as np
from pydantic import Field

from cubeprep.config import Config
from cubeprep.cube import Planes
from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.windows import WindowConfig

STRONG_LINES = ("Hb-4862", "OIII-5008", "Ha-6564", "NII-6585", "SII-6718", "SII-6732")
# 44 samples of MaNGA's step reach 1,500 km/s on either side: enough for a line 1,000 km/s off and the local slope
# beside it.
SEARCH = WindowConfig(
    lines=STRONG_LINES, num_samples=44, step_dex=1e-4, sampling="conserve", continuum="sidebands", min_lines=1
)
PROFILE_SIGMA_KMS = 120.0
# S/N above which a line's vote no longer grows: one very bright line, such as [N II] in a LINER, must not outvote all
# others.
MAX_VOTE = 20.0
CENTROID_HALF_WIDTH_KMS = 250.0
# Sidebands remove the stellar continuum only roughly. The profile is therefore fitted together with a straight line
# over this half width, which needs this number of good samples.
SLOPE_HALF_WIDTH_KMS = 450.0
MIN_SAMPLES = 6
# A line agrees on an offset if the fit within AGREEMENT_KMS of it is significant both against the noise and against
# the scatter of the fits at all other offsets, which stellar absorption features raise.
AGREEMENT_KMS = 150.0
AGREEING_SNR = 5.0
AGREEING_SCATTERS = 1.5
AGREEING_LINES = 3
# Stars are searched within 550 km/s of the redshift; where they are farther away, the result means nothing.
STARS_SEARCHED_KMS = 500.0


class RedshiftConfig(Config):
    """How redshifts that the strong lines contradict are handled."""

    check: bool = Field(True, description="Measure the velocity offset of the strong lines and record it")
    limit_kms: float = Field(
        200.0,
        gt=0,
        description="Galaxies with a larger offset are flagged, km/s, unless stars were fitted and are not displaced",
    )
    min_snr: float = Field(
        100.0, gt=0, description="Joint S/N of the strong lines below which an offset is recorded but never flagged"
    )
    correct: bool = Field(
        False, description="Cut the windows of flagged galaxies at the measured redshift; default: only flag them"
    )


class RedshiftOffset(NamedTuple):
    """Velocity of the strong lines relative to the table's redshift, km/s, and their joint signal-to-noise ratio."""

    offset_kms: float
    snr: float


NOT_MEASURED = RedshiftOffset(float("nan"), 0.0)


def corrected(z: float, offset: RedshiftOffset) -> float:
    """Redshift of the lines, from the table's redshift `z` and the measured offset."""
    return (1 + z) * (1 + offset.offset_kms / SPEED_OF_LIGHT_KMS) - 1


def is_displaced(offset: RedshiftOffset, limits: RedshiftConfig, stars_kms: float) -> bool:
    """Whether the lines contradict the table's redshift.

    A wrong redshift displaces gas and stars alike. Where the stars do not follow, the gas has a velocity of its own,
    such as that of a fast rotator's brighter side.

    Args:
        offset: of the lines.
        limits: least signal-to-noise ratio and offset.
        stars_kms: velocity of the stars relative to the table's redshift, km/s; NaN if unknown.
    """
    if offset.snr < limits.min_snr or not abs(offset.offset_kms) > limits.limit_kms:
        return False
    apart = abs(stars_kms) <= limits.limit_kms and abs(offset.offset_kms - stars_kms) > AGREEMENT_KMS
    return not (apart and abs(offset.offset_kms) < STARS_SEARCHED_KMS)


def measure_offset(spectra: list[tuple[np.ndarray, np.ndarray]], velocity_kms: np.ndarray) -> RedshiftOffset:
    """Offset at which Gaussians at all strong lines fit best, refined by the centroid of the summed lines.

    If one line is mistaken for another, such as [N II] for Halpha, only that line fits, and the offset at which all
    lines fit wins. In a galaxy without gas, residuals of the stellar continuum can outvote its faint lines, but few
    lines agree on any one offset; such an offset is rejected.

    Args:
        spectra: flux and inverse variance [sample] of each strong line, from `summed`.
        velocity_kms: [sample] velocities of the samples relative to each line.

    Returns:
        The offset; `NOT_MEASURED` (NaN, S/N 0) if fewer than three lines agree on it (two if only two are covered).
    """
    usable = [(flux, ivar) for flux, ivar in spectra if (ivar > 0).sum() > len(velocity_kms) // 2]
    if len(usable) < 2:
        return NOT_MEASURED
    signed = np.array([_fit(flux, ivar, velocity_kms) for flux, ivar in usable])
    fits = np.clip(signed, 0, None)
    snr = fits.max(axis=1)
    # Each line votes with its curve of S/N over offset, normalised to 1 at its peak and weighted by the squared S/N of
    # the peak, capped at MAX_VOTE.
    votes = np.minimum(snr, MAX_VOTE)[:, None] ** 2 * fits / np.where(snr > 0, snr, 1)[:, None]
    best = int(votes.sum(axis=0).argmax())
    here = fits[:, np.abs(velocity_kms - velocity_kms[best]) <= AGREEMENT_KMS].max(axis=1)
    # 1.4826 scales the median absolute deviation to the standard deviation of a Gaussian.
    scatter = 1.4826 * np.median(np.abs(signed - np.median(signed, axis=1, keepdims=True)), axis=1)
    if (here > np.maximum(AGREEING_SCATTERS * scatter, AGREEING_SNR)).sum() < min(AGREEING_LINES, len(usable)):
        return NOT_MEASURED
    # The winning offset lies on the sampling grid, 69 km/s apart; the flux-weighted centroid refines it.
    stacked = sum(np.where(ivar > 0, flux, 0) for flux, ivar in usable)
    near = np.abs(velocity_kms - velocity_kms[best]) <= CENTROID_HALF_WIDTH_KMS
    weight = np.clip(stacked, 0, None) * near
    centroid = float((weight * velocity_kms).sum() / weight.sum()) if weight.sum() > 0 else float(velocity_kms[best])
    return RedshiftOffset(centroid, float(np.sqrt((fits[:, best] ** 2).sum())))


def _fit(flux: np.ndarray, ivar: np.ndarray, velocity_kms: np.ndarray) -> np.ndarray:
    """S/N [offset] of a Gaussian on a local straight line, by weighted least squares; 0 where it cannot be fitted."""
    distance = velocity_kms - velocity_kms[:, None]
    weight = ivar * (np.abs(distance) <= SLOPE_HALF_WIDTH_KMS)
    profile = np.exp(-0.5 * (distance / PROFILE_SIGMA_KMS) ** 2)
    terms = np.stack([profile, np.ones_like(profile), distance / SLOPE_HALF_WIDTH_KMS], axis=1)
    weighted = terms * weight[:, None]
    # Pseudo-inverse: at the edges of the window too few samples may remain, and the normal equations are singular.
    covariance = np.linalg.pinv(weighted @ terms.swapaxes(1, 2), hermitian=True)
    amplitude = np.einsum("oi,oi->o", covariance[:, 0], weighted @ flux)
    error = np.sqrt(np.clip(covariance[:, 0, 0], 0, None))
    known = ((weight > 0).sum(axis=1) >= MIN_SAMPLES) & (error > 0)
    return np.divide(amplitude, error, out=np.zeros_like(error), where=known)


def summed(window: Planes) -> tuple[np.ndarray, np.ndarray]:
    """Flux and inverse variance [sample] of a line, summed over the spaxels that are good at all covered samples.

    Every sample is thus a sum over the same spaxels: masked spaxels would otherwise imprint steps on the spectrum.

    Args:
        window: [sample, y, x], continuum subtracted.
    """
    good = window.mask == 0
    covered = good.any(axis=(1, 2))
    spaxels = good[covered].all(axis=0) if covered.any() else np.zeros(good.shape[1:], dtype=bool)
    flux = window.flux[:, spaxels].sum(axis=1, dtype=np.float64)
    with np.errstate(divide="ignore"):
        variance = np.where(good, 1 / window.ivar, 0)[:, spaxels].sum(axis=1, dtype=np.float64)
    return flux, np.where(covered & (variance > 0), 1 / np.where(variance > 0, variance, 1), 0)
