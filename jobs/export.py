"""Writes the catalog as a FITS table and a VOTable, for TOPCAT and other Virtual Observatory tools.

Reads catalog.parquet and writes catalog.fits and catalog.vot beside it: the same rows and columns, with the unit, UCD
and description of each column, ICRS positions, a link to the survey's page of each galaxy, and the other observations
of the same object. `score` does this too; this job repeats it, also for catalogs of earlier versions.

Lists of names become text separated by spaces; lists of numbers become arrays. Units give a spaxel as a pixel, since
the standards have no spaxel.
"""

from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, command
from jobs.console.progress import console
from jobs.tables.survey_links import survey_name
from jobs.tables.write import FORMATS, write_exports


def run(config: ProjectConfig, formats: tuple[str, ...] = tuple(FORMATS)) -> int:
    """Writes the catalog in other formats; returns the exit code."""
    for path in write_exports(config.catalog_path, survey_name(config), formats or tuple(FORMATS)):
        console.print(f"Catalog: {path}", markup=False)
    return EXIT_OK


if __name__ == "__main__":
    command("export")()
