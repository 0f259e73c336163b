"""Calibrates raw scores: corrects them for nuisances and converts them to p-values and false discovery rates.

A raw score also depends on brightness, S/N and the size of the bundle, which make no galaxy unusual.
`NuisanceRegression` predicts the score from these nuisances, learned from calibration galaxies, and returns the excess
in units of its spread. `conformal_p_values` ranks a score among calibration galaxies of its kind; `q_values`
converts p-values to the false discovery rate of each threshold.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

# A regression on three nuisances through fewer galaxies follows their own scores, and would hide them.
MIN_REGRESSION = 10
# Calibration galaxies from which a share of ordinary galaxies is estimated; its error is one over the root of these.
MIN_SHARE = 50


class NuisanceRegression:
    """Regression of a score on nuisances, with a robust location and a constant spread.

    The location is a ridge regression with Huber's weights, since calibration galaxies may hold anomalies too. The
    spread is constant. A spread that varied with the nuisances would be estimated from the few extreme galaxies that
    matter most.

    Source: Huber 1964, doi:10.1214/aoms/1177703732.
    """

    def __init__(self, *, ridge: float = 1.0) -> None:
        """Unfitted regression; the penalty `ridge` has the weight of that many galaxies without any dependence."""
        self._ridge = ridge

    def fit(self, score: np.ndarray, nuisances: np.ndarray) -> "NuisanceRegression":
        """Fits the regression to calibration galaxies and returns it.

        Args:
            score: [galaxy]; NaN is left out.
            nuisances: [galaxy, nuisance], such as the logarithms of flux and S/N; NaN is left out.

        Raises:
            ValueError: fewer than three galaxies are left.
        """
        known = np.isfinite(score) & np.isfinite(nuisances).all(axis=1)
        if known.sum() < 3:
            raise ValueError(f"{known.sum()} galaxies with a score and nuisances: too few to calibrate on")
        # float64: the normal equations square the condition number.
        score, nuisances = score[known].astype(np.float64), nuisances[known].astype(np.float64)
        # Standardised, so that one ridge penalty means the same for every nuisance.
        self._center, self._scale = nuisances.mean(axis=0), nuisances.std(axis=0)
        self._scale[self._scale == 0] = 1.0
        terms = self._terms(nuisances)
        weights = np.ones(len(score))
        # Iteratively reweighted least squares; 1.345 gives Huber's estimator 95% efficiency for normal residuals, and
        # 1.4826 converts a median absolute deviation to a standard deviation.
        for _ in range(30):
            self._location = _ridge_fit(terms, score, weights, self._ridge)
            residual = np.abs(score - terms @ self._location)
            limit = 1.345 * 1.4826 * max(float(np.median(residual)), 1e-12)
            weights = np.minimum(1.0, limit / np.maximum(residual, 1e-300))
        self._spread = 1.4826 * max(float(np.median(residual)), 1e-12)
        return self

    def transform(self, score: np.ndarray, nuisances: np.ndarray) -> np.ndarray:
        """Excess [galaxy] of a score over its prediction, in units of the spread; NaN where score or nuisances are.

        Nuisance values beyond three standard deviations of the calibration galaxies are clipped to that range.

        Args:
            score: [galaxy].
            nuisances: [galaxy, nuisance], as in `fit`.
        """
        return np.asarray((score - self._terms(nuisances.astype(np.float64)) @ self._location) / self._spread)

    @classmethod
    def of_nothing(cls, num_nuisances: int) -> "NuisanceRegression":
        """Regression that changes no score, for samples too small to learn from."""
        zeros, ones = [0.0] * num_nuisances, [1.0] * num_nuisances
        return cls.from_json({"center": zeros, "scale": ones, "location": [0.0, *zeros], "spread": 1.0})

    def to_json(self) -> dict[str, Any]:
        """Fitted state as JSON values, for `from_json`."""
        arrays = {"center": self._center, "scale": self._scale, "location": self._location}
        return {name: values.tolist() for name, values in arrays.items()} | {"spread": self._spread}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "NuisanceRegression":
        """Regression from the state that `to_json` returned."""
        fitted = cls()
        fitted._center, fitted._scale, fitted._location = (np.array(state[k]) for k in ("center", "scale", "location"))
        fitted._spread = float(state["spread"])
        return fitted

    def _terms(self, nuisances: np.ndarray) -> np.ndarray:
        # A linear fit must not be extrapolated to a galaxy far outside the calibration sample.
        x = np.clip((nuisances - self._center) / self._scale, -3, 3)
        return np.column_stack([np.ones(len(x)), x])


def regressed(score: np.ndarray, nuisances: np.ndarray) -> NuisanceRegression:
    """Regression of a score [galaxy] on nuisances [galaxy, nuisance]; without effect if too few galaxies have both."""
    if (np.isfinite(score) & np.isfinite(nuisances).all(axis=1)).sum() < MIN_REGRESSION:
        return NuisanceRegression.of_nothing(nuisances.shape[1])
    return NuisanceRegression().fit(score, nuisances)


def _ridge_fit(terms: np.ndarray, values: np.ndarray, weights: np.ndarray, ridge: float) -> np.ndarray:
    """Coefficients [term] of weighted least squares with a ridge penalty on all but the constant."""
    penalty = ridge * np.eye(terms.shape[1])
    penalty[0, 0] = 0.0  # shrinking the mean score towards zero would bias every excess
    weighted = terms * weights[:, None]
    return np.linalg.solve(weighted.T @ terms + penalty, weighted.T @ values)


def conformal_p_values(
    score: ArrayLike,
    calibration_score: ArrayLike,
    kind: ArrayLike | None = None,
    calibration_kind: ArrayLike | None = None,
) -> np.ndarray:
    """Conformal p-value of each score among calibration galaxies of its kind.

    For a galaxy that is exchangeable with them, P(p <= a) <= a for any a, whatever the score (Vovk et al. 2005; with
    kinds: Mondrian conformal prediction). The smallest value that n galaxies can give is 1 / (n + 1).

    Args:
        score: [galaxy], high is unusual; NaN gives NaN.
        calibration_score: [calibration galaxy]; NaN is left out.
        kind: [galaxy] such as a bin of S/N and size; all of one kind by default.
        calibration_kind: [calibration galaxy].

    Returns:
        p-values [galaxy]; 1 where no calibration galaxy is of its kind.
    """
    score, calibration_score = np.asarray(score, np.float64), np.asarray(calibration_score, np.float64)
    kind = np.zeros(len(score), int) if kind is None else np.asarray(kind)
    calibration_kind = (
        np.zeros(len(calibration_score), int) if calibration_kind is None else np.asarray(calibration_kind)
    )
    known = np.isfinite(calibration_score)
    p_values = np.ones(len(score))
    for value in np.unique(kind):
        chosen = kind == value
        reference = np.sort(calibration_score[known & (calibration_kind == value)])
        # From the left: a tie counts as at least as high, which keeps the p-value conservative.
        at_least = len(reference) - np.searchsorted(reference, score[chosen], side="left")
        # The galaxy itself is one of the n + 1 exchangeable ones, hence the 1 in both.
        p_values[chosen] = (1 + at_least) / (len(reference) + 1)
    return np.where(np.isnan(score), np.nan, p_values)


def q_values(p_values: ArrayLike, num_calibration: int) -> np.ndarray:
    """q-value of each galaxy: the lowest false discovery rate at which it is still a detection.

    Benjamini & Hochberg (1995), whose rate is too high by one over the share of ordinary galaxies, times an estimate of
    that share (Storey et al. 2004, doi:10.1111/j.1467-9868.2004.00439.x; for conformal p-values Bates et al. 2023,
    doi:10.1214/22-AOS2244).

    Args:
        p_values: [galaxy]; NaN stays NaN and does not count.
        num_calibration: galaxies that the p-values were calibrated on. With fewer than `MIN_SHARE` all count as
            ordinary: p-values that share so few are correlated and constrain the share poorly.
    """
    p_values = np.asarray(p_values, np.float64)
    known = np.isfinite(p_values)
    q_values = np.full(len(p_values), np.nan)
    share = ordinary_share(p_values[known]) if num_calibration >= MIN_SHARE else 1.0
    q_values[known] = share * false_discovery_control(p_values[known])
    return q_values


def ordinary_share(p_values: np.ndarray) -> float:
    """Share of ordinary galaxies, half of whose p-values are above 1/2, from p-values [galaxy]; 1 at most."""
    # One more is counted than there are, which keeps the false discovery rate in small surveys too.
    return min(1.0, (1 + np.count_nonzero(p_values > 0.5)) / (0.5 * len(p_values))) if len(p_values) else 1.0


def quantile_bins(values: ArrayLike, edges: ArrayLike) -> np.ndarray:
    """Bin number [galaxy] of each value between inner edges, such as calibration quantiles; -1 for NaN."""
    values = np.asarray(values, np.float64)
    return np.where(np.isnan(values), -1, np.searchsorted(np.asarray(edges), values, side="right"))
