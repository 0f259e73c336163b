"""Mixtures of stellar populations that fit spectra, by non-negative least squares and a multiplicative polynomial."""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from scipy.ndimage import binary_dilation, uniform_filter1d
from scipy.optimize import nnls

from cubeprep.lines import LINES_BY_NAME, SPEED_OF_LIGHT_KMS
from cubeprep.plausible import SCATTER
from cubeprep.stars.kinematics import Kinematics, measure
from cubeprep.stars.spectra import RestSpectra, broad_regions
from cubeprep.stars.templates import PIXEL_KMS, broadened, featureless, templates

# Of the polynomials, which take up dust and errors of the calibration, but no line: of the galaxy, whose calibration
# all bins share, and of a bin, which differs from the galaxy by dust.
PIXELS_PER_ORDER, BIN_PIXELS_PER_ORDER = 60, 400
# A polynomial that follows the calibration also follows broad lines, so it is stiffer where they are masked.
BROAD_PIXELS_PER_ORDER = 200
# Broad lines raise the spectrum within BROAD_CORE_KMS by more than BROAD_EXCESS of the stars, and than BROAD_SIGMAS
# times their error. Calibration errors raised it by up to 0.04, in one of three observations of a SAMI galaxy.
BROAD_CORE_KMS, BROAD_EXCESS, BROAD_SIGMAS = 3000.0, 0.05, 5.0
MIN_PIXELS = 200
CLIP_SIGMAS, CLIP_WIDTH = 4.0, 151
SIGMA_STEP_KMS = 20.0  # of the broadened templates, which are kept
# The shares of the populations in a bin differ from those of the galaxy by about this: faint bins then do not mix
# populations at will, which scatters the Balmer lines.
PRIOR_SHARE = 0.1
# Light without lines is expected to be about this share at most: where it is poorly constrained, as in a red arm whose
# only strong line is Halpha, it would otherwise weaken the stars' lines by chance.
FEATURELESS_SHARE = 0.05
TEMPLATE_ERROR = 0.012  # of the flux, as found in MaNGA's spectra
# The error of a model is measured over this number of samples, and not taken to be smaller than this share of the flux,
# the least that was found in MaNGA's spectra.
ERROR_WIDTH, LEAST_ERROR = 301, 0.005
ROUNDS = 3  # until a mixture and its polynomial agree, from equal shares
RIDGE, PRIOR = 1e-7, 1e-4  # of the normal equations, relative to their diagonal


class Population(NamedTuple):
    """Stars fitted to one spectrum.

    Attributes:
        weights: [template] light of each population at 5500 Angstrom, then featureless light of each arm.
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


def relative_error(spectra: RestSpectra, fit: Population) -> np.ndarray:
    """Error of the model of the first spectrum over the model, [wave]: its residuals beyond the noise.

    It is the error of the templates and of the calibration, larger in the blue, where stars have more lines.
    """
    noise = np.divide(1, spectra.ivar[0], out=np.zeros(len(fit.model)), where=fit.used)
    excess = np.where(fit.used, (spectra.flux[0] - fit.model) ** 2 - noise, 0)
    light = np.where(fit.used, fit.model**2, 0)
    excess, light = (uniform_filter1d(values, ERROR_WIDTH, mode="constant") for values in (excess, light))
    share = np.divide(excess, light, out=np.zeros_like(light), where=light > 1e-6 * light.max())
    return np.sqrt(np.maximum(share, LEAST_ERROR**2))


class Stars(NamedTuple):
    """Stars fitted to all bins of a galaxy.

    Attributes:
        bins: fit of each bin; None where it failed.
        kinematics: of each bin.
        total: fit of the sum of all bins.
        total_kinematics: of that sum.
        broad: whether the sum has broad lines, near which no bin was fitted.
    """

    bins: list[Population | None]
    kinematics: Kinematics
    total: Population
    total_kinematics: Kinematics
    broad: bool = False


def fit_stars(spectra: RestSpectra) -> Stars | None:
    """Stars of all bins; None if not even their sum can be fitted.

    The sum over the bins gives the mixture with which velocities are measured, and the polynomial and the clipped
    samples from which the fit of each bin starts.
    """
    total = spectra.total()
    known = (total.ivar[0] > 0) & total.fitted
    found = _fit_total(total, known)
    if found is None:
        return None
    fit, kinematics = found
    away, alike = known & ~broad_regions(10**total.log_wave), (None, np.ones(len(known)))
    without = fit_population(total, 0, *_first(kinematics), alike, away, per_order=BROAD_PIXELS_PER_ORDER)
    broad = without is not None and broad_lines(total, without)
    if without is not None and broad:
        fit = without
    clear = replace(spectra, ivar=spectra.ivar * fit.used)
    each = measure(clear, fit.weights, fit.polynomial)
    shares = fit.weights / fit.weights.sum()
    bins = [
        fit_population(spectra, number, velocity, sigma, (shares, fit.polynomial), fit.used, shares)
        for number, (velocity, sigma) in enumerate(zip(*each, strict=True))
    ]
    return Stars(bins, each, fit, kinematics, broad)


def _fit_total(total: RestSpectra, known: np.ndarray) -> tuple[Population, Kinematics] | None:
    """Stars of the sum over the bins, fitted to the samples `known` [wave], and their kinematics."""
    start: tuple[np.ndarray | None, np.ndarray] = None, np.ones(len(known))
    fit = fit_population(total, 0, 0.0, 150.0, start, known, per_order=PIXELS_PER_ORDER)
    kinematics = Kinematics(np.zeros(1), np.zeros(1))
    for _ in range(3):  # the polynomial and the kinematics depend on each other
        if fit is None:
            return None
        kinematics = measure(replace(total, ivar=total.ivar * fit.used), fit.weights, fit.polynomial)
        start = fit.weights, fit.polynomial
        fit = fit_population(total, 0, *_first(kinematics), start, known, per_order=PIXELS_PER_ORDER)
    return fit and (fit, kinematics)


def _first(kinematics: Kinematics) -> tuple[float, float]:
    return float(kinematics.velocity_kms[0]), float(kinematics.sigma_kms[0])


def broad_lines(total: RestSpectra, fit: Population) -> bool:
    """Whether the sum over the bins has broad Balmer lines, from a fit of the stars without their surroundings.

    The excess at Halpha, or at Hbeta where Halpha is out of range, is compared with the means of the residuals over as
    many samples elsewhere.
    """
    wave = 10**total.log_wave
    known = (total.ivar[0] > 0) & total.fitted & (fit.model > 0)
    excess = np.divide(total.flux[0], fit.model, out=np.ones(len(wave)), where=known) - 1
    width = round(2 * BROAD_CORE_KMS / PIXEL_KMS)
    share = uniform_filter1d(fit.used.astype(np.float64), width)
    means = uniform_filter1d(np.where(fit.used, excess, 0), width) / np.maximum(share, 1 / width)
    elsewhere = means[share > 0.5]
    if not len(elsewhere):
        return False
    error = max(SCATTER * float(np.median(np.abs(elsewhere))), LEAST_ERROR)
    for name in ("Ha-6564", "Hb-4862"):
        near = known & (np.abs(wave / LINES_BY_NAME[name].rest_wave - 1) < BROAD_CORE_KMS / SPEED_OF_LIGHT_KMS)
        if near.sum() > width / 4:
            return float(excess[near].mean()) > max(BROAD_EXCESS, BROAD_SIGMAS * error)
    return False


def fit_population(
    spectra: RestSpectra,
    number: int,
    velocity_kms: float,
    sigma_kms: float,
    start: tuple[np.ndarray | None, np.ndarray],
    used: np.ndarray,
    prior: np.ndarray | None = None,
    per_order: int = BIN_PIXELS_PER_ORDER,
) -> Population | None:
    """Mixture that fits the spectrum of one bin; None if there is too little to fit.

    Args:
        spectra: spectra of the bins.
        number: the bin.
        velocity_kms: velocity of its stars.
        sigma_kms: their dispersion beyond the templates' resolution.
        start: shares of the templates, or None for equal ones, and polynomial [wave] to begin with.
        used: [wave] bool, samples to fit.
        prior: [template] shares of the light in the whole galaxy, from which those of a bin differ by `PRIOR_SHARE`,
            as its polynomial differs from `start` by one of fewer terms; None for the galaxy itself.
        per_order: samples per order of the polynomial.
    """
    flux, ivar = spectra.flux[number], spectra.ivar[number]
    used = used & (ivar > 0)
    if used.sum() < MIN_PIXELS:
        return None
    # The templates are no better than this, however bright the stars; else bright, red light would dominate the fit.
    floor = (TEMPLATE_ERROR * flux) ** 2
    weight = np.where(used, ivar / (1 + ivar * floor), 0)
    stellar = broadened(
        sigma_kms, spectra.excess, SIGMA_STEP_KMS, lambda t: t.on_grid(spectra.first, len(flux), velocity_kms)
    )
    shapes = np.concatenate([stellar, featureless(spectra.arm)], dtype=np.float32)
    first, rounds = (np.ones(len(shapes), dtype=np.float32), ROUNDS) if start[0] is None else (start[0], 1)
    polynomial = start[1]
    if prior is not None:
        shapes *= polynomial.astype(np.float32)
        polynomial = np.ones(len(flux))
    weights, polynomial = _solve(shapes, flux, weight, spectra.arm, (first, polynomial), prior, rounds, per_order)
    outliers = _outliers((flux - weights @ shapes * polynomial) * np.sqrt(weight), used)
    if outliers.any():
        used = used & ~binary_dilation(outliers, iterations=2)
        weight = np.where(used, weight, 0)
        if used.sum() < MIN_PIXELS:
            return None
        weights, polynomial = _solve(shapes, flux, weight, spectra.arm, (weights, polynomial), prior, rounds, per_order)
    model = weights @ shapes * polynomial
    if not model.any():
        return None
    residual = (flux - model)[used]
    scatter = SCATTER * float(np.median(np.abs(residual / np.abs(model[used]))))
    return Population(weights, polynomial, model, used, float(np.mean(residual**2 * weight[used])), scatter)


def _solve(
    shapes: np.ndarray,
    flux: np.ndarray,
    weight: np.ndarray,
    arm: np.ndarray,
    start: tuple[np.ndarray, np.ndarray],
    prior: np.ndarray | None,
    rounds: int,
    per_order: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the templates and polynomial that fit together, from a start of both.

    Alternating between the two is slow, and with dust converges to red, old stars. The change of the polynomial is
    therefore solved with the weights, to first order, and eliminated; then the polynomial follows from the weights.
    """
    weights, polynomial = start
    for _ in range(rounds):
        mixture = weights @ shapes
        weights = _mixture(
            shapes * polynomial.astype(np.float32), _slopes(mixture * polynomial, arm, per_order), flux, weight, prior
        )
        if not weights.any():
            break
        polynomial = _polynomial(weights @ shapes, flux, weight, arm, per_order)
    return weights, polynomial


def _outliers(deviation: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Samples that deviate from those around them, [wave] bool: faint emission lines, residuals of the sky, artefacts.

    Wide deviations are left to the next fit. Clipping them would leave the polynomial unconstrained there.
    """
    spread = max(SCATTER * float(np.median(np.abs(deviation[used]))), 1.0)
    bounded = np.clip(deviation, -CLIP_SIGMAS * spread, CLIP_SIGMAS * spread)
    weight = uniform_filter1d(used.astype(np.float64), CLIP_WIDTH)
    local = uniform_filter1d(np.where(used, bounded, 0), CLIP_WIDTH) / np.maximum(weight, 1 / CLIP_WIDTH)
    return used & (np.abs(deviation - local) > CLIP_SIGMAS * spread)


def _mixture(
    shapes: np.ndarray, slopes: np.ndarray, flux: np.ndarray, weight: np.ndarray, prior: np.ndarray | None
) -> np.ndarray:
    """Non-negative weights [template] of least squares, from the normal equations: fewer rows than wavelengths.

    Args:
        shapes: [template, wave] spectra of the templates.
        slopes: [term, wave] changes of the model with the terms of the polynomial, which are eliminated.
        flux: [wave] spectrum.
        weight: [wave] inverse variances.
        prior: [template] shares of the light in the whole galaxy, if they are known.
    """
    root = np.sqrt(weight).astype(np.float32)
    design = np.concatenate([shapes, slopes])
    design *= root
    normal = (design @ design.T).astype(np.float64)
    product = (design @ (flux * root).astype(np.float32)).astype(np.float64)
    count = len(shapes)
    kept, terms = normal[:count, :count], normal[count:, count:]
    terms = terms + (PRIOR * np.trace(terms) / len(terms) + 1e-300) * np.eye(len(terms))
    eliminate = np.linalg.solve(terms, normal[count:, :count]).T
    normal = kept - eliminate @ normal[count:, :count]
    right = product[:count] - eliminate @ product[count:]
    normal += RIDGE * np.trace(kept) / count * np.eye(count)
    # Light of the spectrum in units of the mixture, for the spread of the shares about those that are expected.
    expected = np.full(count, 1 / count) if prior is None else prior
    light = (expected @ product[:count]) / (expected @ kept @ expected)
    if light > 0:
        precision = np.full(count, (PRIOR_SHARE * light) ** -2)
        if prior is None:
            precision = np.where(np.arange(count) < len(templates().flux), 0, (FEATURELESS_SHARE * light) ** -2)
            expected = np.zeros(count)
        normal += np.diag(precision)
        right += precision * light * expected
    values, vectors = np.linalg.eigh(normal)
    factor = vectors * np.sqrt(np.maximum(values, RIDGE * values[-1]))
    return nnls(factor.T, np.linalg.solve(factor, right))[0].astype(np.float32)


def _slopes(model: np.ndarray, arm: np.ndarray, per_order: int) -> np.ndarray:
    """Changes [term, wave] of a model with the terms of its polynomial, but for the factor of all wavelengths."""
    return _terms(arm.tobytes(), per_order)[1:] * model.astype(np.float32)


@lru_cache(maxsize=4)
def _terms(arms: bytes, per_order: int) -> np.ndarray:
    """Polynomials [term, wave] of all arms, each 0 outside its own, for the bytes of the numbers of the arms."""
    arm = np.frombuffer(arms, dtype=np.intp)
    terms = []
    for number in np.flatnonzero(np.bincount(arm)):
        here = arm == number
        values = _basis(int(here.sum()), per_order)
        basis = np.zeros((len(values), len(arm)), dtype=np.float32)
        basis[:, here] = values
        terms.append(basis)
    return np.concatenate(terms)


def _polynomial(
    mixture: np.ndarray, flux: np.ndarray, weight: np.ndarray, arm: np.ndarray, per_order: int
) -> np.ndarray:
    """Factor [wave] of the mixture, by least squares; a polynomial of its own for each arm."""
    polynomial = np.zeros(len(flux))
    for number in np.flatnonzero(np.bincount(arm)):
        here = arm == number
        basis = _basis(int(here.sum()), per_order)
        design = basis * mixture[here]
        normal = (design * weight[here]) @ design.T
        # Where little is known the terms stay small.
        diagonal = PRIOR * np.trace(normal) / len(normal) * (np.arange(len(normal)) > 0)
        normal += np.diag(diagonal + 1e-12 * np.trace(normal) + 1e-300)
        polynomial[here] = np.linalg.solve(normal, design @ (flux * weight)[here]) @ basis
    return polynomial


@lru_cache(maxsize=8)
def _basis(count: int, per_order: int) -> np.ndarray:
    """Legendre polynomials over an arm, [order, wave]."""
    return np.ascontiguousarray(legendre.legvander(np.linspace(-1, 1, count), count // per_order + 1).T)
