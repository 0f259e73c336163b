"""Spectra of stellar populations: metallicity, redshift, velocity dispersion and dust."""

from functools import lru_cache
from importlib.resources import files

import numpy as np
from scipy.ndimage import gaussian_filter1d

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.simulate.instrument import LOG_STEP, NUM_WAVES, PIXEL_KMS, WAVE
from cubeprep.simulate.spectrum import REFERENCE_WAVE, extinction

# Made by benchmarks/stellar_templates.py from the models of Maraston+2020 (doi:10.1093/mnras/staa1489).
_TABLE = "stellar_populations.npz"

POPULATIONS = ("young", "middle", "old")


@lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray, float]:
    """Spectra [population, metallicity, wavelength], log10 metallicities (solar units), and log10 of the first wave."""
    with (files("cubeprep.simulate") / _TABLE).open("rb") as file, np.load(file) as table:
        assert tuple(table["histories"]) == POPULATIONS
        return table["spectra"].astype(np.float64), table["log_metals"], float(table["first_log_wave"])


def template(population: str, log_metals: float, z: float, sigma_kms: float, margin: int) -> np.ndarray:
    """Redshifted spectrum of a population, about 1 at rest wavelength 5500 Angstrom.

    The models have MaNGA's resolution at the rest wavelength rather than at the redshifted one; at z = 0.15 that is up
    to 7% coarser than MaNGA's own.

    Args:
        population: one of `POPULATIONS`.
        log_metals: log10 of the metallicity, solar units; clipped to the range of the models.
        z: redshift.
        sigma_kms: velocity dispersion.
        margin: number of pixels by which the grid is extended at either end.

    Returns:
        float32 [`NUM_WAVES` + 2 x margin].
    """
    spectra, grid, first = _table()
    index = POPULATIONS.index(population)
    place = np.interp(log_metals, grid, np.arange(len(grid)))
    low = min(int(place), len(grid) - 2)
    spectrum = (1 - (place - low)) * spectra[index, low] + (place - low) * spectra[index, low + 1]
    # On the logarithmic grid a redshift is a shift. Its fractional part is interpolated linearly, which the sampling of
    # the table's spectra allows.
    log_wave = np.log10(WAVE[0]) + LOG_STEP * np.arange(-margin, NUM_WAVES + margin) - np.log10(1 + z)
    shifted = np.interp((log_wave - first) / LOG_STEP, np.arange(len(spectrum)), spectrum)
    return np.asarray(gaussian_filter1d(shifted, sigma_kms / PIXEL_KMS, mode="nearest"), dtype=np.float32)


def render_stars(spectra: np.ndarray, light: np.ndarray, velocity_kms: np.ndarray, templates: np.ndarray) -> None:
    """Adds starlight to spectra, in place.

    Doppler shifts are interpolated between whole pixels, for all samples with the same whole shift at once.

    Args:
        spectra: float32 [sample, wavelength] flux density per Angstrom; modified.
        light: [template, sample] flux density at 5500 Angstrom.
        velocity_kms: [sample] velocity.
        templates: float32 [template, `NUM_WAVES` + 2 x margin] from `template`.

    Raises:
        ValueError: the margin is smaller than the largest shift.
    """
    margin = (templates.shape[1] - NUM_WAVES) // 2
    shift = np.log10(1 + velocity_kms / SPEED_OF_LIGHT_KMS) / LOG_STEP
    whole = np.floor(shift).astype(int)
    if whole.min(initial=0) < -margin or whole.max(initial=0) + 1 > margin:
        raise ValueError(f"velocities up to {np.abs(velocity_kms).max():.0f} km/s exceed a margin of {margin} pixels")
    part = (shift - whole).astype(np.float32)
    light = light.astype(np.float32)
    for step in np.unique(whole):
        samples = np.flatnonzero(whole == step)
        near, far = (templates[:, margin - k : margin - k + NUM_WAVES] for k in (step, step + 1))
        weights = np.concatenate([light[:, samples] * (1 - part[samples]), light[:, samples] * part[samples]])
        # einsum rather than BLAS, whose sums depend on the number of threads: files must be reproducible to the byte.
        spectra[samples] += np.einsum("ks,kw->sw", weights, np.concatenate([near, far]))


def redden(spectra: np.ndarray, ebv: np.ndarray, z: float) -> None:
    """Reddens spectra [sample, wavelength], in place, by dust of E(B-V) [sample] at redshift z.

    The flux at rest wavelength 5500 Angstrom stays unchanged, since starlight is normalised there with dust included.
    """
    curve = np.log(10) * -0.4 * (extinction(WAVE / (1 + z)) - extinction(REFERENCE_WAVE))
    spectra *= np.exp(ebv.astype(np.float32)[:, None] * curve.astype(np.float32))
