"""How much of a galaxy the model leaves over beyond noise and its own usual error: in all, by region, by line.

A residual is scores in units of sigma: the noise that `ivar` tells, and in quadrature the error that the model usually
makes at this sample of this line, a share of the local amplitude that is learned from calibration galaxies. Without the
latter each bright galaxy would be unusual.

Shapes: N galaxies, L lines, S samples, Y and X spaxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from cubeprep.masks import good_samples
from modeling.network.spaxel_code import local_amplitude

# Shares of the local amplitude among which the usual error of the model is sought.
ERROR_GRID = np.geomspace(1e-3, 1.0, 25)
# A squared residual counts as this at most, so that anomalies among the calibration galaxies do not count as usual.
CLIPPED_CHI2 = 25.0
MIN_REGION_SAMPLES = 50
MIN_LINE_SAMPLES = 10


@dataclass(frozen=True)
class Residuals:
    """What a model leaves over.

    Attributes:
        flux: [N, L, S, Y, X] as observed, flux units; 0 where not good.
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
        """The residuals of windows [N, L, S, Y, X]; masked values are never read."""
        good = good_samples(flux, ivar, mask)
        flux = np.where(good, flux, 0).astype(np.float32)
        amplitude = local_amplitude(torch.from_numpy(flux), torch.from_numpy(good)).numpy()
        variance = np.divide(1, ivar, out=np.ones(flux.shape, np.float32), where=good)
        residual = np.where(good, flux - reconstruction, 0).astype(np.float32)
        return cls(flux, residual, variance, amplitude, good)

    def without(self, spoiled: np.ndarray) -> "Residuals":
        """The same with samples [N, L, S, Y, X] bool left out."""
        good = self.good & ~spoiled
        return replace(
            self,
            flux=np.where(good, self.flux, 0),
            residual=np.where(good, self.residual, 0),
            variance=np.where(good, self.variance, 1),
            good=good,
        )

    def against(self, reconstruction: np.ndarray) -> "Residuals":
        """The same of another reconstruction [N, L, S, Y, X], scores by the light that it expects.

        A spread that grew with the light that is there would let no galaxy be too bright.
        """
        expected = np.where(self.good, reconstruction, 0).astype(np.float32)
        amplitude = local_amplitude(torch.from_numpy(expected), torch.from_numpy(self.good)).numpy()
        return replace(self, residual=self.flux - expected, amplitude=amplitude)

    def residual_sigma(self, error: np.ndarray) -> np.ndarray:
        """[N, L, S, Y, X] the residual in sigma; 0 where not good. `error` is that of `ErrorSums.typical_error`."""
        floor = error[None, :, :, None, None] * self.amplitude[:, None, None]
        return (self.residual / np.sqrt(self.variance + floor**2)).astype(np.float32)


@dataclass(frozen=True)
class ErrorSums:
    """What the usual error is found from; sums over galaxies, so that parts may be made anywhere.

    Attributes:
        score: [candidate, L, S] derivative of the Gaussian log-likelihood by the error's variance, times 2.
    """

    score: np.ndarray

    @classmethod
    def of(cls, residuals: Residuals) -> "ErrorSums":
        """The sums of some galaxies."""
        square, power = residuals.residual**2, residuals.amplitude[:, None, None] ** 2
        scores = []
        for error in ERROR_GRID:
            weight = residuals.good / (residuals.variance + np.float32(error**2) * power)
            excess = np.minimum(square * weight, CLIPPED_CHI2) - 1
            scores.append((power * weight * excess).sum((0, 3, 4), dtype=np.float64))
        return cls(np.stack(scores))

    @classmethod
    def total(cls, parts: Sequence["ErrorSums"]) -> "ErrorSums":
        """The sums of all."""
        return cls(np.sum([part.score for part in parts], axis=0))

    def typical_error(self) -> np.ndarray:
        """[L, S] the error of highest likelihood, a share of the local amplitude; the least where there are no data."""
        above = self.score > 0
        # The score falls with the error: its last positive candidate and the next bracket the zero.
        last = np.where(above.any(0), len(ERROR_GRID) - 1 - above[::-1].argmax(0), -1)
        low, high = np.clip(last, 0, None), np.clip(last + 1, 0, len(ERROR_GRID) - 1)
        at_low, at_high = (np.take_along_axis(self.score, index[None], 0)[0] for index in (low, high))
        fall = at_low - at_high
        share = np.clip(np.divide(at_low, fall, out=np.zeros_like(fall), where=fall > 0), 0, 1)
        log_grid = np.log(ERROR_GRID)
        error: np.ndarray = np.exp(log_grid[low] + share * (log_grid[high] - log_grid[low]))
        return error.astype(np.float32)


@dataclass(frozen=True)
class Significance:
    """How significant the residuals of each galaxy are; [N] where not said, about 0 for noise and the usual error.

    Attributes:
        nll: mean of (z^2 - 1) / 2 over good samples: negative log-likelihood in nats above that of the usual.
        region: excess of chi2 of the most unusual 3 x 3 spaxels, all lines together, over its standard deviation.
        peak: the same of the most unusual line of the most unusual 3 x 3 spaxels.
        by_line: [N, L] the same of each line.
        by_spaxel: [N, Y, X] the higher of region and peak about each spaxel.
    """

    nll: np.ndarray
    region: np.ndarray
    peak: np.ndarray
    by_line: np.ndarray
    by_spaxel: np.ndarray

    @classmethod
    def of(cls, residual_sigma: np.ndarray, good: np.ndarray) -> "Significance":
        """The significance of residuals in sigma [N, L, S, Y, X], of which those count that are good."""
        excess = np.where(good, residual_sigma**2 - 1, 0).sum(2)
        count = good.sum(2, dtype=np.float32)
        total, samples = excess.sum((1, 2, 3)), count.sum((1, 2, 3))
        lines = _significance(_of_regions(excess), _of_regions(count), MIN_LINE_SAMPLES)
        regions = _significance(_of_regions(excess.sum(1)), _of_regions(count.sum(1)), MIN_REGION_SAMPLES)
        return cls(
            nll=0.5 * total / np.maximum(samples, 1),
            region=regions.max((1, 2)),
            peak=lines.max((1, 2, 3)),
            by_line=_significance(excess.sum((2, 3)), count.sum((2, 3)), MIN_LINE_SAMPLES),
            by_spaxel=np.maximum(regions, lines.max(1)).astype(np.float32),
        )

    def table(self) -> np.ndarray:
        """[N, 2] logarithms of region and peak.

        The chi2 of the whole galaxy is no part of it: every model errs a little everywhere, and in a large or bright
        galaxy that adds up.
        """
        return np.log1p(np.maximum(np.column_stack([self.region, self.peak]), 0))


def _significance(excess: np.ndarray, count: np.ndarray, at_least: int) -> np.ndarray:
    """Excess of chi2 in units of its standard deviation for normal noise."""
    return np.asarray(excess / np.sqrt(2 * np.maximum(count, at_least)))


def _of_regions(values: np.ndarray) -> np.ndarray:
    """Sums over 3 x 3 spaxels about each, [..., Y, X]."""
    size = (1,) * (values.ndim - 2) + (3, 3)
    return 9 * uniform_filter(values.astype(np.float64), size=size, mode="constant")
