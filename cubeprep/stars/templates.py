"""Spectra of stellar populations to fit continua with, broadened and shifted on their logarithmic grid.

Made by benchmarks/stellar_templates.py from the models of Maraston+2020 (doi:10.1093/mnras/staa1489), which are built
from MaNGA's own stellar library and have its resolution, about 70 km/s (sigma).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from scipy.ndimage import gaussian_filter1d

from cubeprep.lines import SPEED_OF_LIGHT_KMS

FWHM = float(np.sqrt(8 * np.log(2)))  # of a Gaussian, over its sigma
LOG_STEP = 1e-4
PIXEL_KMS = SPEED_OF_LIGHT_KMS * np.log(10) * LOG_STEP
TABLE = "stellar_templates.npz"
RANGE = (3660.0, 10_300.0)  # bluer light is spliced from other models, of a coarser resolution


@dataclass(frozen=True)
class Templates:
    """Spectra of populations of one age and metallicity each.

    Attributes:
        flux: [template, wave] flux density per Angstrom, 1 at rest wavelength 5500 Angstrom.
        age_gyr: [template] ages, Gyr.
        log_metals: [template] log10 of the metallicities, solar units.
        first: log10 of the first vacuum rest wavelength, Angstrom; the step is `LOG_STEP`.
    """

    flux: np.ndarray
    age_gyr: np.ndarray
    log_metals: np.ndarray
    first: float

    def on_grid(self, first: float, count: int, velocity_kms: float) -> np.ndarray:
        """Spectra at a velocity on a grid of the same step, [template, count]; see `shifted`."""
        offset = (first - self.first) / LOG_STEP - np.log10(1 + velocity_kms / SPEED_OF_LIGHT_KMS) / LOG_STEP
        return shifted(self.flux, offset, count)


def shifted(spectra: np.ndarray, offset: float, count: int) -> np.ndarray:
    """Values [..., count] of spectra at `offset`, `offset` + 1, ... pixels, by cubic interpolation.

    Positions beyond the ends of the spectra get the value there.
    """
    whole = int(np.floor(offset))
    t = float(offset - whole)  # not NumPy's, which would make the result double precision
    # Lagrange's polynomial through the two pixels on either side; a linear one would broaden the spectra.
    weights = (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )
    last = spectra.shape[-1] - 1
    start, stop = whole - 1, whole + count + 2
    if start < 0 or stop > last + 1:
        spectra = spectra[..., np.clip(np.arange(start, stop), 0, last)]
        start = 0
    result = weights[0] * spectra[..., start : start + count]
    part = np.empty_like(result)
    for k in range(1, 4):
        result += np.multiply(spectra[..., start + k : start + k + count], weights[k], out=part)
    return result


def featureless(arm: np.ndarray) -> np.ndarray:
    """Light without lines in each arm alone, [arm, wave]: of an active nucleus, or of the instrument.

    Args:
        arm: [wave] number of the arm of each wavelength.
    """
    numbers = np.flatnonzero(np.bincount(arm))
    return (arm == numbers[:, None]).astype(np.float32)


def template_sigma_kms(wave: np.ndarray) -> np.ndarray:
    """Resolution of the templates (sigma), km/s, at vacuum rest wavelengths, Angstrom."""
    table = _table()
    values, first = table["resolution"].astype(np.float64), float(table["first_log_wave"])
    return SPEED_OF_LIGHT_KMS / FWHM / np.interp((np.log10(wave) - first) / LOG_STEP, np.arange(len(values)), values)


def broadened(
    sigma_kms: float, excess: np.ndarray, step_kms: float, shapes: Callable[[Templates], np.ndarray]
) -> np.ndarray:
    """Shapes [..., wave] of the templates that are broadened to a dispersion and to the resolution of the spectra.

    Where the spectra are sharper than broadened templates could be, the templates stay as they are.

    Args:
        sigma_kms: dispersion of the stars.
        excess: [wave] squared resolution (sigma) of the spectra less that of the templates, (km/s)^2.
        step_kms: step to which dispersions are rounded.
        shapes: spectra [..., wave] of some templates.
    """
    steps = np.rint(np.sqrt(np.maximum(sigma_kms**2 + excess, 0)) / step_kms)
    each = np.unique(steps)
    result = shapes(templates(step_kms * each[0]))
    for step in each[1:]:
        result = np.where(steps == step, shapes(templates(step_kms * step)), result)
    return result


@lru_cache(maxsize=1)
def _table() -> dict[str, np.ndarray]:
    with (files("cubeprep.stars") / TABLE).open("rb") as file, np.load(file) as table:
        return {name: table[name] for name in table}


@lru_cache(maxsize=32)
def templates(sigma_kms: float = 0.0) -> Templates:
    """All templates, broadened by a Gaussian of `sigma_kms` beyond their own resolution."""
    table = _table()
    flux = table["spectra"].astype(np.float32)
    if sigma_kms > 0:
        flux = gaussian_filter1d(flux, sigma_kms / PIXEL_KMS, axis=1, mode="nearest")
    return Templates(flux, table["age_gyr"], table["log_metals"], float(table["first_log_wave"]))
