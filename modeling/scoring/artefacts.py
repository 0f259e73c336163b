"""Flags artefacts: residual patterns that the instrument or the pipeline makes, not the galaxy.

Each pattern has a reason code. The samples that show it are masked and the galaxy is scored on the others: a galaxy
with a cosmic-ray hit and something unusual keeps its rank, one with a cosmic-ray hit alone loses it. No row is ever
dropped. All functions take residuals in units of sigma, as `significance.Residuals.residual_sigma` returns them.

Shapes: N galaxies, L lines, S samples, Y and X spaxels.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

FWHM_PER_SIGMA = 2.3548
SPIKE_SIGMA = 6.0  # normal noise alone exceeds this once in 1e9 samples
SPIKE_NOISE = 5.0  # excess over the brightest peak that the PSF allows, over its own noise
SPIKE_SHARE = 0.1  # the same excess over the peak: the PSF is not known better than this
SKY_SIGMA = 8.0  # in units of the measured scatter of sample means
SKY_WING_SIGMA = 3.0  # next to such a sample: the wings of the same sky line
SKY_SAME_SIGN = 0.7  # share of spaxels: a few bright spaxels can set the mean, but not the sign of all
EDGE_SHARE = 0.8
EDGE_SIGMA = 10.0  # below, the excess is mostly noise, and so is its share in the outermost spaxels
MIN_GOOD_SHARE = 0.5
REDSHIFT_SIGMA = 5.0  # in units of the spread among calibration galaxies
MIN_LINE_SNR = 10.0  # of a line summed over the galaxy; centroids of fainter ones are too noisy
# Lines whose centroids scatter by more than this do not indicate a wrong redshift.
AGREEMENT_KMS = 60.0

CODES = {
    "": "nothing suspicious",
    "spike": "sharper than the point-spread function",
    "sky_line": "one wavelength over the whole bundle, also where the galaxy is faint",
    "edge": "nearly all of the excess in the outermost spaxels",
    "redshift": "all lines displaced by the same velocity: scored at the redshift of the lines",
    "mask": "fewer than half of the samples of the covered spaxels are good",
    "implausible": "errors or flux level that cannot be right, see `implausible` in the store's galaxies.parquet",
}


@dataclass(frozen=True)
class LineOffsets:
    """Typical displacement of the lines among calibration galaxies, and its spread.

    Attributes:
        velocity_kms: median displacement of the lines.
        velocity_spread_kms: its robust standard deviation; infinite, so that no galaxy is flagged, where none is known.
    """

    velocity_kms: float
    velocity_spread_kms: float

    @classmethod
    def of(cls, velocity_kms: np.ndarray) -> "LineOffsets":
        """Median and spread of displacements [calibration galaxy] in km/s; NaN is left out."""
        known = velocity_kms[np.isfinite(velocity_kms)]
        if not known.size:
            return cls(0.0, np.inf)
        centre = float(np.median(known))
        # 1.4826 times the median absolute deviation is the standard deviation of a normal distribution, and outliers
        # hardly move it. At least 1 km/s: with a spread of zero any displacement would be significant.
        return cls(centre, max(1.4826 * float(np.median(np.abs(known - centre))), 1.0))


def point_fall(psf_fwhm_spaxels: float) -> float:
    """Flux of a Gaussian point source one spaxel from its peak, as a share of the peak: no real light falls faster.

    With sigma = FWHM / 2.3548 it is exp(-1 / (2 sigma^2)).
    """
    return float(np.exp(-0.5 * (FWHM_PER_SIGMA / max(psf_fwhm_spaxels, 1e-3)) ** 2))


def spikes(
    residual_sigma: np.ndarray, flux: np.ndarray, variance: np.ndarray, good: np.ndarray, fall: float
) -> np.ndarray:
    """Mask [N, L, S, Y, X] of the samples around spikes: residual peaks sharper than the point-spread function.

    The PSF spreads real light: the spaxels next to a peak must hold at least `fall` of it on average. A cosmic-ray hit
    need not (the idea of van Dokkum 2001, doi:10.1086/323894). Two opposite neighbours hold it wherever the source is;
    one alone does not if the source is on the other side, in a dead fibre, so it counts only at the edge of the bundle.

    Args:
        residual_sigma: [N, L, S, Y, X] residuals in sigma.
        flux: the same shape, observed; 0 where not good.
        variance: the same shape, of the flux.
        good: the same shape, bool.
        fall: as `point_fall` returns it.
    """
    struck = np.zeros(residual_sigma.shape, dtype=bool)
    # All tests run on the few candidates alone, not on every sample.
    n, line, sample, y, x = _peaks(residual_sigma)
    height, width = flux.shape[-2:]
    total, noise, count = (np.zeros(len(n)) for _ in range(3))
    outside = np.pad(~_bundle(np.asarray(good.any((1, 2)))), ((0, 0), (1, 1), (1, 1)), constant_values=True)
    for dy, dx in ((1, 0), (0, 1)):
        sides = [(n, y + i * dy, x + i * dx) for i in (-1, 1)]
        beside = [(n, line, sample, np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)) for _, v, u in sides]
        beyond = [outside[n, v + 1, u + 1] for _, v, u in sides]
        usable = [good[at] & ~out for at, out in zip(beside, beyond, strict=True)]
        for at, here, there, out in zip(beside, usable, usable[::-1], beyond[::-1], strict=True):
            use = here & (there | out)
            total += np.where(use, flux[at], 0)
            noise += np.where(use, variance[at], 0)
            count += use
    known = np.maximum(count, 1)
    peak = flux[n, line, sample, y, x]
    # The mean neighbour over `fall` is the brightest peak that the PSF allows; a negative mean is noise about zero.
    excess = peak - np.maximum(total / known, 0) / fall
    error = np.sqrt(variance[n, line, sample, y, x] + noise / (known * fall) ** 2)
    sharp = (count >= 2) & (excess > SPIKE_NOISE * error) & (excess > SPIKE_SHARE * peak)
    # The wings are masked with the peak: 5 samples and 5 x 5 spaxels.
    for at in zip(n[sharp], line[sharp], sample[sharp], y[sharp], x[sharp], strict=True):
        struck[at[:2]][tuple(slice(max(i - 2, 0), i + 3) for i in at[2:])] = True
    return struck


def _bundle(covered: np.ndarray) -> np.ndarray:
    """Spaxels [N, Y, X] that are covered or have covered ones on both sides, which fills in dead fibres."""
    inside = covered.copy()
    for axis in (1, 2):
        before = np.logical_or.accumulate(covered, axis=axis)
        after = np.flip(np.logical_or.accumulate(np.flip(covered, axis), axis=axis), axis)
        inside |= before & after
    return inside


def _peaks(residual_sigma: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices of the samples above `SPIKE_SIGMA` that no neighbour in velocity, y and x exceeds."""
    at = np.nonzero(residual_sigma > SPIKE_SIGMA)
    value, highest = residual_sigma[at], np.ones(len(at[0]), dtype=bool)
    for step in product((-1, 0, 1), repeat=3):
        shape = residual_sigma.shape[2:]
        beside = (np.clip(i + d, 0, size - 1) for i, d, size in zip(at[2:], step, shape, strict=True))
        highest &= residual_sigma[(*at[:2], *beside)] <= value
    return tuple(i[highest] for i in at)


def sky_samples(residual_sigma: np.ndarray, good: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Mask [N, L, S] of samples whose residuals have one sign over the faint half of the spaxels.

    A sky residual has one wavelength and covers the bundle; a residual of the galaxy follows its light. So only the
    fainter half of the covered spaxels is tested.

    Args:
        residual_sigma: [N, L, S, Y, X] residuals in sigma.
        good: the same shape, bool.
        amplitude: [N, Y, X] of `local_amplitude`.
    """
    flagged = np.zeros(residual_sigma.shape[:3], dtype=bool)
    if residual_sigma.shape[2] < 2:  # with one sample a line, an excess everywhere is the line itself, not a stripe
        return flagged
    for i, sigma in enumerate(residual_sigma):
        covered = good[i].any((0, 1))
        if not covered.any():
            continue
        faint = (covered & (amplitude[i] <= np.median(amplitude[i][covered]))).astype(np.float32)
        # Sums over the faint spaxels; residuals that are not good are 0.
        total, count, above, below = (
            np.tensordot(values.astype(np.float32), faint, 2) for values in (sigma, good[i], sigma > 0, sigma < 0)
        )
        mean = np.divide(total, np.sqrt(count), out=np.zeros(count.shape), where=count > 0)
        # Spaxels share fibres, so their noise is correlated and the scatter of means is above 1: it is measured.
        spread = max(1.4826 * float(np.median(np.abs(mean[count > 0]))), 1.0) if (count > 0).any() else 1.0
        agreeing = np.where(mean > 0, above, below)
        same = np.divide(agreeing, count, out=np.zeros(count.shape), where=count > 0)
        hit = (np.abs(mean) > SKY_SIGMA * spread) & (same > SKY_SAME_SIGN)
        near = binary_dilation(hit, structure=np.ones((1, 3), dtype=bool), iterations=2)
        flagged[i] = hit | (near & (np.abs(mean) > SKY_WING_SIGMA * spread))
    return flagged


def edge_spaxels(residual_sigma: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Mask [N, Y, X] of the outermost covered spaxels, of galaxies that have nearly all of their excess chi2 there.

    Args:
        residual_sigma: [N, L, S, Y, X] residuals in sigma.
        good: the same shape, bool.
    """
    flagged = np.zeros((len(residual_sigma), *residual_sigma.shape[-2:]), dtype=bool)
    # Less 1, the expectation of a squared normal residual: the excess of noise alone averages to zero.
    excess = np.where(good, residual_sigma**2 - 1, 0).sum((1, 2))
    for i in range(len(residual_sigma)):
        covered = good[i].any((0, 1))
        rim = covered & ~binary_erosion(covered, structure=np.ones((3, 3), dtype=bool))
        total = np.clip(excess[i], 0, None).sum()
        # The standard deviation of chi2 with n degrees of freedom is sqrt(2 n).
        significant = total > EDGE_SIGMA * np.sqrt(2 * max(good[i].sum(), 1))
        if significant and np.clip(excess[i][rim], 0, None).sum() > EDGE_SHARE * total:
            flagged[i] = rim
    return flagged


def poorly_covered(good: np.ndarray) -> np.ndarray:
    """Flags [N] of galaxies with fewer than half of the samples of their covered spaxels good.

    Args:
        good: [N, L, S, Y, X] bool.
    """
    covered = good.any((1, 2)).sum((1, 2)) * good.shape[1] * good.shape[2]
    return np.asarray(good.sum((1, 2, 3, 4)) < MIN_GOOD_SHARE * covered)


def displacement_kms(flux: np.ndarray, variance: np.ndarray, good: np.ndarray, velocity_kms: np.ndarray) -> np.ndarray:
    """Velocity [N] of the lines in km/s, relative to the redshift of the windows; NaN where fewer than two lines agree.

    The median over lines of their flux-weighted mean velocity, of lines that are significant in the galaxy's sum.

    Args:
        flux: [N, L, S, Y, X], 0 where not good.
        variance: the same shape, of the flux.
        good: the same shape, bool.
        velocity_kms: [S] of the samples.
    """
    # float64: thousands of float32 samples of either sign are summed.
    profile = flux.sum((3, 4), dtype=np.float64)
    noise = np.sqrt(np.where(good, variance, 0).sum((2, 3, 4), dtype=np.float64))
    covered: np.ndarray = np.asarray(good.any((3, 4)))
    # A gap in a line's profile would bias its centroid: such lines are not used.
    profile = np.where(covered.all(axis=2, keepdims=True), profile, 0)
    total = profile.sum(2)
    strong = total > MIN_LINE_SNR * np.maximum(noise, 1e-30)
    # With negative weights the mean velocity could lie outside the window.
    weight = np.clip(profile, 0, None)
    mean = np.divide(weight @ velocity_kms, weight.sum(2), out=np.full(total.shape, np.nan), where=strong)
    offset_kms = np.full(len(flux), np.nan)
    for i, values in enumerate(mean):
        known = values[np.isfinite(values)]
        if known.size >= 2 and np.median(np.abs(known - np.median(known))) < AGREEMENT_KMS:
            offset_kms[i] = np.median(known)
    return offset_kms


def displaced(velocity_kms: np.ndarray, line_offsets: LineOffsets, least_kms: float) -> np.ndarray:
    """Flags [N] of galaxies whose lines are displaced by more than those of calibration galaxies and `least_kms`.

    Args:
        velocity_kms: [N] of `displacement_kms`; NaN is never flagged.
        line_offsets: of the calibration galaxies.
        least_kms: smallest displacement that matters.
    """
    offset = np.nan_to_num(np.abs(velocity_kms - line_offsets.velocity_kms), nan=0.0)
    return np.asarray(offset > max(REDSHIFT_SIGMA * line_offsets.velocity_spread_kms, least_kms))
