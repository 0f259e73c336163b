"""Ordinary light of a place in a galaxy: stars, and narrow lines like those of its surroundings.

All of it is nuisance; light that it can explain supports no hypothesis:

- starlight of any populations,
- the lines of the surroundings, brighter or fainter,
- with line ratios that differ by `RATIO_DEX` from line to line, as gradients make them,
- and a velocity and a width that differ by rotation and the PSF within a few spaxels.

Each line has an error of at least `PROFILE_SHARE` of itself: the instrument's profile is not exactly Gaussian.

Shapes: L lines, T samples of all windows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.ndimage import maximum_filter1d

from modeling.scoring.hypotheses.extraction import Extracted
from modeling.scoring.hypotheses.least_squares import Grid, Whitened
from modeling.scoring.hypotheses.starlight import starlight
from modeling.scoring.hypotheses.templates import Templates

RATIO_DEX = 0.1
SHIFT_KMS = 30.0
BROADENING_KMS = 20.0
PROFILE_SHARE = 0.03
# The ordinary light of a place beyond the plane through its surroundings, in units of them: 0 where a galaxy is smooth,
# about 1 in a cusp or a clump.
USUAL_AMOUNT, AMOUNT_SIGMA = 0.5, 1.0
LEAST_AMOUNT = 0.3  # least brightness that scales the differences above
FLAT = 10.0  # amplitude of starlight, in units of the data: nearly free
STEP_KMS = 30.0
MOST_KMS = 360.0  # of rotation; beyond, half of a line is outside of its window
CENTRAL_KMS = 40.0  # at the centre gas is at rest, on average
MAX_SIGMA = 160.0  # of the narrow lines of one place, the instrument's 70 km/s included
MAX_SIGMA_WHOLE = 320.0  # of those of a rotating galaxy
SIGMAS = (65.0, 80.0, 105.0, 140.0)
SIGMAS_WHOLE = (*SIGMAS, 200.0, 260.0)
REFINEMENTS = (0.5, 0.2, 0.08)
# In units of the surroundings, two standard deviations beyond the ordinary. A brighter source that is wider than the
# PSF contributes much of the light around it.
OUTSHONE = USUAL_AMOUNT + 2 * AMOUNT_SIGMA
BRIGHTNESS = (0.1, 3.0)  # of surroundings, in units of the mean over the galaxy
MIN_SNR = 10.0  # of the surroundings' lines; below, those of the whole galaxy are taken


@dataclass(frozen=True)
class Narrow:
    """Narrow lines of one velocity and width.

    Attributes:
        velocity_kms: velocity.
        sigma_kms: standard deviation, the instrument's included.
        flux: [L].
        error: [L].
        gain: chi2 that they remove.
    """

    velocity_kms: float
    sigma_kms: float
    flux: np.ndarray
    error: np.ndarray
    gain: float

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio of all lines together."""
        return float(np.sqrt(max(self.gain, 0)))

    @property
    def strong(self) -> np.ndarray:
        """[L] bool, lines of a signal-to-noise ratio above 5."""
        return np.asarray(self.flux > 5 * self.error)


def fit_narrow(
    templates: Templates, spectrum: np.ndarray, variance: np.ndarray, *, at_rest: bool = False, whole: bool = False
) -> Narrow:
    """Narrow lines on starlight, fitted to a spectrum [T].

    Args:
        templates: of the survey.
        spectrum: [T].
        variance: [T] of it, infinite where there is no data.
        at_rest: limits the velocity to `CENTRAL_KMS`.
        whole: allows the width of a rotating galaxy.
    """
    data = Whitened(spectrum, variance, any_starlight(templates, spectrum, 0.0))
    grid = _grid(templates, CENTRAL_KMS if at_rest else MOST_KMS, SIGMAS_WHOLE if whole else SIGMAS)
    point = grid.best_point(data)
    for step in REFINEMENTS:
        moves = np.array([(a * STEP_KMS * step, b * 0.3 * step * point[1]) for a in (-1, 0, 1) for b in (-1, 0, 1)])
        trials = point + moves
        trials[:, 1] = np.clip(trials[:, 1], 55.0, MAX_SIGMA_WHOLE if whole else MAX_SIGMA)
        found = data.fit(templates.component(*trials.T))
        point = trials[found.trial]
    return Narrow(float(point[0]), float(point[1]), found.flux, found.error, found.gain)


@lru_cache(maxsize=8)
def _grid(templates: Templates, most_kms: float, sigmas: tuple[float, ...]) -> Grid:
    velocity = np.arange(-most_kms, most_kms + 1, min(STEP_KMS * 1.5, most_kms))
    points = np.array([(v, s) for v in velocity for s in sigmas])
    return Grid(points, templates.component(*points.T))


def any_starlight(templates: Templates, spectrum: np.ndarray, velocity_kms: float) -> np.ndarray:
    """Nuisance spectra [T, component] of starlight of any strength, given the spectrum [T] that it is part of."""
    return np.asarray(FLAT * np.linalg.norm(spectrum) * starlight(templates, velocity_kms).T)


@dataclass(frozen=True)
class Place:
    """A place's light beyond its surroundings, with the covariance of ordinary light.

    Attributes:
        excess: spectrum of the point source less `USUAL_AMOUNT` of the surroundings.
        host: narrow lines of the surroundings.
        of_galaxy: whether their velocity is the galaxy's: at the centre, or where their own is unknown.
    """

    excess: Whitened
    host: Narrow
    of_galaxy: bool = False

    def amount(self, light: np.ndarray | None = None) -> tuple[float, float]:
        """Brightness of the ordinary light and its error, in units of the surroundings, beside some other light [T]."""
        data = self.excess.data if light is None else self.excess.data - light
        inner, weighted = self.excess.inner[0], self.excess.weighted
        return (
            USUAL_AMOUNT + AMOUNT_SIGMA * float(inner @ (weighted.T @ data)),
            AMOUNT_SIGMA * float(np.sqrt(inner[0])),
        )


def place_of(templates: Templates, found: Extracted, whole: Callable[[], Narrow], *, central: bool) -> Place:
    """Excess at a place.

    Args:
        templates: of the survey.
        found: spectra at the place.
        whole: narrow lines of the whole galaxy, for surroundings that are too faint.
        central: whether the place is at the centre, where gas is at rest on average.
    """
    host = fit_narrow(templates, found.surroundings, found.surroundings_variance, at_rest=central)
    outshone = np.abs(found.source).sum() > OUTSHONE * np.abs(found.surroundings).sum()
    unknown = host.snr < MIN_SNR or found.lopsided or outshone
    if unknown:
        host = _as_bright(whole(), host, at_rest=central)
    velocity, sigma = host.velocity_kms + np.array([0, 5, -5, 0, 0]), host.sigma_kms + np.array([0, 0, 0, 5, -5])
    spectra = templates.component(velocity, sigma)
    lines = spectra[0]
    total, faster, slower, broader, narrower = host.flux @ spectra
    stars = any_starlight(templates, found.source, host.velocity_kms)
    least = _least(lines, host, Whitened(found.source, found.variance, stars))
    size = float(np.clip(abs(least), LEAST_AMOUNT, OUTSHONE))
    columns = [
        AMOUNT_SIGMA * total,
        size * SHIFT_KMS * (faster - slower) / 10,
        size * BROADENING_KMS * (broader - narrower) / 10,
        *((10**RATIO_DEX - 1) * size * host.flux[:, None] * lines),
    ]
    floor = PROFILE_SHARE * (np.abs(found.source) + size * total)
    variance = found.variance + _highest_nearby(floor, templates) ** 2
    nuisances = np.hstack([np.stack(columns, axis=1), stars])
    return Place(Whitened(found.source - USUAL_AMOUNT * total, variance, nuisances), host, central or unknown)


def _as_bright(whole: Narrow, local: Narrow, *, at_rest: bool) -> Narrow:
    """Lines of the whole galaxy, as bright as those of the surroundings, whose own fit is unusable."""
    weight = 1 / np.maximum(local.error, 1e-300) ** 2
    power = float((whole.flux**2 * weight).sum())
    share = float((whole.flux * local.flux * weight).sum()) / power if power > 0 else 0.0
    share = float(np.clip(share, *BRIGHTNESS))
    return replace(
        whole,
        velocity_kms=0.0 if at_rest else whole.velocity_kms,
        sigma_kms=min(whole.sigma_kms, MAX_SIGMA),
        flux=share * whole.flux,
        error=share * whole.error,
    )


def _highest_nearby(values: np.ndarray, templates: Templates) -> np.ndarray:
    """Highest [T] of each sample and its two neighbours in the window."""
    rows = values.reshape(len(templates.names), -1)
    return np.asarray(maximum_filter1d(rows, 3, mode="nearest").ravel())


def _least(lines: np.ndarray, host: Narrow, source: Whitened) -> float:
    """Upper limit on the ordinary light's brightness, from the line that exceeds the surroundings least.

    Other light only adds to lines, so the ordinary light is at most as bright as this one.
    """
    gram, right = source.normal(lines[None])
    strong = host.strong & (np.diag(gram[0]) > 0)
    if not strong.any():
        return 0.0
    inverse = np.linalg.inv(gram[0][np.ix_(strong, strong)])
    if not np.isfinite(inverse).all():  # a line of which next to nothing is seen
        return 0.0
    error = np.sqrt(np.maximum(np.diag(inverse), 0))
    return float(((inverse @ right[0][strong] + error) / host.flux[strong]).min())
