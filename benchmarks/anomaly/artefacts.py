"""Families C: artefacts of the instrument or the pipeline, which fill the top of a naive ranking."""

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.anomaly.families import Added, Kind, Moved, register
from benchmarks.anomaly.light import gaussian, somewhere, spot
from benchmarks.anomaly.scene import Host, Light
from cubeprep.lines import SPEED_OF_LIGHT_KMS

FIBRE_RADIUS_ARCSEC = 1.25
# Vacuum wavelengths of strong night-sky lines ([O I] and OH), Angstrom.
SKY_LINES = (5578.9, 6302.0, 6365.5, 6500.5, 6534.8, 6865.7, 6925.1, 6950.8, 6980.4, 7278.3, 7318.3, 7342.9)


def pixel_width(wave: np.ndarray, centre: float) -> float:
    """Pixel width of a wavelength grid near a wavelength, Angstrom."""
    return float(np.interp(centre, wave, np.gradient(wave)))


def covered_wave(host: Host, rng: np.random.Generator) -> float:
    """Random observed wavelength inside a window with data, Angstrom."""
    good = (host.clean.mask == 0).any(axis=(2, 3))
    line, sample = rng.choice(np.argwhere(good))
    rest = host.config.line_list[line].rest_wave * 10 ** host.config.offsets_dex[sample]
    return float(rest * (1 + host.source.z))


def stripe(centre: float, pixels: float, image: np.ndarray) -> Light:
    """Light at one wavelength with a Gaussian profile of sigma `pixels`, distributed over spaxels as in `image`."""

    def light(wave: np.ndarray, scene: np.ndarray) -> np.ndarray:
        sigma = pixels * pixel_width(wave, centre)
        return gaussian(wave, centre, sigma)[:, None, None] * image

    return light


@register
class CosmicRay:
    """A cosmic-ray hit that the pipeline did not mask: one or two spaxels, one or two wavelength pixels."""

    name = "cosmic_ray"
    kind: Kind = "C"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        image = spot(host, *somewhere(host, rng, 0.0, 0.95), rng.uniform(0.5, 0.9))
        return Added(stripe(covered_wave(host, rng), rng.uniform(0.5, 1.0), image))


@register
class SkyLineStripe:
    """The residual of a badly subtracted sky line: all spaxels at one wavelength, with variations over the bundle."""

    name = "sky_line_stripe"
    kind: Kind = "C"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        uneven = gaussian_filter(rng.standard_normal(host.covered.shape), 2.5)
        image = rng.choice([-1.0, 1.0]) + 0.5 * uneven / uneven.std()
        return Added(stripe(self._wave(host, rng), rng.uniform(0.9, 1.4), image * host.covered))

    @staticmethod
    def _wave(host: Host, rng: np.random.Generator) -> float:
        """Wavelength of a real sky line if one falls into a window, otherwise a random wavelength in a window."""
        low, high = (10 ** host.config.offsets_dex[i] * (1 + host.source.z) for i in (0, -1))
        waves = np.array([line.rest_wave for line in host.config.line_list])
        hit = [sky for sky in SKY_LINES if ((waves * low < sky) & (sky < waves * high)).any()]
        return float(rng.choice(hit)) if hit else covered_wave(host, rng)


@register
class DeadFibre:
    """An unmasked fibre that lost part of its light; all of it at strength 1."""

    name = "dead_fibre"
    kind: Kind = "C"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        y, x = somewhere(host, rng, 0.0, 0.5)
        dy, dx = host.offsets
        radius = FIBRE_RADIUS_ARCSEC / host.source.arms[0].spaxel_arcsec
        image = 1 / (1 + np.exp((np.hypot(dy - y, dx - x) - radius) / 0.5))
        return Added(lambda wave, scene: -image * scene, max_strength=1.0)


@register
class WrongRedshift:
    """Windows cut 5 to 1,000 km/s away from the lines."""

    name = "wrong_redshift"
    kind: Kind = "C"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Moved:
        """Change to the galaxy; see `Family.draw`."""
        velocities = rng.choice([-1, 1]) * np.array([5.0, 15.0, 40.0, 120.0, 350.0, 1000.0])
        return Moved([(1 + host.source.z) * (1 + velocity / SPEED_OF_LIGHT_KMS) - 1 for velocity in velocities])


@register
class HalfSpaxelShift:
    """The blue half of the spectrum shifted by up to half a spaxel against the red half.

    The shift is interpolated bilinearly, so the added light is linear in its strength.
    """

    name = "half_spaxel_shift"
    kind: Kind = "C"
    split_wave = 6000.0

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        axis, step = int(rng.integers(1, 3)), int(rng.choice([-1, 1]))

        def light(wave: np.ndarray, scene: np.ndarray) -> np.ndarray:
            moved = np.roll(scene, step, axis=axis) - scene
            return np.where((wave < self.split_wave)[:, None, None], moved, 0)

        return Added(light, max_strength=0.5)
