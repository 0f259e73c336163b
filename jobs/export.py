"""Writes the catalog as a FITS table and a VOTable, for TOPCAT and other tools, and its footprint on the sky (MOC).

Reads catalog.parquet and writes beside it catalog.fits and catalog.vot: the same rows and columns, with the unit, UCD
and description of each column, ICRS positions, a link to the survey's page of each galaxy, and the other observations
of the same object. `score` does this too; this job repeats it, also for catalogs of earlier versions.

It also writes catalog.moc.fits, a circle around each galaxy as a multi-order coverage map, for Aladin, TOPCAT, VizieR
and mocpy; and with `--format hats` the folder catalog.hats, for LSDB, which must be installed.

Lists of names become text separated by spaces; lists of numbers become arrays. Units give a spaxel as a pixel, since
the standards have no spaxel.
"""

from jobs.config import ProjectConfig
from jobs.console.angles import arcsec_of
from jobs.console.command import EXIT_OK, CommandError, command
from jobs.console.progress import console
from jobs.tables.footprint import FootprintError, located, scored_radius_arcsec, write_footprint
from jobs.tables.hats import write_hats
from jobs.tables.survey_links import survey_name
from jobs.tables.write import FORMATS, write_exports
from modeling.catalog import read_catalog

MOC, HATS = "moc", "hats"


def run(config: ProjectConfig, formats: tuple[str, ...] = (), radius: str | None = None) -> int:
    """Writes the catalog in other formats, by default all but HATS; returns the exit code."""
    radius_arcsec = arcsec_of(radius) if radius else None
    wanted = formats or (*FORMATS, MOC)
    if radius and MOC not in wanted:
        raise CommandError(f"--radius {radius}: only the format {MOC} has a radius; expected --format {MOC}, too")
    tables = tuple(name for name in wanted if name in FORMATS)
    for path in write_exports(config.catalog_path, survey_name(config), tables):
        console.print(f"Catalog: {path}", markup=False)
    if MOC in wanted or HATS in wanted:
        try:
            _on_the_sky(config, wanted, radius_arcsec)
        except FootprintError as error:
            if formats:  # requested explicitly
                raise
            console.print(f"No footprint: {error}", markup=False)
    return EXIT_OK


def _on_the_sky(config: ProjectConfig, wanted: tuple[str, ...], radius_arcsec: float | None) -> None:
    """Writes the formats that need positions."""
    path = config.catalog_path
    catalog, without = located(read_catalog(path), path)
    if without:
        console.print(f"Left out of {' and '.join(sorted({MOC, HATS} & set(wanted)))}: {without}", markup=False)
    if MOC in wanted:
        if radius_arcsec is None:
            radius_arcsec, caution = scored_radius_arcsec(catalog, config)
            if caution:
                console.print(caution, markup=False)
        footprint = write_footprint(catalog, path, radius_arcsec)
        console.print(f"Footprint, circles of {radius_arcsec:.3g} arcsec: {footprint}", markup=False)
    if HATS in wanted:
        console.print(f"Catalog: {write_hats(catalog, path, survey_name(config))}", markup=False)


if __name__ == "__main__":
    command("export")()
