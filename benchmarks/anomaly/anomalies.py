"""Families A: real anomalies, which a search for unusual galaxies should detect."""

import numpy as np

from benchmarks.anomaly.families import Added, Kind, register
from benchmarks.anomaly.light import INSTRUMENT_SIGMA_KMS, Component, added, gas, gaussian, own_gas, somewhere, spot
from benchmarks.anomaly.scene import Host
from cubeprep.lines import SPEED_OF_LIGHT_KMS


@register
class BroadHalpha:
    """A broad-line region in the nucleus: Balmer lines of 2,000 to 5,000 km/s FWHM, broader than the windows."""

    name = "broad_halpha"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        fluxes = {"Ha-6564": 1.0, "Hb-4862": 0.3, "Hgam-4341": 0.12}
        fwhm, velocity = rng.uniform(2000, 5000), rng.uniform(-300, 300)
        return added(host, Component(fluxes, velocity, fwhm / 2.3548, spot(host, 0, 0, host.source.psf_sigma)))


@register
class OffNuclearAgn:
    """A Seyfert nucleus away from the centre, as after a merger."""

    name = "offnuclear_agn"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        fluxes = gas(
            rng.uniform(7, 12), rng.uniform(0.6, 1.4), rng.uniform(0.35, 0.8), rng.uniform(0.1, 0.25),
            HeII_4687=0.25, NeIII_3869=0.8, NeIII_3968=0.25, HeI_5877=0.13,
        )  # fmt: skip
        image = spot(host, *somewhere(host, rng, 0.35, 0.85), host.source.psf_sigma)
        return added(host, Component(fluxes, rng.uniform(-150, 150), rng.uniform(80, 180), image))


@register
class Blueberry:
    """A compact metal-poor starburst: extreme [O III], very weak [N II]."""

    name = "blueberry"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        fluxes = gas(
            rng.uniform(5.5, 7.5), rng.uniform(0.01, 0.04), rng.uniform(0.04, 0.1), 0.01,
            NeIII_3869=0.5, NeIII_3968=0.15, HeI_5877=0.11, Hzet_3890=0.19, Heps_3971=0.16,
        )  # fmt: skip
        image = spot(host, rng.normal(0, 1), rng.normal(0, 1), host.source.psf_sigma)
        return added(host, Component(fluxes, rng.normal(0, 20), rng.uniform(30, 60), image))


@register
class DoublePeaked:
    """Two narrow peaks 200 to 500 km/s apart in all lines of the inner galaxy: two nuclei, or a ring."""

    name = "double_peaked"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        fluxes, half = own_gas(host), rng.uniform(200, 500) / 2
        image = spot(host, 0, 0, host.source.psf_sigma * rng.uniform(1, 1.6))
        share = rng.uniform(0.4, 0.6)
        blue = Component({name: share * flux for name, flux in fluxes.items()}, -half, 40.0, image)
        red = Component({name: (1 - share) * flux for name, flux in fluxes.items()}, half, 40.0, image)
        return added(host, blue, red)


@register
class OutflowWing:
    """A blue wing of 400 to 1,000 km/s FWHM in the lines of the nucleus, strongest in [O III]."""

    name = "outflow_wing"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        fluxes = own_gas(host)
        fluxes |= {name: 2 * fluxes.get(name, 0) for name in ("OIII-5008", "OIII-4960")}
        image = spot(host, 0, 0, host.source.psf_sigma * rng.uniform(1, 1.8))
        return added(host, Component(fluxes, rng.uniform(-400, -150), rng.uniform(400, 1000) / 2.3548, image))


@register
class BackgroundEmitter:
    """One line of a distant background galaxy, at a random wavelength inside a window."""

    name = "background_emitter"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        good = (host.clean.mask == 0).any(axis=(2, 3))
        covered = np.flatnonzero(good.all(axis=1) if good.all(axis=1).any() else good.any(axis=1))
        line = host.config.line_list[int(rng.choice(covered))]
        low, high = host.config.velocity_kms[[0, -1]]
        centre = line.rest_wave * (1 + host.source.z) * (1 + rng.uniform(low, high) / SPEED_OF_LIGHT_KMS)
        sigma = centre * np.hypot(rng.uniform(50, 150), INSTRUMENT_SIGMA_KMS) / SPEED_OF_LIGHT_KMS
        image = spot(host, *somewhere(host, rng, 0.0, 0.9), host.source.psf_sigma)
        return Added(lambda wave, scene: gaussian(wave, centre, sigma)[:, None, None] * image)
