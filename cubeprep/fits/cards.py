"""Cards of a FITS header, read with care: what is no number, or not there, rejects the galaxy by name."""

from typing import Any

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Rejected


def text_card(header: Header, keyword: str, default: str = "") -> str:
    """A card as trimmed text; the default where it is missing or undefined."""
    value = header.get(keyword)
    return default if value is None or not isinstance(value, str | int | float) else str(value).strip()


def float_card(header: Header, keyword: str, path: str, *, default: float | None = None, code: str) -> float:
    """A card as a finite number.

    Args:
        header: of an HDU.
        keyword: of the card.
        path: named in errors.
        default: taken where there is no such card; without one it must be there.
        code: of the rejection.

    Raises:
        Rejected: it is missing, or no finite number.
    """
    value: Any = header.get(keyword)
    if keyword not in header and default is not None:
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not np.isfinite(number):
        found = f"{keyword} = {value!r}" if keyword in header else f"no {keyword}"
        raise Rejected(code, f"{path}: {found}, expected a number")
    return number


def bits_card(header: Header, keyword: str, path: str) -> int:
    """A card of quality bits; 0 where there is none.

    Raises:
        Rejected: it is no integer.
    """
    value = float_card(header, keyword, path, default=0, code="bad_card")
    if value != int(value) or value < 0:
        raise Rejected("bad_card", f"{path}: {keyword} = {value}, expected quality bits, an integer of 0 or more")
    return int(value)
