"""Functions shared by the readers: find files by name, read a survey's table, headers and small files."""

import io
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.io.fits import Header

from cubeprep.config import MistakeError
from cubeprep.cube import Rejected, Target
from cubeprep.fits.cards import check_cards
from cubeprep.fits.gunzip import LARGEST_WHOLE, unzipped
from cubeprep.fits.stream import FitsStream, find_hdu
from cubeprep.fits.sums import DATA_REMARK, HEADER_REMARK
from cubeprep.registry import file_patterns
from cubeprep.storage import StorageError, filesystem, is_remote, read_file, storage_errors
from cubeprep.survey import SurveyConfig
from cubeprep.tables import COLUMNS, RAGGED, UNITS, TableError, in_unit, name_of, named, number, read_table
from cubeprep.words import closest, counted, suggestion

logger = logging.getLogger(__name__)

# Objects around a position; for surveys whose own pages need identifiers that their files do not hold.
SIMBAD = (
    "https://simbad.cds.unistra.fr/simbad/sim-coo?Coord={ra_deg:.6f}d%20{dec_deg:.6f}d&Radius=10&Radius.unit=arcsec"
)

# Quotation marks around a path, a comment or a comma behind it.
NOT_OF_A_PATH = re.compile(r"""^["']|["',;]$|\s#""")

# Files of a survey that are not its cubes.
BESIDE = re.compile(r"^(drpall|dapall)|MAPS|LOGCUBE-[A-Z]", re.IGNORECASE)

# Optional columns of `survey.table`.
TABLE_COLUMNS = ("object", "ra", "dec", "re_arcsec", "depth")
# Units of the columns that are read; none for pure numbers. Tables that state others are converted or refused.
COLUMN_UNITS = {
    **dict.fromkeys(("z", "nsa_z"), ""),
    **dict.fromkeys(("ra", "dec", "objra", "objdec"), "deg"),
    **dict.fromkeys(("re_arcsec", "nsa_elpetro_th50_r"), "arcsec"),
}
# Valid values of these columns: lowest, highest, and in words.
RANGES = {
    "ra": (-180.0, 360.0, "degrees up to 360"),
    "dec": (-90.0, 90.0, "degrees of -90 to 90"),
    "re_arcsec": (1e-9, np.inf, "a radius above 0"),
}
NOT_REDSHIFTS = ("cz",)  # a velocity, though its name is close to that of a redshift
NUM_SHOWN = 5  # cells of a malformed line in a message
# Columns that a table of a user must have.
OWN_COLUMNS = {"name": "the file's name without its suffix", "z": "the redshift"}


def find_cubes(config: SurveyConfig, pattern: re.Pattern[str]) -> dict[tuple[str, ...], str]:
    """Paths of the files of a survey below `survey.root`, as of `find_files`.

    Raises:
        MistakeError: as `find_files`, or there is none, but files of another reader.
    """
    root = str(config.root)
    paths = _paths(root, "survey.root")
    found = _matching(paths, pattern, root)
    if found:
        if root.endswith(".txt"):
            _warn_of_others(root, paths, pattern)
        return found
    for reader, known in file_patterns().items():
        fitting = next((path for path in paths if known.fullmatch(path.rsplit("/", 1)[-1])), None)
        if fitting:
            raise MistakeError(
                f"survey.reader is {config.reader}; the files below {root} (such as {fitting}) fit the reader "
                f"{reader}: --set survey.reader={reader}"
            )
    return found


def _warn_of_others(root: str, paths: Sequence[str], pattern: re.Pattern[str]) -> None:
    """Warns of files in a list that are no cubes, except tables and maps, which other functions look for."""
    others = [
        path for path in paths if not pattern.fullmatch(name := path.rsplit("/", 1)[-1]) and not BESIDE.search(name)
    ]
    if others:
        logger.warning("%s: left out, since no cubes by their names: %d, such as %s", root, len(others), others[0])


def find_files(root: str, pattern: re.Pattern[str], key: str = "survey.root") -> dict[tuple[str, ...], str]:
    """Paths of the files whose names match, keyed by the groups of the match; takes one listing, also on S3.

    Args:
        root: folder or URL, searched with all folders below it; or a list of files (`.txt`), one path or URL per line.
        pattern: pattern that the whole file name must match.
        key: of the configuration, which gives the root.

    Raises:
        MistakeError: the folder does not exist, or two files match with the same groups.
    """
    return _matching(_paths(root, key), pattern, root)


def _matching(paths: Sequence[str], pattern: re.Pattern[str], root: str) -> dict[tuple[str, ...], str]:
    found: dict[tuple[str, ...], str] = {}
    for path in paths:
        match = pattern.fullmatch(path.rsplit("/", 1)[-1])
        if not match:
            continue
        if _is_special(path):
            logger.warning("%s is no regular file and is left out", path)
            continue
        if match.groups() in found:
            raise MistakeError(
                f"{found[match.groups()]} and {path} are of the same kind and name: keep one below {root}"
            )
        found[match.groups()] = path
    return found


def _paths(root: str, key: str) -> list[str]:
    return _listed(root, key) if root.endswith(".txt") else _files_below(root, key)


def _files_below(root: str, key: str) -> list[str]:
    with storage_errors(root):
        fs, folder = filesystem(root)
        if not fs.isdir(folder):
            kind = "does not exist, or has no index page" if root.startswith("http") else "does not exist"
            if not is_remote(root):
                here = "" if os.path.isabs(root) else f" in {os.getcwd()}"  # noqa: PTH109, PTH117 - texts
                kind = "is not a folder" if fs.exists(folder) else f"{kind}{here}"
            files = "cubes" if key == "survey.root" else "MAPS"
            raise MistakeError(
                f"{key}: {root} {kind}. Give the folder with the {files}, or a text file (NAME.txt) that lists them."
            )
        if not is_remote(root):
            return _local_files(folder)
        return [fs.unstrip_protocol(file) for file in sorted(fs.find(folder))]


def _local_files(folder: str) -> list[str]:
    """Paths of all files below a folder; links to folders are followed, each folder once.

    Raises:
        ValueError: a folder cannot be read; otherwise its galaxies would be missing silently.
    """

    def fail(error: OSError) -> None:
        raise ValueError(f"{error.filename}: this folder cannot be read ({error.strerror}); galaxies may be below it")

    seen: set[str] = set()
    files: list[str] = []
    for place, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        files += [os.path.join(place, name) for name in names]  # noqa: PTH118 - many, and Path is slow
    return sorted(files)


def _is_special(path: str) -> bool:
    """Whether a path is a pipe, socket or device, reading which may never end."""
    return not is_remote(path) and os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113


def _listed(path: str, key: str) -> list[str]:
    """Paths in a list: one per line, absolute or relative to the folder of the list; `#` begins a comment.

    Raises:
        MistakeError: the list does not exist or is not text, or a line holds more than a path.
    """
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise MistakeError(f"{key}: {path} cannot be read as a list of files: {error}") from error
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for name in names:
        if NOT_OF_A_PATH.search(name):
            raise MistakeError(f"{key}: {path}: the line {name!r} is not a path alone, without quotes and comments")
    folder = path.rpartition("/")[0] or "."
    return sorted(name if is_remote(name) or name.startswith("/") else f"{folder}/{name}" for name in names)


def fits_bytes(path: str) -> io.BytesIO:
    """Content of a small FITS file, unzipped if necessary, for `astropy.io.fits.open`.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be unzipped, or unzips to more than `gunzip.LARGEST_WHOLE` bytes.
        StorageError: the storage service fails.
    """
    return io.BytesIO(unzipped(read_file(path, LARGEST_WHOLE)))


@contextmanager
def open_maps(path: str) -> Iterator[fits.HDUList]:
    """Opens a small FITS file; an error in the block that the file can cause rejects its galaxy.

    Raises:
        Rejected: the file is missing or damaged, or lacks an HDU that the block asks for.
        StorageError: the storage service fails.
    """
    try:
        with fits.open(fits_bytes(path)) as hdus:
            yield hdus
    except (Rejected, StorageError):
        raise
    except KeyError as error:
        raise Rejected("missing_hdu", f"{path}: {error.args[0]}") from error
    except FileNotFoundError as error:
        raise Rejected("missing_file", f"{path}: no such file") from error
    except (OSError, TypeError, ValueError, fits.VerifyError) as error:
        raise Rejected("truncated", f"{path}: {error}") from error


def sum_remarks(hdus: fits.HDUList, name: str | int, path: str) -> tuple[str, ...]:
    """Difference of an HDU from its checksums, in words, if there is one; to be called before its data are used.

    Raises:
        KeyError: there is no such HDU.
        Rejected: one of its cards is damaged; see `check_cards`.
    """
    hdu = hdus[name]
    check_cards(hdu.header, path)
    if hdu.verify_datasum() == 0:
        return (DATA_REMARK.format(hdu.name),)
    return (HEADER_REMARK.format(hdu.name),) if hdu.verify_checksum() == 0 else ()


def set_bits(value: int, table: Mapping[str, int]) -> tuple[str, ...]:
    """Names of the bits that are set.

    Args:
        value: the bits, not negative.
        table: bit numbers by name.
    """
    return tuple(name for name, bit in table.items() if value >> bit & 1)


def depth(row: Mapping[str, object] | Header) -> float:
    """Depth of a MaNGA observation, for comparison with other observations of the same object.

    The summed (S/N)^2 of its exposures in both arms, else their exposure time, else their number; NaN if none is known.

    Args:
        row: row of drpall with keys in lower case, or header of MAPS.
    """
    for columns in (("bluesn2", "redsn2"), ("exptime",), ("nexp",)):
        total = sum(number(row.get(column)) for column in columns)
        if total > 0:
            return total
    return float("nan")


def first_header(path: str) -> Header:
    """Primary header of a file; nothing after it is read.

    Raises:
        Rejected: the file is missing, or does not begin with a FITS header.
    """
    with FitsStream(path) as stream:
        return find_hdu(stream, "PRIMARY")


def guarded_target(unread: Target, read: Callable[[], Target]) -> Target:
    """Target read from its file; if the file cannot be used, `unread` rejected with the reason.

    Args:
        unread: target as far as it is known without reading the file.
        read: reads the file and makes the target.

    Raises:
        StorageError: the storage service fails, which says nothing about the file.
    """
    try:
        return read()
    except Rejected as rejected:
        return replace(unread, rejected=(rejected.code, rejected.reason))
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001 - one file must not stop a survey
        where = unread.paths[-1] if unread.paths else unread.plateifu
        return replace(unread, rejected=("unreadable", f"{where}: {type(error).__name__}: {error}"))


def targets_from_table(config: SurveyConfig, files: Mapping[tuple[str, ...], str]) -> list[Target]:
    """Targets of the table `survey.table`; galaxies without a file are rejected.

    Args:
        config: names the table.
        files: paths, keyed by a tuple with the table's `name` alone.

    Raises:
        MistakeError: no table is named, it lacks a column, or two rows of one galaxy differ.
    """
    if not config.table:
        raise MistakeError(f"survey.table: {config.reader} needs a table with the columns name and z")
    rows, broken = survey_rows(config.table, "name", needed=("z",), optional=TABLE_COLUMNS)
    if not rows and not broken:
        raise MistakeError(f"{config.table} (survey.table): it has no rows")
    found = [_target_of_row(name, row, files, config) for name, row in rows.items()]
    return found + [_target_of_row(name, {}, files, config, why) for name, why in broken.items() if name not in rows]


class TableRows(Mapping[str, dict[str, Any]]):
    """Rows of a table by name of the galaxy, each made when it is asked for: as dictionaries they take 1 kB each."""

    def __init__(self, table: pd.DataFrame, names: Sequence[str], path: str) -> None:
        """Takes the columns of a table.

        Args:
            table: columns of the rows' values.
            names: [row] name of the galaxy; a row without one is left out.
            path: path of the table, for the message.

        Raises:
            TableError: two rows of one galaxy differ.
        """
        self._columns = {str(name): column.array for name, column in table.items()}
        self._numbers: dict[str, int] = {}
        for i, name in enumerate(names):
            first = self._numbers.setdefault(name, i) if name else i
            if first != i:
                _check_equal(path, name, (first + 1, self.row(first)), (i + 1, self.row(i)))

    def row(self, number: int) -> dict[str, Any]:
        """Values of the row at a position, by name of the column."""
        values = {name: column[number] for name, column in self._columns.items()}
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.row(self._numbers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def _target_of_row(
    name: str, row: Mapping[str, Any], files: Mapping[tuple[str, ...], str], config: SurveyConfig, broken: str = ""
) -> Target:
    paths = (files[(name,)],) if (name,) in files else ()
    broken = broken or next(filter(None, (_why_not(f"{config.table}: {name}", *cell) for cell in row.items())), "")
    there = [each for (each, *_) in files]
    near = closest(name, there)
    like = f"; files there have names such as {near[0] if near else there[0]}" if there else ""
    rejected = None if paths else ("missing_file", f"{config.table}: {name} has no file below {config.root}{like}")
    return Target(
        name,
        name_of(row.get("object")) or name,
        number(row.get("z")),
        number(row.get("ra")),
        number(row.get("dec")),
        paths,
        number(row.get("re_arcsec")),
        rejected=("bad_row", broken) if broken else rejected,
        depth=number(row.get("depth")),
    )


def _why_not(where: str, column: str, cell: Any) -> str:
    """Reason why a cell cannot be used; empty if it can, or is missing."""
    if column == "object" or not name_of(cell):
        return ""
    value = number(cell)
    lowest, highest, expected = RANGES.get(column, (-np.inf, np.inf, "a redshift" if column == "z" else "a number"))
    if isinstance(cell, str) and np.isnan(value):
        return f"{where}: {column} is {cell!r}, expected {expected}"
    return f"{where}: {column} is {cell}, expected {expected}" if value < lowest or value > highest else ""


def survey_rows(
    path: str, key: str, *, needed: Sequence[str], optional: Sequence[str] = (), hdu: str = "", kind: str = "a table"
) -> tuple[TableRows, dict[str, str]]:
    """Rows of a survey's table by name of the galaxy, and errors of malformed lines, also by name.

    Args:
        path: path or URL of the table.
        key: column with the names; rows without a name are ignored.
        needed: names of the other columns that are required, in lower case.
        optional: names of the columns that are read if present, in lower case.
        hdu: see `tables.read_table`.
        kind: description of the expected table, for error messages.

    Raises:
        TableError: the table cannot be read, lacks a column, or two rows of one galaxy differ.
    """
    wanted = [key, *needed, *optional]
    try:
        table = read_table(path, text=(key, "object", "mangaid"), columns=wanted, hdu=hdu)
    except TableError as error:
        raise TableError(f"{path}: cannot be read as {kind}: {str(error).removeprefix(f'{path}: ')}") from error
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file; survey.table names {kind}") from error
    spelled = {name: _spelled(path, name, list(map(str, table.columns))) for name in wanted}
    columns = {name: table[found] for name, found in spelled.items() if found}
    missing = [name for name in (key, *needed) if name not in columns]
    if missing:
        raise TableError(_lacking(path, missing, list(map(str, table.attrs[COLUMNS])), kind))
    for name, unit in COLUMN_UNITS.items():
        if name in columns:
            try:
                columns[name] = in_unit(columns[name], table.attrs[UNITS].get(spelled[name], ""), unit)
            except ValueError as error:
                raise TableError(f"{path}: the column {spelled[name]!r} {error}") from error
    names = list(map(name_of, columns.pop(key)))
    held, broken = list(map(str, table.attrs[COLUMNS])), {}
    for line, cells in table.attrs[RAGGED].items():
        if name := name_of(dict(zip(held, cells, strict=False)).get(spelled[key])):
            broken[name] = _why_ragged(path, line, cells, held)
    return TableRows(pd.DataFrame(columns), names, path), broken


def _spelled(path: str, name: str, columns: Sequence[str]) -> str:
    """The column of a name in any capitals; empty if there is none.

    Raises:
        TableError: several differ in their capitals alone, such as Z for a metallicity, and none is written like it.
    """
    found = named(columns, name)
    if len(found) > 1:
        raise TableError(
            f"{path}: the columns {' and '.join(found)} differ in their capitals alone; rename the right one {name!r}"
        )
    return "".join(found)


def _lacking(path: str, missing: Sequence[str], held: Sequence[str], kind: str) -> str:
    """Message on a table without some of its columns."""
    one = len(missing) == 1
    likely = [name for name in map(str.lower, held) if name not in NOT_REDSHIFTS]
    hint = suggestion(near for name in missing for near in closest(name, likely))
    renamed = " and that of ".join(f"{OWN_COLUMNS[name]} to {name}" for name in missing if name in OWN_COLUMNS)
    advice = f"Rename the column of {renamed}." if renamed else f"Expected {kind}."
    if any(np.isfinite(number(name)) for name in held):
        advice = "The first line that is no comment must name the columns."
    return (
        f"{path} (survey.table): no column{'' if one else 's'} {' and '.join(map(repr, missing))}; "
        f"it has {', '.join(held) or 'no columns'}{hint or '.'} {advice}"
    )


def _check_equal(path: str, name: str, first: tuple[int, dict[Any, Any]], second: tuple[int, dict[Any, Any]]) -> None:
    """Checks that two rows of one galaxy are equal.

    Raises:
        TableError: they differ; the message names both rows and their values.
    """
    differing = [key for key, value in first[1].items() if str(value) != str(second[1][key])]
    if differing:
        (number_1, row_1), (number_2, row_2) = first, second
        said = "; ".join(
            f"row {number} has " + ", ".join(f"{key} = {row[key]}" for key in differing[:3])
            for number, row in ((number_1, row_1), (number_2, row_2))
        )
        raise TableError(f"{path}: two rows of {name} differ: {said}. Remove one.")


def _why_ragged(path: str, line: int, cells: Sequence[str], columns: Sequence[str]) -> str:
    """Message on a line with more or fewer cells than there are columns."""
    lacking = f", none for {columns[len(cells)]!r}" if len(cells) < len(columns) else ""
    found = f"line {line} has {counted(len(cells), 'cell')}, expected {len(columns)} as in the header{lacking}"
    return f"{path}: {found}; it begins with {', '.join(cells[:NUM_SHOWN])}"
