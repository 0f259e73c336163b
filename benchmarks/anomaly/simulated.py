"""Simulated galaxies in memory, without files; the benchmark's only interface to the cubes of `cubeprep.simulate`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from benchmarks.anomaly.scene import CubeArm, Source
from cubeprep.geometry import Placement
from cubeprep.masks import DRP3PIXMASK, bits_value
from cubeprep.readers.manga_logcube import DEFAULT_MASK_BITS
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.cube import observe, true_spectra
from cubeprep.simulate.footprint import SPAXEL_ARCSEC, Sampling
from cubeprep.simulate.instrument import WAVE
from cubeprep.simulate.maps import GalaxyMaps, galaxy_maps
from cubeprep.simulate.survey import Observation, plan_survey

FWHM_PER_SIGMA = 2.3548


def plan(config: SimulateConfig, seed: int) -> Sequence[Observation]:
    """Observations of a survey without unusual features or critical failures, so that clean twins are clean."""
    return plan_survey(config.model_copy(update={"unusual_fraction": 0.0, "critical_fraction": 0.0}), seed)


def make_source(item: Observation, config: SimulateConfig, seed: int, size: int, factor: int = 1) -> Source:
    """Simulated observation with its noise-free scene.

    Args:
        item: an observation from `plan`.
        config: configuration of the simulation.
        seed: seed of structure and noise.
        size: side of the square kept about the middle, in spaxels after binning.
        factor: side of the blocks of spaxels that are summed into one.
    """
    galaxy, seeing = item.galaxy, item.target.psf_fwhm_arcsec
    observed, maps, grid = observed_arm(item, config, seed, size, factor)
    true_flux = grid.image(grid.sum(maps.sampling.weights @ true_spectra(galaxy, maps)))
    scene = replace(observed, flux=true_flux)
    sigma = seeing / FWHM_PER_SIGMA / observed.spaxel_arcsec
    target = item.target
    return Source(target.plateifu, target.mangaid, galaxy.z, galaxy.re_arcsec, (observed,), (scene,), sigma, factor)


def observed_arm(
    item: Observation, config: SimulateConfig, seed: int, size: int, factor: int = 1
) -> tuple[CubeArm, GalaxyMaps, "Grid"]:
    """Cube of a simulated observation, with the maps that it was made from and its grid; arguments of `make_source`."""
    galaxy = item.galaxy
    maps = galaxy_maps(galaxy, item.target.psf_fwhm_arcsec, np.random.default_rng([seed, 1, item.source]))
    cube = observe(galaxy, maps, config.depth, config.mantissa_bits, np.random.default_rng([seed, 2, item.index]))
    usable = (cube.mask & bits_value(DEFAULT_MASK_BITS, DRP3PIXMASK)) == 0
    grid = Grid(maps.sampling, usable, size, factor)
    variance = np.divide(1, cube.ivar, out=np.zeros_like(cube.ivar), where=cube.ivar > 0)
    ivar = 1 / np.maximum(grid.sum(variance) * grid.covariance[:, None], 1e-30)
    arm = CubeArm(WAVE, grid.image(grid.sum(cube.flux)), grid.image(ivar), grid.bad, SPAXEL_ARCSEC * factor)
    return arm, maps, grid


class Grid:
    """Mapping of covered spaxels onto a square of `size` about the middle, summing blocks of `factor` x `factor`.

    Attributes:
        bad: [plane, y, x] bool, whether any spaxel of a block is unusable.
        covariance: [block] variance of the sum over the sum of the variances, above 1 because spaxels share fibre
            exposures.
    """

    def __init__(self, sampling: Sampling, usable: np.ndarray, size: int, factor: int) -> None:
        covered = sampling.covered
        placement = Placement.centred(len(covered), size * factor)
        moved = np.arange(len(covered)) - placement.source.start + placement.target.start
        y, x = (moved[index] for index in np.nonzero(covered))
        inside = (np.minimum(y, x) >= 0) & (np.maximum(y, x) < size * factor)
        block = (y // factor * size + x // factor)[inside]
        ones = np.ones(len(block), dtype=np.float32)
        self._shares = csr_array((ones, (block, np.flatnonzero(inside))), shape=(size**2, len(y)))
        self._size = size
        good = self._shares @ usable.astype(np.float32)
        self.bad = np.ascontiguousarray((good < factor**2).T).reshape(-1, size, size)
        of_sum = np.asarray((self._shares @ sampling.weights).power(2).sum(axis=1)).ravel()
        of_parts = np.asarray((self._shares @ sampling.weights.power(2)).sum(axis=1)).ravel()
        self.covariance = np.where(of_parts > 0, of_sum / np.where(of_parts > 0, of_parts, 1), 1)

    def sum(self, spectra: np.ndarray) -> np.ndarray:
        """Sums [block, plane] of spectra [covered spaxel, plane]; 1 for blocks without any covered spaxel.

        Such blocks are masked; the 1 keeps inverse variances finite.
        """
        total = np.asarray(self._shares @ spectra)
        total[self._shares.sum(axis=1) == 0] = 1
        return total

    def image(self, spectra: np.ndarray) -> np.ndarray:
        """Cube [plane, y, x] of spectra [block, plane]; 0 where `bad`."""
        cube = np.ascontiguousarray(spectra.T).reshape(-1, self._size, self._size)
        cube[self.bad] = 0
        return cube.astype(np.float32, copy=False)
