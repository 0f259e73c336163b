"""What the readers share: finding files by name, units, redshift columns."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from astropy.io import fits
from astropy.io.fits import Header
from astropy.table import Table
from isal import igzip

from cubeprep.cube import Rejected, Target
from cubeprep.fitsstream import DAMAGE, image_shape
from cubeprep.lines import air_to_vacuum
from cubeprep.storage import StorageError, filesystem, is_remote, read_file, storage_errors
from cubeprep.survey import SurveyConfig


def find_files(root: str, pattern: re.Pattern[str]) -> dict[tuple[str, ...], str]:
    """The files below a folder or URL whose names match, by the groups of the match; one listing, also on S3.

    Args:
        root: a folder; or a list of files, whose name ends in `.txt`, with a path or URL in each line.
        pattern: of file names.

    Raises:
        ValueError: there is no such folder, or two files claim the same name.
    """
    found: dict[tuple[str, ...], str] = {}
    for path in _listed(root) if root.endswith(".txt") else _files_below(root):
        match = pattern.fullmatch(path.rsplit("/", 1)[-1])
        if not match:
            continue
        if match.groups() in found:
            raise ValueError(f"{found[match.groups()]} and {path} are of the same kind and name: keep one below {root}")
        found[match.groups()] = path
    return found


def _files_below(root: str) -> list[str]:
    with storage_errors(root):
        fs, folder = filesystem(root)
        if not fs.isdir(folder):
            kind = "no such folder, or no index page" if root.startswith("http") else "no such folder"
            raise ValueError(
                f"{root}: {kind}; survey.root is a folder of the survey's files, or a list of files NAME.txt"
            )
        files = sorted(fs.find(folder))
    return [fs.unstrip_protocol(file) for file in files] if is_remote(root) else files


def _listed(path: str) -> list[str]:
    """The files of a list: one a line, absolute or relative to the folder of the list; `#` begins a comment.

    Raises:
        ValueError: there is no such list.
    """
    try:
        lines = read_file(path).decode().splitlines()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a list of files: {error}") from error
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    folder = path.rpartition("/")[0] or "."
    return sorted(name if is_remote(name) or name.startswith("/") else f"{folder}/{name}" for name in names)


def fits_bytes(path: str) -> io.BytesIO:
    """A small FITS file, unzipped if need be, in memory: for `astropy.io.fits.open`.

    Raises:
        FileNotFoundError, OSError: it is not there, or cannot be unzipped.
        StorageError: the storage service fails.
    """
    content = read_file(path)
    if content.startswith(b"\x1f\x8b"):
        try:
            content = igzip.decompress(content)
        except DAMAGE as error:
            raise OSError(f"damaged gzip: {error}") from error
    return io.BytesIO(content)


@contextmanager
def open_maps(path: str) -> Iterator[fits.HDUList]:
    """A small FITS file; whatever goes wrong while it is open sets its galaxy aside.

    Raises:
        Rejected: it is not there, damaged, or has no such HDU.
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
    except (OSError, TypeError, ValueError) as error:
        raise Rejected("truncated", f"{path}: {error}") from error


def flux_scale(header: Header, path: str) -> float:
    """The factor from a file's unit to 1e-17, from cards such as `1E-17 erg/s/...` or `10**(-16) erg /s ...`.

    Raises:
        Rejected: the unit is not one of flux.
    """
    unit = str(header.get("BUNIT", ""))
    match = re.match(r"\s*(?:1(?:\.0*)?[eE]|10\*\*)\(?([+-]?\d+)\)?", unit)
    if not match or "erg" not in unit:
        raise Rejected("bad_unit", f"{path}: BUNIT {unit!r} is no flux unit that is known here")
    return 10.0 ** (int(match[1]) + 17)


def inverse(variance: np.ndarray) -> np.ndarray:
    """Inverse variance; 0 where the variance is not above 0, NaN where it is NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, 1 / variance, np.where(np.isnan(variance), np.nan, 0))


def set_bits(value: int, table: Mapping[str, int]) -> tuple[str, ...]:
    """The names of the bits that are set."""
    return tuple(name for name, bit in table.items() if value >> bit & 1)


def plain_float(value: object) -> float:
    """A number of a table as a float; masked values and NSA's -9999 become NaN."""
    if np.ma.is_masked(value):
        return float("nan")
    number = float(value)  # type: ignore[arg-type]
    return float("nan") if number <= -9000 else number


def depth(row: Mapping[str, object]) -> float:
    """How deep a MaNGA observation is, from a row of drpall or a header of the DRP, with keys in lower case.

    The summed (S/N)^2 of its exposures in both arms; else their time, else their number; NaN where none is known.
    """
    for columns in (("bluesn2", "redsn2"), ("exptime",), ("nexp",)):
        total = sum(plain_float(row.get(column, "nan")) for column in columns)
        if total > 0:
            return total
    return float("nan")


def spaxel_arcsec(header: Header) -> float:
    """Side of a spaxel, arcsec, from CD2_2, PC2_2 or CDELT2; NaN where the header has none."""
    step = header.get("CD2_2", header.get("PC2_2", 1.0) * header.get("CDELT2", float("nan")))
    return abs(float(step)) * 3600


def linear_wave(header: Header, path: str, *, air_names: Sequence[str]) -> np.ndarray:
    """[plane] vacuum wavelengths of a linear axis, Angstrom.

    Args:
        header: of a cube whose third axis is wavelength.
        path: named in errors.
        air_names: values of CTYPE3 that mean wavelengths in air; `WAVE` means vacuum.

    Raises:
        Rejected: the axis is of another kind.
    """
    kind, unit = (str(header.get(key, "")).strip() for key in ("CTYPE3", "CUNIT3"))
    if kind not in (*air_names, "WAVE") or unit.lower() not in ("angstrom", "angstroms"):
        expected = " or ".join((*air_names, "WAVE"))
        raise Rejected("bad_wave", f"{path}: CTYPE3 = {kind!r} in {unit!r}, expected {expected} in Angstrom")
    step = float(header.get("CD3_3", header.get("CDELT3", 0)))
    if step <= 0:
        raise Rejected("bad_wave", f"{path}: wavelength step of {step}")
    num_planes, _, _ = image_shape(header, path)
    wave = float(header["CRVAL3"]) + step * (np.arange(num_planes) + 1 - float(header["CRPIX3"]))
    return air_to_vacuum(wave) if kind in air_names else wave


def read_table(path: str) -> Table:
    """A survey's or a user's table (FITS, ECSV, CSV, VOTable), column names in lower case.

    Raises:
        ValueError: it cannot be read.
    """
    kind = "ascii.csv" if path.endswith(".csv") else None
    try:
        table = Table.read(io.BytesIO(read_file(path)), format=kind)
    except StorageError:
        raise
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as a table: {error}") from error
    table.rename_columns(table.colnames, [name.lower() for name in table.colnames])
    return table


def targets_from_table(config: SurveyConfig, files: Mapping[tuple[str, ...], str]) -> list[Target]:
    """The galaxies of the user's table; those without a file are rejected. `files` is keyed by the table's `name`.

    Raises:
        ValueError: no table is named, or it lacks a column.
    """
    if not config.table:
        raise ValueError(f"survey.table: {config.reader} needs a table with the columns name and z")
    table = read_table(config.table)
    missing = [name for name in ("name", "z") if name not in table.colnames]
    if missing:
        raise ValueError(f"{config.table}: no column {', '.join(missing)}; it has {', '.join(table.colnames)}")

    def cell(row: Table.Row, column: str, default: object) -> object:
        return row[column] if column in table.colnames else default

    def target(row: Table.Row) -> Target:
        name = str(row["name"]).strip()
        paths = (files[(name,)],) if (name,) in files else ()
        missing = None if paths else ("missing_file", f"{config.table}: {name} has no file below {config.root}")
        return Target(
            name,
            str(cell(row, "object", row["name"])).strip(),
            plain_float(row["z"]),
            plain_float(cell(row, "ra", "nan")),
            plain_float(cell(row, "dec", "nan")),
            paths,
            plain_float(cell(row, "re_arcsec", "nan")),
            rejected=missing,
            depth=plain_float(cell(row, "depth", "nan")),
        )

    return [target(row) for row in table]
