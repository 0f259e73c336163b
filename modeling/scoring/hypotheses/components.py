"""Fits of light that a place has beyond its ordinary light: one component, two peaks, broad Balmer lines, or one line.

Each is linear in the fluxes, which are not negative, on a grid of velocities and widths that is refined around its
best point. They are compared by the Bayesian information criterion, delta chi2 - k ln n.

Shapes: L lines, T samples of all windows, P grid points, N parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from modeling.scoring.hypotheses.least_squares import Fit, Grid, Whitened, best
from modeling.scoring.hypotheses.templates import Templates

# Standard deviations in km/s, the instrument's included: narrow lines are those of an FWHM below 1,200 km/s, broad ones
# those above (Hao+2005, AJ 129, 1783).
LIMIT_KMS = 510.0
SINGLE_SIGMA = (70.0, 85.0, 110.0, 150.0, 210.0, 300.0, 425.0)
SINGLE_VELOCITY = tuple(np.arange(-720.0, 721.0, 60.0))
SINGLE_LIMITS = ((-np.inf, 60.0), (np.inf, LIMIT_KMS))
BROAD_SIGMA = (LIMIT_KMS, 700.0, 950.0, 1300.0, 1750.0, 2300.0)
BROAD_VELOCITY = tuple(np.arange(-600.0, 601.0, 200.0))
BROAD_LIMITS = ((-np.inf, LIMIT_KMS), (np.inf, 3000.0))
PEAK_SIGMA = (75.0, 100.0)
PEAK_VELOCITY = tuple(np.arange(-420.0, 421.0, 60.0))
SEPARATIONS = (170.0, 730.0)
PEAK_SHARES = (0.35, 0.5, 0.65)  # of the blue peak
PEAK_LIMITS = ((-np.inf, 60.0, 150.0, 0.2), (np.inf, 130.0, 800.0, 0.8))
PEAK_LINES = 8  # the most significant ones alone decide where the peaks are
LINE_SIGMA = (70.0, 100.0, 150.0)
LINE_MOVES = (0.5, 0.25, 0.12)
NUM_STEPS = 4


@dataclass(frozen=True)
class Light:
    """Best fit of one kind of light.

    Attributes:
        kind: `single`, `peaks`, `broad` or `line`.
        gain: chi2 that it removes.
        num_parameters: fluxes above zero, velocities, widths and shares.
        parameters: [N] velocity (for `line` the rest wavelength, Angstrom) and standard deviation, km/s; for `peaks`
            the mean velocity, then the separation of the peaks in km/s and the share of the blue one.
        errors: [N], from the curvature of chi2.
        flux: [L] of each line; one flux for `line`.
        flux_error: the same shape.
        spectrum: [T].
    """

    kind: str
    gain: float
    num_parameters: int
    parameters: np.ndarray
    errors: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray
    spectrum: np.ndarray

    def evidence(self, num_samples: int, scale: float = 1.0) -> float:
        """Gain of the Bayesian information criterion over no such light.

        Args:
            num_samples: number of samples that were fitted.
            scale: reduced chi2 of the best fit of any kind, at least 1: light that none explains counts as noise.
        """
        return self.gain / scale - self.num_parameters * float(np.log(max(num_samples, 2)))


@lru_cache(maxsize=8)
def _grid(templates: Templates, velocity: tuple[float, ...], sigma: tuple[float, ...], balmer: bool = False) -> Grid:
    """Velocities and widths of components, of the Balmer lines alone or of all, whose lines reach into the windows."""
    most = max(templates.velocity_kms)
    points = np.array([(v, s) for v in velocity for s in sigma if abs(v) <= most + 1.5 * s])
    return Grid(points, templates.component(points[:, 0], points[:, 1], templates.balmer if balmer else None))


def single(templates: Templates, data: Whitened) -> Light:
    """One component in all lines."""
    start = _grid(templates, SINGLE_VELOCITY, SINGLE_SIGMA).best_point(data)
    return _refined("single", data, lambda p: templates.component(*p.T), start, (40.0, 0.25), SINGLE_LIMITS)


def broad(templates: Templates, data: Whitened) -> Light | None:
    """One broad component in the Balmer lines alone; None without Balmer lines."""
    chosen = templates.balmer
    if not chosen.any():
        return None
    start = _grid(templates, BROAD_VELOCITY, BROAD_SIGMA, balmer=True).best_point(data)
    light = _refined(
        "broad", data, lambda p: templates.component(p[:, 0], p[:, 1], chosen), start, (120.0, 0.25), BROAD_LIMITS
    )
    flux, error = np.zeros(len(chosen)), np.zeros(len(chosen))
    flux[chosen], error[chosen] = light.flux, light.flux_error
    return replace(light, flux=flux, flux_error=error)


@lru_cache(maxsize=8)
def _peaks(templates: Templates, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Velocities [P] of single peaks whose lines reach into the windows, and their spectra [P, L, T]."""
    velocity = np.array([v for v in PEAK_VELOCITY if abs(v) <= max(templates.velocity_kms) + 1.5 * sigma])
    return velocity, templates.component(velocity, np.full(len(velocity), sigma))


def peaks(templates: Templates, data: Whitened, one: Light) -> Light:
    """Two narrow peaks with the same line ratios.

    Args:
        templates: of the survey.
        data: the excess.
        one: best single component, whose most significant lines place the peaks.
    """
    snr = np.divide(one.flux, one.flux_error, out=np.zeros_like(one.flux), where=one.flux_error > 0)
    lines = np.sort(np.argsort(-snr)[:PEAK_LINES])
    tried = []
    for sigma in PEAK_SIGMA:
        velocity, spectra = _peaks(templates, sigma)
        tried.append((sigma, *_pairs(data, spectra[:, lines], velocity)))
    sigma, _, (blue, red, share) = max(tried, key=lambda each: each[1].gain)

    def make(p: np.ndarray) -> np.ndarray:
        velocity = p[:, 0] + np.array([[-0.5], [0.5]]) * p[:, 2]
        blue, red = templates.component(velocity.ravel(), np.tile(p[:, 1], 2)).reshape(2, len(p), len(one.flux), -1)
        return np.asarray(red + p[:, 3, None, None] * (blue - red))

    start = np.array([(blue + red) / 2, sigma, red - blue, share])
    return _refined("peaks", data, make, start, (30.0, 0.15, 30.0, 0.12), PEAK_LIMITS)


def _pairs(data: Whitened, spectra: np.ndarray, velocity: np.ndarray) -> tuple[Fit, tuple[float, float, float]]:
    """Best pair of peaks: its fit, and the velocities of both and the share of the blue one.

    A pair's normal matrix is made of those of all peaks [P, lines, T] with each other, which are computed once.
    """
    num, lines = spectra.shape[:2]
    gram, right = data.normal(spectra.reshape(1, num * lines, -1))
    gram, right = gram[0].reshape(num, lines, num, lines).swapaxes(1, 2), right[0].reshape(num, lines)
    apart = velocity[None] - velocity[:, None]
    i, j = np.nonzero((apart >= SEPARATIONS[0]) & (apart <= SEPARATIONS[1]))
    share = np.repeat(PEAK_SHARES, len(i))
    i, j = (np.tile(index, len(PEAK_SHARES)) for index in (i, j))
    a, b = share[:, None, None], 1 - share[:, None, None]
    both = a * a * gram[i, i] + a * b * (gram[i, j] + gram[j, i]) + b * b * gram[j, j]
    fit = best(both, share[:, None] * right[i] + (1 - share)[:, None] * right[j], rounds=1)
    return fit, (velocity[i[fit.trial]], velocity[j[fit.trial]], share[fit.trial])


def line(templates: Templates, data: Whitened, *, negative: bool = False) -> Light:
    """One line at any wavelength in the windows.

    Args:
        templates: of the survey.
        data: the excess.
        negative: whether it may be negative, as residuals of the sky are.
    """
    points, spectra = _lines(templates)
    gain, flux, _ = _each(data, spectra, negative)
    point = points[gain.argmax()]
    for step in LINE_MOVES:
        shift = 1 + step * 60 / SPEED_OF_LIGHT_KMS * np.array([-1, 0, 1])
        points = np.array([(point[0] * a, point[1] * b) for a in shift for b in 1 + step * np.array([-0.5, 0, 0.5])])
        points[:, 1] = np.maximum(points[:, 1], 0.6 * LINE_SIGMA[0])
        spectra = templates.profiles(*points.T)
        gain, flux, error = _each(data, spectra, negative)
        point = points[gain.argmax()]
    at = int(gain.argmax())
    # A line's centre is known to its width over its signal-to-noise ratio, its width to that over the root of 2.
    snr = max(np.sqrt(gain[at]), 1.0)
    errors = np.array([point[0] * point[1] / SPEED_OF_LIGHT_KMS, point[1] / np.sqrt(2)]) / snr
    return Light("line", float(gain[at]), 3, point, errors, flux[[at]], error[[at]], flux[at] * spectra[at])


def _each(data: Whitened, spectra: np.ndarray | csr_array, negative: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain, flux and error [P] of spectra [P, T], each fitted alone."""
    shared = spectra @ data.explained
    right = spectra @ (data.weight * data.data) - shared @ data.seen
    norm = spectra**2 @ data.weight - (shared**2).sum(1)
    norm = np.maximum(norm, 1e-6 * norm.max() + 1e-300)
    return np.where(negative | (right > 0), right**2 / norm, 0), right / norm, 1 / np.sqrt(norm)


@lru_cache(maxsize=8)
def _lines(templates: Templates) -> tuple[np.ndarray, csr_array]:
    """Wavelengths and widths [P, 2] of single lines, and their spectra [P, T], which are zero in most samples."""
    points = np.array([(wave, sigma) for wave in templates.wave for sigma in LINE_SIGMA])
    return points, csr_array(templates.profiles(*points.T))


def _refined(
    kind: str,
    data: Whitened,
    make: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    steps: tuple[float, ...],
    limits: tuple[tuple[float, ...], tuple[float, ...]],
) -> Light:
    """The best point near a grid point: each parameter moves to the vertex of its parabola, in shrinking steps.

    Args:
        kind: of the light.
        data: the excess.
        make: spectra [P, L, T] of parameters [P, N].
        start: [N] grid point.
        steps: [N] first step of each parameter; that of the width, the second one, is relative.
        limits: lowest and highest parameters, [N] each.
    """
    num, size = len(start), np.array(steps)
    size[1] *= start[1]
    point = np.clip(start, *limits)
    fit = data.fit(make(point[None]))
    for _ in range(NUM_STEPS):
        trials = np.clip(point + np.vstack([np.diag(size), -np.diag(size)]), *limits)
        tried = data.fit(make(trials))
        up, down = tried.gains[:num], tried.gains[num:]
        bend = 2 * fit.gain - up - down
        curvature = bend / size**2
        vertex = np.where(bend > 0, 0.5 * (up - down) / np.where(bend > 0, bend, 1), np.sign(up - down))
        moved = np.clip(point + np.clip(vertex, -1, 1) * size, *limits)
        at = data.fit(make(moved[None]))
        point, fit = max(((point, fit), (trials[tried.trial], tried), (moved, at)), key=lambda each: each[1].gain)
        size = size / 2
    # The gain falls by 1 at one standard deviation.
    errors = np.where(curvature > 0, 1 / np.sqrt(np.maximum(curvature / 2, 1e-12)), np.inf)
    number = int((fit.flux > 0).sum()) + num
    return Light(kind, fit.gain, number, point, errors, fit.flux, fit.error, fit.flux @ make(point[None])[0])
