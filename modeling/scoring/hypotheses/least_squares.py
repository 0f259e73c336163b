"""Weighted least squares with nuisance spectra of limited size, for many templates at once.

The covariance of a spectrum is its noise and, for each nuisance spectrum u that may be added to it with amplitudes of
standard deviation 1, u u^T. Its inverse follows from that of the noise by the Woodbury identity.

Shapes: T samples, K nuisances, P trials, F columns of a trial.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

ROUNDS = 3  # of leaving out columns whose amplitude is negative
FLOOR = 1e-9  # of the largest element of a normal matrix's diagonal
UNUSED = 1e21  # times the floor: on a column's diagonal, this suppresses its amplitude


@dataclass(frozen=True)
class Fit:
    """Best trial of many.

    Attributes:
        flux: [F] amplitudes.
        trial: its index.
        gains: [P] chi2 that each trial removes.
        gram: [F, F] normal matrix.
    """

    flux: np.ndarray
    trial: int
    gains: np.ndarray
    gram: np.ndarray

    @property
    def gain(self) -> float:
        """Chi2 that the best trial removes."""
        return float(self.gains[self.trial])

    @cached_property
    def error(self) -> np.ndarray:
        """Standard deviations [F] of the amplitudes; of an amplitude of zero that which it would have alone."""
        used, diagonal = self.flux > 0, np.diag(self.gram)
        alone = np.where(used, 0, diagonal) + _floor(diagonal)
        return np.sqrt(np.diag(np.linalg.inv(self.gram * np.outer(used, used) + np.diag(alone))))


class Whitened:
    """A spectrum with its covariance."""

    def __init__(self, data: np.ndarray, variance: np.ndarray, nuisances: np.ndarray) -> None:
        """Prepares the inverse covariance.

        Args:
            data: [T].
            variance: [T]; infinite where there is no data.
            nuisances: [T, K].
        """
        self.weight = 1 / variance
        self.nuisances = nuisances
        self.weighted = self.weight[:, None] * nuisances
        # 1 + N^T W N = R^T R, whose R is never singular; R^-1 is a root of the inverse.
        rows = np.vstack([np.sqrt(self.weight)[:, None] * nuisances, np.eye(nuisances.shape[1])])
        half = np.linalg.inv(np.linalg.qr(rows, mode="r"))
        self.inner = half @ half.T
        # The squares of its products with a spectrum are the chi2 that nuisances explain of it.
        self.explained = self.weighted @ half
        self.data = data
        self.seen = data @ self.explained
        self.chi2 = float(data @ (self.weight * data) - self.seen @ self.seen)
        self.count = int((self.weight > 0).sum())

    def residual(self) -> np.ndarray:
        """Spectrum [T] less the nuisances that fit it best."""
        return np.asarray(self.data - self.nuisances @ (self.inner @ (self.weighted.T @ self.data)))

    def normal(self, templates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normal matrix [P, F, F] and right-hand side [P, F] of templates [P, F, T]."""
        weighted, shared = templates * self.weight, templates @ self.explained
        gram = weighted @ templates.swapaxes(1, 2) - shared @ shared.swapaxes(1, 2)
        return gram, weighted @ self.data - shared @ self.seen

    def fit(self, templates: np.ndarray) -> Fit:
        """Best of trials [P, F, T] with amplitudes that are not negative; see `best`."""
        return best(*self.normal(templates))


class Grid:
    """Trials that are fitted to many spectra, whose best one starts a refinement.

    Their templates are zero in most samples, and most pairs of columns have none in common.

    Attributes:
        points: [P, parameter] of the trials.
        pairs: columns [pair], [pair] that have samples in common in any trial.
        spectra: [P F, T] templates.
        products: [P pair, T] products of the columns of each pair.
    """

    def __init__(self, points: np.ndarray, templates: np.ndarray) -> None:
        """Finds the non-zero samples of templates [P, F, T] of points [P, parameter]."""
        seen = (templates != 0).astype(np.float32)
        self.points = points
        self.pairs = np.nonzero((seen @ seen.swapaxes(1, 2)).any(0))
        self.spectra, self.products = (
            csr_array(each.reshape(-1, each.shape[-1]))
            for each in (templates, templates[:, self.pairs[0]] * templates[:, self.pairs[1]])
        )

    def best_point(self, data: Whitened) -> np.ndarray:
        """Parameters of the best trial."""
        return np.asarray(self.points[best(*self.normal(data), rounds=1).trial])

    def normal(self, data: Whitened) -> tuple[np.ndarray, np.ndarray]:
        """The same as `Whitened.normal` of the templates."""
        num = len(self.points)
        shared = (self.spectra @ data.explained).reshape(num, -1, data.explained.shape[1])
        gram = -shared @ shared.swapaxes(1, 2)
        gram[:, *self.pairs] += (self.products @ data.weight).reshape(num, -1)
        return gram, (self.spectra @ (data.weight * data.data)).reshape(num, -1) - shared @ data.seen


def best(gram: np.ndarray, right: np.ndarray, rounds: int = ROUNDS) -> Fit:
    """Best of trials with amplitudes that are not negative.

    Args:
        gram: [P, F, F] normal matrices.
        right: [P, F] right-hand sides.
        rounds: of leaving out columns of negative amplitude; one suffices to choose from a coarse grid.
    """
    columns = np.arange(gram.shape[1])
    diagonal = gram[:, columns, columns]
    floor = _floor(diagonal)
    used = diagonal > floor
    for _ in range(rounds):
        kept = gram.copy()
        kept[:, columns, columns] += np.where(used, floor, UNUSED * floor)
        amplitude = np.where(used, np.linalg.solve(kept, right[..., None])[..., 0], 0)
        negative = amplitude < 0
        if not negative.any():
            break
        used &= ~negative
    amplitude = np.maximum(amplitude, 0)
    gains = (amplitude * (2 * right - (gram @ amplitude[..., None])[..., 0])).sum(1)
    trial = int(gains.argmax())
    return Fit(amplitude[trial], trial, gains, gram[trial])


def _floor(diagonal: np.ndarray) -> np.ndarray:
    """Floor added to the diagonals [..., F] of normal matrices; columns below it have no data."""
    return np.asarray(FLOOR * diagonal.max(-1, keepdims=True) + 1e-300)
