"""Maps, summed spectra and thumbnail of a galaxy: functions from arrays to arrays or PNG, without global state."""

import io
import math
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from cubeprep.masks import good_samples
from cubeprep.store import Windows

FLUX_COLOURS = "viridis"
SIGMA_COLOURS = "RdBu_r"
CHI2_COLOURS = "magma"
SOFTENING = 0.1  # the asinh stretch is linear below this fraction of the upper limit, and logarithmic above
# Of a palette of 256: the last colour is transparent and marks missing data, where the page's grey shows through.
NUM_COLOURS = 255


@dataclass(frozen=True)
class LineMaps:
    """Maps of one galaxy, [line, y, x] float64, NaN where a spaxel has no good sample of the line.

    Attributes:
        flux: mean over the good samples of the window, in the store's flux unit.
        reconstruction: mean over the same samples.
        residual_sigma: residual summed over the window, in units of its standard deviation; the residuals of a wrong
            velocity can cancel.
        chi2: mean of residual^2 ivar over the good samples, in which no residuals cancel.
    """

    flux: np.ndarray
    reconstruction: np.ndarray
    residual_sigma: np.ndarray
    chi2: np.ndarray


@dataclass(frozen=True)
class Spectra:
    """Spectra summed over spaxels, [line, sample] float64, NaN where no spaxel is good.

    Attributes:
        flux: sum over good spaxels.
        reconstruction: sum over the same spaxels.
        error: standard deviation of `flux`.
    """

    flux: np.ndarray
    reconstruction: np.ndarray
    error: np.ndarray


def line_maps(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, reconstruction: np.ndarray) -> LineMaps:
    """Maps of one galaxy; masked samples have no influence.

    Args:
        flux, ivar, mask, reconstruction: [line, sample, y, x], in the store's flux unit.
    """
    good = good_samples(flux, ivar, mask)
    count = good.sum(1)
    weight = np.where(good, ivar, 1).astype(np.float64)
    observed, rebuilt = (np.where(good, values, 0).astype(np.float64) for values in (flux, reconstruction))
    residual = observed - rebuilt
    variance = np.where(good, 1 / weight, 0).sum(1)
    return LineMaps(
        flux=_over(observed.sum(1), count),
        reconstruction=_over(rebuilt.sum(1), count),
        residual_sigma=_over(residual.sum(1), np.sqrt(variance)),
        chi2=_over((residual**2 * weight).sum(1), count),
    )


def summed_spectra(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, reconstruction: np.ndarray) -> Spectra:
    """Summed spectra of one galaxy; masked samples have no influence.

    Args:
        flux, ivar, mask, reconstruction: [line, sample, y, x], in the store's flux unit.
    """
    good = good_samples(flux, ivar, mask)
    spaxels = (-2, -1)
    empty = ~good.any(spaxels)
    variance = np.divide(1.0, ivar, out=np.zeros(ivar.shape), where=good)
    sums = (np.where(good, values, 0).sum(spaxels, dtype=np.float64) for values in (flux, reconstruction))
    observed, rebuilt = (np.where(empty, np.nan, values) for values in sums)
    return Spectra(observed, rebuilt, np.where(empty, np.nan, np.sqrt(variance.sum(spaxels))))


def flux_limits(*maps: np.ndarray) -> tuple[float, float]:
    """Limits of a flux scale: from 0, or the 2nd percentile if that is negative, to the 99.5th percentile."""
    values = np.concatenate([values[np.isfinite(values)] for values in maps])
    if not values.size:
        return 0.0, 1.0
    low, high = min(0.0, float(np.percentile(values, 2))), float(np.percentile(values, 99.5))
    return low, high if high > max(low, 0) else low + abs(low) + 1.0


def upper_limit(values: np.ndarray, *, least: float, percentile: float = 99.5) -> float:
    """Upper limit of a scale of |values|: their percentile, rounded to two digits, and at least `least`."""
    finite = np.abs(values[np.isfinite(values)])
    return max(least, float(f"{np.percentile(finite, percentile):.2g}")) if finite.size else least


def map_png(values: np.ndarray, low: float, high: float, colours: str, *, asinh: bool = False) -> bytes:
    """PNG of a map, one pixel per spaxel, with the first row at the bottom; transparent where NaN.

    Args:
        values: [y, x] map.
        low, high: values of the first and the last colour.
        colours: name of a matplotlib colour map.
        asinh: whether colours follow asinh(value / (`SOFTENING` * `high`)), which shows both centre and outskirts.
    """
    finite = np.isfinite(values)
    shown = np.clip(np.where(finite, values, low), low, high)
    if asinh:
        softening = SOFTENING * high
        shown = np.arcsinh(shown / softening)
        low, high = math.asinh(low / softening), math.asinh(high / softening)
    index = np.where(finite, np.rint((shown - low) / (high - low) * (NUM_COLOURS - 1)), NUM_COLOURS).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(index[::-1]), mode="P")
    image.putpalette(np.append(palette(colours), np.zeros((1, 3), np.uint8), axis=0).tobytes())
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True, transparency=NUM_COLOURS)
    return content.getvalue()


def thumbnail_of(windows: Windows, line: int) -> bytes:
    """PNG of the mean flux of one line over its good samples, one pixel per spaxel.

    Args:
        windows: windows of one galaxy, one row.
        line: index of the line.
    """
    good = good_samples(windows.flux[0, line], windows.ivar[0, line], windows.mask[0, line])
    total = np.where(good, windows.flux[0, line], 0).sum(0, dtype=np.float64)
    flux = _over(total, good.sum(0))
    return map_png(flux, *flux_limits(flux), FLUX_COLOURS, asinh=True)


def palette(colours: str) -> np.ndarray:
    """Colours of a matplotlib colour map, [colour, 3] uint8."""
    rgba = matplotlib.colormaps[colours](np.linspace(0, 1, NUM_COLOURS), bytes=True)
    return np.asarray(rgba)[:, :3]


def _over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
