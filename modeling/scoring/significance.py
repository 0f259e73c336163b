"""Significance of residuals beyond noise and the model's typical error: of a galaxy, its regions and its lines.

A residual is expressed in units of sigma: the noise given by `ivar` and, added in quadrature, the typical error of the
model at that sample of that line, a share of the local amplitude that is learned from calibration galaxies. Without
the latter every bright galaxy would be unusual.

Shapes: N galaxies, L lines, S samples, Y and X spaxels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from scipy.stats import median_abs_deviation

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
# Samples that the sums of a region or line are taken to have at least: chi2 of fewer has a long tail, and a single
# outlier among them would count as many standard deviations.
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
class RegionSums:
    """Sums of the residuals of N galaxies over the region around each spaxel, a square of `side` x `side` spaxels.

    An anomaly is at least as large as the PSF, so all spaxels of a region deviate alike. Residuals are therefore summed
    before they are squared, sample by sample.

    Attributes:
        chi2: [N, L, Y, X] sum over samples of the squared sum of residual_sigma over the root of the spaxels summed.
        samples: [N, L, Y, X] samples with a good spaxel in the region.
        whole: [N, L, Y, X] bool, whether all spaxels of the region are good at these samples.
        side: spaxels per side of a region.
    """

    chi2: np.ndarray
    samples: np.ndarray
    whole: np.ndarray
    side: int

    @classmethod
    def of(cls, residual_sigma: np.ndarray, good: np.ndarray, side: int = REGION_SIDE) -> "RegionSums":
        """Sums of residuals in sigma, [N, L, S, Y, X], over good samples (bool) alone."""
        total = _of_regions(np.where(good, residual_sigma, 0), side)
        count = np.rint(_of_regions(good, side))
        square = np.divide(total**2, count, out=np.zeros_like(total), where=count > 0)
        samples = (count > 0).sum(2)
        whole = (samples > 0) & (count.sum(2) == side**2 * samples)
        return cls(square.sum(2), samples.astype(np.uint16), whole, side)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All but the side."""
        return self.chi2, self.samples, self.whole

    @classmethod
    def concatenate(cls, parts: Sequence["RegionSums"]) -> "RegionSums":
        """Galaxies of several parts in one, in order."""
        chi2, samples, whole = map(np.concatenate, zip(*(part.arrays for part in parts), strict=True))
        return cls(chi2, samples, whole, parts[0].side)


@dataclass(frozen=True)
class TypicalSums:
    """Squares and spread of the residuals of ordinary galaxies, with which those of others are compared.

    Residuals in sigma are not independent normal numbers of unit variance: neighbouring spaxels share noise, since
    cubes are resampled, and a model's variance is right on average only.

    Attributes:
        square: [L] of the sum of a sample over a whole region, over the root of its spaxels. That of fewer spaxels is
            smaller, so that regions at the edge of a galaxy, of which less is known, count for less.
        line_spread: standard deviation of the excess chi2 of a line of a region, over that of independent samples.
        region_spread: the same of all lines of a region together.
    """

    square: np.ndarray
    line_spread: float
    region_spread: float

    @classmethod
    def of_noise(cls, num_lines: int) -> "TypicalSums":
        """Those of independent normal residuals of unit variance."""
        return cls(np.ones(num_lines), 1.0, 1.0)

    @classmethod
    def of(cls, sums: RegionSums) -> "TypicalSums":
        """Those of calibration galaxies, of which a few may be unusual: medians over their regions.

        1 where no region is whole, as for independent residuals.
        """
        num_lines = sums.chi2.shape[1]
        square = np.array([_typical_square(*(values[:, i] for values in sums.arrays)) for i in range(num_lines)])
        known = replace(cls.of_noise(num_lines), square=square)
        lines, regions = known.significance(known.excess(sums), sums.samples)
        covered = sums.whole.any(1)
        return replace(known, line_spread=_spread(lines[sums.whole]), region_spread=_spread(regions[covered]))

    def excess(self, sums: RegionSums) -> np.ndarray:
        """Excess chi2 [N, L, Y, X] of each line of each region, in units of the typical square of a sample."""
        return np.asarray(sums.chi2 / self.square.astype(np.float32)[:, None, None] - sums.samples)

    def significance(self, excess: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Significance of each line of each region, [N, L, Y, X], and of all lines together, [N, Y, X].

        Args:
            excess: of `excess`.
            samples: of the same `RegionSums`.
        """
        lines = _significance(excess, samples, MIN_LINE_SAMPLES) / self.line_spread
        return lines, _significance(excess.sum(1), samples.sum(1), MIN_REGION_SAMPLES) / self.region_spread

    def to_json(self) -> dict[str, Any]:
        """JSON values, for `from_json`."""
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "TypicalSums":
        """From the state that `to_json` returned."""
        return cls(np.array(state["square"]), float(state["line_spread"]), float(state["region_spread"]))


@dataclass(frozen=True)
class Significance:
    """Significance of the residuals of N galaxies: excess chi2 over its spread in ordinary galaxies.

    Attributes:
        region: [N] of the most unusual region, all lines together.
        peak: [N] of the most unusual line in any region.
        by_line: [N, L] of each line over all regions.
        by_spaxel: [N, Y, X] the higher of region and peak around each spaxel.
    """

    region: np.ndarray
    peak: np.ndarray
    by_line: np.ndarray
    by_spaxel: np.ndarray

    @classmethod
    def of(cls, sums: RegionSums, typical: TypicalSums) -> "Significance":
        """Significance of sums of residuals."""
        excess = typical.excess(sums)
        lines, regions = typical.significance(excess, sums.samples)
        # Each spaxel is in as many regions as a region has spaxels.
        of_lines = _significance(excess.sum((2, 3)) / sums.side, sums.samples.sum((2, 3)), MIN_LINE_SAMPLES)
        return cls(
            region=regions.max((1, 2)),
            peak=lines.max((1, 2, 3)),
            by_line=of_lines / typical.line_spread,
            by_spaxel=np.maximum(regions, lines.max(1)).astype(np.float32),
        )

    def table(self) -> np.ndarray:
        """Logarithms [N, 2] of region and peak, ln(1 + x).

        The whole-galaxy chi2 is excluded: every model has small errors everywhere, and in a large or bright galaxy they
        add up.
        """
        # Negative excesses are noise: none is less unusual than another.
        return np.log1p(np.maximum(np.column_stack([self.region, self.peak]), 0))


def mean_nll(residual_sigma: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Mean [N] of (residual_sigma^2 - 1) / 2 over good samples of [N, L, S, Y, X].

    The negative log-likelihood in nats above its expectation for normal residuals of unit variance.
    """
    total = np.where(good, residual_sigma**2 - 1, 0).sum((1, 2, 3, 4))
    return np.asarray(0.5 * total / np.maximum(good.sum((1, 2, 3, 4)), 1))


def _significance(excess: np.ndarray, count: np.ndarray, at_least: int) -> np.ndarray:
    """Excess of chi2 in units of sqrt(2 n), its standard deviation for normal noise in n samples."""
    return np.asarray(excess / np.sqrt(2 * np.maximum(count, at_least).astype(np.float32)))


def _typical_square(chi2: np.ndarray, samples: np.ndarray, whole: np.ndarray) -> float:
    """Median of chi2 a sample over whole regions; 1 where there is none."""
    count = samples[whole].astype(np.float32)
    # The median of chi2 with n degrees of freedom is n (1 - 2 / (9 n))^3 (Wilson & Hilferty 1931,
    # doi:10.1073/pnas.17.12.684).
    squares = chi2[whole] / (count * (1 - 2 / (9 * count)) ** 3)
    return float(np.median(squares)) or 1.0 if squares.size else 1.0


def _spread(values: np.ndarray) -> float:
    """Standard deviation by the median absolute deviation; 1 without values or spread."""
    return float(median_abs_deviation(values, scale="normal")) or 1.0 if values.size else 1.0


def _of_regions(values: np.ndarray, side: int) -> np.ndarray:
    """Sums over the region around each spaxel, [..., Y, X] float32; spaxels beyond the edge count as 0."""
    # uniform_filter returns means.
    return side**2 * uniform_filter(values.astype(np.float32), size=side, axes=(-2, -1), mode="constant")
