"""Columns of another catalog beside ours, by position on the sky; and the tables of such matches beside a catalog."""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.tables import UNITS, TableError, in_unit
from cubeprep.words import counted
from jobs.console.command import CommandError
from jobs.tables.read import column_of
from jobs.tables.ucds import FAMILIES
from jobs.tables.write import unit_of
from modeling.catalog import Catalog, Column, read_catalog

logger = logging.getLogger(__name__)

# Names of columns with ICRS positions, the most common first; case is ignored.
RA_NAMES = (
    *("ra_deg", "ra", "raj2000", "ra_icrs", "_raj2000", "ra2000", "ra_j2000", "alpha_j2000", "objra", "ra_obj"),
    "rad",
)
DEC_NAMES = (
    *("dec_deg", "dec", "dej2000", "decj2000", "de_icrs", "dec_icrs", "_dej2000", "dec2000", "dec_j2000"),
    *("delta_j2000", "objdec", "dec_obj", "decd"),
)
SEPARATION, NUM_MATCHES = "separation_arcsec", "num_matches"
# Above it neighbouring integers, such as identifiers of objects, are the same number in float64.
LARGEST_EXACT = 2**53


@dataclass(frozen=True)
class Matches:
    """Matches of N galaxies with another table.

    Attributes:
        nearest: [N] row of the nearest match; -1 where there is none within the radius.
        separation_arcsec: [N] distance to it; NaN where there is none.
        num_matches: [N] rows of the table within the radius.
    """

    nearest: np.ndarray
    separation_arcsec: np.ndarray
    num_matches: np.ndarray


def find_matches(galaxies: Any, others: Any, radius_arcsec: float) -> Matches:
    """Nearest match of each galaxy within a radius, and the number of matches.

    Args:
        galaxies: `SkyCoord` of N galaxies, NaN where unknown.
        others: `SkyCoord` of the other table, NaN where unknown.
        radius_arcsec: radius, arcsec.
    """
    import astropy.units as u
    from astropy.coordinates import search_around_sky

    known, usable = (np.flatnonzero(np.isfinite(each.ra) & np.isfinite(each.dec)) for each in (galaxies, others))
    nearest, separation = np.full(len(galaxies), -1), np.full(len(galaxies), np.nan)
    count = np.zeros(len(galaxies), dtype=np.int64)
    if len(known) and len(usable):
        found, other, distance, _ = search_around_sky(galaxies[known], others[usable], radius_arcsec * u.arcsec)
        # The nearest comes last and replaces the others.
        for pair in np.argsort(-distance.arcsec, kind="stable"):
            nearest[known[found[pair]]] = usable[other[pair]]
            separation[known[found[pair]]] = distance[pair].arcsec
        count = np.bincount(known[found], minlength=len(galaxies))
    return Matches(nearest, separation, count)


def positions_of(table: pd.DataFrame, path: Path, ra: str | None, dec: str | None) -> tuple[Any, tuple[str, str]]:
    """Positions (`SkyCoord`, ICRS) of a table's rows, NaN where unknown, and the names of the columns that hold them.

    Cells are read one by one: numbers are degrees unless the table states another unit, `12:34:56.7`, `12 34 56.7` and
    `12h34m56.7s` hours of right ascension, or degrees of declination. Other cells are counted in the log.

    Raises:
        TableError: there are no such columns, or they hold no positions.
    """
    from astropy.coordinates import SkyCoord

    names = tuple(
        str(column_of(table, given, path).name) if given else _known_name(table, known, path)
        for given, known in ((ra, RA_NAMES), (dec, DEC_NAMES))
    )
    given = table[list(names)].notna().all(axis=1).to_numpy()
    angles = [
        _degrees(table[name], text_unit, table.attrs[UNITS].get(name, ""), path)
        for name, text_unit in zip(names, ("hourangle", "deg"), strict=True)
    ]
    sound = (np.abs(angles[0] - 90) <= 270) & (np.abs(angles[1]) <= 90)  # right ascensions of -180 to 360 degrees
    unread = np.flatnonzero(given & ~sound)
    if len(unread):
        shown = " and ".join(f"{name} {table[name].iloc[unread[0]]}" for name in names)
        if not sound.any():
            raise TableError(f"{path}: {' and '.join(names)} hold no positions, such as {shown}")
        logger.warning(
            "%s: %s without a position that can be read, such as %s", path, counted(len(unread), "row"), shown
        )
    whole = (np.where(sound, angle, np.nan) for angle in angles)
    return SkyCoord(*whole, unit="deg"), (names[0], names[1])


def _degrees(column: pd.Series, text_unit: str, number_unit: str, path: Path) -> np.ndarray:
    """Angles [row] in degrees; NaN where a cell holds none.

    Args:
        column: numbers or text.
        text_unit: unit of text such as `12:34:56.7`.
        number_unit: unit of numbers, as the table states it.
        path: path of the table, for the message.

    Raises:
        TableError: the unit is not that of an angle.
    """
    from astropy.coordinates import Angle

    column = column.map(lambda cell: cell.replace("\N{MINUS SIGN}", "-") if isinstance(cell, str) else cell)
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    try:
        # Where all cells are text, the unit is of text too, such as VizieR's "h:m:s".
        found = in_unit(numbers, number_unit if numbers.notna().any() else "", "deg").to_numpy(copy=True)
    except ValueError as error:
        raise TableError(f"{path}: {column.name} {error}") from error
    text = np.flatnonzero(column.notna().to_numpy() & numbers.isna().to_numpy())
    try:
        found[text] = Angle(column.iloc[text].to_list(), unit=text_unit).deg
    except ValueError:  # some cells are no angles
        for row in text:
            with suppress(ValueError):
                found[row] = Angle(column.iloc[row], unit=text_unit).deg
    return found


def _known_name(table: pd.DataFrame, known: Sequence[str], path: Path) -> str:
    lower = {str(name).lower(): str(name) for name in table}
    found = [lower[name] for name in known if name in lower]
    if not found:
        shown = ", ".join(map(str, table.columns[:12]))
        raise CommandError(
            f"{path}: no column of positions is known among {shown}; name the columns with --ra and --dec"
        )
    return found[0]


def matched_columns(
    table: pd.DataFrame, matches: Matches, prefix: str, path: Path
) -> tuple[dict[str, Any], dict[str, Column]]:
    """Columns of the nearest match of each galaxy, with their descriptions.

    Args:
        table: the other table.
        matches: of the galaxies.
        prefix: of the names of the columns.
        path: of the other table.
    """
    values: dict[str, Any] = {f"{prefix}_{name}": _taken(table[name], matches.nearest) for name in table}
    units = table.attrs[UNITS]
    columns = {f"{prefix}_{name}": _described(str(name), units.get(name, ""), path) for name in table}
    values |= {f"{prefix}_{SEPARATION}": matches.separation_arcsec, f"{prefix}_{NUM_MATCHES}": matches.num_matches}
    columns[f"{prefix}_{SEPARATION}"] = Column(f"Distance to the nearest match in {path.name}", "arcsec")
    columns[f"{prefix}_{NUM_MATCHES}"] = Column(f"Rows of {path.name} within the radius; above 1 it is ambiguous")
    return values, columns


def _taken(column: pd.Series, rows: np.ndarray) -> np.ndarray:
    """Rows of a column as numbers or text; -1 is a missing row.

    Large integers, such as identifiers, become text: as numbers some programs would round them.
    """
    if column.dtype.kind in "iu":  # pandas' own integers hold missing values without rounding the others
        column = column.astype("UInt64" if column.dtype.kind == "u" else "Int64")
    column = column.reset_index(drop=True).reindex(rows)
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        return column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)
    if pd.api.types.is_integer_dtype(column):
        if (column.abs() > LARGEST_EXACT).any():
            return column.astype(str).where(column.notna(), "").to_numpy(dtype=object)
        if not column.isna().any():
            return column.to_numpy(np.int64)
    return column.to_numpy(float, na_value=np.nan)


def _described(name: str, unit: str, path: Path) -> Column:
    """Description of a column; it names a unit that the standards, or FITS, do not know."""
    text = f"{name} of {path.name}"
    try:
        known = unit_of(name, unit)
        if known is not None:
            known.to_string("fits")  # raises an error for hours of right ascension
        return Column(text, str(known or ""))
    except ValueError:
        return Column(f"{text}, in {unit}")


def matches_path(catalog: Path, prefix: str) -> Path:
    """Path of the table of matches beside a catalog."""
    return catalog.with_name(f"{catalog.stem}.match-{prefix}.parquet")


def check_prefix(prefix: str) -> str:
    """The prefix of column names, if FITS and VOTable accept its characters and no columns of ours begin so.

    Raises:
        CommandError: they do not, or some do.
    """
    if not re.fullmatch(r"[A-Za-z]\w*", prefix, re.ASCII):
        raise CommandError(f"--prefix {prefix}: expected letters, digits and underscores, and a letter first")
    if f"{prefix}_".startswith(FAMILIES):
        raise CommandError(f"--prefix {prefix}: columns of the catalog itself begin so; expected another prefix")
    return prefix


def with_matches(catalog: Catalog, path: Path) -> Catalog:
    """A catalog with the columns of the tables of matches beside it; those of an earlier catalog are left out."""
    for file in sorted(path.parent.glob(matches_path(path, "*").name)):
        matched = read_catalog(file)
        if matched.provenance.get("created_utc") != catalog.provenance.get("created_utc"):
            logger.warning("%s is left out: it was made from another catalog; run `cubescout crossmatch` again", file)
            continue
        added = [str(name) for name in matched.table if name not in catalog.table]
        joined = catalog.table.join(matched.table.set_index("plateifu")[added], on="plateifu")
        columns = catalog.columns | {name: matched.columns[name] for name in added}
        catalog = replace(catalog, table=joined, columns=columns)
    return catalog
