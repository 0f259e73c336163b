"""Starlight of a galaxy in each spaxel: the model of its bin, scaled to the spaxel's own continuum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import distance_transform_edt, gaussian_filter1d

from cubeprep.cube import Planes
from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.stars.blocks import SIDE, BlockSpectra, merge
from cubeprep.stars.population import Stars, fit_stars, relative_error
from cubeprep.stars.spectra import BROAD_KMS, RestSpectra, broad_regions, line_regions, rest_spectra
from cubeprep.stars.templates import LOG_STEP, PIXEL_KMS, templates

# Least S/N per pixel of a bin, if the galaxy has as much, and largest number of bins.
BIN_SNR, MOST_BINS = 20.0, 40
# The stars of a bin are not trusted where their residual exceeds this share of their flux.
TRUSTED_SCATTER = 0.3
# Rest wavelengths that are fitted at least, Angstrom.
FITTED_RANGE = (3700.0, 6850.0)
D4000_BANDS = ((3850.0, 3950.0), (4000.0, 4100.0))


class StarlightSummary(NamedTuple):
    """Stars of a whole galaxy; NaN where they could not be fitted.

    Attributes:
        velocity_kms: velocity of the stars relative to the redshift, in the sum of the spectra.
        sigma_kms: median dispersion of the bins, beyond the resolution of the templates, about 70 km/s.
        d4000: narrow 4000 Angstrom break of the sum, after Balogh+1999 (doi:10.1086/308056).
        age_gyr: mean age, weighted by the light at 5500 Angstrom, of the logarithm.
        chi2: median reduced chi-square of the bins, outside lines.
        share: share of the spaxels with light whose stars are subtracted.
    """

    velocity_kms: float = np.nan
    sigma_kms: float = np.nan
    d4000: float = np.nan
    age_gyr: float = np.nan
    chi2: float = np.nan
    share: float = 0.0


@dataclass(frozen=True)
class Starlight:
    """Starlight in the planes that were read from one arm.

    Attributes:
        flux: [plane, y, x] float32 in the store's unit; 0 where the stars are not known.
        variance: [plane, y, x] float32, of the model's own errors.
        lost: [plane, y, x] bool, samples without a model among others with one, which are masked; None for none.
    """

    flux: np.ndarray
    variance: np.ndarray
    lost: np.ndarray | None = None

    def subtract(self, planes: Planes) -> Planes:
        """Planes without the stars; masked samples stay as they are."""
        mask = planes.mask
        if self.lost is not None:
            mask = mask | np.where(self.lost, WINDOW_MASK_BITS["SURVEY"], 0).astype(np.uint8)
        good = mask == 0
        flux = np.where(good, planes.flux - self.flux, 0).astype(np.float32)
        variance = 1 / np.where(good, planes.ivar, 1) + self.variance
        return Planes(flux, np.where(good, 1 / variance, 0).astype(np.float32), mask, planes.spaxel_arcsec)


@dataclass(frozen=True)
class ModelStars:
    """Stars in some planes of a cube, from a survey's own model of each spaxel.

    Attributes:
        flux: [plane, y, x] float32, in the store's unit; 0 where `fitted` is False.
        fitted: [plane, y, x] bool, whether there is a model.
    """

    flux: np.ndarray
    fitted: np.ndarray


class FittedStars(NamedTuple):
    """Stars that were fitted to a galaxy.

    Attributes:
        arms: starlight in the planes of each arm.
        known: [y, x] bool, whether it is known in each spaxel.
        summary: the stars of the whole galaxy.
        remarks: limits of the fit, in words.
        error: error of the model over the model at rest wavelengths, Angstrom; None if there is no model.
    """

    arms: list[Starlight]
    known: np.ndarray
    summary: StarlightSummary
    remarks: tuple[str, ...] = ()
    error: Callable[[np.ndarray], np.ndarray] | None = None


def fit_starlight(
    blocks: Sequence[BlockSpectra], read: Sequence[tuple[np.ndarray, Planes]], z: float, limits: tuple[float, float]
) -> FittedStars:
    """Starlight in the planes read from each arm.

    Args:
        blocks: spectra of the blocks of each arm.
        read: vacuum wavelengths [plane], Angstrom, and planes that were read from each arm.
        z: redshift.
        limits: range of rest wavelengths to fit, Angstrom.
    """
    size = read[0][1].flux.shape[-1]
    side = -(-size // SIDE)
    bins = merge(block_snr(blocks).reshape(side, side), BIN_SNR, MOST_BINS)
    count = int(bins.max()) + 1
    if not count:
        return _no_stars(read)
    spectra = rest_spectra([block.merged(bins.ravel(), count) for block in blocks], z, limits)
    stars = fit_stars(spectra)
    if stars is None:
        return _no_stars(read)
    known = np.array([fit is not None and fit.scatter <= TRUSTED_SCATTER for fit in stars.bins])
    models = np.zeros(spectra.flux.shape)
    for number, fit in enumerate(stars.bins):
        if fit is not None and known[number]:
            models[number] = fit.model
    spaxels = np.repeat(np.repeat(_widened(bins), SIDE, axis=0), SIDE, axis=1)[:size, :size]
    lit = np.logical_or.reduce([(planes.mask == 0).any(axis=0) for _, planes in read])
    fitted = (spaxels >= 0) & known[spaxels] & lit
    rest = [wave / (1 + z) for wave, _ in read]
    shapes = [_in_planes(spectra, models, wave, spaxels) for wave in rest]
    scale = _scale([(wave, planes) for wave, (_, planes) in zip(rest, read, strict=True)], shapes, stars.broad)
    light = [np.where(fitted, scale * shape, 0).astype(np.float32) for shape in shapes]
    share = float(fitted.sum() / max(int(lit.sum()), 1))
    # The residuals of the bins are mostly noise.
    blur, remarks = _blur(spectra, stars)
    if stars.broad:
        remarks += (f"stars: broad Balmer lines; not fitted within {BROAD_KMS:.0f} km/s of them",)
    known_error = np.hypot(relative_error(spectra.total(), stars.total), blur)

    def error(wave: np.ndarray) -> np.ndarray:
        return np.interp(np.log10(wave), spectra.log_wave, known_error)

    arms = [
        Starlight(flux, (error(wave).astype(np.float32)[:, None, None] * flux) ** 2)
        for flux, wave in zip(light, rest, strict=True)
    ]
    return FittedStars(arms, fitted, _summary(spectra, stars, known, share), remarks, error)


def _widened(bins: np.ndarray) -> np.ndarray:
    """Bins of blocks [y, x]; blocks without one that touch a bin get that of the nearest block.

    They are covered in part, beside a dead fibre or at the edge of the bundle. Their spectra would spoil a bin, but
    without its model the stars' absorption would weaken their lines.
    """
    distance, nearest = distance_transform_edt(bins < 0, return_indices=True)
    return np.asarray(np.where(distance < 2, bins[tuple(nearest)], bins))


def _blur(spectra: RestSpectra, stars: Stars) -> tuple[np.ndarray, tuple[str, ...]]:
    """Error [wave] from templates that are coarser than the spectra, over the model, and a remark if there are any.

    Templates cannot be sharpened. Broadening the model again by its excess width changes it by about as much.
    """
    excess = spectra.excess + float(np.median(stars.kinematics.sigma_kms)) ** 2  # the sum also holds rotation
    coarser = np.sqrt(np.maximum(-excess, 0))
    known = spectra.total().ivar[0] > 0
    if not (coarser[known] > 0).any():
        return np.zeros(len(coarser)), ()
    worst, model = float(coarser[known].max()), stars.total.model
    change = np.abs(gaussian_filter1d(model, worst / PIXEL_KMS, mode="nearest") - model) * (coarser / worst) ** 2
    wave = 10 ** spectra.log_wave[known & (coarser > 0)]
    remark = (
        f"stars: templates coarser than the spectra by up to {worst:.0f} km/s (sigma), rest wavelengths "
        f"{wave[0]:.0f} to {wave[-1]:.0f} Angstrom"
    )
    return np.divide(change, model, out=np.zeros(len(model)), where=model > 0), (remark,)


def _no_stars(read: Sequence[tuple[np.ndarray, Planes]]) -> FittedStars:
    """No starlight anywhere; windows then have their bands' line alone subtracted."""
    nothing = [np.zeros_like(planes.flux) for _, planes in read]
    return FittedStars(
        [Starlight(zeros, zeros) for zeros in nothing], np.zeros(nothing[0].shape[1:], dtype=bool), StarlightSummary()
    )


def block_snr(blocks: Sequence[BlockSpectra]) -> np.ndarray:
    """Median S/N per plane of each block, [block], in the arm where it is highest; 0 where little is covered."""
    best = np.zeros(blocks[0].flux.shape[1])
    for arm in blocks:
        step = max(len(arm.wave) // 256, 1)  # the median of some planes is as good
        flux, variance, good = (values[::step] for values in (arm.flux, arm.variance, arm.good))
        enough = good.sum(axis=0) > len(good) / 3
        snr = np.where(good, flux, np.nan) / np.sqrt(np.where(good, variance, 1))
        found = np.zeros_like(best)
        found[enough] = np.nanmedian(snr[:, enough], axis=0)
        best = np.maximum(best, found)
    return best


def _in_planes(spectra: RestSpectra, models: np.ndarray, wave: np.ndarray, spaxels: np.ndarray) -> np.ndarray:
    """Models of the bins at rest wavelengths `wave`, in each spaxel, [plane, y, x]; 0 outside their range."""
    position = (np.log10(wave) - spectra.first) / LOG_STEP
    inside = (position >= 0) & (position <= models.shape[1] - 1)
    values = np.zeros((len(wave), len(models) + 1), dtype=np.float32)  # the last is that of spaxels without a bin
    if inside.any():
        nearest = np.rint(position[inside]).astype(int)
        if np.abs(position[inside] - nearest).max() < 1e-3:
            values[inside, :-1] = models[:, nearest].T
        else:
            values[inside, :-1] = CubicSpline(np.arange(models.shape[1]), models.T)(position[inside])
    return values[:, spaxels]


def _scale(read: Sequence[tuple[np.ndarray, Planes]], shapes: Sequence[np.ndarray], broad: bool = False) -> np.ndarray:
    """Starlight of each spaxel over that of its bin, [y, x], from the planes that are free of lines, `broad` or not."""
    product, square = np.zeros(shapes[0].shape[1:]), np.zeros(shapes[0].shape[1:])
    for (wave, planes), shape in zip(read, shapes, strict=True):
        free = ~(line_regions(wave) | broad_regions(wave)) if broad else ~line_regions(wave)
        weight = planes.ivar[free] * shape[free]
        product += (weight * planes.flux[free]).sum(axis=0, dtype=np.float64)
        square += (weight * shape[free]).sum(axis=0, dtype=np.float64)
    return np.divide(product, square, out=np.zeros_like(square), where=square > 0)


def _summary(spectra: RestSpectra, stars: Stars, known: np.ndarray, share: float) -> StarlightSummary:
    if not known.any():
        return StarlightSummary(share=share)
    light = stars.total.weights[: len(templates().flux)]
    light = light / max(light.sum(), 1e-30)
    fits = [fit for fit, good in zip(stars.bins, known, strict=True) if fit and good]
    return StarlightSummary(
        float(stars.total_kinematics.velocity_kms[0]),
        float(np.median(stars.kinematics.sigma_kms[known])),
        _d4000(spectra.total()),
        float(10 ** (light @ np.log10(templates().age_gyr))),
        float(np.median([fit.chi2 for fit in fits])),
        share,
    )


def _d4000(total: RestSpectra) -> float:
    wave = 10**total.log_wave
    means = []
    for low, high in D4000_BANDS:
        band = (wave >= low) & (wave <= high)
        good = band & (total.ivar[0] > 0)
        if not band.any() or good.sum() < 0.8 * band.sum():
            return float("nan")
        means.append(float(np.mean(total.flux[0][good] * wave[good] ** 2)))  # flux per Hertz
    return means[1] / means[0] if means[0] > 0 else float("nan")
