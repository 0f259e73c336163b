"""Emission lines: vacuum rest wavelengths, sidebands, and air to vacuum."""

from dataclasses import dataclass

import numpy as np

SPEED_OF_LIGHT_KMS = 299792.458


@dataclass(frozen=True)
class Line:
    """An emission line.

    Attributes:
        name: the survey's channel name, such as `Ha-6564`.
        rest_wave: vacuum wavelength at rest, Angstrom.
        blueside: lower and upper edge of the continuum band on the blue side, Angstrom, vacuum, at rest.
        redside: the same on the red side.
    """

    name: str
    rest_wave: float
    blueside: tuple[float, float]
    redside: tuple[float, float]


# Source: the MaNGA DAP's emission-line database of DR15 (ELPMPL8), cut to 3800-8000 Angstrom without He I 3889
# (blended with Hzeta) and N I 5199: the 19 lines of arXiv:2602.18426.
PAPER_LINES = (
    Line("Heta-3836", 3836.479, (3806.5, 3826.5), (3900.2, 3920.2)),
    Line("NeIII-3869", 3869.86, (3806.5, 3826.5), (3900.2, 3920.2)),
    Line("Hzet-3890", 3890.158, (3806.5, 3826.5), (3900.2, 3920.2)),
    Line("NeIII-3968", 3968.59, (3938.6, 3958.6), (3978.6, 3998.6)),
    Line("Heps-3971", 3971.202, (3941.2, 3961.2), (3981.2, 4001.2)),
    Line("Hdel-4102", 4102.899, (4072.9, 4092.9), (4112.9, 4132.9)),
    Line("Hgam-4341", 4341.691, (4311.7, 4331.7), (4351.7, 4371.7)),
    Line("HeII-4687", 4687.015, (4657.0, 4677.0), (4697.0, 4717.0)),
    Line("Hb-4862", 4862.691, (4798.9, 4838.9), (4885.6, 4925.6)),
    Line("OIII-4960", 4960.295, (4930.3, 4950.3), (4970.3, 4990.3)),
    Line("OIII-5008", 5008.240, (4978.2, 4998.2), (5018.2, 5038.2)),
    Line("HeI-5877", 5877.243, (5847.2, 5867.2), (5887.2, 5907.2)),
    Line("OI-6302", 6302.046, (6272.0, 6292.0), (6312.0, 6332.0)),
    Line("OI-6365", 6365.535, (6335.5, 6355.5), (6375.5, 6395.5)),
    Line("NII-6549", 6549.86, (6483.0, 6513.0), (6623.0, 6653.0)),
    Line("Ha-6564", 6564.632, (6483.0, 6513.0), (6623.0, 6653.0)),
    Line("NII-6585", 6585.271, (6483.0, 6513.0), (6623.0, 6653.0)),
    Line("SII-6718", 6718.294, (6673.0, 6703.0), (6748.0, 6778.0)),
    Line("SII-6732", 6732.674, (6673.0, 6703.0), (6748.0, 6778.0)),
)

LINES_BY_NAME = {line.name: line for line in PAPER_LINES}


def air_to_vacuum(wave_air: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths of air wavelengths, both in Angstrom.

    Source: Ciddor 1996 (doi:10.1364/AO.35.001566), the refractive index of standard air, with the wavenumber taken
    from the air wavelength: off by less than 1e-5 Angstrom over the optical.
    """
    wavenumber2 = (1e4 / np.asarray(wave_air, dtype=np.float64)) ** 2
    index = 1.0 + 5.792105e-2 / (238.0185 - wavenumber2) + 1.67917e-3 / (57.362 - wavenumber2)
    return wave_air * index
