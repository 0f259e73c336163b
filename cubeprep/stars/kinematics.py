"""Velocity and dispersion of the stars in each bin, from a grid of both, for all bins at once."""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cubeprep.stars.spectra import RestSpectra
from cubeprep.stars.templates import LOG_STEP, PIXEL_KMS, Templates, broadened, featureless, shifted, templates

# Whole pixels, so that the spectra at all velocities are slices of one.
SHIFTS = np.arange(-8, 9)
VELOCITIES_KMS = SHIFTS * PIXEL_KMS
SIGMAS_KMS = (0.0, 60.0, 100.0, 150.0, 200.0, 260.0, 330.0, 420.0)
SIGMA_STEP_KMS = 10.0  # of the broadened templates
ORDERS = 4  # of the polynomial that absorbs differences of a bin's continuum from the galaxy's


class Kinematics(NamedTuple):
    """Velocities and dispersions [bin], km/s: relative to the redshift, and beyond the templates' own resolution."""

    velocity_kms: np.ndarray
    sigma_kms: np.ndarray


def measure(spectra: RestSpectra, weights: np.ndarray, continuum: np.ndarray) -> Kinematics:
    """Kinematics of all bins, with one mixture of templates for the whole galaxy.

    Chi-square is computed for each velocity and dispersion of a grid, with the polynomial factor that fits best there,
    and its minimum is refined by parabolas.

    Args:
        spectra: spectra of the bins.
        weights: [template] mixture of the templates and of the featureless light of each arm.
        continuum: [wave] multiplicative polynomial of the galaxy.
    """
    offset = (spectra.first - templates().first) / LOG_STEP
    count = spectra.flux.shape[1]
    stellar, smooth = np.split(weights.astype(np.float32), [len(templates().flux)])
    factor = continuum.astype(np.float32)

    def moved(broad: Templates) -> np.ndarray:
        """The mixture at all velocities, [velocity, wave]."""
        wide = shifted(stellar @ broad.flux, offset - SHIFTS[-1], count + len(SHIFTS) - 1)
        return sliding_window_view(wide, count)[::-1]

    models = np.stack([broadened(sigma, spectra.excess, SIGMA_STEP_KMS, moved) for sigma in SIGMAS_KMS])
    models += smooth @ featureless(spectra.arm)
    models *= factor
    chi2 = _chi2(spectra, models.reshape(-1, count)).reshape(-1, *models.shape[:2])
    return _minima(chi2)


def _chi2(spectra: RestSpectra, models: np.ndarray) -> np.ndarray:
    """Chi-square [bin, model], less a constant of each bin, with the best polynomial factor of each model."""
    bins, count = spectra.flux.shape
    powers = np.linspace(-1, 1, count, dtype=np.float32)[:, None] ** np.arange(2 * ORDERS - 1, dtype=np.float32)

    def moments(images: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
        """Sums over the wavelengths [model, bin, power] of products with the powers of the wavelength."""
        columns = (values.T[:, :, None] * powers[:, None, :number]).reshape(count, -1)
        return (images @ columns.astype(np.float32)).reshape(-1, bins, number).astype(np.float64)

    # Normal equations of all polynomials at once: the moments of the squared models, and of model times flux.
    square = moments(models**2, spectra.ivar, 2 * ORDERS - 1)
    right = moments(models, spectra.ivar * spectra.flux, ORDERS)
    order = np.arange(ORDERS)
    normal = square[..., order[:, None] + order]
    trace = np.trace(normal, axis1=-2, axis2=-1)[..., None, None]
    ridge = (1e-9 * trace + 1e-300) * np.eye(ORDERS)  # where a bin has no samples
    solution = np.linalg.solve(normal + ridge, right[..., None])
    return -np.einsum("mbk,mbk->bm", right, solution[..., 0])


def _minima(chi2: np.ndarray) -> Kinematics:
    """Kinematics at the minima of chi-square [bin, sigma, velocity]."""
    bins, sigmas, velocities = chi2.shape
    best = chi2.reshape(bins, -1).argmin(axis=1)
    at_sigma, at_velocity = np.unravel_index(best, (sigmas, velocities))
    number = np.arange(bins)
    along_v = chi2[number, at_sigma]
    along_s = chi2[number, :, at_velocity]
    velocity = VELOCITIES_KMS[0] + (at_velocity + _vertex(along_v, at_velocity)) * (
        VELOCITIES_KMS[1] - VELOCITIES_KMS[0]
    )
    sigma = np.interp(at_sigma + _vertex(along_s, at_sigma), np.arange(sigmas), SIGMAS_KMS)
    return Kinematics(velocity, sigma)


def _vertex(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Position of the vertex of the parabola through the least value of each row and its neighbours, relative to it."""
    inner = np.clip(at, 1, values.shape[1] - 2)
    rows = np.arange(len(values))
    left, middle, right = (values[rows, inner + k] for k in (-1, 0, 1))
    curvature = left - 2 * middle + right
    shift = np.where(curvature > 0, 0.5 * (left - right) / np.where(curvature > 0, curvature, 1), 0)
    return np.where(inner == at, np.clip(shift, -1, 1), 0)
