"""A cube as the survey would deliver it: spectra of the covered spaxels, noise that ivar knows of, and masks."""

from dataclasses import dataclass

import numpy as np

from cubeprep.masks import DRP3PIXMASK, bits_value
from cubeprep.simulate.footprint import SPAXEL_ARCSEC, coverage, spaxel_offsets
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.maps import GalaxyMaps
from cubeprep.simulate.spectrum import (
    LOG_STEP,
    NUM_WAVES,
    WAVE,
    extinction,
    lsf_sigma_pixels,
    pixel_of,
    render_lines,
    render_stars,
    stellar_templates,
)

# Noise of the eight real spectra in shared/data/spectra, at pixels 100, 500, ...: the floor that the two faintest show
# (1e-17 erg/s/cm^2/Angstrom/spaxel), and the variance that flux adds in the bright ones (variance per flux).
_ANCHORS = np.arange(100, NUM_WAVES, 400)
_SKY_SIGMA = np.array([0.0378, 0.0164, 0.0123, 0.0104, 0.0093, 0.0109, 0.0076, 0.0064, 0.0076, 0.0073, 0.0093, 0.0390])
_FLUX_VARIANCE = np.array([7.5, 3.2, 2.7, 2.1, 1.9, 2.0, 1.3, 1.1, 1.1, 1.0, 1.2, 4.0]) * 1e-4

# Sky lines in vacuum, Angstrom: [O I], Na D, and the stronger OH lines.
_SKY_LINES = np.array(
    [5578.9, 5892.0, 6302.0, 6365.5, 7278, 7318, 7343, 7718, 7753, 7796, 7823, 7915, 7967, 7995, 8027, 8064, 8347, 8401,
     8432, 8467, 8495, 8507, 8780, 8829, 8852, 8888, 8922, 8961, 9002, 9041, 9104, 9315, 9378, 9441, 9480, 9523, 9569,
     9622, 9722, 9794, 9875, 10016, 10084, 10126, 10175, 10289]
)  # fmt: skip

# Shares of cubes that have a foreground star, or a broken fibre.
FORESTAR_SHARE = 0.08
DEADFIBER_SHARE = 0.08


@dataclass(frozen=True)
class Cube:
    """An observed galaxy; only covered spaxels have spectra.

    Attributes:
        covered: spaxels [y, x] with any exposure.
        flux: float32 [covered spaxels, wavelengths], 1e-17 erg/s/cm^2/Angstrom/spaxel.
        ivar: inverse variance, the same shape; above 0.
        mask: DRP3PIXMASK bits [y, x], the same at all wavelengths.
    """

    covered: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray


def sky_sigma() -> np.ndarray:
    """Noise without any source at MaNGA's depth, [wavelengths], with the residuals of sky lines."""
    pixels = np.arange(NUM_WAVES)
    smooth = np.exp(np.interp(pixels, _ANCHORS, np.log(_SKY_SIGMA)))
    strength = np.where(_SKY_LINES == 5578.9, 6.0, np.where(_SKY_LINES < 7000, 1.0, 2.0))
    lines = strength[:, None] * np.exp(-0.5 * ((pixels - pixel_of(_SKY_LINES)[:, None]) / 1.3) ** 2)
    return np.asarray(smooth * (1 + lines.sum(axis=0)))


def true_spectra(galaxy: Galaxy, maps: GalaxyMaps, covered: np.ndarray) -> np.ndarray:
    """Noise-free spectra [covered spaxels, wavelengths], float32, with the Milky Way's dust, which the DRP leaves."""
    velocity = maps.star_velocity_kms[covered]
    margin = int(np.ceil(np.abs(velocity).max() / 60)) + 3
    templates = stellar_templates(galaxy.z, galaxy.sigma_star_kms, margin)
    spectra = np.empty((int(covered.sum()), NUM_WAVES), dtype=np.float32)
    render_stars(spectra, maps.starlight[:, covered], velocity, templates)
    for part in maps.gas:
        render_lines(spectra, part.flux[:, covered], galaxy.z, part.velocity_kms[covered], part.sigma_kms[covered])
    spectra *= (10 ** (-0.4 * galaxy.ebv_galactic * extinction(WAVE))).astype(np.float32)
    return spectra


def observe(galaxy: Galaxy, maps: GalaxyMaps, depth: float, mantissa_bits: int, rng: np.random.Generator) -> Cube:
    """Takes a cube of a galaxy: each call with another `rng` is a repeat observation.

    Args:
        galaxy: what is observed.
        maps: its maps, through the PSF.
        depth: the noise is divided by it.
        mantissa_bits: significant bits to keep; FLUX has noise drawn from the IVAR that is kept.
        rng: of this observation.
    """
    exposure = coverage(galaxy.num_fibres)
    covered = exposure > 0
    spectra = true_spectra(galaxy, maps, covered)
    mask = np.where(covered, 0, bits_value(["NOCOV", "DONOTUSE"], DRP3PIXMASK)).astype(np.int32)
    mask[covered & (exposure < 0.999)] |= bits_value(["LOWCOV", "DONOTUSE"], DRP3PIXMASK)
    exposure = exposure.copy()
    _add_defects(spectra, exposure, mask, rng)

    ivar = np.maximum(spectra, 0.0)
    ivar *= np.exp(np.interp(np.arange(NUM_WAVES), _ANCHORS, np.log(_FLUX_VARIANCE))).astype(np.float32)
    ivar += (sky_sigma() ** 2).astype(np.float32)
    ivar /= np.float32(depth**2) * exposure[covered].astype(np.float32)[:, None]
    np.reciprocal(ivar, out=ivar)
    _keep_bits(ivar, mantissa_bits)
    noise = rng.standard_normal(spectra.shape, dtype=np.float32)
    noise /= np.sqrt(ivar)
    spectra += noise
    _keep_bits(spectra, mantissa_bits)
    return Cube(covered, spectra, ivar, mask)


def _add_defects(spectra: np.ndarray, exposure: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Puts a foreground star or a broken fibre into some cubes, masked as the DRP does; all arguments change."""
    covered = exposure > 0
    x, y = spaxel_offsets(mask.shape[0])
    reach = 0.35 * mask.shape[0]
    star, dead = rng.random(2) < (FORESTAR_SHARE, DEADFIBER_SHARE)
    (star_r, dead_r), (star_angle, dead_angle) = reach * np.sqrt(rng.uniform(0.2, 1, 2)), rng.uniform(0, 2 * np.pi, 2)
    brightness = rng.lognormal(0.5, 0.6)
    if star:
        distance = np.hypot(x - star_r * np.cos(star_angle), y - star_r * np.sin(star_angle))
        profile = brightness * np.exp(-0.5 * (distance / 2.12) ** 2)
        spectra += profile[covered].astype(np.float32)[:, None] * (WAVE / 6500.0).astype(np.float32) ** -1.0
        mask[covered & (distance < 6.5)] |= bits_value(["FORESTAR", "DONOTUSE"], DRP3PIXMASK)
    if dead:
        distance = np.hypot(x - dead_r * np.cos(dead_angle), y - dead_r * np.sin(dead_angle))
        broken = covered & (distance * SPAXEL_ARCSEC < 1.25)
        exposure[broken] *= 0.3
        mask[broken] |= bits_value(["DEADFIBER", "DONOTUSE"], DRP3PIXMASK)


def _keep_bits(values: np.ndarray, bits: int) -> None:
    """Rounds float32 values, in place, to so many bits of mantissa."""
    drop = 23 - bits
    if drop:
        raw = values.view(np.uint32)
        raw += np.uint32(1 << (drop - 1))
        raw &= np.uint32((0xFFFFFFFF << drop) & 0xFFFFFFFF)


def line_spread() -> tuple[np.ndarray, np.ndarray]:
    """Sigma of the line-spread function in Angstrom, [wavelengths]: with the pixel (LSFPOST) and without (LSFPRE)."""
    width = WAVE * np.log(10) * LOG_STEP
    post, pre = (lsf_sigma_pixels(WAVE, with_pixel=with_pixel) * width for with_pixel in (True, False))
    return post, pre
