"""Writes LOGCUBEs as the MaNGA Data Reduction Pipeline (v3_1_1) does, with all HDUs of the real files in order."""

from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import triu

from cubeprep.simulate.cube import Cube, line_spread, point_source
from cubeprep.simulate.fitsfile import whole_gzip, write_image, write_planes, write_primary, write_table
from cubeprep.simulate.footprint import SPAXEL_ARCSEC, Sampling, sampling
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.instrument import FIRST_WAVE, LOG_STEP, NUM_WAVES, WAVE, lsf_sigma_pixels, resolution
from cubeprep.simulate.target import EXPOSURE_SECONDS, NUM_EXPOSURES, Target, common_cards

FLUX_UNIT = "1E-17 erg/s/cm^2/Ang/spaxel"

# Approximate edges of the SDSS bands, Angstrom.
IMAGE_BANDS = {"G": (3900.0, 5400.0), "R": (5600.0, 7000.0), "I": (6900.0, 8200.0), "Z": (8200.0, 10000.0)}

_PLANES_AT_ONCE = 256
# Smallest correlation in the table, as in the real ones.
_LEAST_CORRELATION = 0.01


def write_logcube(path: Path, target: Target, galaxy: Galaxy, cube: Cube) -> None:
    """Writes a LOGCUBE, completely or not at all.

    The gzip header contains neither name nor time, so equal cubes give identical files. Cubes are written in slabs of
    wavelengths, which needs little memory beyond the spectra themselves.

    Args:
        path: of the file.
        target: the observation.
        galaxy: the galaxy.
        cube: the observed cube.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_gzip(path) as file:
        write_primary(file, [*common_cards(target, galaxy), ("BUNIT", FLUX_UNIT, "Unit of the flux")])
        shape, wcs = (NUM_WAVES, *cube.covered.shape), _cube_wcs(galaxy, cube.covered.shape[0])
        for name, spectra in (("FLUX", cube.flux), ("IVAR", cube.ivar)):
            write_planes(file, name, -32, shape, planes(cube.covered, spectra), {**wcs, **_HDU_CLASS[name]})
        nothing = np.int32(1 | 2 | 1 << 10)  # NOCOV, LOWCOV and DONOTUSE outside the bundle
        mask = planes(cube.covered, cube.mask, ">i4", nothing)
        write_planes(file, "MASK", 32, shape, mask, {**wcs, **_HDU_CLASS["MASK"]})
        for name, sigma in zip(("LSFPOST", "LSFPRE"), line_spread(), strict=True):
            constant = np.broadcast_to(sigma.astype(np.float32), cube.flux.shape)
            write_planes(file, name, -32, shape, planes(cube.covered, constant), {**wcs, "BUNIT": "Angstrom"})
        for name, vector in _vectors().items():
            write_image(file, name, vector)
        write_table(file, "OBSINFO", _exposures(target))
        for name, image in _images(cube, galaxy.num_fibres, target.psf_fwhm_arcsec).items():
            write_image(file, name, image, sky_wcs(galaxy, cube.covered.shape[0]))
        for band, edges in IMAGE_BANDS.items():
            index = int(np.argmin(np.abs(np.mean(edges) - WAVE)))
            cards = _correlation_cards(cube.covered.shape[0], index)
            write_table(file, f"{band}CORREL", _correlations(sampling(galaxy.num_fibres)), cards)


def sky_wcs(galaxy: Galaxy, size: int) -> dict[str, Any]:
    """WCS cards of the celestial axes; north is up, east is left."""
    centre = size // 2 + 1.0
    return {
        "CRPIX1": centre, "CRPIX2": centre, "CRVAL1": galaxy.ra_deg, "CRVAL2": galaxy.dec_deg,
        "CD1_1": -SPAXEL_ARCSEC / 3600, "CD2_2": SPAXEL_ARCSEC / 3600,
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "RADESYS": "FK5", "EQUINOX": 2000.0,
    }  # fmt: skip


def broad_band(cube: Cube, band: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean flux density and mean signal-to-noise ratio per pixel [covered spaxel] in a band, over pixels with data."""
    low, high = IMAGE_BANDS[band]
    inside = slice(*np.searchsorted(WAVE, (low, high)))
    seen = cube.ivar[:, inside] > 0
    count = np.maximum(seen.sum(axis=1), 1)
    flux = cube.flux[:, inside]
    ratio = (flux * np.sqrt(cube.ivar[:, inside])).sum(axis=1, dtype=np.float64) / count
    return flux.sum(axis=1, dtype=np.float64) / count, ratio


_HDU_CLASS = {
    "FLUX": {
        "HDUCLASS": "SDSS", "HDUCLAS1": "CUBE", "HDUCLAS2": "DATA", "ERRDATA": "IVAR", "QUALDATA": "MASK",
        "BUNIT": FLUX_UNIT,
    },
    "IVAR": {
        "HDUCLASS": "SDSS", "HDUCLAS1": "CUBE", "HDUCLAS2": "ERROR", "HDUCLAS3": "INVMSE", "SCIDATA": "FLUX",
        "QUALDATA": "MASK",
    },
    "MASK": {
        "HDUCLASS": "SDSS", "HDUCLAS1": "CUBE", "HDUCLAS2": "QUALITY", "HDUCLAS3": "FLAG64BIT", "SCIDATA": "FLUX",
        "ERRDATA": "IVAR", "MASKNAME": "MANGA_DRP3PIXMASK",
    },
}  # fmt: skip


def _cube_wcs(galaxy: Galaxy, size: int) -> dict[str, Any]:
    # FITS defines WAVE-LOG as wave = CRVAL3 exp(CD3_3 (p - CRPIX3) / CRVAL3) (Greisen+2006,
    # doi:10.1051/0004-6361:20053818).
    return {
        **sky_wcs(galaxy, size),
        "CRPIX3": 1.0,
        "CRVAL3": FIRST_WAVE,
        "CD3_3": FIRST_WAVE * np.log(10) * LOG_STEP,
        "CTYPE3": "WAVE-LOG",
        "CUNIT3": "Angstrom",
    }


def planes(inside: np.ndarray, spectra: np.ndarray, dtype: str = ">f4", outside: Any = 0) -> Iterator[bytes]:
    """Slabs of a big-endian cube [wavelength, y, x] for `write_planes`.

    Args:
        inside: [y, x] bool, spaxels that have a spectrum.
        spectra: [spaxel, wavelength] their spectra.
        dtype: big-endian type of the cube.
        outside: value in the other spaxels.
    """
    where = np.flatnonzero(inside)
    for start in range(0, NUM_WAVES, _PLANES_AT_ONCE):
        part = spectra[:, start : start + _PLANES_AT_ONCE].T
        slab = np.full((part.shape[0], inside.size), outside, dtype=dtype)
        slab[:, where] = part
        yield slab.tobytes()


@lru_cache(maxsize=1)
def _vectors() -> dict[str, np.ndarray]:
    """Vectors [wavelength] by HDU: wavelengths and spectral resolution with the pixel's width and (PRE-) without it."""
    post = resolution(WAVE)
    pre = post * lsf_sigma_pixels(WAVE, with_pixel=True) / lsf_sigma_pixels(WAVE, with_pixel=False)
    # The real resolution varies by some 2% from spaxel to spaxel.
    return {"WAVE": WAVE, "SPECRES": post, "SPECRESD": 0.02 * post, "PRESPECRES": pre, "PRESPECRESD": 0.02 * pre}


def _exposures(target: Target) -> dict[str, tuple[str, str, Any]]:
    """Columns of the table of exposures: FITS format, unit and values."""
    count = NUM_EXPOSURES
    day = (date(1858, 11, 17) + timedelta(days=target.mjd)).isoformat()
    return {
        "SLITFILE": ("40A", "", [f"slitmap-{target.plate}-{target.mjd}-01.par"] * count),
        "MJD": ("J", "", [target.mjd] * count),
        "EXPNUM": ("12A", "", [f"{200000 + 9 * (target.plate - 8001) + index:08d}" for index in range(count)]),
        "EXPTIME": ("E", "s", [EXPOSURE_SECONDS] * count),
        "DATE-OBS": ("10A", "", [day] * count),
        "SET": ("J", "", [index % 3 + 1 for index in range(count)]),
        "MGDPOS": ("2A", "", ["NSE"[index // 3] for index in range(count)]),
    }


def _images(cube: Cube, num_fibres: int, psf_fwhm_arcsec: float) -> dict[str, np.ndarray]:
    """Broad-band images [y, x] in nanomaggies, and their PSFs: a gridded point source, normalised to a sum of 1."""
    images = {}
    for band, edges in IMAGE_BANDS.items():
        # A nanomaggie is 3.631e-29 erg/s/cm^2/Hz, the speed of light 2.998e18 Angstrom/s.
        per_flux = 1e-17 * np.mean(edges) ** 2 / 2.998e18 / 3.631e-29
        images[f"{band}IMG"] = np.zeros(cube.covered.shape, dtype=np.float32)
        images[f"{band}IMG"][cube.covered] = broad_band(cube, band)[0] * per_flux
    seen = sampling(num_fibres)
    psf = seen.gridded(point_source(seen, 0.0, 0.0, psf_fwhm_arcsec))
    return images | {f"{band}PSF": (psf / psf.sum()).astype(np.float32) for band in IMAGE_BANDS}


@lru_cache(maxsize=2)
def _correlations(seen: Sampling) -> dict[str, tuple[str, str, Any]]:
    """Columns of the table of noise correlations between spaxels that share exposures; each pair appears once.

    The noise of exposures is independent, so the covariance of gridded spaxels is W W^T for weights W.
    """
    covariance = triu(seen.weights @ seen.weights.T).tocoo()
    sigma = np.sqrt((seen.weights.power(2)).sum(axis=1))
    rho = covariance.data / (sigma[covariance.row] * sigma[covariance.col])
    kept = rho > _LEAST_CORRELATION
    y, x = np.nonzero(seen.covered)
    i, j = covariance.row[kept], covariance.col[kept]
    integers = {"INDXI_C1": x[i], "INDXI_C2": y[i], "INDXJ_C1": x[j], "INDXJ_C2": y[j]}
    table: dict[str, tuple[str, str, Any]] = {name: ("J", "", values) for name, values in integers.items()}
    return {**table, "RHOIJ": ("D", "", rho[kept])}


def _correlation_cards(size: int, index: int) -> dict[str, Any]:
    return {
        "COVSHAPE": f"({size * size}, {size * size})", "COVRWSHP": f"({size}, {size})", "COVTYPE": "Correlation",
        "BBWAVE": float(WAVE[index]), "BBINDEX": index,
    }  # fmt: skip
