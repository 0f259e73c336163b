"""Small pictures for the page: maps as PNG data URIs, spectra as SVG paths. Arrays in, text out, no global state."""

import base64
import io
import math
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from cubeprep.masks import good_samples

FLUX_COLOURS = "viridis"
SIGMA_COLOURS = "RdBu_r"
CHI2_COLOURS = "magma"
SOFTENING = 0.1  # of the asinh stretch: linear below this share of the upper end, logarithmic above
NUM_COLOURS = 255  # of a palette of 256; the last is what has no data, and transparent: the page shows its grey there

# The box of one small spectrum, in SVG units.
SPECTRUM_WIDTH, SPECTRUM_HEIGHT = 100.0, 56.0


@dataclass(frozen=True)
class LineMaps:
    """Maps of one galaxy, [line, y, x] float64, NaN where a spaxel has no good sample of the line.

    Attributes:
        flux: mean over the good samples of the window, flux units.
        model: the reconstruction over the same samples.
        sigma: sum of the residual over its standard deviation: how many sigma the window as a whole is off.
        chi2: mean of residual^2 ivar over the good samples: the misfit that signs do not cancel in.
    """

    flux: np.ndarray
    model: np.ndarray
    sigma: np.ndarray
    chi2: np.ndarray


@dataclass(frozen=True)
class Spectra:
    """Windows summed over the spaxels, [line, sample] float64, NaN where no spaxel is good.

    Attributes:
        flux: sum over good spaxels.
        model: the reconstruction, over the same spaxels.
        error: standard deviation of `flux`.
    """

    flux: np.ndarray
    model: np.ndarray
    error: np.ndarray


def line_maps(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, model: np.ndarray) -> LineMaps:
    """Maps of one galaxy from its windows, [line, sample, y, x] each; masked values have no influence."""
    good = good_samples(flux, ivar, mask)
    count = good.sum(1)
    weight = np.where(good, ivar, 1).astype(np.float64)
    observed, fitted = np.where(good, flux, 0).astype(np.float64), np.where(good, model, 0).astype(np.float64)
    residual = observed - fitted
    variance = np.where(good, 1 / weight, 0).sum(1)
    return LineMaps(
        flux=_over(observed.sum(1), count),
        model=_over(fitted.sum(1), count),
        sigma=_over(residual.sum(1), np.sqrt(variance)),
        chi2=_over((residual**2 * weight).sum(1), count),
    )


def summed_spectra(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, model: np.ndarray) -> Spectra:
    """Spectra of one galaxy from its windows, [line, sample, y, x] each; masked values have no influence."""
    good = good_samples(flux, ivar, mask)
    spaxels = (-2, -1)
    empty = ~good.any(spaxels)
    variance = np.divide(1.0, ivar, out=np.zeros(ivar.shape), where=good)
    sums = (np.where(good, values, 0).sum(spaxels, dtype=np.float64) for values in (flux, model))
    observed, fitted = (np.where(empty, np.nan, values) for values in sums)
    return Spectra(observed, fitted, np.where(empty, np.nan, np.sqrt(variance.sum(spaxels))))


def flux_limits(*maps: np.ndarray) -> tuple[float, float]:
    """Ends of a linear scale for maps of one quantity: 0, or less where flux is negative, to the 99.5th percentile."""
    values = np.concatenate([values[np.isfinite(values)] for values in maps])
    if not values.size:
        return 0.0, 1.0
    low, high = min(0.0, float(np.percentile(values, 2))), float(np.percentile(values, 99.5))
    return low, high if high > max(low, 0) else low + abs(low) + 1.0


def upper_limit(values: np.ndarray, *, least: float, percentile: float = 99.5) -> float:
    """The upper end of a scale of |values|: a percentile to two digits, `least` at the least."""
    finite = np.abs(values[np.isfinite(values)])
    return max(least, float(f"{np.percentile(finite, percentile):.2g}")) if finite.size else least


def map_image(values: np.ndarray, low: float, high: float, colours: str, *, asinh: bool = False) -> str:
    """The PNG of `map_png` as a data URI."""
    return png_uri(map_png(values, low, high, colours, asinh=asinh))


def png_uri(content: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def map_png(values: np.ndarray, low: float, high: float, colours: str, *, asinh: bool = False) -> bytes:
    """A map as PNG, one pixel a spaxel, first row at the bottom; transparent where NaN.

    Args:
        values: [y, x].
        low, high: values of the first and the last colour.
        colours: name of a matplotlib colour map.
        asinh: whether colours follow asinh(value / (`SOFTENING` high)), which shows the outskirts beside the centre.
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


def gradient(colours: str, stops: int = 9) -> str:
    """A colour map as a CSS gradient from left to right, for colour bars."""
    chosen = palette(colours)[np.linspace(0, NUM_COLOURS - 1, stops).astype(int)]
    return "linear-gradient(to right," + ",".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in chosen) + ")"


def spectrum_limits(spectra: Spectra, line: int) -> tuple[float, float]:
    """Ends of the flux axis of one line: just outside spectrum and model, so that lines stand out of a continuum."""
    values = np.concatenate([spectra.flux[line], spectra.model[line]])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def step_path(values: np.ndarray, low: float, high: float) -> str:
    """The `d` of an SVG path that draws [sample] values as steps; it is broken where a value is NaN."""
    width = SPECTRUM_WIDTH / len(values)
    parts = []
    connected = False
    for i, value in enumerate(values):
        if np.isfinite(value):
            y = _height(value, low, high)
            parts.append(f"{'L' if connected else 'M'}{i * width:.1f} {y:.1f}H{(i + 1) * width:.1f}")
        connected = bool(np.isfinite(value))
    return "".join(parts)


def band_path(centre: np.ndarray, half_width: np.ndarray, low: float, high: float) -> str:
    """The `d` of an SVG path that fills the band centre +- half_width, both [sample], one box a sample."""
    width = SPECTRUM_WIDTH / len(centre)
    parts = []
    for i, (value, half) in enumerate(zip(centre, half_width, strict=True)):
        if np.isfinite(value) and np.isfinite(half):
            top, bottom = (_height(end, low, high) for end in (value + half, value - half))
            parts.append(f"M{i * width:.1f} {top:.1f}H{(i + 1) * width:.1f}V{bottom:.1f}H{i * width:.1f}Z")
    return "".join(parts)


def palette(colours: str) -> np.ndarray:
    """The colours of a matplotlib colour map, [colour, 3] uint8."""
    rgba = matplotlib.colormaps[colours](np.linspace(0, 1, NUM_COLOURS), bytes=True)
    return np.asarray(rgba)[:, :3]


def _height(value: float, low: float, high: float) -> float:
    """Where a flux lies in the box, from its top, kept within it."""
    return float(np.clip((high - value) / (high - low), 0, 1)) * SPECTRUM_HEIGHT


def _over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
