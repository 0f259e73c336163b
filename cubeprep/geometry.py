"""Where the spaxels of a cube go on a square of fixed size."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Placement:
    """One axis of a cube, centred on an axis of `size`: the part that is kept, and where it goes.

    Where the difference is odd, the centre `(length - 1) / 2` goes to the pixel below `(size - 1) / 2`.
    """

    source: slice
    target: slice

    @classmethod
    def centred(cls, length: int, size: int) -> "Placement":
        """Crops what is longer than `size`, leaves a margin where it is shorter."""
        offset = (length - size) // 2 if length >= size else -((size - length) // 2)
        start, stop = max(offset, 0), min(offset + size, length)
        return cls(slice(start, stop), slice(start - offset, stop - offset))


def place(planes: np.ndarray, size: int | None, fill: float = 0) -> np.ndarray:
    """Crops or pads [..., y, x] to [..., size, size] about its centre; without `size`, pads it to a square."""
    size = size or max(planes.shape[-2:])
    y, x = (Placement.centred(length, size) for length in planes.shape[-2:])
    placed = np.full((*planes.shape[:-2], size, size), fill, dtype=planes.dtype)
    placed[..., y.target, x.target] = planes[..., y.source, x.source]
    return placed


def outside(shape: tuple[int, int], size: int | None) -> np.ndarray:
    """[size, size] bool: True beyond the edge of a cube of `shape` (y, x)."""
    return ~place(np.ones(shape, dtype=bool), size, fill=False)
