"""Defects of an observation: dead fibres, foreground stars, lost pixels, and the quality bits of DRP3QUAL."""

from dataclasses import dataclass

import numpy as np

from cubeprep.simulate.footprint import Sampling, fibre_positions
from cubeprep.simulate.instrument import NUM_MISSING, NUM_WAVES

# Bits of MANGA_DRP3QUAL in sdssMaskbits.par that the simulation sets.
BADDEPTH, SKYSUBBAD, BADFLUX, MANYDEAD, CRITICAL = 1, 2, 8, 10, 30

# Fractions of observations with a foreground star, a dead fibre, or a quality bit that leaves the cube usable.
FORESTAR_SHARE = 0.08
DEADFIBER_SHARE = 0.08
MINOR_SHARE = 0.04

# Mean number of groups of a few pixels that a fibre exposure loses to cosmic rays or glitches. A few in ten thousand
# pixels of the cubes are then without data, as in the real spectra.
_GLITCHES_PER_EXPOSURE = 0.4


@dataclass(frozen=True)
class Defects:
    """Defects of an observation; none by default.

    Attributes:
        quality: DRP3QUAL.
        dead_fibres: indices of the dead fibres.
        star_arcsec: (x, y) offset of a foreground star from the centre; None without one.
        star_brightness: flux density of the star at 6500 Angstrom, 1e-17 erg/s/cm^2/Angstrom/spaxel, in a fibre centred
            on it.
        depth: signal-to-noise ratio relative to that of a good observation.
        sky_residual: residual of the sky lines, in units of their noise; the same in all fibres.
        blue_loss: fraction of the light at the blue end that is missing after flux calibration.
    """

    quality: int = 0
    dead_fibres: tuple[int, ...] = ()
    star_arcsec: tuple[float, float] | None = None
    star_brightness: float = 0.0
    depth: float = 1.0
    sky_residual: float = 0.0
    blue_loss: float = 0.0

    def flags(self, bit: int) -> bool:
        """Whether this bit of DRP3QUAL is set."""
        return bool(self.quality >> bit & 1)


def draw_defects(num_fibres: int, *, critical: bool, rng: np.random.Generator) -> Defects:
    """Random defects of an observation.

    Args:
        num_fibres: fibres of the bundle.
        critical: whether the observation is unusable: many dead fibres or bad flux calibration, with CRITICAL set.
        rng: source of all random numbers.
    """
    reach = np.abs(fibre_positions(num_fibres)).max() + 1.0
    has_star, has_dead, minor = rng.random(3) < (FORESTAR_SHARE, DEADFIBER_SHARE, MINOR_SHARE)
    radius, angle = reach * np.sqrt(rng.uniform(0.2, 1)), rng.uniform(0, 2 * np.pi)
    star = (float(radius * np.cos(angle)), float(radius * np.sin(angle))) if has_star else None
    kind, minor_kind = rng.random() < 0.5, rng.random() < 0.5
    num_dead = max(num_fibres // 8, 3) if critical and kind else 1 if has_dead else 0
    dead = tuple(int(i) for i in np.sort(rng.permutation(num_fibres)[:num_dead]))
    bits, values = [], {"depth": 1.0, "sky_residual": 0.0, "blue_loss": 0.0}
    if critical:
        bits = [CRITICAL, MANYDEAD if kind else BADFLUX]
        values["blue_loss"] = 0.0 if kind else float(rng.uniform(0.25, 0.5))
    elif minor and minor_kind:
        bits, values["depth"] = [BADDEPTH], float(rng.uniform(0.55, 0.75))
    elif minor:
        bits, values["sky_residual"] = [SKYSUBBAD], float(rng.choice([-1, 1]) * rng.uniform(0.8, 1.6))
    return Defects(sum(1 << bit for bit in bits), dead, star, float(rng.lognormal(0.5, 0.6)), **values)


def lost_pixels(sampling: Sampling, defects: Defects, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random pixels that fibre exposures lack, as two arrays of indices: exposures and wavelengths.

    Dead fibres and the missing red end are not included; they are masked separately.
    """
    num_exposures = len(sampling.fibre)
    count = rng.poisson(_GLITCHES_PER_EXPOSURE * num_exposures)
    exposure = rng.integers(0, num_exposures, count)
    start, length = rng.integers(0, NUM_WAVES - NUM_MISSING, count), rng.integers(2, 8, count)
    alive = ~np.isin(sampling.fibre[exposure], defects.dead_fibres)
    pairs = [(e, s + k) for e, s, n in zip(exposure[alive], start[alive], length[alive], strict=True) for k in range(n)]
    exposures, waves = np.array(pairs, dtype=int).reshape(-1, 2).T
    inside = waves < NUM_WAVES - NUM_MISSING
    return exposures[inside], waves[inside]
