"""Starlight left in the windows: absorption lines on the straight line through the sidebands.

A few spectra span the residual starlight of populations of any age and metallicity: the principal components of the
templates that `prepare` fits stars with.
"""

from functools import lru_cache, partial

import numpy as np

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.stars.templates import LOG_STEP
from cubeprep.stars.templates import templates as stellar_templates
from modeling.scoring.hypotheses.templates import Templates

NUM_SPECTRA = 8
DISPERSIONS_KMS = (50.0, 120.0, 220.0)
VELOCITY_STEP_KMS = 25.0


def starlight(templates: Templates, velocity_kms: float) -> np.ndarray:
    """Orthonormal spectra [component, T] of the starlight in the windows, at a velocity."""
    return _starlight(templates, round(velocity_kms / VELOCITY_STEP_KMS))


def _interpolated(log_wave: np.ndarray, flux: np.ndarray, wave: np.ndarray) -> np.ndarray:
    return np.asarray(np.interp(np.log10(wave), log_wave, flux))


@lru_cache(maxsize=256)
def _starlight(templates: Templates, step: int) -> np.ndarray:
    shift = 1 + step * VELOCITY_STEP_KMS / SPEED_OF_LIGHT_KMS
    rows = []
    for sigma_kms in DISPERSIONS_KMS:
        stars = stellar_templates(sigma_kms)
        log_wave = stars.first + LOG_STEP * np.arange(stars.flux.shape[1])
        rows += [templates.windows_of(partial(_interpolated, log_wave + np.log10(shift), flux)) for flux in stars.flux]
    _, _, components = np.linalg.svd(np.array(rows), full_matrices=False)
    return components[:NUM_SPECTRA]
