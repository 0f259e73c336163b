"""Noise-free light of a galaxy in the fibres of a bundle: starlight, line fluxes and kinematics of each exposure."""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import j1

from cubeprep.simulate.footprint import (
    CUBE_SIZE,
    FIBRE_RADIUS_ARCSEC,
    GRIDDING_VARIANCE,
    SPAXEL_ARCSEC,
    Sampling,
    sampling,
    spaxel_offsets,
)
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.ratios import BALMER, LINE_NAMES, LINE_WAVES, Bpt, line_ratios, mixing_fractions
from cubeprep.simulate.sky import PADDING, Disc, GasLayer, Starlight, disc_gas, disc_geometry, dust, starlight
from cubeprep.simulate.spectrum import extinction

# E(B-V) of the stars relative to that of the gas (Calzetti+2000, doi:10.1086/308692).
STELLAR_REDDENING = 0.44

# Rotation speed of the stars in disc and bulge relative to that of the gas.
_DISC_ROTATION, _BULGE_ROTATION = 0.90, 0.35

HA = LINE_NAMES.index("Ha-6564")
_LINE_EXTINCTION = extinction(np.array(list(LINE_WAVES.values())))[:, None, None]
_BPT_LINES = [LINE_NAMES.index(name) for name in ("NII-6585", "Ha-6564", "OIII-5008", "Hb-4862")]


@dataclass(frozen=True)
class GasComponent:
    """Gas component with its own kinematics.

    Attributes:
        flux: [line, exposure] fluxes in the order of `LINE_NAMES`, 1e-17 erg/s/cm^2/spaxel, dimmed by the galaxy's
            dust.
        velocity_kms: [exposure] flux-weighted mean over the PSF, relative to the galaxy's redshift.
        sigma_kms: [exposure] dispersion, including beam smearing of the velocity field but not the instrument.
    """

    flux: np.ndarray
    velocity_kms: np.ndarray
    sigma_kms: np.ndarray


@dataclass(frozen=True)
class StarComponent:
    """Stellar component with its own kinematics.

    Attributes:
        populations: name and log10 metallicity (solar units) of each population.
        light: [population, exposure] flux density at rest wavelength 5500 Angstrom, 1e-17 erg/s/cm^2/Angstrom/spaxel.
        velocity_kms: [exposure] velocity relative to the galaxy's redshift.
        sigma_kms: velocity dispersion, km/s.
    """

    populations: tuple[tuple[str, float], ...]
    light: np.ndarray
    velocity_kms: np.ndarray
    sigma_kms: float


@dataclass(frozen=True)
class GalaxyMaps:
    """Light of a galaxy after seeing and fibres, without noise.

    Attributes:
        sampling: the exposures.
        stars: stellar components, whose light is added.
        star_ebv: [exposure] E(B-V) of the stars, magnitudes.
        gas: gas components, whose spectra are added.
        psf_fwhm_arcsec: FWHM of the PSF of the gridded cube, arcsec.
    """

    sampling: Sampling
    stars: tuple[StarComponent, ...]
    star_ebv: np.ndarray
    gas: tuple[GasComponent, ...]
    psf_fwhm_arcsec: float

    @property
    def line_flux(self) -> np.ndarray:
        """Line fluxes [line, y, x] of all components, gridded to the cube, 1e-17 erg/s/cm^2/spaxel."""
        return self.sampling.gridded(np.sum([part.flux for part in self.gas], axis=0))

    @property
    def starlight(self) -> np.ndarray:
        """Flux density [y, x] of all stars at rest wavelength 5500 Angstrom, gridded to the cube."""
        return self.sampling.gridded(np.sum([part.light.sum(axis=0) for part in self.stars], axis=0))


def galaxy_maps(galaxy: Galaxy, psf_fwhm_arcsec: float, rng: np.random.Generator) -> GalaxyMaps:
    """Noise-free light of a galaxy in all exposures of its bundle.

    An active nucleus contributes as much gas as places the central 1.5 arcsec in the galaxy's class.

    Args:
        galaxy: the galaxy.
        psf_fwhm_arcsec: FWHM of the PSF of the gridded cube, arcsec.
        rng: generator of the positions and sizes of its H II regions.

    Raises:
        ValueError: the PSF is sharper than fibres and gridding allow.
    """
    disc, look = disc_geometry(galaxy), _Telescope(galaxy.num_fibres, psf_fwhm_arcsec)
    ebv, light = dust(galaxy, disc), starlight(galaxy, disc)
    layers = disc_gas(galaxy, disc, light, rng)
    gas = [_observed_layer(layer, ebv, disc, look) for layer in layers]
    gas += _nuclear_gas(galaxy, disc, layers, ebv, look)
    star_ebv = STELLAR_REDDENING * look.mean(ebv, light.total)
    stars = _observed_stars(galaxy, disc, light, look)
    return GalaxyMaps(look.sampling, stars, star_ebv, tuple(gas), psf_fwhm_arcsec)


def aperture(num_fibres: int, radius_arcsec: float) -> np.ndarray:
    """Mask [y, x] of the spaxels within a radius of the centre."""
    x, y = spaxel_offsets(CUBE_SIZE[num_fibres])
    return np.hypot(x, y) * SPAXEL_ARCSEC <= radius_arcsec


def nuclear_bpt(galaxy: Galaxy, maps: GalaxyMaps) -> Bpt:
    """Log10 ratios of the true narrow-line fluxes within 1.5 arcsec of the centre."""
    # BPT diagrams are defined for narrow lines; broad components, which have no forbidden lines, are left out.
    narrow = [part.flux for part in maps.gas if part.flux[LINE_NAMES.index("NII-6585")].any()]
    image = maps.sampling.gridded(np.sum(narrow, axis=0))
    flux = dict(zip(LINE_NAMES, image[:, aperture(galaxy.num_fibres, 1.5)].sum(axis=1), strict=True))
    return Bpt(
        nii_ha=float(np.log10(flux["NII-6585"] / flux["Ha-6564"])),
        oiii_hb=float(np.log10(flux["OIII-5008"] / flux["Hb-4862"])),
        sii_ha=float(np.log10((flux["SII-6718"] + flux["SII-6732"]) / flux["Ha-6564"])),
        oi_ha=float(np.log10(flux["OI-6302"] / flux["Ha-6564"])),
    )


class _Telescope:
    """Model of seeing and fibres, which gives the light in each exposure from images [y, x] on the padded grid."""

    def __init__(self, num_fibres: int, psf_fwhm_arcsec: float) -> None:
        self.sampling = sampling(num_fibres)
        self.psf_sigma = psf_fwhm_arcsec / np.sqrt(8 * np.log(2))
        # The PSF of the cube is the convolution of seeing, fibre and gridding, whose variances add; a uniform disc has
        # a quarter of its radius squared as variance along one axis.
        seeing2 = self.psf_sigma**2 - GRIDDING_VARIANCE - FIBRE_RADIUS_ARCSEC**2 / 4
        if seeing2 <= 0:
            raise ValueError(f"a PSF of {psf_fwhm_arcsec} arcsec is sharper than the fibres: expected above 2.0")
        # In Fourier space seeing and fibre are one product; the transform of a uniform disc is 2 J1(k r) / (k r).
        side = CUBE_SIZE[num_fibres] + 2 * PADDING
        self._side = next_fast_len(side + PADDING, real=True)
        y, x = np.meshgrid(
            np.fft.fftfreq(self._side, SPAXEL_ARCSEC), np.fft.rfftfreq(self._side, SPAXEL_ARCSEC), indexing="ij"
        )
        k = 2 * np.pi * np.hypot(x, y)
        rim = np.where(k > 0, k * FIBRE_RADIUS_ARCSEC, 1.0)
        self._transfer = np.exp(-0.5 * seeing2 * k**2) * np.where(k > 0, 2 * j1(rim) / rim, 1.0)
        self._where = np.stack([self.sampling.y_arcsec, self.sampling.x_arcsec]) / SPAXEL_ARCSEC + side // 2

    def see(self, images: np.ndarray) -> np.ndarray:
        """Means [..., exposure] over each fibre's aperture of images [..., y, x] blurred by the seeing."""
        shape = (self._side, self._side)
        blurred = irfft2(rfft2(images, s=shape) * self._transfer, s=shape).reshape(-1, *shape)
        seen = np.stack([map_coordinates(image, self._where, order=3, mode="mirror") for image in blurred])
        return np.maximum(seen, 0).reshape(*images.shape[:-2], -1)

    def mean(self, image: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Mean [exposure] of an image [y, x], which may be negative, weighted by another."""
        low, high = image.min(), image.max()
        # Where the weights vanish, their ratio is rounding noise; a small floor makes it the unweighted mean there.
        weight = weight + 1e-9 * weight.max()
        over, under = self.see(np.stack([weight * (image - low), weight]))
        return np.asarray(np.clip(low + over / np.maximum(under, 1e-12 * weight.max()), low, high))

    def as_gridded(self, images: np.ndarray) -> np.ndarray:
        """Images [..., y, x] convolved with the PSF of the gridded cube."""
        sigma = (0.0,) * (images.ndim - 2) + (self.psf_sigma / SPAXEL_ARCSEC,) * 2
        return np.asarray(gaussian_filter(images, sigma, mode="nearest"))


def _observed_stars(galaxy: Galaxy, disc: Disc, light: Starlight, look: _Telescope) -> tuple[StarComponent, ...]:
    """Stellar components of bulge and disc; the disc's stars are more metal-poor."""
    metals = galaxy.log_star_metals
    parts = (
        ((("old", metals),), [light.bulge], _BULGE_ROTATION, galaxy.sigma_star_kms),
        (
            (("young", metals - 0.1), ("middle", metals - 0.1), ("old", metals - 0.25)),
            [light.young, light.middle, light.old],
            _DISC_ROTATION,
            galaxy.sigma_disc_kms,
        ),
    )
    return tuple(
        StarComponent(
            populations,
            look.see(np.stack(images)),
            look.mean(rotation * disc.velocity_kms, np.sum(images, axis=0)),
            sigma,
        )
        for populations, images, rotation, sigma in parts
    )


def _observed_layer(layer: GasLayer, ebv: np.ndarray, disc: Disc, look: _Telescope) -> GasComponent:
    flux = look.see(_dusty(layer, ebv))
    velocity = look.mean(disc.velocity_kms, layer.halpha)
    smearing = look.mean(disc.velocity_kms**2, layer.halpha) - velocity**2
    return GasComponent(flux, velocity, np.sqrt(layer.sigma_kms**2 + np.maximum(smearing, 0.0)))


def _dusty(layer: GasLayer, ebv: np.ndarray | float) -> np.ndarray:
    """Line fluxes [line, y, x] dimmed by dust, normalised so that Halpha has the flux of the layer."""
    ratios = line_ratios(layer.bpt, heii_hb=layer.heii_hb)
    ratios = ratios.reshape(*ratios.shape, *(1,) * (3 - ratios.ndim))
    dimming = 10 ** (-0.4 * (_LINE_EXTINCTION - _LINE_EXTINCTION[HA]) * ebv)
    return np.asarray(layer.halpha * (ratios / ratios[HA]) * dimming)


def _nuclear_gas(
    galaxy: Galaxy, disc: Disc, layers: list[GasLayer], ebv: np.ndarray, look: _Telescope
) -> list[GasComponent]:
    """Gas ionised by an active nucleus, and its broad-line region; empty for classes without one."""
    if galaxy.galaxy_class not in ("composite", "seyfert") and galaxy.unusual != "offnuclear_agn":
        return []
    offset_arcsec, size_arcsec = 0.0, galaxy.nlr_arcsec
    if galaxy.unusual == "offnuclear_agn":
        # At 0.8 half-light radii along the major axis, limited to a range outside the central PSF and well inside the
        # bundle; compact, so that the galaxy's own nucleus keeps its class.
        offset_arcsec, size_arcsec = float(np.clip(0.8 * galaxy.re_arcsec, 4.0, 5.0)), 0.5
    pa = np.radians(galaxy.pa_deg)
    x, y = -offset_arcsec * np.sin(pa), offset_arcsec * np.cos(pa)
    distance = np.hypot(disc.x_arcsec - x, disc.y_arcsec - y)
    inside = distance <= 1.5
    around = look.as_gridded(np.sum([_dusty(layer, ebv)[_BPT_LINES] for layer in layers], axis=0))[:, inside].sum(
        axis=1
    )
    share = _nuclear_share(galaxy, around)
    profile = np.exp(-0.5 * (distance / size_arcsec) ** 2)
    # Normalised after convolution with the PSF, so that the fraction holds for the observed flux.
    profile *= share / (1 - share) * around[1] / look.as_gridded(profile)[inside].sum()
    nucleus = GasLayer(profile, galaxy.agn_bpt, galaxy.agn_sigma_kms, galaxy.agn_heii_hb)
    flux = look.see(_dusty(nucleus, galaxy.ebv))
    still = np.zeros(flux.shape[1])
    gas = [GasComponent(flux, still, still + galaxy.agn_sigma_kms)]
    if galaxy.broad_fwhm_kms:
        point = np.where(distance == distance.min(), 12.0 * profile.sum(), 0.0)
        broad = look.see(_dusty(GasLayer(point, galaxy.agn_bpt, 0.0), galaxy.ebv))
        broad *= np.array([name in BALMER for name in LINE_NAMES])[:, None]
        gas.append(GasComponent(broad, still, still + galaxy.broad_fwhm_kms / np.sqrt(8 * np.log(2))))
    return gas


def _nuclear_share(galaxy: Galaxy, around: np.ndarray) -> float:
    """Fraction of Halpha within 1.5 arcsec that the nucleus contributes.

    Args:
        galaxy: the galaxy.
        around: fluxes of the disc's gas there, in the order of `_BPT_LINES`.
    """
    if galaxy.unusual == "offnuclear_agn":
        return 0.75
    nii, ha, oiii, hb = around
    stars = Bpt(float(np.log10(nii / ha)), float(np.log10(oiii / hb)), 0.0, 0.0)
    first, second = mixing_fractions(stars, galaxy.agn_bpt)
    low, high = (first, second) if galaxy.galaxy_class == "composite" else (second, 1.0)
    return low + galaxy.agn_mixing * (high - low)
