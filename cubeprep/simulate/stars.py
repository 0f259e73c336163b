"""Starlight: spectra of stellar populations, their metallicity, dispersion and dust."""

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
    """Spectra [population, metallicity, wavelength], log10 of the metallicities in solar units, first log10 wave."""
    with (files("cubeprep.simulate") / _TABLE).open("rb") as file, np.load(file) as table:
        assert tuple(table["histories"]) == POPULATIONS
        return table["spectra"].astype(np.float64), table["log_metals"], float(table["first_log_wave"])


def template(population: str, log_metals: float, z: float, sigma_kms: float, margin: int) -> np.ndarray:
    """A population's spectrum as observed, about 1 at 5500 Angstrom at rest.

    The models have MaNGA's resolution at the wavelengths where the stars were observed, which here are the rest
    wavelengths; that is up to 7% coarser than MaNGA's own at z = 0.15.

    Args:
        population: one of `POPULATIONS`.
        log_metals: log10 of the metallicity in solar units; clipped to the models' range.
        z: redshift.
        sigma_kms: velocity dispersion.
        margin: pixels that the grid is extended by on either side.

    Returns:
        float32 [`NUM_WAVES` + 2 x margin].
    """
    spectra, grid, first = _table()
    index = POPULATIONS.index(population)
    place = np.interp(log_metals, grid, np.arange(len(grid)))
    low = min(int(place), len(grid) - 2)
    spectrum = (1 - (place - low)) * spectra[index, low] + (place - low) * spectra[index, low + 1]
    # A redshift moves spectra on the logarithmic grid by a fraction of a pixel; those of the table are resolved by it.
    log_wave = np.log10(WAVE[0]) + LOG_STEP * np.arange(-margin, NUM_WAVES + margin) - np.log10(1 + z)
    shifted = np.interp((log_wave - first) / LOG_STEP, np.arange(len(spectrum)), spectrum)
    return np.asarray(gaussian_filter1d(shifted, sigma_kms / PIXEL_KMS, mode="nearest"), dtype=np.float32)


def render_stars(spectra: np.ndarray, light: np.ndarray, velocity_kms: np.ndarray, templates: np.ndarray) -> None:
    """Adds starlight to spectra [sample, wavelength].

    Shifts are interpolated between whole pixels, for groups of samples that share one. einsum, not BLAS: its sums do
    not depend on the number of threads, so neither do the bytes of a file.

    Args:
        spectra: float32 [sample, wavelength]; added to.
        light: flux density at 5500 Angstrom, [template, sample].
        velocity_kms: [sample].
        templates: float32 [template, `NUM_WAVES` + 2 x margin], see `template`.

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
        spectra[samples] += np.einsum("ks,kw->sw", weights, np.concatenate([near, far]))


def redden(spectra: np.ndarray, ebv: np.ndarray, z: float) -> None:
    """Dims spectra [sample, wavelength], in place, by dust of E(B-V) [sample] at a redshift; unchanged at 5500."""
    curve = np.log(10) * -0.4 * (extinction(WAVE / (1 + z)) - extinction(REFERENCE_WAVE))
    spectra *= np.exp(ebv.astype(np.float32)[:, None] * curve.astype(np.float32))
