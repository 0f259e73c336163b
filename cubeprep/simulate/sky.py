"""A galaxy above the atmosphere: geometry, starlight and clumpy gas on a grid of spaxels."""

from dataclasses import dataclass

import numpy as np

from cubeprep.simulate.footprint import CUBE_SIZE, SPAXEL_ARCSEC, spaxel_offsets
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.ratios import Bpt, diffuse_bpt, star_forming_bpt

# Margin around the cube, spaxels: seeing scatters light from there into the bundle.
PADDING = 10

# Half-light radius of an exponential disc in scale lengths.
_HALF_LIGHT = 1.678
# Half-light radius of the bulge in half-light radii of the galaxy.
_BULGE_RE = 0.35

# Additional dispersion (in quadrature) of diffuse gas, whose layer is thicker, km/s.
_DIFFUSE_SIGMA_KMS = 35.0


@dataclass(frozen=True)
class Disc:
    """Geometry of a galaxy on the padded grid; each array is [y, x].

    Attributes:
        x_arcsec, y_arcsec: offsets on the sky from the centre, arcsec.
        radius, along, across: radius and coordinates along and across the major axis in the plane of the disc,
            half-light radii.
        velocity_kms: line-of-sight component of the rotation, km/s.
    """

    x_arcsec: np.ndarray
    y_arcsec: np.ndarray
    radius: np.ndarray
    along: np.ndarray
    across: np.ndarray
    velocity_kms: np.ndarray


@dataclass(frozen=True)
class Starlight:
    """Flux densities [y, x] of the stars at rest wavelength 5500 Angstrom, 1e-17 erg/s/cm^2/Angstrom/spaxel.

    They include the effect of dust.
    """

    bulge: np.ndarray
    young: np.ndarray
    middle: np.ndarray
    old: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Flux density [y, x] of all stars."""
        return self.bulge + self.young + self.middle + self.old


@dataclass(frozen=True)
class GasLayer:
    """Gas with one source of ionisation.

    Attributes:
        halpha: [y, x] Halpha flux dimmed by dust, 1e-17 erg/s/cm^2/spaxel.
        bpt: line ratios, numbers or maps.
        sigma_kms: velocity dispersion, km/s.
        heii_hb: He II 4687 / Hbeta.
    """

    halpha: np.ndarray
    bpt: Bpt
    sigma_kms: float
    heii_hb: float = 0.0006


def disc_geometry(galaxy: Galaxy) -> Disc:
    """Deprojected coordinates and line-of-sight velocity of each point of the padded grid."""
    x, y = spaxel_offsets(CUBE_SIZE[galaxy.num_fibres] + 2 * PADDING)
    x_arcsec, y_arcsec = x * SPAXEL_ARCSEC, y * SPAXEL_ARCSEC
    pa = np.radians(galaxy.pa_deg)
    # East is towards lower x (CD1_1 < 0).
    along = (y_arcsec * np.cos(pa) - x_arcsec * np.sin(pa)) / galaxy.re_arcsec
    across = (y_arcsec * np.sin(pa) + x_arcsec * np.cos(pa)) / galaxy.re_arcsec / galaxy.axis_ratio
    radius = np.hypot(along, across)
    # Arctangent rotation curve (Courteau 1997, doi:10.1086/118656).
    speed = galaxy.v_max_kms * 2 / np.pi * np.arctan(radius / galaxy.turnover_re)
    velocity = speed * np.sin(np.radians(galaxy.inclination_deg)) * along / np.maximum(radius, 1e-6)
    return Disc(x_arcsec, y_arcsec, radius, along, across, velocity)


def dust(galaxy: Galaxy, disc: Disc) -> np.ndarray:
    """E(B-V) [y, x] of the gas, magnitudes; declines outwards as in the real MAPS 7815-3702."""
    return np.asarray(galaxy.ebv * np.exp(-disc.radius / 2.2))


def starlight(galaxy: Galaxy, disc: Disc) -> Starlight:
    """Starlight of an old bulge and of a disc that gets younger outwards."""
    # Inclined discs are brighter, since lines of sight through them are longer.
    brightness = (1 - galaxy.bulge_fraction) * galaxy.surface_brightness / galaxy.axis_ratio**0.5
    light = brightness * np.exp(-_HALF_LIGHT * (disc.radius - 1.0))
    bulge = np.exp(-_HALF_LIGHT * disc.radius / _BULGE_RE)
    bulge *= galaxy.bulge_fraction / (1 - galaxy.bulge_fraction) * light.sum() / bulge.sum()
    young = np.clip(galaxy.young_fraction * (0.75 + 0.25 * np.minimum(disc.radius, 2.0)), 0, 1)
    middle = 0.4 * (1 - young)
    return Starlight(bulge, light * young, light * middle, light * (1 - young - middle))


def disc_gas(galaxy: Galaxy, disc: Disc, light: Starlight, rng: np.random.Generator) -> list[GasLayer]:
    """Gas layers: H II regions and diffuse gas, or in LINERs and passive galaxies gas not ionised by young stars."""
    if galaxy.galaxy_class in ("liner", "passive"):
        ha = galaxy.ha_ew * light.total
        return [GasLayer(ha, galaxy.agn_bpt, galaxy.sigma_gas_kms, galaxy.agn_heii_hb)]
    oh = galaxy.oh + galaxy.oh_gradient * (np.minimum(disc.radius, 3.0) - 1.0)
    shining = light.young + light.middle + light.old
    # Star formation is more compact than the starlight in some galaxies and more extended in others, so equivalent
    # widths have gradients.
    regions = shining * np.exp(-0.5 * (np.minimum(disc.radius, 4.0) ** 2 - 1) / galaxy.sf_extent_re**2)
    regions = 0.55 * regions + 0.45 * _clumps(galaxy, disc, regions, rng)
    share = galaxy.diffuse_fraction
    # Diffuse gas dominates where H II regions are few and contributes a smaller fraction in bright centres.
    spread = (0.2 + 0.8 * np.minimum(disc.radius, 2.0)) * np.exp(-0.5 * np.clip(disc.radius - 1.0, 0, None))
    diffuse = galaxy.ha_ew * share * shining * spread
    return [
        GasLayer((1 - share) * galaxy.ha_ew * regions, star_forming_bpt(oh, galaxy.oiii_scatter), galaxy.sigma_gas_kms),
        GasLayer(
            diffuse, diffuse_bpt(oh, galaxy.oiii_scatter), float(np.hypot(galaxy.sigma_gas_kms, _DIFFUSE_SIGMA_KMS))
        ),
    ]


def _clumps(galaxy: Galaxy, disc: Disc, smooth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Map [y, x] of H II regions along logarithmic spiral arms, normalised to the total flux of the smooth map."""
    count = galaxy.num_clumps
    radius = np.clip(rng.gamma(2.0, 1 / _HALF_LIGHT, count), 0.15, 3.0)
    arm = rng.integers(0, galaxy.num_arms, count)
    angle = np.log(radius) / np.tan(np.radians(galaxy.pitch_deg)) + 2 * np.pi * arm / galaxy.num_arms
    angle += rng.normal(0, 0.35, count)
    weight, size = rng.lognormal(0, 0.8, count), rng.uniform(0.06, 0.16, count)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    # Separable Gaussians would be faster, but the axes of the sky are not those of the disc.
    distance2 = (disc.along[..., None] - along) ** 2 + (disc.across[..., None] - across) ** 2
    clumps: np.ndarray = np.exp(-0.5 * distance2 / size**2) @ (weight / size**2)
    # All clumps may fall between spaxels: avoid dividing by a sum of zero.
    return clumps * (smooth.sum() / max(clumps.sum(), 1e-30))
