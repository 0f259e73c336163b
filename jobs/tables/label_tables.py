"""Labels of galaxies from published tables: classes, selection methods, thresholds, or a list of names."""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from jobs.console.command import CommandError
from jobs.tables.read import KEY, TableError, UnknownNameError, column_of, keyed, read_table
from modeling.labels.labels import is_number

logger = logging.getLogger(__name__)

MAX_CLASSES = 12
LISTED = "listed"
MIN_RATIOS = 10  # this many are hardly ever all above 1
MOST_LOG_RATIO = 5.0
# A galaxy may have several labels in one cell, such as `WISE_AGN  RADIO_AGN`.
SEPARATORS = re.compile(r"\s*[,;|]\s*|\s{2,}")
TRUTH = {"true": True, "false": False}
THRESHOLD = re.compile(r"\s*(?P<column>.+?)\s*(?P<sign>>=|<=|>|<)\s*(?P<value>[-+0-9.eE]+)\s*")


@dataclass(frozen=True)
class Labels:
    """Labels that a table gives to the galaxies of a catalog.

    Attributes:
        plateifu: [galaxy] assessed galaxies, in the order of the catalog.
        labelled: [galaxy] bool of each label.
        num_rows: rows of the table that have a key.
        unknown: names in the table that the catalog lacks.
        source: description of the labels' source.
    """

    plateifu: np.ndarray
    labelled: dict[str, np.ndarray]
    num_rows: int
    source: str
    unknown: tuple[str, ...] = ()


def check_label_options(
    labels: str | None, label: str | None, bpt: tuple[str, str] | None, key: str, heads: str | None = None
) -> None:
    """Checks that no option of a table of labels would be ignored.

    Args:
        labels: the table, if one is given.
        label: as of `read_labels`.
        bpt: as of `read_labels`.
        key: as of `read_labels`.
        heads: classifiers to apply, which need no labels.

    Raises:
        CommandError: an option has no table, `heads` are given too, or both `label` and `bpt`.
    """
    if label and bpt:
        raise CommandError("--label and --bpt: each says what the labels are; leave out one")
    columns = [name for name, given in (("--label", label), ("--bpt", bpt), ("--key", key != KEY)) if given]
    given = [*(["--labels"] if labels else []), *columns]
    if heads and given:
        raise CommandError(
            f"{', '.join(given)}: ignored by --heads, which applies what was learned before; leave out one"
        )
    if columns and not labels:
        raise CommandError(f"{', '.join(columns)}: ignored without a table of labels; expected --labels TABLE, too")


def read_labels(
    path: Path, known: Collection[str], *, label: str | None = None, bpt: tuple[str, str] | None = None, key: str
) -> Labels:
    """Reads labels and matches them to a catalog.

    Without `label` and `bpt` the table is a list: its galaxies against all others of the catalog. Otherwise only
    galaxies in the table count. An empty cell means no label; for a threshold, and in a column of both true and false
    (or 1 and 0), it means unknown, and the galaxy is left out.

    Args:
        path: the table.
        known: plateifu of the catalog, in order.
        label: a column of labels, or a threshold such as `P_MERGE>0.5`.
        bpt: the columns of log [N II]/Ha and log [O III]/Hb, from which `bpt_classes` derives classes.
        key: the column that names galaxies.

    Raises:
        TableError: no such column, no label in it, or no galaxy of the catalog.
    """
    try:
        table = keyed(read_table(path, key), path, key, known)
    except UnknownNameError as error:
        raise UnknownNameError(f"{error}; --key names the column of galaxies") from error
    names = np.array([name for name in known if name in table.index], dtype=object)
    if not len(names):
        shown = ", ".join(list(table.index[:3])), ", ".join(list(known)[:3])
        raise TableError(f"{path}: no galaxy of it ({shown[0]} ...) is in the catalog ({shown[1]} ...)")
    found = _found(table, names, known, path, label, bpt)
    return replace(found, unknown=tuple(map(str, table.index[~table.index.isin(names)])))


def _found(
    table: pd.DataFrame,
    names: np.ndarray,
    known: Collection[str],
    path: Path,
    label: str | None,
    bpt: tuple[str, str] | None,
) -> Labels:
    """Labels of the galaxies `names` of the catalog, which the table has; arguments as of `read_labels`."""
    if bpt:
        ratios = [_numbers(table, name, path) for name in bpt]
        measured = np.concatenate([ratio[np.abs(ratio) < MOST_LOG_RATIO] for ratio in ratios])
        if len(measured) >= MIN_RATIOS and measured.min() >= 0:
            logger.warning("%s: no value of %s and %s is below 0; are they logarithms of the ratios?", path, *bpt)
        cells = pd.Series(bpt_classes(*ratios), table.index)
        return _of_cells(cells, names, path, f"BPT class from {bpt[0]} and {bpt[1]}")
    if label is None:
        everyone = np.array(list(known), dtype=object)
        return Labels(everyone, {LISTED: np.isin(everyone, names)}, len(table), "the galaxies that the table lists")
    if (match := THRESHOLD.fullmatch(label)) and is_number(match["value"]):
        return _of_threshold(table, names, path, match)
    if sign := re.search("[<>]", label):
        raise TableError(f"--label {label}: expected a number after {sign[0]}, as in 'P_MERGE>0.5'")
    column = column_of(table, label, path)
    if column.map(lambda cell: isinstance(cell, list | tuple | np.ndarray)).any():
        raise TableError(f"{path}: {column.name} holds lists, expected one label or several in a text")
    flags = _flags(column)
    if flags is not None:
        known = flags[names].dropna()
        if known.empty:
            raise TableError(f"{path}: {label} is empty for every galaxy that is in the catalog")
        chosen = known.to_numpy(dtype=bool)
        return Labels(known.index.to_numpy(dtype=object), {str(column.name): chosen}, len(table), f"column {label}")
    return _of_cells(_classes(column, path), names, path, f"column {label}")


def bpt_classes(nii_ha: np.ndarray, oiii_hb: np.ndarray) -> np.ndarray:
    """BPT class, `star_forming`, `composite` or `agn`, by Kauffmann+2003 and Kewley+2001; empty where not finite.

    Args:
        nii_ha: log10 of [N II]6585 / Halpha.
        oiii_hb: log10 of [O III]5008 / Hbeta.

    Ratios beyond `MOST_LOG_RATIO` stand for missing values: their class is empty.

    Source: DOI 10.1111/j.1365-2966.2003.07154.x, equation 1, and DOI 10.1086/321545, equation 5.
    """
    below_kauffmann = (nii_ha < 0.05) & (oiii_hb < 0.61 / np.minimum(nii_ha - 0.05, -1e-9) + 1.3)
    below_kewley = (nii_ha < 0.47) & (oiii_hb < 0.61 / np.minimum(nii_ha - 0.47, -1e-9) + 1.19)
    classes = np.where(below_kauffmann, "star_forming", np.where(below_kewley, "composite", "agn"))
    return np.where((np.abs(nii_ha) < MOST_LOG_RATIO) & (np.abs(oiii_hb) < MOST_LOG_RATIO), classes, "")


def _of_cells(cells: pd.Series, names: np.ndarray, path: Path, source: str) -> Labels:
    found = [set(filter(None, SEPARATORS.split(cell.strip()))) for cell in cells[names]]
    labels = sorted(set().union(*found))
    if not labels:
        elsewhere = sorted(set().union(*(SEPARATORS.split(cell.strip()) for cell in cells)) - {""})
        raise TableError(
            f"{path}: no galaxy that is in the catalog has a label in {source}"
            + (f"; others have {', '.join(elsewhere[:5])}" if elsewhere else "")
        )
    return Labels(names, {name: np.array([name in cell for cell in found]) for name in labels}, len(cells), source)


def _of_threshold(table: pd.DataFrame, names: np.ndarray, path: Path, match: re.Match[str]) -> Labels:
    column, sign, value = match["column"], match["sign"], float(match["value"])
    numbers = pd.Series(_numbers(table, column, path), table.index)[names]
    known = numbers[np.isfinite(numbers)]
    if known.empty:
        raise TableError(f"{path}: {column} has no value for any galaxy that is in the catalog")
    compare = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}[sign]
    name = f"{column} {sign} {value:g}"
    chosen = np.asarray(compare(known.to_numpy(), value))
    return Labels(known.index.to_numpy(dtype=object), {name: chosen}, len(table), f"the threshold {name}")


def _classes(column: pd.Series, path: Path) -> pd.Series:
    """Cells of a column as text, empty where missing.

    Raises:
        TableError: it holds more than `MAX_CLASSES` different numbers.
    """
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > MAX_CLASSES:
        raise TableError(
            f"{path}: {column.name} holds {column.nunique()} different numbers, which are not classes; "
            f"give a threshold, such as --label '{column.name}>{column.median():.3g}'"
        )
    return column.map(lambda cell: "" if pd.isna(cell) else f"{cell:g}" if isinstance(cell, float) else str(cell))


def _flags(column: pd.Series) -> pd.Series | None:
    """Booleans of a column of true and false, or of 1 and 0; None for another column.

    Missing cells stay missing, but are false in a column of true alone.
    """
    values = column.map(lambda cell: TRUTH.get(cell.strip().lower(), cell) if isinstance(cell, str) else cell)
    known = values.dropna()
    if known.map(type).isin([bool, np.bool_]).all() and len(known):
        return values if not known.all() else values.notna()
    return values.eq(1).where(values.notna()) if set(known.unique()) == {0, 1} else None


def _numbers(table: pd.DataFrame, name: str, path: Path) -> np.ndarray:
    column = column_of(table, name, path)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if not np.isfinite(numbers).any():
        raise TableError(f"{path}: {name} holds no numbers")
    unread = column[column.notna().to_numpy() & np.isnan(numbers)]
    if len(unread):
        raise TableError(f"{path}: {name} of {unread.index[0]} is {unread.iloc[0]!r}, expected a number")
    return numbers
