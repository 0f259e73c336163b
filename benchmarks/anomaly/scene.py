"""Galaxies in memory: cubes as `cubeprep.cube.Arm`s, their noise-free scenes, and arms that change their planes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cubeprep.cube import Arm, Planes, screened
from cubeprep.extract import extract_windows
from cubeprep.geometry import outside, place
from cubeprep.windows import LineWindows, WindowConfig

# Function of observed wavelengths [plane], Angstrom, and planes [plane, y, x] that returns changed planes.
Change = Callable[[np.ndarray, Planes], Planes]
# Function of observed wavelengths [plane], Angstrom, and the scene's flux [plane, y, x] that returns light [plane, y,
# x].
Light = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CubeArm:
    """A whole cube in memory; see `cubeprep.cube.Arm`.

    Attributes:
        wave: [plane] observed vacuum wavelengths, Angstrom.
        flux: [plane, y, x] flux in the store's unit.
        ivar: [plane, y, x] inverse variance of `flux`.
        bad: [plane, y, x] or [y, x] bool, masked by the survey.
        spaxel_arcsec: side of a spaxel, arcsec.
    """

    wave: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    bad: np.ndarray
    spaxel_arcsec: float

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """Planes of the cube; see `cubeprep.cube.Arm`."""
        bad = self.bad if self.bad.ndim == 2 else self.bad[planes]
        flux, ivar, placed = (place(values, size) for values in (self.flux[planes], self.ivar[planes], bad))
        shape = self.flux.shape[1:]
        survey = np.broadcast_to(placed, flux.shape)
        return screened(flux, ivar, survey, outside((shape[0], shape[1]), size), self.spaxel_arcsec)


@dataclass(frozen=True)
class Injected:
    """Arm of any reader whose planes are changed as they are read."""

    arm: Arm
    change: Change

    @property
    def wave(self) -> np.ndarray:
        """Observed vacuum wavelengths [plane] of the arm, Angstrom."""
        return self.arm.wave

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """Changed planes of the arm; see `cubeprep.cube.Arm`."""
        return self.change(self.arm.wave[planes], self.arm.read(planes, size))


@dataclass(frozen=True)
class Lit:
    """Arm with light added to it, as it is read.

    Attributes:
        arm: the arm as observed.
        scene: the same arm with noise-free flux.
        light: the light of strength 1.
        strength: factor of the light.
    """

    arm: Arm
    scene: Arm
    light: Light
    strength: float

    @property
    def wave(self) -> np.ndarray:
        """Observed vacuum wavelengths [plane] of the arm, Angstrom."""
        return self.arm.wave

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """Planes of the arm with the light in all good samples; see `cubeprep.cube.Arm`."""
        found, scene = (arm.read(planes, size) for arm in (self.arm, self.scene))
        light = np.where(found.mask == 0, self.strength * self.light(self.wave[planes], scene.flux), 0)
        return replace(found, flux=found.flux + light.astype(np.float32))


@dataclass(frozen=True)
class Source:
    """A galaxy that can receive injections.

    Attributes:
        plateifu: identifier of the observation.
        mangaid: identifier of the object.
        z: redshift.
        re_arcsec: effective radius, arcsec; NaN if unknown.
        arms: the cube as observed; each arm can be read any number of times.
        scene: the same arms with noise-free flux: the truth of the simulation, or an estimate for a real cube.
        psf_sigma: Gaussian sigma of the PSF, spaxels.
        factor: spaxels of the cube that were summed into one, along each axis.
    """

    plateifu: str
    mangaid: str
    z: float
    re_arcsec: float
    arms: tuple[CubeArm, ...]
    scene: tuple[CubeArm, ...]
    psf_sigma: float
    factor: int = 1


@dataclass(frozen=True)
class Host:
    """A source with its windows: everything that an injection may use."""

    source: Source
    config: WindowConfig

    def windows(self, arms: tuple[Arm, ...], z: float | None = None) -> LineWindows:
        """Windows (`space: crop`) extracted from arms, at the source's redshift or at `z`."""
        z = self.source.z if z is None else z
        found = extract_windows(arms, z, self.config, source=self.source.plateifu, re_arcsec=self.source.re_arcsec)
        return found.windows

    def cut(self, change: Change) -> LineWindows:
        """Windows of the observed cube after a change."""
        return self.windows(tuple(Injected(arm, change) for arm in self.source.arms))

    def cut_lit(self, light: Light, strength: float) -> LineWindows:
        """Windows of the observed cube with light added."""
        arms = zip(self.source.arms, self.source.scene, strict=True)
        return self.windows(tuple(Lit(arm, scene, light, strength) for arm, scene in arms))

    def cut_light(self, light: Light) -> np.ndarray:
        """Contribution [line, sample, y, x] of added light to the windows: the light alone, extracted like a cube.

        Windows without their stars are not linear in the flux; for them windows with `sidebands` are used.
        """

        def alone(wave: np.ndarray, planes: Planes) -> Planes:
            return replace(planes, flux=np.where(planes.mask == 0, light(wave, planes.flux), 0).astype(np.float32))

        host = self
        if self.config.subtracts_stars:
            host = replace(self, config=self.config.model_copy(update={"continuum": "sidebands"}))
        windows = host.windows(tuple(Injected(arm, alone) for arm in self.source.scene))
        return np.nan_to_num(windows.flux)

    @cached_property
    def clean(self) -> LineWindows:
        """Windows as observed: the clean twin."""
        return self.windows(self.source.arms)

    @cached_property
    def scene(self) -> LineWindows:
        """Windows of the noise-free scene."""
        return self.windows(self.source.scene)

    @cached_property
    def covered(self) -> np.ndarray:
        """Mask [y, x] of the spaxels with data, on the grid of the windows."""
        return np.asarray(self._middle.mask[0] == 0)

    @cached_property
    def offsets(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets [y, x] of spaxels from the middle of the cube along y and along x, spaxels.

        Its middle spaxel, that of the galaxy's nucleus, is a corner of a block of spaxels.
        """
        factor = self.source.factor
        y, x = np.mgrid[: self.covered.shape[0], : self.covered.shape[1]]
        middle_y, middle_x = ((length * factor // 2 + 0.5) / factor - 0.5 for length in self.covered.shape)
        return y - middle_y, x - middle_x

    @cached_property
    def _middle(self) -> Planes:
        arm = self.source.arms[0]
        return arm.read(np.array([len(arm.wave) // 2]), self.config.size)


def binned(arm: CubeArm, size: int, factor: int) -> CubeArm:
    """Arm on a square of `size` about the middle, with blocks of `factor` x `factor` spaxels summed.

    A block is masked if any of its spaxels is masked or lies beyond the edge of the cube.
    """
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
