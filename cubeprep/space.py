"""Regrids the spaxels of a cube to a square grid of another size, conserving flux and propagating the variance.

A new spaxel is the sum of the old spaxels weighted by the fraction of their area inside it. These weights separate into
one factor per axis, so one small matrix per axis defines the regridding. Cropping and padding about the centre need no
weights and are done while a cube is read (`cubeprep.geometry`).
"""

from dataclasses import dataclass, replace

import numpy as np

from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.windows import LineWindows

# Unmasked fraction of a new spaxel's area below which its flux is not extrapolated to the whole: the spaxel is masked.
MIN_SHARE = 0.5


@dataclass(frozen=True)
class Regrid:
    """Mapping of a square image onto another square grid, the same along both axes.

    Attributes:
        weights: [new, old] overlap of each new spaxel with each old one along one axis, in old spaxels.
        scale: side of a new spaxel, in old spaxels.
        start: lower edge of the new grid, in old spaxels from that of the old grid.
    """

    weights: np.ndarray
    scale: float
    start: float

    @classmethod
    def centred(cls, length: int, size: int, scale: float, *, whole: bool = False) -> "Regrid":
        """Mapping onto a grid with the same centre.

        Args:
            length: side of the image, spaxels.
            size: side of the new grid, new spaxels.
            scale: side of a new spaxel, in old spaxels.
            whole: align the grid with the edges of the old spaxels; with an integer `scale` no two new spaxels then
                share an old one.
        """
        start = (length - size * scale) / 2
        start = float(np.floor(start)) if whole else start
        edges = start + scale * np.arange(size + 1)
        old = np.arange(length)
        overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
        return cls(np.clip(overlap, 0, None), scale, start)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Image [..., new y, new x] of sums of the old spaxels [..., y, x], weighted by overlap."""
        return np.asarray(self.weights @ image @ self.weights.T)

    def squared(self) -> "Regrid":
        """Mapping with squared weights, as needed to propagate the variances of independent spaxels."""
        return replace(self, weights=self.weights**2)


def regrid(windows: LineWindows, grid: Regrid) -> LineWindows:
    """Windows [line, sample, y, x] on a new spaxel grid; see `regrid_line`."""
    # One line at a time: float64 copies of all lines of an uncropped cube would take too much memory.
    lines = [
        regrid_line(LineWindows(*line), grid) for line in zip(windows.flux, windows.ivar, windows.mask, strict=True)
    ]
    flux, ivar, mask = (np.stack([getattr(line, name) for line in lines]) for name in ("flux", "ivar", "mask"))
    return LineWindows(flux, ivar, mask)


def regrid_line(windows: LineWindows, grid: Regrid) -> LineWindows:
    """Window [sample, y, x] of one line on a new spaxel grid; fluxes are per new spaxel.

    If at least half of a new spaxel's area is unmasked, its flux is scaled up from that part; otherwise the spaxel is
    masked, with the bits of all old spaxels it overlaps. Neighbouring spaxels that share an old spaxel have correlated
    errors, with a coefficient of at most 0.5; `ivar` describes each spaxel alone.
    """
    good = windows.mask == 0
    share = grid.apply(good.astype(np.float64)) / grid.scale**2
    flux = grid.apply(np.where(good, windows.flux, 0).astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = grid.squared().apply(np.where(good, 1 / windows.ivar, 0).astype(np.float64))
        # The tolerance keeps spaxels of exactly half coverage in spite of rounding.
        kept = (share >= MIN_SHARE - 1e-9) & (variance > 0)
        new_flux = np.where(kept, flux / share, np.nan).astype(np.float32)
        new_ivar = np.where(kept, share**2 / variance, 0).astype(np.float32)
    mask = np.zeros(kept.shape, dtype=np.uint8)
    for bit in WINDOW_MASK_BITS.values():
        touched = grid.apply((windows.mask & bit > 0).astype(np.float64)) > 1e-9
        mask[~kept & touched] |= bit
    mask[~kept & (mask == 0)] = WINDOW_MASK_BITS["OUTSIDE"]
    return LineWindows(new_flux, new_ivar, mask)
