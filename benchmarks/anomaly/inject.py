"""Injects one family into one galaxy and records the truth: the change, its location and its signal-to-noise ratio."""

from dataclasses import dataclass

import numpy as np

from benchmarks.anomaly.families import Added, Changed, Drawn, Moved
from benchmarks.anomaly.scene import Host
from cubeprep.windows import LineWindows

# The truth mask is the smallest set of samples that holds this fraction of the injected (S/N)^2.
MASK_SHARE = 0.9
# An injection counts as having reached its amplitude if its S/N is within this factor of it.
REACH_FACTOR = 1.2
# Largest number of cuts of a cube, each with a fit of its stars, to reach the amplitude of an injection.
NUM_CUTS = 3


@dataclass(frozen=True)
class Injection:
    """Changed windows and the truth about them.

    Attributes:
        windows: windows given to the detectors.
        delta: [line, sample, y, x] injected difference without noise, flux units; zero for families N.
        snr: sqrt(sum(delta^2 ivar)) over the windows; NaN for families N.
        reached: whether `snr` is the intended amplitude.
        oracle: response (S/N) of the matched filter for delta, given the noise-free galaxy, on these windows.
        oracle_clean: response of the same filter on the clean twin; distributed as N(0, 1).
    """

    windows: LineWindows
    delta: np.ndarray
    snr: float
    reached: bool
    oracle: float
    oracle_clean: float

    @property
    def snr2(self) -> np.ndarray:
        """Contribution [line, sample, y, x] of each sample to snr^2."""
        return sample_snr2(self.delta, self.windows)


def inject(host: Host, drawn: Drawn, snr: float) -> Injection:
    """Injection of a change into a galaxy.

    Args:
        host: the galaxy.
        drawn: change drawn by a family.
        snr: intended signal-to-noise ratio of the difference; ignored for families N.
    """
    match drawn:
        case Added():
            return _add(host, drawn, snr)
        case Moved():
            return _move(host, drawn, snr)
        case Changed():
            windows = host.cut(drawn.change)
            return Injection(windows, np.zeros_like(windows.flux), np.nan, reached=True, oracle=0, oracle_clean=0)


def sample_snr2(delta: np.ndarray, windows: LineWindows) -> np.ndarray:
    """(S/N)^2 [line, sample, y, x] of a difference in each sample; 0 where masked."""
    good = windows.mask == 0
    return np.where(good, delta.astype(np.float64) ** 2 * windows.ivar, 0)


def truth_mask(snr2: np.ndarray) -> np.ndarray:
    """Mask of the smallest set of elements that holds `MASK_SHARE` of the sum; empty if the sum is 0."""
    flat = np.sort(snr2, axis=None)[::-1]
    total = flat.sum()
    if total <= 0:
        return np.zeros(snr2.shape, dtype=bool)
    last = int(np.searchsorted(np.cumsum(flat), MASK_SHARE * total))
    return snr2 >= flat[min(last, len(flat) - 1)]


def _add(host: Host, drawn: Added, snr: float) -> Injection:
    unit = host.cut_light(drawn.light)
    unit_snr = np.sqrt(sample_snr2(unit, host.clean).sum())
    strength = min(snr / unit_snr, drawn.max_strength) if unit_snr > 0 else 0.0
    if host.config.subtracts_stars:
        return _add_among_stars(host, drawn, snr, strength)
    delta = (strength * unit).astype(np.float32)
    # These windows are linear in the flux: cutting the changed cube would give the same at twice the cost.
    windows = LineWindows(host.clean.flux + delta, host.clean.ivar, host.clean.mask)
    return _with_truth(host, windows, delta, snr)


def _add_among_stars(host: Host, drawn: Added, snr: float, strength: float) -> Injection:
    """Injection before the stars are fitted: the fit sees the light, and may take part of it for stars.

    Args:
        host: the galaxy.
        drawn: light drawn by a family.
        snr: intended signal-to-noise ratio of the difference.
        strength: first guess of the strength; it is corrected until `snr` is reached.
    """
    for _ in range(NUM_CUTS):
        windows = host.cut_lit(drawn.light, strength)
        # Both have the same noise, which cancels except for its effect on the two fits.
        delta = np.where((windows.mask == 0) & (host.clean.mask == 0), windows.flux - host.clean.flux, 0)
        found = _with_truth(host, windows, delta, snr)
        if found.reached or not found.snr or strength == drawn.max_strength:
            break
        strength = min(strength * snr / found.snr, drawn.max_strength)
    return found


def _move(host: Host, drawn: Moved, snr: float) -> Injection:
    deltas = []
    for z in drawn.redshifts:
        scene = host.windows(host.source.scene, z)
        deltas.append(np.nan_to_num(scene.flux) - np.nan_to_num(host.scene.flux))
    found = np.array([np.sqrt(sample_snr2(delta, host.clean).sum()) for delta in deltas])
    best = int(np.abs(np.log(np.maximum(found, 1e-9) / snr)).argmin())
    return _with_truth(host, host.windows(host.source.arms, drawn.redshifts[best]), deltas[best], snr)


def _with_truth(host: Host, windows: LineWindows, delta: np.ndarray, wanted: float) -> Injection:
    """Injection with its signal-to-noise ratio and the responses of the matched filter."""
    delta = np.where(windows.mask == 0, delta, 0).astype(np.float32)
    snr = float(np.sqrt(sample_snr2(delta, windows).sum()))
    reached = bool(wanted / REACH_FACTOR <= snr <= wanted * REACH_FACTOR)
    found, clean = (_filter(host, seen, delta, snr) for seen in (windows, host.clean))
    return Injection(windows, delta, snr, reached, found, clean)


def _filter(host: Host, seen: LineWindows, delta: np.ndarray, snr: float) -> float:
    """Response of the matched filter: sum(delta (flux - scene) ivar) / snr."""
    good = (seen.mask == 0) & (host.scene.mask == 0)
    noise = np.where(good, seen.flux - host.scene.flux, 0).astype(np.float64)
    return float((delta * noise * np.where(good, seen.ivar, 0)).sum() / snr) if snr > 0 else 0.0
