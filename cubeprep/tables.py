"""Tables of surveys and users: one function reads all formats, chosen by suffix, from a path or URL.

Three rules hold for every table (`docs/readers.md`):

- Names stay text. A column of a text file becomes numeric only if all its cells are numbers and none has a leading
  zero, so that the galaxy 00123 keeps its name. Blanks around cells are removed.
- Placeholders of missing values become NaN, or NA among integers. See `MISSING_TEXT`, `MISSING_NUMBERS` and, for
  velocities, `MISSING_VELOCITIES`.
- A cell that is no number leaves its column text; `number` then turns only this cell into NaN, so that one galaxy is
  lost and not the table.
"""

import csv
import io
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.config import MistakeError
from cubeprep.fits.gunzip import LARGEST_WHOLE, unzipped
from cubeprep.storage import StorageError, is_remote, read_file
from cubeprep.words import counted

SUFFIXES = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".dat": "columns",
    ".txt": "columns",
    ".parquet": "parquet",
}
DELIMITERS = ",;\t"
MISSING_TEXT = frozenset(("", "-", "--", "n/a", "na", "nan", "-nan", "null", "none", "<na>", "masked"))
MISSING_NUMBERS = (-99.0, -999.0, -9999.0, -99999.0)
# Real velocities may be -99 or -999 km/s.
MISSING_VELOCITIES = (-9999.0, -99999.0)
VELOCITY = re.compile(
    r"velocity|(?:^|[^a-z])vel(?:$|[^a-z])|^v_?(?:sys|hel|helio|rad|los)(?:$|[^a-z])|^cz", re.IGNORECASE
)
VELOCITY_UNIT = re.compile(r"k?m(?:\s*/\s*|[\s.]+)s")
# Units as people write them, without an s at their end.
SPELLINGS = {"degree": "deg", "arcsecond": "arcsec", "asec": "arcsec", "arcminute": "arcmin", "amin": "arcmin"}
SPELLINGS |= {name: name for name in ("deg", "arcsec", "arcmin", "radian", "rad")}
HOURS = ("h", "hr", "hour")  # of an angle
NO_UNIT = ("", "none", "unitless", "dimensionless", "redshift", "-", "--")
INTEGER = re.compile(r"[+-]?\d+")
LEADING_ZERO = re.compile(r"[+-]?0\d")
RAGGED, COLUMNS, UNITS = "ragged", "columns", "units"


class TableError(MistakeError):
    """A table that cannot be read, or is of an unknown format."""


# astropy would fetch the address, whatever it is.
REMOTE_STREAM = re.compile(rb"<(?:\w{1,40}:)?STREAM\b[^>]{0,4000}?\bhref\b", re.IGNORECASE)


def read_table(
    path: str | Path, *, text: Collection[str] = (), columns: Collection[str] | None = None, hdu: str = ""
) -> pd.DataFrame:
    """Table with one value per row and column; text is str, and missing values are NaN, or NA among integers.

    A row of a text file with more or fewer cells than the header cannot be assigned to columns: it is left out, and
    `attrs["ragged"]` of the result holds the list of its cells by line number. `attrs["columns"]` holds the names of
    all columns of the file, `attrs["units"]` the units that it states, by name of the column.

    Args:
        path: path or URL of a CSV, TSV, ECSV, FITS, VOTable or Parquet file, or of text in columns, also gzipped; the
            suffix tells the format.
        text: names of columns that hold text even if all cells are numbers; case is ignored.
        columns: names of the columns to return; case is ignored, as are those that the table lacks. None returns all
            but columns of arrays in FITS, VOTable and ECSV files.
        hdu: name of the FITS table to read; if it is not given or not found, the first table is read.

    Raises:
        TableError: the suffix is unknown, the file is not of its format, or one of `columns` holds arrays.
        FileNotFoundError: there is no such file.
        StorageError: the storage service fails.
    """
    name = str(path)
    kind = _kind(name)
    wanted = None if columns is None else {column.lower() for column in columns}
    try:
        content = read_file(name, LARGEST_WHOLE)
        table = _parse(unzipped(content), kind, hdu, wanted)
        if wanted is not None:
            _check_single(table, name)
        return _clean(table, {column.lower() for column in text}, has_types=kind[1] not in ("delimited", "columns"))
    except (FileNotFoundError, StorageError, TableError):
        raise
    except Exception as error:  # the exceptions of the parsers have no common base class
        raise TableError(f"{name}: not a table that can be read as {kind[0]}: {_brief(error)}") from error


def number(value: Any, *, velocity: bool = False) -> float:
    """Value of a cell or card as a float; NaN if it is missing or no number.

    Args:
        value: value of any type.
        velocity: whether the value is a velocity, of which -99 and -999 are not missing.
    """
    if value is None or np.ma.is_masked(value) or value is pd.NA or isinstance(value, bool):
        return float("nan")
    try:
        found = float(value)
    except (TypeError, ValueError):
        return float("nan")
    missing = MISSING_VELOCITIES if velocity else MISSING_NUMBERS
    return float("nan") if found in missing or found <= -9000 else found


def name_of(value: Any) -> str:
    """Value of a cell or card as a name without blanks around it; empty if it is missing."""
    if value is None or np.ma.is_masked(value) or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of integers with a missing value was read as floats
    found = str(value).strip()
    return "" if _is_missing(found) else found


def named(columns: Iterable[object], name: str) -> list[str]:
    """The column of this name alone if there is one, else all that differ from it in capitals alone."""
    found = [str(column) for column in columns if str(column).lower() == name.lower()]
    return [name] if name in found else found


def in_unit(values: pd.Series, stated: str, expected: str) -> pd.Series:
    """Values of a column in the unit that is expected; unchanged if the table states none.

    Args:
        values: the column.
        stated: unit that the table states, or an empty text. Hours of an angle are hours of right ascension.
        expected: unit of the result; empty for a pure number.

    Raises:
        ValueError: the stated unit is unknown, or cannot be converted.
    """
    from astropy.units import Unit, UnitConversionError

    text = stated.strip().lower()
    if text in NO_UNIT:
        return values
    text = text.removesuffix("s")
    known = "hourangle" if text in HOURS and expected == "deg" else SPELLINGS.get(text, stated)
    try:
        factor = Unit(known).to(expected)
    except (UnitConversionError, TypeError, ValueError) as error:
        raise ValueError(f"is in {stated}, expected {expected or 'a pure number'}") from error
    if factor == 1:
        return values
    if not expected:
        raise ValueError(f"is in {stated}, expected a pure number")
    if not pd.api.types.is_numeric_dtype(values):
        raise ValueError(f"is in {stated} and holds text, expected numbers")
    return values.mask(values.isin(MISSING_NUMBERS)) * factor


def _kind(path: str) -> tuple[str, str]:
    """Suffix and format of a path or URL."""
    name = path.partition("?")[0] if is_remote(path) else path
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    if suffix not in SUFFIXES:
        raise TableError(f"{path}: cannot tell its format from {suffix or 'no suffix'!r}; known: {', '.join(SUFFIXES)}")
    return suffix, SUFFIXES[suffix]


def _parse(content: bytes, kind: tuple[str, str], hdu: str, wanted: Collection[str] | None) -> pd.DataFrame:
    table_format = kind[1]
    if table_format == "parquet":
        table = _parquet_table(content, wanted)
    elif table_format in ("delimited", "columns"):
        table = _text_table(_decoded(content), in_columns=table_format == "columns")
    else:
        table = _astropy_table(content, table_format, hdu, wanted)
    table.attrs.setdefault(COLUMNS, list(table.columns))
    return table if wanted is None else table[[name for name in table if str(name).lower() in wanted]]


def _check_single(table: pd.DataFrame, path: str) -> None:
    """Checks that no cell holds an array.

    Raises:
        TableError: one does; the message names its column and row.
    """
    for name, column in table.items():
        for row, cell in enumerate(column if column.dtype == object else (), 1):
            if isinstance(cell, list | np.ndarray):
                found = counted(np.size(cell), "value")
                raise TableError(
                    f"{path}: the column {name!r} holds an array of {found} in row {row}, expected a number or a text"
                )


def _parquet_table(content: bytes, wanted: Collection[str] | None) -> pd.DataFrame:
    """Columns of a Parquet file, integers beside missing values as integers, and the columns of a named index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pq.read_table(pa.BufferReader(content))
    if b"table_meta_yaml" in (arrow.schema.metadata or {}):  # of astropy, which keeps masks in columns of their own
        return _astropy_table(content, "parquet", "", wanted)
    table: pd.DataFrame = arrow.to_pandas()
    if table.index.name is not None or table.index.nlevels > 1:
        table = table.reset_index()
    for field in arrow.schema:
        if pa.types.is_integer(field.type) and arrow[field.name].null_count:
            kind = pa.uint64() if pa.types.is_unsigned_integer(field.type) else pa.int64()
            whole = {pa.uint64(): pd.UInt64Dtype(), pa.int64(): pd.Int64Dtype()}
            values = arrow[field.name].cast(kind).to_pandas(types_mapper=whole.get)
            table[field.name] = values.set_axis(table.index)
    return table


def _astropy_table(content: bytes, table_format: str, hdu: str, wanted: Collection[str] | None) -> pd.DataFrame:
    """Columns with one value per row, and those that are wanted with arrays; their units in `attrs`."""
    from astropy.io import fits
    from astropy.table import Column, Table
    from astropy.units import UnitsWarning

    source: Any = content.decode("utf-8-sig").splitlines() if table_format == "ascii.ecsv" else io.BytesIO(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)  # drpall's units are not all of the FITS standard
        if table_format == "fits":
            with fits.open(source) as hdus:
                tables = [i for i, found in enumerate(hdus) if isinstance(found, fits.BinTableHDU | fits.TableHDU)]
                if not tables:
                    raise ValueError("it holds no table")
                table = Table.read(hdus[next((i for i in tables if hdus[i].name == hdu), tables[0])])
        elif table_format == "votable":
            if REMOTE_STREAM.search(content):
                raise ValueError(
                    "its rows are in another file (STREAM with href), which is not read; save it with its rows"
                )
            # Users know the names; an ID need not be the name.
            table = Table.read(source, format=table_format, use_names_over_ids=True)
        else:
            table = Table.read(source, format=table_format)
    chosen = [name for name in table.colnames if wanted is None or name.lower() in wanted]
    plain = [name for name in chosen if isinstance(table[name], Column)]
    flat = table[[name for name in plain if table[name].ndim == 1]]
    flat.convert_bytestring_to_unicode()
    found: pd.DataFrame = flat.to_pandas()
    if wanted is not None:
        found = found.assign(**{name: list(table[name]) for name in plain if table[name].ndim > 1})
    found.attrs[COLUMNS] = table.colnames
    found.attrs[UNITS] = {name: str(flat[name].unit) for name in flat.colnames if flat[name].unit is not None}
    return found


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8; save it as CSV in UTF-8 if it is a spreadsheet or UTF-16") from error


def _text_table(content: str, *, in_columns: bool) -> pd.DataFrame:
    """Cells of a text file, all as text; lines that begin with `#` are comments."""
    numbered = [(i, line) for i, line in enumerate(content.split("\n"), 1) if line.strip() and line[0] != "#"]
    if not numbered:
        raise ValueError("it is empty")
    if in_columns:
        lines, delimiter = [line.expandtabs(1).strip() for _, line in numbered], " "
    else:
        lines = [line.rstrip("\r") + "\n" for _, line in numbered]
        delimiter = max(DELIMITERS, key=lines[0].count)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    names = [name.strip() for name in next(reader)]
    while len(names) > 1 and not names[-1]:
        names.pop()
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have one name among {', '.join(names)}")
    fitting, ragged = [], {}
    begins = reader.line_num
    for row in reader:
        line, ends = numbered[begins][0], reader.line_num
        # A cell may have several lines. If they look like rows, its quotation mark was never meant to be closed there.
        if ends > begins + 1 and (
            in_columns or any(text.count(delimiter) >= len(names) - 1 for cell in row for text in cell.split("\n")[1:])
        ):
            raise ValueError(f"line {line}: a quotation mark is not closed before the next row")
        begins = ends
        cells = [cell.strip() for cell in row]
        if len(cells) < len(names) or any(cells[len(names) :]):
            ragged[line] = cells
        else:
            fitting.append(cells[: len(names)])
    table = pd.DataFrame(fitting, columns=names, dtype=object)
    table.attrs[RAGGED] = ragged
    return table


def _clean(table: pd.DataFrame, text: Collection[str], *, has_types: bool) -> pd.DataFrame:
    """The table after the rules for text, numbers and missing values were applied to every column."""
    units: Mapping[str, str] = table.attrs.get(UNITS, {})
    cleaned = {}
    for name, column in table.items():
        missing = MISSING_VELOCITIES if is_velocity(str(name), units.get(str(name), "")) else MISSING_NUMBERS
        stays = has_types or str(name).lower() in text
        cleaned[name] = _clean_column(column, missing, stays_text=stays)
    found = pd.DataFrame(cleaned, index=table.index)
    found.attrs = {RAGGED: table.attrs.get(RAGGED, {}), COLUMNS: table.attrs[COLUMNS], UNITS: units}
    return found


def is_velocity(name: str, unit: str = "") -> bool:
    """Whether a column holds velocities, judging by its unit or its name."""
    return bool(VELOCITY_UNIT.match(unit) or VELOCITY.search(name))


def _clean_column(column: pd.Series, missing: Collection[float], *, stays_text: bool) -> pd.Series:
    if pd.api.types.is_bool_dtype(column):
        return column
    if pd.api.types.is_numeric_dtype(column):
        bad = column.isin(missing).to_numpy(dtype=bool)
        if not bad.any():
            return column
        return column.mask(bad) if column.dtype.kind not in "iu" else column.astype("Int64").mask(bad)
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        return column  # dates
    cells = [cell.decode() if isinstance(cell, bytes) else cell for cell in column.astype(object)]
    if any(isinstance(cell, Decimal) for cell in cells):
        return _clean_column(column.astype(float), missing, stays_text=stays_text)
    if any(not isinstance(cell, str) and not _is_null(cell) for cell in cells):
        return pd.Series(cells, column.index, dtype=object)  # lists, or booleans beside missing values
    trimmed = [np.nan if _is_null(cell) or _is_missing(cell, missing) else cell.strip() for cell in cells]
    known = [cell for cell in trimmed if isinstance(cell, str)]
    found = pd.Series(trimmed, column.index, dtype=object)
    if stays_text or not known or any(LEADING_ZERO.match(cell) for cell in known):
        return found
    if len(known) < len(found) and all(INTEGER.fullmatch(cell) for cell in known):
        # Not as floats, in which neighbouring identifiers of 64 bits are equal.
        return found.astype("Int64") if all(abs(int(cell)) < 2**63 for cell in known) else found
    numbers = pd.to_numeric(found, errors="coerce")
    return numbers if numbers.notna().sum() == len(known) else found


def _is_missing(cell: str, missing: Collection[float] = MISSING_NUMBERS) -> bool:
    found = cell.strip()
    if found.lower() in MISSING_TEXT:
        return True
    if not found.startswith("-9"):
        return False
    try:
        return float(found) in missing
    except ValueError:
        return False


def _is_null(cell: Any) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell))


def _brief(error: Exception) -> str:
    """First line of an error message, which may be long."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
