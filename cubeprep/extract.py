"""Extracts the windows of one galaxy: plans which planes are needed, reads them once, and cuts the windows."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from cubeprep.cube import Arm, Planes, Rejected
from cubeprep.line_ratios import covariance
from cubeprep.lines import Line
from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.plausible import noise_deviations, noise_ratio
from cubeprep.redshift import SEARCH, RedshiftOffset, measure_offset, summed
from cubeprep.sampling import (
    Sampling,
    combine,
    sample_line,
    sideband_planes,
    subtract_continuum,
    through_bands,
)
from cubeprep.space import Regrid, regrid
from cubeprep.stars.reading import ModelCube, read_arms
from cubeprep.stars.starlight import StarlightSummary
from cubeprep.velocity import SpaxelCut, VelocityField
from cubeprep.windows import Continuum, LineWindows, WindowConfig

# Largest distance between the places of one spaxel in two arms, spaxels, and relative difference of spaxel sizes.
MOST_SHIFT, MOST_STRETCH = 0.5, 0.01
# Scatter of binned spaxels over that of single ones, both over their stated errors, from which it is remarked on.
SHARED_NOISE = 1.1
CORRELATED_NOISE = "noise of neighbouring spaxels is correlated: binned ones scatter by"  # and by how much


class Cut(NamedTuple):
    """Recipe for one line's window, the same in all spaxels.

    Attributes:
        line: the line.
        arm: index of the arm that covers it.
        sampling: weights of the planes in each sample.
        bands: indices of the planes of the blue and the red sideband; None without continuum subtraction.
    """

    line: Line
    arm: int
    sampling: Sampling
    bands: tuple[np.ndarray, np.ndarray] | None

    @property
    def planes(self) -> np.ndarray:
        """Indices of the planes that the samples are made from."""
        return np.arange(*self.sampling.planes)

    @property
    def needed(self) -> np.ndarray:
        """Indices of all planes, sidebands included; empty if no sample is covered."""
        if not self.sampling.covered.any():
            return np.arange(0)
        return np.concatenate([self.planes, *(self.bands or ())])

    def apply(self, planes: Planes, index: np.ndarray, config: WindowConfig) -> Planes:
        """Window [sample, y, x] of the line.

        Args:
            planes: planes read from the arm.
            index: [plane] their sorted indices in the arm.
            config: window parameters.
        """
        window = combine(_pick(planes, index, self.planes), self.sampling)
        if self.bands is None:
            return window
        return subtract_continuum(window, self.line, config, *(_pick(planes, index, band) for band in self.bands))

    def continuum(self, planes: Planes, index: np.ndarray) -> Planes:
        """Continuum at the line, [1, y, x], on the straight line through its bands."""
        assert self.bands is not None
        bands = (_pick(planes, index, band) for band in self.bands)
        return through_bands(self.line, np.array([self.line.rest_wave]), *bands)


class Extraction(NamedTuple):
    """Windows of a galaxy and quantities measured with them.

    Attributes:
        windows: of all lines.
        offset: velocity offset of the strong lines from the redshift; `NOT_MEASURED` unless requested.
        noise_ratio: scatter between lines over the stated errors, of the spaxels of the windows; NaN where no sidebands
            were read.
        continuum: at each line, before it was subtracted; None if it was not.
        stars: results of the fit of the stars.
        remarks: differences of its files from their own checksums, and limits of the fit of the stars, in words.
        re_spaxels: effective radius in spaxels of the windows; NaN if it or their size is unknown.
        star_error: [line] error of the fitted stars over their model, at each line; None if none were fitted.
        covariance: [line] of `line_ratios.covariance`; None where no line flux is measured.
        sky: cards of the celestial axes of the windows; empty if the file does not give them.
    """

    windows: LineWindows
    offset: RedshiftOffset
    noise_ratio: float = float("nan")
    continuum: Continuum | None = None
    stars: StarlightSummary = StarlightSummary()
    remarks: tuple[str, ...] = ()
    re_spaxels: float = float("nan")
    star_error: np.ndarray | None = None
    covariance: np.ndarray | None = None
    sky: Mapping[str, str | float] = MappingProxyType({})


def extract_windows(
    arms: Sequence[Arm],
    z: float,
    config: WindowConfig,
    *,
    source: str = "cube",
    re_arcsec: float = float("nan"),
    check_redshift: bool = False,
    velocity: VelocityField | None = None,
    model: ModelCube | None = None,
) -> Extraction:
    """Windows [line, sample, y, x] of all lines of one galaxy.

    Each arm is read once, with the planes of all windows and of the redshift check together: gzipped cubes can only be
    read from the start.

    Args:
        arms: spectra of the galaxy, one per arm of the spectrograph.
        z: redshift.
        config: window parameters.
        source: name of the file, for error messages.
        re_arcsec: effective radius, arcsec; needed for `space: scale-to-re`.
        check_redshift: whether to measure the velocity offset of the strong lines, in windows that do not follow
            `velocity`.
        velocity: velocity field that the windows follow, on the spaxel grid of the planes.
        model: cube of the survey's own model of the stars; needed for `continuum: dap`.

    Raises:
        Rejected: too few lines are in range (`no_coverage`), the effective radius is unknown (`no_size`), the arms
            have other spaxels or places on the sky (`bad_shape`), or a file cannot be read.
    """
    _check_same_sky(arms, config, source)
    planned = _plan(arms, z, config)
    _check_coverage([bool(cut.sampling.covered.all()) for cut in planned], z, config, source)
    cuts = [_follow(cut, arms, z, velocity, config) for cut in planned if cut.needed.size]
    search = [cut for cut in _plan(arms, z, SEARCH) if cut.needed.size] if check_redshift else []
    indices = [_needed([cut for cut in (*cuts, *search) if cut.arm == number]) for number in range(len(arms))]
    read, stars = read_arms(arms, indices, z, config, model)
    windows: dict[str, Planes] = {}
    continua: dict[str, Planes] = {}
    strong: list[tuple[np.ndarray, np.ndarray]] = []
    noise: list[np.ndarray] = []
    binned: list[np.ndarray] = []
    remarks: list[str] = []
    for number, index in enumerate(indices):
        if not index.size:
            continue
        planes, starlight = read.pop(number)  # the largest arrays of a worker: freed one after the other
        mine, wide = ([cut for cut in some if cut.arm == number] for some in (cuts, search))
        remarks += [remark for remark in planes.remarks if remark not in remarks]
        bands = _bands(search or planned, number, index)
        noise += [noise_deviations(planes, where) for where in bands]
        grid = window_grid(planes.flux.shape[-1], planes.spaxel_arcsec, re_arcsec, config, source)
        binned += [noise_deviations(planes, where, grid) for where in bands] if grid else []
        if config.continuum != "none":
            continua |= {cut.line.name: cut.continuum(planes, index) for cut in mine}
        if starlight is not None:
            planes = starlight.subtract(planes)
        strong += [summed(cut.apply(planes, index, SEARCH)) for cut in wide]
        windows |= {cut.line.name: cut.apply(planes, index, config) for cut in mine}
        del planes, starlight
    offset = measure_offset(strong, SEARCH.velocity_kms)
    ratio = single = noise_ratio(noise)
    if binned and (ratio := noise_ratio(binned)) > SHARED_NOISE * single:
        remarks.append(f"{CORRELATED_NOISE} {ratio / single:.2f} times what their errors say")
    stacked = _stack([windows.get(line.name) for line in config.line_list], config.num_samples, source)
    spaxel_arcsec = _one_size([window.spaxel_arcsec for window in windows.values()], source)
    gridded = to_grid(stacked, spaxel_arcsec, re_arcsec, config, source)
    if not continua:
        return Extraction(gridded, offset, ratio, remarks=tuple(remarks))
    levels = [continua.get(line.name) for line in config.line_list]
    continuum = _kept_continuum(levels, stars.fitted, re_arcsec, config, source)
    radius = _re_spaxels(spaxel_arcsec, re_arcsec, config)
    error = stars.error and stars.error(np.array([line.rest_wave for line in config.line_list]))
    shared = np.array([covariance(cut.sampling, cut.bands, cut.line, config) for cut in planned])
    remarks += stars.remarks
    return Extraction(gridded, offset, ratio, continuum, stars.summary, tuple(remarks), radius, error, shared)


def _check_same_sky(arms: Sequence[Arm], config: WindowConfig, source: str) -> None:
    """Rejects a galaxy whose arms show the same spaxel at different places, as far as their files say where."""
    from cubeprep.fits.cubefile import CubeFile  # as in `shard`: imports astropy
    from cubeprep.fits.wcs import sky_shift

    cubes = [arm for arm in arms if isinstance(arm, CubeFile)]
    if len(cubes) < 2:
        return
    length = config.read_size or max(max(cube.shape) for cube in cubes)
    skies = [cube.sky(length) for cube in cubes]
    shift = max(sky_shift(skies[0], sky, length) for sky in skies)
    if shift > MOST_SHIFT:
        reason = f"its arms show the same spaxel {shift:.2g} spaxels apart (CRVAL, CRPIX, CD or CDELT)"
        raise Rejected("bad_shape", f"{source}: {reason}, expected {MOST_SHIFT:g} at most")


def _one_size(sides: list[float], source: str) -> float:
    """Side of the spaxels, arcsec, of which windows of different arms must have one."""
    known = sorted({side for side in sides if np.isfinite(side)})
    if known and known[-1] > (1 + MOST_STRETCH) * known[0]:
        shown = " and ".join(f"{side:g}" for side in known)
        raise Rejected("bad_shape", f"{source}: its arms have spaxels of {shown} arcsec, expected one size")
    return sides[0]


def _re_spaxels(spaxel_arcsec: float, re_arcsec: float, config: WindowConfig) -> float:
    """Effective radius in spaxels of the windows; NaN if it is unknown."""
    if config.space == "scale-to-re":
        return config.size / config.extent_re
    return re_arcsec / spaxel_arcsec / (config.bin_factor if config.space == "bin" else 1)


def _needed(cuts: Sequence["Cut | SpaxelCut"]) -> np.ndarray:
    """Sorted indices of the planes that some cuts of one arm need."""
    return np.unique(np.concatenate([np.arange(0), *(cut.needed for cut in cuts)])).astype(np.intp)


def _kept_continuum(
    levels: list[Planes | None], fitted: np.ndarray, re_arcsec: float, config: WindowConfig, source: str
) -> Continuum:
    """Continuum of all lines on the grid that `config.space` requests."""
    spaxel_arcsec = next(level for level in levels if level is not None).spaxel_arcsec
    one_sample = to_grid(_stack(levels, 1, source), spaxel_arcsec, re_arcsec, config, source)
    without = np.where(fitted, 0, WINDOW_MASK_BITS["NOCOVERAGE"]).astype(np.uint8)[None, None]
    ones = np.ones(without.shape, dtype=np.float32)
    stars = to_grid(LineWindows(ones, ones, without), spaxel_arcsec, re_arcsec, config, source)
    return Continuum(one_sample.flux[:, 0], one_sample.ivar[:, 0], stars.mask[0, 0] == 0)


def to_grid(
    windows: LineWindows, spaxel_arcsec: float, re_arcsec: float, config: WindowConfig, source: str
) -> LineWindows:
    """Windows on the spaxel grid that `config.space` requests; with `crop` they are already on it.

    Args:
        windows: [line, sample, y, x] on the square grid of the cube.
        spaxel_arcsec: side of its spaxels, arcsec.
        re_arcsec: effective radius, arcsec.
        config: window parameters.
        source: name of the file, for error messages.

    Raises:
        Rejected: `scale-to-re` for a galaxy of unknown effective radius (`no_size`).
    """
    grid = window_grid(windows.flux.shape[-1], spaxel_arcsec, re_arcsec, config, source)
    return regrid(windows, grid) if grid else windows


def window_grid(
    length: int, spaxel_arcsec: float, re_arcsec: float, config: WindowConfig, source: str
) -> Regrid | None:
    """Regridding from a square grid of `length` spaxels a side; None with `crop`. Other arguments as in `to_grid`."""
    if config.space == "crop":
        return None
    if config.space == "bin":
        return Regrid.centred(length, config.size, config.bin_factor, whole=True)
    scale = config.extent_re * re_arcsec / config.size / spaxel_arcsec
    if not (np.isfinite(scale) and scale > 0):
        raise Rejected("no_size", f"{source}: effective radius {re_arcsec} arcsec, spaxels of {spaxel_arcsec} arcsec")
    return Regrid.centred(length, config.size, scale)


def _plan(arms: Sequence[Arm], z: float, config: WindowConfig) -> list[Cut]:
    """Recipe for each line, from the arm that covers most of its samples."""
    cuts = []
    for line in config.line_list:
        samplings = [sample_line(arm.wave, line, z, config) for arm in arms]
        best = max(range(len(arms)), key=lambda i: int(samplings[i].covered.sum()))
        bands = sideband_planes(arms[best].wave, line, z) if config.continuum != "none" else None
        cuts.append(Cut(line, best, samplings[best], bands))
    return cuts


def _follow(
    cut: Cut, arms: Sequence[Arm], z: float, velocity: VelocityField | None, config: WindowConfig
) -> Cut | SpaxelCut:
    if velocity is None:
        return cut
    return SpaxelCut(cut.line, cut.arm, wave=arms[cut.arm].wave, z=z, field=velocity, config=config)


def _bands(cuts: Sequence[Cut], arm: int, index: np.ndarray) -> list[np.ndarray]:
    """Positions, among the planes read, of the sidebands of one arm."""
    bands = [band for cut in cuts if cut.arm == arm and cut.needed.size for band in cut.bands or () if band.size]
    # Windows that follow velocities have their own sidebands.
    found = {int(band[0]): np.searchsorted(index, band) for band in bands if np.isin(band, index).all()}
    return list(found.values())  # lines may share a sideband


def _check_coverage(in_range: list[bool], z: float, config: WindowConfig, source: str) -> None:
    needed = len(in_range) if config.min_lines is None else min(config.min_lines, len(in_range))
    if sum(in_range) < needed or not any(in_range):
        missing = ", ".join(name for name, found in zip(config.line_names, in_range, strict=True) if not found)
        raise Rejected(
            "no_coverage",
            f"{source}: at z = {z:.5f} the spectrograph's range holds only {sum(in_range)} of {len(in_range)} lines, "
            f"needed: {needed}; out of range: {missing}",
        )


def _pick(planes: Planes, index: np.ndarray, wanted: np.ndarray) -> Planes:
    where = np.searchsorted(index, wanted)
    return Planes(planes.flux[where], planes.ivar[where], planes.mask[where], planes.spaxel_arcsec)


def _stack(windows: list[Planes | None], num_samples: int, source: str) -> LineWindows:
    """Windows of all lines as arrays [line, sample, y, x]; uncovered lines (None) are masked."""
    shapes = {window.flux.shape for window in windows if window is not None}
    if len(shapes) > 1:
        raise Rejected("bad_shape", f"{source}: its arms differ in shape, {sorted(shapes)}")
    shape = (len(windows), *shapes.pop())
    flux = np.full(shape, np.nan, dtype=np.float32)
    ivar = np.zeros(shape, dtype=np.float32)
    mask = np.full(shape, WINDOW_MASK_BITS["NOCOVERAGE"], dtype=np.uint8)
    for i, window in enumerate(windows):
        if window is not None:
            flux[i], ivar[i], mask[i] = np.where(window.mask == 0, window.flux, np.nan), window.ivar, window.mask
    return LineWindows(flux, ivar, mask)
