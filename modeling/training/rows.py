"""Operations of a loader's threads on windows, each one call of C, or many of NumPy without a compiler.

NumPy takes Python's lock again after each operation on an array. Ten threads wait for the lock longer than they work; a
call of C takes it once.
"""

import ctypes
from collections.abc import Sequence

import numpy as np

from cubeprep.masks import good_samples
from modeling.network.compile_c import library

SOURCE = "training/rows.c"


def set_bad_to_zero(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Good samples, bool; flux and ivar become 0 where a sample is not good.

    Args:
        flux: any shape, float32.
        ivar: the same shape, float32.
        mask: the same shape, uint8, 0 where good.
    """
    arrays = flux, ivar, mask
    kinds = [(array.dtype, array.shape) for array in arrays]
    fit = kinds == [(np.float32, flux.shape), (np.float32, flux.shape), (np.uint8, flux.shape)]
    whole = flux.flags.carray and ivar.flags.carray and mask.flags.c_contiguous
    kernels = library(SOURCE) if fit and whole else None
    if kernels is None:
        good = good_samples(flux, ivar, mask)
        flux[~good] = 0
        ivar[~good] = 0
        return good
    good = np.empty(flux.shape, bool)
    kernels.set_bad_to_zero(ctypes.c_long(flux.size), *(ctypes.c_void_p(a.ctypes.data) for a in (*arrays, good)))
    return good


def copy_all(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Copies the first array of each pair, of the same type and shape, into the second."""
    whole = all(from_.flags.c_contiguous and to.flags.carray and from_.nbytes == to.nbytes for from_, to in pairs)
    kernels = library(SOURCE) if whole else None
    if kernels is None:
        for from_, to in pairs:
            np.copyto(to, from_)
        return
    of_pointers, of_sizes = ctypes.c_void_p * len(pairs), ctypes.c_long * len(pairs)
    sources, targets = (of_pointers(*(array.ctypes.data for array in side)) for side in zip(*pairs, strict=True))
    kernels.copy_all(ctypes.c_long(len(pairs)), sources, targets, of_sizes(*(to.nbytes for _, to in pairs)))
