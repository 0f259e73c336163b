"""MaNGA DAP MAPS files: `manga-PLATE-IFU-MAPS-DAPTYPE.fits.gz`, one fitted map per line.

Channels are selected by the names in the header cards C01, C02, ..., never by position: files before DR17 have 22
lines, those of DR17 35. The redshift is SCINPVEL, the systemic velocity c z that the fit started from.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Planes, Rejected, Target, screened
from cubeprep.facts import SurveyFacts
from cubeprep.fits.cards import bits_card, check_once, text_card
from cubeprep.fits.image import image_shape
from cubeprep.fits.stream import FitsStream, find_hdu
from cubeprep.fits.units import flux_unit, noise_unit
from cubeprep.fits.wcs import placed_sky, spaxel_arcsec
from cubeprep.geometry import outside, place
from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.masks import DAPPIXMASK, DAPQUAL, DRP3QUAL, any_bit, bits_value
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import depth, find_cubes, first_header, guarded_target, open_maps, set_bits, sum_remarks
from cubeprep.tables import name_of, number
from cubeprep.velocity import STARS

FILE_NAME = re.compile(r"manga-(\d+-\d+)-MAPS-[\w-]+\.fits(?:\.gz|\.fz)?", re.IGNORECASE)
MARVIN = "https://dr17.sdss.org/marvin/galaxy/{plateifu}/"
# UNRELIABLE is not part of DONOTUSE. The DAP sets it in maps of summed fluxes alone, where pixels of a passband are
# masked: their flux is missing from the sum, and the errors do not cover that.
DEFAULT_MASK_BITS = ("NOCOV", "DEADFIBER", "FORESTAR", "NOVALUE", "UNRELIABLE", "MATHERROR", "FITFAILED", "DONOTUSE")


def facts_in(flux_unit: str) -> SurveyFacts:
    """Facts of MaNGA: cubes north up, with a PSF of 2.5 arcsec (Law et al. 2016, doi:10.3847/0004-6256/152/4/83)."""
    return SurveyFacts(flux_unit, 0.5, "north up, east left", 2.5, MARVIN)


class Reader:
    """Reader of the MAPS files below a root."""

    grid = "maps"
    facts = facts_in("1e-17 erg / (s cm2 spaxel)")

    def __init__(self, config: SurveyConfig) -> None:
        names = DEFAULT_MASK_BITS if config.mask_bits is None else config.mask_bits
        self._config = config
        self._bad_bits = bits_value(names, DAPPIXMASK)
        bits_value(config.reject_quality, DRP3QUAL | DAPQUAL)

    def find_targets(self) -> list[Target]:
        """All MAPS files, with identifiers, redshifts and quality from their primary headers."""
        files = find_cubes(self._config, FILE_NAME)
        return [_target(plateifu, path) for (plateifu,), path in files.items()]

    def read_maps(self, target: Target, line_names: Sequence[str], size: int | None) -> Planes:
        """Maps of lines, with fluxes integrated over wavelength; see `cubeprep.cube.MapReader`."""
        path, name = target.paths[0], f"EMLINE_{self._config.line_map}"
        with open_maps(path) as hdus:
            header, errors = hdus[name].header, hdus[f"{name}_IVAR"].header
            remarks, arrays, names = tuple[str, ...](), [], [f"{name}{suffix}" for suffix in ("", "_IVAR", "_MASK")]
            for each in names:
                remarks += sum_remarks(hdus, each, path)
                arrays.append(hdus[each].data)
            check_once(names, [hdu.name for hdu in hdus], path)
        flux, ivar, mask = arrays
        if not flux.shape == ivar.shape == mask.shape:
            raise Rejected("bad_shape", f"{path}: {name} is {flux.shape}, IVAR {ivar.shape}, MASK {mask.shape}")
        if mask.dtype.kind not in "iu":
            raise Rejected("bad_shape", f"{path}: {name}_MASK holds {mask.dtype}, not integers")
        index, side = channels(header, line_names, path), spaxel_arcsec(header)
        unit = flux_unit(header, path, integrated=True, spaxel_arcsec=side)
        _, factor = noise_unit(errors, unit, text_card(header, "BUNIT"), path, kind="ivar")
        flux, ivar = place(flux[index] * unit.factor, size), place(ivar[index] * (factor / unit.factor**2), size)
        bad = place(any_bit(mask[index], self._bad_bits), size)
        maps = screened(flux, ivar, bad, outside(mask.shape[1:], size), side)
        return replace(maps, remarks=remarks, sky=placed_sky(header, mask.shape[1:], size))


def channels(header: Header, line_names: Sequence[str], path: str) -> list[int]:
    """Indices of the channels of lines, found by the names in the cards C01, C02, ...

    Raises:
        Rejected: a line has no channel, or several.
    """
    cards = {key: str(header[key]).strip() for key in header if re.fullmatch(r"C\d+", key)}
    named = {name: int(key[1:]) - 1 for key, name in cards.items()}
    missing = [name for name in line_names if name not in named]
    if missing:
        raise Rejected("no_coverage", f"{path}: no channel for {', '.join(missing)}; it has {', '.join(named)}")
    for wanted in line_names:
        keys = [key for key, name in cards.items() if name == wanted]
        if len(keys) > 1:
            raise Rejected("bad_card", f"{path}: {' and '.join(keys)} are {wanted!r}, expected one channel of it")
    return [named[name] for name in line_names]


def read_velocity(
    path: str, tracer: str, size: int | None, *, shape: tuple[int, int], max_error_kms: float
) -> tuple[np.ndarray, float]:
    """Velocities of one line, or of the stars, and the redshift to which they are relative.

    A line of rest wavelength w is observed at w (1 + z) (1 + v / c).

    Args:
        path: MAPS file, which is read as a stream.
        tracer: name of a line, for its channel of EMLINE_GVEL, or `stars` for STELLAR_VEL.
        size: spaxels a side, as in `Arm.read`.
        shape: (y, x) of the galaxy's cube, which the maps must share.
        max_error_kms: largest error, km/s; velocities with a larger one are unknown.

    Returns:
        The velocities v, [size, size] km/s, NaN where masked or unknown; and the redshift z.

    Raises:
        Rejected: the file is missing or damaged, has another shape or a critical DAPQUAL, or lacks the line.
    """
    first = "STELLAR_VEL" if tracer == STARS else "EMLINE_GVEL"
    names = (first, f"{first}_IVAR", f"{first}_MASK")
    with FitsStream(path) as stream:
        z, channel, images = _velocity_redshift(stream), 0, {}
        for header in stream.hdus():
            name = str(header.get("EXTNAME", "")).strip()
            if name not in names:
                continue
            if header["NAXIS"] == 2:
                header["NAXIS"], header["NAXIS3"] = 3, 1  # a flat image is a cube of one plane
            if image_shape(header, path)[1:] != shape:
                found = image_shape(header, path)[1:]
                raise Rejected("bad_shape", f"{path}: {name} has {found} spaxels (y, x), the cube has {shape}")
            if name == first and tracer != STARS:
                (channel,) = channels(header, [tracer], path)
            images[name] = stream.read_planes(header, np.array([channel]), size)[0]
            if len(images) == len(names):
                break
        stream.finish()
    check_once(names, stream.passed, path)
    missing = ", ".join(name for name in names if name not in images)
    if missing:
        raise Rejected("missing_hdu", f"{path}: no HDU {missing}")
    velocity, ivar, mask = (images[name] for name in names)
    bad = any_bit(mask, bits_value(DEFAULT_MASK_BITS, DAPPIXMASK))
    with np.errstate(invalid="ignore"):
        usable = ~bad & np.isfinite(velocity) & (ivar >= max_error_kms**-2) & ~outside(shape, size)
    return np.where(usable, velocity, np.nan).astype(np.float64), z


def check_plateifu(header: Header, plateifu: str, path: str) -> None:
    """Rejects a file of MaNGA whose primary header names another observation than the file's name does."""
    named = name_of(header.get("PLATEIFU"))
    if named not in ("", plateifu):
        raise Rejected("bad_card", f"{path}: PLATEIFU = {named!r}, expected {plateifu!r} as in the name of the file")


def check_quality(header: Header, path: str) -> None:
    """Rejects a file of the DAP whose primary header has CRITICAL in DAPQUAL."""
    if "CRITICAL" in set_bits(bits_card(header, "DAPQUAL", path), DAPQUAL):
        raise Rejected("quality", f"{path}: the DAP's quality flag has CRITICAL")


def _velocity_redshift(stream: FitsStream) -> float:
    """Redshift to which the velocities of a MAPS file are relative, from its primary header."""
    header = find_hdu(stream, "PRIMARY")
    stream.skip_data()
    if named := FILE_NAME.fullmatch(stream.path.rpartition("/")[2]):
        check_plateifu(header, named[1], stream.path)
    check_quality(header, stream.path)
    z = number(header.get("SCINPVEL"), velocity=True) / SPEED_OF_LIGHT_KMS
    if not np.isfinite(z):
        raise Rejected("no_redshift", f"{stream.path}: no SCINPVEL, the redshift that its velocities are against")
    return z


def _target(plateifu: str, path: str) -> Target:
    unread = Target(plateifu, plateifu, np.nan, np.nan, np.nan, (path,))
    return guarded_target(unread, lambda: _target_of(plateifu, path))


def _target_of(plateifu: str, path: str) -> Target:
    """Target described by a primary header, with the quality bits of the cube (DRP) and of the fits (DAP)."""
    header = first_header(path)
    check_plateifu(header, plateifu, path)
    for keyword in ("DRP3QUAL", "DAPQUAL"):
        if keyword not in header:
            raise Rejected("quality", f"{path}: no {keyword}, expected quality bits: its quality is unknown")
    quality = [
        *set_bits(bits_card(header, "DRP3QUAL", path), DRP3QUAL),
        *set_bits(bits_card(header, "DAPQUAL", path), DAPQUAL),
    ]
    z = number(header.get("SCINPVEL"), velocity=True) / SPEED_OF_LIGHT_KMS
    unknown = ("no_redshift", f"{path}: SCINPVEL = {header.get('SCINPVEL')!r}, expected a velocity in km/s")
    return Target(
        plateifu,
        name_of(header.get("MANGAID")) or plateifu,
        z,
        number(header.get("OBJRA")),
        number(header.get("OBJDEC")),
        (path,),
        number(header.get("REFF")),
        tuple(dict.fromkeys(quality)),
        rejected=unknown if np.isnan(z) else None,
        depth=depth(header),
    )
