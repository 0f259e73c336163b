"""Mixtures of stellar populations that fit spectra, by non-negative least squares and a multiplicative polynomial."""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from scipy.ndimage import binary_dilation, uniform_filter1d
from scipy.optimize import nnls

from cubeprep.stars.kinematics import Kinematics, measure
from cubeprep.stars.spectra import RestSpectra
from cubeprep.stars.templates import templates

PIXELS_PER_ORDER = 200  # of the polynomial, which takes up dust and errors of the calibration, but no line
MIN_PIXELS = 200
CLIP_SIGMAS, CLIP_WIDTH = 4.0, 151
SIGMA_STEP_KMS = 20.0  # of the broadened templates, which are kept
# The shares of the populations in a bin differ from those of the galaxy by about this: faint bins then do not mix
# populations at will, which scatters the Balmer lines.
PRIOR_SHARE = 0.1
TEMPLATE_ERROR = 0.03  # of the flux
RIDGE, PRIOR = 1e-7, 1e-4  # of the normal equations, relative to their diagonal


class Population(NamedTuple):
    """Stars fitted to one spectrum.

    Attributes:
        weights: [template] light of each population at 5500 Angstrom.
        polynomial: [wave] factor of the mixture.
        model: [wave] flux of the stars.
        used: [wave] bool, samples that were fitted and not clipped.
        chi2: of those samples, reduced.
        scatter: robust standard deviation of (flux - model) / model there.
    """

    weights: np.ndarray
    polynomial: np.ndarray
    model: np.ndarray
    used: np.ndarray
    chi2: float
    scatter: float


class Stars(NamedTuple):
    """Stars fitted to all bins of a galaxy.

    Attributes:
        bins: fit of each bin; None where it failed.
        kinematics: of each bin.
        total: fit of the sum of all bins.
        total_kinematics: of that sum.
    """

    bins: list[Population | None]
    kinematics: Kinematics
    total: Population
    total_kinematics: Kinematics


def fit_stars(spectra: RestSpectra) -> Stars | None:
    """Stars of all bins; None if not even their sum can be fitted.

    The sum over the bins gives the mixture with which velocities are measured, and the polynomial and the clipped
    samples from which the fit of each bin starts.
    """
    total = spectra.total()
    known = (total.ivar[0] > 0) & total.fitted
    if known.sum() < MIN_PIXELS:
        return None
    fit = fit_population(total, 0, 0.0, 150.0, np.ones(len(known)), known)
    kinematics = Kinematics(np.zeros(1), np.zeros(1))
    for _ in range(2):
        if fit is None:
            return None
        used = replace(total, ivar=total.ivar * fit.used)
        kinematics = measure(used, fit.weights, fit.polynomial)
        fit = fit_population(total, 0, kinematics.velocity_kms[0], kinematics.sigma_kms[0], fit.polynomial, known)
    if fit is None:
        return None
    clear = replace(spectra, ivar=spectra.ivar * fit.used)
    each = measure(clear, fit.weights, fit.polynomial)
    shares = fit.weights / fit.weights.sum()
    bins = [
        fit_population(spectra, number, velocity, sigma, fit.polynomial, fit.used, shares)
        for number, (velocity, sigma) in enumerate(zip(*each, strict=True))
    ]
    return Stars(bins, each, fit, kinematics)


def fit_population(
    spectra: RestSpectra,
    number: int,
    velocity_kms: float,
    sigma_kms: float,
    polynomial: np.ndarray,
    used: np.ndarray,
    prior: np.ndarray | None = None,
) -> Population | None:
    """Mixture that fits the spectrum of one bin; None if there is too little to fit.

    Args:
        spectra: spectra of the bins.
        number: the bin.
        velocity_kms: velocity of its stars.
        sigma_kms: their dispersion beyond the templates' resolution.
        polynomial: [wave] factor to begin with.
        used: [wave] bool, samples to fit.
        prior: [template] shares of the light in the whole galaxy, from which those of a bin differ by `PRIOR_SHARE`;
            None for no such prior.
    """
    flux, ivar = spectra.flux[number], spectra.ivar[number]
    used = used & (ivar > 0)
    if used.sum() < MIN_PIXELS:
        return None
    # The templates are no better than this, however bright the stars: else bright, red light would decide alone.
    floor = (TEMPLATE_ERROR * flux) ** 2
    root = np.sqrt(np.where(used, ivar / (1 + ivar * floor), 0))
    broadened = templates(SIGMA_STEP_KMS * round(sigma_kms / SIGMA_STEP_KMS))
    shapes = broadened.on_grid(spectra.first, len(flux), velocity_kms)
    weights = _mixture(shapes * polynomial.astype(np.float32), flux, root, prior)
    mixture = weights @ shapes
    if not mixture.any():
        return None
    polynomial = _polynomial(mixture, flux, root, spectra.arm)
    outliers = _outliers((flux - mixture * polynomial) * root, used)
    if outliers.any():
        used = used & ~binary_dilation(outliers, iterations=2)
        root = np.where(used, root, 0)
        weights = _mixture(shapes * polynomial.astype(np.float32), flux, root, prior)
        mixture = weights @ shapes
        if used.sum() < MIN_PIXELS or not mixture.any():
            return None
        polynomial = _polynomial(mixture, flux, root, spectra.arm)
    model = mixture * polynomial
    residual = (flux - model)[used]
    scatter = 1.4826 * float(np.median(np.abs(residual / np.abs(model[used]))))
    return Population(weights, polynomial, model, used, float(np.mean((residual * root[used]) ** 2)), scatter)


def _outliers(deviation: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Samples that deviate from those around them, [wave] bool: faint emission lines, residuals of the sky, artefacts.

    Wide deviations are left to the next fit. Clipping them would leave the polynomial without a hold there.
    """
    spread = max(1.4826 * float(np.median(np.abs(deviation[used]))), 1.0)
    bounded = np.clip(deviation, -CLIP_SIGMAS * spread, CLIP_SIGMAS * spread)
    weight = uniform_filter1d(used.astype(np.float64), CLIP_WIDTH)
    local = uniform_filter1d(np.where(used, bounded, 0), CLIP_WIDTH) / np.maximum(weight, 1 / CLIP_WIDTH)
    return used & (np.abs(deviation - local) > CLIP_SIGMAS * spread)


def _mixture(shapes: np.ndarray, flux: np.ndarray, root: np.ndarray, prior: np.ndarray | None) -> np.ndarray:
    """Non-negative weights [template] of least squares, from the normal equations: fewer rows than wavelengths."""
    design = shapes * root.astype(np.float32)
    normal = (design @ design.T).astype(np.float64)
    right = (design @ (flux * root).astype(np.float32)).astype(np.float64)
    normal += RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
    if prior is not None:
        # Light of the bin with the galaxy's mixture; each share may differ from the galaxy's by PRIOR_SHARE of that.
        light = (prior @ right) / (prior @ normal @ prior)
        if light > 0:
            precision = (PRIOR_SHARE * light) ** -2
            normal += precision * np.eye(len(normal))
            right += precision * light * prior
    factor = np.linalg.cholesky(normal)
    return nnls(factor.T, np.linalg.solve(factor, right))[0]


def _polynomial(mixture: np.ndarray, flux: np.ndarray, root: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Factor [wave] of the mixture, by least squares; a polynomial of its own for each arm."""
    polynomial = np.zeros(len(flux))
    for arm in np.unique(segments):
        here = segments == arm
        basis = _basis(int(here.sum()))
        design = basis * (mixture * root)[here]
        normal = design @ design.T
        # Where little is known the terms stay small.
        diagonal = PRIOR * np.trace(normal) / len(normal) * (np.arange(len(normal)) > 0)
        normal += np.diag(diagonal + 1e-12 * np.trace(normal) + 1e-300)
        polynomial[here] = np.linalg.solve(normal, design @ (flux * root)[here]) @ basis
    return polynomial


@lru_cache(maxsize=8)
def _basis(count: int) -> np.ndarray:
    """Legendre polynomials over an arm, [order, wave]."""
    return np.ascontiguousarray(legendre.legvander(np.linspace(-1, 1, count), count // PIXELS_PER_ORDER + 1).T)
