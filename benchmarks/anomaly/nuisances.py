"""Families N: the same galaxy brighter, noisier, turned, fainter or in a smaller bundle. No detector should flag it."""

from dataclasses import replace

import numpy as np

from benchmarks.anomaly.families import Changed, Kind, register
from benchmarks.anomaly.scene import Host
from cubeprep.cube import Planes
from cubeprep.masks import WINDOW_MASK_BITS

NUM_LEVELS = 5


def inverse(variance: np.ndarray) -> np.ndarray:
    """Inverse variance of a variance, or the reverse; 0 where the input is 0, as for masked samples."""
    return np.divide(1, variance, out=np.zeros_like(variance), where=variance > 0)


def noisier(planes: Planes, share: float, rng: np.random.Generator) -> Planes:
    """Planes with noise of `share` times their variance added, and ivar lowered accordingly."""
    noise = rng.standard_normal(planes.flux.shape, dtype=np.float32) * np.sqrt(share * inverse(planes.ivar))
    return replace(planes, flux=planes.flux + noise.astype(np.float32), ivar=planes.ivar / np.float32(1 + share))


@register
class FluxScale:
    """Flux and noise multiplied by 0.3 to 3, as by another calibration."""

    name = "flux_scale"
    kind: Kind = "N"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Changed:
        """Change to the galaxy; see `Family.draw`."""
        factor = np.float32(np.geomspace(0.3, 3, NUM_LEVELS)[level])
        return Changed(lambda wave, planes: replace(planes, flux=planes.flux * factor, ivar=planes.ivar / factor**2))


@register
class KnownNoise:
    """More noise, with ivar lowered accordingly, as in a worse night."""

    name = "known_noise"
    kind: Kind = "N"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Changed:
        """Change to the galaxy; see `Family.draw`."""
        share, seed = np.geomspace(0.25, 4, NUM_LEVELS)[level], int(rng.integers(2**31))
        return Changed(lambda wave, planes: noisier(planes, share, plane_rng(seed, wave)))


@register
class Dimming:
    """A fainter galaxy with the original noise."""

    name = "dimming"
    kind: Kind = "N"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Changed:
        """Change to the galaxy; see `Family.draw`."""
        left, seed = np.float32(np.linspace(0.85, 0.3, NUM_LEVELS)[level]), int(rng.integers(2**31))

        def change(wave: np.ndarray, planes: Planes) -> Planes:
            # Scaling the flux also scales its noise; the noise removed is added back.
            fainter = replace(planes, flux=planes.flux * left, ivar=planes.ivar / left**2)
            return noisier(fainter, float(1 / left**2 - 1), plane_rng(seed, wave))

        return Changed(change)


@register
class Turned:
    """Quarter turns and flips."""

    name = "rotation_flip"
    kind: Kind = "N"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Changed:
        """Change to the galaxy; see `Family.draw`."""
        number = int(rng.integers(1, 8))  # one of the eight symmetries of a square, except the identity

        def turned(values: np.ndarray) -> np.ndarray:
            return np.rot90(values[..., ::-1] if number >= 4 else values, number % 4, axes=(-2, -1))

        return Changed(
            lambda wave, planes: replace(
                planes, flux=turned(planes.flux), ivar=turned(planes.ivar), mask=turned(planes.mask)
            )
        )


@register
class SmallerBundle:
    """The same galaxy in a smaller hexagonal bundle."""

    name = "bundle_size"
    kind: Kind = "N"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Changed:
        """Change to the galaxy; see `Family.draw`."""
        dy, dx = host.offsets
        # Centre-to-vertex distance of the hexagon on whose edge each spaxel lies.
        vertex = np.maximum(np.abs(dy) * 2 / np.sqrt(3), np.abs(dx) + np.abs(dy) / np.sqrt(3))
        reach = vertex[host.covered].max(initial=1.0) * np.linspace(0.9, 0.55, NUM_LEVELS)[level]
        beyond = vertex > reach

        def change(wave: np.ndarray, planes: Planes) -> Planes:
            flux, ivar = (np.where(beyond, np.float32(0), values) for values in (planes.flux, planes.ivar))
            mask = np.where(beyond, np.uint8(WINDOW_MASK_BITS["OUTSIDE"]), planes.mask)
            return replace(planes, flux=flux, ivar=ivar, mask=mask)

        return Changed(change)


def plane_rng(seed: int, wave: np.ndarray) -> np.random.Generator:
    """Random generator for the planes read; the same planes always get the same noise."""
    return np.random.default_rng([seed, round(float(wave[0]) * 1e3)])
