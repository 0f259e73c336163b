"""Residuals of sky lines: one wavelength over the faint half of a galaxy, beyond its own lines and stars."""

from dataclasses import dataclass

import numpy as np

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from modeling.scoring.hypotheses.components import Light, line
from modeling.scoring.hypotheses.extraction import Galaxy, psf_area
from modeling.scoring.hypotheses.least_squares import Whitened
from modeling.scoring.hypotheses.ordinary import FLAT, Narrow, any_starlight
from modeling.scoring.hypotheses.templates import Templates

SAME_SIGN = 0.7  # share of spaxels: a bright one can set the mean, but not the sign of all
MIN_SPAXELS = 8
OWN_SIGMAS = (80.0, 140.0, 220.0)  # of the galaxy's own lines, which rotation broadens over many spaxels
# A residual this near to a line of the galaxy, and below this share of it, is of that line, which is not Gaussian.
OWN_KMS, OWN_SHARE = 150.0, 0.5


@dataclass(frozen=True)
class Stripe:
    """A line over the faint half of the spaxels.

    Attributes:
        light: the line.
        scale: reduced chi2 of its residual, at least 1.
        same_sign: share of the spaxels whose residual has its sign.
        count: samples that were fitted.
    """

    light: Light
    scale: float
    same_sign: float
    count: int


def stripe(galaxy: Galaxy, templates: Templates, whole: Narrow) -> Stripe | None:
    """The most significant line over the faint half; None where it is the galaxy's, or too few spaxels are covered."""
    covered = galaxy.good.any(0)
    power = np.where(galaxy.good, galaxy.flux, 0) ** 2
    brightness = power.sum(0) / np.maximum(galaxy.good.sum(0), 1)
    if covered.sum() < 2 * MIN_SPAXELS:
        return None
    faint = covered & (brightness <= np.median(brightness[covered]))
    good = galaxy.good[:, faint]
    count, flux = good.sum(1), galaxy.flux[:, faint]
    known = count > 0.5 * faint.sum()
    mean = np.where(known, flux.sum(1, dtype=np.float64) / np.maximum(count, 1), 0)
    noise = np.where(good, galaxy.variance[:, faint], 0).sum(1, dtype=np.float64) / np.maximum(count, 1) ** 2
    variance = np.where(known, noise, np.inf)
    own = templates.component(np.full(len(OWN_SIGMAS), whole.velocity_kms), np.array(OWN_SIGMAS))
    own = own.reshape(-1, own.shape[-1])
    own = FLAT * np.linalg.norm(mean) * own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-300)
    nuisances = np.hstack([own.T, any_starlight(templates, mean, 0.0)])
    data = Whitened(mean, variance, nuisances)
    light = line(templates, data, negative=True)
    away_kms = SPEED_OF_LIGHT_KMS * np.log(light.parameters[0] / np.array(templates.rest_wave)) - whole.velocity_kms
    own_flux = whole.flux / psf_area(galaxy.psf_sigma)
    if ((np.abs(away_kms) < OWN_KMS) & (np.abs(light.flux[0]) < OWN_SHARE * own_flux)).any():
        return None
    scale = max((data.chi2 - light.gain) / max(data.count - nuisances.shape[1], 1), 1.0)
    peak = int((np.abs(light.spectrum) * (data.weight > 0)).argmax())
    ordinary = mean[peak] - data.residual()[peak]
    residual = (flux[peak] - ordinary)[good[peak]]
    same = float((residual * light.flux[0] > 0).mean()) if residual.size else 0.0
    return Stripe(light, scale, same, data.count)
