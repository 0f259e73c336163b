"""Stellar continua in the DAP's model cubes, `manga-PLATE-IFU-LOGCUBE-DAPTYPE.fits.gz`, of DR15 and DR17.

The continuum of a spaxel is MODEL - EMLINE. In the hybrid binning (HYB10), the emission-line module fits stars and
lines to each spaxel, with the stellar kinematics of its Voronoi bin (Belfiore et al. 2019,
doi:10.3847/1538-3881/ab3e4e), and MODEL is to be compared with the DRP's LOGCUBE. STELLAR, in DR15 MODEL - EMLINE -
EMLINE_BASE, is instead the fit of the kinematics module to the mean spectrum of the bin, repeated in its spaxels, and
ends at 7400 Angstrom in the rest frame. All of them include the Milky Way's dust, as the LOGCUBE does.
"""

import re
from typing import Any

import numpy as np
from astropy.io.fits import Header

from cubeprep.config import MistakeError
from cubeprep.cube import Rejected
from cubeprep.fits.cards import check_once
from cubeprep.fits.image import image_shape
from cubeprep.fits.stream import FitsStream, find_hdu
from cubeprep.fits.units import flux_unit
from cubeprep.fits.wcs import read_axes
from cubeprep.geometry import outside
from cubeprep.masks import DAPSPECMASK, any_bit, bits_value
from cubeprep.readers.manga_maps import channels, check_quality
from cubeprep.stars.starlight import ModelStars
from cubeprep.survey_files import find_files
from cubeprep.tables import name_of

FILE_NAME = re.compile(r"manga-(\d+-\d+)-LOGCUBE-([\w-]+)\.fits(?:\.gz|\.fz)?", re.IGNORECASE)
# HDUs that are read; the mask of MODEL is MODEL_MASK in DR17 and EMLINE_MASK in DR15.
MODEL, LINES, BINS, MASKS = "MODEL", "EMLINE", "BINID", ("MODEL_MASK", "EMLINE_MASK")
BIN_CHANNEL = "Em. line models"
# Pixels that the fit ignored (FITIGNORED, ELIGNORED) have a model unless they lie outside the fitted range.
NO_MODEL = ("FORESTAR", "FITFAILED", "ELFAILED", "NOMODEL")
# Largest difference between the wavelengths of model and cube, planes: 0.7 km/s.
MOST_SHIFT = 0.01


def find_models(maps_root: str) -> dict[str, str]:
    """Paths of the model cubes below a folder, or in a list of files, by plateifu.

    Raises:
        MistakeError: the folder does not exist or cannot be read, or a galaxy has two model cubes.
    """
    found: dict[str, str] = {}
    for (plateifu, _), path in find_files(maps_root, FILE_NAME, "survey.maps_root").items():
        if plateifu in found:
            raise MistakeError(
                f"{found[plateifu]} and {path} are both model cubes of {plateifu}: keep one DAPTYPE below {maps_root}"
            )
        found[plateifu] = path
    return found


def read_starlight(
    path: str, wave: np.ndarray, planes: np.ndarray, size: int | None, *, shape: tuple[int, int]
) -> ModelStars:
    """Stellar continuum of a galaxy in planes of its LOGCUBE.

    Args:
        path: model cube, which is read as a stream.
        wave: [plane] vacuum wavelengths of all planes of the LOGCUBE, Angstrom.
        planes: [n] sorted indices of the planes.
        size: spaxels a side, as in `Arm.read`.
        shape: (y, x) of the LOGCUBE.

    Raises:
        Rejected: the file is missing or damaged, belongs to another galaxy, has another shape or other wavelengths, a
            critical DAPQUAL or an unknown unit, or its models are those of bins of several spaxels.
    """
    parts: dict[str, np.ndarray] = {}
    with FitsStream(path) as stream:
        _check_primary(stream)
        for header in stream.hdus():
            name = stream.passed[-1]
            if name == BINS:
                parts[name] = _bins(stream, header, size, shape)
            elif name in (MODEL, LINES, *MASKS):
                _check_shape(header, (len(wave), *shape), path)
                values = stream.read_planes(header, planes, size)
                if name in MASKS:
                    parts["mask"] = _unmodelled(header, values, path)
                else:
                    parts[name] = _densities(header, values, wave, planes, path)
            if len(parts) == 4:
                break
        stream.finish()
    check_once((MODEL, LINES, BINS, *MASKS), stream.passed, path)
    names = {MODEL: MODEL, LINES: LINES, "mask": " or ".join(MASKS), BINS: BINS}
    missing = ", ".join(text for name, text in names.items() if name not in parts)
    if missing:
        raise Rejected("missing_hdu", f"{path}: no HDU {missing}; it has {', '.join(stream.passed)}")
    return _starlight(parts)


def _starlight(parts: dict[str, np.ndarray]) -> ModelStars:
    """Difference of MODEL and EMLINE, which replaces MODEL, to save memory."""
    flux, lines = parts[MODEL], parts.pop(LINES)
    # The DAP writes 0 outside the fitted range; DR15 has no mask bit for it.
    fitted = (flux != 0) & ~parts["mask"] & (parts[BINS] >= 0)
    with np.errstate(invalid="ignore", over="ignore"):
        flux -= lines
    fitted &= np.isfinite(flux)
    np.copyto(flux, 0, where=~fitted)
    return ModelStars(flux, fitted)


def _check_primary(stream: FitsStream) -> None:
    """Checks quality and galaxy of the file, and moves the stream to its second HDU."""
    header = find_hdu(stream, "PRIMARY")
    stream.skip_data()
    check_quality(header, stream.path)
    match = FILE_NAME.fullmatch(stream.path.rsplit("/", 1)[-1])
    found = name_of(header.get("PLATEIFU"))
    if match and found and found != match[1]:
        raise Rejected("wrong_galaxy", f"{stream.path}: PLATEIFU = {found!r}, expected {match[1]!r} as in its name")


def _check_shape(header: Header, expected: tuple[int, ...], path: str) -> None:
    found = image_shape(header, path)
    if found != expected:
        name = header["EXTNAME"]
        raise Rejected("bad_shape", f"{path}: {name} is {found} (plane, y, x), the galaxy's LOGCUBE {expected}")


def _densities(header: Header, values: np.ndarray, wave: np.ndarray, planes: np.ndarray, path: str) -> np.ndarray:
    """Flux densities [plane, y, x] as float32 in the store's unit; `values` may be changed in place."""
    axes = read_axes(header, path, kinds=("WAVE-LOG",))
    if np.max(np.abs(axes.wave - wave) / np.gradient(wave)) > MOST_SHIFT:
        found, expected = (f"{each[0]:.3f} to {each[-1]:.3f} Angstrom" for each in (axes.wave, wave))
        raise Rejected("bad_wave", f"{path}: {header['EXTNAME']} covers {found}, the galaxy's LOGCUBE {expected}")
    scale: Any = flux_unit(header, path, spaxel_arcsec=axes.spaxel_arcsec).scale(wave[planes])
    with np.errstate(invalid="ignore", over="ignore"):
        values = values.astype(np.float32, copy=False)
        values *= scale
    return values


def _unmodelled(header: Header, mask: np.ndarray, path: str) -> np.ndarray:
    """Whether a mask bit says that there is no model, [plane, y, x] bool."""
    if mask.dtype.kind not in "iu":
        raise Rejected("bad_shape", f"{path}: {header['EXTNAME']} holds {mask.dtype}, not integers")
    return any_bit(mask, bits_value(NO_MODEL, DAPSPECMASK))


def _bins(stream: FitsStream, header: Header, size: int | None, shape: tuple[int, int]) -> np.ndarray:
    """Number [size, size] of the model of each spaxel; -1 where nothing was fitted and beyond the edge.

    Raises:
        Rejected: the shape is not that of the cube, or spaxels share a model.
    """
    path = stream.path
    found = image_shape(header, path)[1:]
    if found != shape:
        raise Rejected("bad_shape", f"{path}: {BINS} has {found} spaxels (y, x), the galaxy's LOGCUBE {shape}")
    (channel,) = channels(header, [BIN_CHANNEL], path)
    bins = np.where(outside(shape, size), -1, stream.read_planes(header, np.array([channel]), size)[0])
    numbers, counts = np.unique(bins[bins >= 0], return_counts=True)
    if (counts > 1).any():
        first = numbers[counts > 1][0]
        reason = f"{BINS} {first} of {BIN_CHANNEL!r} covers {counts[counts > 1][0]} spaxels"
        raise Rejected("binned", f"{path}: {reason}, expected models of single spaxels as in HYB10 or SPX")
    return bins
