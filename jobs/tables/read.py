"""Reads tables in astronomical formats, to be joined to a catalog by `plateifu`."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from cubeprep import tables
from cubeprep.tables import TableError as TableError
from cubeprep.words import closest, counted, suggestion

KEY = "plateifu"


class UnknownNameError(TableError):
    """A column or galaxy that a command names and a table lacks."""


NUM_NAMED = 5


def read_table(path: str | Path, key: str = KEY) -> pd.DataFrame:
    """Table as `cubeprep.tables.read_table` returns it, with the column of names as text.

    Raises:
        TableError: there is no such file, its suffix is unknown, it is not of that format, or the number of cells in a
            line differs from the first, so that its galaxy would be missing.
    """
    try:
        found = tables.read_table(path, text=(key,))
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file") from error
    if ragged := found.attrs[tables.RAGGED]:
        raise TableError(f"{path}: line {next(iter(ragged))} has not as many cells as the first")
    return found


def column_of(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """Column with a given name, ignoring case.

    Raises:
        UnknownNameError: there is none; the message lists the closest names.
    """
    found = tables.named(table, name)
    if len(found) == 1:
        return table[found[0]]
    hint = suggestion(closest(name, table.columns, 3))
    raise UnknownNameError(f"{path}: no column {name!r} among {', '.join(map(str, table.columns))}{hint}")


def keyed(table: pd.DataFrame, path: Path, key: str = KEY, known: Collection[str] = ()) -> pd.DataFrame:
    """The table indexed by its key as str, without rows that have no key.

    Args:
        table: the table as read.
        path: its path, for messages.
        key: name of the column that names galaxies.
        known: names of galaxies; one of them among the columns' names means that the file has no header.

    Raises:
        TableError: there is no such column, or several different rows have the same key.
    """
    if headless := {str(name).strip() for name in table}.intersection(known):
        raise TableError(
            f"{path}: its first line holds the galaxy {min(headless)}, but should name the columns, such as {key}"
        )
    column = column_of(table, key, path)
    names = column.astype(object).map(tables.name_of)
    indexed = table.drop(columns=column.name).set_axis(pd.Index(names, name=KEY))[(names != "").to_numpy()]
    several = indexed[indexed.index.duplicated(keep=False)].astype(str)
    different = dict.fromkeys(zip(several.index, map(tuple, several.to_numpy()), strict=True))
    counts = Counter(name for name, _ in different)
    if repeated := [name for name, number in counts.items() if number > 1]:
        shown = ", ".join(repeated[:3])
        raise TableError(f"{path}: several rows that differ for {counted(len(repeated), 'galaxy')}, such as {shown}")
    return indexed[~indexed.index.duplicated()]


def observations(names: Iterable[str], table: pd.DataFrame, where: Path, store: str) -> list[str]:
    """plateifu of galaxies, each named by its plateifu or its object, in the order of `names`.

    Args:
        names: plateifu or mangaid.
        table: the catalog's.
        where: path of the catalog.
        store: as of `check_known`.

    Raises:
        UnknownNameError: a galaxy is not in the catalog, or an object has several observations.
    """
    known = table["plateifu"].tolist()
    there = set(known)
    found: list[str] = []
    for name in names:
        of_object = [name] if name in there else table.loc[table["mangaid"] == name, "plateifu"].tolist()
        if len(of_object) > 1:
            raise UnknownNameError(
                f"{name} is an object with {len(of_object)} observations; name one of {', '.join(sorted(of_object))}"
            )
        found += of_object or [name]
    check_known(found, known, where, store)
    return found


def check_known(names: Iterable[str], known: Collection[str], where: Path, store: str) -> None:
    """Checks that all galaxies are known.

    Args:
        names: plateifu of the galaxies.
        known: plateifu of the catalog.
        where: path of the catalog.
        store: path or URL of the window store, which lists rejected galaxies.

    Raises:
        UnknownNameError: some are not; the message gives the reason for rejected ones, and for others the closest known
            names.
    """
    there = set(known)
    unknown = [name for name in dict.fromkeys(names) if name not in there]
    if unknown:
        rejected = f"{store}/rejected.csv"
        codes = _rejection_codes(rejected)
        shown = [
            f"{name} was rejected by `cubescout prepare` ({codes[name]}), see {rejected}"
            if name in codes
            else name + (f" (closest: {', '.join(near)})" if (near := closest(name, known, 3)) else "")
            for name in unknown[:NUM_NAMED]
        ]
        more = f" and {len(unknown) - NUM_NAMED} more" if len(unknown) > NUM_NAMED else ""
        raise UnknownNameError(f"not among the {counted(len(known), 'galaxy')} of {where}: {'; '.join(shown)}{more}")


def _rejection_codes(path: str) -> dict[str, str]:
    """Reason code of each galaxy in a store's table of rejected ones; none where the table cannot be read."""
    try:
        table = read_table(path)
        return dict(zip(table[KEY], table["code"], strict=True))
    except (TableError, OSError, KeyError):  # it only explains another mistake, and must not hide that one
        return {}
