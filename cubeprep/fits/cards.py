"""Cards of a FITS header; a missing or invalid one rejects the galaxy with a message that names the card."""

from typing import Any

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Rejected


def text_card(header: Header, keyword: str, default: str = "") -> str:
    """Value of a card as text without blanks around it; the default if it is missing or undefined."""
    value = header.get(keyword)
    return default if value is None or not isinstance(value, str | int | float) else str(value).strip()


def float_card(header: Header, keyword: str, path: str, *, default: float | None = None, code: str) -> float:
    """Value of a card as a finite number.

    Args:
        header: header of an HDU.
        keyword: keyword of the card.
        path: path of the file, for the message.
        default: value if there is no such card; None makes the card mandatory.
        code: code of the rejection.

    Raises:
        Rejected: the card is missing, or not a finite number.
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
    """Quality bits of a card; 0 if there is no such card.

    Raises:
        Rejected: its value is not an integer of 0 or more.
    """
    value = float_card(header, keyword, path, default=0, code="bad_card")
    if value != int(value) or value < 0:
        raise Rejected("bad_card", f"{path}: {keyword} = {value}, expected quality bits, an integer of 0 or more")
    return int(value)
