"""How a hexagonal bundle of fibres samples the sky, and how the pipeline grids the fibres to spaxels.

The cube is a weighted mean of fibre spectra, as in the DRP (Law+2016, doi:10.3847/0004-6256/152/4/83): that alone makes
the PSF, the covariance of neighbouring spaxels, the thin coverage at the rim and the footprint of a dead fibre.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

from cubeprep.simulate.instrument import NUM_WAVES, WAVE

SPAXEL_ARCSEC = 0.5

# Spaxels a side of the cubes of each bundle.
CUBE_SIZE = {19: 34, 37: 44, 61: 54, 91: 64, 127: 74}

FIBRE_PITCH_ARCSEC = 2.5
FIBRE_RADIUS_ARCSEC = 1.0

# Each field is taken at the three corners of a triangle, which fills the gaps between fibres.
_DITHER_ARCSEC = 0.83
# Each corner is taken three times. Atmospheric refraction moves the fibres on the sky between these: by so much, real
# MAPS say, in which 63% of the spaxels are covered.
_DRIFT_ARCSEC = 0.4

# Shepard's weights: a Gaussian of the distance from fibre to spaxel, cut off.
_WEIGHT_SIGMA_ARCSEC, _WEIGHT_REACH_ARCSEC = 0.7, 1.6
# Variance, in square arcsec, that the weights add to the PSF, as a fit to gridded point sources finds it.
GRIDDING_VARIANCE = 0.426

# How far refraction moves the bluest light, roughly, and in how many steps of wavelength.
_REFRACTION_ARCSEC = 0.9
_NUM_REFRACTIONS = 9

# Below this coverage, relative to the middle of the bundle, a spaxel counts as thinly covered.
LOW_COVERAGE = 0.28


@dataclass(frozen=True, eq=False)
class Sampling:
    """The fibre exposures of a bundle and the spaxels that they make.

    Attributes:
        x_arcsec, y_arcsec: [exposure] offsets of the fibres from the reference pixel, towards higher x and y.
        fibre: [exposure] the number of the fibre.
        depth: [y, x] coverage relative to the middle of the bundle; 0 outside.
        weights: [covered spaxel, exposure], sparse; each row has the sum 1. Spaxels in the order of `depth > 0`.
    """

    x_arcsec: np.ndarray
    y_arcsec: np.ndarray
    fibre: np.ndarray
    depth: np.ndarray
    weights: csr_array

    @property
    def covered(self) -> np.ndarray:
        """Spaxels [y, x] with any exposure."""
        return np.asarray(self.depth > 0)

    def gridded(self, values: np.ndarray) -> np.ndarray:
        """Means [..., y, x] of what the exposures saw, [..., exposure]; 0 outside."""
        image = np.zeros((*values.shape[:-1], *self.depth.shape))
        image[..., self.covered] = (self.weights @ values.reshape(-1, values.shape[-1]).T).T.reshape(
            *values.shape[:-1], -1
        )
        return image


@lru_cache(maxsize=len(CUBE_SIZE))
def sampling(num_fibres: int) -> Sampling:
    """The sampling of a bundle; nine exposures of each fibre."""
    fibres = fibre_positions(num_fibres)
    corners = _DITHER_ARCSEC * _directions(90, 210, 330)
    drifts = _DRIFT_ARCSEC * _directions(30, 150, 270)
    x, y = np.concatenate([fibres + corner + drift for corner in corners for drift in drifts]).T
    size = CUBE_SIZE[num_fibres]
    weights = _raw_weights(size, x, y)
    total = weights.sum(axis=1)
    covered = total > 0
    normalised = csr_array((weights[covered] / total[covered, None]).astype(np.float32))
    fibre = np.tile(np.arange(num_fibres), len(corners) * len(drifts))
    return Sampling(x, y, fibre, (total / _middle(total)).reshape(size, size), normalised)


@lru_cache(maxsize=len(CUBE_SIZE))
def refracted_depth(size: int, sampling: Sampling) -> tuple[np.ndarray, list[np.ndarray]]:
    """The coverage at different wavelengths: blue light is seen through fibres that lie elsewhere than those of red.

    Returns:
        Edges of ranges of wavelength pixels, and the `depth` [y, x] in each.
    """
    edges = np.linspace(0, NUM_WAVES, _NUM_REFRACTIONS + 1).astype(int)
    # The third of the exposures with one drift was taken at one hour angle.
    hour = (np.arange(len(sampling.fibre)) // (sampling.fibre.max() + 1)) % 3
    depths = []
    for wave in WAVE[(edges[1:] + edges[:-1]) // 2]:
        shift = _REFRACTION_ARCSEC * ((5400.0 / wave) ** 2 - 1) * np.array([1.0, 0.4, -0.6])[hour]
        total = _raw_weights(size, sampling.x_arcsec + 0.5 * shift, sampling.y_arcsec + 0.87 * shift).sum(axis=1)
        depths.append((total / _middle(total)).reshape(size, size))
    return edges, depths


def _raw_weights(size: int, x_arcsec: np.ndarray, y_arcsec: np.ndarray) -> np.ndarray:
    """Shepard's weights [spaxel, exposure] of fibres at these places."""
    x, y = (SPAXEL_ARCSEC * axis.ravel() for axis in spaxel_offsets(size))
    distance2 = (x[:, None] - x_arcsec) ** 2 + (y[:, None] - y_arcsec) ** 2
    near = distance2 < _WEIGHT_REACH_ARCSEC**2
    return np.where(near, np.exp(-0.5 * distance2 / _WEIGHT_SIGMA_ARCSEC**2), 0.0)


def _middle(total: np.ndarray) -> float:
    """The typical coverage of a cube's middle."""
    return float(np.median(total[total > 0.5 * total.max()]))


def fibre_positions(num_fibres: int) -> np.ndarray:
    """[fibre, (x, y)] arcsec: rings of a hexagon with two vertices on the x axis, as the real masks have them."""
    num_rings = round((np.sqrt(12 * num_fibres - 3) - 3) / 6)
    steps = range(-num_rings, num_rings + 1)
    axial = [(q, r) for q in steps for r in steps if abs(q + r) <= num_rings]
    return FIBRE_PITCH_ARCSEC * np.array([(q + r / 2, np.sqrt(3) / 2 * r) for q, r in axial])


def hexagon_radius_arcsec(num_fibres: int) -> float:
    """Distance from centre to vertex of the well-covered hexagon."""
    return float(np.abs(fibre_positions(num_fibres)).max() + 1.75)


def spaxel_offsets(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of spaxels [y, x] from the reference pixel, in spaxels: towards higher x, and towards higher y."""
    axis = np.arange(size) - size // 2
    return np.broadcast_to(axis[None, :], (size, size)), np.broadcast_to(axis[:, None], (size, size))


def coverage(num_fibres: int) -> np.ndarray:
    """Relative exposure [y, x] of a bundle's cube: 1 where it is well covered, less at the rim, 0 outside."""
    depth = sampling(num_fibres).depth
    return np.where(depth >= LOW_COVERAGE, 1.0, depth)


def _directions(*angles_deg: float) -> np.ndarray:
    angles = np.radians(angles_deg)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
