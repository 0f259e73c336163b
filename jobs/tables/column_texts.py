"""Columns of the catalog as text: type, unit, UCD and meaning.

The reference page of the documentation and `cubescout columns NAME` both show this.
"""

from cubeprep.store import FLUX_UNIT
from cubeprep.words import closest, suggestion
from jobs.console.command import CommandError
from jobs.tables.survey_links import LINKS
from jobs.tables.ucds import ucd_of
from modeling.catalog import SHARE_PREFIX, Column, describe_columns

# Stands for the name of each line of a store.
LINE = "LINE"


def known_columns() -> dict[str, Column]:
    """All columns of a catalog, in order; the unit of flux is MaNGA's."""
    return describe_columns([LINE], FLUX_UNIT, "combined") | LINKS


def describe(name: str | None) -> str:
    """Description of a column and of those whose names continue it after an underscore, or the list of all columns.

    Raises:
        CommandError: there is no such column; the message names the closest one.
    """
    columns = known_columns()
    if name is None:
        width = max(map(len, columns))
        return "\n".join(f"{column:<{width}}  {found.description}" for column, found in columns.items())
    asked = SHARE_PREFIX + LINE if name.startswith(SHARE_PREFIX) else name
    chosen = [column for column in columns if column == asked or column.startswith(f"{asked}_")]
    if not chosen:
        hint = suggestion(closest(name, columns), "; `cubescout columns` lists all")
        raise CommandError(f"{name}: unknown column{hint}")
    return "\n\n".join(_text(column, columns[column]) for column in chosen)


def _text(name: str, column: Column) -> str:
    facts = {"type": column.kind, "unit": column.unit, "UCD": ucd_of(name)}
    lines = [f"  {fact:<12} {value}" for fact, value in facts.items() if value]
    return "\n".join([f"{name}: {column.description}", *lines])
