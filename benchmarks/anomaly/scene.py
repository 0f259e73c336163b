"""Galaxies in memory: cubes as `cubeprep.cube.Arm`s, with and without noise, and arms that modify planes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cubeprep.cube import Arm, Planes, screened
from cubeprep.extract import extract_windows
from cubeprep.geometry import outside, place
from cubeprep.windows import LineWindows, WindowConfig

# Turns planes [plane, y, x] at observed wavelengths [plane], Angstrom, into others.
Change = Callable[[np.ndarray, Planes], Planes]


@dataclass(frozen=True)
class CubeArm:
    """A whole cube in memory; see `cubeprep.cube.Arm`.

    Attributes:
        wave: [plane] vacuum wavelengths as observed, Angstrom.
        flux: [plane, y, x], the store's unit.
        ivar: [plane, y, x].
        bad: [plane, y, x] or [y, x] bool, what the survey masks.
        spaxel_arcsec: side of a spaxel.
    """

    wave: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    bad: np.ndarray
    spaxel_arcsec: float

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """See `cubeprep.cube.Arm`."""
        bad = self.bad if self.bad.ndim == 2 else self.bad[planes]
        flux, ivar, placed = (place(values, size) for values in (self.flux[planes], self.ivar[planes], bad))
        shape = self.flux.shape[1:]
        survey = np.broadcast_to(placed, flux.shape)
        return screened(flux, ivar, survey, outside((shape[0], shape[1]), size), self.spaxel_arcsec)


@dataclass(frozen=True)
class Injected:
    """Arm of any reader that applies a change to the planes it reads."""

    arm: Arm
    change: Change

    @property
    def wave(self) -> np.ndarray:
        """See `cubeprep.cube.Arm`."""
        return self.arm.wave

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """See `cubeprep.cube.Arm`."""
        return self.change(self.arm.wave[planes], self.arm.read(planes, size))


@dataclass(frozen=True)
class Source:
    """A galaxy to inject into.

    Attributes:
        plateifu: the observation.
        mangaid: the object.
        z: redshift.
        re_arcsec: effective radius; NaN where unknown.
        arms: the cube as observed; each arm can be read any number of times.
        scene: the same arms with the flux free of noise: the simulation's truth, or an estimate for a real cube.
        psf_sigma: Gaussian sigma of the PSF, spaxels.
    """

    plateifu: str
    mangaid: str
    z: float
    re_arcsec: float
    arms: tuple[CubeArm, ...]
    scene: tuple[CubeArm, ...]
    psf_sigma: float


@dataclass(frozen=True)
class Host:
    """A source with its windows: everything that an injection may use."""

    source: Source
    config: WindowConfig

    def windows(self, arms: tuple[Arm, ...], z: float | None = None) -> LineWindows:
        """The windows (`space: crop`) that the extraction cuts from arms, at another redshift if one is given."""
        z = self.source.z if z is None else z
        found = extract_windows(arms, z, self.config, source=self.source.plateifu, re_arcsec=self.source.re_arcsec)
        return found.windows

    def cut(self, change: Change) -> LineWindows:
        """The windows of the observed cube after a change."""
        return self.windows(tuple(Injected(arm, change) for arm in self.source.arms))

    def cut_light(self, light: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """[line, sample, y, x] contribution of added light to the windows, by the same extraction of the light alone.

        Args:
            light: from wavelengths [plane] and the scene's flux [plane, y, x] to the light [plane, y, x].
        """

        def alone(wave: np.ndarray, planes: Planes) -> Planes:
            return replace(planes, flux=np.where(planes.mask == 0, light(wave, planes.flux), 0).astype(np.float32))

        windows = self.windows(tuple(Injected(arm, alone) for arm in self.source.scene))
        return np.nan_to_num(windows.flux)

    @cached_property
    def clean(self) -> LineWindows:
        """The windows as observed: the clean twin."""
        return self.windows(self.source.arms)

    @cached_property
    def scene(self) -> LineWindows:
        """The windows without noise."""
        return self.windows(self.source.scene)

    @cached_property
    def covered(self) -> np.ndarray:
        """[y, x] bool, spaxels of the planes read that have data."""
        return np.asarray(self._middle.mask[0] == 0)

    @cached_property
    def offsets(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets [y, x] of spaxels from the middle of the cube along y and x, spaxels."""
        height, width = self.covered.shape
        y, x = np.mgrid[:height, :width]
        return y - height // 2, x - width // 2

    @cached_property
    def _middle(self) -> Planes:
        arm = self.source.arms[0]
        return arm.read(np.array([len(arm.wave) // 2]), self.config.size)


def binned(arm: CubeArm, size: int, factor: int) -> CubeArm:
    """The arm on a square of `size` about the middle, `factor` x `factor` spaxels summed; padding is masked."""
    edge = outside((arm.flux.shape[1], arm.flux.shape[2]), size * factor)
    bad = place(arm.bad, size * factor, fill=True) | edge

    def blocks(values: np.ndarray) -> np.ndarray:
        return values.reshape(*values.shape[:-2], size, factor, size, factor)

    flux = blocks(place(np.where(arm.bad, 0, arm.flux), size * factor)).sum(axis=(-3, -1))
    variance = np.divide(1, arm.ivar, out=np.zeros_like(arm.ivar), where=arm.ivar > 0)
    variance = blocks(place(variance, size * factor)).sum(axis=(-3, -1))
    ivar = np.divide(1, variance, out=np.zeros_like(variance), where=variance > 0)
    spaxel_arcsec = factor * arm.spaxel_arcsec
    return CubeArm(arm.wave, flux, ivar, np.asarray(blocks(bad).any(axis=(-3, -1))), spaxel_arcsec)
