"""Writes the files of the MaNGA Data Reduction Pipeline, release v3_1_1: LOGCUBEs and the drpall table.

HDUs in their real order. Left out, since no reader here uses them: OBSINFO, IIMG and ZIMG, IPSF and ZPSF, and the
sparse correlation matrices GCORREL to ZCORREL.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from isal import igzip

from cubeprep.simulate.cube import Cube, line_spread
from cubeprep.simulate.footprint import CUBE_SIZE, SPAXEL_ARCSEC, spaxel_offsets
from cubeprep.simulate.galaxy import HUBBLE_KMS_MPC, Galaxy
from cubeprep.simulate.spectrum import FIRST_WAVE, LOG_STEP, NUM_WAVES, WAVE, lsf_sigma_pixels, resolution

DRP_VERSION = "v3_1_1"
FLUX_UNIT = "1E-17 erg/s/cm^2/Ang/spaxel"
IMAGE_BANDS = {"G": (3900.0, 5400.0), "R": (5600.0, 7000.0)}

# MANGA_TARGET1: bit 10 is the primary sample, bit 11 the secondary.
PRIMARY_SAMPLE, SECONDARY_SAMPLE = 1 << 10, 1 << 11

_BLOCK = 2880
_PLANES_AT_ONCE = 256


@dataclass(frozen=True)
class Target:
    """What the survey calls an observation.

    Attributes:
        plate: of the plug plate.
        ifudsgn: bundle size and its number on the plate, such as `12705`.
        mangaid: of the galaxy; repeat observations share it.
        psf_fwhm_arcsec: of the reconstructed image.
    """

    plate: int
    ifudsgn: str
    mangaid: str
    psf_fwhm_arcsec: float

    @property
    def plateifu(self) -> str:
        """The identity of the observation."""
        return f"{self.plate}-{self.ifudsgn}"

    @property
    def cube_path(self) -> Path:
        """Of the LOGCUBE, below the survey's root, as in the Science Archive Server."""
        return Path(str(self.plate)) / "stack" / f"manga-{self.plateifu}-LOGCUBE.fits.gz"


def write_logcube(path: Path, target: Target, galaxy: Galaxy, cube: Cube) -> None:
    """Writes a LOGCUBE; whoever looks sees the whole file or none.

    The header of the gzip member has neither name nor time, so equal cubes are equal files. Cubes are written in slabs
    of wavelengths: next to the spectra themselves little memory is needed.
    """
    # Level 1 of isal: higher ones gain under 1% on noise. The 3-D LSF cubes, constant in each plane, gain 100-fold.
    with _whole_file(path) as raw, igzip.IGzipFile("", "wb", 1, raw, mtime=0) as file:
        _write_hdu(file, _primary_header(target, galaxy), iter(()))
        for name, spectra, cards in (
            ("FLUX", cube.flux, _HDU_CLASS["FLUX"]),
            ("IVAR", cube.ivar, _HDU_CLASS["IVAR"]),
        ):
            _write_hdu(file, _cube_header(name, -32, galaxy, cards), _planes(cube.covered, spectra))
        mask = np.broadcast_to(cube.mask.astype(">i4"), (NUM_WAVES, *cube.mask.shape))
        _write_hdu(file, _cube_header("MASK", 32, galaxy, _HDU_CLASS["MASK"]), _slabs(mask))
        for name, sigma in zip(("LSFPOST", "LSFPRE"), line_spread(), strict=True):
            spread = np.where(cube.covered, sigma[:, None, None].astype(np.float32), np.float32(0)).astype(">f4")
            _write_hdu(file, _cube_header(name, -32, galaxy, {"BUNIT": "Angstrom"}), _slabs(spread))
        for name, vector in _vectors().items():
            _write_hdu(file, _array_header(name, vector), iter([vector.tobytes()]))
        for name, image in _images(cube, target.psf_fwhm_arcsec).items():
            header = _array_header(name, image)
            header.update(_sky_wcs(galaxy))
            _write_hdu(file, header, iter([image.tobytes()]))


def write_drpall(path: Path, targets: list[Target], galaxies: list[Galaxy]) -> None:
    """Writes the table of all observations, HDU `MANGA`, with the real names and types of its columns."""
    columns = _drpall_columns(list(zip(targets, galaxies, strict=True)))
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(name=name, format=form, unit=unit or None, array=np.array(values))
            for name, (form, unit, values) in columns.items()
        ],
        name="MANGA",
    )
    primary = fits.PrimaryHDU(header=fits.Header([("VERSDRP3", DRP_VERSION, "MaNGA DRP version (3d processing)")]))
    with _whole_file(path) as file:
        fits.HDUList([primary, table]).writeto(file)


def target_bits(galaxy: Galaxy) -> int:
    """MNGTARG1: the primary sample is seen to 1.5 half-light radii, the secondary to 2.5."""
    reach = CUBE_SIZE[galaxy.num_fibres] / 2 * SPAXEL_ARCSEC / galaxy.re_arcsec
    return PRIMARY_SAMPLE if reach < 2.5 else SECONDARY_SAMPLE


def _drpall_columns(rows: list[tuple[Target, Galaxy]]) -> dict[str, tuple[str, str, list[Any]]]:
    """FITS format, unit and values of each column."""
    return {
        "plate": ("J", "", [t.plate for t, _ in rows]),
        "ifudsgn": ("5A", "", [t.ifudsgn for t, _ in rows]),
        "plateifu": ("11A", "", [t.plateifu for t, _ in rows]),
        "mangaid": ("10A", "", [t.mangaid for t, _ in rows]),
        "versdrp3": ("8A", "", [DRP_VERSION for _ in rows]),
        "drp3qual": ("J", "", [0 for _ in rows]),
        "mngtarg1": ("J", "", [target_bits(g) for _, g in rows]),
        "mngtarg2": ("J", "", [0 for _ in rows]),
        "mngtarg3": ("J", "", [0 for _ in rows]),
        "objra": ("D", "deg", [g.ra_deg for _, g in rows]),
        "objdec": ("D", "deg", [g.dec_deg for _, g in rows]),
        "ifura": ("D", "deg", [g.ra_deg for _, g in rows]),
        "ifudec": ("D", "deg", [g.dec_deg for _, g in rows]),
        "ebvgal": ("E", "mag", [g.ebv_galactic for _, g in rows]),
        "ifudesignsize": ("J", "", [g.num_fibres for _, g in rows]),
        "ifutargetsize": ("J", "", [g.num_fibres for _, g in rows]),
        "gfwhm": ("E", "arcsec", [t.psf_fwhm_arcsec for t, _ in rows]),
        "rfwhm": ("E", "arcsec", [t.psf_fwhm_arcsec for t, _ in rows]),
        "z": ("D", "", [g.z for _, g in rows]),
        "nsa_z": ("D", "", [g.z for _, g in rows]),
        "nsa_elpetro_ba": ("E", "", [g.axis_ratio for _, g in rows]),
        "nsa_elpetro_phi": ("E", "deg", [g.pa_deg % 180 for _, g in rows]),
        "nsa_elpetro_th50_r": ("E", "arcsec", [g.re_arcsec for _, g in rows]),
        # In units of h^-2 solar masses, as the NASA-Sloan Atlas gives it.
        "nsa_elpetro_mass": ("E", "h^-2 Msun", [10**g.log_mass * (HUBBLE_KMS_MPC / 100) ** 2 for _, g in rows]),
    }


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only once all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        yield file
    part.replace(path)


def _write_hdu(file: Any, header: fits.Header, chunks: Iterator[bytes]) -> None:
    file.write(header.tostring(sep="", endcard=True, padding=True).encode("ascii"))
    written = 0
    for chunk in chunks:
        file.write(chunk)
        written += len(chunk)
    file.write(b"\0" * (-written % _BLOCK))


def _planes(covered: np.ndarray, spectra: np.ndarray) -> Iterator[bytes]:
    """Spectra [spaxels, wavelengths] as slabs of a big-endian cube [wavelengths, y, x], 0 where nothing is covered."""
    where = np.flatnonzero(covered)
    for start in range(0, NUM_WAVES, _PLANES_AT_ONCE):
        part = spectra[:, start : start + _PLANES_AT_ONCE].T
        slab = np.zeros((part.shape[0], covered.size), dtype=">f4")
        slab[:, where] = part
        yield slab.tobytes()


def _slabs(cube: np.ndarray) -> Iterator[bytes]:
    for start in range(0, len(cube), _PLANES_AT_ONCE):
        yield cube[start : start + _PLANES_AT_ONCE].tobytes()


def _primary_header(target: Target, galaxy: Galaxy) -> fits.Header:
    return fits.Header(
        [
            ("SIMPLE", True, "conforms to FITS standard"),
            ("BITPIX", 8, "array data type"),
            ("NAXIS", 0, "number of array dimensions"),
            ("EXTEND", True),
            ("VERSDRP2", DRP_VERSION, "MaNGA DRP version (2d processing)"),
            ("VERSDRP3", DRP_VERSION, "MaNGA DRP version (3d processing)"),
            ("SIMULATD", True, "made by cubescout simulate: no sky was observed"),
            ("TELESCOP", "SDSS 2.5-M", "Sloan Digital Sky Survey"),
            ("INSTRUME", "MaNGA", "SDSS-IV MaNGA IFU"),
            ("SRVYMODE", "MaNGA dither", "Survey leading this observation and its mode"),
            ("RADESYS", "FK5"),
            ("EQUINOX", 2000.0),
            ("NEXP", 9, "Total number of exposures"),
            ("EXPTIME", 8101.0, "Total exposure time (seconds)"),
            ("MNGTARG1", target_bits(galaxy), "manga_target1 maskbit"),
            ("MNGTARG2", 0, "manga_target2 maskbit"),
            ("MNGTARG3", 0, "manga_target3 maskbit"),
            ("IFURA", galaxy.ra_deg, "IFU R.A. (J2000 deg.)"),
            ("IFUDEC", galaxy.dec_deg, "IFU Dec. (J2000 deg.)"),
            ("OBJRA", galaxy.ra_deg, "Object R.A. (J2000 deg.)"),
            ("OBJDEC", galaxy.dec_deg, "Object Dec. (J2000 deg.)"),
            ("PLATEID", target.plate, "Current plate"),
            ("IFUDSGN", target.ifudsgn, "ifuDesign"),
            ("PLATEIFU", target.plateifu, "PLATEID-ifuDesign"),
            ("MANGAID", target.mangaid, "MaNGA ID number"),
            ("DRP3QUAL", 0, "DRP-3d quality bitmask"),
            ("EBVGAL", galaxy.ebv_galactic, "Galactic reddening E(B-V)"),
            ("GFWHM", target.psf_fwhm_arcsec, "Reconstructed FWHM in g-band (arcsec)"),
            ("RFWHM", target.psf_fwhm_arcsec, "Reconstructed FWHM in r-band (arcsec)"),
            ("BUNIT", FLUX_UNIT, "Unit of the flux"),
        ]
    )


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


def _array_header(name: str, array: np.ndarray) -> fits.Header:
    """The header of an image extension for big-endian data."""
    bits = 8 * array.dtype.itemsize
    return _extension_header(name, -bits if array.dtype.kind == "f" else bits, array.shape)


def _extension_header(name: str, bitpix: int, shape: tuple[int, ...]) -> fits.Header:
    axes = [(f"NAXIS{index}", length) for index, length in enumerate(reversed(shape), start=1)]
    return fits.Header(
        [
            ("XTENSION", "IMAGE", "Image extension"),
            ("BITPIX", bitpix, "array data type"),
            ("NAXIS", len(shape), "number of array dimensions"),
            *axes,
            ("PCOUNT", 0, "number of parameters"),
            ("GCOUNT", 1, "number of groups"),
            ("EXTNAME", name),
        ]
    )


def _sky_wcs(galaxy: Galaxy) -> dict[str, Any]:
    centre = CUBE_SIZE[galaxy.num_fibres] // 2 + 1.0
    return {
        "CRPIX1": centre, "CRPIX2": centre, "CRVAL1": galaxy.ra_deg, "CRVAL2": galaxy.dec_deg,
        "CD1_1": -SPAXEL_ARCSEC / 3600, "CD2_2": SPAXEL_ARCSEC / 3600,
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "RADESYS": "FK5", "EQUINOX": 2000.0,
    }  # fmt: skip


def _cube_header(name: str, bitpix: int, galaxy: Galaxy, cards: dict[str, str]) -> fits.Header:
    size = CUBE_SIZE[galaxy.num_fibres]
    header = _extension_header(name, bitpix, (NUM_WAVES, size, size))
    header.update(_sky_wcs(galaxy))
    # FITS's WAVE-LOG: wave = CRVAL3 exp(CD3_3 (p - CRPIX3) / CRVAL3).
    header.update(
        {
            "CRPIX3": 1.0, "CRVAL3": FIRST_WAVE, "CD3_3": FIRST_WAVE * np.log(10) * LOG_STEP, "CTYPE3": "WAVE-LOG",
            "CUNIT3": "Angstrom", **cards,
        }
    )  # fmt: skip
    return header


def _vectors() -> dict[str, np.ndarray]:
    """Wavelengths and resolution, with the pixel's width and, as PRESPECRES, without."""
    post = resolution(WAVE)
    pre = post * lsf_sigma_pixels(WAVE, with_pixel=True) / lsf_sigma_pixels(WAVE, with_pixel=False)
    # The real resolution varies by some 2% from spaxel to spaxel.
    vectors = {"WAVE": WAVE, "SPECRES": post, "SPECRESD": 0.02 * post, "PRESPECRES": pre, "PRESPECRESD": 0.02 * pre}
    return {name: vector.astype(">f8") for name, vector in vectors.items()}


def _images(cube: Cube, psf_fwhm_arcsec: float) -> dict[str, np.ndarray]:
    """Broad-band images in nanomaggies, and the PSF, normalised to 1."""
    images = {}
    for band, (low, high) in IMAGE_BANDS.items():
        inside = (low < WAVE) & (high > WAVE)
        # 3.631e-29 erg/s/cm^2/Hz a nanomaggie, 2.998e18 Angstrom/s the speed of light.
        per_flux = 1e-17 * (0.5 * (low + high)) ** 2 / 2.998e18 / 3.631e-29
        image = np.zeros(cube.covered.shape)
        image[cube.covered] = cube.flux[:, inside].mean(axis=1, dtype=np.float64) * per_flux
        images[f"{band}IMG"] = image.astype(">f4")
    x, y = spaxel_offsets(cube.covered.shape[0])
    psf = np.exp(-0.5 * (np.hypot(x, y) * SPAXEL_ARCSEC * np.sqrt(8 * np.log(2)) / psf_fwhm_arcsec) ** 2)
    images |= {f"{band}PSF": (psf / psf.sum()).astype(">f4") for band in IMAGE_BANDS}
    return images
