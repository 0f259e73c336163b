"""The redshift that the strong lines have, against the one in the survey's table."""

from typing import NamedTuple

import numpy as np
from pydantic import Field

from cubeprep.config import Config
from cubeprep.cube import Planes
from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.windows import WindowConfig

STRONG_LINES = ("Hb-4862", "OIII-5008", "Ha-6564", "NII-6585", "SII-6718", "SII-6732")
# Wide enough to see a line 1,000 km/s from where it should be, on MaNGA's step.
SEARCH = WindowConfig(
    lines=STRONG_LINES, num_samples=44, step_dex=1e-4, sampling="conserve", continuum="sidebands", min_lines=1
)
PROFILE_SIGMA_KMS = 120.0
MAX_VOTE = 20.0
CENTROID_HALF_WIDTH_KMS = 250.0
# A line stands on what is left of the stars: a slope within so many km/s of it, of which so many samples are good.
SLOPE_HALF_WIDTH_KMS = 450.0
MIN_SAMPLES = 6
# A line agrees on an offset if it is significant near it, against the noise and against the bumps of its own window.
AGREEMENT_KMS = 150.0
AGREEING_SNR = 5.0
AGREEING_SCATTERS = 1.5
AGREEING_LINES = 3


class RedshiftConfig(Config):
    """Treatment of a redshift that the lines contradict."""

    check: bool = Field(True, description="Measure the offset of the strong lines and record it")
    limit_kms: float = Field(200.0, gt=0, description="Offsets beyond are flagged")
    min_snr: float = Field(100.0, gt=0, description="Offsets of fainter lines are recorded and not acted upon")
    correct: bool = Field(False, description="Cut the windows of flagged galaxies at the measured redshift")


class RedshiftOffset(NamedTuple):
    """The velocity of the strong lines against the table's redshift, km/s, and their joint signal-to-noise."""

    offset_kms: float
    snr: float


NOT_MEASURED = RedshiftOffset(float("nan"), 0.0)


def corrected(z: float, offset: RedshiftOffset) -> float:
    """The redshift that the lines have."""
    return (1 + z) * (1 + offset.offset_kms / SPEED_OF_LIGHT_KMS) - 1


def measure_offset(spectra: list[tuple[np.ndarray, np.ndarray]], velocity_kms: np.ndarray) -> RedshiftOffset:
    """The offset at which Gaussians at all strong lines fit best, refined by the centroid of their sum.

    A line that is mistaken for another, such as [N II] for Halpha, fits at one line alone and loses to the offset
    at which all fit. Stars without gas leave bumps that outvote their own faint lines; few of those agree.

    Args:
        spectra: of each strong line, as `summed` gives it.
        velocity_kms: [sample] of all of them.

    Returns:
        The offset; NaN and 0 where fewer than three lines agree on it (two, where no more are covered).
    """
    usable = [(flux, ivar) for flux, ivar in spectra if (ivar > 0).sum() > len(velocity_kms) // 2]
    if len(usable) < 2:
        return NOT_MEASURED
    signed = np.array([_fit(flux, ivar, velocity_kms) for flux, ivar in usable])
    fits = np.clip(signed, 0, None)
    snr = fits.max(axis=1)
    # Each line votes with its own curve, scaled to its peak; brighter than MAX_VOTE, none counts for more.
    votes = np.minimum(snr, MAX_VOTE)[:, None] ** 2 * fits / np.where(snr > 0, snr, 1)[:, None]
    best = int(votes.sum(axis=0).argmax())
    here = fits[:, np.abs(velocity_kms - velocity_kms[best]) <= AGREEMENT_KMS].max(axis=1)
    scatter = 1.4826 * np.median(np.abs(signed - np.median(signed, axis=1, keepdims=True)), axis=1)
    if (here > np.maximum(AGREEING_SCATTERS * scatter, AGREEING_SNR)).sum() < min(AGREEING_LINES, len(usable)):
        return NOT_MEASURED
    stacked = sum(np.where(ivar > 0, flux, 0) for flux, ivar in usable)
    near = np.abs(velocity_kms - velocity_kms[best]) <= CENTROID_HALF_WIDTH_KMS
    weight = np.clip(stacked, 0, None) * near
    centroid = float((weight * velocity_kms).sum() / weight.sum()) if weight.sum() > 0 else float(velocity_kms[best])
    return RedshiftOffset(centroid, float(np.sqrt((fits[:, best] ** 2).sum())))


def _fit(flux: np.ndarray, ivar: np.ndarray, velocity_kms: np.ndarray) -> np.ndarray:
    """[offset] signal-to-noise of a Gaussian on a local slope at each offset, by least squares; 0 where unknown."""
    distance = velocity_kms - velocity_kms[:, None]
    weight = ivar * (np.abs(distance) <= SLOPE_HALF_WIDTH_KMS)
    profile = np.exp(-0.5 * (distance / PROFILE_SIGMA_KMS) ** 2)
    terms = np.stack([profile, np.ones_like(profile), distance / SLOPE_HALF_WIDTH_KMS], axis=1)
    weighted = terms * weight[:, None]
    covariance = np.linalg.pinv(weighted @ terms.swapaxes(1, 2), hermitian=True)
    amplitude = np.einsum("oi,oi->o", covariance[:, 0], weighted @ flux)
    error = np.sqrt(np.clip(covariance[:, 0, 0], 0, None))
    known = ((weight > 0).sum(axis=1) >= MIN_SAMPLES) & (error > 0)
    return np.divide(amplitude, error, out=np.zeros_like(error), where=known)


def summed(window: Planes) -> tuple[np.ndarray, np.ndarray]:
    """[sample] flux and inverse variance of a line, summed over the spaxels that are good at all covered samples.

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
