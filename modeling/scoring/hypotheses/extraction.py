"""Spectrum of a point source on its surroundings, by linear least squares in each sample's image.

The image of a sample around a place is modelled as a point source on a plane, flux = E psf + B + B_y dy + B_x dx. E is
the spectrum of what the place has and its surroundings lack, B that of the surroundings under it.

Shapes: L lines, S samples, Y and X spaxels, T samples of all windows, K spaxels near the place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

REACH_SIGMA = 3.3  # of the PSF: spaxels that far from the place are fitted
MIN_SPAXELS = 9  # four parameters, with spaxels to spare
LOPSIDED_SIGMA = 0.6
MAX_LOST = 0.1  # share of the weight of the source that bad samples may take


@dataclass(frozen=True)
class Galaxy:
    """One galaxy's windows.

    Attributes:
        flux: [T, Y, X], 0 where not good.
        variance: the same shape; 1 where not good.
        good: the same shape, bool.
        psf_sigma: standard deviation of the PSF, spaxels.
    """

    flux: np.ndarray
    variance: np.ndarray
    good: np.ndarray
    psf_sigma: float

    @cached_property
    def ivar(self) -> np.ndarray:
        """[T, Y, X] inverse variance, 0 where not good."""
        return np.where(self.good, 1 / self.variance, 0)

    @cached_property
    def covered(self) -> np.ndarray:
        """[Y, X] bool, spaxels whose samples are mostly good."""
        return np.asarray(self.good.mean(0) > 0.5)


@dataclass(frozen=True)
class Extracted:
    """Spectra at one place; samples that are not covered have infinite variance.

    Attributes:
        source: [T] flux of the point source, summed over its image.
        variance: [T] of it.
        surroundings: [T] flux of the surroundings under the source's image, weighted alike.
        surroundings_variance: [T] of it.
        y: row of the place.
        x: its column.
        lopsided: whether the place is seen from one side only.
    """

    source: np.ndarray
    variance: np.ndarray
    surroundings: np.ndarray
    surroundings_variance: np.ndarray
    y: int
    x: int
    lopsided: bool


def psf_area(psf_sigma: float) -> float:
    """Spaxels of surroundings whose flux is as much as a source's of the same signal-to-noise ratio: 4 pi sigma^2."""
    return float(4 * np.pi * psf_sigma**2)


def extract(galaxy: Galaxy, places: Sequence[tuple[int, int]]) -> Extracted | None:
    """Spectra at the one of some places with the brightest source; None where too few spaxels are covered.

    Args:
        galaxy: the galaxy.
        places: rows and columns; none that is seen from one side only is chosen unless the first one is.
    """
    kernels = [found for place in places if (found := _kernel(galaxy, *place)) is not None]
    if not kernels:
        return None
    alike = [found for found in kernels if not found.lopsided] if not kernels[0].lopsided else kernels[:1]
    flat = (len(galaxy.flux), -1)
    flux, variance, bad = (values.reshape(flat) for values in (galaxy.flux, galaxy.variance, ~galaxy.good))
    weights = np.concatenate([found.weights for found in alike])
    # A bad sample enters as zero, which is wrong by what it would have held: few are tolerable, others exclude theirs.
    lost = bad @ np.stack([found.image**2 / (found.image**2).sum() for found in alike], axis=1)
    known = np.repeat(lost <= MAX_LOST, 2, axis=1)
    fluxes = np.where(known, flux @ weights.T, 0).T.reshape(len(alike), 2, -1)
    errors = np.where(known, variance @ weights.T**2, np.inf).T.reshape(len(alike), 2, -1)
    best = int((np.maximum(fluxes[:, 0], 0) ** 2 / errors[:, 0]).sum(1).argmax())
    (source, surroundings), (of_source, of_surroundings), scale = fluxes[best], errors[best], psf_area(galaxy.psf_sigma)
    y, x, lopsided = alike[best].y, alike[best].x, alike[best].lopsided
    return Extracted(source, of_source, scale * surroundings, scale**2 * of_surroundings, y, x, lopsided)


class _Kernel(NamedTuple):
    """Weights [2, Y X] of the spaxels in the flux of a source and of its surroundings, and the image [Y X] of one."""

    weights: np.ndarray
    image: np.ndarray
    y: int
    x: int
    lopsided: bool


def _kernel(galaxy: Galaxy, y: int, x: int) -> _Kernel | None:
    """Least squares at a place; None where too few spaxels are covered."""
    height, width = galaxy.flux.shape[1:]
    dy, dx = np.arange(height)[:, None] - y, np.arange(width) - x
    square = (dy**2 + dx**2).ravel()
    reach = max(REACH_SIGMA * galaxy.psf_sigma, 2.0)
    near = (square <= reach**2) & galaxy.covered.ravel()
    if near.sum() < MIN_SPAXELS or not near[y * width + x]:
        return None
    image = np.where(near, np.exp(-0.5 * square / galaxy.psf_sigma**2), 0) / (2 * np.pi * galaxy.psf_sigma**2)
    dy, dx = (np.broadcast_to(each, (height, width)).ravel()[near] for each in (dy, dx))
    # Seen from one side only, as at the edge of a bundle, a slope could not be told from the source.
    lopsided = bool(max(abs(dy.mean()), abs(dx.mean())) > LOPSIDED_SIGMA * galaxy.psf_sigma)
    terms = [image[near], np.ones(near.sum()), *([] if lopsided else [dy, dx])]
    weights = np.zeros((2, len(near)))
    weights[:, near] = np.linalg.pinv(np.stack(terms, axis=1))[:2]
    return _Kernel(weights, image, y, x, lopsided)
