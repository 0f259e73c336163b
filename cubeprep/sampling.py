"""Resampling of a cube's wavelength planes to the samples of a window: pure functions on arrays.

Every sample is a weighted mean of planes, so that one small matrix describes the sampling of a line. With `nearest` (as
in the paper; needs a wavelength grid with the same step) each sample is one plane. With `conserve` the weights are the
overlaps of planes and sample, which conserves the flux integrated over wavelength.
"""

from dataclasses import dataclass, replace

import numpy as np

from cubeprep.cube import Planes, Rejected
from cubeprep.lines import Line
from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.windows import WindowConfig

NOCOVERAGE = WINDOW_MASK_BITS["NOCOVERAGE"]
# By how many planes a grid may differ, at its end, from one with the step of the windows.
MOST_DRIFT = 0.1


@dataclass(frozen=True)
class Sampling:
    """Sampling of one line from the planes of one arm.

    Attributes:
        planes: index of the first plane used, and of the one after the last.
        weights: [sample, plane] weights of the planes in that range; the row of a covered sample sums to one.
        covered: [sample] bool, whether the whole sample lies in the range of the arm.
    """

    planes: tuple[int, int]
    weights: np.ndarray
    covered: np.ndarray


def pixel_edges(wave: np.ndarray) -> np.ndarray:
    """Edges of the pixels of a wavelength grid, [plane + 1], half-way between neighbours."""
    middle = (wave[1:] + wave[:-1]) / 2
    return np.concatenate([[2 * wave[0] - middle[0]], middle, [2 * wave[-1] - middle[-1]]])


def sample_line(wave: np.ndarray, line: Line, z: float, config: WindowConfig) -> Sampling:
    """Sampling of a line at redshift `z` on a wavelength grid.

    Args:
        wave: [plane] vacuum wavelengths in the observer's frame, Angstrom.
        line: line whose window is cut.
        z: redshift of the galaxy.
        config: number of samples, their step, and the method.
    """
    observed = line.rest_wave * (1 + z)
    if config.sampling == "nearest":
        return _nearest(wave, observed, config)
    return _conserve(wave, observed, config)


def _nearest(wave: np.ndarray, observed: float, config: WindowConfig) -> Sampling:
    position = np.log10(observed / wave[0]) / config.step_dex
    first = round(position - (config.num_samples - 1) / 2)
    index = first + np.arange(config.num_samples)
    covered = (index >= 0) & (index < len(wave))
    start, stop = _clip_range(index[0], index[-1] + 1, len(wave))
    weights = (index[:, None] == np.arange(start, stop)).astype(np.float64)
    return Sampling((start, stop), weights, covered)


def _conserve(wave: np.ndarray, observed: float, config: WindowConfig) -> Sampling:
    half = config.step_dex / 2
    low = observed * 10 ** (config.offsets_dex - half)
    high = observed * 10 ** (config.offsets_dex + half)
    edges = pixel_edges(wave)
    covered = (low >= edges[0]) & (high <= edges[-1])
    start, stop = _clip_range(
        int(np.searchsorted(edges, low[0], side="right")) - 1, int(np.searchsorted(edges, high[-1])), len(wave)
    )
    left, right = edges[start:stop], edges[start + 1 : stop + 1]
    overlap = np.minimum(high[:, None], right) - np.maximum(low[:, None], left)
    return Sampling((start, stop), np.clip(overlap, 0, None) / (high - low)[:, None], covered)


def _clip_range(start: int, stop: int, length: int) -> tuple[int, int]:
    start = min(max(int(start), 0), length)
    return start, max(min(int(stop), length), start)


def check_grid(wave: np.ndarray, config: WindowConfig, source: str) -> None:
    """Checks that the wavelength grid has the step of the windows if `sampling` is `nearest`.

    Raises:
        Rejected: the grid is linear or has another step.
    """
    steps = np.diff(np.log10(wave[[0, 1, -2, -1]]))[[0, 2]]
    drift = np.log10(wave[-1] / wave[0]) / config.step_dex - (len(wave) - 1)
    fits = np.allclose(steps, config.step_dex, rtol=1e-3) and abs(drift) <= MOST_DRIFT
    if config.sampling == "nearest" and not fits:
        raise Rejected(
            "bad_wave",
            f"{source}: windows.sampling=nearest needs a wavelength grid of {config.step_dex:g} dex a pixel; this one "
            f"has {steps[0]:.6g} to {steps[1]:.6g}. Use windows.sampling=conserve.",
        )


def combine(planes: Planes, sampling: Sampling) -> Planes:
    """Samples of a window, [sample, y, x]; a sample is masked if one of its planes is.

    Args:
        planes: planes in the range `sampling.planes`.
        sampling: their weights.
    """
    covered = sampling.covered
    shape = (len(covered), *planes.flux.shape[1:])
    window = Planes(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.full(shape, NOCOVERAGE, np.uint8))
    if covered.any():
        window.flux[covered], window.ivar[covered], window.mask[covered] = _means(planes, sampling.weights[covered])
    return replace(window, spaxel_arcsec=planes.spaxel_arcsec)


def _means(planes: Planes, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # A sample uses two or three neighbouring planes. Adding the first plane of all samples, then the second, and so on,
    # is much less work than the product of the whole matrix and the planes.
    used = weights > 1e-9
    first, last = used.argmax(axis=1), used.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    shape = (len(first), *planes.flux.shape[1:])
    flux, noise, mask = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=np.uint8)
    with np.errstate(divide="ignore"):
        variance = np.where(planes.mask == 0, 1 / planes.ivar, 0)
    for step in range(int((last - first).max()) + 1):
        index = np.minimum(first + step, last)
        weight = np.where(first + step <= last, weights[np.arange(len(first)), index], 0)[:, None, None]
        flux += weight * planes.flux[index]
        noise += weight**2 * variance[index]
        mask |= planes.mask[index]
    good = mask == 0
    return np.where(good, flux, 0), np.divide(1, noise, out=np.zeros(shape), where=good), mask


def sideband_planes(wave: np.ndarray, line: Line, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the planes of a line's blue and red continuum bands."""
    blue, red = (np.arange(*np.searchsorted(wave, np.array(band) * (1 + z))) for band in (line.blueside, line.redside))
    return blue, red


def subtract_continuum(window: Planes, line: Line, config: WindowConfig, blue: Planes, red: Planes) -> Planes:
    """Window after subtraction of the straight line through the means of two bands, whose variance is added.

    Samples are masked where a band has no good plane, with the reasons of that band; masked samples keep their reason.
    """
    continuum = through_bands(line, line.rest_wave * 10**config.offsets_dex, blue, red)
    mask = np.where(window.mask != 0, window.mask, continuum.mask)
    good = mask == 0
    noise = 1 / np.where(good, window.ivar, 1) + 1 / np.where(good, continuum.ivar, 1)
    flux = np.where(good, window.flux - continuum.flux, 0)
    return Planes(flux.astype(np.float32), np.where(good, 1 / noise, 0).astype(np.float32), mask, window.spaxel_arcsec)


def through_bands(line: Line, wave: np.ndarray, blue: Planes, red: Planes) -> Planes:
    """Straight line through the means of a line's two bands, [wave, y, x]; masked where a band has no good plane.

    Args:
        line: the line.
        wave: [wave] rest wavelengths at which it is wanted, Angstrom.
        blue: planes of the blue band.
        red: planes of the red band.
    """
    (blue_mean, blue_var), (red_mean, red_var) = _band_mean(blue), _band_mean(red)
    share = band_share(line, wave)[:, None, None]
    flux = (1 - share) * blue_mean + share * red_mean
    variance = (1 - share) ** 2 * blue_var + share**2 * red_var
    known = np.isfinite(flux[0])
    reasons = np.zeros(known.shape, dtype=np.uint8) if known.all() else _why_empty(blue) | _why_empty(red)
    mask = np.broadcast_to(np.where(known, 0, reasons).astype(np.uint8), flux.shape)
    return Planes(np.where(known, flux, 0), np.where(known, 1 / variance, 0), mask, blue.spaxel_arcsec)


def band_share(line: Line, wave: np.ndarray) -> np.ndarray:
    """Share [wave] of the red band in the straight line through both, at rest wavelengths [wave] in Angstrom."""
    centre_blue, centre_red = np.mean(line.blueside), np.mean(line.redside)
    return np.asarray((wave - centre_blue) / (centre_red - centre_blue))


def _why_empty(band: Planes) -> np.ndarray:
    """Mask bits of a band without a good plane, [y, x]; 0 where it has one."""
    if not len(band.mask):
        return np.full(band.mask.shape[1:], NOCOVERAGE, dtype=np.uint8)
    reasons: np.ndarray = np.bitwise_or.reduce(band.mask, axis=0)
    return np.where((band.mask == 0).any(axis=0), 0, reasons)


def _band_mean(band: Planes) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the good planes of a band and its variance, both [y, x]; NaN where there is none."""
    good = band.mask == 0
    count = good.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(count > 0, band.flux.sum(axis=0, dtype=np.float64) / count, np.nan)
        variance = np.where(good, 1 / band.ivar, 0).sum(axis=0, dtype=np.float64) / count**2
    return mean, np.where(count > 0, variance, np.nan)
