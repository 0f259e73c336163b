"""What a place of a galaxy would ordinarily emit: narrow lines like those of its surroundings.

A place may be brighter or fainter than its surroundings by any factor, its line ratios may differ by a gradient of
`RATIO_DEX`, its velocity and width by what rotation and the PSF do within a few spaxels, and no line is known better
than to `PROFILE_SHARE` of itself, since the instrument's profile is not exactly Gaussian. All of this is nuisance: what
it can explain counts for no hypothesis.
"""

from dataclasses import dataclass, replace

import numpy as np

from modeling.scoring.hypotheses.extraction import Extracted
from modeling.scoring.hypotheses.least_squares import Whitened
from modeling.scoring.hypotheses.starlight import starlight
from modeling.scoring.hypotheses.templates import Templates

RATIO_DEX = 0.1
SHIFT_KMS = 30.0
BROADENING_KMS = 20.0
PROFILE_SHARE = 0.03
# A source's ordinary light beyond the plane through its surroundings, in units of them: 0 where a galaxy is smooth, about
# 1 in a cusp or a clump.
USUAL_SCALE, SCALE_SIGMA = 0.5, 1.0
LEAST_SCALE = 0.3
VELOCITY_GRID = np.arange(-360.0, 361.0, 30.0)
SIGMA_GRID = np.array([65.0, 80.0, 100.0, 125.0, 150.0])
MAX_SIGMA = 160.0  # of ordinary narrow lines, the instrument's 70 km/s included
MIN_SNR = 10.0  # of the surroundings' lines; below, the whole galaxy's are taken


@dataclass(frozen=True)
class Narrow:
    """Narrow lines.

    Attributes:
        velocity_kms: velocity.
        sigma_kms: standard deviation, the instrument's included.
        flux: [L] of each group of lines.
        error: [L].
        snr: root of the chi2 that they remove.
    """

    velocity_kms: float
    sigma_kms: float
    flux: np.ndarray
    error: np.ndarray
    snr: float


def fit_narrow(templates: Templates, spectrum: np.ndarray, variance: np.ndarray, *, central: bool = False, whole: bool = False) -> Narrow:
    """Narrow lines of one velocity and width, fitted to a spectrum [T]."""
    whitened = Whitened(spectrum, variance, flat_starlight(templates, spectrum, 0.0))
    grid_v = VELOCITY_GRID[np.abs(VELOCITY_GRID) < 40] if central else VELOCITY_GRID
    grid_s = np.append(SIGMA_GRID, [200.0, 260.0]) if whole else SIGMA_GRID
    most = 320.0 if whole else MAX_SIGMA
    velocity, sigma = (grid.ravel() for grid in np.meshgrid(grid_v, grid_s, indexing="ij"))
    found = whitened.fit(cached(templates, tuple(velocity), tuple(sigma)))
    v, s = velocity[found.trial], sigma[found.trial]
    for step in (1.0, 0.4):
        dv, ds = (grid.ravel() for grid in np.meshgrid([-1, -0.5, 0, 0.5, 1], [-1, -0.5, 0, 0.5, 1], indexing="ij"))
        velocity, sigma = v + 15 * step * dv, np.clip(s * (1 + 0.15 * step * ds), 55.0, most)
        found = whitened.fit(templates.component(velocity, sigma))
        v, s = velocity[found.trial], sigma[found.trial]
    return Narrow(float(v), float(s), found.flux, found.error, float(np.sqrt(max(found.gain, 0))))


def flat_starlight(templates: Templates, spectrum: np.ndarray, velocity_kms: float) -> np.ndarray:
    return 10 * np.linalg.norm(spectrum) * starlight(templates, velocity_kms).T


_CACHE: dict = {}


def cached(templates: Templates, velocity: tuple, sigma: tuple) -> np.ndarray:
    key = (templates, velocity, sigma)
    if key not in _CACHE:
        _CACHE[key] = templates.component(np.array(velocity), np.array(sigma))
    return _CACHE[key]


@dataclass(frozen=True)
class Place:
    """A place's excess over its surroundings with the covariance of what is ordinary.

    Attributes:
        excess: spectrum of the place, whitened by `Whitened`.
        host: narrow lines of the surroundings.
        amount: brightness of the ordinary light of the point source, in units of the surroundings under its image.
        amount_error: of it.
    """

    excess: Whitened
    host: Narrow
    amount: float
    amount_error: float


def place_of(templates: Templates, found: Extracted, whole: Narrow, *, central: bool) -> Place:
    """The excess at a place.

    Args:
        templates: of the survey.
        found: spectra at the place.
        whole: narrow lines of the whole galaxy, for faint surroundings.
        central: whether the place is within the PSF of the centre, where gas is at rest on average.
    """
    host = fit_narrow(templates, found.surroundings, found.surroundings_variance, central=central)
    if host.snr < MIN_SNR or found.lopsided:
        host = replace(whole, sigma_kms=min(whole.sigma_kms, MAX_SIGMA), velocity_kms=0.0 if central else whole.velocity_kms)
    v, s = np.array([host.velocity_kms]), np.array([host.sigma_kms])
    lines = templates.component(v, s)[0]
    spectrum = host.flux @ lines
    stars = flat_starlight(templates, found.source, host.velocity_kms)
    scale = _scale(lines, host, Whitened(found.source, found.variance, stars))
    size = max(abs(scale), LEAST_SCALE)
    derivative_v = host.flux @ (templates.component(v + 5, s)[0] - templates.component(v - 5, s)[0]) / 10
    derivative_s = host.flux @ (templates.component(v, s + 5)[0] - templates.component(v, s - 5)[0]) / 10
    columns = [
        SCALE_SIGMA * spectrum,
        size * SHIFT_KMS * derivative_v,
        size * BROADENING_KMS * derivative_s,
        *((10**RATIO_DEX - 1) * size * host.flux[:, None] * lines),
    ]
    nuisances = np.hstack([np.stack(columns, axis=1), stars])
    floor = PROFILE_SHARE * (np.abs(found.source) + size * spectrum)
    variance = found.variance + _smooth(floor, templates) ** 2
    data = Whitened(found.source - USUAL_SCALE * spectrum, variance, nuisances)
    amount = USUAL_SCALE + SCALE_SIGMA * float((data.inner @ (data.weighted.T @ data.data))[0])
    error = SCALE_SIGMA * float(np.sqrt(data.inner[0, 0]))
    return Place(data, host, amount, error)


def _smooth(values: np.ndarray, templates: Templates) -> np.ndarray:
    """Largest of neighbouring samples of one window."""
    rows = values.reshape(len(templates.names), -1)
    padded = np.pad(rows, ((0, 0), (1, 1)), mode="edge")
    return np.maximum(np.maximum(padded[:, :-2], padded[:, 2:]), rows).ravel()


def _scale(lines: np.ndarray, host: Narrow, source: Whitened) -> float:
    """Brightness of the ordinary light: as much as the line allows that is weakest relative to the surroundings.

    Other light only adds to lines, so the ordinary light is at most what the least exceeding line has.
    """
    gram, right = source.normal(lines[None])
    strong = (host.flux > 5 * host.error) & (np.diag(gram[0]) > 0)
    if not strong.any():
        return 0.0
    inverse = np.linalg.inv(gram[0][np.ix_(strong, strong)])
    ratio = inverse @ right[0][strong] / host.flux[strong]
    return float((ratio + np.sqrt(np.diag(inverse)) / host.flux[strong]).min())
