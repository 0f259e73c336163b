"""What the readers share: finding files by name, units, redshift columns."""

import re
from collections.abc import Mapping

import fsspec
import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Rejected


def find_files(root: str, pattern: re.Pattern[str]) -> dict[tuple[str, ...], str]:
    """The files below a folder or URL whose names match, by the groups of the match; one listing, also on S3.

    Raises:
        ValueError: there is no such folder.
    """
    fs, path = fsspec.url_to_fs(root)
    if not fs.isdir(path):
        raise ValueError(f"{root}: no such folder; survey.root must hold the survey's files")
    found: dict[tuple[str, ...], str] = {}
    for file in sorted(fs.find(path)):
        match = pattern.fullmatch(file.rsplit("/", 1)[-1])
        if match:
            found.setdefault(match.groups(), fs.unstrip_protocol(file) if "://" in root else file)
    return found


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


def set_bits(value: int, table: Mapping[str, int]) -> tuple[str, ...]:
    """The names of the bits that are set."""
    return tuple(name for name, bit in table.items() if value >> bit & 1)


def plain_float(value: object) -> float:
    """A number of a table as a float; masked values and NSA's -9999 become NaN."""
    if np.ma.is_masked(value):
        return float("nan")
    number = float(value)  # type: ignore[arg-type]
    return float("nan") if number <= -9000 else number
