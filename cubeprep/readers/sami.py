"""SAMI DR3 cubes: pairs of `CATID_REPEAT_..._blue.fits.gz` and `..._red.fits.gz` (doi:10.1093/mnras/stab229).

Wavelengths are in air, on linear grids (AWAV). Fluxes are in the primary HDU, errors in VARIANCE, the redshift in
Z_SPEC. Each arm is a cube of its own; lines in the gap between the arms have no coverage.
"""

import re

import numpy as np

from cubeprep.cube import Target
from cubeprep.facts import SurveyFacts
from cubeprep.fits.cubefile import CubeFile, CubeLayout
from cubeprep.store import FLUX_UNIT
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import SIMBAD, find_cubes, first_header, guarded_target
from cubeprep.tables import number

FILE_NAME = re.compile(r"(\d+)_([A-Z])(?:_(.*))?_(blue|red)\.fits(?:\.gz|\.fz)?", re.IGNORECASE)
# FWHM of the line-spread function: van de Sande+2017 (doi:10.3847/1538-4357/835/1/104).
LAYOUTS = {
    arm: CubeLayout("PRIMARY", "VARIANCE", "variance", lsf_fwhm=(fwhm,))
    for arm, fwhm in (("blue", 2.65), ("red", 1.61))
}


class Reader:
    """Reader of the pairs of blue and red cubes below a root."""

    grid = "linear"
    # The axes of the cubes are those of the sky: CDELT1 < 0 < CDELT2, without a rotation.
    facts = SurveyFacts(FLUX_UNIT, 0.5, "north up, east left", 2.0, SIMBAD)

    def __init__(self, config: SurveyConfig) -> None:
        if config.mask_bits:
            raise ValueError("survey.mask_bits: SAMI cubes have no bit mask")
        self._config = config

    def find_targets(self) -> list[Target]:
        """All pairs of cubes; those without the other arm, or without a redshift in the header, are rejected."""
        files = find_cubes(self._config, FILE_NAME)
        observations = sorted({(catid, repeat) for catid, repeat, _, _ in files})
        return [self._target(catid, repeat, files) for catid, repeat in observations]

    def open(self, target: Target) -> list[CubeFile]:
        """Blue and red arm of a target.

        Raises:
            Rejected: a file is missing or damaged, or its wavelengths or unit are not understood.
        """
        return [CubeFile(path, layout) for path, layout in zip(target.paths, LAYOUTS.values(), strict=True)]

    def _target(self, catid: str, repeat: str, files: dict[tuple[str, ...], str]) -> Target:
        name = f"{catid}_{repeat}"
        arms = {key[3].lower(): path for key, path in files.items() if key[:2] == (catid, repeat)}
        paths = tuple(arms[arm] for arm in ("blue", "red") if arm in arms)
        missing = [arm for arm in ("blue", "red") if arm not in arms]
        if missing:
            reason = ("missing_file", f"{paths[0]}: the {missing[0]} arm of {name} is not beside it")
            return Target(name, catid, np.nan, np.nan, np.nan, paths, rejected=reason)

        def read() -> Target:
            header = first_header(paths[1])
            z, ra_deg, dec_deg = (number(header.get(key)) for key in ("Z_SPEC", "CATARA", "CATADEC"))
            unknown = ("no_redshift", f"{paths[1]}: Z_SPEC = {header.get('Z_SPEC')!r}, expected a redshift")
            return Target(name, catid, z, ra_deg, dec_deg, paths, rejected=unknown if np.isnan(z) else None)

        return guarded_target(Target(name, catid, np.nan, np.nan, np.nan, paths), read)
