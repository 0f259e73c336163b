"""Units of fluxes and errors as headers spell them, and their conversion to the unit of the store.

The whole unit is parsed: scale, per wavelength or frequency, and per area on the sky. A unit that is not understood, or
is not one of flux, rejects the galaxy.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from astropy import units as u
from astropy.io.fits import Header

from cubeprep.cube import Rejected
from cubeprep.fits.cards import text_card

NoiseKind = Literal["variance", "sigma", "ivar"]
POWERS: dict[NoiseKind, int] = {"variance": 2, "sigma": 1, "ivar": -2}
FLUX = 1e-17 * u.erg / u.s / u.cm**2
PER_ANGSTROM, PER_HERTZ = FLUX / u.AA, FLUX / u.Hz
LIGHT_ANGSTROM_HZ = 2.99792458e18
FIBRE = u.def_unit("fibre")
# Spellings that astropy does not know, or reads as another unit (A is the ampere).
NAMES: dict[str, Any] = {
    **dict.fromkeys(("erg", "ergs", "Erg", "ERG"), u.erg),
    **dict.fromkeys(("A", "AA", "Å", "Å", "ang", "angs", "angstrom", "angstroms"), u.AA),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), u.s),
    **dict.fromkeys(("hz", "hertz"), u.Hz),
    **dict.fromkeys(("micron", "microns", "um", "µm", "μm"), u.um),
    **dict.fromkeys(("pix", "pixel", "pixels", "spaxel", "spaxels", "spax"), u.pix),
    **dict.fromkeys(("fiber", "fibers", "fibre", "fibres"), FIBRE),
    **dict.fromkeys(("arcsec", "arcsecs", "arcseconds", "asec"), u.arcsec),
    "flam": u.erg / u.s / u.cm**2 / u.AA,
    "fnu": u.erg / u.s / u.cm**2 / u.Hz,
}
TOKEN = re.compile(r"\s*(?:((?:\d+(?:\.\d*)?|\.\d+)(?:[eEdD][+-]?\d+)?)|([A-Za-zÅÅµμ]+)|(\*\*|\^)|([*./()]))")
EXPONENT = re.compile(r"\s*(?:\(\s*([+-]?\d+)\s*\)|([+-]?\d+))")
# No survey uses units of 100 erg or of 1e-29 erg; such a scale comes from a wrong exponent, often one without its sign.
SMALLEST, LARGEST = 1e-12, 1e19
LARGEST_EXPONENT = 99
# Kinds of errors by HDUCLAS3, as ESO and MaNGA write it; INVRMSE is not read.
STATED_KINDS: dict[str, NoiseKind] = {"MSE": "variance", "RMSE": "sigma", "INVMSE": "ivar"}
# Units of sigmas and fluxes that differ by more are those of variances that were scaled, but not squared.
MOST_SIGMA = 1e6


@dataclass(frozen=True)
class FluxUnit:
    """A unit of flux.

    Attributes:
        factor: conversion factor to 1e-17 erg/s/cm2/spaxel, for densities per Angstrom or Hertz.
        per: unit of wavelength or frequency of a density; empty for fluxes integrated over wavelength.
        unit: parsed unit, to which the unit of the errors is compared.
    """

    factor: float
    per: Literal["Angstrom", "Hz", ""]
    unit: Any

    def scale(self, wave: np.ndarray | None = None) -> Any:
        """Conversion factor to the store's unit; for fluxes per Hertz [plane, 1, 1], as it depends on wavelength.

        Args:
            wave: [plane] wavelengths, Angstrom; needed for fluxes per Hertz alone.
        """
        if self.per != "Hz":
            return self.factor
        assert wave is not None
        return (self.factor * LIGHT_ANGSTROM_HZ / wave**2)[:, None, None]


def flux_unit(
    header: Header, path: str, *, integrated: bool = False, spaxel_arcsec: float = float("nan"), keyword: str = "BUNIT"
) -> FluxUnit:
    """Unit of flux stated in a header.

    Args:
        header: header of the fluxes.
        path: path of the file, for the message.
        integrated: whether fluxes are integrated over wavelength, as in line maps.
        spaxel_arcsec: side of a spaxel, arcsec, for fluxes per solid angle.
        keyword: keyword of the card with the unit.

    Raises:
        Rejected: the unit is missing, not understood or not one of flux, or its scale is implausible.
    """
    text = text_card(header, keyword)
    where = f"{path}: {keyword} = {text!r}"
    try:
        unit = parse_unit(text)
    except ValueError as error:
        reason = f"{where} is no unit that is known here ({error}), expected {_expected(integrated)}"
        raise Rejected("bad_unit", reason) from error
    per_area, area = _without_sky(unit, spaxel_arcsec)
    if per_area is None:
        raise Rejected("bad_unit", f"{where} is {area}")
    targets = {"": FLUX} if integrated else {"Angstrom": PER_ANGSTROM, "Hz": PER_HERTZ}
    for per, target in targets.items():
        if per_area.is_equivalent(target):
            factor = float(f"{float(per_area.to(target)) * float(area):.12g}")  # powers of ten are exact
            _check_scale(factor, where)
            return FluxUnit(factor, per, unit)  # type: ignore[arg-type]
    raise Rejected("bad_unit", f"{where} is no unit of flux, expected {_expected(integrated)}")


def noise_unit(
    header: Header, data: FluxUnit, data_text: str, path: str, *, kind: NoiseKind, keyword: str = "BUNIT"
) -> tuple[NoiseKind, float]:
    """Kind of the errors according to their own unit, and the factor to the matching power of the fluxes' unit.

    Args:
        header: header of the errors.
        data: unit of the fluxes.
        data_text: unit of the fluxes as spelled in their header.
        path: path of the file, for the message.
        kind: kind of the errors if their header has neither a unit nor HDUCLAS3.
        keyword: keyword of the card with the unit.

    Raises:
        Rejected: the unit fits neither variance, nor sigma, nor inverse variance of the fluxes, contradicts HDUCLAS3,
            or makes sigmas that are no match for the fluxes.
    """
    text = text_card(header, keyword)
    short, short_data = ("".join(value.split()) for value in (text, data_text))
    stated = _stated_kind(header, path, kind)
    # Some headers are copied from the fluxes', and the MUSE pipeline writes the square without brackets.
    copied = kind == "ivar" and short == short_data
    if not text or copied:
        return stated or kind, 1.0
    found: NoiseKind
    if kind == "variance" and short in (f"{short_data}**2", f"{short_data}^2"):
        found, factor = kind, 1.0
    else:
        found, factor = _kind_of_unit(text, data, data_text, kind, where=_where(header, path, keyword))
    # The unit of the fluxes contradicts nothing, since it may be copied too.
    if stated and stated != found and short != short_data:
        reason = f"is that of {found}, but HDUCLAS3 = {text_card(header, 'HDUCLAS3')!r}, expected one kind of errors"
        raise Rejected("bad_unit", f"{_where(header, path, keyword)} {reason}")
    return found, factor


def _where(header: Header, path: str, keyword: str) -> str:
    return f"{path}: {keyword} = {text_card(header, keyword)!r} of {header.get('EXTNAME', 'the errors')}"


def _stated_kind(header: Header, path: str, kind: NoiseKind) -> NoiseKind | None:
    """Kind of the errors by HDUCLAS3; None if it gives none. Inverse variances of a survey must stay such."""
    text = text_card(header, "HDUCLAS3").upper()
    stated = STATED_KINDS.get(text)
    if text == "INVRMSE" or (kind == "ivar" and stated not in (None, "ivar")):
        expected = "INVMSE" if kind == "ivar" else ", ".join(STATED_KINDS)
        name = header.get("EXTNAME", "the errors")
        raise Rejected("bad_unit", f"{path}: HDUCLAS3 = {text!r} of {name}, expected {expected} or no card")
    return stated


def _kind_of_unit(text: str, data: FluxUnit, data_text: str, kind: NoiseKind, *, where: str) -> tuple[NoiseKind, float]:
    """Kind of the errors by their unit, and their factor; arguments and errors as in `noise_unit`."""
    try:
        unit = parse_unit(text)
    except ValueError as error:
        raise Rejected("bad_unit", f"{where} is no unit that is known here ({error})") from error
    for found, power in POWERS.items():
        try:
            factor = float((unit / data.unit**power).to(u.dimensionless_unscaled))
        except u.UnitConversionError:
            continue
        if kind == "ivar" and found != "ivar":
            break
        if found == "sigma" and not 1 / MOST_SIGMA <= factor <= MOST_SIGMA:
            reason = f"makes sigmas in {factor:.3g} times {data_text!r}, the unit of the fluxes"
            raise Rejected("bad_unit", f"{where} {reason}, expected {1 / MOST_SIGMA:g} to {MOST_SIGMA:g} times it")
        return found, factor
    wanted = "power -2" if kind == "ivar" else "square, itself (sigma), or power -2 (inverse variance)"
    raise Rejected("bad_unit", f"{where} does not fit fluxes in {data_text!r}, expected its {wanted}")


def inverse_variance(values: np.ndarray, kind: NoiseKind, factor: float) -> np.ndarray:
    """Inverse variance of errors of any kind, [plane, y, x]; 0 where they are not positive, NaN where they are NaN.

    Args:
        values: [plane, y, x] errors.
        kind: kind of the errors.
        factor: factor to the matching power of the fluxes' unit, applied first.
    """
    if kind == "ivar":
        return values if factor == 1 else values * factor
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scaled = values if factor == 1 else values.astype(np.float64) * factor
        variance = scaled if kind == "variance" else scaled * np.abs(scaled)  # a negative sigma is invalid
        return np.where(variance > 0, 1 / variance, np.where(np.isnan(variance), np.nan, 0))


@lru_cache(maxsize=256)
def parse_unit(text: str) -> Any:
    """Unit, with its scale, from any of the spellings found in headers.

    Raises:
        ValueError: a part of the text is not understood.
    """
    text = text.replace("{", "(").replace("}", ")").replace("[", "(").replace("]", ")").strip()
    if not text:
        raise ValueError("it is empty")
    try:
        unit, rest = _product(text)
    except (ArithmeticError, TypeError) as error:
        raise ValueError(str(error)) from error
    if rest.strip():
        raise ValueError(f"not understood from {rest.strip()!r} on")
    return unit


def _product(text: str) -> tuple[Any, str]:
    """Product of the factors up to the end or a closing bracket, and the rest; `/` divides by one factor alone."""
    unit, divide, empty = u.dimensionless_unscaled, False, True
    while (match := TOKEN.match(text)) is not None and match[4] != ")":
        if match[4] in ("*", ".", "/"):
            divide, text = match[4] == "/", text[match.end() :]
            continue
        factor, text = _factor(match, text)
        unit, divide, empty = unit / factor if divide else unit * factor, False, False
        if re.match(r"\s*\.\d", text):  # as in 10**-16.5: no product with 5
            raise ValueError(f"not one number before {text.strip()!r}")
    if empty or divide:
        raise ValueError("a factor is missing")
    return unit, text


def _factor(match: re.Match[str], text: str) -> tuple[Any, str]:
    rest = text[match.end() :]
    number, name, _, bracket = match.groups()
    if bracket == "(":
        base, rest = _product(rest)
        if not rest.lstrip().startswith(")"):
            raise ValueError("a bracket is not closed")
        rest = rest.lstrip()[1:]
    elif number:
        value = float(number.lower().replace("d", "e"))
        base = u.Unit(value) if value > 0 else None
    elif name:
        base = _named(name)
    else:
        base = None
    if base is None:
        raise ValueError(f"not understood from {text.strip()!r} on")
    raised = re.match(r"\s*(\*\*|\^)", rest)
    exponent = EXPONENT.match(rest[raised.end() :] if raised else rest)
    if raised and not exponent:
        raise ValueError(f"no exponent after {match[0].strip()!r}")
    if exponent and abs(int(exponent[1] or exponent[2])) > LARGEST_EXPONENT:
        raise ValueError(f"an exponent of {exponent[0].strip()}")
    if raised and exponent:
        return base ** int(exponent[1] or exponent[2]), rest[raised.end() + exponent.end() :]
    if name and exponent and exponent[2] and not rest[:1].isspace():
        return base ** int(exponent[2]), rest[exponent.end() :]
    return base, rest


def _named(name: str) -> Any:
    for spelling in (name, name.lower()):
        if spelling in NAMES:
            return NAMES[spelling]
    try:
        return u.Unit(name)
    except ValueError as error:
        raise ValueError(f"{name!r} is not known") from error


def _without_sky(unit: Any, spaxel_arcsec: float) -> tuple[Any, float | str]:
    """Unit per spaxel and the factor of the conversion; or None and the problem, in words."""
    whole = unit.decompose()
    powers = dict(zip((str(base) for base in whole.bases), whole.powers, strict=True))
    pixels, angles, fibres = (powers.get(base, 0) for base in ("pix", "rad", "fibre"))
    if fibres:
        return None, "a flux by fibre, expected one by spaxel or by arcsec2"
    if (pixels, angles) in ((0, 0), (-1, 0)):
        return unit * u.pix ** (-pixels), 1.0
    if (pixels, angles) == (0, -2):
        if not np.isfinite(spaxel_arcsec):
            return None, "a flux by solid angle, and the header does not say how large a spaxel is"
        return unit * u.arcsec**2, spaxel_arcsec**2
    return None, "no unit of flux by spaxel or by solid angle"


def _check_scale(factor: float, where: str) -> None:
    if not SMALLEST <= factor <= LARGEST:
        raise Rejected(
            "bad_unit", f"{where} is {factor:.3g} times 1e-17 erg/s/cm2, expected {SMALLEST:g} to {LARGEST:g} times it"
        )


def _expected(integrated: bool) -> str:
    return "such as '1e-17 erg/s/cm2/spaxel'" if integrated else "such as '1e-17 erg/s/cm2/Angstrom/spaxel'"
