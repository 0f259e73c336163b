"""Spectrum of a point source on its surroundings, by linear least squares in each sample's image.

The image of a sample around a place is modelled as a point source on a plane, flux = E psf + B + B_y dy + B_x dx. E is
the spectrum of the excess over the surroundings, B that of the surroundings under it.

Shapes: L lines, S samples, Y and X spaxels, T samples of all windows, K spaxels near the place.
"""

from dataclasses import dataclass
from functools import cached_property

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
        """Inverse variance [T, Y, X]; 0 where not good."""
        return np.asarray(self.good / self.variance.astype(np.float64))

    @cached_property
    def weighted(self) -> np.ndarray:
        """Flux times inverse variance [T, Y, X]."""
        return np.asarray(self.flux * self.ivar)

    @cached_property
    def covered(self) -> np.ndarray:
        """Spaxels [Y, X] of which more than half of the samples are good."""
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
    """Noise-equivalent area of the PSF, spaxels: 4 pi sigma^2."""
    return float(4 * np.pi * psf_sigma**2)


def extract(galaxy: Galaxy, y: int, x: int) -> Extracted | None:
    """Spectra at a place; None where too few spaxels are covered."""
    height, width = galaxy.flux.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    dy, dx = rows - y, columns - x
    reach = max(REACH_SIGMA * galaxy.psf_sigma, 2.0)
    near = (np.hypot(dy, dx) <= reach) & galaxy.covered
    if near.sum() < MIN_SPAXELS or not near[y, x]:
        return None
    image = np.exp(-0.5 * (dy**2 + dx**2)[near] / galaxy.psf_sigma**2)
    image /= 2 * np.pi * galaxy.psf_sigma**2
    terms = [image, np.ones(len(image)), dy[near], dx[near]]
    # Seen from one side only, as at the edge of a bundle, a slope could not be told from the source.
    lopsided = max(abs(dy[near].mean()), abs(dx[near].mean())) > LOPSIDED_SIGMA * galaxy.psf_sigma
    design = np.stack(terms[:2] if lopsided else terms, axis=1)
    kernel = np.linalg.pinv(design)[:2]
    flux, variance, good = (
        values[:, near].astype(np.float64) for values in (galaxy.flux, galaxy.variance * galaxy.good, galaxy.good)
    )
    # Bad values enter as zeros, which biases the sums: few are tolerable, more exclude the sample.
    lost = (1 - good) @ image**2 / (image**2).sum()
    known = lost <= MAX_LOST
    source, surroundings = (np.where(known, flux @ row, 0) for row in kernel)
    errors = (np.where(known, variance @ row**2, np.inf) for row in kernel)
    scale = psf_area(galaxy.psf_sigma)
    of_source, of_surroundings = errors
    return Extracted(source, of_source, scale * surroundings, scale**2 * of_surroundings, y, x, bool(lopsided))
