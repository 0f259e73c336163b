"""Weighted least squares with nuisance spectra of limited size, for many templates at once.

The covariance of a spectrum is its noise and, for each nuisance spectrum u that may be added to it with amplitudes of
standard deviation 1, u u^T. Its inverse follows from that of the noise by the Woodbury identity.

Shapes: T samples, K nuisances, P trials, F columns of a trial.
"""

from dataclasses import dataclass

import numpy as np

ROUNDS = 3  # of leaving out columns whose amplitude is negative


@dataclass(frozen=True)
class Fit:
    """Trials with amplitudes that are not negative.

    Attributes:
        gains: [P] chi2 that each removes.
        flux: [P, F] amplitudes.
        gram: [P, F, F] normal matrices.
    """

    gains: np.ndarray
    flux: np.ndarray
    gram: np.ndarray

    @property
    def best(self) -> int:
        """Index of the trial of the highest gain."""
        return int(self.gains.argmax())

    def error(self, trial: int) -> np.ndarray:
        """Standard deviations [F] of the amplitudes of a trial; of one of zero the error that it would have alone."""
        gram, used = self.gram[trial], self.flux[trial] > 0
        floor = 1e-9 * np.diag(gram).max() + 1e-300
        free = gram * np.outer(used, used) + np.diag(np.where(used, floor, np.diag(gram) + floor))
        return np.asarray(np.sqrt(np.diag(np.linalg.inv(free))))


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
        self.inner = np.linalg.inv(np.eye(nuisances.shape[1]) + nuisances.T @ self.weighted)
        self.data, self.target = data, self.weight * data
        self.seen = self.inner @ (self.weighted.T @ data)
        self.chi2 = float(data @ self.target - data @ self.weighted @ self.seen)
        self.count = int((self.weight > 0).sum())

    def residual(self) -> np.ndarray:
        """Spectrum [T] less the nuisances that fit it best."""
        return np.asarray(self.data - self.nuisances @ self.seen)

    def normal(self, templates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normal matrix [P, F, F] and right-hand side [P, F] of templates [P, F, T]."""
        weighted = templates * self.weight
        shared = templates @ self.weighted
        gram = weighted @ templates.swapaxes(1, 2) - shared @ self.inner @ shared.swapaxes(1, 2)
        return gram, templates @ self.target - shared @ self.seen

    def fit(self, templates: np.ndarray, rounds: int = ROUNDS) -> Fit:
        """Fits of trials [P, F, T]; see `fitted`."""
        return fitted(*self.normal(templates), rounds)


def fitted(gram: np.ndarray, right: np.ndarray, rounds: int = ROUNDS) -> Fit:
    """Fits of trials with amplitudes that are not negative.

    Args:
        gram: [P, F, F] normal matrices.
        right: [P, F] right-hand sides.
        rounds: of leaving out columns of negative amplitude; one suffices to choose from a coarse grid.
    """
    diagonal = np.einsum("pff->pf", gram)
    # Columns without data: an amplitude of zero.
    floor = 1e-9 * diagonal.max(1, keepdims=True) + 1e-300
    used = diagonal > floor
    eye = np.eye(gram.shape[1])
    for _ in range(rounds):
        both = used[:, :, None] & used[:, None, :]
        kept = np.where(both, gram, 0) + eye * np.where(used, floor, 1.0)[:, :, None]
        amplitude = np.linalg.solve(kept, np.where(used, right, 0)[..., None])[..., 0]
        if (amplitude >= 0).all():
            break
        used &= amplitude >= 0
    amplitude = np.clip(amplitude, 0, None)
    gains = (amplitude * (2 * right - (gram @ amplitude[..., None])[..., 0])).sum(1)
    return Fit(gains, amplitude, gram)
