"""Detectors without a network: a baseline that any model must beat."""

import hashlib

import numpy as np
from sklearn.covariance import LedoitWolf

from benchmarks.anomaly.detectors.components import principal_components, symmetric_components
from benchmarks.anomaly.detectors.detector import Detector, Scored, mapped, register
from benchmarks.anomaly.detectors.features import (
    Reconstructing,
    brightness,
    denormalised,
    good_flux,
    normalised,
    scored_residuals,
)
from cubeprep.store import Windows, WindowStore
from modeling.scoring.residual_sums import median_snr

FILL_PASSES = 2


@register
class Random(Detector):
    """Baseline: chance."""

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
    """Baseline: brightness."""

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
    """Baseline: quality of the observation."""

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


class Pca(Reconstructing):
    """Residual of a reconstruction from the first principal components of the training galaxies.

    Attributes:
        num_components: number of components.
        copies: whether the rotations and mirror images of the training galaxies are trained on too.
    """

    group = "classical"
    num_components: int
    copies = False

    def fit(self, store: WindowStore, split: str) -> None:
        """Computes the mean and the principal components."""
        features = mapped(store, split, lambda windows: normalised(windows)[0])
        if self.copies:
            self.mean, self.components = symmetric_components(features, store.shape[2], self.num_components)
        else:
            self.mean, self.components = principal_components(features, self.num_components)

    def reconstruct(self, windows: Windows) -> np.ndarray:
        """Flux [row, line, sample, y, x] reconstructed from the components."""
        features, scale = normalised(windows)
        return denormalised(self._projected(features), scale, windows.flux.shape)

    def reconstruct_masked(self, windows: Windows) -> np.ndarray:
        """Flux reconstructed with masked samples of covered spaxels replaced by their reconstruction instead of 0."""
        features, scale = normalised(windows)
        missing = (windows.good.any(axis=(1, 2), keepdims=True) & ~windows.good).reshape(features.shape)
        found = self._projected(features)
        for _ in range(FILL_PASSES):
            found = self._projected(np.where(missing, found, features))
        return denormalised(found, scale, windows.flux.shape)

    def _projected(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) @ self.components.T @ self.components + self.mean


@register
class Pca32(Pca):
    """PCA with 32 components."""

    name = "PCA-32"
    num_components = 32


class Pca128(Pca):
    """PCA with 128 components."""

    name = "PCA-128"
    num_components = 128


class Pca512(Pca):
    """PCA with 512 components."""

    name = "PCA-512"
    num_components = 512


class Pca512Copies(Pca):
    """PCA with 512 components of the training galaxies in all orientations."""

    name = "PCA-512, rotated copies"
    num_components = 512
    copies = True
