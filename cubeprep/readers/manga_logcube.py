"""MaNGA DRP LOGCUBE files: `manga-PLATE-IFU-LOGCUBE.fits.gz`, with redshifts from `drpall`.

The HDUs FLUX, IVAR and MASK are read as a stream, plane by plane; nothing after them is touched. The wavelengths come
from the FLUX header (CTYPE3 = WAVE-LOG), since the WAVE HDU lies behind the data.
"""

import re
from typing import Any

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Planes, Rejected, Target, screened
from cubeprep.fitsstream import FitsStream, find_hdu, image_shape, read_cube
from cubeprep.geometry import outside
from cubeprep.masks import DRP3PIXMASK, DRP3QUAL, bits_value
from cubeprep.readers import manga_maps
from cubeprep.store import FLUX_UNIT
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import depth, find_files, flux_scale, set_bits, spaxel_arcsec, survey_rows
from cubeprep.tables import name_of, number
from cubeprep.velocity import VelocityConfig

FILE_NAME = re.compile(r"manga-(\d+)-(\d+)-LOGCUBE\.fits(?:\.gz)?")
TABLE_NAME = re.compile(r"drpall(?:-.*)?\.fits(?:\.gz)?()")
DEFAULT_MASK_BITS = ("NOCOV", "DEADFIBER", "FORESTAR", "DONOTUSE")


class Reader:
    """Reads LOGCUBEs below a root, in any folder structure."""

    grid = "log"
    facts = manga_maps.facts_in(FLUX_UNIT)

    def __init__(self, config: SurveyConfig) -> None:
        names = DEFAULT_MASK_BITS if config.mask_bits is None else config.mask_bits
        self._config = config
        self._bad_bits = bits_value(names, DRP3PIXMASK)
        bits_value(config.reject_quality, DRP3QUAL)

    def find_targets(self) -> list[Target]:
        """Every LOGCUBE below the root. Rows of drpall without a file are no targets; files without a row are rejected.

        Raises:
            ValueError: no table, or one without the columns needed.
        """
        root = str(self._config.root)
        files = find_files(root, FILE_NAME)
        maps = find_files(self._config.maps_root, manga_maps.FILE_NAME) if self._config.maps_root else {}
        rows = _read_drpall(self._config.table or _find_table(root))
        targets = []
        for (plate, ifu), path in files.items():
            plateifu = f"{plate}-{ifu}"
            row = rows.get(plateifu)
            if row is None:
                reason = ("not_in_table", f"{path}: {plateifu} is not in the survey's table, its redshift is unknown")
                targets.append(Target(plateifu, plateifu, np.nan, np.nan, np.nan, (path,), rejected=reason))
            else:
                targets.append(_target(plateifu, path, row, maps.get((plateifu,))))
        return targets

    def open(self, target: Target) -> list["LogcubeArm"]:
        """The one arm of a LOGCUBE.

        Raises:
            Rejected: the file is missing, damaged, or has no FLUX on a logarithmic wavelength grid.
        """
        return [LogcubeArm(target.paths[0], self._bad_bits)]

    def velocity(
        self, target: Target, arm: "LogcubeArm", size: int | None, config: VelocityConfig
    ) -> tuple[np.ndarray, float]:
        """The velocity field of a galaxy on the spaxels that `arm.read` gives; see `manga_maps.read_velocity`.

        Raises:
            Rejected: it has no MAPS file, or the file cannot be used.
        """
        if target.maps is None:
            raise Rejected("no_maps", f"{target.paths[0]}: no MAPS of {target.plateifu} below {self._config.maps_root}")
        return manga_maps.read_velocity(
            target.maps, config.tracer, size, shape=arm.shape, max_error_kms=config.max_error_kms
        )


class LogcubeArm:
    """An open LOGCUBE; its planes can be read once, since they are read as a stream."""

    def __init__(self, path: str, bad_bits: int) -> None:
        self._stream = FitsStream(path)
        self._bad_bits = bad_bits
        try:
            self._header = find_hdu(self._stream, "FLUX", [])
            self.wave = log_wave(self._header, path)
            self.shape = image_shape(self._header, path)[1:]
        except Rejected:
            self._stream.close()
            raise

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """See `cubeprep.cube.Arm`."""
        with self._stream as stream:
            flux, ivar, mask = read_cube(stream, self._header, ("FLUX", "IVAR", "MASK"), planes, size)
        if mask.dtype.kind not in "iu":
            raise Rejected("bad_shape", f"{stream.path}: MASK holds {mask.dtype}, not integers")
        scale = flux_scale(self._header, stream.path)
        flux *= scale  # in place: these are the largest arrays that a worker holds
        ivar /= scale**2
        mask &= self._bad_bits
        bad = mask != 0
        del mask
        return screened(flux, ivar, bad, outside(self.shape, size), spaxel_arcsec(self._header))


def log_wave(header: Header, path: str) -> np.ndarray:
    """[plane] vacuum wavelengths of a WAVE-LOG axis, Angstrom (Greisen et al. 2006, doi:10.1051/0004-6361:20053818).

    Raises:
        Rejected: the axis is of another kind.
    """
    if str(header.get("CTYPE3", "")).strip() != "WAVE-LOG":
        raise Rejected("bad_wave", f"{path}: FLUX has CTYPE3 = {header.get('CTYPE3')!r}, expected 'WAVE-LOG'")
    num_planes, _, _ = image_shape(header, path)
    reference, step = float(header["CRVAL3"]), float(header.get("CD3_3", header.get("CDELT3", 0)))
    if not (reference > 0 and step > 0):
        raise Rejected("bad_wave", f"{path}: wavelength axis with CRVAL3 = {reference}, step {step}")
    return reference * np.exp(step * (np.arange(num_planes) + 1 - float(header["CRPIX3"])) / reference)


def _find_table(root: str) -> str:
    tables = find_files(root, TABLE_NAME)
    if not tables:
        raise ValueError(f"{root}: no drpall*.fits here, which has the redshifts; name one as survey.table")
    return next(iter(tables.values()))


def _read_drpall(path: str) -> dict[str, dict[Any, Any]]:
    """Rows of drpall by plateifu."""
    needed = ("mangaid", "objra", "objdec", "nsa_z", "drp3qual")
    optional = ("z", "nsa_elpetro_th50_r", "bluesn2", "redsn2", "exptime", "nexp")
    return survey_rows(path, "plateifu", needed=needed, optional=optional, hdu="MANGA", kind="drpall")[0]


def _target(plateifu: str, path: str, row: dict[Any, Any], maps: str | None) -> Target:
    """A target; a galaxy outside the NASA-Sloan Atlas has its redshift in the column `z`."""
    z, quality = number(row["nsa_z"]), number(row["drp3qual"])
    unknown = ("quality", f"{path}: the survey's table has no drp3qual for {plateifu}, its quality is unknown")
    return Target(
        plateifu,
        name_of(row["mangaid"]) or plateifu,
        number(row.get("z")) if np.isnan(z) else z,
        number(row["objra"]),
        number(row["objdec"]),
        (path,),
        number(row.get("nsa_elpetro_th50_r")),
        () if np.isnan(quality) else set_bits(int(quality), DRP3QUAL),
        rejected=unknown if np.isnan(quality) else None,
        maps=maps,
        depth=depth(row),
    )
