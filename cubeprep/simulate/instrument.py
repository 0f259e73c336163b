"""Model of the spectrograph: wavelength grid, and resolution and noise of the real spectra in shared/data/spectra."""

from functools import lru_cache

import numpy as np

from cubeprep.lines import SPEED_OF_LIGHT_KMS

NUM_WAVES = 4563
LOG_STEP = 1e-4
FIRST_WAVE = 3621.59598486
WAVE = 10 ** (np.log10(FIRST_WAVE) + LOG_STEP * np.arange(NUM_WAVES))
PIXEL_KMS = SPEED_OF_LIGHT_KMS * np.log(10) * LOG_STEP

# Wavelength pixels at the red end that are missing in all spectra.
NUM_MISSING = 6

# At every 150th pixel: the median resolving power of seven real spectra; the noise between sky lines of the two
# faintest (1e-17 erg/s/cm^2/Angstrom/spaxel); and the variance per unit of flux in the bright ones.
_ANCHORS = np.arange(0, NUM_WAVES, 150)
_RESOLUTION = [1400, 1480, 1550, 1620, 1680, 1720, 1750, 1780, 1800, 1810, 1820, 1840, 1860, 1910, 1950, 1900, 1820,
               1830, 1890, 1950, 2020, 2080, 2130, 2180, 2270, 2360, 2400, 2450, 2410, 2290, 2110]  # fmt: skip
_SKY_SIGMA = 1e-4 * np.array(
    [672, 268, 183, 163, 143, 132, 124, 118, 113, 107, 100, 96, 97, 99, 108, 107, 92, 79, 70, 69, 68, 64, 70, 66, 68,
     63, 67, 66, 75, 120, 292]
)  # fmt: skip
_FLUX_VARIANCE = 1e-4 * np.interp(
    _ANCHORS, np.arange(100, NUM_WAVES, 400), [7.5, 3.2, 2.7, 2.1, 1.9, 2.0, 1.3, 1.1, 1.1, 1.0, 1.2, 4.0]
)

# Sky lines: vacuum wavelength, Angstrom, and excess of the noise at the peak over that beside the line, relative to it.
SKY_LINES = np.array(
    [(5578.9, 7.1), (5891.4, 1.1), (6302.0, 1.8), (6365.5, 0.9), (6865.9, 1.0), (6924.7, 0.7), (7247.7, 1.3),
     (7277.8, 2.0), (7318.1, 1.5), (7343.4, 1.4), (7370.6, 1.2), (7404.6, 0.9), (7526.6, 1.1), (7573.6, 0.8),
     (7601.5, 1.9), (7631.3, 1.2), (7717.9, 1.5), (7751.8, 1.7), (7796.5, 1.4), (7810.9, 0.8), (7823.5, 1.7),
     (7856.0, 1.8), (7872.3, 1.0), (7892.2, 1.2), (7915.9, 2.3), (7934.1, 0.8), (7967.1, 1.9), (7981.8, 0.9),
     (7994.7, 2.0), (8027.9, 1.5), (8064.9, 0.8), (8290.9, 1.8), (8300.4, 1.9), (8346.4, 3.6), (8384.9, 1.1),
     (8400.4, 2.7), (8417.8, 1.4), (8433.3, 3.0), (8454.7, 1.1), (8468.4, 2.5), (8495.7, 0.9), (8507.5, 1.5),
     (8631.8, 1.4), (8661.6, 1.2), (8770.0, 2.6), (8780.1, 2.7), (8794.3, 1.0), (8828.8, 5.1), (8851.2, 0.8),
     (8869.5, 1.7), (8887.9, 3.8), (8906.4, 1.7), (8922.8, 3.8), (8945.4, 1.7), (8959.8, 3.3), (8990.8, 2.0),
     (9003.3, 2.6), (9051.1, 1.2), (9105.4, 0.8), (9326.1, 6.1), (9341.1, 2.4), (9379.9, 10.1), (9403.7, 1.5),
     (9423.2, 2.4), (9442.8, 9.6), (9462.4, 4.0), (9479.8, 4.3), (9503.9, 3.7), (9521.4, 2.2), (9556.5, 1.9),
     (9569.7, 3.7), (9622.8, 1.1), (9685.0, 1.1), (9702.9, 1.4), (9723.0, 1.9), (9740.9, 0.9), (9792.6, 2.7),
     (9851.4, 1.2), (9874.2, 3.4), (9896.9, 1.3), (9917.4, 2.9), (9949.5, 2.6), (10016.1, 3.7), (10062.4, 0.8),
     (10085.6, 2.3), (10106.5, 1.0), (10127.4, 2.3), (10155.5, 1.0), (10174.2, 2.9), (10193.0, 1.7), (10214.1, 2.5),
     (10228.2, 1.7), (10289.6, 7.4)]
)  # fmt: skip
_SKY_LINE_SIGMA_PIXELS = 1.5


def resolution(wave: np.ndarray | float) -> np.ndarray:
    """Resolving power lambda/FWHM of the final spectra, pixel width included, at wavelengths in Angstrom."""
    return np.asarray(np.interp(pixel_of(wave), _ANCHORS, _RESOLUTION))


def lsf_sigma_pixels(wave: np.ndarray | float, *, with_pixel: bool) -> np.ndarray:
    """Gaussian sigma of the line-spread function in wavelength pixels, with or without the pixel's own width."""
    sigma: np.ndarray = SPEED_OF_LIGHT_KMS / (resolution(wave) * np.sqrt(8 * np.log(2))) / PIXEL_KMS
    # A pixel is a top hat of width 1, whose variance is 1/12.
    return sigma if with_pixel else np.sqrt(sigma**2 - 1 / 12)


def pixel_of(wave: np.ndarray | float) -> np.ndarray:
    """Position of wavelengths (Angstrom) on the grid, in pixels; integers are pixel centres."""
    return (np.log10(wave) - np.log10(FIRST_WAVE)) / LOG_STEP


@lru_cache(maxsize=1)
def sky_line_excess() -> np.ndarray:
    """Excess noise [wavelength] of the sky lines, relative to the noise between them."""
    offset = np.arange(NUM_WAVES) - pixel_of(SKY_LINES[:, :1])
    excess: np.ndarray = (SKY_LINES[:, 1:] * np.exp(-0.5 * (offset / _SKY_LINE_SIGMA_PIXELS) ** 2)).max(axis=0)
    return excess


@lru_cache(maxsize=1)
def noise_model() -> tuple[np.ndarray, np.ndarray]:
    """Noise of a well-covered spaxel [wavelength]: variance of the sky, and variance per unit of source flux."""
    pixels = np.arange(NUM_WAVES)
    floor, per_flux = (np.exp(np.interp(pixels, _ANCHORS, np.log(v))) for v in (_SKY_SIGMA, _FLUX_VARIANCE))
    return (floor * (1 + sky_line_excess())) ** 2, per_flux
