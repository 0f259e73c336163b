"""Spectra of a galaxy's bins on one logarithmic grid in its rest frame, from the grids of the arms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import binary_dilation

from cubeprep.lines import DAP_DR17_LINES, LINES_BY_NAME, SPEED_OF_LIGHT_KMS
from cubeprep.stars.blocks import BlockSpectra
from cubeprep.stars.templates import LOG_STEP, RANGE, template_sigma_kms

# Emission lines are masked, with room for rotation; broader ones are clipped by the fit.
MASKED_KMS = 500.0
# Besides the DAP's lines: [O III] 4364, [N I] 5199 and 5202, [N II] 5756, and Na I D, which is partly interstellar.
OTHER_LINES = (4364.4, 5199.3, 5201.7, 5756.2, 5891.6, 5897.6)

# Broad lines of active nuclei are masked to either side of the Balmer lines, the strongest.
BROAD_KMS = 6000.0
BALMER = ("Ha-6564", "Hb-4862", "Hgam-4341", "Hdel-4102")

WHOLE = 0.95
TRIMMED = 0.025


@dataclass(frozen=True)
class RestSpectra:
    """Spectra on a logarithmic grid of vacuum wavelengths in the rest frame, of step `LOG_STEP`.

    Attributes:
        first: log10 of the first wavelength, Angstrom.
        flux: [bin, wave] in the store's unit; 0 where not known.
        ivar: the same shape; 0 where not known.
        arm: [wave] number of the arm that a wavelength is taken from.
        fitted: [wave] bool, whether stars are fitted here: no emission line is near.
        excess: [wave] squared resolution (sigma) of the spectra less that of the templates, (km/s)^2; 0 where it is
            not known.
    """

    first: float
    flux: np.ndarray
    ivar: np.ndarray
    arm: np.ndarray
    fitted: np.ndarray
    excess: np.ndarray

    @property
    def log_wave(self) -> np.ndarray:
        """Log10 of the wavelengths, [wave]."""
        return self.first + LOG_STEP * np.arange(self.flux.shape[1])

    def total(self) -> "RestSpectra":
        """The sum over the bins, as one; bins that lack much of the range that others cover are left out."""
        covered = (self.ivar > 0).sum(axis=1)
        whole = covered >= WHOLE * covered.max()
        flux, ivar = self.flux[whole], self.ivar[whole]
        known = (ivar > 0).all(axis=0)
        variance = (1 / np.where(ivar > 0, ivar, np.inf)).sum(axis=0)
        summed = np.where(known, 1 / np.where(known, variance, 1), 0)
        return replace(self, flux=np.where(known, flux.sum(axis=0), 0)[None], ivar=summed[None])


def rest_spectra(arms: Sequence[BlockSpectra], z: float, limits: tuple[float, float]) -> RestSpectra:
    """Spectra of the bins in the rest frame of redshift `z`, from all arms.

    Args:
        arms: spectra of the bins in each arm, [plane, bin].
        z: redshift.
        limits: range of rest wavelengths, Angstrom.
    """
    low, high = max(limits[0], RANGE[0]), min(limits[1], RANGE[1])
    # The grid runs through the pixels of the first arm: one on the same step is then copied without interpolation.
    start = np.log10(arms[0].wave[0] / (1 + z))
    first = start + np.ceil((np.log10(low) - start) / LOG_STEP) * LOG_STEP
    grid = first + LOG_STEP * np.arange(int((np.log10(high) - first) / LOG_STEP) + 1)
    flux = np.zeros((arms[0].flux.shape[1], len(grid)), dtype=np.float32)
    ivar = np.zeros_like(flux)
    number, excess = np.zeros(len(grid), dtype=int), np.zeros(len(grid))
    for arm_number, arm in enumerate(arms):
        here = np.log10(arm.wave / (1 + z))
        inside = (grid >= here[0] - 1e-9) & (grid <= here[-1] + 1e-9)
        if len(here) < 4 or not inside.any():
            continue
        values, variance, good = _resampled(_trimmed(arm), here, grid[inside])
        known = good & (variance > 0)
        flux[:, inside] = np.where(known, values, flux[:, inside])
        number[inside] = arm_number
        if arm.lsf_sigma_kms is not None:
            excess[inside] = np.interp(grid[inside], here, arm.lsf_sigma_kms) ** 2
            excess[inside] -= template_sigma_kms(10 ** grid[inside]) ** 2
        ivar[:, inside] = np.where(known, 1 / np.where(known, variance, 1), ivar[:, inside])
    return RestSpectra(first, flux, ivar, number, ~line_regions(10**grid), excess)


def _trimmed(arm: BlockSpectra) -> BlockSpectra:
    """Arm without the ends of its covered range, where the calibration of a spectrograph is worst.

    Where the first or the last of these planes is good, the range is taken to go on to the end of the arm.
    """
    covered = np.flatnonzero(arm.good.any(axis=1))
    if not len(covered):
        return arm
    before = arm.beyond[0] if covered[0] == 0 else 0
    after = arm.beyond[1] if covered[-1] == len(arm.good) - 1 else 0
    good = arm.good.copy()
    ends = int(TRIMMED * (before + len(covered) + after))
    good[: covered[0] + max(ends - before, 0)] = False
    good[covered[-1] + 1 - max(ends - after, 0) :] = False
    return replace(arm, good=good)


def _resampled(arm: BlockSpectra, here: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux, variance and goodness [bin, wave] of an arm on the grid."""
    position = np.interp(grid, here, np.arange(len(here)))
    nearest = np.rint(position).astype(int)
    if np.abs(position - nearest).max() < 1e-3:
        return arm.flux[nearest].T, arm.variance[nearest].T, arm.good[nearest].T
    good = arm.good
    if not good.all():
        good = ~binary_dilation(~good, np.ones((3, 1), dtype=bool))
    # A straight line between pixels would broaden the stars' lines by half a pixel; a spline does not.
    values = CubicSpline(here, _filled(arm))(grid)
    below = np.minimum(position.astype(int), len(here) - 2)
    share = (position - below)[:, None]
    variance = (1 - share) * arm.variance[below] + share * arm.variance[below + 1]
    return values.T, variance.T, (good[below] & good[below + 1]).T


def _filled(arm: BlockSpectra) -> np.ndarray:
    """Fluxes [plane, bin] with bad ones interpolated, so that they do not ring through a spline."""
    if arm.good.all():
        return arm.flux
    filled, index = arm.flux.copy(), np.arange(len(arm.wave))
    for spectrum, good in zip(filled.T, arm.good.T, strict=True):
        if good.any() and not good.all():
            spectrum[~good] = np.interp(index[~good], index[good], spectrum[good])
    return filled


def line_regions(wave: np.ndarray) -> np.ndarray:
    """Whether an emission line is near, [wave] bool.

    Args:
        wave: [wave] vacuum rest wavelengths, Angstrom.
    """
    return _near(wave, (*(line.rest_wave for line in DAP_DR17_LINES), *OTHER_LINES), MASKED_KMS)


def broad_regions(wave: np.ndarray) -> np.ndarray:
    """Whether broad lines of an active nucleus may be near, [wave] bool; argument as for `line_regions`."""
    return _near(wave, [LINES_BY_NAME[name].rest_wave for name in BALMER], BROAD_KMS)


def _near(wave: np.ndarray, rest_waves: Iterable[float], reach_kms: float) -> np.ndarray:
    near = np.zeros(len(wave), dtype=bool)
    for rest_wave in rest_waves:
        near |= np.abs(wave / rest_wave - 1) < reach_kms / SPEED_OF_LIGHT_KMS
    return near
