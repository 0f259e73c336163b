"""Simulates a cube as the survey would deliver it: fibre exposures gridded to spaxels, with noise, IVAR and masks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array, diags_array

from cubeprep.masks import DRP3PIXMASK, bits_value
from cubeprep.simulate.defects import Defects, lost_pixels
from cubeprep.simulate.footprint import GRIDDING_VARIANCE, LOW_COVERAGE, Sampling, refracted_depth
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.instrument import (
    NUM_MISSING,
    NUM_WAVES,
    WAVE,
    lsf_sigma_pixels,
    noise_model,
    pixel_of,
    sky_line_excess,
)
from cubeprep.simulate.maps import GalaxyMaps
from cubeprep.simulate.spectrum import extinction, render_lines
from cubeprep.simulate.stars import redden, render_stars, template

# Combinations as the DRP sets them: LOWCOV implies DONOTUSE, NOCOV implies both.
_LOWCOV = bits_value(["LOWCOV", "DONOTUSE"], DRP3PIXMASK)
_NOCOV = bits_value(["NOCOV", "LOWCOV", "DONOTUSE"], DRP3PIXMASK)
_FORESTAR = bits_value(["FORESTAR", "DONOTUSE"], DRP3PIXMASK)
_DEADFIBER = bits_value(["DEADFIBER", "DONOTUSE"], DRP3PIXMASK)

# Spaxels are masked within this radius of a foreground star, arcsec, and where dead fibres have more than this fraction
# of the weights.
_STAR_RADIUS_ARCSEC = 3.25
_MAJOR_SHARE = 0.30


@dataclass(frozen=True)
class Cube:
    """An observed galaxy; only covered spaxels have spectra.

    Attributes:
        covered: [y, x] bool, spaxels with any exposure.
        flux: float32 [covered spaxel, wavelength], 1e-17 erg/s/cm^2/Angstrom/spaxel; 0 where NOCOV.
        ivar: inverse variance of `flux`, the same shape; 0 where NOCOV.
        mask: uint16 DRP3PIXMASK bits, the same shape.
    """

    covered: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray


def star_spectra(galaxy: Galaxy, maps: GalaxyMaps) -> np.ndarray:
    """Noise-free starlight [exposure, wavelength], float32, dimmed by the Milky Way's dust."""
    spectra = np.zeros((len(maps.sampling.fibre), NUM_WAVES), dtype=np.float32)
    for part in maps.stars:
        # A pixel is 69 km/s wide, so this margin exceeds the largest shift.
        margin = int(np.ceil(np.abs(part.velocity_kms).max() / 60)) + 3
        rows = [template(name, metals, galaxy.z, part.sigma_kms, margin) for name, metals in part.populations]
        render_stars(spectra, part.light, part.velocity_kms, np.stack(rows))
    redden(spectra, maps.star_ebv, galaxy.z)
    spectra *= galactic_transmission(galaxy)
    return spectra


def true_spectra(galaxy: Galaxy, maps: GalaxyMaps) -> np.ndarray:
    """Noise-free spectra [exposure, wavelength], float32; dimmed by the Milky Way's dust, as the DRP leaves them."""
    lines = np.zeros((len(maps.sampling.fibre), NUM_WAVES), dtype=np.float32)
    for part in maps.gas:
        render_lines(lines, part.flux, galaxy.z, part.velocity_kms, part.sigma_kms)
    lines *= galactic_transmission(galaxy)
    lines += star_spectra(galaxy, maps)
    return lines


def galactic_transmission(galaxy: Galaxy) -> np.ndarray:
    """Transmission [wavelength] of the Milky Way's dust, float32."""
    return np.asarray(10 ** (-0.4 * galaxy.ebv_galactic * extinction(WAVE)), dtype=np.float32)


def observe(
    galaxy: Galaxy,
    maps: GalaxyMaps,
    depth: float,
    mantissa_bits: int,
    rng: np.random.Generator,
    defects: Defects | None = None,
) -> Cube:
    """Simulated observation of a galaxy; each call with another `rng` is a repeat observation.

    Noise is drawn for every fibre exposure before gridding, so neighbouring spaxels, which share exposures, have
    covariant errors. IVAR holds only the variance of each spaxel, as in the real files.

    Args:
        galaxy: the galaxy.
        maps: its light in each exposure, without noise.
        depth: factor by which the noise is divided.
        mantissa_bits: significant bits of FLUX and IVAR to keep; fewer compress better.
        rng: generator of this observation.
        defects: defects of this observation; none by default.
    """
    defects = defects or Defects()
    spectra = true_spectra(galaxy, maps)
    mask = _spaxel_masks(maps, defects)
    _add_foreground(spectra, maps, defects)
    weights = _living_weights(maps.sampling, defects)
    sky, per_flux = (value.astype(np.float32) for value in noise_model())
    # Noise of the sky and photon noise of the source. The noise model is that of a well-covered spaxel, which averages
    # exposures; dividing by its squared weights gives the variance of one exposure.
    variance = np.maximum(spectra, 0)
    variance *= per_flux
    variance += sky
    variance *= np.float32(1 / ((depth * defects.depth) ** 2 * _squared_weight(maps.sampling)))
    spectra += np.sqrt(variance) * rng.standard_normal(spectra.shape, dtype=np.float32)
    # Systematic errors come after the noise: IVAR does not account for them.
    if defects.sky_residual:
        spectra += (defects.sky_residual * np.sqrt(sky) * (sky_line_excess() > 0.3)).astype(np.float32)
    if defects.blue_loss:
        spectra *= (1 - defects.blue_loss * np.clip((6000 - WAVE) / 2400, 0, 1)).astype(np.float32)

    flux = weights @ spectra
    ivar = weights.power(2) @ variance
    _leave_out(flux, ivar, mask, weights, (spectra, variance), lost_pixels(maps.sampling, defects, rng))
    empty = (mask & 1) > 0
    flux[empty], ivar[empty] = 0, np.inf
    np.reciprocal(ivar, out=ivar)
    for values in (flux, ivar):
        keep_bits(values, mantissa_bits)
    return Cube(maps.sampling.covered, flux, ivar, mask)


def point_source(sampling: Sampling, x_arcsec: float, y_arcsec: float, psf_fwhm_arcsec: float) -> np.ndarray:
    """Flux [exposure] that fibres receive from a point source through the seeing, 1 for a fibre centred on it.

    The seeing is the PSF of the cube without the broadening that gridding adds later.
    """
    seen2 = (psf_fwhm_arcsec / np.sqrt(8 * np.log(2))) ** 2 - GRIDDING_VARIANCE
    distance2 = (sampling.x_arcsec - x_arcsec) ** 2 + (sampling.y_arcsec - y_arcsec) ** 2
    return np.asarray(np.exp(-0.5 * distance2 / seen2))


def line_spread() -> tuple[np.ndarray, np.ndarray]:
    """Sigma [wavelength] of the line-spread function, Angstrom: with the pixel (LSFPOST) and without it (LSFPRE)."""
    width = WAVE * np.log(10) * 1e-4
    post, pre = (lsf_sigma_pixels(WAVE, with_pixel=with_pixel) * width for with_pixel in (True, False))
    return post, pre


@lru_cache(maxsize=8)
def _squared_weight(sampling: Sampling) -> float:
    """Median sum of squared weights of well-covered spaxels: the ratio of a spaxel's variance to an exposure's."""
    squared = np.asarray(sampling.weights.power(2).sum(axis=1)).ravel()
    return float(np.median(squared[sampling.depth[sampling.covered] > LOW_COVERAGE]))


def _living_weights(sampling: Sampling, defects: Defects) -> csr_array:
    """Weights without dead fibres, renormalised so that each row sums to 1, or to 0 if only dead fibres cover it."""
    if not defects.dead_fibres:
        return sampling.weights
    alive = ~np.isin(sampling.fibre, defects.dead_fibres)
    left = sampling.weights @ alive.astype(np.float32)
    scale = np.where(left > 0, 1 / np.where(left > 0, left, 1), 0).astype(np.float32)
    return csr_array(diags_array(scale) @ sampling.weights @ diags_array(alive.astype(np.float32)))


def _spaxel_masks(maps: GalaxyMaps, defects: Defects) -> np.ndarray:
    """Mask [covered spaxel, wavelength] for coverage, dead fibres, the foreground star and the missing red end."""
    sampling = maps.sampling
    covered = sampling.covered
    mask = np.zeros((int(covered.sum()), NUM_WAVES), dtype=np.uint16)
    dead = sampling.weights @ np.isin(sampling.fibre, defects.dead_fibres).astype(np.float32)
    # Atmospheric refraction shifts the fibres on the sky with wavelength, so a spaxel at the rim may be covered in only
    # part of the spectrum.
    edges, depths = refracted_depth(covered.shape[0], sampling)
    for start, stop, image in zip(edges[:-1], edges[1:], depths, strict=True):
        depth = image[covered] * (1 - dead)
        mask[depth < LOW_COVERAGE, start:stop] |= _LOWCOV
        mask[depth <= 1e-6, start:stop] |= _NOCOV
    mask[dead > _MAJOR_SHARE] |= _DEADFIBER
    if defects.star_arcsec:
        mask[_distance_arcsec(covered, *defects.star_arcsec) < _STAR_RADIUS_ARCSEC] |= _FORESTAR
    mask[:, NUM_WAVES - NUM_MISSING :] |= _NOCOV
    return mask


def _distance_arcsec(covered: np.ndarray, x_arcsec: float, y_arcsec: float) -> np.ndarray:
    """Distance [covered spaxel] from a point, arcsec."""
    y, x = np.nonzero(covered)
    centre = covered.shape[0] // 2
    return np.hypot((x - centre) * 0.5 - x_arcsec, (y - centre) * 0.5 - y_arcsec)


def _add_foreground(spectra: np.ndarray, maps: GalaxyMaps, defects: Defects) -> None:
    """Adds a foreground star to spectra [exposure, wavelength]; its spectrum is the old population at redshift 0."""
    if not defects.star_arcsec:
        return
    star = template("old", 0.0, 0.0, 10.0, 0)
    star = star / star[int(pixel_of(6500.0))]
    seen = defects.star_brightness * point_source(maps.sampling, *defects.star_arcsec, maps.psf_fwhm_arcsec)
    spectra += seen.astype(np.float32)[:, None] * star


def _leave_out(
    flux: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    weights: csr_array,
    exposures: tuple[np.ndarray, np.ndarray],
    lost: tuple[np.ndarray, np.ndarray],
) -> None:
    """Regrids, in place, the wavelengths at which exposures lack pixels; masks spaxels with too little coverage left.

    At these wavelengths the weights differ from those of the rest of the cube: they are renormalised.

    Args:
        flux, variance, mask: [covered spaxel, wavelength].
        weights: [covered spaxel, exposure] gridding weights.
        exposures: flux and variance [exposure, wavelength].
        lost: indices of the exposures and wavelengths of the lost pixels.
    """
    waves, column = np.unique(lost[1], return_inverse=True)
    if not len(waves):
        return
    good = np.ones((exposures[0].shape[0], len(waves)), dtype=np.float32)
    good[lost[0], column] = 0
    left = weights @ good
    some = np.where(left > 1e-6, left, 1)
    flux[:, waves] = (weights @ (exposures[0][:, waves] * good)) / some
    variance[:, waves] = (weights.power(2) @ (exposures[1][:, waves] * good)) / some**2
    part = mask[:, waves]
    part[left < LOW_COVERAGE] |= _LOWCOV
    part[left <= 1e-6] |= _NOCOV
    mask[:, waves] = part


def keep_bits(values: np.ndarray, bits: int) -> None:
    """Rounds float32 values, in place, to `bits` bits of mantissa."""
    drop = 23 - bits
    if drop:
        raw = values.view(np.uint32)
        # Adding half of the last kept bit and clearing the bits below rounds to nearest; a carry raises the exponent.
        raw += np.uint32(1 << (drop - 1))
        raw &= np.uint32((0xFFFFFFFF << drop) & 0xFFFFFFFF)
