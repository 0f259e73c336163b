"""Augmented views of a galaxy's windows: the paper's flips, quarter turns, noise and shifts.

A view depends on (seed, galaxy, view) alone, whatever the number of workers and the order of their work.
"""

import hashlib
from typing import Literal

import numpy as np
from pydantic import Field

from cubeprep.config import Config
from cubeprep.masks import WINDOW_MASK_BITS


class AugmentConfig(Config):
    """Views of each training galaxy; view 0 is always the galaxy as observed."""

    num_views: int = Field(
        4, ge=1, description="Rows a training galaxy gets; the paper has 4, 1 turns augmentation off"
    )
    where: Literal["store", "loader"] = Field(
        "store",
        description="Views are written to the store, or made anew whenever training reads a galaxy, which takes a "
        "num_views-th of the space; the numbers are the same",
    )
    flip: bool = True
    rotate: bool = True
    max_shift: int = Field(5, ge=0, description="Largest shift along each axis, spaxels")
    noise: float = Field(0.3, ge=0, description="Standard deviation of the noise added, in units of each sample's own")
    max_dimming: float = Field(0.0, ge=0, lt=1, description="Largest share of the flux that is taken at the same noise")
    max_psf_sigma: float = Field(0.0, ge=0, description="Largest sigma, in spaxels, that the PSF is broadened by")

    @property
    def stored_views(self) -> int:
        """Rows a training galaxy gets in the store."""
        return self.num_views if self.where == "store" else 1


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
    dimming, psf_sigma = config.max_dimming * rng.random(), config.max_psf_sigma * rng.random()

    def moved(values: np.ndarray, fill: float) -> np.ndarray:
        if config.flip and flips:
            values = values[..., ::-1]
        if config.rotate:
            values = np.rot90(values, turns, axes=(-2, -1))
        return shifted(values, int(shift[0]), int(shift[1]), fill)

    flux, ivar = moved(flux, np.nan), moved(ivar, 0)
    mask = moved(mask, WINDOW_MASK_BITS["OUTSIDE"])
    if psf_sigma > 0:
        flux, ivar = broadened(flux, ivar, mask == 0, psf_sigma)
    if dimming > 0:
        # A fainter galaxy under the same noise: what the noise lost with the flux is added again.
        flux, ivar = noisier((1 - dimming) * flux, ivar / (1 - dimming) ** 2, 1 / (1 - dimming) ** 2 - 1, rng)
    if config.noise > 0:
        flux, ivar = noisier(flux, ivar, config.noise**2, rng)
    return (
        np.ascontiguousarray(flux, dtype=np.float32),
        np.ascontiguousarray(ivar, dtype=np.float32),
        np.ascontiguousarray(mask),
    )


def noisier(
    flux: np.ndarray, ivar: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Adds Gaussian noise of `share` times each sample's variance; ivar knows of it."""
    with np.errstate(divide="ignore"):
        sigma = np.where(ivar > 0, np.sqrt(share / ivar), 0)
    return flux + sigma * rng.standard_normal(flux.shape, dtype=np.float32), ivar / (1 + share)


def broadened(flux: np.ndarray, ivar: np.ndarray, good: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Convolves [..., y, x] with a Gaussian of `sigma` spaxels, from good samples alone; what is masked stays so.

    The noise of neighbours becomes correlated; ivar is that of each sample alone.
    """
    index = np.arange(flux.shape[-1])
    kernel = np.exp(-0.5 * ((index - index[:, None]) / sigma) ** 2)

    def smooth(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.asarray(weights @ values @ weights.T)

    norm = np.where(good, smooth(good.astype(np.float64), kernel), 1)
    new_flux = smooth(np.where(good, flux, 0), kernel) / norm
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # far from any good sample
        variance = smooth(np.where(good, 1 / ivar, 0), kernel**2) / norm**2
        return np.where(good, new_flux, np.nan), np.where(good, 1 / variance, 0)


def shifted(values: np.ndarray, dy: int, dx: int, fill: float) -> np.ndarray:
    """Moves [..., y, x] by whole spaxels; what comes in from the edge is `fill`."""
    result = np.full_like(values, fill)
    height, width = values.shape[-2:]
    target = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
    source = (slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0)))
    result[(..., *target)] = values[(..., *source)]
    return result
