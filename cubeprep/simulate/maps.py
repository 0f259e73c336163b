"""A galaxy on the sky before noise: maps of starlight, of line fluxes and of motion, through the PSF."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from cubeprep.simulate.footprint import CUBE_SIZE, SPAXEL_ARCSEC, spaxel_offsets
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.ratios import (
    BALMER,
    LINE_NAMES,
    LINE_WAVES,
    Bpt,
    line_ratios,
    mixing_fractions,
    star_forming_bpt,
)
from cubeprep.simulate.spectrum import DUST_LEVELS, extinction

# Light beyond the cube's edge that the PSF brings in.
PADDING = 8

# Stars lie behind less dust than the gas (Calzetti+2000, doi:10.1086/308692).
STELLAR_REDDENING = 0.44

HA = LINE_NAMES.index("Ha-6564")
HB = LINE_NAMES.index("Hb-4862")
_LINE_EXTINCTION = extinction(np.array(list(LINE_WAVES.values())))[:, None, None]


@dataclass(frozen=True)
class GasComponent:
    """Gas that moves together.

    Attributes:
        flux: line fluxes [lines, y, x] in the order of `LINE_NAMES`, 1e-17 erg/s/cm^2/spaxel, after the galaxy's dust.
        velocity_kms: [y, x], flux-weighted by the PSF, relative to the galaxy's redshift.
        sigma_kms: [y, x], with the PSF's smearing of the velocity field, without the instrument.
    """

    flux: np.ndarray
    velocity_kms: np.ndarray
    sigma_kms: np.ndarray


@dataclass(frozen=True)
class GalaxyMaps:
    """A galaxy on the cube's spaxels, through the PSF and without noise.

    Attributes:
        starlight: flux density at 5500 Angstrom of each stellar template, [templates, y, x].
        star_velocity_kms: [y, x].
        gas: components; their spectra add up.
    """

    starlight: np.ndarray
    star_velocity_kms: np.ndarray
    gas: tuple[GasComponent, ...]

    @property
    def line_flux(self) -> np.ndarray:
        """Fluxes [lines, y, x] of all components together."""
        return np.sum([component.flux for component in self.gas], axis=0)


@dataclass(frozen=True)
class _Disc:
    """A galaxy's geometry on the padded grid [y, x]: sky offsets, radius and in-plane position in half-light radii."""

    x_arcsec: np.ndarray
    y_arcsec: np.ndarray
    radius: np.ndarray
    along: np.ndarray
    across: np.ndarray
    velocity_kms: np.ndarray


def galaxy_maps(galaxy: Galaxy, psf_fwhm_arcsec: float, rng: np.random.Generator) -> GalaxyMaps:
    """The maps of a galaxy; `rng` places its HII regions.

    Spiral structure, HII regions and diffuse gas share the Halpha of the disc; a nucleus adds its own gas so that the
    central 1.5 arcsec falls in the galaxy's class.
    """
    disc = _disc(galaxy)
    psf_pixels = psf_fwhm_arcsec / np.sqrt(8 * np.log(2)) / SPAXEL_ARCSEC
    ebv = galaxy.ebv * np.exp(-disc.radius / 2.0)
    # Exponential profile: 1.678 scale lengths hold half the light. Lines of sight through inclined discs are longer.
    disc_light = galaxy.surface_brightness / galaxy.axis_ratio**0.5 * np.exp(-1.678 * (disc.radius - 1.0))
    bulge_light = np.exp(-1.678 * disc.radius / 0.3)
    bulge_light *= galaxy.bulge_fraction / (1 - galaxy.bulge_fraction) * disc_light.sum() / bulge_light.sum()
    starlight = _starlight(galaxy, disc_light, bulge_light, STELLAR_REDDENING * ebv)
    total = starlight.sum(axis=0)

    gas = []
    if galaxy.galaxy_class in ("liner", "passive"):
        ratios = line_ratios(galaxy.agn_bpt, heii_hb=0.05)[:, None, None]
        gas.append(_component(galaxy.ha_ew * total, ratios, ebv, galaxy, disc, psf_pixels))
    else:
        ha = _disc_halpha(galaxy, disc, disc_light, rng)
        bpt = _disc_bpt(galaxy, disc, ha)
        gas.append(_component(ha, line_ratios(bpt), ebv, galaxy, disc, psf_pixels))
        gas += _nuclear_gas(galaxy, disc, gas[0], bpt, psf_pixels)
    return GalaxyMaps(
        starlight=_crop(_blur(starlight, psf_pixels)).astype(np.float32),
        star_velocity_kms=_crop(_blur(total * 0.85 * disc.velocity_kms, psf_pixels) / _blur(total, psf_pixels)),
        gas=tuple(GasComponent(*(_crop(value) for value in vars(part).values())) for part in gas),
    )


def aperture(num_fibres: int, radius_arcsec: float) -> np.ndarray:
    """Spaxels [y, x] within a radius of the centre."""
    x, y = spaxel_offsets(CUBE_SIZE[num_fibres])
    return np.hypot(x, y) * SPAXEL_ARCSEC <= radius_arcsec


def nuclear_bpt(galaxy: Galaxy, maps: GalaxyMaps) -> Bpt:
    """Logarithmic ratios of the true narrow and broad line fluxes within 1.5 arcsec of the centre."""
    inside = aperture(galaxy.num_fibres, 1.5)
    # Broad components have no forbidden lines and are no part of a BPT diagram.
    narrow = [part.flux for part in maps.gas if part.flux[LINE_NAMES.index("NII-6585")].any()]
    flux = dict(zip(LINE_NAMES, np.sum(narrow, axis=0)[:, inside].sum(axis=1), strict=True))
    return Bpt(
        nii_ha=float(np.log10(flux["NII-6585"] / flux["Ha-6564"])),
        oiii_hb=float(np.log10(flux["OIII-5008"] / flux["Hb-4862"])),
        sii_ha=float(np.log10((flux["SII-6718"] + flux["SII-6732"]) / flux["Ha-6564"])),
        oi_ha=float(np.log10(flux["OI-6302"] / flux["Ha-6564"])),
    )


def _disc(galaxy: Galaxy) -> _Disc:
    x, y = spaxel_offsets(CUBE_SIZE[galaxy.num_fibres] + 2 * PADDING)
    x_arcsec, y_arcsec = x * SPAXEL_ARCSEC, y * SPAXEL_ARCSEC
    pa = np.radians(galaxy.pa_deg)
    # East is towards lower x (CD1_1 < 0).
    along = (y_arcsec * np.cos(pa) - x_arcsec * np.sin(pa)) / galaxy.re_arcsec
    across = (y_arcsec * np.sin(pa) + x_arcsec * np.cos(pa)) / galaxy.re_arcsec / galaxy.axis_ratio
    radius = np.hypot(along, across)
    speed = galaxy.v_max_kms * 2 / np.pi * np.arctan(radius / galaxy.turnover_re)
    velocity = speed * np.sin(np.radians(galaxy.inclination_deg)) * along / np.maximum(radius, 1e-6)
    return _Disc(x_arcsec, y_arcsec, radius, along, across, velocity)


def _starlight(galaxy: Galaxy, disc_light: np.ndarray, bulge_light: np.ndarray, ebv: np.ndarray) -> np.ndarray:
    """Light of each template [templates, y, x]: the disc mixes young and old stars, the bulge is old."""
    young = galaxy.young_fraction * disc_light
    by_population = (young, disc_light - young + bulge_light)
    # Weights of the two tabulated dust levels on either side.
    levels = np.asarray(DUST_LEVELS)
    ebv = np.clip(ebv, levels[0], levels[-1])
    weights = [np.interp(ebv, levels, np.eye(len(levels))[index]) for index in range(len(levels))]
    return np.stack([light * weight for light in by_population for weight in weights])


def _disc_halpha(galaxy: Galaxy, disc: _Disc, disc_light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Halpha of the disc [y, x]: half smooth and diffuse, half in HII regions along two spiral arms."""
    radius = rng.gamma(2.0, 1 / 1.678, galaxy.num_clumps).clip(0.05, 3.5)
    arm = rng.integers(0, 2, galaxy.num_clumps) * np.pi + rng.normal(0, 0.4, galaxy.num_clumps)
    phase = arm + np.log(radius / 0.3) / np.tan(np.radians(galaxy.pitch_deg))
    weight = rng.lognormal(0, 0.8, galaxy.num_clumps)
    size = rng.uniform(0.06, 0.14, galaxy.num_clumps)
    clumps = np.zeros_like(disc_light)
    for r, angle, w, s in zip(radius, phase, weight, size, strict=True):
        distance2 = (disc.along - r * np.cos(angle)) ** 2 + (disc.across - r * np.sin(angle)) ** 2
        clumps += w / s**2 * np.exp(-0.5 * distance2 / s**2)
    # A lone clump between spaxels must not vanish: the smooth half keeps the sum above zero.
    clumps *= disc_light.sum() / max(clumps.sum(), 1e-30)
    return galaxy.ha_ew * (0.5 * disc_light + 0.5 * clumps)


def _disc_bpt(galaxy: Galaxy, disc: _Disc, ha: np.ndarray) -> Bpt:
    """Ratios across the disc: metals fall outwards, and faint gas is diffuse."""
    oh = galaxy.oh + galaxy.oh_gradient * (np.minimum(disc.radius, 3.0) - 1.0)
    typical = np.median(ha[disc.radius < 1.5]) if (disc.radius < 1.5).any() else ha.max()
    return star_forming_bpt(oh, typical / (typical + 2 * ha), galaxy.oiii_scatter)


def _component(
    ha: np.ndarray, ratios: np.ndarray, ebv: np.ndarray, galaxy: Galaxy, disc: _Disc, psf_pixels: float
) -> GasComponent:
    """Gas of the disc through the PSF; `ha` [y, x] is after dust, `ratios` [lines, y, x] are before."""
    dimming = 10 ** (-0.4 * (_LINE_EXTINCTION - _LINE_EXTINCTION[HA]) * ebv)
    flux = _blur(ha * ratios / ratios[HA] * dimming, psf_pixels)
    velocity = _blur(ha * disc.velocity_kms, psf_pixels) / flux[HA]
    smearing = _blur(ha * disc.velocity_kms**2, psf_pixels) / flux[HA] - velocity**2
    return GasComponent(flux, velocity, np.sqrt(galaxy.sigma_gas_kms**2 + np.maximum(smearing, 0.0)))


def _nuclear_gas(galaxy: Galaxy, disc: _Disc, stars: GasComponent, bpt: Bpt, psf_pixels: float) -> list[GasComponent]:
    """Gas ionised by an active nucleus, and its broad-line region, for the classes that have one."""
    agn = galaxy.agn_bpt
    centre = (disc.radius.shape[0] // 2, disc.radius.shape[1] // 2)
    offset_arcsec, size_arcsec = 0.0, galaxy.nlr_arcsec
    if galaxy.unusual == "offnuclear_agn":
        # 0.8 half-light radii out along the major axis, but beyond the PSF and well inside the bundle.
        offset_arcsec = float(np.clip(0.8 * galaxy.re_arcsec, 4.0, 5.0))
        # Small, so that the nucleus of the galaxy stays what its class says.
        size_arcsec, share = 0.5, 0.75
    elif galaxy.galaxy_class in ("composite", "seyfert"):
        central = Bpt(*(np.asarray(value)[centre] for value in vars(bpt).values()))
        first, second = mixing_fractions(central, agn)
        share = (first + second) / 2 if galaxy.galaxy_class == "composite" else second + 0.6 * (1 - second)
    else:
        return []
    pa = np.radians(galaxy.pa_deg)
    x, y = -offset_arcsec * np.sin(pa), offset_arcsec * np.cos(pa)
    distance = np.hypot(disc.x_arcsec - x, disc.y_arcsec - y)
    inside = distance <= 1.5
    shape = _blur(np.exp(-0.5 * (distance / size_arcsec) ** 2), psf_pixels)
    # After the PSF, so that the share holds for what is observed.
    shape *= share / (1 - share) * stars.flux[HA][inside].sum() / shape[inside].sum()
    flat = np.ones_like(shape)
    gas = [GasComponent(shape * _dusty(line_ratios(agn, heii_hb=0.20), galaxy.ebv), 0 * flat, 140.0 * flat)]
    if galaxy.broad_fwhm_kms:
        point = np.zeros_like(shape)
        point[centre] = 1.0
        broad = np.array([BALMER.get(name, 0.0) for name in LINE_NAMES])
        flux = 12.0 * gas[0].flux[HA].sum() * _blur(point, psf_pixels) * _dusty(broad, galaxy.ebv)
        gas.append(GasComponent(flux, 0 * flat, galaxy.broad_fwhm_kms / np.sqrt(8 * np.log(2)) * flat))
    return gas


def _dusty(ratios: np.ndarray, ebv: float) -> np.ndarray:
    """Ratios to Halpha [lines, 1, 1] behind dust."""
    return ratios[:, None, None] / ratios[HA] * 10 ** (-0.4 * (_LINE_EXTINCTION - _LINE_EXTINCTION[HA]) * ebv)


def _blur(image: np.ndarray, psf_pixels: float) -> np.ndarray:
    """The Gaussian PSF on the last two axes."""
    sigma = (0,) * (image.ndim - 2) + (psf_pixels, psf_pixels)
    return np.asarray(gaussian_filter(image, sigma, mode="nearest", truncate=5.0))


def _crop(image: np.ndarray) -> np.ndarray:
    return image[..., PADDING:-PADDING, PADDING:-PADDING]
