"""Latents of regions: what an encoder makes of a rectangle of spaxels alone.

A region is moved to the middle of the window and all around it is masked; its flux is normalised by its own brightness.
So regions of one shape differ in what they hold, not in where they lie in their galaxy, and like is compared with like
(a masked galaxy has a latent far from that of the whole). The model should see masks (`mask_input`): to one that does
not, what is masked is an empty sky.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from cubeprep.masks import good_samples
from modeling.network.autoencoder import ConvLSTMAutoencoder

MIN_GOOD = 0.5  # of the samples of a region; with fewer, the mask would say more than the flux


@dataclass(frozen=True)
class Region:
    """Spaxels x0 <= x < x1, y0 <= y < y1 of a window."""

    x0: int
    x1: int
    y0: int
    y1: int

    @classmethod
    def parse(cls, text: str, size: int) -> Self:
        """A region from `x0:x1,y0:y1`.

        Raises:
            ValueError: not of this form, or it does not lie within `size` spaxels a side.
        """
        match = re.fullmatch(r"\s*(\d+):(\d+)\s*,\s*(\d+):(\d+)\s*", text)
        region = cls(*map(int, match.groups())) if match else None
        if region is None or not (region.x0 < region.x1 <= size and region.y0 < region.y1 <= size):
            raise ValueError(f"region {text!r}: expected x0:x1,y0:y1 with 0 <= x0 < x1 <= {size}, and so y")
        return region

    @property
    def shape(self) -> tuple[int, int]:
        """Spaxels in y and in x."""
        return self.y1 - self.y0, self.x1 - self.x0

    def __str__(self) -> str:
        return f"{self.x0}:{self.x1},{self.y0}:{self.y1}"


def tiles(size: int, shape: tuple[int, int]) -> list[Region]:
    """Regions of one shape side by side that fill the middle of a window; one of them, or a seam, is at its centre."""
    height, width = shape
    rows, columns = size // height, size // width
    top, left = (size - rows * height) // 2, (size - columns * width) // 2
    corners = [(top + i * height, left + j * width) for i in range(rows) for j in range(columns)]
    return [Region(x, x + width, y, y + height) for y, x in corners]


def good_share(good: np.ndarray, region: Region) -> float:
    """The share of a region's samples that are good; `good` is [line, sample, y, x] bool."""
    return float(good[..., region.y0 : region.y1, region.x0 : region.x1].mean())


def move_to_middle(array: np.ndarray, region: Region, fill: float) -> np.ndarray:
    """[..., y, x] of a window with a region in its middle, and `fill` around it."""
    moved = np.full_like(array, fill)
    height, width = region.shape
    top, left = (array.shape[-2] - height) // 2, (array.shape[-1] - width) // 2
    moved[..., top : top + height, left : left + width] = array[..., region.y0 : region.y1, region.x0 : region.x1]
    return moved


def usable_regions(
    flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, regions: list[Region]
) -> Iterator[tuple[int, Region]]:
    """Galaxy and region, of windows [galaxy, line, sample, y, x], for all that hold at least `MIN_GOOD`."""
    for galaxy, good in enumerate(good_samples(flux, ivar, mask)):
        yield from ((galaxy, region) for region in regions if good_share(good, region) >= MIN_GOOD)


@torch.inference_mode()
def region_latents(
    model: ConvLSTMAutoencoder,
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
        model: in evaluation mode after this.
        flux: [galaxy, line, sample, y, x]; anything where masked.
        ivar: the same shape.
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
        good_RLSYX = np.stack([move_to_middle(good[galaxy], region, 0) for galaxy, region in batch])
        good_here = torch.from_numpy(good_RLSYX).to(device)
        normalised, _ = model.normalise(torch.from_numpy(flux_RLSYX.astype(np.float32)).to(device), good_here)
        parts.append(model.encode(normalised, good_here).float().cpu().numpy())
    return np.concatenate(parts)
