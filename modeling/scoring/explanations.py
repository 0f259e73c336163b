"""Why a galaxy is unusual, in words: the most significant residuals by line, place and velocity.

Shapes: L lines, S samples, Y and X spaxels, of one galaxy.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import uniform_filter

NUM_REASONS = 3
MIN_SIGMA = 4.0
# North is up and east to the left, as survey cubes are made.
COMPASS = ("W", "NW", "N", "NE", "E", "SE", "S", "SW")
CENTRAL_ARCSEC = 1.0
CENTRAL_SPAXELS = 2.0


def reasons(
    by_place: np.ndarray,
    by_sample: np.ndarray,
    line_names: Sequence[str],
    velocity_kms: np.ndarray,
    spaxel_arcsec: float | None = None,
) -> list[str]:
    """Up to three phrases such as "OIII-5008 excess, 4.0 arcsec NE of the centre, +250 km/s".

    Args:
        by_place: [L, Y, X] signed residual of each line in sigma.
        by_sample: [L, S] signed residual of each sample in sigma, over the galaxy.
        line_names: [L].
        velocity_kms: [S] of the samples.
        spaxel_arcsec: side of a spaxel; without it places are in spaxels.
    """
    smooth = 3 * uniform_filter(by_place.astype(np.float64), size=(1, 3, 3), mode="constant")
    size = np.abs(smooth).max((1, 2))
    found = []
    for line in np.argsort(-size, kind="stable")[:NUM_REASONS]:
        if size[line] < MIN_SIGMA:
            break
        # A single spaxel gives nine neighbourhoods alike: its own value then decides.
        height = np.abs(smooth[line]) + 1e-3 * np.abs(by_place[line])
        y, x = np.unravel_index(height.argmax(), height.shape)
        sign = "excess" if smooth[line, y, x] > 0 else "deficit"
        where = place(int(y), int(x), by_place.shape[1:], spaxel_arcsec)
        when = velocity(by_sample[line], velocity_kms)
        found.append(", ".join(part for part in (f"{line_names[line]} {sign}", where, when) if part))
    return found


def place(y: int, x: int, shape: tuple[int, ...], spaxel_arcsec: float | None) -> str:
    """Where a spaxel lies from the centre of the cube."""
    dy, dx = y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2
    scale, unit, central = (
        (spaxel_arcsec, "arcsec", CENTRAL_ARCSEC) if spaxel_arcsec else (1.0, "spaxels", CENTRAL_SPAXELS)
    )
    distance = float(np.hypot(dy, dx)) * scale
    if distance <= central:
        return "at the centre"
    octant = round(np.arctan2(dy, dx) / (np.pi / 4))
    # The angle is counted from the positive x axis, which is west.
    return f"{distance:.1f} {unit} {COMPASS[octant % 8]} of the centre"


def velocity(by_sample: np.ndarray, velocity_kms: np.ndarray) -> str:
    """The velocity of the most significant sample; empty where there is one sample alone."""
    if len(velocity_kms) < 2:
        return ""
    return f"{velocity_kms[int(np.abs(by_sample).argmax())]:+.0f} km/s"
