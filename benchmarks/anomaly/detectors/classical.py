"""Detectors without a network: a baseline that any model must beat."""

import hashlib

import numpy as np
from sklearn.covariance import LedoitWolf

from benchmarks.anomaly.detectors.detector import Detector, Scored, mapped, register
from benchmarks.anomaly.detectors.features import (
    brightness,
    denormalised,
    good_flux,
    normalised,
    scored_residuals,
)
from cubeprep.store import Windows, WindowStore
from modeling.scoring.residual_sums import median_snr


@register
class Random(Detector):
    """Chance."""

    name = "random"
    group = "floor"

    def fit(self, store: WindowStore, split: str) -> None:
        """Learns nothing."""

    def score_windows(self, windows: Windows) -> Scored:
        """Uniform random number that depends only on name and seed."""
        digests = [hashlib.sha256(f"{self.run.seed}/{name}".encode()).digest()[:8] for name in windows.plateifu]
        return Scored(np.array([int.from_bytes(digest) / 2**64 for digest in digests]))


@register
class TotalFlux(Detector):
    """Brightness."""

    name = "total flux"
    group = "floor"

    def fit(self, store: WindowStore, split: str) -> None:
        """Learns nothing."""

    def score_windows(self, windows: Windows) -> Scored:
        """Sum of the flux."""
        flux, _, _ = good_flux(windows)
        return Scored(flux.sum(axis=(1, 2, 3, 4), dtype=np.float64), np.abs(flux).sum(axis=(1, 2)), flux.sum((2, 3, 4)))


@register
class MedianSnr(Detector):
    """Quality of the observation."""

    name = "median S/N"
    group = "floor"

    def fit(self, store: WindowStore, split: str) -> None:
        """Learns nothing."""

    def score_windows(self, windows: Windows) -> Scored:
        """Median signal-to-noise ratio of good samples."""
        return Scored(median_snr(windows.flux, windows.ivar, windows.mask))


@register
class MeanCube(Detector):
    """chi2 relative to the mean cube of the training galaxies, scaled to each galaxy's brightness."""

    name = "mean cube"
    group = "classical"

    def fit(self, store: WindowStore, split: str) -> None:
        """Computes the mean cube."""
        self.mean = mapped(store, split, lambda windows: normalised(windows)[0]).mean(axis=0)

    def score_windows(self, windows: Windows) -> Scored:
        """chi2 of the residual."""
        flux, _, good = good_flux(windows)
        mean = denormalised(self.mean[None], np.ones(1, np.float32), flux.shape)
        return scored_residuals(windows, mean * brightness(flux, good)[:, None, None, None, None], "chi2")


@register
class LineRatios(Detector):
    """Mahalanobis distance of the galaxy's integrated line ratios."""

    name = "line ratios (Mahalanobis)"
    group = "classical"
    softening = 0.01  # fraction of the total flux below which the ratio of a line is noise

    def fit(self, store: WindowStore, split: str) -> None:
        """Estimates mean and shrunk covariance (Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4)."""
        self.covariance = LedoitWolf().fit(mapped(store, split, self.features))

    def score_windows(self, windows: Windows) -> Scored:
        """Squared Mahalanobis distance."""
        features = self.features(windows)
        offset = features - self.covariance.location_
        lines = np.abs(offset) / np.sqrt(np.diag(self.covariance.covariance_))
        return Scored(self.covariance.mahalanobis(features), None, lines)

    def features(self, windows: Windows) -> np.ndarray:
        """asinh [row, line] of each line's fraction of the total flux, in units of the softening."""
        flux, _, _ = good_flux(windows)
        sums = flux.sum(axis=(2, 3, 4), dtype=np.float64)
        total = np.abs(sums).sum(axis=1, keepdims=True)
        return np.arcsinh(sums / np.where(total > 0, total, 1) / self.softening)


class Pca(Detector):
    """Residual of a reconstruction from the first principal components of the training galaxies."""

    group = "classical"
    num_components: int

    def fit(self, store: WindowStore, split: str) -> None:
        """Computes the mean and the principal components."""
        self.mean, self.components = principal_components(
            mapped(store, split, lambda windows: normalised(windows)[0]), self.num_components
        )

    def score_windows(self, windows: Windows) -> Scored:
        """Unexplained fraction of the signal; the other scores are variants."""
        features, scale = normalised(windows)
        latent = (features - self.mean) @ self.components.T
        reconstruction = denormalised(latent @ self.components + self.mean, scale, windows.flux.shape)
        return scored_residuals(windows, reconstruction, "unexplained")


@register
class Pca32(Pca):
    """PCA with 32 components."""

    name = "PCA-32"
    num_components = 32


@register
class Pca128(Pca):
    """PCA with 128 components."""

    name = "PCA-128"
    num_components = 128


def principal_components(features: np.ndarray, num_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [feature] of rows [row, feature] and their first principal components [component, feature].

    Components come from the eigenvectors of the matrix of inner products of rows, since there are far fewer rows than
    features.
    """
    mean = features.mean(axis=0)
    centred = features - mean
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = np.argsort(values)[::-1][: min(num_components, len(features) - 1)]
    kept = kept[values[kept] > 1e-6 * values.max()]
    components = (vectors[:, kept] / np.sqrt(values[kept])).T @ centred
    return mean, components.astype(np.float32)
