"""Names and values of mask bits: those of the surveys and those of the windows."""

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

# MANGA_DAPSPECMASK, of model cubes, as DAP 2.2.1 (DR15, without NOMODEL) and 3.1.0 (DR17) write it; sdssMaskbits.par
# gives NOMODEL the bit of ELFAILED.
DAPSPECMASK = {
    "IGNORED": 0,
    "FORESTAR": 1,
    "FLUXINVALID": 2,
    "IVARINVALID": 3,
    "ARTIFACT": 4,
    "FITIGNORED": 5,
    "FITFAILED": 6,
    "ELIGNORED": 7,
    "ELFAILED": 8,
    "NOMODEL": 9,
}

# MANGA_DRP3QUAL of sdssMaskbits.par: quality of a whole cube.
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

# MANGA_DAPQUAL of sdssMaskbits.par: quality of a whole MAPS file.
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

# Reasons why a sample of a window cannot be used, as values of the store's `mask` array.
WINDOW_MASK_BITS = {
    "SURVEY": 1,  # masked by the survey, or inverse variance not positive
    "NOCOVERAGE": 2,  # the line or this sample lies outside the spectrograph's range, or a sideband is empty
    "OUTSIDE": 4,  # beyond the edge of the cube
    "NONFINITE": 8,  # NaN or infinite in the file
    "REJECTED": 16,  # the galaxy was rejected
    "NOVELOCITY": 32,  # the spaxel has no measured velocity to centre its windows on
}


def bits_value(names: Iterable[str], table: Mapping[str, int]) -> int:
    """Integer with the named bits set.

    Args:
        names: names of bits; repetitions count once.
        table: bit number of each known name.

    Raises:
        ValueError: a name is not in the table.
    """
    names = list(names)
    unknown = [name for name in names if name not in table]
    if unknown:
        raise ValueError(f"unknown mask bits {', '.join(unknown)}; known are {', '.join(table)}")
    return sum(1 << table[name] for name in set(names))


def any_bit(mask: np.ndarray, bits: int) -> np.ndarray:
    """Whether one of the bits is set in integers [...] of any width; bits beyond it are unset."""
    return (mask & mask.dtype.type(bits & int(np.iinfo(mask.dtype).max))) != 0


def good_samples(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mask [...] of the usable samples: no mask bit set, ivar positive and finite, flux finite."""
    with np.errstate(invalid="ignore"):
        return (mask == 0) & (ivar > 0) & np.isfinite(ivar) & np.isfinite(flux)
