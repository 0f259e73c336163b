"""Crops or pads the spaxel grid of a cube to a square of fixed size."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Placement:
    """Mapping of one axis of a cube onto an axis of `size` with the same centre.

    If the two lengths differ by an odd number, the centre `(length - 1) / 2` cannot coincide with `(size - 1) / 2`; it
    is placed half a pixel below, for cropping and padding alike.

    Attributes:
        source: part of the cube's axis that is kept.
        target: its place on the new axis.
    """

    source: slice
    target: slice

    @classmethod
    def centred(cls, length: int, size: int) -> "Placement":
        """Mapping that crops an axis longer than `size` and pads a shorter one."""
        offset = (length - size) // 2 if length >= size else -((size - length) // 2)
        start, stop = max(offset, 0), min(offset + size, length)
        return cls(slice(start, stop), slice(start - offset, stop - offset))


def place(planes: np.ndarray, size: int | None, fill: float = 0) -> np.ndarray:
    """Array [..., size, size]: `planes` [..., y, x] cropped or padded with `fill` about the centre.

    Without `size`, the shorter axis is padded to the length of the longer one.
    """
    size = size or max(planes.shape[-2:])
    y, x = (Placement.centred(length, size) for length in planes.shape[-2:])
    placed = np.full((*planes.shape[:-2], size, size), fill, dtype=planes.dtype)
    placed[..., y.target, x.target] = planes[..., y.source, x.source]
    return placed


def outside(shape: tuple[int, int], size: int | None) -> np.ndarray:
    """Mask [size, size], True beyond the edge of a cube of `shape` (y, x)."""
    return ~place(np.ones(shape, dtype=bool), size, fill=False)
