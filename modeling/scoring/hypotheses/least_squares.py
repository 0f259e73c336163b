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
    """Best trial of many.

    Attributes:
        gain: chi2 that it removes.
        flux: [F] amplitudes.
        error: [F] their standard deviations.
        trial: its index.
        gains: [P] of all trials.
    """

    gain: float
    flux: np.ndarray
    error: np.ndarray
    trial: int
    gains: np.ndarray


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
        self.data = data
        self.seen = self.inner @ (self.weighted.T @ data)
        self.chi2 = float(data @ (self.weight * data) - data @ self.weighted @ self.seen)
        self.count = int((self.weight > 0).sum())

    def residual(self) -> np.ndarray:
        """Spectrum [T] less the nuisances that fit it best."""
        return np.asarray(self.data - self.nuisances @ (self.inner @ (self.weighted.T @ self.data)))

    def normal(self, templates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normal matrix [P, F, F] and right-hand side [P, F] of templates [P, F, T]."""
        weighted = templates * self.weight
        shared = templates @ self.weighted
        gram = weighted @ templates.swapaxes(1, 2) - shared @ self.inner @ shared.swapaxes(1, 2)
        return gram, weighted @ self.data - shared @ self.seen

    def fit(self, templates: np.ndarray, rounds: int = ROUNDS) -> Fit:
        """Best of trials [P, F, T] with amplitudes that are not negative; see `best`."""
        return best(*self.normal(templates), rounds)


def best(gram: np.ndarray, right: np.ndarray, rounds: int = ROUNDS) -> Fit:
    """Best of trials with amplitudes that are not negative.

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
        used &= amplitude >= 0
    amplitude = np.clip(amplitude, 0, None)
    gains = 2 * (amplitude * right).sum(1) - np.einsum("pf,pfg,pg->p", amplitude, gram, amplitude)
    trial = int(gains.argmax())
    used_one = amplitude[trial] > 0
    free = gram[trial] * np.outer(used_one, used_one)
    free = free + eye * np.where(used_one, floor[trial], diagonal[trial] + floor[trial])
    return Fit(float(gains[trial]), amplitude[trial], np.sqrt(np.diag(np.linalg.inv(free))), trial, gains)
