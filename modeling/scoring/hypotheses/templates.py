"""Spectra of emission-line components in a galaxy's windows.

Every line has its own flux, even where transition probabilities fix a ratio of three: the residual starlight in the
windows is not known well enough. The sidebands are subtracted from the templates as they were from the windows: those
of Hbeta hold up to half of the height of a broad component.

Shapes: L lines, T samples of all windows (line by line), P grid points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cubeprep.lines import LINES_BY_NAME, SPEED_OF_LIGHT_KMS

BALMER = ("Ha-6564", "Hb-4862", "Hgam-4341", "Hdel-4102", "Heps-3971", "Hzet-3890", "Heta-3836")
POINTS_PER_BAND = 5
NARROW_KMS = 200.0
# Beyond, a line is less than the rounding of its peak.
REACH_SIGMA = 8.5


@dataclass(frozen=True)
class Templates:
    """Lines and samples of a survey's windows, of which the straight line through each line's sidebands was subtracted.

    Attributes:
        names: lines of the windows, in their order.
        rest_wave: [L] vacuum wavelength of each, Angstrom.
        velocity_kms: [S] of the samples.
    """

    names: tuple[str, ...]
    rest_wave: tuple[float, ...]
    velocity_kms: tuple[float, ...]

    @cached_property
    def wave(self) -> np.ndarray:
        """Wavelength [T] of each sample in the rest frame, Angstrom."""
        return (np.array(self.rest_wave)[:, None] * np.exp(np.array(self.velocity_kms) / SPEED_OF_LIGHT_KMS)).ravel()

    @cached_property
    def line_of(self) -> np.ndarray:
        """Index [T] of the line whose window each sample belongs to."""
        return np.repeat(np.arange(len(self.names)), len(self.velocity_kms))

    @cached_property
    def balmer(self) -> np.ndarray:
        """[L] bool, Balmer lines."""
        return np.isin(self.names, BALMER)

    def index(self, name: str) -> int | None:
        """Index of a line; None where the windows do not have it."""
        return self.names.index(name) if name in self.names else None

    @cached_property
    def _bands(self) -> np.ndarray:
        """Wavelengths [2, L, point] of the sidebands."""
        bands = [_bands_of(name, wave) for name, wave in zip(self.names, self.rest_wave, strict=True)]
        low, high = np.array(bands).T[..., None]
        return low + (high - low) * (np.arange(POINTS_PER_BAND) + 0.5) / POINTS_PER_BAND

    @cached_property
    def _red_share(self) -> np.ndarray:
        """Share [L, S] of the red sideband in the straight line at each sample; the blue one has the rest."""
        blue, red = self._bands.mean(-1)[..., None]
        return np.asarray((self.wave.reshape(len(self.names), -1) - blue) / (red - blue))

    def windows_of(self, spectrum: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Samples [..., T] of a spectrum less its sidebands.

        Args:
            spectrum: flux density [..., T] as a function of rest wavelengths [T], Angstrom.
        """
        bands = spectrum(self._bands.ravel())
        means = bands.reshape(*bands.shape[:-1], *self._bands.shape).mean(-1)
        blue, red = means[..., 0, :, None], means[..., 1, :, None]
        straight = blue + self._red_share * (red - blue)
        return np.asarray(spectrum(self.wave) - straight.reshape(*bands.shape[:-1], -1))

    def profiles(self, centre: np.ndarray, sigma_kms: np.ndarray) -> np.ndarray:
        """Gaussian lines of flux 1 in the windows, [P, ..., T], per Angstrom.

        Args:
            centre: [P, ...] rest wavelength of their peaks, Angstrom.
            sigma_kms: [P, ...] standard deviation.
        """
        # The bands lie far enough from narrow lines to hold nothing of them.
        if np.max(sigma_kms) < NARROW_KMS:
            return _gaussian(self.wave, centre, sigma_kms)
        return self.windows_of(lambda wave: _gaussian(wave, centre, sigma_kms))

    def component(self, velocity_kms: np.ndarray, sigma_kms: np.ndarray, lines: np.ndarray | None = None) -> np.ndarray:
        """Spectra [P, L, T] of gas of one velocity and width, of flux 1 in each line.

        Args:
            velocity_kms: [P] velocity.
            sigma_kms: [P] standard deviation, the instrument's included.
            lines: those that it has, an index of the survey's; default: all.
        """
        rest = np.array(self.rest_wave) if lines is None else np.array(self.rest_wave)[lines]
        centre = rest * np.exp(np.asarray(velocity_kms)[:, None] / SPEED_OF_LIGHT_KMS)
        return self.profiles(centre, np.broadcast_to(np.asarray(sigma_kms)[:, None], centre.shape))


def _bands_of(name: str, rest_wave: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Blue and red sideband of a line; for a line not in the list, bands so far away that they hold no line."""
    line = LINES_BY_NAME.get(name)
    return (line.blueside, line.redside) if line else ((0.1 * rest_wave, 0.1 * rest_wave), (10 * rest_wave,) * 2)


def _gaussian(wave: np.ndarray, centre: np.ndarray, sigma_kms: np.ndarray) -> np.ndarray:
    """Lines [P, ..., T] of flux 1, computed only where one of the P trials has light: few samples are near a line."""
    shape, sigma = centre.shape, centre * sigma_kms / SPEED_OF_LIGHT_KMS
    centre, sigma = centre.reshape(len(centre), -1), sigma.reshape(len(centre), -1)
    low, high = (centre - REACH_SIGMA * sigma).min(0), (centre + REACH_SIGMA * sigma).max(0)
    line, sample = np.nonzero((low[:, None] < wave) & (wave < high[:, None]))
    found = np.zeros((*centre.shape, len(wave)))
    sigma = sigma[:, line]
    offset = (wave[sample] - centre[:, line]) / sigma
    found[:, line, sample] = np.exp(-0.5 * offset**2) / (sigma * np.sqrt(2 * np.pi))
    return found.reshape(*shape, len(wave))
