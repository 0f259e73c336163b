"""From the spaxels of a cube to a square grid of another size: flux and variance are conserved.

Every spaxel of the new grid is a sum of the old ones' shares that lie in it, so two small matrices, one an axis, say
all there is to know. Cropping and padding to the centre needs none and is done while a cube is read.
"""

from dataclasses import dataclass

import numpy as np

from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.windows import LineWindows

MIN_SHARE = 0.5


@dataclass(frozen=True)
class Regrid:
    """How the spaxels of a square image of `length` go to one of `size`.

    Attributes:
        weights: [new, old] share of each old spaxel, along one axis, that lies in each new one.
        scale: old spaxels a new one, along one axis.
    """

    weights: np.ndarray
    scale: float

    @classmethod
    def centred(cls, length: int, size: int, scale: float, *, whole: bool = False) -> "Regrid":
        """New spaxels of `scale` old ones about the centre; `whole` keeps the edges of whole spaxels."""
        start = (length - size * scale) / 2
        edges = (np.floor(start) if whole else start) + scale * np.arange(size + 1)
        old = np.arange(length)
        overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
        return cls(np.clip(overlap, 0, None), scale)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """[..., y, x] sums of the shares of the old spaxels."""
        return np.asarray(self.weights @ image @ self.weights.T)

    def squared(self) -> "Regrid":
        """The same with squared shares: what variances of independent spaxels are summed with."""
        return Regrid(self.weights**2, self.scale)


def regrid(windows: LineWindows, grid: Regrid) -> LineWindows:
    """Windows on a new grid of spaxels, line by line; see `regrid_line`."""
    lines = [
        regrid_line(LineWindows(*line), grid) for line in zip(windows.flux, windows.ivar, windows.mask, strict=True)
    ]
    flux, ivar, mask = (np.stack([getattr(line, name) for line in lines]) for name in ("flux", "ivar", "mask"))
    return LineWindows(flux, ivar, mask)


def regrid_line(windows: LineWindows, grid: Regrid) -> LineWindows:
    """The window [sample, y, x] of a line on a new grid of spaxels.

    Where a part of a new spaxel is masked, its flux is scaled up from the part that is not, if that is at least half;
    otherwise it is masked. Fluxes are per new spaxel. Neighbours that share an old spaxel are correlated, with a
    coefficient of at most 0.5; `ivar` is that of each spaxel alone.
    """
    good = windows.mask == 0
    share = grid.apply(good.astype(np.float64)) / grid.scale**2
    flux = grid.apply(np.where(good, windows.flux, 0).astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = grid.squared().apply(np.where(good, 1 / windows.ivar, 0).astype(np.float64))
        kept = (share >= MIN_SHARE - 1e-9) & (variance > 0)
        new_flux = np.where(kept, flux / share, np.nan).astype(np.float32)
        new_ivar = np.where(kept, share**2 / variance, 0).astype(np.float32)
    mask = np.zeros(kept.shape, dtype=np.uint8)
    for bit in WINDOW_MASK_BITS.values():
        touched = grid.apply((windows.mask & bit > 0).astype(np.float64)) > 1e-9
        mask[~kept & touched] |= bit
    mask[~kept & (mask == 0)] = WINDOW_MASK_BITS["OUTSIDE"]
    return LineWindows(new_flux, new_ivar, mask)
