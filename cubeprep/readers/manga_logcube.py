"""MaNGA DRP LOGCUBE files: `manga-PLATE-IFU-LOGCUBE.fits.gz`, with redshifts from `drpall`.

The HDUs FLUX, IVAR and MASK are read as a stream, plane by plane. The wavelengths come from the FLUX header (CTYPE3 =
WAVE-LOG), since the WAVE HDU comes after the data; it is compared with them when a file is read to its end.
"""

import re
from typing import Any

import numpy as np

from cubeprep import dap_model
from cubeprep.config import MistakeError
from cubeprep.cube import Rejected, Target
from cubeprep.fits.cards import bits_card
from cubeprep.fits.cubefile import CubeFile, CubeLayout
from cubeprep.masks import DRP3PIXMASK, DRP3QUAL, bits_value
from cubeprep.readers import manga_maps
from cubeprep.stars.starlight import ModelStars
from cubeprep.store import FLUX_UNIT
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import TableRows, depth, find_cubes, find_files, set_bits, survey_rows
from cubeprep.tables import name_of, number
from cubeprep.velocity import VelocityConfig

FILE_NAME = re.compile(r"manga-(\d+)-(\d+)-LOGCUBE\.fits(?:\.gz|\.fz)?", re.IGNORECASE)
TABLE_NAME = re.compile(r"drpall(?:-.*)?\.fits(?:\.gz)?()", re.IGNORECASE)
DEFAULT_MASK_BITS = ("NOCOV", "DEADFIBER", "FORESTAR", "DONOTUSE")


class Reader:
    """Reader of the LOGCUBEs below a root, in any folder structure."""

    grid = "log"
    facts = manga_maps.facts_in(FLUX_UNIT)
    with_models = False  # whether `find_targets` looks for model cubes below `survey.maps_root`

    def __init__(self, config: SurveyConfig) -> None:
        names = DEFAULT_MASK_BITS if config.mask_bits is None else config.mask_bits
        self._config = config
        bits = bits_value(names, DRP3PIXMASK)
        self._layout = CubeLayout("FLUX", "IVAR", "ivar", "MASK", bad_bits=bits, wave_types=("WAVE-LOG",), wave="WAVE")
        bits_value(config.reject_quality, DRP3QUAL)

    def find_targets(self) -> list[Target]:
        """All LOGCUBEs below the root. Files without a row in drpall are rejected; rows without a file are ignored.

        Raises:
            MistakeError: there is no drpall table, or it lacks a column.
        """
        root = str(self._config.root)
        files = find_cubes(self._config, FILE_NAME)
        maps = _find_maps(self._config.maps_root) if self._config.maps_root else {}
        models = dap_model.find_models(str(self._config.maps_root)) if self.with_models else {}
        rows, broken = _read_drpall(self._config.table or _find_table(root))
        targets = []
        for (plate, ifu), path in files.items():
            plateifu = f"{plate}-{ifu}"
            row = rows.get(plateifu)
            if row is None:
                unknown = f"{path}: {plateifu} is not in the survey's table, its redshift is unknown"
                reason = ("bad_row", broken[plateifu]) if plateifu in broken else ("not_in_table", unknown)
                targets.append(Target(plateifu, plateifu, np.nan, np.nan, np.nan, (path,), rejected=reason))
            else:
                targets.append(_target(plateifu, path, row, maps.get((plateifu,)), models.get(plateifu)))
        return targets

    def open(self, target: Target) -> list[CubeFile]:
        """LOGCUBE of a target, which has one arm.

        Raises:
            Rejected: the file is missing or damaged, has no FLUX on a logarithmic wavelength grid, is of another
                galaxy by its primary header, or that header has a quality bit that drpall lacks.
        """
        path = target.paths[0]
        arm = CubeFile(path, self._layout)
        manga_maps.check_plateifu(arm.primary, target.plateifu, path)
        quality = set_bits(bits_card(arm.primary, "DRP3QUAL", path), DRP3QUAL)
        if bad := [name for name in quality if name in self._config.reject_quality]:
            raise Rejected("quality", f"{path}: DRP3QUAL of its header has {', '.join(bad)}")
        return [arm]

    def starlight(self, target: Target, arm: CubeFile, planes: np.ndarray, size: int | None) -> ModelStars:
        """Stars of a galaxy in planes of `arm`, from the DAP's model cube; see `dap_model.read_starlight`.

        Raises:
            Rejected: the galaxy has no model cube, or it cannot be used.
        """
        if target.model is None:
            root = self._config.maps_root
            raise Rejected("no_model", f"{target.paths[0]}: no model cube of {target.plateifu} below {root}")
        return dap_model.read_starlight(target.model, arm.wave, planes, size, shape=arm.shape)

    def velocity(
        self, target: Target, arm: CubeFile, size: int | None, config: VelocityConfig
    ) -> tuple[np.ndarray, float]:
        """Velocity field of a galaxy, km/s, on the spaxels of `arm.read`; see `manga_maps.read_velocity`.

        Raises:
            Rejected: the galaxy has no MAPS file, or it cannot be used.
        """
        if target.maps is None:
            raise Rejected("no_maps", f"{target.paths[0]}: no MAPS of {target.plateifu} below {self._config.maps_root}")
        return manga_maps.read_velocity(
            target.maps, config.tracer, size, shape=arm.shape, max_error_kms=config.max_error_kms
        )


def _find_maps(maps_root: str) -> dict[tuple[str, ...], str]:
    return find_files(maps_root, manga_maps.FILE_NAME, "survey.maps_root")


def _find_table(root: str) -> str:
    tables = find_files(root, TABLE_NAME)
    if not tables:
        raise MistakeError(f"{root}: no drpall*.fits here, which has the redshifts; name one as survey.table")
    return next(iter(tables.values()))


def _read_drpall(path: str) -> tuple[TableRows, dict[str, str]]:
    """Rows of drpall, and errors of malformed lines, by plateifu."""
    needed = ("mangaid", "objra", "objdec", "nsa_z", "drp3qual")
    optional = ("z", "nsa_elpetro_th50_r", "bluesn2", "redsn2", "exptime", "nexp")
    return survey_rows(path, "plateifu", needed=needed, optional=optional, hdu="MANGA", kind="drpall")


def _target(plateifu: str, path: str, row: dict[Any, Any], maps: str | None, model: str | None) -> Target:
    """Target of a row of drpall; galaxies outside the NASA-Sloan Atlas have their redshift in the column `z`."""
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
        model=model,
    )
