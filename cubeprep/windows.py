"""Windows around emission lines, cut from spectra at a galaxy's redshift: pure functions on arrays.

Every sample of a window is a weighted mean of wavelength planes, so that one small matrix a line says all there is to
know: `nearest` has a single one in each row (the paper's choice, on a grid of the same step), `conserve` the shares of
the planes that overlap a sample, so that the flux integrated over wavelength stays what it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from cubeprep.config import Config
from cubeprep.cube import Arm, Planes, Rejected
from cubeprep.lines import LINES_BY_NAME, PRESETS, SPEED_OF_LIGHT_KMS, Line
from cubeprep.masks import WINDOW_MASK_BITS

NOCOVERAGE = WINDOW_MASK_BITS["NOCOVERAGE"]


class WindowConfig(Config):
    """Which windows are cut."""

    lines: Literal["paper", "dap-dr17"] | tuple[str | Line, ...] = Field(
        "paper", description="A preset, or names of known lines and lines of your own"
    )
    num_samples: int = Field(10, ge=1)
    step_dex: float = Field(1e-4, gt=0, description="Step between samples in log10 of wavelength; MaNGA's is 1e-4")
    size: int = Field(32, ge=8, description="Spaxels a side, cropped or padded about the centre")
    sampling: Literal["nearest", "conserve"] = "nearest"
    continuum: Literal["none", "sidebands"] = "none"
    min_lines: int | None = Field(None, ge=1, description="Lines that must be in range; default all")

    @field_validator("lines")
    @classmethod
    def _known(cls, lines: str | tuple[str | Line, ...]) -> str | tuple[str | Line, ...]:
        if isinstance(lines, str):
            return lines
        unknown = [line for line in lines if isinstance(line, str) and line not in LINES_BY_NAME]
        if unknown or not lines:
            raise ValueError(f"unknown lines {unknown}; known are {', '.join(LINES_BY_NAME)}")
        names = [line if isinstance(line, str) else line.name for line in lines]
        if len(set(names)) < len(names):
            raise ValueError("a line is named twice")
        return lines

    @property
    def line_list(self) -> list[Line]:
        """The lines, in order."""
        if isinstance(self.lines, str):
            return list(PRESETS[self.lines])
        return [LINES_BY_NAME[line] if isinstance(line, str) else line for line in self.lines]

    @property
    def line_names(self) -> list[str]:
        """Their names."""
        return [line.name for line in self.line_list]

    @property
    def offsets_dex(self) -> np.ndarray:
        """[sample] centre of each sample against its line, in log10 of wavelength."""
        return (np.arange(self.num_samples) - (self.num_samples - 1) / 2) * self.step_dex

    @property
    def velocity_kms(self) -> np.ndarray:
        """[sample] centre of each sample against its line, km/s."""
        return SPEED_OF_LIGHT_KMS * np.log(10) * self.offsets_dex


@dataclass(frozen=True)
class Sampling:
    """How the samples of one line come from the planes of one arm.

    Attributes:
        planes: the first plane and the one after the last.
        weights: [sample, plane] of the planes in that range; a row sums to one.
        covered: [sample] bool, whether the arm's range holds the whole sample.
    """

    planes: tuple[int, int]
    weights: np.ndarray
    covered: np.ndarray


@dataclass(frozen=True)
class LineWindows:
    """The windows of one galaxy.

    Attributes:
        flux: [line, sample, y, x] float32; NaN where masked.
        ivar: the same shape, of each sample alone; `conserve` correlates neighbours that share a plane, with a
            coefficient of at most 0.5 where steps are alike. 0 where masked.
        mask: the same shape, uint8 bits of `masks.WINDOW_MASK_BITS`.
    """

    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray


def pixel_edges(wave: np.ndarray) -> np.ndarray:
    """[plane + 1] edges of the pixels of a wavelength grid: half-way between neighbours."""
    middle = (wave[1:] + wave[:-1]) / 2
    return np.concatenate([[2 * wave[0] - middle[0]], middle, [2 * wave[-1] - middle[-1]]])


def sample_line(wave: np.ndarray, line: Line, z: float, config: WindowConfig) -> Sampling:
    """Where on a wavelength grid the samples of a line at redshift `z` lie.

    Args:
        wave: [plane] vacuum wavelengths in the observer's frame, Angstrom.
        line: the line.
        z: redshift.
        config: samples, step, and `nearest` or `conserve`.
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


def check_grid(wave: np.ndarray, config: WindowConfig) -> None:
    """Refuses `nearest` on a grid whose step is not the windows'.

    Raises:
        ValueError: the grid is linear or of another step.
    """
    steps = np.diff(np.log10(wave[[0, 1, -2, -1]]))[[0, 2]]
    if config.sampling == "nearest" and not np.allclose(steps, config.step_dex, rtol=1e-3):
        raise ValueError(
            f"windows.sampling=nearest needs a wavelength grid of {config.step_dex:g} dex a pixel; this one has "
            f"{steps[0]:.3g} to {steps[1]:.3g}. Use windows.sampling=conserve."
        )


def extract_windows(arms: Sequence[Arm], z: float, config: WindowConfig, *, source: str = "cube") -> LineWindows:
    """The windows of all lines of one galaxy.

    Args:
        arms: the spectra.
        z: redshift.
        config: which windows.
        source: the file, to be named where the galaxy is rejected.

    Raises:
        Rejected: too few lines are in range (`no_coverage`), or a file cannot be read.
        ValueError: `nearest` on a grid of another step.
    """
    lines = config.line_list
    choices = [_best_arm(arms, line, z, config) for line in lines]
    _check_coverage([bool(sampling.covered.all()) for _, sampling in choices], z, config, source)
    shape = (len(lines), config.num_samples, config.size, config.size)
    flux = np.full(shape, np.nan, dtype=np.float32)
    ivar = np.zeros(shape, dtype=np.float32)
    mask = np.full(shape, NOCOVERAGE, dtype=np.uint8)
    for number, arm in enumerate(arms):
        mine = [i for i, (choice, sampling) in enumerate(choices) if choice == number and sampling.covered.any()]
        bands = {i: sideband_planes(arm.wave, lines[i], z) for i in mine if config.continuum == "sidebands"}
        wanted = [np.arange(*choices[i][1].planes) for i in mine] + [band for i in bands for band in bands[i]]
        if not mine:
            continue
        index = np.unique(np.concatenate(wanted))
        planes = arm.read(index, config.size)
        for i in mine:
            window = _combine(_pick(planes, index, np.arange(*choices[i][1].planes)), choices[i][1])
            if i in bands:
                blue, red = (_pick(planes, index, band) for band in bands[i])
                window = _subtract_continuum(window, lines[i], config, blue, red)
            flux[i], ivar[i], mask[i] = window.flux, window.ivar, window.mask
    return LineWindows(np.where(mask == 0, flux, np.nan), ivar, mask)


def _best_arm(arms: Sequence[Arm], line: Line, z: float, config: WindowConfig) -> tuple[int, Sampling]:
    samplings = [sample_line(arm.wave, line, z, config) for arm in arms]
    best = max(range(len(arms)), key=lambda i: int(samplings[i].covered.sum()))
    return best, samplings[best]


def _check_coverage(in_range: list[bool], z: float, config: WindowConfig, source: str) -> None:
    needed = len(in_range) if config.min_lines is None else min(config.min_lines, len(in_range))
    if sum(in_range) < needed:
        missing = ", ".join(name for name, found in zip(config.line_names, in_range, strict=True) if not found)
        raise Rejected(
            "no_coverage",
            f"{source}: at z = {z:.5f} only {sum(in_range)} of {len(in_range)} lines are in the spectrograph's range, "
            f"{needed} are needed; out of range: {missing}",
        )


def _pick(planes: Planes, index: np.ndarray, wanted: np.ndarray) -> Planes:
    where = np.searchsorted(index, wanted)
    return Planes(planes.flux[where], planes.ivar[where], planes.mask[where])


def _combine(planes: Planes, sampling: Sampling) -> Planes:
    """Weighted means of planes; a sample is masked if any plane that it needs is."""
    weights = sampling.weights
    with np.errstate(divide="ignore"):
        variance = np.where(planes.mask == 0, 1 / planes.ivar, 0)
    flux = np.tensordot(weights, planes.flux, 1)
    noise = np.tensordot(weights**2, variance, 1)
    mask = np.zeros(flux.shape, dtype=np.uint8)
    for bit in WINDOW_MASK_BITS.values():
        hit = np.tensordot((weights > 1e-9).astype(np.float32), (planes.mask & bit > 0).astype(np.float32), 1)
        mask[hit > 0] |= bit
    mask[~sampling.covered] = NOCOVERAGE
    good = mask == 0
    return Planes(
        np.where(good, flux, 0).astype(np.float32),
        np.where(good, 1 / np.where(good, noise, 1), 0).astype(np.float32),
        mask,
    )


def sideband_planes(wave: np.ndarray, line: Line, z: float) -> tuple[np.ndarray, np.ndarray]:
    """The planes of a line's blue and red continuum bands."""
    blue, red = (np.arange(*np.searchsorted(wave, np.array(band) * (1 + z))) for band in (line.blueside, line.redside))
    return blue, red


def _subtract_continuum(window: Planes, line: Line, config: WindowConfig, blue: Planes, red: Planes) -> Planes:
    """Subtracts the straight line through the means of two bands, with its variance; masked where a band is empty."""
    (blue_mean, blue_var), (red_mean, red_var) = _band_mean(blue), _band_mean(red)
    centre_blue, centre_red = np.mean(line.blueside), np.mean(line.redside)
    wave = line.rest_wave * 10**config.offsets_dex
    share = ((wave - centre_blue) / (centre_red - centre_blue))[:, None, None]
    continuum = (1 - share) * blue_mean + share * red_mean
    variance = (1 - share) ** 2 * blue_var + share**2 * red_var
    mask = window.mask | np.where(np.isfinite(continuum), 0, NOCOVERAGE).astype(np.uint8)
    good = mask == 0
    noise = 1 / np.where(good, window.ivar, 1) + np.where(good, variance, 0)
    flux = np.where(good, window.flux - np.where(good, continuum, 0), 0)
    return Planes(flux.astype(np.float32), np.where(good, 1 / noise, 0).astype(np.float32), mask)


def _band_mean(band: Planes) -> tuple[np.ndarray, np.ndarray]:
    """[y, x] mean of the good planes of a band and its variance; NaN where there is none."""
    good = band.mask == 0
    count = good.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(count > 0, band.flux.sum(axis=0, dtype=np.float64) / count, np.nan)
        variance = np.where(good, 1 / band.ivar, 0).sum(axis=0, dtype=np.float64) / count**2
    return mean, np.where(count > 0, variance, np.nan)
