"""Emission lines: vacuum rest wavelengths and sidebands; conversion of air to vacuum wavelengths."""

from dataclasses import dataclass

import numpy as np

SPEED_OF_LIGHT_KMS = 299792.458


@dataclass(frozen=True)
class Line:
    """An emission line.

    Attributes:
        name: name of the line's channel in the survey's maps, such as `Ha-6564`.
        rest_wave: vacuum rest wavelength, Angstrom.
        blueside: lower and upper edge of the continuum band on the blue side, vacuum rest wavelength, Angstrom.
        redside: the same on the red side.
    """

    name: str
    rest_wave: float
    blueside: tuple[float, float]
    redside: tuple[float, float]

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, where a line is given in YAML


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

# Source: the DAP's emission-line database of DR17 (ELPMPL11), with NIST's Ritz wavelengths; the names are those of the
# channels in MAPS.
DAP_DR17_LINES = (
    Line("OII-3727", 3727.092, (3706.3, 3716.3), (3738.6, 3748.6)),
    Line("OII-3729", 3729.875, (3706.3, 3716.3), (3738.6, 3748.6)),
    Line("H12-3751", 3751.2174, (3738.6, 3748.6), (3756.6, 3766.6)),
    Line("H11-3771", 3771.7012, (3756.6, 3766.6), (3779.1, 3789.1)),
    Line("Hthe-3798", 3798.9757, (3776.5, 3791.5), (3806.5, 3821.5)),
    Line("Heta-3836", 3836.472, (3806.5, 3826.5), (3900.2, 3920.2)),
    Line("NeIII-3869", 3869.86, (3806.5, 3826.5), (3900.2, 3920.2)),
    Line("HeI-3889", 3889.749, (3806.5, 3826.5), (3900.2, 3920.2)),
    Line("Hzet-3890", 3890.1506, (3806.5, 3826.5), (3900.2, 3920.2)),
    Line("NeIII-3968", 3968.59, (3938.6, 3958.6), (3978.6, 3998.6)),
    Line("Heps-3971", 3971.1951, (3941.2, 3961.2), (3981.2, 4001.2)),
    Line("Hdel-4102", 4102.8922, (4082.0, 4092.9), (4112.9, 4132.9)),
    Line("Hgam-4341", 4341.6837, (4311.7, 4331.7), (4349.7, 4358.7)),
    Line("HeII-4687", 4687.015, (4667.0, 4677.0), (4697.0, 4707.0)),
    Line("Hb-4862", 4862.683, (4798.9, 4838.9), (4885.6, 4925.6)),
    Line("OIII-4960", 4960.295, (4930.3, 4950.3), (4970.3, 4990.3)),
    Line("OIII-5008", 5008.24, (4978.2, 4998.2), (5028.2, 5048.2)),
    Line("NI-5199", 5199.349, (5169.4, 5189.3), (5211.7, 5231.7)),
    Line("NI-5201", 5201.705, (5169.4, 5189.4), (5211.7, 5231.7)),
    Line("HeI-5877", 5877.252, (5847.2, 5867.2), (5887.2, 5907.2)),
    Line("OI-6302", 6302.046, (6272.0, 6292.0), (6312.0, 6332.0)),
    Line("OI-6365", 6365.536, (6335.5, 6355.5), (6375.5, 6395.5)),
    Line("NII-6549", 6549.86, (6483.0, 6513.0), (6623.0, 6653.0)),
    Line("Ha-6564", 6564.608, (6483.0, 6513.0), (6623.0, 6653.0)),
    Line("NII-6585", 6585.27, (6483.0, 6513.0), (6623.0, 6653.0)),
    Line("SII-6718", 6718.295, (6690.0, 6708.0), (6748.0, 6768.0)),
    Line("SII-6732", 6732.674, (6690.0, 6708.0), (6748.0, 6768.0)),
    Line("HeI-7067", 7067.657, (7037.1, 7057.1), (7077.1, 7097.1)),
    Line("ArIII-7137", 7137.76, (7107.8, 7127.8), (7147.8, 7167.8)),
    Line("ArIII-7753", 7753.24, (7703.2, 7743.2), (7763.2, 7803.2)),
    Line("Peta-9017", 9017.384, (8977.4, 9007.4), (9027.4, 9057.4)),
    Line("SIII-9071", 9071.1, (9026.1, 9061.1), (9081.1, 9116.1)),
    Line("Pzet-9231", 9231.546, (9181.5, 9221.5), (9241.5, 9281.5)),
    Line("SIII-9533", 9533.2, (9483.2, 9523.2), (9558.6, 9598.6)),
    Line("Peps-9548", 9548.588, (9483.2, 9523.2), (9558.6, 9598.6)),
)

PRESETS = {"paper": PAPER_LINES, "dap-dr17": DAP_DR17_LINES}
# On the names that both lists share, PAPER_LINES takes precedence.
LINES_BY_NAME = {line.name: line for line in DAP_DR17_LINES + PAPER_LINES}


def air_to_vacuum(wave_air: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths that correspond to air wavelengths; both in Angstrom, any shape.

    Source: refractive index of standard air by Ciddor 1996 (doi:10.1364/AO.35.001566). The formula needs the vacuum
    wavenumber; using that of the air wavelength instead avoids an iteration and errs by less than 1e-5 Angstrom in the
    optical.
    """
    wavenumber2 = (1e4 / np.asarray(wave_air, dtype=np.float64)) ** 2
    index = 1.0 + 5.792105e-2 / (238.0185 - wavenumber2) + 1.67917e-3 / (57.362 - wavenumber2)
    return wave_air * index
