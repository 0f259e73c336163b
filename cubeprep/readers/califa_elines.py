"""CALIFA Pipe3D ELINES cubes: `NAME.ELINES.cube.fits.gz`, one plane per quantity.

The cards DESC_n and TYPE_n name the planes. Fluxes and errors are in 1e-16 erg/s/cm2. The files have no redshift:
`survey.table` must name a table of your own with the columns `name` (such as NGC4047) and `z`. Lines that Pipe3D did
not fit are masked.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Planes, Rejected, Target, screened
from cubeprep.facts import SurveyFacts
from cubeprep.fits.cards import text_card
from cubeprep.fits.units import flux_unit
from cubeprep.fits.wcs import placed_sky, spaxel_arcsec
from cubeprep.geometry import outside, place
from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import SIMBAD, find_cubes, open_maps, sum_remarks, targets_from_table

FILE_NAME = re.compile(r"(.+)\.ELINES\.cube\.fits(?:\.gz|\.fz)?", re.IGNORECASE)
# Pipe3D writes the unit without quotes, so that FITS readers take the text after the first slash for a comment.
CUT_UNIT, CUT_SCALE = "10^-16 erg", 10.0

# Pipe3D's names of lines, which contain air wavelengths.
PIPE3D_NAMES = {
    "OIII-5008": "[OIII]5007",
    "OIII-4960": "[OIII]4959",
    "Hb-4862": "Hbeta",
    "Ha-6564": "Halpha",
    "NII-6585": "[NII]6583",
    "NII-6549": "[NII]6548",
    "SII-6732": "[SII]6731",
    "SII-6718": "[SII]6717",
}


class Reader:
    """Reader of the ELINES cubes below a root."""

    grid = "maps"
    facts = SurveyFacts("1e-17 erg / (s cm2 spaxel)", 1.0, "north up, east left", 2.5, SIMBAD)

    def __init__(self, config: SurveyConfig) -> None:
        if config.mask_bits:
            raise ValueError("survey.mask_bits: ELINES cubes have no bit mask")
        self._config = config

    def find_targets(self) -> list[Target]:
        """Galaxies of the table; those without a cube are rejected."""
        return targets_from_table(self._config, find_cubes(self._config, FILE_NAME))

    def read_maps(self, target: Target, line_names: Sequence[str], size: int | None) -> Planes:
        """Maps of lines, with fluxes integrated over wavelength; see `cubeprep.cube.MapReader`."""
        path = target.paths[0]
        with open_maps(path) as hdus:
            # Compressed by tiles, the primary image lies in the first extension.
            first = int(hdus[0].data is None and len(hdus) > 1)
            remarks = sum_remarks(hdus, first, path)
            header, data = hdus[first].header, np.asarray(hdus[first].data, dtype=np.float64)
        if data.ndim != 3:
            raise Rejected("bad_shape", f"{path}: the first HDU is {data.shape}, expected [map, y, x]")
        named = plane_index(header, [PIPE3D_NAMES.get(name, "") for name in line_names], path)
        planes = {name: found for name, found in named.items() if max(found) < len(data)}
        fitted = [name for name in line_names if PIPE3D_NAMES.get(name, "") in planes]
        if not fitted:
            raise Rejected("no_coverage", f"{path}: no map of any line asked for; it has {', '.join(planes)}")
        pairs = [planes.get(PIPE3D_NAMES.get(name, "")) for name in line_names]
        scaled = {i: data[i] * plane_scale(header, i, path) for pair in pairs for i in pair or ()}
        nothing = np.zeros(data.shape[1:])
        flux, sigma = (
            place(np.stack([nothing if pair is None else scaled[pair[kind]] for pair in pairs]), size)
            for kind in (0, 1)
        )
        with np.errstate(divide="ignore"):
            ivar = np.where(sigma > 0, 1 / sigma**2, 0)
        maps = screened(
            flux, ivar, np.zeros(flux.shape, dtype=bool), outside(data.shape[1:], size), spaxel_arcsec(header)
        )
        for i, name in enumerate(line_names):
            if name not in fitted:
                maps.flux[i], maps.ivar[i], maps.mask[i] = 0, 0, WINDOW_MASK_BITS["NOCOVERAGE"]
        return replace(maps, remarks=remarks, sky=placed_sky(header, data.shape[1:], size))


def plane_index(header: Header, asked: Collection[str], path: str) -> dict[str, tuple[int, int]]:
    """Indices of the planes of flux and flux error, by Pipe3D's name of the line.

    Raises:
        Rejected: two planes of one of the lines `asked` are of the same kind.
    """
    found: dict[str, dict[str, int]] = {}
    for card in [key for key in header if re.fullmatch(r"DESC_\d+", key)]:
        number = card[5:]
        kind = str(header.get(f"TYPE_{number}", "")).strip()
        if kind not in ("flux", "error flux"):
            continue
        name = str(header[card]).replace("emission line", "").strip()
        kinds = found.setdefault(name, {})
        if kind in kinds and name in asked:
            reason = f"DESC_{kinds[kind]} and {card} are both the {kind} of {name!r}, expected one plane"
            raise Rejected("bad_card", f"{path}: {reason}")
        kinds[kind] = int(number)
    return {name: (kinds["flux"], kinds["error flux"]) for name, kinds in found.items() if len(kinds) == 2}


def plane_scale(header: Header, plane: int, path: str) -> float:
    """Factor from the unit of a plane to 1e-17 erg/s/cm2/spaxel.

    Raises:
        Rejected: the unit is not one of flux.
    """
    keyword = f"UNITS_{plane}"
    if text_card(header, keyword) == CUT_UNIT:
        return CUT_SCALE
    return flux_unit(header, path, integrated=True, spaxel_arcsec=spaxel_arcsec(header), keyword=keyword).factor
