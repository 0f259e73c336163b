"""Features of windows for classical detectors, and scores of residuals."""

from typing import get_args

import numpy as np

from benchmarks.anomaly.detectors.detector import Detector, Scored
from cubeprep.store import Windows
from modeling.scoring.residual_sums import PlainScore, line_sums, median_snr, scores_from_sums

SCALE_QUANTILE = 0.9


def good_flux(windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux and ivar [row, line, sample, y, x], 0 where not usable, and the mask of usable samples."""
    good = windows.good
    return np.where(good, windows.flux, 0), np.where(good, windows.ivar, 0), good


def brightness(flux: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Brightness [row] by which flux is divided: 90th percentile over spaxels of a spaxel's mean |flux|."""
    count = good.sum(axis=(1, 2))
    mean = np.divide(np.abs(flux).sum(axis=(1, 2)), count, out=np.full(count.shape, np.nan), where=count > 0)
    scale = np.nanquantile(mean.reshape(len(flux), -1), SCALE_QUANTILE, axis=1)
    return np.where(scale > 0, scale, 1.0).astype(np.float32)


def normalised(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """asinh of flux over brightness [row, feature], float32, and the brightness [row] of each galaxy."""
    flux, _, good = good_flux(windows)
    scale = brightness(flux, good)
    return np.arcsinh(flux / scale[:, None, None, None, None]).reshape(len(flux), -1), scale


def denormalised(features: np.ndarray, scale: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Flux [row, line, sample, y, x] from features and brightness: the inverse of `normalised`."""
    return np.sinh(features).reshape(-1, *shape[1:]) * scale[:, None, None, None, None]


def scored_residuals(windows: Windows, reconstruction: np.ndarray, rank_by: PlainScore) -> Scored:
    """Cubescout's plain scores of a detector's residuals, with the contributions of spaxels and lines.

    Args:
        windows: windows as observed.
        reconstruction: [row, line, sample, y, x] flux reconstructed by the detector.
        rank_by: score of the detector; the others are variants.
    """
    arrays = windows.flux, windows.ivar, windows.mask
    found = scores_from_sums(line_sums(*arrays, reconstruction), median_snr(*arrays), rank_by)
    flux, ivar, good = good_flux(windows)
    residual = np.where(good, flux - reconstruction, 0)
    contribution = np.abs(residual) if rank_by in ("mae", "relative") else residual**2 * ivar
    variants = {name: getattr(found, name) for name in get_args(PlainScore) if name != rank_by}
    spaxels, lines = contribution.sum(axis=(1, 2)), contribution.sum(axis=(2, 3, 4))
    return Scored(found.score, spaxels.astype(np.float32), lines.astype(np.float32), variants)


class Reconstructing(Detector):
    """Detector that scores the residuals of a reconstruction: the share of the signal that it does not explain."""

    def reconstruct(self, windows: Windows) -> np.ndarray:
        """Flux [row, line, sample, y, x] reconstructed by the detector; each subclass defines it."""
        raise NotImplementedError

    def reconstruct_masked(self, windows: Windows) -> np.ndarray:
        """Reconstruction of windows with masked artefacts, which may affect a detector more than other masks."""
        return self.reconstruct(windows)

    def judge(self, windows: Windows, reconstruction: np.ndarray) -> Scored:
        """Unexplained fraction of the signal; the other plain scores are variants."""
        return scored_residuals(windows, reconstruction, "unexplained")

    def score_windows(self, windows: Windows) -> Scored:
        """Scores of the residuals of the reconstruction."""
        return self.judge(windows, self.reconstruct(windows))
