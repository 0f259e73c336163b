"""Heteroscedastic matrix factorisation: principal components that respect masks and the variance of every sample.

Galaxies are a mean and a few components, fitted by alternating weighted least squares with robust weights; the rank and
the typical error of the model are those of the highest marginal likelihood of the validation galaxies, which are clean.

Source: Tsalmantza & Hogg 2012, doi:10.1088/0004-637X/753/2/122. The likelihood integrates over normal coefficients as
that of probabilistic principal components does: Tipping & Bishop 1999, doi:10.1111/1467-9868.00196.

Shapes: n galaxies, k components, f features (all samples of all spaxels).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch

from benchmarks.anomaly.detectors.components import principal_components
from benchmarks.anomaly.detectors.detector import Scored, observed_shards
from benchmarks.anomaly.detectors.features import Reconstructing, brightness, good_flux
from cubeprep.store import Windows, WindowStore
from modeling.network.spaxel_code import local_amplitude

RANKS = (32, 128, 512, 768)
# Candidates for the typical error of the model, a share of the local amplitude.
ERRORS = (0.0125, 0.025, 0.05, 0.1, 0.2)
FIRST_ERROR = 0.1
MOST_VALIDATION = 25
MOST_ROUNDS = 8
PLAIN_ROUNDS = 2  # before weights are robust: far from the solution every sample is an outlier
LEAST_GAIN = 1e-3  # of the robust chi2 in a round; less ends the fit
STEPS = 3  # of conjugate gradients, which start from the last round's solution
SCORE_STEPS = 8
DEGREES_OF_FREEDOM = 5.0  # of the Student distribution whose weights make the fit robust
TRAINING_PRIOR = 0.01  # the precision of coefficients of unit variance is 1; less, or weak components would vanish
Operator = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Weighted:
    """Galaxies in units of their brightness.

    Attributes:
        flux: [n, f], 0 where not good.
        ivar: [n, f] inverse variance, 0 where not good.
        power: [n, spaxel] squared local amplitude; spaxels are the last part of a feature.
        scale: [n] brightness, flux units.
    """

    flux: np.ndarray
    ivar: np.ndarray
    power: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, windows: Windows) -> "Weighted":
        """Galaxies of windows; masked values are never read."""
        flux, ivar, good = good_flux(windows)
        amplitude = local_amplitude(torch.from_numpy(flux.astype(np.float32)), torch.from_numpy(good)).numpy()
        scale = brightness(flux, good)
        rows, column = len(flux), scale[:, None]
        power = (amplitude.reshape(rows, -1) / column) ** 2
        return cls(
            (flux.reshape(rows, -1) / column).astype(np.float32),
            (ivar.reshape(rows, -1) * column**2).astype(np.float32),
            power.astype(np.float32),
            scale,
        )

    def weights(self, error: float) -> np.ndarray:
        """Inverse variance [n, f] of noise and of a model whose error is a share of the local amplitude."""
        ivar = self.ivar.reshape(len(self.ivar), -1, self.power.shape[1])
        return (ivar / (1 + ivar * (np.float32(error**2) * self.power[:, None]))).reshape(self.ivar.shape)


@dataclass(frozen=True)
class Factors:
    """Mean and components whose coefficients have zero mean and unit variance.

    Attributes:
        mean: [f].
        components: [k, f].
        weights: [f], mean weights of the training galaxies: with them `solve` converges in few steps.
        error: of the model, a share of the local amplitude.
    """

    mean: np.ndarray
    components: np.ndarray
    weights: np.ndarray
    error: float = FIRST_ERROR

    @cached_property
    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues [k] and eigenvectors [k, k] of the normal equations of a typical galaxy."""
        values, vectors = np.linalg.eigh((self.components * self.weights) @ self.components.T)
        return np.maximum(values, 0), vectors

    def solve(self, flux: np.ndarray, weights: np.ndarray, start: np.ndarray, prior: float, steps: int) -> np.ndarray:
        """Coefficients [n, k] of the weighted least squares, with a normal prior of that precision."""
        values, vectors = self.eigen
        share = weights.mean(axis=1, keepdims=True) / max(self.weights.mean(), 1e-30)

        def precondition(rest: np.ndarray) -> np.ndarray:
            return (rest @ vectors / (share * values + prior)) @ vectors.T

        def normal(coefficients: np.ndarray) -> np.ndarray:
            return (weights * (coefficients @ self.components)) @ self.components.T + prior * coefficients

        target = (weights * (flux - self.mean)) @ self.components.T
        return conjugate_gradients(normal, target, start, precondition, steps)

    def expected(self, coefficients: np.ndarray) -> np.ndarray:
        """Flux [n, f] for given coefficients."""
        return coefficients @ self.components + self.mean

    def log_likelihood(self, galaxies: Weighted, error: float) -> float:
        """Marginal log-likelihood per good sample, in nats, up to a constant that the data alone determine."""
        weights = galaxies.weights(error)
        total = 0.0
        for flux, weight in zip(galaxies.flux - self.mean, weights, strict=True):
            # A product with its own transpose takes half the time.
            design = self.components * np.sqrt(weight)
            precision = design @ design.T + np.eye(len(design))
            target = self.components @ (weight * flux)
            good = weight > 0
            quadratic = (flux**2 * weight).sum(dtype=np.float64) - target @ np.linalg.solve(precision, target)
            total += np.log(weight[good]).sum(dtype=np.float64) - np.linalg.slogdet(precision)[1] - quadratic
        return float(0.5 * total / max((weights > 0).sum(), 1))


def conjugate_gradients(
    operator: Operator, target: np.ndarray, start: np.ndarray, precondition: Operator, steps: int
) -> np.ndarray:
    """Solutions [system, unknown] of many positive definite systems at once, after so many steps from `start`."""
    found, rest = start.copy(), target - operator(start)
    towards = direction = precondition(rest)
    gain = (rest * towards).sum(axis=1, keepdims=True)
    for _ in range(steps):
        image = operator(direction)
        length = gain / np.maximum((direction * image).sum(axis=1, keepdims=True), 1e-30)
        found += length * direction
        rest -= length * image
        towards = precondition(rest)
        before, gain = gain, (rest * towards).sum(axis=1, keepdims=True)
        direction = towards + gain / np.maximum(before, 1e-30) * direction
    return found


def first_factors(galaxies: Weighted, rank: int, error: float = FIRST_ERROR) -> Factors:
    """Principal components of the flux in units of its typical error, from which a fit starts."""
    weights = galaxies.weights(error)
    column = weights.sum(axis=0)
    mean = (weights * galaxies.flux).sum(axis=0) / np.maximum(column, 1e-30)
    root = np.sqrt(column / len(weights))
    _, components = principal_components((galaxies.flux - mean) * (root * (weights > 0)), rank)
    components = np.divide(components, root, out=np.zeros_like(components), where=root > 0)
    return Factors(mean, components, column / len(weights), error)


def factorise(galaxies: Weighted, first: Factors, rank: int, error: float) -> Factors:
    """Factors of the given rank, fitted to galaxies that may hold a few anomalies."""
    weights = galaxies.weights(error)
    column = weights.sum(axis=0)
    ridge = column[column > 0].mean() / len(weights)  # as one galaxy of zero flux: it decides where none is observed
    factors = replace(first, components=first.components[:rank], weights=column / len(weights), error=error)
    coefficients = np.zeros((len(weights), len(factors.components)), np.float32)
    last = np.inf
    for number in range(MOST_ROUNDS):
        residual = galaxies.flux - factors.expected(coefficients)
        robust = _robust(weights, residual) if number >= PLAIN_ROUNDS else weights
        chi2 = float((robust * residual**2).sum(dtype=np.float64))
        if number > PLAIN_ROUNDS and chi2 > (1 - LEAST_GAIN) * last:
            break
        last = chi2
        coefficients = factors.solve(galaxies.flux, robust, coefficients, TRAINING_PRIOR, STEPS)
        factors, coefficients = _standardised(factors, coefficients)
        factors = _refitted(factors, galaxies.flux, robust, coefficients, ridge)
    return _standardised(factors, coefficients)[0]


def _refitted(
    factors: Factors, flux: np.ndarray, weights: np.ndarray, coefficients: np.ndarray, ridge: float
) -> Factors:
    """Factors whose mean and components are those of the weighted least squares for coefficients of unit variance."""
    with_mean = np.column_stack([np.ones(len(coefficients), np.float32), coefficients])
    diagonal = (weights.sum(axis=0) + ridge)[:, None]

    def normal(columns: np.ndarray) -> np.ndarray:
        return (weights * (with_mean @ columns.T)).T @ with_mean + ridge * columns

    start = np.vstack([factors.mean, factors.components]).T.copy()
    found = conjugate_gradients(normal, (weights * flux).T @ with_mean, start, lambda rest: rest / diagonal, STEPS)
    return replace(factors, mean=found[:, 0].copy(), components=np.ascontiguousarray(found[:, 1:].T))


def _robust(weights: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Weights of a Student distribution: outlying samples count little."""
    scaled = weights * residual**2
    return weights * ((DEGREES_OF_FREEDOM + 1) / (DEGREES_OF_FREEDOM + scaled))


def _standardised(factors: Factors, coefficients: np.ndarray) -> tuple[Factors, np.ndarray]:
    """The same factorisation, with coefficients of zero mean, unit variance and no correlation."""
    centre = coefficients.mean(axis=0)
    coefficients = coefficients - centre
    variance, vectors = np.linalg.eigh((coefficients.T @ coefficients).astype(np.float64) / len(coefficients))
    kept = variance > 1e-12 * max(variance[-1], 1e-30)
    spread, vectors = np.sqrt(variance[kept]).astype(np.float32), vectors[:, kept].astype(np.float32)
    components = spread[:, None] * (vectors.T @ factors.components)
    standardised = replace(factors, mean=factors.expected(centre), components=components)
    return standardised, coefficients @ vectors / spread


class Hmf(Reconstructing):
    """Heteroscedastic matrix factorisation, scored by chi2 with the error of the model."""

    name = "HMF"
    group = "classical"
    alone = True

    def fit(self, store: WindowStore, split: str) -> None:
        """Fits factors of increasing rank until the likelihood of the validation galaxies falls."""
        galaxies, held_out = (_read(store, name) for name in (split, "validation"))
        held_out = Weighted(*(values[:MOST_VALIDATION] for values in vars(held_out).values()))
        likelihood_of: dict[int, float] = {}
        best, error = -np.inf, FIRST_ERROR
        ranks = [rank for rank in RANKS if rank < len(galaxies.flux)] or [1]
        first = first_factors(galaxies, ranks[-1])
        for rank in ranks:
            factors = factorise(galaxies, first, rank, error)
            likelihoods = {error: factors.log_likelihood(held_out, error) for error in ERRORS}
            error = max(likelihoods, key=lambda value: likelihoods[value])
            likelihood_of[rank] = likelihoods[error]
            if likelihoods[error] <= best:
                break
            best, self.factors = likelihoods[error], replace(factors, error=error)
        tried = ", ".join(f"{rank}: {likelihood:.4f}" for rank, likelihood in likelihood_of.items())
        chosen = f"rank {len(self.factors.components)}, error {self.factors.error:g}"
        self.training = f"{chosen}; nats a sample by rank {tried}"

    def reconstruct(self, windows: Windows) -> np.ndarray:
        """Flux [row, line, sample, y, x] of the factors, fitted with robust weights."""
        galaxies = Weighted.of(windows)
        weights = galaxies.weights(self.factors.error)
        coefficients = np.zeros((len(weights), len(self.factors.components)), np.float32)
        robust = weights
        for steps in (SCORE_STEPS, STEPS):
            coefficients = self.factors.solve(galaxies.flux, robust, coefficients, 1.0, steps)
            robust = _robust(weights, galaxies.flux - self.factors.expected(coefficients))
        return (self.factors.expected(coefficients) * galaxies.scale[:, None]).reshape(windows.flux.shape)

    def judge(self, windows: Windows, reconstruction: np.ndarray) -> Scored:
        """chi2 with the error of the model; plain scores are variants."""
        plain = super().judge(windows, reconstruction)
        galaxies = Weighted.of(windows)
        expected = reconstruction.reshape(galaxies.flux.shape) / galaxies.scale[:, None]
        weights = galaxies.weights(self.factors.error)
        squares = weights * np.where(weights > 0, galaxies.flux - expected, 0) ** 2
        score = squares.sum(axis=1, dtype=np.float64) / np.maximum((weights > 0).sum(axis=1), 1)
        by_sample = squares.reshape(windows.flux.shape)
        variants = {"unexplained": plain.score, **plain.variants}
        return Scored(score, by_sample.sum(axis=(1, 2)), by_sample.sum(axis=(2, 3, 4)), variants)


def _read(store: WindowStore, split: str) -> Weighted:
    """All galaxies of a split as observed, read one shard at a time."""
    parts = [Weighted.of(windows) for windows in observed_shards(store, split)]
    return Weighted(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Weighted)))
