"""MUSE cubes: DATA, STAT (variance) and an optional DQ, on linear grids of air wavelengths.

MUSE has no survey-wide table: `survey.table` must name a table of your own with the columns `name` (file name without
.fits, .fits.gz or .fits.fz) and `z`, and optionally `object`, `ra`, `dec`, `re_arcsec` and `depth`.
"""

import re

from cubeprep.cube import Target
from cubeprep.facts import SurveyFacts
from cubeprep.fits.cubefile import CubeFile, CubeLayout
from cubeprep.fits.wcs import AIR, VACUUM
from cubeprep.store import FLUX_UNIT
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import find_cubes, targets_from_table

ESO = "https://archive.eso.org/scienceportal/home?pos={ra_deg:.6f},{dec_deg:.6f}&r=0.016667&ins_id=MUSE"
FILE_NAME = re.compile(r"(.+)\.fits(?:\.gz|\.fz)?", re.IGNORECASE)
# MPDAF writes LINEAR for wavelengths in air.
AIR_TYPES = (*AIR, "LINEAR")
LAYOUT = CubeLayout(
    "DATA",
    "STAT",
    "variance",
    "DQ",
    mask_optional=True,
    wave_types=(*VACUUM, *AIR_TYPES),
    air_types=AIR_TYPES,
    lsf_fwhm=(6.040, -9.187e-4, 5.866e-8),  # Bacon+2017 (doi:10.1051/0004-6361/201730833)
)


class Reader:
    """Reader of the MUSE cubes below a root."""

    grid = "linear"
    facts = SurveyFacts(FLUX_UNIT, 0.2, "", 1.0, ESO)

    def __init__(self, config: SurveyConfig) -> None:
        if config.mask_bits:
            raise ValueError("survey.mask_bits: any bit of MUSE's DQ marks a bad voxel; none can be chosen")
        self._config = config

    def find_targets(self) -> list[Target]:
        """Galaxies of the table; those without a cube are rejected."""
        return targets_from_table(self._config, find_cubes(self._config, FILE_NAME))

    def open(self, target: Target) -> list[CubeFile]:
        """Cube of a target, which has one arm.

        Raises:
            Rejected: the file is missing or damaged, or its wavelengths or unit are not understood.
        """
        return [CubeFile(target.paths[0], LAYOUT)]
