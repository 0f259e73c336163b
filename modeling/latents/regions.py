"""Latents of regions: rectangles of spaxels, encoded alone.

A region is moved to the middle of the window and all spaxels around it are masked; its flux is normalised by its own
brightness. Regions of one shape therefore differ in their spectra and structure, not in their position in the galaxy.
They are compared only with each other: the latent of a masked galaxy is far from that of the whole. The model should
take masks as input (`mask_input`): one without treats masked spaxels as empty sky.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from cubeprep.masks import good_samples
from modeling.network.inference import inference
from modeling.network.normalisation import WindowNetwork

MIN_GOOD = 0.5  # share of a region's samples; with fewer, the mask would determine the latent more than the flux


@dataclass(frozen=True)
class Region:
    """Rectangle of spaxels x0 <= x < x1, y0 <= y < y1 of a window."""

    x0: int
    x1: int
    y0: int
    y1: int

    @classmethod
    def parse(cls, text: str, size: int) -> Self:
        """Region from text such as `x0:x1,y0:y1`, in a window of `size` spaxels a side.

        Raises:
            ValueError: the text is not of this form, or the region does not lie within the window.
        """
        match = re.fullmatch(r"\s*(\d+):(\d+)\s*,\s*(\d+):(\d+)\s*", text)
        region = cls(*map(int, match.groups())) if match else None
        if region is None or not (region.x0 < region.x1 <= size and region.y0 < region.y1 <= size):
            raise ValueError(f"region {text!r}: expected x0:x1,y0:y1 with 0 <= x0 < x1 <= {size}, and likewise for y")
        return region

    @property
    def shape(self) -> tuple[int, int]:
        """Number of spaxels in y and in x."""
        return self.y1 - self.y0, self.x1 - self.x0

    def __str__(self) -> str:
        return f"{self.x0}:{self.x1},{self.y0}:{self.y1}"


def tiles(size: int, shape: tuple[int, int]) -> list[Region]:
    """Regions of one shape, side by side, that fill the middle of a window of `size` spaxels a side.

    The centre of the window is the centre of a region or the border between two.
    """
    height, width = shape
    rows, columns = size // height, size // width
    top, left = (size - rows * height) // 2, (size - columns * width) // 2
    corners = [(top + i * height, left + j * width) for i in range(rows) for j in range(columns)]
    return [Region(x, x + width, y, y + height) for y, x in corners]


def good_share(good: np.ndarray, region: Region) -> float:
    """Share of a region's samples that are good; `good` is [line, sample, y, x] bool."""
    return float(good[..., region.y0 : region.y1, region.x0 : region.x1].mean())


def move_to_middle(array: np.ndarray, region: Region, fill: float) -> np.ndarray:
    """Window [..., y, x] with a region of it moved to the middle, and `fill` around it."""
    moved = np.full_like(array, fill)
    height, width = region.shape
    top, left = (array.shape[-2] - height) // 2, (array.shape[-1] - width) // 2
    moved[..., top : top + height, left : left + width] = array[..., region.y0 : region.y1, region.x0 : region.x1]
    return moved


def usable_regions(
    flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, regions: list[Region]
) -> Iterator[tuple[int, Region]]:
    """Pairs of galaxy and region with at least `MIN_GOOD` good samples, of windows [galaxy, line, sample, y, x]."""
    for galaxy, good in enumerate(good_samples(flux, ivar, mask)):
        yield from ((galaxy, region) for region in regions if good_share(good, region) >= MIN_GOOD)


@inference()
def region_latents(
    model: WindowNetwork,
    flux: np.ndarray,
    ivar: np.ndarray,
    mask: np.ndarray,
    wanted: list[tuple[int, Region]],
    *,
    batch_size: int = 16,
    device: str = "cpu",
) -> np.ndarray:
    """Latents of regions, [region, dimension] float32.

    Args:
        model: put into evaluation mode.
        flux: [galaxy, line, sample, y, x], flux units; any value where masked.
        ivar: the same shape, inverse variance of `flux`.
        mask: the same shape; 0 is good.
        wanted: galaxy and region of each latent.
        batch_size: regions at a time.
        device: such as `cpu` or `cuda`.
    """
    model = model.to(device).eval()
    good = good_samples(flux, ivar, mask)
    parts = [np.zeros((0, model.arguments["latent_dim"]), np.float32)]
    for start in range(0, len(wanted), batch_size):
        batch = wanted[start : start + batch_size]
        flux_RLSYX = np.stack([move_to_middle(flux[galaxy], region, 0) for galaxy, region in batch])
        ivar_RLSYX = np.stack([move_to_middle(ivar[galaxy], region, 0) for galaxy, region in batch])
        good_RLSYX = np.stack([move_to_middle(good[galaxy], region, 0) for galaxy, region in batch])
        good_here = torch.from_numpy(good_RLSYX).to(device)
        flux_here, ivar_here = (
            torch.from_numpy(values.astype(np.float32)).to(device) for values in (flux_RLSYX, ivar_RLSYX)
        )
        # Normalised after the rest is masked, so that the scale is the region's own.
        normalised, scale = model.normalise(flux_here, good_here)
        latents = model.encode(normalised, good_here, model.scaled_ivar(ivar_here, scale))
        parts.append(latents.float().cpu().numpy())
    return np.concatenate(parts)
