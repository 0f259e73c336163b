"""Wavelengths and spaxel size from the world coordinates of a header (Greisen et al. 2002 and 2006).

The step along an axis is CDi_j, or CDELTi times PCi_j, in the unit CUNITi, for all pairs of axes. The results agree
with those of `astropy.wcs`, which takes some hundred times as long.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io.fits import Header, VerifyError

from cubeprep.cube import Rejected
from cubeprep.fits.cards import float_card, text_card
from cubeprep.fits.image import cube_axes, image_shape
from cubeprep.fits.units import parse_unit
from cubeprep.geometry import Placement
from cubeprep.lines import air_to_vacuum

VACUUM, AIR = ("WAVE", "WAVE-LOG"), ("AWAV", "AWAV-LOG")
# Across the field a wavelength may drift by this fraction of a plane; across the planes a position may drift by one
# spaxel and this fraction.
MOST_SHEAR = 0.1
ANGSTROMS = (1000.0, 30000.0)
# Frames (SPECSYS) within 31 km/s of the Sun's, less than a plane; surveys state redshifts in any of them. The others
# move by 200 to 370 km/s, as much as a disc rotates, and SOURCE says that the redshift was removed.
# Longer words than the standard's, such as HELIOCENTRIC, are common.
FRAMES = ("TOPOC", "GEOC", "BARYC", "HELIO", "LSR")
# Relative difference of the steps that two cards give; a card may be rounded.
MOST_STEP_DIFFERENCE = 1e-3
SKY_TEXTS = ("CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "RADESYS")
# Longitude or latitude in one of the projections; a further suffix such as `-SIP` names distortions.
CELESTIAL = re.compile(r"(?:RA--|DEC-|[GE]LON|[GE]LAT)-[A-Z]{3}")
IN_DEGREES = re.compile(r"(?:RA|DEC|[GE]LON|[GE]LAT)\b")
SKY_CARDS = re.compile(
    r"(?:CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[12]|(?:CD|PC)[12]_[12]|PV[12]_\d+|RADESYS|EQUINOX|LONPOLE|LATPOLE"
)


@dataclass(frozen=True)
class CubeAxes:
    """World coordinates of a cube.

    Attributes:
        wave: [plane] vacuum wavelengths, Angstrom, increasing.
        spaxel_arcsec: square root of the area of a spaxel, arcsec; NaN if the header does not give it.
    """

    wave: np.ndarray
    spaxel_arcsec: float


def read_axes(
    header: Header,
    path: str,
    *,
    kinds: Collection[str] = (*VACUUM, *AIR),
    air: Collection[str] = AIR,
    primary: Header | None = None,
) -> CubeAxes:
    """Wavelengths and spaxel size of a cube.

    Args:
        header: header of an image with three axes.
        path: path of the file, for the message.
        kinds: accepted values of CTYPE3; those that end in `-LOG` have a constant step in the logarithm.
        air: those of `kinds` that stand for wavelengths in air.
        primary: header of the first HDU, whose SPECSYS and AIRORVAC hold where `header` has none.

    Raises:
        Rejected: the third axis is not wavelength, or its values are not understood.
    """
    return CubeAxes(wavelengths(header, path, kinds=kinds, air=air, primary=primary), spaxel_arcsec(header))


def wavelengths(
    header: Header, path: str, *, kinds: Collection[str], air: Collection[str] = AIR, primary: Header | None = None
) -> np.ndarray:
    """Vacuum wavelengths of the planes, [plane], Angstrom, increasing; arguments and errors as in `read_axes`."""
    numbers = cube_axes(header, path)
    axis = numbers[2]
    kind = text_card(header, f"CTYPE{axis}")
    if kind not in kinds:
        _reject_kind(header, path, numbers, kinds)
    _check_frame([header] if primary is None else [header, primary], path, kind, in_air=kind in air)
    num_planes, _, _ = image_shape(header, path)
    if num_planes == 1:
        raise Rejected("bad_wave", f"{path}: NAXIS{axis} = 1, expected the planes of spectra")
    step = _wave_step(header, path, numbers)
    reference, pixel = (
        float_card(header, f"{name}{axis}", path, default=default, code="bad_wave")
        for name, default in (("CRVAL", None), ("CRPIX", 0.0))
    )
    if not (step > 0 and reference > 0):
        reason = f"CRVAL{axis} = {reference}, step {step:g}; expected wavelengths that increase"
        raise Rejected("bad_wave", f"{path}: {reason}")
    away = np.arange(1, num_planes + 1) - pixel
    wave = reference * np.exp(step * away / reference) if kind.endswith("-LOG") else reference + step * away
    wave *= _angstroms(header, axis, wave, path)
    if not (wave[0] > 0 and np.isfinite(wave[-1])):
        reason = f"wavelengths from {wave[0]:g} to {wave[-1]:g} Angstrom, expected ones above 0"
        raise Rejected("bad_wave", f"{path}: {reason}")
    return air_to_vacuum(wave) if kind in air else wave


def spaxel_arcsec(header: Header) -> float:
    """Square root of the area of a spaxel, arcsec; NaN if the header does not give it."""
    matrix = np.zeros((2, 2))
    try:
        for i in (1, 2):
            unit = parse_unit(text_card(header, f"CUNIT{i}") or _default_unit(header, i))
            matrix[i - 1] = np.array(_row(header, i, (1, 2))) * unit.to(u.arcsec)
    except (ValueError, TypeError, u.UnitConversionError):
        return float("nan")
    side = float(np.sqrt(abs(np.linalg.det(matrix))))
    return side if side > 0 and np.isfinite(side) else float("nan")


def _default_unit(header: Header, i: int) -> str:
    """Unit of an axis without CUNIT: degrees on the sky, else none, which `parse_unit` refuses."""
    return "deg" if IN_DEGREES.match(text_card(header, f"CTYPE{i}")) else ""


def placed_sky(header: Header, shape: tuple[int, int], size: int | None) -> dict[str, str | float]:
    """Cards of the celestial axes on the grid of `geometry.place`.

    Args:
        header: header of an image whose first two axes are on the sky.
        shape: (y, x) of the image.
        size: side of the grid in spaxels; None pads to the longer side of the image.

    Returns:
        The cards, for `astropy.wcs`; empty if the header has no celestial axes, has distortions, or is damaged.
    """
    try:
        cards = {str(key): header[key] for key in header if SKY_CARDS.fullmatch(str(key))}
    except VerifyError:
        return {}
    kinds = [text_card(header, f"CTYPE{i}") for i in (1, 2)]
    numbers = [cards.get(f"CRVAL{i}") for i in (1, 2)] + [cards[key] for key in cards if key not in SKY_TEXTS]
    # The windows do not depend on these cards, so that a galaxy is not rejected for them.
    if not (
        all(CELESTIAL.fullmatch(kind) for kind in kinds)
        and all(isinstance(number, int | float) for number in numbers)
        and np.isfinite(spaxel_arcsec(header))
    ):
        return {}
    y, x = (Placement.centred(length, size or max(shape)) for length in shape)
    return moved_sky(cards, (x.source.start - x.target.start, y.source.start - y.target.start), 1.0)


def moved_sky(cards: Mapping[str, str | float], start: tuple[float, float], scale: float) -> dict[str, str | float]:
    """Cards of the celestial axes for another grid of spaxels.

    Args:
        cards: of `placed_sky`.
        start: (x, y) of the lower edges of the new grid, in old spaxels from those of the old grid.
        scale: side of a new spaxel, in old spaxels.
    """
    if not cards:
        return {}
    moved = dict(cards)
    for i, edge in enumerate(start, start=1):
        # FITS counts from 1, and a whole number is the middle of a spaxel.
        moved[f"CRPIX{i}"] = (float(cards.get(f"CRPIX{i}", 0.0)) - 0.5 - edge) / scale + 0.5
    steps = [f"CD{i}_{j}" for i in (1, 2) for j in (1, 2) if f"CD{i}_{j}" in cards] or ["CDELT1", "CDELT2"]
    return moved | {name: float(cards.get(name, 1.0)) * scale for name in steps}


def centre_on_sky(cards: Mapping[str, str | float], length: int) -> tuple[float, float]:
    """Right ascension and declination, ICRS, degrees, of the middle of a grid; NaN where the cards do not give it.

    Args:
        cards: of `placed_sky`.
        length: spaxels a side of the grid.
    """
    middle = (length - 1) / 2
    try:
        place = _places(cards, middle, middle).icrs
    except Exception:  # noqa: BLE001 - a frame that is not known, or has no transformation; no reason to lose a galaxy
        return np.nan, np.nan
    return float(place.ra.deg), float(place.dec.deg)


def sky_shift(first: Mapping[str, str | float], other: Mapping[str, str | float], length: int) -> float:
    """Largest distance on the sky between the same spaxel by two sets of cards of `placed_sky`.

    Args:
        first, other: the cards; the distance is 0 where they give no place.
        length: spaxels a side of the grid.

    Returns:
        The distance in spaxels of `first`, of the four corners.
    """
    if first == other or not (first and other):
        return 0.0
    x, y = np.array([[0, 0, 1, 1], [0, 1, 0, 1]]) * (length - 1)
    try:
        places = [_places(cards, x, y) for cards in (first, other)]
        apart = float(places[0].separation(places[1]).arcsec.max())
    except Exception:  # noqa: BLE001 - as in `centre_on_sky`
        return 0.0
    return apart / spaxel_arcsec(Header(dict(first)))


def _places(cards: Mapping[str, str | float], x: Any, y: Any) -> Any:
    """`SkyCoord` of spaxels, counted from 0, by cards of `placed_sky`."""
    from astropy.wcs import WCS  # slow to import, and of use to the workers of `prepare` alone

    return WCS(Header(dict(cards))).pixel_to_world(x, y)


def _row(header: Header, i: int, numbers: Collection[int]) -> list[float]:
    """Steps along world axis `i` per pixel along each of the axes `numbers`.

    Raises:
        TypeError, ValueError: a card is not a number, or no card gives a step.
    """
    if any(f"CD{a}_{b}" in header for a in _group(i) for b in (1, 2, 3, 4)):
        return [float(header.get(f"CD{i}_{j}", 0.0)) for j in numbers]
    if f"CDELT{i}" not in header and not any(f"PC{i}_{j}" in header for j in numbers):
        raise ValueError(f"no CD{i}_{i}, PC{i}_{i} or CDELT{i}")
    scale = float(header.get(f"CDELT{i}", 1.0))
    return [scale * float(header.get(f"PC{i}_{j}", float(i == j))) for j in numbers]


def _group(i: int) -> tuple[int, ...]:
    """World axes that all use CD cards if one does: those of the sky together; wavelengths may still use CDELT."""
    return (1, 2) if i in (1, 2) else (i,)


def _wave_step(header: Header, path: str, numbers: tuple[int, int, int]) -> float:
    """Step between planes, in the unit of CUNIT; checks that wavelengths are the same in all spaxels."""
    x, y, axis = numbers
    try:
        across_x, across_y, step = _row(header, axis, numbers)
        rows = [_row(header, i, numbers) for i in (1, 2) if _has(header, i)]
        drifts = [row[2] / (max(abs(row[0]), abs(row[1])) or 1) for row in rows]
    except (TypeError, ValueError) as error:
        raise Rejected("bad_wave", f"{path}: the step of axis {axis} is not known: {error}") from error
    if not np.isfinite([across_x, across_y, step, *drifts]).all():
        raise Rejected("bad_wave", f"{path}: the step of axis {axis} is {step}, expected a number")
    _check_one_step(header, path, axis, step)
    width, height, planes = (int(header[f"NAXIS{i}"]) for i in numbers)
    if max(abs(across_x) * width, abs(across_y) * height) > MOST_SHEAR * abs(step):
        shear = f"{across_x:g} and {across_y:g} a spaxel, {step:g} a plane"
        raise Rejected("bad_wave", f"{path}: wavelengths vary over the sky (CD{axis}_{x}, CD{axis}_{y} or PC: {shear})")
    if any(abs(drift) * planes > 1 + MOST_SHEAR for drift in drifts):
        raise Rejected("bad_wave", f"{path}: positions on the sky vary with wavelength (CD1_{axis}, CD2_{axis} or PC)")
    return step


def _check_frame(headers: Sequence[Header], path: str, kind: str, *, in_air: bool) -> None:
    """Checks that wavelengths are as observed, and that AIRORVAC does not contradict CTYPE; the first card counts."""
    name, frame = _first_card(headers, "SPECSYS")
    if frame and not frame.upper().startswith(FRAMES):
        expected = "TOPOCENT, GEOCENTR, BARYCENT, HELIOCEN, LSRK, LSRD or no card: observed wavelengths"
        raise Rejected("bad_wave", f"{path}: {name} has SPECSYS = {frame!r}, expected {expected}")
    name, medium = _first_card(headers, "AIRORVAC")
    expected, other = ("air", "vac") if in_air else ("vac", "air")
    if medium.lower().startswith(other):
        reason = f"{name} has AIRORVAC = {medium!r}, expected {expected!r} or no card beside wavelengths of type {kind}"
        raise Rejected("bad_wave", f"{path}: {reason}")


def _first_card(headers: Sequence[Header], keyword: str) -> tuple[str, str]:
    """Name of the first HDU whose header has a value of this card, and the value; both are empty if none has."""
    found = ((text_card(header, "EXTNAME", "PRIMARY"), text_card(header, keyword)) for header in headers)
    return next((pair for pair in found if pair[1]), ("", ""))


def _check_one_step(header: Header, path: str, i: int, step: float) -> None:
    """Checks that CDELT and PC beside a CD card give its step too; a CDELT of 1, or 0, is a placeholder."""
    keys = [key for key in (f"CDELT{i}", f"PC{i}_{i}") if key in header and f"CD{i}_{i}" in header]
    other = math.prod(float_card(header, key, path, code="bad_wave") for key in keys)
    if other not in (0, 1) and abs(other - step) > MOST_STEP_DIFFERENCE * abs(step):
        reason = f"CD{i}_{i} = {step:g}, but {' times '.join(keys)} is {other:g}, expected the same step"
        raise Rejected("bad_wave", f"{path}: {reason}")


def _has(header: Header, i: int) -> bool:
    return f"CDELT{i}" in header or f"CD{i}_{i}" in header or f"PC{i}_{i}" in header


def _angstroms(header: Header, axis: int, wave: np.ndarray, path: str) -> float:
    """Factor from the unit of wavelengths to Angstrom; 1 without a unit if the values are plausible in Angstrom."""
    text = text_card(header, f"CUNIT{axis}")
    if not text:
        if ANGSTROMS[0] <= wave[0] <= wave[-1] <= ANGSTROMS[1]:
            return 1.0
        reason = f"no CUNIT{axis}, and wavelengths from {wave[0]:g} to {wave[-1]:g} cannot be in Angstrom"
        raise Rejected("bad_wave", f"{path}: {reason}")
    try:
        return float(f"{float(parse_unit(text).to(u.AA)):.12g}")
    except (ValueError, u.UnitConversionError) as error:
        reason = f"CUNIT{axis} = {text!r}, expected a length such as Angstrom or nm"
        raise Rejected("bad_wave", f"{path}: {reason}") from error


def _reject_kind(header: Header, path: str, numbers: tuple[int, int, int], kinds: Collection[str]) -> None:
    axis = numbers[2]
    found = header.get(f"CTYPE{axis}")
    expected = " or ".join(repr(kind) for kind in kinds)
    for i in numbers[:2]:
        if text_card(header, f"CTYPE{i}") in (*VACUUM, *AIR, *kinds):
            raise Rejected(
                "bad_axes",
                f"{path}: wavelength is axis {i} (CTYPE{i} = {header[f'CTYPE{i}']!r}), expected axis {axis}: "
                "numpy's order is [wavelength, y, x]",
            )
    name = text_card(header, "EXTNAME", "PRIMARY")
    raise Rejected("bad_wave", f"{path}: {name} has CTYPE{axis} = {found!r}, expected {expected}")
