"""Windows that follow a galaxy's velocity field, so that every line is centred in its window in every spaxel.

The window of a line of rest wavelength w is centred on w (1 + z) (1 + v / c), with the velocity v of each spaxel.
`conserve` sums the flux between the shifted edges of a sample and divides it by the width of the sample at the galaxy's
redshift. Line fluxes integrated over the window's wavelength grid, which is the same in all spaxels, are then those of
the cube; a continuum that is not subtracted is scaled by 1 + v / c. `nearest` copies the planes nearest to the line in
each spaxel.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from cubeprep.config import Config
from cubeprep.cube import Planes
from cubeprep.lines import SPEED_OF_LIGHT_KMS, Line
from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.sampling import NOCOVERAGE, pixel_edges, subtract_continuum, through_bands
from cubeprep.windows import WindowConfig

STARS = "stars"


class VelocityConfig(Config):
    """Whether and how windows follow the velocities in the DAP MAPS below `survey.maps_root`."""

    correct: bool = Field(
        False, description="Cut the windows of each spaxel at its own velocity; default: at the galaxy's redshift"
    )
    tracer: str = Field(
        "Ha-6564", description="Line whose velocity (EMLINE_GVEL) the windows follow, or `stars` for STELLAR_VEL"
    )
    max_error_kms: float = Field(
        30.0, gt=0, description="Velocities with a larger error (1 sigma, km/s) count as unknown"
    )
    max_kms: float = Field(
        500.0, gt=0, description="Velocities farther from the galaxy's redshift than this, km/s, count as unknown"
    )
    unknown: Literal["systemic", "mask"] = Field(
        "systemic",
        description="Spaxels of unknown velocity: cut at the galaxy's redshift (`systemic`) or masked as NOVELOCITY",
    )
    missing: Literal["reject", "uncorrected"] = Field(
        "reject",
        description="Galaxies without usable MAPS: `reject` them, or leave them `uncorrected` and record the reason",
    )


@dataclass(frozen=True)
class VelocityField:
    """Velocity field of a galaxy, relative to the redshift at which its windows are cut.

    Attributes:
        shift: [y, x] factor 1 + v / c by which wavelengths are multiplied; 1 where the velocity is unknown.
        known: [y, x] bool, whether the velocity is known.
        mask_unknown: whether spaxels of unknown velocity are masked.
    """

    shift: np.ndarray
    known: np.ndarray
    mask_unknown: bool = False

    @classmethod
    def about(cls, velocity_kms: np.ndarray, z_maps: float, z: float, config: VelocityConfig) -> "VelocityField":
        """Velocity field relative to another redshift.

        Args:
            velocity_kms: [y, x] velocities relative to `z_maps`, km/s; NaN where unknown.
            z_maps: redshift that the velocities of the MAPS refer to.
            z: redshift at which the windows are cut.
            config: limits beyond which a velocity counts as unknown.
        """
        # Redshifts multiply: 1 + z_spaxel = (1 + z_maps) (1 + v / c).
        shift = (1 + z_maps) / (1 + z) * (1 + velocity_kms / SPEED_OF_LIGHT_KMS)
        known = np.abs(shift - 1) * SPEED_OF_LIGHT_KMS <= config.max_kms
        return cls(np.where(known, shift, 1.0), known, config.unknown == "mask")


class SpaxelCut:
    """Recipe for one line's window that is cut at the velocity of each spaxel; see `extract.Cut`."""

    def __init__(
        self, line: Line, arm: int, *, wave: np.ndarray, z: float, field: VelocityField, config: WindowConfig
    ) -> None:
        """Determines the planes that each spaxel needs.

        Args:
            line: the line.
            arm: index of the arm.
            wave: [plane] vacuum wavelengths of the arm in the observer's frame, Angstrom.
            z: redshift that `field` is relative to.
            field: velocity field on the spaxel grid of the planes.
            config: window parameters.
        """
        self.line, self.arm = line, arm
        self._wave, self._field, self._config = wave, field, config
        observed = line.rest_wave * (1 + z)
        self._first, self._count = (self._nearest if config.sampling == "nearest" else self._conserve)(observed)
        bands = (line.blueside, line.redside) if config.continuum != "none" else ()
        self._bands = [_band(wave, np.array(band) * (1 + z), field.shift) for band in bands]

    def _nearest(self, observed: float) -> tuple[np.ndarray, int]:
        num_samples, step = self._config.num_samples, self._config.step_dex
        # On a logarithmic grid a velocity is the same number of pixels at all wavelengths.
        position = np.log10(observed * self._field.shift / self._wave[0]) / step
        first = np.rint(position - (num_samples - 1) / 2).astype(np.int32)
        return first + np.arange(num_samples)[:, None, None], 1

    def _conserve(self, observed: float) -> tuple[np.ndarray, int]:
        half = self._config.step_dex / 2
        self._low, self._high = (
            observed * 10 ** (self._config.offsets_dex + sign * half)[:, None, None] for sign in (-1, 1)
        )
        self._edges = edges = pixel_edges(self._wave)
        low, high = self._shifted()
        first = np.searchsorted(edges, low, side="right") - 1
        return first.astype(np.int32), int((np.searchsorted(edges, high) - first).max())

    def _shifted(self) -> tuple[np.ndarray, np.ndarray]:
        """Edges [sample, y, x] of the samples in each spaxel; recomputed when needed, since the arrays are large."""
        return self._low * self._field.shift, self._high * self._field.shift

    @property
    def needed(self) -> np.ndarray:
        """Indices of the planes that any spaxel needs, sidebands included."""
        last = len(self._wave) - 1
        runs = [(self._first, self._count), *self._bands]
        ends = [np.clip([first.min(), first.max() + count - 1], 0, last) for first, count in runs]
        return np.concatenate([np.arange(start, stop + 1) for start, stop in ends])

    def apply(self, planes: Planes, index: np.ndarray, config: WindowConfig) -> Planes:
        """Window [sample, y, x] of the line.

        Args:
            planes: [plane, y, x] planes read from the arm, on the field's grid.
            index: [plane] their sorted indices in the arm.
            config: window parameters.
        """
        nearest = config.sampling == "nearest"
        window = _take(planes, index, self._first, len(self._wave)) if nearest else self._sum(planes, index)
        if self._bands:
            window = subtract_continuum(window, self.line, config, *self._taken_bands(planes, index))
        if not self._field.mask_unknown:
            return window
        known = self._field.known
        mask = window.mask | np.where(known, 0, WINDOW_MASK_BITS["NOVELOCITY"]).astype(np.uint8)
        return Planes(window.flux * known, window.ivar * known, mask, window.spaxel_arcsec)

    def continuum(self, planes: Planes, index: np.ndarray) -> Planes:
        """Continuum at the line, [1, y, x]; see `extract.Cut.continuum`."""
        return through_bands(self.line, np.array([self.line.rest_wave]), *self._taken_bands(planes, index))

    def _taken_bands(self, planes: Planes, index: np.ndarray) -> list[Planes]:
        return [
            _take(planes, index, first + np.arange(count)[:, None, None], len(self._wave))
            for first, count in self._bands
        ]

    def _sum(self, planes: Planes, index: np.ndarray) -> Planes:
        """Flux between the shifted edges divided by the unshifted width, with the variance of the weighted sum."""
        # A sample covers only a few planes; each pass adds one of them for all samples and spaxels at once.
        flux, noise = np.zeros(self._first.shape), np.zeros(self._first.shape)
        low, high = self._shifted()
        covered = (low >= self._edges[0]) & (high <= self._edges[-1])
        mask = np.where(covered, 0, NOCOVERAGE).astype(np.uint8)
        last = len(self._wave) - 1
        for k in range(self._count):
            plane = np.clip(self._first + k, 0, last)
            overlap = np.minimum(high, self._edges[plane + 1]) - np.maximum(low, self._edges[plane])
            weight = np.where(plane == self._first + k, np.clip(overlap, 0, None), 0) / (self._high - self._low)
            used = weight > 1e-9
            part = _take(planes, index, plane, len(self._wave))
            flux += weight * part.flux
            noise += weight**2 * np.where(part.mask == 0, 1 / np.where(part.mask == 0, part.ivar, 1), 0)
            mask |= np.where(used, part.mask, 0).astype(np.uint8)
        good = mask == 0
        ivar = np.where(good, 1 / np.where(good, noise, 1), 0)
        return Planes(np.where(good, flux, 0).astype(np.float32), ivar.astype(np.float32), mask, planes.spaxel_arcsec)


def _band(wave: np.ndarray, edges: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, int]:
    """First plane [y, x] of a sideband in each spaxel, and its number of planes at the galaxy's redshift.

    The same number is used for all spaxels, so that their planes form one array.
    """
    start, stop = np.searchsorted(wave, edges)
    return np.searchsorted(wave, edges[0] * shift), int(stop - start)


def _take(planes: Planes, index: np.ndarray, wanted: np.ndarray, length: int) -> Planes:
    """Planes [n, y, x] with indices `wanted` [n, y, x] that differ between spaxels.

    Indices outside an arm of `length` planes give masked samples (NOCOVERAGE).

    Args:
        planes: planes read from the arm.
        index: [plane] their sorted indices in the arm.
        wanted: indices in the arm, possibly outside it.
        length: number of planes of the arm.
    """
    inside = (wanted >= 0) & (wanted < length)
    plane = np.clip(wanted, 0, length - 1)
    start = plane.min(initial=length - 1)
    where = plane - start + np.searchsorted(index, start)  # planes needed for one line are contiguous in `index`
    flux, ivar, mask = (np.take_along_axis(values, where, 0) for values in (planes.flux, planes.ivar, planes.mask))
    return Planes(flux * inside, ivar * inside, np.where(inside, mask, NOCOVERAGE), planes.spaxel_arcsec)
