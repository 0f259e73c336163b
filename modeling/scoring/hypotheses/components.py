"""Fits of light that a place has beyond its ordinary light: one component, two peaks, broad Balmer lines, or one line.

Each is linear in the fluxes, which are not negative, on a grid of velocities and widths that is refined around its
best point. They are compared by the Bayesian information criterion, delta chi2 - k ln n.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from modeling.scoring.hypotheses.least_squares import Fit, Whitened, best
from modeling.scoring.hypotheses.templates import Templates

# Standard deviations of lines, the instrument's included: from lines that it does not resolve to 1,000 km/s FWHM, which
# separates broad from narrow lines (Hao+2005, doi:10.1086/428486, take 1,200).
SINGLE_SIGMA = (70.0, 85.0, 110.0, 150.0, 210.0, 300.0, 425.0)
SINGLE_VELOCITY = tuple(np.arange(-720.0, 721.0, 60.0))
BROAD_SIGMA = (425.0, 600.0, 850.0, 1200.0, 1700.0, 2300.0)
BROAD_VELOCITY = tuple(np.arange(-600.0, 601.0, 200.0))
PEAK_SIGMA = (75.0, 100.0)
PEAK_VELOCITY = tuple(np.arange(-420.0, 421.0, 60.0))
SEPARATIONS = (170.0, 730.0)
PEAK_SHARES = (0.35, 0.5, 0.65)
PEAK_LIMITS = ((150.0, 0.2), (800.0, 0.8))  # of separation and share of the blue peak
PEAK_GROUPS = 8  # the most significant ones alone decide between one peak and two
LINE_SIGMA = (70.0, 100.0, 150.0)
SHORTEST_STEP = 0.05


@dataclass(frozen=True)
class Light:
    """Best fit of one kind of light.

    Attributes:
        kind: `single`, `peaks`, `broad` or `line`.
        gain: chi2 that it removes.
        num_parameters: fluxes above zero, velocities, widths and shares.
        parameters: its nonlinear parameters.
        errors: of them, from the curvature of chi2.
        flux: [L] of each group; one flux for `line`.
        flux_error: the same shape.
    """

    kind: str
    gain: float
    num_parameters: int
    parameters: np.ndarray
    errors: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray

    def evidence(self, num_samples: int, scale: float = 1.0) -> float:
        """Gain of the Bayesian information criterion over no such light."""
        return self.gain / scale - self.num_parameters * float(np.log(max(num_samples, 2)))


@lru_cache(maxsize=32)
def _grid(templates: Templates, velocity: tuple[float, ...], sigma: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Points [P, 2] of velocity and width whose lines reach into the windows, and their spectra [P, L, T]."""
    points = np.array([(v, s) for v in velocity for s in sigma if abs(v) <= max(templates.velocity_kms) + 1.5 * s])
    return points, templates.component(*points.T)


def single(templates: Templates, data: Whitened) -> Light:
    """One component in all lines."""
    points, spectra = _grid(templates, SINGLE_VELOCITY, SINGLE_SIGMA)
    found = data.fit(spectra)
    return _refined("single", data, lambda p: templates.component(*p.T), points[found.trial], (40.0, 0.25), found)


def broad(templates: Templates, data: Whitened) -> Light | None:
    """One broad component in the Balmer lines alone; None without Balmer lines."""
    if not templates.balmer.any():
        return None
    points, spectra = _grid(templates, BROAD_VELOCITY, BROAD_SIGMA)
    found = data.fit(spectra[:, templates.balmer])

    def make(p: np.ndarray) -> np.ndarray:
        return templates.component(*p.T)[:, templates.balmer]

    light = _refined("broad", data, make, points[found.trial], (120.0, 0.25), found, sigmas=(BROAD_SIGMA[0], 3000.0))
    flux, error = (np.zeros(len(templates.names)) for _ in range(2))
    flux[templates.balmer], error[templates.balmer] = light.flux, light.flux_error
    return Light("broad", light.gain, light.num_parameters, light.parameters, light.errors, flux, error)


def peaks(templates: Templates, data: Whitened, one: Light) -> Light:
    """Two narrow peaks with the same line ratios."""
    snr = np.divide(one.flux, one.flux_error, out=np.zeros_like(one.flux), where=one.flux_error > 0)
    groups = np.sort(np.argsort(-snr)[:PEAK_GROUPS])
    tried = []
    for sigma in PEAK_SIGMA:
        points, spectra = _grid(templates, PEAK_VELOCITY, (sigma,))
        tried.append((sigma, *_pairs(data, spectra[:, groups], points[:, 0])))
    sigma, _, start = max(tried, key=lambda each: each[1].gain)

    def make(p: np.ndarray) -> np.ndarray:
        """Parameters: mean velocity, width, separation, share of the blue peak."""
        blue, red = (templates.component(p[:, 0] + side * p[:, 2] / 2, p[:, 1]) for side in (-1, 1))
        share = p[:, 3, None, None]
        return share * blue + (1 - share) * red

    first = np.array([(start[0] + start[1]) / 2, sigma, start[1] - start[0], start[2]])
    return _refined("peaks", data, make, first, (30.0, 0.15, 30.0, 0.12), data.fit(make(first[None])), (60.0, 130.0))


def _pairs(data: Whitened, spectra: np.ndarray, velocity: np.ndarray) -> tuple[Fit, tuple[float, float, float]]:
    """Best pair of peaks: its fit, and velocities of both and the share of the blue one."""
    num, groups = spectra.shape[:2]
    gram, right = data.normal(spectra.reshape(1, num * groups, -1))
    gram = gram[0].reshape(num, groups, num, groups).swapaxes(1, 2)
    right = right[0].reshape(num, groups)
    i, j = np.nonzero(
        (velocity[None] - velocity[:, None] >= SEPARATIONS[0]) & (velocity[None] - velocity[:, None] <= SEPARATIONS[1])
    )
    i, j, share = np.tile(i, 3), np.tile(j, 3), np.repeat(PEAK_SHARES, len(i))
    a, b = share[:, None, None], 1 - share[:, None, None]
    both = a * a * gram[i, i] + a * b * (gram[i, j] + gram[j, i]) + b * b * gram[j, j]
    fit = best(both, share[:, None] * right[i] + (1 - share)[:, None] * right[j])
    return fit, (velocity[i[fit.trial]], velocity[j[fit.trial]], share[fit.trial])


def line(templates: Templates, data: Whitened) -> Light:
    """One line at any wavelength in the windows, in emission or in absorption.

    Parameters: rest wavelength (Angstrom), width.
    """
    points, spectra = _lines(templates)
    right = spectra @ (data.weight * data.data) - spectra @ data.weighted @ data.seen
    shared = spectra @ data.weighted
    norm = spectra**2 @ data.weight - np.einsum("pk,kl,pl->p", shared, data.inner, shared)
    norm = np.maximum(norm, 1e-9 * norm.max() + 1e-300)
    trial = int((right**2 / norm).argmax())
    flux = right[trial] / norm[trial]
    gain = right[trial] ** 2 / norm[trial]
    wave, sigma = points[trial]
    for step in (0.5, 0.25, 0.12):
        trials = np.array([(wave * (1 + step * a * 60 / 299792.458), sigma * (1 + step * 0.5 * b)) for a in (-1, 0, 1) for b in (-1, 0, 1)])
        spectra = templates.profiles(trials[:, 0], np.maximum(trials[:, 1], LINE_SIGMA[0] * 0.8))
        right = spectra @ (data.weight * data.data) - spectra @ data.weighted @ data.seen
        shared = spectra @ data.weighted
        norm = spectra**2 @ data.weight - np.einsum("pk,kl,pl->p", shared, data.inner, shared)
        values = right**2 / norm
        trial = int(values.argmax())
        (wave, sigma), gain, flux = trials[trial], values[trial], right[trial] / norm[trial]
    return Light("line", float(gain), 3, np.array([wave, sigma]), np.array([wave * sigma / 299792.458 / np.sqrt(max(gain, 1)), 0]), np.array([flux]), np.array([1 / np.sqrt(norm[trial])]))


@lru_cache(maxsize=8)
def _lines(templates: Templates) -> tuple[np.ndarray, np.ndarray]:
    points = np.array([(wave, sigma) for wave in templates.wave for sigma in LINE_SIGMA])
    return points, templates.profiles(*points.T)


def _refined(
    kind: str,
    data: Whitened,
    make: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    steps: tuple[float, ...],
    found: Fit,
    sigmas: tuple[float, float] = (60.0, SINGLE_SIGMA[-1]),
) -> Light:
    """The best point of a grid, moved along each parameter in turn in shrinking steps.

    Args:
        kind: of the light.
        data: the excess.
        make: spectra [P, F, T] of parameters [P, N]; the second one is the width.
        start: [N] best point.
        steps: [N] first step of each parameter; that of the width is relative.
        found: fit of the best point.
        sigmas: smallest and largest width.
    """
    point, fit = np.array(start, dtype=float), found
    size = np.array(steps)
    size[1] *= point[1]
    curvature = np.zeros(len(point))
    scale = 1.0
    for _ in range(4):
        moves = np.vstack([np.eye(len(point)), -np.eye(len(point)), np.zeros((1, len(point)))]) * size * scale
        trials = point + moves
        trials[:, 1] = np.clip(trials[:, 1], *sigmas)
        if len(point) == 4:
            trials[:, 2:] = np.clip(trials[:, 2:], *PEAK_LIMITS)
        tried = data.fit(make(trials))
        n = len(point)
        up, down, middle = tried.gains[:n], tried.gains[n : 2 * n], tried.gains[-1]
        curvature = (2 * middle - up - down) / (size * scale) ** 2
        # The vertex of the parabola through the three points, at most one step away.
        bend = 2 * middle - up - down
        shift = np.where(bend > 0, 0.5 * (up - down) / np.where(bend > 0, bend, 1), np.sign(up - down))
        proposal = point + np.clip(shift, -1, 1) * size * scale
        proposal[1] = np.clip(proposal[1], *sigmas)
        if n == 4:
            proposal[2:] = np.clip(proposal[2:], *PEAK_LIMITS)
        at = data.fit(make(proposal[None]))
        if at.gain >= tried.gain:
            point, fit = proposal, at
        else:
            point, fit = trials[tried.trial], tried
        scale *= 0.5
    # chi2 rises by 1 at one standard deviation: curvature is that of the gain.
    errors = np.where(curvature > 0, np.sqrt(2 / np.maximum(curvature, 1e-12)), np.inf)
    return Light(kind, fit.gain, int((fit.flux > 0).sum()) + len(point), point, errors, fit.flux, fit.error)
