"""SAMI DR3 cubes: `CATID_REPEAT_..._blue.fits.gz` with its `..._red.fits.gz`.

Linear grids of air wavelengths (AWAV), flux in the primary HDU, VARIANCE, redshift in Z_SPEC (Croom et al. 2021,
doi:10.1093/mnras/stab229). Each arm is a cube of its own; the gap between them leaves lines without coverage.
"""

import re

import numpy as np

from cubeprep.cube import Planes, Rejected, Target, screened
from cubeprep.facts import SurveyFacts
from cubeprep.fitsstream import FitsStream, find_hdu, image_shape, read_cube
from cubeprep.geometry import outside
from cubeprep.store import FLUX_UNIT
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import SIMBAD, find_files, flux_scale, inverse, linear_wave, spaxel_arcsec
from cubeprep.tables import number

FILE_NAME = re.compile(r"(\d+)_([A-Z])(?:_(.*))?_(blue|red)\.fits(?:\.gz)?")


class Reader:
    """Reads pairs of blue and red cubes below a root."""

    grid = "linear"
    facts = SurveyFacts(FLUX_UNIT, 0.5, "orientation as in the survey's cubes", 2.0, SIMBAD)

    def __init__(self, config: SurveyConfig) -> None:
        if config.mask_bits:
            raise ValueError("survey.mask_bits: SAMI cubes have no bit mask")
        self._config = config

    def find_targets(self) -> list[Target]:
        """Every pair of cubes; one without its other arm, or without redshift in its header, is rejected."""
        files = find_files(str(self._config.root), FILE_NAME)
        observations = sorted({(catid, repeat) for catid, repeat, _, _ in files})
        return [self._target(catid, repeat, files) for catid, repeat in observations]

    def open(self, target: Target) -> list["SamiArm"]:
        """The blue and the red arm.

        Raises:
            Rejected: a file is missing, damaged, or not on a linear grid of air wavelengths.
        """
        return [SamiArm(path) for path in target.paths]

    def _target(self, catid: str, repeat: str, files: dict[tuple[str, ...], str]) -> Target:
        name = f"{catid}_{repeat}"
        arms = {key[3]: path for key, path in files.items() if key[:2] == (catid, repeat)}
        paths = tuple(arms[arm] for arm in ("blue", "red") if arm in arms)
        missing = [arm for arm in ("blue", "red") if arm not in arms]
        if missing:
            reason = ("missing_file", f"{paths[0]}: the {missing[0]} arm of {name} is not beside it")
            return Target(name, catid, np.nan, np.nan, np.nan, paths, rejected=reason)
        try:
            with FitsStream(paths[1]) as stream:
                header = find_hdu(stream, "PRIMARY", [])
        except Rejected as rejected:
            return Target(name, catid, np.nan, np.nan, np.nan, paths, rejected=(rejected.code, rejected.reason))
        z, ra_deg, dec_deg = (number(header.get(key)) for key in ("Z_SPEC", "CATARA", "CATADEC"))
        return Target(name, catid, z, ra_deg, dec_deg, paths)


class SamiArm:
    """One open cube; its planes can be read once."""

    def __init__(self, path: str) -> None:
        self._stream = FitsStream(path)
        try:
            self._header = find_hdu(self._stream, "PRIMARY", [])
            self.wave = linear_wave(self._header, path, air_names=("AWAV",))
        except Rejected:
            self._stream.close()
            raise

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """See `cubeprep.cube.Arm`."""
        with self._stream as stream:
            flux, variance = read_cube(stream, self._header, ("PRIMARY", "VARIANCE"), planes, size)
        scale = flux_scale(self._header, stream.path)
        _, height, width = image_shape(self._header, stream.path)
        nothing = np.zeros(flux.shape, dtype=bool)
        return screened(
            flux * scale,
            inverse(variance) / scale**2,
            nothing,
            outside((height, width), size),
            spaxel_arcsec(self._header),
        )
