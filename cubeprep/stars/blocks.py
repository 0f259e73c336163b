"""Spectra of blocks of spaxels, summed while a cube streams by, and their merging into bins of sufficient S/N."""

import heapq
from dataclasses import dataclass, replace

import numpy as np

from cubeprep.cube import Arm, Planes

SIDE = 2  # spaxels a side of a block
MIN_LIGHT = 0.5  # share of a bin's light that must be good at a wavelength
MIN_COVERED = 0.5  # share of the planes in which a spaxel must have a flux
BYTES_A_SAMPLE = 6  # of `BlockSums`: two flags, two sums over 2 x 2 spaxels, and working copies as large as the flags


@dataclass(frozen=True)
class BlockSpectra:
    """Spectra of the blocks of one arm, or of the bins that they were merged into.

    Attributes:
        flux: [plane, block] sums over the spaxels, in the store's unit.
        variance: the same shape; of independent spaxels.
        good: the same shape, bool.
        wave: [plane] vacuum wavelengths in the observer's frame, Angstrom.
        lsf_sigma_kms: [plane] resolution (sigma), km/s; None if it is that of the templates, or unknown.
        beyond: numbers of planes that the arm has before the first of these, and after the last.
    """

    flux: np.ndarray
    variance: np.ndarray
    good: np.ndarray
    wave: np.ndarray
    lsf_sigma_kms: np.ndarray | None = None
    beyond: tuple[int, int] = (0, 0)

    def merged(self, bins: np.ndarray, count: int) -> "BlockSpectra":
        """Sums over the blocks of each bin; samples that some blocks lack are scaled up from the others' light.

        Args:
            bins: [block] bin of each block; -1 for none.
            count: number of bins.
        """
        light = np.where(self.good, self.flux, 0).sum(axis=0) / np.maximum(self.good.sum(axis=0), 1)
        members = (bins[:, None] == np.arange(count)).astype(np.float32) * (light > 0)[:, None]
        share = (self.good * light) @ members / np.maximum(light @ members, 1e-30)
        good = share >= MIN_LIGHT
        scale = 1 / np.where(good, share, 1)
        flux, variance = (np.where(self.good, values, 0) @ members for values in (self.flux, self.variance))
        return replace(self, flux=flux * scale, variance=variance * scale**2, good=good)


class BlockSums:
    """Sums of a cube's planes over blocks of spaxels, taken from the chunks of planes that a reader passes through.

    Fluxes, errors and masks may come in any order. A sample of a block is good if it is good in all covered spaxels,
    those with a flux in at least `MIN_COVERED` of the planes; others, whose flux is 0, do not spoil the block.
    """

    def __init__(self, planes: np.ndarray, wave: np.ndarray) -> None:
        """Prepares empty sums.

        Args:
            planes: [n] sorted indices of the planes to be summed.
            wave: [plane] vacuum wavelengths of the arm, Angstrom.
        """
        self.planes, self._wave = planes, wave[planes]
        self._beyond = (int(planes[0]), int(len(wave) - 1 - planes[-1])) if len(planes) else (0, 0)
        nothing = np.zeros((0, 0, 0), dtype=bool)
        self._flux = self._variance = nothing.astype(np.float32)
        self._empty = self._bad = nothing

    def add_flux(self, index: np.ndarray, flux: np.ndarray) -> None:
        """Adds fluxes [n, y, x] of the planes with the indices `index` [n]; other planes are ignored."""
        where, flux = self._mine(index, flux)
        self._empty[where] = flux == 0
        with np.errstate(invalid="ignore", over="ignore"):
            sums = block_sums(flux)
        if not np.isfinite(sums).all():
            lost = ~np.isfinite(flux)
            self._empty[where] |= lost
            sums = block_sums(np.where(lost, 0, flux))
        self._flux[where] = sums

    def add_ivar(self, index: np.ndarray, ivar: np.ndarray) -> None:
        """Adds inverse variances [n, y, x]."""
        where, ivar = self._mine(index, ivar)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            variance = 1 / ivar
            known = (variance > 0) & (variance < np.inf)
        self._bad[where] |= ~known
        self._variance[where] = block_sums(np.where(known, variance, 0))

    def add_bad(self, index: np.ndarray, bad: np.ndarray) -> None:
        """Adds the mask [n, y, x] bool of bad samples."""
        where, bad = self._mine(index, bad)
        self._bad[where] |= bad

    def add_planes(self, index: np.ndarray, planes: Planes) -> None:
        """Adds planes whose masked samples are 0; they are bad only in spaxels with other good samples."""
        self.add_flux(index, planes.flux)
        self.add_ivar(index, planes.ivar)
        where, mask = self._mine(index, planes.mask)
        covered = (mask == 0).any(axis=0)
        self._empty[where] = ~covered
        self._bad[where] = (mask != 0) & covered

    def spectra(self) -> BlockSpectra:
        """Spectra of all blocks, in the order of their rows."""
        covered = 1 - self._empty.mean(axis=0) >= MIN_COVERED
        bad = block_any((self._bad | self._empty) & covered)
        good = ~bad & (self._variance > 0)
        shape = len(self.planes), -1
        flux, variance = (values.reshape(shape) for values in (self._flux, self._variance))
        return BlockSpectra(flux, variance, good.reshape(shape), self._wave, beyond=self._beyond)

    def memory(self, size: int) -> int:
        """Bytes that sums of a square of `size` spaxels a side take, working copies included."""
        return BYTES_A_SAMPLE * len(self.planes) * size**2

    def _allocate(self, size: int) -> None:
        side = -(-size // SIDE)
        self._flux, self._variance = (np.zeros((len(self.planes), side, side), dtype=np.float32) for _ in range(2))
        self._empty, self._bad = (np.full((len(self.planes), size, size), value) for value in (True, False))

    def _mine(self, index: np.ndarray, values: np.ndarray) -> tuple[slice, np.ndarray]:
        """Place of the planes among those that are summed, and their values."""
        if not self._bad.size:
            self._allocate(values.shape[-1])
        start, stop = np.searchsorted(self.planes, [index[0], index[-1] + 1])
        chosen = self.planes[start:stop]
        if len(chosen) == len(index):
            return slice(start, stop), values
        return slice(start, stop), values[np.searchsorted(index, chosen)]


def read_summed(arm: Arm, planes: np.ndarray, size: int | None, sums: BlockSums) -> Planes:
    """Planes of an arm, as by `Arm.read`, after all planes of `sums` were added to it.

    `CubeFile` sums while it reads, so that the cube need not be held in memory. An arm of a reader from another package
    that has no `read_summed` is read whole.
    """
    if hasattr(arm, "read_summed"):
        return arm.read_summed(planes, size, sums)
    every = np.union1d(planes, sums.planes)
    whole = arm.read(every, size)
    sums.add_planes(every, whole)
    kept = np.searchsorted(every, planes)
    return Planes(whole.flux[kept], whole.ivar[kept], whole.mask[kept], whole.spaxel_arcsec)


def block_sums(values: np.ndarray) -> np.ndarray:
    """Sums [n, y / SIDE, x / SIDE] over blocks of values [n, y, x]; blocks at the far edges may be smaller."""
    return _reduced(values, np.add)


def block_any(values: np.ndarray) -> np.ndarray:
    """Whether any value of a block is true, [n, y / SIDE, x / SIDE]."""
    return _reduced(values, np.logical_or)


def _reduced(values: np.ndarray, add: np.ufunc) -> np.ndarray:
    rest = -values.shape[-1] % SIDE
    if rest:
        values = np.pad(values, [(0, 0), (0, rest), (0, rest)])
    rows = values[:, 0::SIDE]
    for k in range(1, SIDE):
        rows = add(rows, values[:, k::SIDE])
    columns = rows[..., 0::SIDE]
    for k in range(1, SIDE):
        columns = add(columns, rows[..., k::SIDE])
    return columns


def merge(snr: np.ndarray, target: float, most: int) -> np.ndarray:
    """Bins of neighbouring blocks with a S/N of at least `target`, as their number for each block, [y, x]; -1 for none.

    The bin with the most signal is cut in two across its longer side, into halves of the same S/N, as long as both keep
    the target. Rectangles keep a bin compact, so that its spaxels share a velocity and a population.

    Args:
        snr: [y, x] S/N of each block; 0 where there is no light.
        target: lowest S/N of a bin that was cut from another.
        most: largest number of bins.
    """
    power = np.where(snr > 0, snr, 0.0) ** 2
    bins = np.full(snr.shape, -1)
    places = np.argwhere(power > 0)
    if not len(places):
        return bins
    heap = [(-power.sum(), 0, places)]
    whole: list[np.ndarray] = []
    count = 1
    while heap:
        _, _, members = heapq.heappop(heap)
        halves = _halves(members, power, target**2) if len(heap) + len(whole) + 1 < most else None
        if halves is None:
            whole.append(members)
            continue
        for half in halves:
            heapq.heappush(heap, (-power[tuple(half.T)].sum(), count, half))
            count += 1
    for number, members in enumerate(whole):
        bins[tuple(members.T)] = number
    return bins


def _halves(members: np.ndarray, power: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The blocks [n, 2] on either side of a cut, each with a squared S/N of `least` at least; None if there is none."""
    extent = np.ptp(members, axis=0)
    for axis in (int(extent.argmax()), int(extent.argmin())):
        along = members[:, axis]
        rows = np.bincount(along, weights=power[tuple(members.T)])
        below = np.cumsum(rows)[:-1]
        smaller = np.minimum(below, below[-1:] + rows[-1:] - below)
        if extent[axis] and smaller.max() >= least:
            cut = int(smaller.argmax())
            return members[along <= cut], members[along > cut]
    return None
