"""Maps of one galaxy as a FITS file: one image [line, y, x] per quantity, with world coordinates, units and provenance.

The third axis counts lines; the cards C01, C02, ... name them, as in the MAPS of MaNGA's DAP.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.masks import good_samples
from cubeprep.store import Windows
from jobs.page.figures import line_maps
from jobs.tables.write import ascii_text, unit_of

ANGSTROM = " Angstrom"
SIGMA = "standard deviations"
DESCRIPTIONS = {
    "FLUX": "flux of each line, summed over the good samples of its window",
    "FLUX_ERROR": "standard deviation of FLUX; covariance between samples is not included",
    "MODEL": "reconstruction, summed over the same samples",
    "RESIDUAL": "FLUX less MODEL",
    "RESIDUAL_SIGMA": "residual summed over the window, in " + SIGMA,
    "CHI2": "mean squared residual of the good samples, in units of their variance",
    "GOOD": "share of the samples of the window that are good",
    "BY_PLACE": "attribution of the score to lines: residual with the model's own error, in " + SIGMA,
    "BY_SPAXEL": "attribution of the score to spaxels: excess chi2 around each, in " + SIGMA,
    "TRIAGED": "share of the good samples that were masked as artefacts before scoring",
}


@dataclass(frozen=True)
class Maps:
    """Maps of one galaxy, NaN where no sample of a line is good.

    Attributes:
        values: [line, y, x] or [y, x] by the names of `DESCRIPTIONS`.
        units: unit by name; empty for ratios.
    """

    values: dict[str, np.ndarray]
    units: dict[str, str]


def galaxy_maps(
    windows: Windows,
    reconstruction: np.ndarray,
    attribution: Mapping[str, np.ndarray],
    *,
    wave: np.ndarray,
    velocity_kms: np.ndarray,
    flux_unit: str,
) -> Maps:
    """Maps of one galaxy from its windows.

    Args:
        windows: windows of the galaxy, one row.
        reconstruction: [1, line, sample, y, x], in the store's unit.
        attribution: of `jobs.page.attribution.read_maps`.
        wave: [line] observed wavelengths, Angstrom.
        velocity_kms: [sample] velocities of the samples.
        flux_unit: unit of the store; fluxes per Angstrom are integrated over wavelength, unless a line has one sample.
    """
    flux, ivar, mask = windows.flux[0], windows.ivar[0], windows.mask[0]
    good = good_samples(flux, ivar, mask)
    shown = line_maps(flux, ivar, mask, reconstruction[0])
    step, unit = np.ones((len(wave), len(velocity_kms))), flux_unit
    if ANGSTROM in flux_unit and len(velocity_kms) > 1:
        step = wave[:, None] * np.exp(velocity_kms / SPEED_OF_LIGHT_KMS)
        step = step * np.median(np.diff(velocity_kms)) / SPEED_OF_LIGHT_KMS
        unit = flux_unit.replace(ANGSTROM, "")
    step = step[:, :, None, None]
    variance = np.divide(step**2, ivar, out=np.zeros(flux.shape), where=good)
    values = {
        "FLUX": np.where(good, flux * step, 0).sum(1),
        "FLUX_ERROR": np.sqrt(variance.sum(1)),
        "MODEL": np.where(good, reconstruction[0] * step, 0).sum(1),
    }
    values["RESIDUAL"] = values["FLUX"] - values["MODEL"]
    units = dict.fromkeys(values, unit)
    values |= {"RESIDUAL_SIGMA": shown.residual_sigma, "CHI2": shown.chi2, "GOOD": good.mean(1)}
    values |= {name.upper(): array for name, array in attribution.items()}
    seen = {3: good.any(1), 2: good.any((0, 1))}
    masked = {name: np.where(seen[array.ndim], array, np.nan) for name, array in values.items()}
    return Maps(masked, units)


def fits_bytes(
    maps: Maps,
    line_names: Sequence[str],
    sky: Mapping[str, str | float],
    cards: Mapping[str, Any],
    history: Sequence[str],
) -> bytes:
    """FITS file of some maps.

    Args:
        maps: the maps.
        line_names: [line].
        sky: cards of the celestial axes.
        cards: values and comments of the primary header, by key.
        history: HISTORY of the primary header.
    """
    from astropy.io import fits

    primary = fits.PrimaryHDU()
    for key, card in cards.items():
        value, *comment = card if isinstance(card, tuple) else (card,)
        primary.header[key] = (ascii_text(value) if isinstance(value, str) else value, *comment)
    for line in history:
        primary.header.add_history(ascii_text(line))
    hdus = fits.HDUList([primary])
    for name, values in maps.values.items():
        hdu = fits.ImageHDU(values.astype(np.float32), name=name)
        hdu.header["BUNIT"] = str(unit_of(name, maps.units[name]).to_string("fits")) if name in maps.units else ""
        hdu.header["HDUDESC"] = DESCRIPTIONS[name]
        hdu.header.update(sky)
        if values.ndim == 3:
            hdu.header.update(_line_axis(line_names, sky))
        hdus.append(hdu)
    buffer = io.BytesIO()
    hdus.writeto(buffer, checksum=True)
    return buffer.getvalue()


def _line_axis(line_names: Sequence[str], sky: Mapping[str, str | float]) -> dict[str, Any]:
    """Cards of the third axis, which counts lines from 1."""
    step = "CD3_3" if any(key.startswith("CD") and "_" in key for key in sky) else "CDELT3"
    names = {f"C{i:02d}": name for i, name in enumerate(line_names, start=1)}
    return {"CTYPE3": "LINE", "CRPIX3": 1.0, "CRVAL3": 1.0, step: 1.0} | names
