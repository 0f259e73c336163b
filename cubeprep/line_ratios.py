"""Equivalent widths and line ratios of a galaxy, in three apertures, from its windows and continuum; BPT demarcations.

Noise is taken to be independent between spaxels: the covariance of neighbours is neglected. That of the samples of a
line, which share planes and the subtracted continuum, is included (`covariance`). The error of the stars' model is
taken to be the same in all samples of a line, as it is in real spectra of high S/N, and in all spaxels, which share
templates and polynomial: in a sum it is added linearly, so that it does not average out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cubeprep.lines import SPEED_OF_LIGHT_KMS, Line
from cubeprep.sampling import Sampling, band_share
from cubeprep.windows import Continuum, LineWindows, WindowConfig

# Samples within this velocity of a line count, so that [N II] is not taken for Halpha in wide windows.
HALF_WIDTH_KMS = 450.0
MIN_SNR = 3.0  # of both lines of a ratio
WIDTHS = {"ew_ha": "Ha-6564", "ew_oiii": "OIII-5008"}
RATIOS = {"log_nii_ha": ("NII-6585", "Ha-6564"), "log_oiii_hb": ("OIII-5008", "Hb-4862")}
CENTRE_SPAXELS = 1.5  # radius of the central aperture: 2 x 2 spaxels, since windows have an even number a side
# Suffixes of the columns: the whole window, the centre, and within one effective radius.
APERTURES = ("", "_centre", "_re")
COLUMNS = tuple(
    f"{name}{aperture}{unit}{suffix}"
    for names, unit in ((WIDTHS, "_angstrom"), (RATIOS, ""))
    for name in names
    for aperture in APERTURES
    for suffix in ("", "_error")
)


class LineSum(NamedTuple):
    """Flux of a line, its variance, and the error that it shares with all other spaxels, each [y, x]; NaN where bad."""

    flux: np.ndarray
    variance: np.ndarray
    shared: np.ndarray

    def over(self, used: np.ndarray) -> tuple[float, float]:
        """Sum over the spaxels of a mask, and its error."""
        total, variance, shared = (float(values[used].sum()) for values in self)
        return total, float(np.hypot(np.sqrt(variance), shared))


def line_ratios(
    windows: LineWindows,
    continuum: Continuum,
    config: WindowConfig,
    z: float,
    re_spaxels: float,
    star_error: np.ndarray | None = None,
    covariances: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Values of `COLUMNS`; None where a line is not covered, or too faint for a ratio.

    Equivalent widths are in the rest frame, positive in emission.

    Args:
        windows: windows of the galaxy, of which the continuum was subtracted.
        continuum: its continuum at the lines.
        config: window parameters.
        z: redshift at which the windows are cut.
        re_spaxels: effective radius in spaxels of the windows; NaN if it is unknown.
        star_error: [line] error of the stars' model over the model; None if none was subtracted, or it has none.
        covariances: [line] of `covariance`; None for independent samples.
    """
    share = np.zeros(len(config.line_list)) if star_error is None else star_error
    found: dict[str, float | None] = dict.fromkeys(COLUMNS)
    names = config.line_names
    wanted = {*WIDTHS.values(), *(name for pair in RATIOS.values() for name in pair)} & set(names)
    fluxes = {}
    for name in wanted:
        number = names.index(name)
        level = share[number] * np.where(continuum.stars, np.nan_to_num(continuum.flux[number]), 0)
        found_flux = _flux(windows, config, config.line_list[number], level, number, z)
        factor = 1.0 if covariances is None else covariances[number]
        fluxes[name] = found_flux._replace(variance=factor * found_flux.variance)
    for aperture, inside in _apertures(config.size, re_spaxels).items():
        for name, line in WIDTHS.items():
            if line in fluxes:
                level = continuum.flux[names.index(line)]
                _set(found, f"{name}{aperture}_angstrom", _width(fluxes[line], level, inside, z))
        for name, (above, below) in RATIOS.items():
            if above in fluxes and below in fluxes:
                _set(found, f"{name}{aperture}", _ratio(fluxes[above], fluxes[below], inside))
    return found


def _set(found: dict[str, float | None], name: str, value: tuple[float, float] | None) -> None:
    if value is not None:
        found[name], found[f"{name}_error"] = value


def _apertures(size: int, re_spaxels: float) -> dict[str, np.ndarray]:
    """Masks [y, x] of the apertures that are known."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = np.hypot(y, x)
    found = {"": radius >= 0, "_centre": radius <= CENTRE_SPAXELS}
    if np.isfinite(re_spaxels) and re_spaxels > 0:
        found["_re"] = radius <= re_spaxels
    return found


def covariance(
    sampling: Sampling, bands: tuple[np.ndarray, np.ndarray] | None, line: Line, config: WindowConfig
) -> float:
    """Variance of a line's flux over the sum of the variances of its samples, for the same noise in all planes.

    Args:
        sampling: of the line.
        bands: indices of the planes of its two sidebands; None if no continuum was subtracted.
        line: the line.
        config: window parameters.
    """
    near = _near(config)
    if not sampling.covered[near].all():
        return 1.0
    ratio = 10 ** config.offsets_dex[near]  # widths of the samples, but for a factor
    parts = [(sampling.weights[near], 1)]
    if bands is not None and min(map(len, bands)):
        share = band_share(line, line.rest_wave * ratio)[:, None]
        parts += [(values, len(band)) for values, band in zip((1 - share, share), bands, strict=True)]
    together = sum(((ratio @ weights) ** 2).sum() / count for weights, count in parts)
    return float(together / sum((ratio**2 @ weights**2).sum() / count for weights, count in parts))


def _near(config: WindowConfig) -> np.ndarray:
    """Samples that count for the flux of a line, [sample] bool."""
    return np.abs(config.velocity_kms) <= max(HALF_WIDTH_KMS, config.step_dex * np.log(10) * SPEED_OF_LIGHT_KMS)


def _flux(windows: LineWindows, config: WindowConfig, line: Line, level: np.ndarray, number: int, z: float) -> LineSum:
    """Flux of a line; `level` [y, x] is the error of the stars' flux density."""
    near = _near(config)
    wave = line.rest_wave * (1 + z) * 10 ** config.offsets_dex[near]
    width = (wave * np.log(10) * config.step_dex)[:, None, None]
    good = windows.mask[number][near] == 0
    flux = np.where(good, windows.flux[number][near], 0) * width
    variance = width**2 / np.where(good, windows.ivar[number][near], np.inf)
    known = good.all(axis=0)
    total, error2 = flux.sum(axis=0, dtype=np.float64), variance.sum(axis=0, dtype=np.float64)
    return LineSum(*(np.where(known, values, np.nan) for values in (total, error2, np.abs(level) * width.sum())))


def _width(line: LineSum, level: np.ndarray, inside: np.ndarray, z: float) -> tuple[float, float] | None:
    """Equivalent width in the rest frame and its error, Angstrom; that of the continuum is negligible beside it."""
    used = inside & np.isfinite(line.flux) & np.isfinite(level)
    total = float(level[used].sum(dtype=np.float64)) * (1 + z)
    if not used.any() or total <= 0:
        return None
    flux, error = line.over(used)
    return flux / total, error / total


def _ratio(above: LineSum, below: LineSum, inside: np.ndarray) -> tuple[float, float] | None:
    """Log10 of a ratio and its error, dex."""
    used = inside & np.isfinite(above.flux) & np.isfinite(below.flux)
    sums = [above.over(used), below.over(used)]
    if any(error <= 0 or value < MIN_SNR * error for value, error in sums):
        return None
    relative = [error / value for value, error in sums]
    return float(np.log10(sums[0][0] / sums[1][0])), float(np.hypot(relative[0], relative[1]) / np.log(10))


def described(columns: Sequence[str] = COLUMNS) -> dict[str, tuple[str, str]]:
    """Description and unit of each column."""
    places = {"": "over the whole window", "_centre": "in the central 2 x 2 spaxels", "_re": "within one Re"}
    quantities = {
        "ew_ha": "Rest-frame equivalent width of Halpha, positive in emission,",
        "ew_oiii": "Rest-frame equivalent width of [O III] 5008, positive in emission,",
        "log_nii_ha": "log10 of [N II] 6585 over Halpha",
        "log_oiii_hb": "log10 of [O III] 5008 over Hbeta",
    }
    found = {}
    for column in columns:
        name = next(name for name in quantities if column.startswith(name))
        rest = column.removeprefix(name).replace("_angstrom", "")
        place = places[rest.removesuffix("_error")]
        error = "Uncertainty: " if rest.endswith("_error") else ""
        found[column] = (f"{error}{quantities[name]} {place}", "Angstrom" if name in WIDTHS else "")
    return found


def kauffmann2003(nii_ha: np.ndarray | float) -> np.ndarray:
    """log([O III]/Hbeta) above which gas is not purely star-forming, for log([N II]/Halpha).

    Source: Kauffmann+2003 (doi:10.1111/j.1365-2966.2003.07154.x); minus infinity to the right of the curve.
    """
    nii_ha = np.asarray(nii_ha, dtype=np.float64)
    return np.where(nii_ha < 0.0, 0.61 / np.minimum(nii_ha - 0.05, -1e-3) + 1.3, -np.inf)


def kewley2001(nii_ha: np.ndarray | float) -> np.ndarray:
    """log([O III]/Hbeta) above which young stars cannot ionise the gas, for log([N II]/Halpha).

    Source: Kewley+2001 (doi:10.1086/321545); minus infinity to the right of the curve.
    """
    nii_ha = np.asarray(nii_ha, dtype=np.float64)
    return np.where(nii_ha < 0.4, 0.61 / np.minimum(nii_ha - 0.47, -1e-3) + 1.19, -np.inf)
