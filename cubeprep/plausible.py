"""Whether a galaxy's values can be what they claim: noise against errors, signal in its lines, brightness.

A wrong unit, or errors of another kind, leaves a file that every reader takes for good and every score for unusual.
These measures are recorded for each galaxy, and values that cannot be are flagged as implausible; the galaxy stays in
the store.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cubeprep.cube import Planes, Rejected
from cubeprep.windows import LineWindows

# Robust scatter of what should be noise over the stated errors. Resampling correlates planes and leaves less of it;
# sky lines and stars leave more.
NOISE_RATIO = (0.3, 3.0)
MIN_PAIRS = 200
# Planes of a sideband that are used: enough for a scatter, and few beside what is read.
BAND_PLANES = 5
LINE_SNR = 5.0
LEVEL_PERCENTILE, LEVEL_SAMPLES = 90, 20_000
# A spaxel that is a third as bright as Vega (3.6e-9 erg/s/cm2/Angstrom) holds no galaxy.
BRIGHTEST = 1e8
# A galaxy's brightness is not of its survey beyond so many robust standard deviations, but no less than a factor of 30
# and no more than one of 300.
LEVEL_SIGMAS, LEVEL_DEX = 4.5, (1.5, 2.5)
MIN_GALAXIES = 8
SCATTER = 1.4826  # from the median absolute deviation to the standard deviation of a Gaussian


def noise_deviations(planes: Planes, where: np.ndarray) -> np.ndarray:
    """Differences of neighbouring planes without lines over their stated errors; 1-d, of good samples.

    Args:
        planes: [plane, y, x].
        where: consecutive positions of the planes of a sideband.
    """
    chosen = where[:BAND_PLANES]
    flux, ivar, mask = (values[chosen] for values in (planes.flux, planes.ivar, planes.mask))
    good = (mask[1:] | mask[:-1]) == 0
    first, second = ivar[:-1][good], ivar[1:][good]
    return (flux[1:][good] - flux[:-1][good]) * np.sqrt(first * second / (first + second))


def noise_ratio(deviations: Sequence[np.ndarray]) -> float:
    """Robust standard deviation of `noise_deviations`; NaN where there are too few."""
    together = np.concatenate([*deviations, np.empty(0)])
    return SCATTER * float(np.median(np.abs(together))) if len(together) >= MIN_PAIRS else float("nan")


def signal_share(windows: LineWindows) -> float:
    """Share of the covered lines whose flux, summed over spaxels, is significant in some sample; NaN without any."""
    good = windows.mask == 0
    flux = np.where(good, windows.flux, 0).sum(axis=(2, 3), dtype=np.float64)
    variance = np.divide(1, windows.ivar, out=np.zeros(good.shape), where=good).sum(axis=(2, 3))
    covered = good.any(axis=(1, 2, 3))
    significant = (np.abs(flux) > LINE_SNR * np.sqrt(variance)) & (variance > 0)
    return float(significant.any(axis=1)[covered].mean()) if covered.any() else float("nan")


def flux_level(windows: LineWindows) -> float:
    """The 90th percentile of |flux| of good samples, in the store's unit."""
    good = windows.flux[windows.mask == 0]
    return float(np.percentile(np.abs(good[:: 1 + len(good) // LEVEL_SAMPLES]), LEVEL_PERCENTILE))


def check_level(windows: LineWindows, level: float, unit: str, path: str) -> None:
    """Sets a galaxy aside that has no flux at all, or more than any.

    Raises:
        Rejected: naming the file.
    """
    if level == 0 and not windows.flux[windows.mask == 0].any():
        raise Rejected("no_flux", f"{path}: all good samples are exactly 0")
    if unit.startswith("1e-17 erg") and level > BRIGHTEST:
        reason = f"a tenth of the good samples are above {level:.3g} x {unit}, expected below {BRIGHTEST:g}"
        raise Rejected("implausible", f"{path}: {reason}; is its unit right?")


def doubts(ratio: float, share: float) -> str:
    """Implausible values of one galaxy, in words; empty if there are none."""
    found = []
    if not np.isnan(ratio) and not NOISE_RATIO[0] <= ratio <= NOISE_RATIO[1]:
        low, high = NOISE_RATIO
        found.append(f"noise between lines is {ratio:.3g} times the stated errors, expected {low:g} to {high:g}")
    if share == 0:
        found.append(f"no line has a signal of {LINE_SNR:g} sigma")
    return "; ".join(found)


def survey_doubts(levels: Mapping[str, float]) -> dict[str, str]:
    """The galaxies whose brightness is not of their survey, and why, in words.

    Args:
        levels: `flux_level` by name of all galaxies that are used.
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
