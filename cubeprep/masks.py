"""Bit masks by name: those of the surveys, and the one of our windows."""

from collections.abc import Iterable, Mapping

import numpy as np

# MANGA_DRP3PIXMASK of sdssMaskbits.par.
DRP3PIXMASK = {"NOCOV": 0, "LOWCOV": 1, "DEADFIBER": 2, "FORESTAR": 3, "DONOTUSE": 10}

# MANGA_DAPPIXMASK of sdssMaskbits.par.
DAPPIXMASK = {
    "NOCOV": 0,
    "LOWCOV": 1,
    "DEADFIBER": 2,
    "FORESTAR": 3,
    "NOVALUE": 4,
    "UNRELIABLE": 5,
    "MATHERROR": 6,
    "FITFAILED": 7,
    "NEARBOUND": 8,
    "NOCORRECTION": 9,
    "MULTICOMP": 10,
    "DONOTUSE": 30,
}

# MANGA_DRP3QUAL: the quality of a whole cube.
DRP3QUAL = {
    "BADDEPTH": 1,
    "SKYSUBBAD": 2,
    "HIGHSCAT": 3,
    "BADASTROM": 4,
    "VARIABLELSF": 5,
    "BADOMEGA": 6,
    "BADSET": 7,
    "BADFLUX": 8,
    "BADPSF": 9,
    "MANYDEAD": 10,
    "BLOWTORCH": 12,
    "SEVEREBT": 13,
    "UNUSUAL": 14,
    "CRITICAL": 30,
}

# MANGA_DAPQUAL: the quality of a whole MAPS file.
DAPQUAL = {
    "FORESTAR": 0,
    "BADZ": 1,
    "LINELESS": 2,
    "PPXFFAIL": 3,
    "SINGLEBIN": 4,
    "BADGEOM": 5,
    "DRPCRIT": 28,
    "DAPCRIT": 29,
    "CRITICAL": 30,
}

# Why a sample of a window cannot be used, as values of the store's `mask` array.
WINDOW_MASK_BITS = {
    "SURVEY": 1,  # the survey's own mask, or its variance, says so
    "NOCOVERAGE": 2,  # the line, or this sample of it, lies outside the spectrograph's range
    "OUTSIDE": 4,  # beyond the edge of the cube
    "NONFINITE": 8,  # NaN or infinite in the file
    "REJECTED": 16,  # the galaxy was set aside
    "NOVELOCITY": 32,  # the spaxel has no velocity to centre its lines by
}


def bits_value(names: Iterable[str], table: Mapping[str, int]) -> int:
    """The integer with the named bits set.

    Raises:
        ValueError: a name is not in the table.
    """
    names = list(names)
    unknown = [name for name in names if name not in table]
    if unknown:
        raise ValueError(f"unknown mask bits {', '.join(unknown)}; known are {', '.join(table)}")
    return sum(1 << table[name] for name in set(names))


def good_samples(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[...] bool: the samples that count."""
    with np.errstate(invalid="ignore"):
        return (mask == 0) & (ivar > 0) & np.isfinite(ivar) & np.isfinite(flux)
