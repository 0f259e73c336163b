"""Augmented views of a galaxy's windows: the paper's flips, quarter turns, noise and shifts.

A view depends on (seed, galaxy, view) alone, whatever the number of workers and the order of their work.
"""

import hashlib

import numpy as np
from pydantic import Field

from cubeprep.config import Config
from cubeprep.masks import WINDOW_MASK_BITS


class AugmentConfig(Config):
    """Views of each training galaxy; view 0 is always the galaxy as observed."""

    num_views: int = Field(
        4, ge=1, description="Rows a training galaxy gets; the paper has 4, 1 turns augmentation off"
    )
    flip: bool = True
    rotate: bool = True
    max_shift: int = Field(5, ge=0, description="Largest shift along each axis, spaxels")
    noise: float = Field(0.3, ge=0, description="Standard deviation of the noise added, in units of each sample's own")


def view_rng(seed: int, plateifu: str, view: int) -> np.random.Generator:
    """The random numbers of one view of one galaxy."""
    name = int.from_bytes(hashlib.sha256(plateifu.encode()).digest()[:8])
    return np.random.default_rng([seed, name, view])


def augment(
    flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One random view of windows.

    Args:
        flux: [..., y, x] with y and x alike; NaN where masked.
        ivar: the same shape.
        mask: the same shape, uint8; a shift moves in spaxels that are OUTSIDE.
        config: which changes are made.
        rng: decides all of them, in a fixed order.

    Returns:
        flux, ivar (less where noise was added) and mask of the view.
    """
    flips, turns = int(rng.integers(2)), int(rng.integers(4))
    shift = rng.integers(-config.max_shift, config.max_shift + 1, size=2)

    def moved(values: np.ndarray, fill: float) -> np.ndarray:
        if config.flip and flips:
            values = values[..., ::-1]
        if config.rotate:
            values = np.rot90(values, turns, axes=(-2, -1))
        return shifted(values, int(shift[0]), int(shift[1]), fill)

    flux, ivar = moved(flux, np.nan), moved(ivar, 0)
    mask = moved(mask, WINDOW_MASK_BITS["OUTSIDE"])
    if config.noise > 0:
        with np.errstate(divide="ignore"):
            sigma = np.where(ivar > 0, 1 / np.sqrt(ivar), 0)
        flux = flux + (config.noise * sigma * rng.standard_normal(flux.shape, dtype=np.float32)).astype(np.float32)
        ivar = (ivar / (1 + config.noise**2)).astype(np.float32)
    return np.ascontiguousarray(flux), np.ascontiguousarray(ivar), np.ascontiguousarray(mask)


def shifted(values: np.ndarray, dy: int, dx: int, fill: float) -> np.ndarray:
    """Moves [..., y, x] by whole spaxels; what comes in from the edge is `fill`."""
    result = np.full_like(values, fill)
    height, width = values.shape[-2:]
    target = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
    source = (slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0)))
    result[(..., *target)] = values[(..., *source)]
    return result
