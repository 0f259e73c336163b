"""Plausibility of a galaxy's values: noise compared with the stated errors, signal in the lines, brightness.

A file with a wrong unit, or with sigmas in place of variances, is read without an error, and its galaxy then scores as
unusual. These measures are therefore recorded for each galaxy, and implausible values are flagged; the galaxy stays in
the store.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cubeprep.cube import Planes, Rejected
from cubeprep.space import Regrid, regrid_line
from cubeprep.windows import LineWindows

# Plausible scatter between neighbouring planes, over the stated errors. Correlations from resampling lower it; residual
# sky lines and stellar continua raise it.
NOISE_RATIO = (0.3, 3.0)
MIN_PAIRS = 200
# Planes used per sideband: enough to measure the scatter, and few compared with those that are read anyway.
BAND_PLANES = 5
LINE_SNR = 5.0
LEVEL_PERCENTILE, LEVEL_SAMPLES = 90, 20_000
# A spaxel a third as bright as Vega (3.6e-9 erg/s/cm2/Angstrom) cannot be a galaxy.
BRIGHTEST = 1e8
# Deviation from the survey's median flux level, in robust standard deviations, at which a galaxy is flagged; and bounds
# of that limit in dex, factors of 30 and 300.
LEVEL_SIGMAS, LEVEL_DEX = 4.5, (1.5, 2.5)
MIN_GALAXIES = 8
SCATTER = 1.4826  # from the median absolute deviation to the standard deviation of a Gaussian


def noise_deviations(planes: Planes, where: np.ndarray, grid: Regrid | None = None) -> np.ndarray:
    """Differences between neighbouring planes of a sideband over their stated errors, [n], of good samples alone.

    Args:
        planes: planes of a cube, of which the sideband's are used.
        where: consecutive indices into `planes` of the sideband's planes, in which there are no lines.
        grid: spaxels to which the planes are regridded first, whose errors neglect what the old ones share.
    """
    chosen = where[:BAND_PLANES]
    band = LineWindows(planes.flux[chosen], planes.ivar[chosen], planes.mask[chosen])
    if grid:
        band = regrid_line(band, grid)
    flux, ivar, mask = band.flux, band.ivar, band.mask
    good = (mask[1:] | mask[:-1]) == 0
    first, second = ivar[:-1][good], ivar[1:][good]
    return (flux[1:][good] - flux[:-1][good]) * np.sqrt(first * second / (first + second))


def noise_ratio(deviations: Sequence[np.ndarray]) -> float:
    """Robust standard deviation of the results of `noise_deviations`; NaN if there are fewer than `MIN_PAIRS`."""
    together = np.concatenate([*deviations, np.empty(0)])
    return SCATTER * float(np.median(np.abs(together))) if len(together) >= MIN_PAIRS else float("nan")


def signal_share(windows: LineWindows) -> float:
    """Share of the covered lines with a significant sample in the sum over spaxels; NaN if no line is covered."""
    good = windows.mask == 0
    flux = np.where(good, windows.flux, 0).sum(axis=(2, 3), dtype=np.float64)
    variance = np.divide(1, windows.ivar, out=np.zeros(good.shape), where=good).sum(axis=(2, 3))
    covered = good.any(axis=(1, 2, 3))
    significant = (np.abs(flux) > LINE_SNR * np.sqrt(variance)) & (variance > 0)
    return float(significant.any(axis=1)[covered].mean()) if covered.any() else float("nan")


def flux_level(windows: LineWindows) -> float:
    """90th percentile of |flux| over good samples, in the store's unit."""
    good = windows.flux[windows.mask == 0]
    return float(np.percentile(np.abs(good[:: 1 + len(good) // LEVEL_SAMPLES]), LEVEL_PERCENTILE))


def check_level(windows: LineWindows, level: float, unit: str, path: str) -> None:
    """Checks that a galaxy has flux, and no more than a galaxy can have.

    Args:
        windows: windows of the galaxy, with a good sample.
        level: its `flux_level`.
        unit: unit of its fluxes.
        path: its file, for the message.

    Raises:
        Rejected: all good samples are 0, or the flux level is above `BRIGHTEST`.
    """
    if level == 0 and not windows.flux[windows.mask == 0].any():
        raise Rejected("no_flux", f"{path}: all good samples are exactly 0")
    if unit.startswith("1e-17 erg") and level > BRIGHTEST:
        reason = f"a tenth of the good samples are above {level:.3g} x {unit}, expected below {BRIGHTEST:g}"
        raise Rejected("implausible", f"{path}: {reason}; is its unit right?")


def doubts(ratio: float, share: float) -> str:
    """Implausible values of one galaxy, in words; empty if there are none.

    Args:
        ratio: its `noise_ratio`; NaN is not checked.
        share: its `signal_share`.
    """
    found = []
    if not np.isnan(ratio) and not NOISE_RATIO[0] <= ratio <= NOISE_RATIO[1]:
        low, high = NOISE_RATIO
        found.append(f"noise between lines is {ratio:.3g} times the stated errors, expected {low:g} to {high:g}")
    if share == 0:
        found.append(f"no line has a signal of {LINE_SNR:g} sigma")
    return "; ".join(found)


def survey_doubts(levels: Mapping[str, float]) -> dict[str, str]:
    """Galaxies whose flux level deviates from that of their survey, by name, with the deviation in words.

    Args:
        levels: `flux_level` of all accepted galaxies by name; at least `MIN_GALAXIES`, else nothing is flagged.
    """
    known = {name: np.log10(level) for name, level in levels.items() if level and level > 0}
    if len(known) < MIN_GALAXIES:
        return {}
    values = np.array(list(known.values()))
    middle = float(np.median(values))
    limit = np.clip(LEVEL_SIGMAS * SCATTER * np.median(np.abs(values - middle)), *LEVEL_DEX)
    found = {}
    for name, value in known.items():
        if abs(value - middle) > limit:
            side = "above" if value > middle else "below"
            found[name] = f"flux is {10 ** abs(value - middle):.3g} times {side} the survey's median"
    return found
