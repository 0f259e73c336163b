"""Tables of others, in the formats that astronomers use, joined to a catalog by `plateifu`."""

import difflib
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from cubeprep import tables
from cubeprep.tables import TableError as TableError

KEY = "plateifu"
NUM_NAMED = 5


def read_table(path: Path, key: str = KEY) -> pd.DataFrame:
    """A table as `cubeprep.tables.read_table` gives it, with the column of names as text.

    Raises:
        TableError: no such format, or not a file of it.
    """
    return tables.read_table(path, text=(key,))


def column_of(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """A column by its name, in capitals or not.

    Raises:
        TableError: there is none; the message says which come closest.
    """
    found = [column for column in table if str(column).lower() == name.lower()]
    if name in found or len(found) == 1:
        return table[name if name in found else found[0]]
    close = closest(name, table.columns)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise TableError(f"{path}: no column {name!r} among {', '.join(map(str, table.columns))}{hint}")


def keyed(table: pd.DataFrame, path: Path, key: str = KEY) -> pd.DataFrame:
    """The table with its key, as str, as the index; rows without a key are left out.

    Raises:
        TableError: no such column, or rows of one key that differ.
    """
    column = column_of(table, key, path)
    names = column.astype(object).where(column.notna(), "").map(str).str.strip()
    indexed = table.drop(columns=column.name).set_axis(pd.Index(names, name=KEY))[(names != "").to_numpy()]
    several = indexed[indexed.index.duplicated(keep=False)].astype(str).reset_index().drop_duplicates()[KEY]
    repeated = several[several.duplicated()].unique()
    if len(repeated):
        shown = ", ".join(repeated[:3])
        raise TableError(f"{path}: {len(repeated)} values of {key} have several rows that differ, such as {shown}")
    return indexed[~indexed.index.duplicated()]


def check_known(names: Iterable[str], known: Collection[str], where: Path) -> None:
    """Checks that galaxies are among those known.

    Raises:
        TableError: naming those that are not, and what they may have been meant to be.
    """
    there = set(known)
    unknown = [name for name in dict.fromkeys(names) if name not in there]
    if unknown:
        shown = [f"{name} (closest: {', '.join(closest(name, known)) or 'none'})" for name in unknown[:NUM_NAMED]]
        more = f" and {len(unknown) - NUM_NAMED} more" if len(unknown) > NUM_NAMED else ""
        raise TableError(f"not among the {len(known)} galaxies of {where}: {'; '.join(shown)}{more}")


def closest(name: str, known: Collection[str], num: int = 3) -> list[str]:
    """The known names most like this one, capitals aside."""
    lower = {str(item).lower(): str(item) for item in known}
    return [lower[item] for item in difflib.get_close_matches(name.lower(), lower, n=num, cutoff=0.5)]
