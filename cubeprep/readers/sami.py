"""SAMI DR3 cubes: pairs of `CATID_REPEAT_..._blue.fits.gz` and `..._red.fits.gz` (doi:10.1093/mnras/stab229).

Wavelengths are in air, on linear grids (AWAV). Fluxes are in the primary HDU, errors in VARIANCE, the redshift in
Z_SPEC. Each arm is a cube of its own; lines in the gap between the arms have no coverage. Data Central offers several
kinds of cubes of one observation (`cube`, `adaptive`, `annular`, `sectors`), of which a survey may hold one.
"""

import re

import numpy as np
from astropy.io.fits import Header

from cubeprep.config import MistakeError
from cubeprep.cube import Rejected, Target
from cubeprep.facts import SurveyFacts
from cubeprep.fits.cubefile import CubeFile, CubeLayout, primary_image
from cubeprep.fits.stream import open_at
from cubeprep.store import FLUX_UNIT
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import SIMBAD, find_cubes, guarded_target
from cubeprep.tables import name_of, number

# Files such as CATID_A_spectrum_re_blue.fits hold single spectra.
FILE_NAME = re.compile(r"(\d+)_([A-Z])(?:_((?!spectrum).*))?_(blue|red)\.fits(?:\.gz|\.fz)?", re.IGNORECASE)
BINNED = ("adaptive", "annular", "sectors")
SAME_Z = 1e-5  # 3 km/s; the arms' redshifts may be rounded
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
        """All pairs of cubes; those without the other arm, or without a redshift in the header, are rejected.

        Raises:
            MistakeError: there are several cubes of an arm, or the arms of an observation are of several kinds.
        """
        observations: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
        for (catid, repeat, kind, arm), path in find_cubes(self._config, FILE_NAME).items():
            arms, here = observations.setdefault((catid, repeat), {}), ((kind or "").lower(), arm.lower())
            for held, (other, first) in arms.items():
                if other != here[0] or held == here[1]:
                    reason = f"{first} and {path} are cubes of one observation, and no pair of one kind"
                    raise MistakeError(f"{reason}: keep one kind below {self._config.root}")
            arms[here[1]] = (here[0], path)
        return [
            self._target(catid, repeat, {arm: path for arm, (_, path) in arms.items()})
            for (catid, repeat), arms in sorted(observations.items())
        ]

    def open(self, target: Target) -> list[CubeFile]:
        """Blue and red arm of a target.

        Raises:
            Rejected: a file is missing or damaged, its wavelengths or unit are not understood, or its NAME or Z_SPEC
                is that of another galaxy.
        """
        arms = [CubeFile(path, layout) for path, layout in zip(target.paths, LAYOUTS.values(), strict=True)]
        for arm, path in zip(arms, target.paths, strict=True):
            _check_galaxy(arm.primary, target, path)
            if (named := FILE_NAME.fullmatch(path.rpartition("/")[2])) and (named[3] or "").lower().startswith(BINNED):
                arm.remarks = (f"{named[3]} cube: spaxels of a bin share one spectrum; errors of sums are too small",)
        return arms

    def _target(self, catid: str, repeat: str, arms: dict[str, str]) -> Target:
        name = f"{catid}_{repeat}"
        paths = tuple(arms[arm] for arm in ("blue", "red") if arm in arms)
        missing = [arm for arm in ("blue", "red") if arm not in arms]
        if missing:
            reason = ("missing_file", f"{paths[0]}: the {missing[0]} arm of {name} is not beside it")
            return Target(name, catid, np.nan, np.nan, np.nan, paths, rejected=reason)

        def read() -> Target:
            stream, first = open_at(paths[1], "PRIMARY")
            with stream:
                header = primary_image(stream, first)
            z, ra_deg, dec_deg = (number(header.get(key)) for key in ("Z_SPEC", "CATARA", "CATADEC"))
            unknown = ("no_redshift", f"{paths[1]}: Z_SPEC = {header.get('Z_SPEC')!r}, expected a redshift")
            return Target(name, catid, z, ra_deg, dec_deg, paths, rejected=unknown if np.isnan(z) else None)

        return guarded_target(Target(name, catid, np.nan, np.nan, np.nan, paths), read)


def _check_galaxy(header: Header, target: Target, path: str) -> None:
    """Rejects an arm that is of another galaxy than its name says, or has another redshift than the target."""
    name, z = name_of(header.get("NAME")), number(header.get("Z_SPEC"))
    if name not in ("", target.mangaid):
        reason = f"NAME = {name!r}, expected {target.mangaid!r} as in the name of the file"
        raise Rejected("bad_card", f"{path}: {reason}")
    if abs(z - target.z) > SAME_Z:
        raise Rejected("bad_card", f"{path}: Z_SPEC = {z}, expected {target.z} as in the other arm")
