"""Significance of residuals beyond noise and the model's typical error: of a galaxy, its regions and its lines.

A residual is expressed in units of sigma: the noise given by `ivar` and, added in quadrature, the typical error of the
model at that sample of that line, a share of the local amplitude that is learned from calibration galaxies. Without
the latter every bright galaxy would be unusual.

Shapes: N galaxies, L lines, S samples, Y and X spaxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from cubeprep.masks import good_samples
from modeling.network.spaxel_code import local_amplitude

# Shares of the local amplitude that bracket the typical error. The sums of each candidate add over galaxies, so that
# one pass over the data finds the maximum of the likelihood.
ERROR_GRID = np.geomspace(1e-3, 1.0, 25)
# Squared residuals are clipped at this value so that anomalies among the calibration galaxies do not inflate the
# typical error.
CLIPPED_CHI2 = 25.0
# Spaxels per side of a region, unless the network says otherwise.
REGION_SIDE = 3
# Samples that a region or line is taken to have at least: chi2 of fewer has a long tail, and a single outlier among
# them would count as many standard deviations.
MIN_REGION_SAMPLES = 50
MIN_LINE_SAMPLES = 10


@dataclass(frozen=True)
class Residuals:
    """Residuals of a reconstruction, with all that their significance needs.

    Attributes:
        flux: [N, L, S, Y, X] observed, flux units; 0 where not good.
        residual: the same shape, flux less reconstruction; 0 where not good.
        variance: the same shape, of the flux; 1 where not good.
        amplitude: [N, Y, X] of `local_amplitude`, flux units.
        good: [N, L, S, Y, X] bool.
    """

    flux: np.ndarray
    residual: np.ndarray
    variance: np.ndarray
    amplitude: np.ndarray
    good: np.ndarray

    @classmethod
    def of(cls, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, reconstruction: np.ndarray) -> "Residuals":
        """Residuals of windows [N, L, S, Y, X] to a reconstruction of that shape; masked values are never read."""
        good = good_samples(flux, ivar, mask)
        # Masked before any arithmetic: a masked sample may hold NaN, which 0 x NaN does not remove.
        flux = np.where(good, flux, 0).astype(np.float32)
        amplitude = local_amplitude(torch.from_numpy(flux), torch.from_numpy(good)).numpy()
        variance = np.divide(1, ivar, out=np.ones(flux.shape, np.float32), where=good)
        residual = np.where(good, flux - reconstruction, 0).astype(np.float32)
        return cls(flux, residual, variance, amplitude, good)

    def without(self, bad: np.ndarray) -> "Residuals":
        """Residuals with further samples masked; `bad` broadcasts to [N, L, S, Y, X] bool."""
        good = self.good & ~bad
        return replace(
            self,
            flux=np.where(good, self.flux, 0),
            residual=np.where(good, self.residual, 0),
            variance=np.where(good, self.variance, 1),
            good=good,
        )

    def against(self, reconstruction: np.ndarray) -> "Residuals":
        """Residuals to another reconstruction [N, L, S, Y, X], scaled by its own amplitude.

        With the observed amplitude a region could never be flagged as too bright: its sigma would grow with its flux.
        """
        reconstruction = np.where(self.good, reconstruction, 0).astype(np.float32)
        amplitude = local_amplitude(torch.from_numpy(reconstruction), torch.from_numpy(self.good)).numpy()
        return replace(self, residual=self.flux - reconstruction, amplitude=amplitude)

    def residual_sigma(self, error: np.ndarray) -> np.ndarray:
        """Residuals [N, L, S, Y, X] over their sigma, 0 where not good; `error` [L, S] as of `ErrorSums`."""
        floor = error[None, :, :, None, None] * self.amplitude[:, None, None]
        return (self.residual / np.sqrt(self.variance + floor**2)).astype(np.float32)


@dataclass(frozen=True)
class ErrorSums:
    """Sums over calibration galaxies that determine the typical error; they add, so parts may be computed anywhere.

    With r a residual, v its noise variance, a the local amplitude and e the error as a share of it, the log-likelihood
    is -1/2 sum(ln(v + e^2 a^2) + r^2 / (v + e^2 a^2)). Its derivative by e^2, times 2, is

        sum(a^2 w (r^2 w - 1)),   w = 1 / (v + e^2 a^2)

    Attributes:
        score: [candidate, L, S] that derivative at each error of `ERROR_GRID`.
    """

    score: np.ndarray

    @classmethod
    def of(cls, residuals: Residuals) -> "ErrorSums":
        """Sums over the galaxies of some residuals."""
        square, power = residuals.residual**2, residuals.amplitude[:, None, None] ** 2
        scores = []
        for error in ERROR_GRID:
            weight = residuals.good / (residuals.variance + np.float32(error**2) * power)
            excess = np.minimum(square * weight, CLIPPED_CHI2) - 1
            # float64: terms of either sign, which nearly cancel at the maximum of the likelihood.
            scores.append((power * weight * excess).sum((0, 3, 4), dtype=np.float64))
        return cls(np.stack(scores))

    @classmethod
    def total(cls, parts: Sequence["ErrorSums"]) -> "ErrorSums":
        """Sums over the galaxies of all parts."""
        return cls(np.sum([part.score for part in parts], axis=0))

    def typical_error(self) -> np.ndarray:
        """Typical reconstruction error [L, S], a share of the local amplitude: the one of highest likelihood.

        The smallest of `ERROR_GRID` where there are no data, or where noise alone explains the residuals.
        """
        above = self.score > 0
        # The derivative falls with the error: its last positive candidate and the next bracket the zero.
        last = np.where(above.any(0), len(ERROR_GRID) - 1 - above[::-1].argmax(0), -1)
        low, high = np.clip(last, 0, None), np.clip(last + 1, 0, len(ERROR_GRID) - 1)
        at_low, at_high = (np.take_along_axis(self.score, index[None], 0)[0] for index in (low, high))
        fall = at_low - at_high
        share = np.clip(np.divide(at_low, fall, out=np.zeros_like(fall), where=fall > 0), 0, 1)
        # Linear in the logarithm of the error, in which the grid is even.
        log_grid = np.log(ERROR_GRID)
        error: np.ndarray = np.exp(log_grid[low] + share * (log_grid[high] - log_grid[low]))
        return error.astype(np.float32)


@dataclass(frozen=True)
class Significance:
    """Significance of the residuals of N galaxies; about 0 for pure noise and the typical error.

    Attributes:
        nll: [N] mean of (residual_sigma^2 - 1) / 2 over good samples: negative log-likelihood in nats above its
            expectation for a typical galaxy.
        region: [N] excess chi2 of the most unusual region, all lines together, over its standard deviation.
        peak: [N] the same of the most unusual line of the most unusual region.
        by_line: [N, L] the same of each line over all spaxels.
        by_spaxel: [N, Y, X] the higher of region and peak around each spaxel.

    A region is a square of 3 x 3 spaxels, or of the size that `of` is given.
    """

    nll: np.ndarray
    region: np.ndarray
    peak: np.ndarray
    by_line: np.ndarray
    by_spaxel: np.ndarray

    @classmethod
    def of(cls, residual_sigma: np.ndarray, good: np.ndarray, side: int = REGION_SIDE) -> "Significance":
        """Significance of residuals in sigma, [N, L, S, Y, X], over good samples alone.

        Args:
            residual_sigma: of `Residuals.residual_sigma`.
            good: the same shape, bool.
            side: spaxels per side of a region.
        """
        # A squared normal residual is 1 on average, so noise adds up to an excess of about zero.
        excess = np.where(good, residual_sigma**2 - 1, 0).sum(2)
        count = good.sum(2, dtype=np.float32)
        total, samples = excess.sum((1, 2, 3)), count.sum((1, 2, 3))
        lines = _significance(_of_regions(excess, side), _of_regions(count, side), MIN_LINE_SAMPLES)
        regions = _significance(_of_regions(excess.sum(1), side), _of_regions(count.sum(1), side), MIN_REGION_SAMPLES)
        return cls(
            nll=0.5 * total / np.maximum(samples, 1),
            region=regions.max((1, 2)),
            peak=lines.max((1, 2, 3)),
            by_line=_significance(excess.sum((2, 3)), count.sum((2, 3)), MIN_LINE_SAMPLES),
            by_spaxel=np.maximum(regions, lines.max(1)).astype(np.float32),
        )

    def table(self) -> np.ndarray:
        """Logarithms [N, 2] of region and peak, ln(1 + x).

        The whole-galaxy chi2 is excluded: every model has small errors everywhere, and in a large or bright galaxy they
        add up.
        """
        # Negative excesses are noise: none is less unusual than another.
        return np.log1p(np.maximum(np.column_stack([self.region, self.peak]), 0))


def _significance(excess: np.ndarray, count: np.ndarray, at_least: int) -> np.ndarray:
    """Excess of chi2 in units of sqrt(2 n), its standard deviation for normal noise in n samples."""
    return np.asarray(excess / np.sqrt(2 * np.maximum(count, at_least)))


def _of_regions(values: np.ndarray, side: int) -> np.ndarray:
    """Sums over the region around each spaxel, [..., Y, X]; spaxels beyond the edge count as 0."""
    size = (1,) * (values.ndim - 2) + (side, side)
    # uniform_filter returns means.
    return side**2 * uniform_filter(values.astype(np.float64), size=size, mode="constant")
