"""Cards of a FITS header; a missing or invalid one rejects the galaxy with a message that names the card."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from astropy.io.fits import Header, VerifyError

from cubeprep.cube import Rejected

# Cards that decide what the data mean.
DECISIVE = re.compile(
    r"BITPIX|NAXIS\d*|[PG]COUNT|B(?:SCALE|ZERO|LANK|UNIT)|(?:CTYPE|CUNIT|CRVAL|CRPIX|CDELT)\d|(?:CD|PC)\d_\d|EXTNAME"
    r"|SPECSYS|AIRORVAC|HDUCLAS3|Z_SPEC|SCINPVEL|PLATEIFU|MANGAID|DRP3QUAL|DAPQUAL|C\d\d|DESC_\d+|TYPE_\d+|UNITS_\d+"
)
# Control characters, or a value after other characters than capitals, digits, `-` and `_`; small letters and dots are
# tolerated. astropy replaces bytes that are no ASCII by `?`.
NO_KEYWORD = re.compile(r"[\x00-\x1f\x7f]|[^A-Za-z0-9_. -].*=$")


def check_cards(header: Header, path: str) -> None:
    """Checks that each keyword is text, that cards which decide what the data mean can be parsed, and that none of
    these is there twice with different values.

    Raises:
        Rejected: a card breaks these rules.
    """
    values = defaultdict[str, list[str]](list)
    for card in header.cards:
        written = card._image  # as in the file; `card.image` is what astropy would make of it
        if NO_KEYWORD.search(written[:9]):  # which card it was is not known: it may have been a decisive one
            raise Rejected("bad_card", f"{path}: {written.rstrip()!r} is no card: its keyword is not text")
        if not DECISIVE.fullmatch(card.keyword):
            continue
        try:
            values[card.keyword].append(str(card.value))
        except VerifyError as error:
            reason = f"{written.rstrip()!r} is no card, expected KEYWORD = value"
            raise Rejected("bad_card", f"{path}: {reason}") from error
    for keyword, found in values.items():
        if len(set(found)) > 1:
            shown = ", ".join(dict.fromkeys(found))
            raise Rejected("bad_card", f"{path}: {keyword} is there {len(found)} times, as {shown}")


def check_once(names: Collection[str], passed: Sequence[str], path: str) -> None:
    """Checks that none of the HDUs of these names occurs twice among those that were passed.

    Raises:
        Rejected: one does.
    """
    for name in names:
        if (count := passed.count(name)) > 1:
            raise Rejected("bad_card", f"{path}: {count} HDUs have EXTNAME = {name!r}, expected one")


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
