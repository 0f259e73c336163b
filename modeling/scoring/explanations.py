"""Explains in words why a galaxy is unusual: its most significant residuals by line, place and velocity.

Shapes: L lines, S samples, Y and X spaxels, of one galaxy.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import uniform_filter

NUM_REASONS = 3
MIN_SIGMA = 4.0  # of the sum over 3 x 3 spaxels
# Of maps with north up and east to the left.
COMPASS = ("W", "NW", "N", "NE", "E", "SE", "S", "SW")
CENTRAL_ARCSEC = 1.0
CENTRAL_SPAXELS = 2.0


def reasons(
    by_place: np.ndarray,
    by_sample: np.ndarray,
    line_names: Sequence[str],
    velocity_kms: np.ndarray,
    spaxel_arcsec: float | None = None,
    *,
    north_up: bool = False,
) -> list[str]:
    """Up to three phrases such as "OIII-5008 excess, 4.0 arcsec NE of the centre, +250 km/s".

    Args:
        by_place: [L, Y, X] signed residual of each line in sigma.
        by_sample: [L, S] signed residual of each sample in sigma, over the galaxy.
        line_names: [L].
        velocity_kms: [S] of the samples.
        spaxel_arcsec: side of a spaxel; without it places are in spaxels.
        north_up: whether north is up and east left; otherwise places have a distance and no direction.
    """
    # 3 x the mean of nine values is their sum over the root of nine: again in sigma for independent noise.
    smooth = 3 * uniform_filter(by_place.astype(np.float64), size=(1, 3, 3), mode="constant")
    size = np.abs(smooth).max((1, 2))
    phrases = []
    for line in np.argsort(-size, kind="stable")[:NUM_REASONS]:
        if size[line] < MIN_SIGMA:
            break
        # The nine neighbourhoods of a single unusual spaxel are equal: its own value breaks the tie.
        height = np.abs(smooth[line]) + 1e-3 * np.abs(by_place[line])
        y, x = np.unravel_index(height.argmax(), height.shape)
        sign = "excess" if smooth[line, y, x] > 0 else "deficit"
        where = place(int(y), int(x), by_place.shape[1:], spaxel_arcsec, north_up=north_up)
        when = velocity(by_sample[line], velocity_kms)
        phrases.append(", ".join(part for part in (f"{line_names[line]} {sign}", where, when) if part))
    return phrases


def place(y: int, x: int, shape: tuple[int, ...], spaxel_arcsec: float | None, *, north_up: bool = False) -> str:
    """Position of a spaxel relative to the centre of the cube, such as "4.0 arcsec NE of the centre".

    Args:
        y: row of the spaxel.
        x: column of the spaxel.
        shape: rows and columns of the cube.
        spaxel_arcsec: side of a spaxel; without it the distance is in spaxels.
        north_up: whether north is up and east left; otherwise there is no direction.
    """
    dy, dx = y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2
    scale, unit, central = (
        (spaxel_arcsec, "arcsec", CENTRAL_ARCSEC) if spaxel_arcsec else (1.0, "spaxels", CENTRAL_SPAXELS)
    )
    distance = float(np.hypot(dy, dx)) * scale
    if distance <= central:
        return "at the centre"
    if not north_up:
        return f"{distance:.1f} {unit} from the centre"
    octant = round(np.arctan2(dy, dx) / (np.pi / 4))
    # The angle runs from the positive x axis, which is west, hence the order of `COMPASS`.
    return f"{distance:.1f} {unit} {COMPASS[octant % 8]} of the centre"


def velocity(by_sample: np.ndarray, velocity_kms: np.ndarray) -> str:
    """Velocity of the most significant sample, such as "+250 km/s"; empty for a line of one sample.

    Args:
        by_sample: [S] residual of each sample in sigma.
        velocity_kms: [S].
    """
    if len(velocity_kms) < 2:
        return ""
    return f"{velocity_kms[int(np.abs(by_sample).argmax())]:+.0f} km/s"
