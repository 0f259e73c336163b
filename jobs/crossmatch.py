"""Puts columns of another catalog beside ours, by position on the sky.

For each galaxy it takes the nearest row of TABLE within --radius (in arcsec, if it has no unit), and writes
catalog.match-PREFIX.parquet, .fits and .vot beside the catalog: the catalog's columns, those of TABLE with the prefix,
PREFIX_separation_arcsec, and PREFIX_num_matches, the number of rows within the radius, so that ambiguous matches show.
The page of `explore` shows the columns, too. Several tables may be matched, each with a prefix of its own.

TABLE is a CSV, TSV, ECSV, FITS, VOTable, Parquet or text file or URL, also gzipped. Its positions are ICRS; numbers
are in degrees unless the table says otherwise, text is in hours and degrees. Proper motions are not applied. True and
false become text, as do large integers, such as identifiers, where galaxies have no match: a float would round them;
and integers above 2^63, which VOTable lacks.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cubeprep.redact import redact
from cubeprep.storage import read_file
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.angles import arcsec_of
from jobs.console.command import EXIT_OK, CommandError, command
from jobs.console.progress import console
from jobs.tables.matches import check_prefix, find_matches, matched_columns, matches_path, positions_of
from jobs.tables.read import column_of, read_table
from jobs.tables.survey_links import survey_name, with_links
from jobs.tables.write import write_exports
from modeling.catalog import Catalog, read_catalog, write_catalog
from modeling.labels.labels import catalog_version

HOURS = 24.0


def run(
    config: ProjectConfig,
    table: str,
    radius: str = "2arcsec",
    prefix: str | None = None,
    ra: str | None = None,
    dec: str | None = None,
    columns: Sequence[str] = (),
) -> int:
    """Writes the catalog with columns of another one; returns the exit code."""
    from astropy.coordinates import SkyCoord

    if (ra is None) != (dec is None):
        raise CommandError("--ra and --dec: expected both, or neither for columns of a common name")
    radius_arcsec = arcsec_of(radius)
    path = Path(table.partition("?")[0] if "://" in table else table)
    prefix = check_prefix(prefix or path.name.partition(".")[0])
    catalog = read_catalog(config.catalog_path)
    galaxies = SkyCoord(*_positions(catalog, config.catalog_path), unit="deg")
    other = read_table(table)
    where, names = positions_of(other, path, ra, dec)
    matches = find_matches(galaxies, where, radius_arcsec)
    if columns:
        attrs = other.attrs
        other = other[list(dict.fromkeys([*names, *(str(column_of(other, name, path).name) for name in columns)]))]
        other.attrs = attrs
    added, described = matched_columns(other, matches, prefix, path)
    provenance = {
        "table": redact(table),
        "sha256": hashlib.sha256(read_file(table)).hexdigest(),
        "radius_arcsec": radius_arcsec,
        "positions": list(names),
        "catalog": catalog_version(config.catalog_path),
        "matched_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    paths = write_matched(config, catalog, prefix, (added, described), provenance)
    found, several = int((matches.num_matches > 0).sum()), int((matches.num_matches > 1).sum())
    console.print(
        f"{found} of {counted(len(catalog.table), 'galaxy')} with a match within {radius_arcsec:g} arcsec, "
        f"{several} with several ({prefix}_num_matches), by {' and '.join(names)}: {', '.join(map(str, paths))}",
        markup=False,
    )
    for positions, what, whose in ((galaxies, "galaxy", "the catalog"), (where, "row", path.name)):
        if unplaced := int(np.isnan(positions.ra.deg).sum()):
            console.print(f"{counted(unplaced, what)} of {whose} without a position", markup=False)
    if not found:
        ranges = f"{path.name}: {_span(where)}; the catalog: {_span(galaxies)}"
        console.print(f"{ranges}{_nearest(galaxies, where)}", markup=False)
    return EXIT_OK


def _nearest(galaxies: Any, where: Any) -> str:
    """Smallest distance of a row from a galaxy, and a hint if right ascensions look like hours."""
    known, usable = (each[np.isfinite(each.ra.deg) & np.isfinite(each.dec.deg)] for each in (galaxies, where))
    if not len(known) or not len(usable):
        return ""
    _, apart, _ = known.match_to_catalog_sky(usable)
    least = apart.deg.min()
    text = f"; the closest pair is {f'{least:.3g} deg' if least > 1 else f'{3600 * least:.4g} arcsec'} apart"
    if usable.ra.deg.max() <= HOURS < known.ra.deg.max():
        text += "; right ascensions of no more than 24 may be hours: give them a unit (ECSV, FITS) or write 12h34m56.7s"
    return text


def _span(positions: Any) -> str:
    """Ranges of positions, which reveal wrong units, such as hours read as degrees."""
    ra, dec = (angle.deg[np.isfinite(angle.deg)] for angle in (positions.ra, positions.dec))
    if not len(ra):
        return "no positions"
    ranges = (f"{angle.min():.6g} to {angle.max():.6g}" for angle in (ra, dec))
    return "right ascensions of {} and declinations of {} deg".format(*ranges)


def write_matched(
    config: ProjectConfig, catalog: Catalog, prefix: str, added: tuple[dict[str, Any], Any], provenance: dict[str, Any]
) -> list[Path]:
    """Writes the catalog with added columns, as (values, descriptions), in all formats; returns the paths."""
    taken = [name for name in added[0] if name in catalog.table]
    if taken:
        raise CommandError(f"--prefix {prefix}: the catalog has columns of that name already ({', '.join(taken[:3])})")
    joined, columns = with_links(catalog.table.assign(**added[0]), catalog.columns | added[1], survey_name(config))
    path = matches_path(config.catalog_path, prefix)
    write_catalog(path, joined, columns, catalog.provenance | {"crossmatch": provenance})
    return [path, *write_exports(path, survey_name(config))]


def _positions(catalog: Catalog, path: Path) -> list[np.ndarray]:
    absent = [name for name in ("ra_deg", "dec_deg") if name not in catalog.table]
    if absent:
        raise ValueError(f"{path}: no column {' and '.join(absent)}, so that nothing can be matched by position")
    return [catalog.table[name].to_numpy(float) for name in ("ra_deg", "dec_deg")]


if __name__ == "__main__":
    command("crossmatch")()
