"""A disc with rotation, a metallicity gradient, stars and noise, to which light of known physics is added."""

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import gaussian_filter

from cubeprep.lines import PAPER_LINES, SPEED_OF_LIGHT_KMS
from cubeprep.stars.templates import LOG_STEP
from cubeprep.stars.templates import templates as stellar_templates
from modeling.scoring.hypotheses.explain import Hypothesis, Survey
from modeling.scoring.hypotheses.templates import Templates

SIZE = 16
MIDDLE = (8, 8)
PSF_SIGMA = 1.06
VELOCITY_KMS = tuple((np.arange(10) - 4.5) * 69.0)
LINES = Templates(tuple(line.name for line in PAPER_LINES), tuple(line.rest_wave for line in PAPER_LINES), VELOCITY_KMS)
SURVEY = Survey(LINES, PSF_SIGMA, 1.0)
INSTRUMENT = 70.0
Z = 0.03
# Relative to Hbeta: H II regions of about solar metallicity.
HII = {
    "Ha-6564": 2.9, "Hb-4862": 1.0, "Hgam-4341": 0.47, "Hdel-4102": 0.26, "OIII-5008": 0.6, "OIII-4960": 0.2,
    "NII-6585": 1.0, "NII-6549": 0.33, "SII-6718": 0.55, "SII-6732": 0.4, "OI-6302": 0.06, "OI-6365": 0.02,
    "HeI-5877": 0.12,
}  # fmt: skip
AGN = HII | {"OIII-5008": 9.0, "OIII-4960": 3.06, "NII-6585": 2.8, "NII-6549": 0.92, "HeII-4687": 0.25, "OI-6302": 0.5}
POOR = HII | {
    "OIII-5008": 6.5,
    "OIII-4960": 2.2,
    "NII-6585": 0.05,
    "NII-6549": 0.016,
    "SII-6718": 0.12,
    "SII-6732": 0.09,
}


def spectrum(fluxes: Mapping[str, float], velocity_kms: float, sigma_kms: float) -> np.ndarray:
    """Spectrum [T] of gas; sigma without the instrument's."""
    flux = np.array([fluxes.get(name, 0.0) for name in LINES.names])
    return np.asarray(flux @ LINES.component(np.array([velocity_kms]), np.array([np.hypot(sigma_kms, INSTRUMENT)]))[0])


def spot(y: float, x: float, sigma: float = PSF_SIGMA) -> np.ndarray:
    """Image [Y, X] of a point source."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / sigma**2)


def starlight() -> np.ndarray:
    """Starlight in the windows, [T]."""
    stars = stellar_templates(120.0)
    log_wave = stars.first + LOG_STEP * np.arange(stars.flux.shape[1])
    flux = stars.flux[len(stars.flux) // 2]
    return LINES.windows_of(lambda wave: np.asarray(np.interp(np.log10(wave), log_wave, flux)))


class Galaxy:
    """A rotating disc, with light added to it."""

    def __init__(self, seed: int = 0, snr: float = 1500.0, stars: float = 0.05) -> None:
        self.rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[:SIZE, :SIZE] - 8.0
        radius = np.hypot(rows, columns)
        light = np.exp(-radius / 3.0)
        rotation = 120 * columns / np.hypot(radius, 2.0)
        slope = 10 ** (-0.03 * (radius - 3))
        self.flux = np.zeros((len(LINES.wave), SIZE, SIZE))
        for y, x in np.ndindex(SIZE, SIZE):
            metals = {name: flux * (slope[y, x] if name.startswith("NII") else 1) for name, flux in HII.items()}
            self.flux[:, y, x] = light[y, x] * (spectrum(metals, rotation[y, x], 30.0) + stars * starlight())
        self.flux = gaussian_filter(self.flux, (0, PSF_SIGMA, PSF_SIGMA))
        noise = 0.3 * self.flux.max() * np.abs(self.flux) + (0.01 * self.flux.max()) ** 2
        self.variance = noise * (self.flux**2 / noise).sum() / snr**2
        self.good = np.ones(self.flux.shape, dtype=bool)

    def add(self, light: np.ndarray, image: np.ndarray, snr: float) -> "Galaxy":
        """Adds light [T] with an image [Y, X], at a signal-to-noise ratio over the galaxy."""
        added = light[:, None, None] * image
        self.flux = self.flux + snr / np.sqrt((added**2 / self.variance).sum()) * added
        return self

    def explain(self, region: tuple[int, int] = MIDDLE) -> Hypothesis:
        """Hypothesis for a region, with noise."""
        noise = np.sqrt(self.variance) * self.rng.standard_normal(self.flux.shape)
        shape = (len(LINES.names), len(VELOCITY_KMS), SIZE, SIZE)
        arrays = (values.reshape(shape) for values in (self.flux + noise, self.variance, self.good))
        return SURVEY.explain(*arrays, region, Z)


def at(wave: float, sigma_kms: float) -> np.ndarray:
    """Single line [T] at a rest wavelength."""
    return LINES.profiles(np.array([wave]), np.array([sigma_kms]))[0]


def shifted(velocity_kms: float, wave: float) -> float:
    """Wavelength of a line that moves."""
    return wave * (1 + velocity_kms / SPEED_OF_LIGHT_KMS)
