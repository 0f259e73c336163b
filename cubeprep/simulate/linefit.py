"""Gaussian fits of emission lines to all spaxels at once, as in the DAP: a common velocity and separate widths."""

from dataclasses import dataclass

import numpy as np

from cubeprep.lines import SPEED_OF_LIGHT_KMS, Line
from cubeprep.simulate.instrument import LOG_STEP, NUM_WAVES, PIXEL_KMS, lsf_sigma_pixels, pixel_of

# Weak lines of doublets, tied to the strong line: name, strong line, ratio of fluxes.
TIED = {
    "OIII-4960": ("OIII-5008", 0.340),
    "OI-6365": ("OI-6302", 0.328),
    "NII-6549": ("NII-6585", 0.327),
    "SIII-9071": ("SIII-9533", 0.407),
}
# Lines too close to a neighbour for an individual width, and the line whose width they share.
_SHARED_WIDTH = {"OII-3729": "OII-3727", "Hzet-3890": "HeI-3889", "NI-5201": "NI-5199"}

# A blend is fitted with this margin on either side; lines whose windows overlap are fitted together.
_WINDOW_KMS = 1100.0
_BLEND_KMS = 2 * _WINDOW_KMS
_NUM_STEPS = 7
MAX_SIGMA_KMS = 1000.0
_START_SIGMA_KMS = 60.0
# Narrowest line: profiles are evaluated at pixel centres, which would undersample narrower ones.
_MIN_VARIANCE_PIXELS = 0.3


@dataclass(frozen=True)
class LineFit:
    """Line fits in all spaxels; each array is [line, spaxel].

    Attributes:
        flux, flux_ivar: flux, 1e-17 erg/s/cm^2/spaxel, and its inverse variance; fluxes are not negative.
        sigma_kms, sigma_ivar: observed width, km/s, instrument included, and its inverse variance.
        fitted: False where the line lies outside the spectrum or its pixels are masked.
        at_bound: True where the width is at its lower or upper limit.
    """

    flux: np.ndarray
    flux_ivar: np.ndarray
    sigma_kms: np.ndarray
    sigma_ivar: np.ndarray
    fitted: np.ndarray
    at_bound: np.ndarray


@dataclass(frozen=True)
class _Window:
    """Part of the spectra around a blend.

    Attributes:
        x: [pixel] pixel numbers.
        flux, ivar, continuum: [spaxel, pixel] flux density, its inverse variance, and starlight.
    """

    x: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    continuum: np.ndarray


class LineFitter:
    """Fits blends of lines on top of a stellar continuum, whose scale is a free parameter in each blend."""

    def __init__(self, flux: np.ndarray, ivar: np.ndarray, continuum: np.ndarray, z: float) -> None:
        """Stores the spectra.

        Args:
            flux: [spaxel, wavelength] flux density.
            ivar: its inverse variance; 0 where a pixel cannot be used.
            continuum: starlight, the same shape.
            z: redshift of the galaxy.
        """
        self._flux, self._ivar, self._continuum, self._z = flux, ivar, continuum, z

    def velocity(self, start_kms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Common velocity [spaxel] of Halpha and [N II] relative to the redshift, km/s, and its inverse variance.

        Args:
            start_kms: [spaxel] initial values, returned with inverse variance 0 if the lines are out of range.
        """
        window = self._window(6549.86, 6585.27)
        rows = [_Profile([(6564.608, 1.0)], self._z), _Profile([(6585.27, 1.0), (6549.86, 0.327)], self._z)]
        if window is None:
            return start_kms.copy(), np.zeros_like(start_kms)
        result = _fit(window, rows, [0, 1], start_kms, free_velocity=True)
        return result.velocity_kms, result.velocity_ivar

    def lines(self, lines: tuple[Line, ...], velocity_kms: np.ndarray) -> LineFit:
        """Fits of lines at fixed velocities.

        Args:
            lines: lines to fit.
            velocity_kms: [spaxel] velocity relative to the redshift.
        """
        count, names = len(velocity_kms), [line.name for line in lines]
        values = {key: np.zeros((len(lines), count)) for key in ("flux", "flux_ivar", "sigma_kms", "sigma_ivar")}
        flags = {key: np.zeros((len(lines), count), dtype=bool) for key in ("fitted", "at_bound")}
        far = [line for line in lines if _is_tied_from_afar(line, lines)]
        for blend in _blends([line for line in lines if line not in far]):
            window = self._window(min(line.rest_wave for line in blend), max(line.rest_wave for line in blend))
            if window is None:
                continue
            profiles, owners, widths = _profiles(blend, self._z)
            result = _fit(window, profiles, widths, velocity_kms, free_velocity=False)
            covered = (window.ivar > 0).mean(axis=1) > 0.8
            for line in blend:
                index, (row, ratio) = names.index(line.name), owners[line.name]
                values["flux"][index] = ratio * result.flux[row]
                values["flux_ivar"][index] = result.flux_ivar[row] / ratio**2
                values["sigma_kms"][index] = self._moved(result.sigma_kms[row], profiles[row].waves[0], line.rest_wave)
                values["sigma_ivar"][index] = result.sigma_ivar[row]
                flags["fitted"][index], flags["at_bound"][index] = covered, result.at_bound[row]
        for line in far:
            owner, ratio = TIED[line.name]
            index, strong = names.index(line.name), names.index(owner)
            for key, factor in (("flux", ratio), ("flux_ivar", ratio**-2), ("sigma_ivar", 1.0)):
                values[key][index] = factor * values[key][strong]
            values["sigma_kms"][index] = self._moved(
                values["sigma_kms"][strong], lines[strong].rest_wave, line.rest_wave
            )
            for flag in flags.values():
                flag[index] = flag[strong]
        return LineFit(**values, **flags)

    def _moved(self, sigma_kms: np.ndarray, from_wave: float, to_wave: float) -> np.ndarray:
        """Observed width of the same intrinsic dispersion at another rest wavelength, with the resolution there."""
        change = _instrument_kms(to_wave, self._z) ** 2 - _instrument_kms(from_wave, self._z) ** 2
        return np.sqrt(np.maximum(sigma_kms**2 + change, 1.0))

    def _window(self, low: float, high: float) -> _Window | None:
        """Part of the spectra around lines between two rest wavelengths; None if it is not entirely in range."""
        reach = _WINDOW_KMS / PIXEL_KMS
        start = int(np.floor(pixel_of(low * (1 + self._z)) - reach))
        stop = int(np.ceil(pixel_of(high * (1 + self._z)) + reach)) + 1
        if start < 0 or stop > NUM_WAVES:
            return None
        part = (slice(None), slice(start, stop))
        return _Window(np.arange(start, stop), self._flux[part], self._ivar[part], self._continuum[part])


class _Profile:
    """Lines with fixed flux ratios and a common width."""

    def __init__(self, parts: list[tuple[float, float]], z: float) -> None:
        """Takes pairs of rest wavelength, Angstrom, and flux ratio, and the redshift."""
        self.waves = [wave for wave, _ in parts]
        self._parts = [(pixel_of(wave * (1 + z)), ratio, wave * (1 + z)) for wave, ratio in parts]

    def shape(self, x: np.ndarray, velocity_kms: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, ...]:
        """Profile of unit flux [spaxel, pixel], per Angstrom, and its derivatives by velocity and by variance.

        Args:
            x: [pixel] pixel numbers.
            velocity_kms: [spaxel] velocity relative to the redshift.
            variance: [spaxel] squared sigma, square pixels.
        """
        total: list[np.ndarray] = []
        for centre, ratio, wave in self._parts:
            place = centre + np.log10(1 + velocity_kms / SPEED_OF_LIGHT_KMS) / LOG_STEP
            offset = x - place[:, None]
            scaled = offset / variance[:, None]
            scale = ratio / (wave * np.log(10) * LOG_STEP * np.sqrt(2 * np.pi))
            profile = scale * np.exp(-0.5 * offset * scaled) / np.sqrt(variance)[:, None]
            slopes = [
                profile,
                profile * scaled / PIXEL_KMS,
                0.5 * profile * (scaled * offset - 1) / variance[:, None],
            ]
            total = [a + b for a, b in zip(total, slopes, strict=True)] if total else slopes
        return tuple(total)


@dataclass(frozen=True)
class _Result:
    """Fit of a blend: arrays [profile, spaxel], and velocities [spaxel]; see `LineFit`."""

    flux: np.ndarray
    flux_ivar: np.ndarray
    sigma_kms: np.ndarray
    sigma_ivar: np.ndarray
    at_bound: np.ndarray
    velocity_kms: np.ndarray
    velocity_ivar: np.ndarray


def _fit(
    window: _Window, profiles: list[_Profile], widths: list[int], velocity_kms: np.ndarray, *, free_velocity: bool
) -> _Result:
    """Gauss-Newton fit in all spaxels of continuum scale, fluxes, widths and, if it is free, the velocity.

    Scale and fluxes enter linearly and are solved exactly in each iteration; the step is used for the others only.

    Args:
        window: part of the spectra.
        profiles: profiles of the blend.
        widths: [profile] index of the width that each profile uses.
        velocity_kms: [spaxel] velocity, or its initial value.
        free_velocity: whether to fit the velocity.
    """
    num, num_widths = len(profiles), max(widths) + 1
    start = _instrument_kms(profiles[0].waves[0], 0.0) ** 2 + _START_SIGMA_KMS**2
    variance = np.full((num_widths, len(velocity_kms)), start / PIXEL_KMS**2)
    velocity = velocity_kms.copy()
    most = (MAX_SIGMA_KMS / PIXEL_KMS) ** 2
    for last in [False] * _NUM_STEPS + [True]:
        shapes = [p.shape(window.x, velocity, variance[w]) for p, w in zip(profiles, widths, strict=True)]
        flux, scale = _fluxes(window, [shape[0] for shape in shapes])
        step, covariance = _step(window, shapes, widths, (flux, scale), free_velocity)
        if last:
            break
        change = step[:, 1 + num : 1 + num + num_widths].T
        # Steps are limited, since far from the minimum the linearisation overshoots.
        variance = np.clip(variance + np.clip(change, -0.5 * variance, variance), _MIN_VARIANCE_PIXELS, most)
        if free_velocity:
            velocity = np.clip(velocity + np.clip(step[:, -1], -80, 80), velocity_kms - 400, velocity_kms + 400)
    errors2 = np.maximum(np.diagonal(covariance, axis1=1, axis2=2).T, 1e-20)
    sigma = np.sqrt(variance) * PIXEL_KMS
    # d sigma = d variance / (2 sigma).
    sigma_error2 = errors2[1 + num : 1 + num + num_widths] * (PIXEL_KMS**2 / (2 * sigma)) ** 2
    bound = (variance <= 1.01 * _MIN_VARIANCE_PIXELS) | (variance >= 0.95 * most)
    return _Result(
        flux,
        1 / errors2[1 : 1 + num],
        sigma[widths],
        1 / np.maximum(sigma_error2, 1e-6)[widths],
        bound[widths],
        velocity,
        1 / errors2[-1] if free_velocity else np.zeros(len(velocity)),
    )


def _fluxes(window: _Window, shapes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative fluxes [profile, spaxel] and scale of the continuum [spaxel], by weighted least squares.

    Profiles with negative flux are dropped and the others solved once more, an approximation to non-negative least
    squares that works for all spaxels at once.
    """
    basis = np.stack([window.continuum, *shapes], axis=1)
    weighted = basis * window.ivar[:, None, :]
    matrix = weighted @ basis.transpose(0, 2, 1)
    vector = (weighted @ window.flux[:, :, None])[..., 0]
    first = _solve(matrix, vector)
    out = first < 0
    out[:, 0] = False
    matrix = np.where(out[:, :, None] | out[:, None, :], 0, matrix)
    second = _solve(matrix, np.where(out, 0, vector))
    return np.maximum(second[:, 1:].T, 0), second[:, 0]


def _step(
    window: _Window,
    shapes: list[tuple[np.ndarray, ...]],
    widths: list[int],
    state: tuple[np.ndarray, np.ndarray],
    free_velocity: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton step [spaxel, parameter] and covariance of the parameters.

    Parameters are, in this order: scale of the continuum, fluxes, widths (as variances), and velocity if it is free.
    """
    flux, scale = state
    model = scale[:, None] * window.continuum
    broader = [np.zeros_like(model) for _ in range(max(widths) + 1)]
    moved = np.zeros_like(model)
    for shape, width, value in zip(shapes, widths, flux[:, :, None], strict=True):
        model = model + value * shape[0]
        moved = moved + value * shape[1]
        broader[width] = broader[width] + value * shape[2]
    slopes = [window.continuum, *(shape[0] for shape in shapes), *broader, *([moved] if free_velocity else [])]
    basis = np.stack(slopes, axis=1)
    weighted = basis * window.ivar[:, None, :]
    matrix = weighted @ basis.transpose(0, 2, 1)
    vector = (weighted @ (window.flux - model)[:, :, None])[..., 0]
    inverse = np.linalg.inv(matrix + _ridge(matrix))
    return (inverse @ vector[:, :, None])[..., 0], inverse


def _solve(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.solve(matrix + _ridge(matrix), vector[:, :, None])[..., 0])


def _ridge(matrix: np.ndarray) -> np.ndarray:
    """Small diagonal matrices that keep the systems regular, so that unconstrained parameters do not change."""
    diagonal = np.diagonal(matrix, axis1=1, axis2=2)
    return (1e-9 * diagonal + 1e-12)[:, :, None] * np.eye(matrix.shape[1])


def _blends(lines: list[Line]) -> list[list[Line]]:
    """Groups of lines that are fitted together because their windows overlap."""
    blends: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.rest_wave):
        if blends and _distance_kms(blends[-1][-1], line) < _BLEND_KMS:
            blends[-1].append(line)
        else:
            blends.append([line])
    return blends


def _is_tied_from_afar(line: Line, lines: tuple[Line, ...]) -> bool:
    """Whether a line is tied to a line of another blend, so that it needs no fit."""
    strong = [other for other in lines if other.name == TIED.get(line.name, ("", 0.0))[0]]
    return bool(strong) and _distance_kms(line, strong[0]) > _BLEND_KMS


def _distance_kms(a: Line, b: Line) -> float:
    return abs(b.rest_wave / a.rest_wave - 1) * SPEED_OF_LIGHT_KMS


def _profiles(blend: list[Line], z: float) -> tuple[list[_Profile], dict[str, tuple[int, float]], list[int]]:
    """Free profiles of a blend; profile index and flux ratio of each line, by name; width index of each profile."""
    waves = {line.name: line.rest_wave for line in blend}
    profiles: list[_Profile] = []
    owners: dict[str, tuple[int, float]] = {}
    widths: dict[str, int] = {}
    order: list[int] = []
    for name, wave in waves.items():
        if TIED.get(name, ("", 0.0))[0] in waves:
            continue
        tied = {weak: ratio for weak, (owner, ratio) in TIED.items() if owner == name and weak in waves}
        owners |= {name: (len(profiles), 1.0), **{weak: (len(profiles), ratio) for weak, ratio in tied.items()}}
        profiles.append(_Profile([(wave, 1.0), *((waves[weak], ratio) for weak, ratio in tied.items())], z))
        order.append(widths.setdefault(_SHARED_WIDTH.get(name, name), len(widths)))
    return profiles, owners, order


def _instrument_kms(rest_wave: float, z: float) -> float:
    """Sigma of the line-spread function, km/s, pixel width included."""
    return float(lsf_sigma_pixels(rest_wave * (1 + z), with_pixel=True) * PIXEL_KMS)
