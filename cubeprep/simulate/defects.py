"""What goes wrong in an observation: broken fibres, foreground stars, cosmic rays, and what DRP3QUAL reports."""

from dataclasses import dataclass

import numpy as np

from cubeprep.simulate.footprint import Sampling, fibre_positions
from cubeprep.simulate.instrument import NUM_MISSING, NUM_WAVES

# MANGA_DRP3QUAL of sdssMaskbits.par: what the simulation makes of it.
BADDEPTH, SKYSUBBAD, BADFLUX, MANYDEAD, CRITICAL = 1, 2, 8, 10, 30

# Shares of observations that have a foreground star, a broken fibre, or one of the flags that leave a cube usable.
FORESTAR_SHARE = 0.08
DEADFIBER_SHARE = 0.08
MINOR_SHARE = 0.04

# Cosmic rays, twilight or glitches that a fibre exposure loses: groups of pixels, each of a few; they leave a few in
# ten thousand pixels of cubes without data, as in the real spectra.
_GLITCHES_PER_EXPOSURE = 0.4


@dataclass(frozen=True)
class Defects:
    """What is wrong with an observation.

    Attributes:
        quality: DRP3QUAL.
        dead_fibres: numbers of the broken ones.
        star_arcsec: (x, y) offset of a foreground star, if there is one.
        star_brightness: its flux density at 6500 Angstrom, 1e-17 erg/s/cm^2/Angstrom, in units of a spaxel's.
        depth: signal-to-noise relative to that of a good observation.
        sky_residual: of the sky lines, relative to their noise, the same in all fibres.
        blue_loss: share of the light at the blue end that flux calibration has lost.
    """

    quality: int = 0
    dead_fibres: tuple[int, ...] = ()
    star_arcsec: tuple[float, float] | None = None
    star_brightness: float = 0.0
    depth: float = 1.0
    sky_residual: float = 0.0
    blue_loss: float = 0.0

    def flags(self, bit: int) -> bool:
        """Whether DRP3QUAL has this bit."""
        return bool(self.quality >> bit & 1)


def draw_defects(num_fibres: int, *, critical: bool, rng: np.random.Generator) -> Defects:
    """Draws the defects of an observation; `critical` ones are not fit for use."""
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
    """The pixels that fibre exposures lack, as two arrays of indices: exposures and wavelengths.

    Dead fibres and the red end are not among them.
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
