"""Sampling of the sky by a hexagonal fibre bundle, and gridding of its exposures to spaxels.

Spaxels are weighted means of fibre spectra, as in the DRP (Law+2016, doi:10.3847/0004-6256/152/4/83). The PSF, the
covariance of neighbouring spaxels, the low coverage at the rim and the footprint of a dead fibre all follow from these
weights.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

from cubeprep.simulate.instrument import NUM_WAVES, WAVE

SPAXEL_ARCSEC = 0.5

# Side of the cube of each bundle, spaxels.
CUBE_SIZE = {19: 34, 37: 44, 61: 54, 91: 64, 127: 74}

FIBRE_PITCH_ARCSEC = 2.5
FIBRE_RADIUS_ARCSEC = 1.0

# Each field is dithered to the three corners of a triangle, to fill the gaps between fibres.
_DITHER_ARCSEC = 0.83
# Three exposures are taken at each corner. Differential refraction moves the fibres on the sky between them; this value
# reproduces the 63% of covered spaxels in the real MAPS 7815-3702.
_DRIFT_ARCSEC = 0.4

# Weights of the modified Shepard algorithm: a truncated Gaussian of the distance between fibre and spaxel (Law+2016).
_WEIGHT_SIGMA_ARCSEC, _WEIGHT_REACH_ARCSEC = 0.7, 1.6
# Variance that gridding adds to the PSF, square arcsec, from a fit to gridded point sources.
GRIDDING_VARIANCE = 0.426

# Approximate shift of the bluest light by refraction, and the number of wavelength ranges in which it is evaluated.
_REFRACTION_ARCSEC = 0.9
_NUM_REFRACTIONS = 9

# Coverage relative to the middle of the bundle below which a spaxel gets the bit LOWCOV.
LOW_COVERAGE = 0.28


@dataclass(frozen=True, eq=False)
class Sampling:
    """Fibre exposures of a bundle and their gridding to spaxels.

    An exposure here is one exposure of one fibre.

    Attributes:
        x_arcsec, y_arcsec: [exposure] offsets of the fibres from the reference pixel, towards higher x and y.
        fibre: [exposure] index of the fibre.
        depth: [y, x] coverage relative to the middle of the bundle; 0 outside.
        weights: [covered spaxel, exposure] sparse matrix, each row of which sums to 1; spaxels in the order of
            `depth > 0`.
    """

    x_arcsec: np.ndarray
    y_arcsec: np.ndarray
    fibre: np.ndarray
    depth: np.ndarray
    weights: csr_array

    @property
    def covered(self) -> np.ndarray:
        """Mask [y, x] of spaxels with any exposure."""
        return np.asarray(self.depth > 0)

    def gridded(self, values: np.ndarray) -> np.ndarray:
        """Image [..., y, x] gridded from values [..., exposure]; 0 outside the bundle."""
        image = np.zeros((*values.shape[:-1], *self.depth.shape))
        image[..., self.covered] = (self.weights @ values.reshape(-1, values.shape[-1]).T).T.reshape(
            *values.shape[:-1], -1
        )
        return image


@lru_cache(maxsize=len(CUBE_SIZE))
def sampling(num_fibres: int) -> Sampling:
    """Sampling of a bundle of `num_fibres` fibres with nine exposures each."""
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
    """Coverage at different wavelengths: by refraction, a fibre's blue and red light come from different positions.

    Args:
        size: side of the cube, spaxels.
        sampling: sampling at the reference wavelength, 5400 Angstrom.

    Returns:
        Edges of ranges of wavelength pixels, and the `depth` [y, x] in each range.
    """
    edges = np.linspace(0, NUM_WAVES, _NUM_REFRACTIONS + 1).astype(int)
    # Exposures with the same drift were taken at the same hour angle.
    hour = (np.arange(len(sampling.fibre)) // (sampling.fibre.max() + 1)) % 3
    depths = []
    for wave in WAVE[(edges[1:] + edges[:-1]) // 2]:
        shift = _REFRACTION_ARCSEC * ((5400.0 / wave) ** 2 - 1) * np.array([1.0, 0.4, -0.6])[hour]
        total = _raw_weights(size, sampling.x_arcsec + 0.5 * shift, sampling.y_arcsec + 0.87 * shift).sum(axis=1)
        depths.append((total / _middle(total)).reshape(size, size))
    return edges, depths


def _raw_weights(size: int, x_arcsec: np.ndarray, y_arcsec: np.ndarray) -> np.ndarray:
    """Weights [spaxel, exposure] of fibres at these positions, not normalised."""
    x, y = (SPAXEL_ARCSEC * axis.ravel() for axis in spaxel_offsets(size))
    distance2 = (x[:, None] - x_arcsec) ** 2 + (y[:, None] - y_arcsec) ** 2
    near = distance2 < _WEIGHT_REACH_ARCSEC**2
    return np.where(near, np.exp(-0.5 * distance2 / _WEIGHT_SIGMA_ARCSEC**2), 0.0)


def _middle(total: np.ndarray) -> float:
    """Typical coverage in the middle of a cube."""
    return float(np.median(total[total > 0.5 * total.max()]))


def fibre_positions(num_fibres: int) -> np.ndarray:
    """Fibre positions [fibre, (x, y)], arcsec, on hexagonal rings.

    Two vertices of the hexagon lie on the x axis, as in the masks of the real cubes.
    """
    # A hexagon with n rings around its centre has 3 n (n + 1) + 1 fibres.
    num_rings = round((np.sqrt(12 * num_fibres - 3) - 3) / 6)
    steps = range(-num_rings, num_rings + 1)
    axial = [(q, r) for q in steps for r in steps if abs(q + r) <= num_rings]
    return FIBRE_PITCH_ARCSEC * np.array([(q + r / 2, np.sqrt(3) / 2 * r) for q, r in axial])


def hexagon_radius_arcsec(num_fibres: int) -> float:
    """Distance from the centre to a vertex of the well-covered hexagon, arcsec."""
    return float(np.abs(fibre_positions(num_fibres)).max() + 1.75)


def spaxel_offsets(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets [y, x] of spaxels from the reference pixel along x and along y, spaxels."""
    axis = np.arange(size) - size // 2
    return np.broadcast_to(axis[None, :], (size, size)), np.broadcast_to(axis[:, None], (size, size))


def _directions(*angles_deg: float) -> np.ndarray:
    angles = np.radians(angles_deg)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
