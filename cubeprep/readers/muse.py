"""MUSE cubes: DATA, STAT (variance) and, where there, DQ; linear grids of air wavelengths, 1e-20 units.

MUSE has no survey-wide table: `survey.table` names one of the user's (CSV, ECSV or FITS) with the columns `name` (the
file's, without .fits or .fits.gz) and `z`, and if wanted `object`, `ra`, `dec`, `re_arcsec`, `depth`.
"""

import re

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Planes, Rejected, Target, screened
from cubeprep.facts import SurveyFacts
from cubeprep.fitsstream import FitsStream, find_hdu, image_shape, read_cube
from cubeprep.geometry import outside
from cubeprep.store import FLUX_UNIT
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import find_files, flux_scale, inverse, linear_wave, spaxel_arcsec, targets_from_table

ESO = "https://archive.eso.org/scienceportal/home?pos={ra_deg:.6f},{dec_deg:.6f}&r=0.016667&ins_id=MUSE"
FILE_NAME = re.compile(r"(.+)\.fits(?:\.gz)?")


class Reader:
    """Reads MUSE cubes below a root."""

    grid = "linear"
    facts = SurveyFacts(FLUX_UNIT, 0.2, "", 1.0, ESO)

    def __init__(self, config: SurveyConfig) -> None:
        if config.mask_bits:
            raise ValueError("survey.mask_bits: any bit of MUSE's DQ marks a bad voxel; none can be chosen")
        self._config = config

    def find_targets(self) -> list[Target]:
        """Every galaxy of the table."""
        return targets_from_table(self._config, find_files(str(self._config.root), FILE_NAME))

    def open(self, target: Target) -> list["MuseArm"]:
        """The one arm of a cube.

        Raises:
            Rejected: the file is missing, damaged, or not on a linear wavelength grid.
        """
        return [MuseArm(target.paths[0])]


class MuseArm:
    """One open cube; its planes can be read once."""

    def __init__(self, path: str) -> None:
        self._stream = FitsStream(path)
        try:
            self._header = find_hdu(self._stream, "DATA", [])
            self.wave = linear_wave(self._header, path, air_names=("AWAV", "LINEAR"))
        except Rejected:
            self._stream.close()
            raise

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """See `cubeprep.cube.Arm`."""
        with self._stream as stream:
            flux, variance = read_cube(stream, self._header, ("DATA", "STAT"), planes, size)
        scale = flux_scale(self._header, stream.path)
        quality = _quality(stream.path, planes, size)
        _, height, width = image_shape(self._header, stream.path)
        return screened(
            flux * scale,
            inverse(variance) / scale**2,
            quality != 0,
            outside((height, width), size),
            spaxel_arcsec(self._header),
        )


def _quality(path: str, planes: np.ndarray, size: int | None) -> np.ndarray:
    """DQ of the planes; 0 where the file has none."""
    with FitsStream(path) as stream:
        header: Header | None = next((hdu for hdu in stream.hdus() if hdu.get("EXTNAME") == "DQ"), None)
        return np.zeros(1, dtype=np.uint8) if header is None else stream.read_planes(header, planes, size)
