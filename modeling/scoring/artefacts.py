"""Artefact or astrophysics: patterns of the instrument and the pipeline among residuals.

Each pattern has a reason code. The samples that it spoils are left out of the significance, and the galaxy is scores by the
others: a galaxy that holds a cosmic ray and something unusual keeps its rank, one that holds a cosmic ray alone loses
it. No row is ever dropped. All functions take residuals in sigma as `significance.Residuals.residual_sigma` gives them.

Shapes: N galaxies, L lines, S samples, Y and X spaxels.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, maximum_filter

SPIKE_SIGMA = 6.0
SPIKE_NOISE = 5.0
SPIKE_SHARE = 0.1  # of the peak: the point-spread function is not known better
SKY_SIGMA = 8.0
SKY_WING_SIGMA = 3.0
SKY_SAME_SIGN = 0.7
EDGE_SHARE = 0.8
EDGE_SIGMA = 10.0
MIN_GOOD_SHARE = 0.5
REDSHIFT_SIGMA = 5.0
MIN_LINE_SNR = 10.0
# Lines whose centroids differ by more than this do not speak of a wrong redshift.
AGREEMENT_KMS = 60.0

CODES = {
    "": "nothing suspicious",
    "spike": "sharper than the point-spread function",
    "sky_line": "one wavelength over the whole bundle, where the galaxy is faint too",
    "edge": "all of it in the outermost spaxels",
    "redshift": "all lines displaced alike: scored at the redshift that they have",
    "mask": "fewer than half of the samples of the covered spaxels are good",
}


@dataclass(frozen=True)
class LineOffsets:
    """Where the lines of calibration galaxies lie.

    Attributes:
        velocity_kms: median displacement of the lines.
        velocity_spread_kms: its robust standard deviation.
    """

    velocity_kms: float
    velocity_spread_kms: float

    @classmethod
    def of(cls, velocity_kms: np.ndarray) -> "LineOffsets":
        """From displacements [calibration galaxy], of which NaN do not count."""
        known = velocity_kms[np.isfinite(velocity_kms)]
        if not known.size:
            return cls(0.0, np.inf)
        centre = float(np.median(known))
        return cls(centre, max(1.4826 * float(np.median(np.abs(known - centre))), 1.0))


def point_fall(psf_fwhm_spaxels: float) -> float:
    """What a Gaussian point source of unit peak still has one spaxel beside it: no light falls faster."""
    return float(np.exp(-0.5 * (2.3548 / max(psf_fwhm_spaxels, 1e-3)) ** 2))


def spikes(
    residual_sigma: np.ndarray, flux: np.ndarray, variance: np.ndarray, good: np.ndarray, fall: float
) -> np.ndarray:
    """[N, L, S, Y, X] bool, samples about spikes: unusual peaks that stand out of their neighbours more than light can.

    Light has been through the point-spread function, so that the spaxels beside a peak hold at least `fall` of it on
    average, whatever the source; a particle's hit has not (the idea of van Dokkum 2001, doi:10.1086/323894).

    Args:
        residual_sigma: [N, L, S, Y, X] residuals.
        flux: the same shape, as observed; 0 where not good.
        variance: the same shape.
        good: the same shape.
        fall: of `point_fall`.
    """
    size = (1, 1, 3, 3, 3)
    peaks = (residual_sigma > SPIKE_SIGMA) & (
        residual_sigma == maximum_filter(residual_sigma, size=size, mode="constant")
    )
    struck = np.zeros_like(peaks)
    n, line, sample, y, x = np.nonzero(peaks)
    height, width = flux.shape[-2:]
    total, noise, count = (np.zeros(len(n)) for _ in range(3))
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        beside = (n, line, sample, np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1))
        use = inside & good[beside]
        total += np.where(use, flux[beside], 0)
        noise += np.where(use, variance[beside], 0)
        count += use
    known = np.maximum(count, 1)
    peak = flux[n, line, sample, y, x]
    excess = peak - np.maximum(total / known, 0) / fall
    error = np.sqrt(variance[n, line, sample, y, x] + noise / (known * fall) ** 2)
    sharp = (count >= 2) & (excess > SPIKE_NOISE * error) & (excess > SPIKE_SHARE * peak)
    struck[n[sharp], line[sharp], sample[sharp], y[sharp], x[sharp]] = True
    return np.asarray(maximum_filter(struck, size=(1, 1, 5, 5, 5), mode="constant")) if sharp.any() else struck


def sky_samples(residual_sigma: np.ndarray, good: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """[N, L, S] bool, samples with a residual of one sign all over the faint half of the spaxels.

    Args:
        residual_sigma: [N, L, S, Y, X].
        good: the same shape.
        amplitude: [N, Y, X] of the light.
    """
    found = np.zeros(residual_sigma.shape[:3], dtype=bool)
    if residual_sigma.shape[2] < 2:  # a map of a line: one that is found everywhere is no stripe
        return found
    for i in range(len(residual_sigma)):
        covered = good[i].any((0, 1))
        if not covered.any():
            continue
        faint = covered & (amplitude[i] <= np.median(amplitude[i][covered]))
        z, use = residual_sigma[i][..., faint], good[i][..., faint]
        count = use.sum(-1)
        mean = np.divide(z.sum(-1), np.sqrt(count), out=np.zeros(count.shape), where=count > 0)
        # Spaxels share fibres, so that their noise is not independent: the spread is measured, not assumed.
        spread = max(1.4826 * float(np.median(np.abs(mean[count > 0]))), 1.0) if (count > 0).any() else 1.0
        sign = np.sign(mean)[..., None]
        same = np.divide(((z * sign) > 0).sum(-1), count, out=np.zeros(count.shape), where=count > 0)
        hit = (np.abs(mean) > SKY_SIGMA * spread) & (same > SKY_SAME_SIGN)
        near = binary_dilation(hit, structure=np.ones((1, 3), dtype=bool), iterations=2)
        found[i] = hit | (near & (np.abs(mean) > SKY_WING_SIGMA * spread))
    return found


def edge_spaxels(residual_sigma: np.ndarray, good: np.ndarray) -> np.ndarray:
    """[N, Y, X] bool, the outermost covered spaxels of galaxies whose excess lies there nearly all."""
    found = np.zeros((len(residual_sigma), *residual_sigma.shape[-2:]), dtype=bool)
    excess = np.where(good, residual_sigma**2 - 1, 0).sum((1, 2))
    for i in range(len(residual_sigma)):
        covered = good[i].any((0, 1))
        rim = covered & ~binary_erosion(covered, structure=np.ones((3, 3), dtype=bool))
        total = np.clip(excess[i], 0, None).sum()
        significant = total > EDGE_SIGMA * np.sqrt(2 * max(good[i].sum(), 1))
        if significant and np.clip(excess[i][rim], 0, None).sum() > EDGE_SHARE * total:
            found[i] = rim
    return found


def poorly_covered(good: np.ndarray) -> np.ndarray:
    """[N] bool, galaxies of whose covered spaxels fewer than half of the samples are good."""
    covered = good.any((1, 2)).sum((1, 2)) * good.shape[1] * good.shape[2]
    return np.asarray(good.sum((1, 2, 3, 4)) < MIN_GOOD_SHARE * covered)


def displacement_kms(flux: np.ndarray, variance: np.ndarray, good: np.ndarray, velocity_kms: np.ndarray) -> np.ndarray:
    """[N] how far the lines lie from where the redshift puts them; NaN where fewer than two lines agree.

    The median over lines of flux-weighted mean velocities, of those lines that are significant in the galaxy's sum.

    Args:
        flux: [N, L, S, Y, X], 0 where not good.
        variance: the same shape.
        good: the same shape.
        velocity_kms: [S] of the samples.
    """
    profile = flux.sum((3, 4), dtype=np.float64)
    noise = np.sqrt(np.where(good, variance, 0).sum((2, 3, 4), dtype=np.float64))
    covered: np.ndarray = np.asarray(good.any((3, 4)))
    profile = np.where(covered.all(axis=2, keepdims=True), profile, 0)
    total = profile.sum(2)
    strong = total > MIN_LINE_SNR * np.maximum(noise, 1e-30)
    weight = np.clip(profile, 0, None)
    mean = np.divide(weight @ velocity_kms, weight.sum(2), out=np.full(total.shape, np.nan), where=strong)
    found = np.full(len(flux), np.nan)
    for i, values in enumerate(mean):
        known = values[np.isfinite(values)]
        if known.size >= 2 and np.median(np.abs(known - np.median(known))) < AGREEMENT_KMS:
            found[i] = np.median(known)
    return found


def displaced(velocity_kms: np.ndarray, line_offsets: LineOffsets, least_kms: float) -> np.ndarray:
    """[N] bool, galaxies whose lines lie further off than those of calibration galaxies, and than `least_kms`."""
    offset = np.nan_to_num(np.abs(velocity_kms - line_offsets.velocity_kms), nan=0.0)
    return np.asarray(offset > max(REDSHIFT_SIGMA * line_offsets.velocity_spread_kms, least_kms))
