"""Creates the stellar spectra of the simulation and of the fit of stellar continua, from public models.

cubeprep/simulate/stellar_populations.npz holds three star-formation histories, cubeprep/stars/stellar_templates.npz
populations of one age each.

The models are the simple stellar populations of Maraston+2020 (doi:10.1093/mnras/staa1489), built from MaNGA's own
stellar library at the survey's resolution and sampling, as distributed with the package sdss-mangadap (BSD 3-Clause).
They begin at 3622 Angstrom. Bluer light, which is redshifted into the cubes, is taken from the models of Bruzual &
Charlot 2003 (doi:10.1046/j.1365-8711.2003.06897.x) in the same package; it is constant below their limit of 3326
Angstrom.

    pip install sdss-mangadap     # in a separate environment: Cubescout does not need it
    python -m benchmarks.stellar_templates SITE-PACKAGES/mangadap/data/spectral_templates
"""

import argparse
from pathlib import Path

import numpy as np
from astropy.io import fits

CUBEPREP = Path(__file__).parents[1] / "cubeprep"
POPULATIONS = CUBEPREP / "simulate" / "stellar_populations.npz"
TEMPLATES = CUBEPREP / "stars" / "stellar_templates.npz"

LOG_STEP = 1e-4
FIRST_LOG_WAVE = 3.5589000018155 - 620 * LOG_STEP  # 3140 Angstrom, needed up to a redshift of 0.15
NUM_WAVES = 4562 + 620
SPLICE_WAVE = 3660.0

LOG_METALS = (-0.70, -0.33, 0.00, 0.35)
# Nearest metallicity of Bruzual & Charlot's models to each of the above.
BC03_METALS = ("0.004", "0.008", "0.020", "0.050")
# Star-formation histories as relative masses formed at each age of the models (Gyr): constant star formation for
# 0.3 Gyr, a population of 1 to 3 Gyr, and one of 9 Gyr.
HISTORIES = {
    "young": {"00.003": 6.6, "00.010": 14.0, "00.032": 45.0, "00.100": 134.0, "00.300": 100.0},
    "middle": {"01.000": 1.0, "03.000": 2.0},
    "old": {"09.000": 1.0},
}
BC03_AGE = {
    "00.003": "00.005", "00.010": "00.005", "00.032": "00.025", "00.100": "00.101", "00.300": "00.286",
    "01.000": "00.904", "03.000": "02.500", "09.000": "10.000",
    "14.000": "10.000",
}  # fmt: skip


def model(folder: Path, age: str, log_metals: float, bc03_metals: str) -> np.ndarray:
    """Spectrum [wavelength] of one population on the grid of the output, in the unit of the models."""
    wave = 10 ** (FIRST_LOG_WAVE + LOG_STEP * np.arange(NUM_WAVES))
    red = np.concatenate(
        [np.zeros(620), fits.getdata(folder / "mastar_ssp_v1.0" / f"MaStar-SSP-A{age}-Z{log_metals:+.2f}.fits.gz", 0)]
    )
    path = folder / "bc03_mpajhu" / f"BC03_z{bc03_metals}_a{BC03_AGE[age]}.fits"
    blue_flux, header = fits.getdata(path, header=True)
    blue_wave = header["CRVAL1"] + header["CDELT1"] * np.arange(
        len(blue_flux)
    )  # in air; vacuum wavelengths are 1 Angstrom longer
    blue = np.interp(wave, blue_wave + 1.0, blue_flux)
    # The two sets are normalised differently: they are matched in the first 60 Angstrom after the splice.
    overlap = (wave > SPLICE_WAVE) & (wave < SPLICE_WAVE + 60)
    return np.where(wave < SPLICE_WAVE, blue * red[overlap].mean() / blue[overlap].mean(), red)


def resolution(folder: Path) -> np.ndarray:
    """Resolution lambda / FWHM [wavelength], the same for all models; bluewards of them, that of their bluest pixel."""
    values = fits.getdata(folder / "mastar_ssp_v1.0" / "MaStar-SSP-A01.000-Z+0.00.fits.gz", "SRES")
    return np.concatenate([np.full(620, values[0]), values]).astype(np.float16)


def write_populations(folder: Path) -> None:
    """Writes the histories: spectra [history, metallicity, wavelength]."""
    spectra = [
        [
            sum(mass * model(folder, age, log_metals, bc03) for age, mass in history.items())
            for log_metals, bc03 in zip(LOG_METALS, BC03_METALS, strict=True)
        ]
        for history in HISTORIES.values()
    ]
    np.savez_compressed(
        POPULATIONS,
        spectra=normalised(spectra),
        histories=np.array(list(HISTORIES)),
        log_metals=np.array(LOG_METALS),
        first_log_wave=np.float64(FIRST_LOG_WAVE),
    )


def write_templates(folder: Path) -> None:
    """Writes the templates: spectra [template, wavelength] with their ages, Gyr, and metallicities."""
    kinds = [
        (age, log_metals, bc03) for age in BC03_AGE for log_metals, bc03 in zip(LOG_METALS, BC03_METALS, strict=True)
    ]
    np.savez_compressed(
        TEMPLATES,
        spectra=normalised([model(folder, *kind) for kind in kinds]),
        age_gyr=np.array([float(age) for age, _, _ in kinds]),
        log_metals=np.array([log_metals for _, log_metals, _ in kinds]),
        first_log_wave=np.float64(FIRST_LOG_WAVE),
        resolution=resolution(folder),
    )


def normalised(spectra: list) -> np.ndarray:
    """Spectra [..., wavelength] divided by their flux at 5500 Angstrom, in half precision."""
    wave = 10 ** (FIRST_LOG_WAVE + LOG_STEP * np.arange(NUM_WAVES))
    values = np.array(spectra)
    return (values / values[..., (wave > 5450) & (wave < 5550)].mean(axis=-1, keepdims=True)).astype(np.float16)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for write in (write_populations, write_templates):
        write(parser.parse_args().folder)
