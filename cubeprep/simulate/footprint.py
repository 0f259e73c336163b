"""The sky that a hexagonal fibre bundle covers, spaxel by spaxel."""

import numpy as np

SPAXEL_ARCSEC = 0.5

# Spaxels a side of the cubes of each bundle.
CUBE_SIZE = {19: 34, 37: 44, 61: 54, 91: 64, 127: 74}

# Beyond the dithered fibres the DRP's kernel still finds some flux; real MAPS (65% of spaxels covered, 50% usable)
# say how far.
RIM_PIXELS = 2.8
RIM_COVERAGE = 0.3


def hexagon_radius_pixels(num_fibres: int) -> float:
    """Distance from centre to vertex of the fully covered hexagon, in spaxels.

    A bundle of n rings has its outermost fibre n x 2.5 arcsec from the centre; fibre radius and dithers add 1.75.
    """
    num_rings = round((np.sqrt(12 * num_fibres - 3) - 3) / 6)
    return float((2.5 * num_rings + 1.75) / SPAXEL_ARCSEC)


def spaxel_offsets(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of spaxels [y, x] from the reference pixel, in spaxels: towards higher x, and towards higher y."""
    axis = np.arange(size) - size // 2
    return np.broadcast_to(axis[None, :], (size, size)), np.broadcast_to(axis[:, None], (size, size))


def coverage(num_fibres: int) -> np.ndarray:
    """Relative exposure [y, x] of a bundle's cube: 1 inside the hexagon, falling over the rim, 0 outside.

    The hexagon has its vertices on the x axis, as the real masks do.
    """
    x, y = spaxel_offsets(CUBE_SIZE[num_fibres])
    # The size of the hexagon, by its vertex, on whose edge the spaxel lies.
    vertex = np.maximum(np.abs(y) * 2 / np.sqrt(3), np.abs(x) + np.abs(y) / np.sqrt(3))
    beyond = (vertex - hexagon_radius_pixels(num_fibres)) / RIM_PIXELS
    return np.where(beyond > 1, 0.0, 1.0 - (1.0 - RIM_COVERAGE) * np.clip(beyond, 0.0, 1.0))
