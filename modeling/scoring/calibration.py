"""From raw scores to scores that can be compared and thresholds that can be trusted.

A raw score follows what has nothing to do with being unusual: brightness, S/N, the size of the bundle. `NuisanceRegression`
learns from calibration galaxies what score is usual for such a galaxy, and gives the excess in units of its spread.
`conformal_p_values` says how rare a score is among calibration galaxies of its kind, `benjamini_hochberg` what share of
false finds a threshold lets in.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control


class NuisanceRegression:
    """What score is usual for a galaxy of given nuisances.

    The location is a ridge regression on the nuisances, fitted robustly (Huber's weights), since calibration galaxies
    may hold anomalies too. The spread is the same for all: the extreme scores decide, and one that depends on nuisances
    would be told by few of them.
    """

    def __init__(self, *, ridge: float = 1.0) -> None:
        """`ridge` is the penalty, in galaxies' worth of significance for no dependence at all."""
        self._ridge = ridge

    def fit(self, score: np.ndarray, nuisances: np.ndarray) -> "NuisanceRegression":
        """Learns from calibration galaxies.

        Args:
            score: [galaxy]; NaN is left out.
            nuisances: [galaxy, nuisance], such as the logarithms of flux and S/N; NaN is left out.

        Raises:
            ValueError: fewer than three galaxies are left.
        """
        known = np.isfinite(score) & np.isfinite(nuisances).all(axis=1)
        if known.sum() < 3:
            raise ValueError(f"{known.sum()} galaxies with a score and nuisances: too few to calibrate on")
        score, nuisances = score[known].astype(np.float64), nuisances[known].astype(np.float64)
        self._center, self._scale = nuisances.mean(axis=0), nuisances.std(axis=0)
        self._scale[self._scale == 0] = 1.0
        terms = self._terms(nuisances)
        weights = np.ones(len(score))
        for _ in range(30):
            self._location = _ridge_fit(terms, score, weights, self._ridge)
            residual = np.abs(score - terms @ self._location)
            limit = 1.345 * 1.4826 * max(float(np.median(residual)), 1e-12)
            weights = np.minimum(1.0, limit / np.maximum(residual, 1e-300))
        self._spread = 1.4826 * max(float(np.median(residual)), 1e-12)
        return self

    def transform(self, score: np.ndarray, nuisances: np.ndarray) -> np.ndarray:
        """[galaxy] the excess over what is usual in units of its spread; NaN where score or nuisances are.

        Nuisances beyond those of the calibration galaxies are taken for the outermost of them.
        """
        return np.asarray((score - self._terms(nuisances.astype(np.float64)) @ self._location) / self._spread)

    @classmethod
    def of_nothing(cls, num_nuisances: int) -> "NuisanceRegression":
        """One that changes no score: where there is nothing to learn from."""
        zeros, ones = [0.0] * num_nuisances, [1.0] * num_nuisances
        return cls.from_json({"center": zeros, "scale": ones, "location": [0.0, *zeros], "spread": 1.0})

    def to_json(self) -> dict[str, Any]:
        """What it has learned."""
        arrays = {"center": self._center, "scale": self._scale, "location": self._location}
        return {name: values.tolist() for name, values in arrays.items()} | {"spread": self._spread}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "NuisanceRegression":
        """The inverse of `to_json`."""
        found = cls()
        found._center, found._scale, found._location = (np.array(state[k]) for k in ("center", "scale", "location"))
        found._spread = float(state["spread"])
        return found

    def _terms(self, nuisances: np.ndarray) -> np.ndarray:
        x = np.clip((nuisances - self._center) / self._scale, -3, 3)
        return np.column_stack([np.ones(len(x)), x])


def _ridge_fit(terms: np.ndarray, values: np.ndarray, weights: np.ndarray, ridge: float) -> np.ndarray:
    """Weighted least squares with a penalty on all coefficients but the constant's."""
    penalty = ridge * np.eye(terms.shape[1])
    penalty[0, 0] = 0.0
    weighted = terms * weights[:, None]
    return np.linalg.solve(weighted.T @ terms + penalty, weighted.T @ values)


def conformal_p_values(
    score: ArrayLike,
    calibration_score: ArrayLike,
    kind: ArrayLike | None = None,
    calibration_kind: ArrayLike | None = None,
) -> np.ndarray:
    """How rare each score is among calibration galaxies of its kind.

    For a galaxy that is exchangeable with them, P(p <= a) <= a for any a, whatever the score (Vovk et al. 2005; with
    kinds: Mondrian conformal prediction). The smallest value that n galaxies can give is 1 / (n + 1).

    Args:
        score: [galaxy], high is unusual; NaN gives NaN.
        calibration_score: [calibration galaxy]; NaN is left out.
        kind: [galaxy] such as a bin of S/N and size; all of one kind by default.
        calibration_kind: [calibration galaxy].

    Returns:
        [galaxy] p-values; 1 where no calibration galaxy is of its kind.
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
        at_least = len(reference) - np.searchsorted(reference, score[chosen], side="left")
        p_values[chosen] = (1 + at_least) / (len(reference) + 1)
    return np.where(np.isnan(score), np.nan, p_values)


def benjamini_hochberg(p_values: ArrayLike) -> np.ndarray:
    """The q-value of each galaxy: the least false discovery rate at which it is still among the finds.

    Benjamini & Hochberg (1995). NaN p-values stay NaN and do not count.
    """
    p_values = np.asarray(p_values, np.float64)
    q_values = np.full(len(p_values), np.nan)
    known = np.isfinite(p_values)
    q_values[known] = false_discovery_control(p_values[known])
    return q_values


def quantile_bins(values: ArrayLike, edges: ArrayLike) -> np.ndarray:
    """[galaxy] the bin of each value between inner edges, such as quantiles of the calibration galaxies; -1 for NaN."""
    values = np.asarray(values, np.float64)
    return np.where(np.isnan(values), -1, np.searchsorted(np.asarray(edges), values, side="right"))
