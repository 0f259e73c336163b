"""Checksums of FITS: DATASUM and CHECKSUM (Pence et al. 2010, A&A 524, A42, section 4.4.2.7).

They are 32-bit sums with end-around carry. A difference is a remark and no rejection: programs that cut or edit cubes
often copy these cards, as in the MUSE minicube of MPDAF, whose DATA and STAT share one DATASUM.
"""

from collections.abc import Iterable

import numpy as np
from astropy.io.fits import Header

ALL_ONES = 0xFFFFFFFF
DATA_REMARK = "{}: its data are not those of its DATASUM"
HEADER_REMARK = "{}: its header is not that of its CHECKSUM"


def total(parts: Iterable[bytes | memoryview], start: int = 0) -> int:
    """Sum of all parts, each of a multiple of 4 bytes, added to `start`."""
    found = start
    for part in parts:
        found += int(np.frombuffer(part, dtype=">u4").sum(dtype=np.uint64))
        while found > ALL_ONES:
            found = (found & ALL_ONES) + (found >> 32)
    return found


class RunningSum:
    """Sum of parts of any length, one after the other."""

    def __init__(self) -> None:
        self.total = 0
        self._rest = b""

    def add(self, part: bytes | memoryview) -> None:
        """Adds the next part."""
        if self._rest:
            held = self._rest + bytes(part[: 4 - len(self._rest)])
            part, self._rest = part[4 - len(self._rest) :], held
            if len(held) < 4:
                return
            self.total = total([held], self.total)
        whole = len(part) // 4 * 4
        self.total, self._rest = total([part[:whole]], self.total), bytes(part[whole:])


def stated_sum(header: Header) -> int | None:
    """DATASUM of a header; None if it has none."""
    text = str(header.get("DATASUM", "")).strip()
    return int(text) if text.isdecimal() and int(text) <= ALL_ONES else None


def header_agrees(header: Header, blocks: bytes) -> bool:
    """Whether a header agrees with its CHECKSUM, given its DATASUM; True if it lacks one of the two.

    Args:
        header: header of an HDU.
        blocks: its bytes.
    """
    data = stated_sum(header)
    return data is None or "CHECKSUM" not in header or total([blocks], data) in (0, ALL_ONES)
