"""Scores galaxies with one model: residuals, artefacts, significance, and a score independent of brightness and S/N.

A galaxy can be unusual in two ways: its spectra cannot be represented by a spaxel code, or they are atypical for a
galaxy with its latent. Residuals of both reconstructions are therefore used; for a masked network, those of its
predictions of hidden lines and hidden squares (`hidden`).

A `GalaxyScorer` is a model with its calibration: its typical error, the displacement of lines in calibration galaxies,
and the significance that is typical of a galaxy with given brightness, S/N and size. `calibrate` and
`Calibration.regressed` make one, `GalaxyScorer.score` applies it. Nothing here knows of files or engines.

Shapes: N galaxies, L lines, S samples, Y and X spaxels, D latent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import reduce
from typing import Any

import numpy as np
from scipy.ndimage import shift as interpolate

from cubeprep.masks import good_samples
from modeling.network.inference import encode, infer, reconstruct
from modeling.network.masked_network import MaskedPredictor
from modeling.network.normalisation import WindowNetwork
from modeling.scoring import artefacts
from modeling.scoring.calibration import NuisanceRegression, regressed
from modeling.scoring.hidden import HiddenResiduals
from modeling.scoring.residual_sums import LineSums, line_sums, median_snr
from modeling.scoring.significance import (
    REGION_SIDE,
    ErrorSums,
    RegionSums,
    Residuals,
    Significance,
    TypicalSums,
    mean_nll,
)

MIN_CALIBRATION = 3
NUM_PASSES = 2  # the wings of a spike show only once its peak no longer biases the reconstruction
# The columns of `GalaxyScores.significance`.
SIGNIFICANCES = ("region", "peak", "latent_region", "latent_peak")
# The fields of `GalaxyScores` that are maps.
MAPS = ("by_place", "by_sample", "by_line", "by_spaxel", "triaged")
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class GalaxyScores:
    """Scores of N galaxies by one scorer, before nuisances are taken out, with the maps that explain them.

    Attributes:
        sums: of the paper's and the other plain scores, before artefacts are masked, [N, L].
        snr: [N] median S/N of a sample.
        latent: [N, D].
        significance: [N, 4], columns `SIGNIFICANCES`: `Significance.table` of the reconstruction, then of that from
            the latent alone, or from other spaxels; artefacts masked.
        nll: [N] of `significance.mean_nll`, artefacts masked.
        nuisances: [N, 3]; see `nuisances`.
        code: [N] reason code of `artefacts.CODES`.
        velocity_kms: [N] displacement of the lines.
        by_sample: [N, L, S] sum of residual_sigma over spaxels over the root of their number: which velocities are
            unusual.
        by_line: [N, L] of `Significance`.
        by_spaxel: [N, Y, X] of `Significance`; for a masked network the higher of both predictions.
        by_place: [N, L, Y, X] signed: sum of residual_sigma over samples over the root of their number.
        triaged: [N, L, Y, X] share of the good samples that were masked as artefacts, and do not count.
    """

    sums: LineSums
    snr: np.ndarray
    latent: np.ndarray
    significance: np.ndarray
    nll: np.ndarray
    nuisances: np.ndarray
    code: np.ndarray
    velocity_kms: np.ndarray
    by_sample: np.ndarray
    by_line: np.ndarray
    by_spaxel: np.ndarray
    by_place: np.ndarray
    triaged: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence["GalaxyScores"]) -> "GalaxyScores":
        """Galaxies of several parts in one, in order."""
        names = [field.name for field in fields(cls) if field.name != "sums"]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(sums=LineSums.concatenate([part.sums for part in parts]), **arrays)

    def with_others_zero(self, part: "GalaxyScores", rows: np.ndarray) -> "GalaxyScores":
        """Scores in the shape of these, 0 except in `rows`.

        Args:
            part: scores of the galaxies of these rows; ignored if there are none.
            rows: [N] bool.
        """

        def placed(like: Any, chosen: Any, name: str) -> np.ndarray:
            found = np.zeros_like(getattr(like, name))
            found[rows] = getattr(chosen, name)[: rows.sum()]
            return found

        sums = {field.name: placed(self.sums, part.sums, field.name) for field in fields(LineSums)}
        others = {field.name: placed(self, part, field.name) for field in fields(self) if field.name != "sums"}
        return GalaxyScores(sums=LineSums(**sums), **others)


@dataclass(frozen=True)
class Measured:
    """Measurements of N galaxies by one model, artefacts masked, before significance is calibrated.

    Attributes:
        sums, snr, latent, code, velocity_kms, triaged: of `GalaxyScores`.
        residuals: of the reconstruction.
        residual_sigma: [N, L, S, Y, X] of these.
        regions: sums of the residuals of the reconstruction, and of those from the latent alone or other spaxels.
    """

    sums: LineSums
    snr: np.ndarray
    latent: np.ndarray
    code: np.ndarray
    velocity_kms: np.ndarray
    triaged: np.ndarray
    residuals: Residuals
    residual_sigma: np.ndarray
    regions: tuple[RegionSums, RegionSums]

    @property
    def nuisances(self) -> np.ndarray:
        """[N, 3]; see `nuisances`."""
        return nuisances(self.sums, self.snr, self.residuals.good)


@dataclass(frozen=True)
class GalaxyScorer:
    """A model and its calibration.

    Attributes:
        model: in evaluation mode.
        velocity_kms: [S] of the samples.
        error: [L, S] typical error of the reconstruction, a share of the local amplitude; empty for a masked network,
            which predicts its own.
        latent_error: the same of the reconstruction from the latent alone.
        line_offsets: typical displacement of the lines.
        fall: of `artefacts.point_fall`.
        typical: of ordinary galaxies, for each of `Measured.regions`; empty before the calibration.
        regressions: one for each column of `GalaxyScores.significance`.
        device: such as `cpu`.
    """

    model: WindowNetwork
    velocity_kms: np.ndarray
    error: np.ndarray
    latent_error: np.ndarray
    line_offsets: artefacts.LineOffsets
    fall: float
    typical: tuple[TypicalSums, ...] = ()
    regressions: tuple[NuisanceRegression, ...] = ()
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """Calibration as JSON values: all but the model and the device."""
        # "habits" and "standardisers" are keys of a stored format: provenance of catalogs of earlier versions has them.
        return {
            "velocity_kms": self.velocity_kms.tolist(),
            "error": self.error.tolist(),
            "latent_error": self.latent_error.tolist(),
            "habits": asdict(self.line_offsets),
            "fall": self.fall,
            "typical": [part.to_json() for part in self.typical],
            "standardisers": [regression.to_json() for regression in self.regressions],
        }

    @classmethod
    def from_json(cls, model: WindowNetwork, state: Mapping[str, Any], device: str = "cpu") -> "GalaxyScorer":
        """Scorer from a model and the state that `to_json` returned.

        Raises:
            ValueError: an earlier version wrote it, which calibrated otherwise.
        """
        if "typical" not in state:
            raise ValueError("calibrated by an earlier version, whose scores this one does not compute")
        return cls(
            model,
            np.array(state["velocity_kms"]),
            np.array(state["error"], dtype=np.float32),
            np.array(state["latent_error"], dtype=np.float32),
            artefacts.LineOffsets(**state["habits"]),
            float(state["fall"]),
            tuple(TypicalSums.from_json(part) for part in state["typical"]),
            tuple(NuisanceRegression.from_json(part) for part in state["standardisers"]),
            device,
        )

    @property
    def step_kms(self) -> float:
        """Velocity step between samples in km/s; infinite where a line has one sample."""
        return float(np.median(np.diff(self.velocity_kms))) if len(self.velocity_kms) > 1 else np.inf

    def score(
        self, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, known_offset_kms: np.ndarray | None = None
    ) -> GalaxyScores:
        """Scores of the galaxies of windows [N, L, S, Y, X].

        Args:
            flux: [N, L, S, Y, X], flux units, as a store holds it: any value where masked.
            ivar: the same shape, inverse variance of `flux`.
            mask: the same shape; 0 is good.
            known_offset_kms: [N] displacement of the lines where the redshift is known to be wrong, such as measured
                in wider windows; where NaN, it is measured in the windows themselves.
        """
        found = self.measure(flux, ivar, mask, known_offset_kms)
        by_region, by_galaxy = (Significance.of(*pair) for pair in zip(found.regions, self.typical, strict=True))
        residuals, shown = found.residuals, [found.residual_sigma]
        by_spaxel = by_region.by_spaxel
        if isinstance(residuals, HiddenResiduals):
            shown.append(residuals.from_squares)
            by_spaxel = np.maximum(by_spaxel, by_galaxy.by_spaxel)
        return GalaxyScores(
            sums=found.sums,
            snr=found.snr,
            latent=found.latent,
            significance=np.hstack([by_region.table(), by_galaxy.table()]),
            nll=mean_nll(found.residual_sigma, residuals.good),
            nuisances=found.nuisances,
            code=found.code,
            velocity_kms=found.velocity_kms,
            by_sample=_largest(_root_mean(sigma, residuals.good, axis=(3, 4)) for sigma in shown),
            by_line=by_region.by_line,
            by_spaxel=by_spaxel,
            by_place=_largest(_root_mean(sigma, residuals.good, axis=2) for sigma in shown),
            triaged=found.triaged,
        )

    def measure(
        self, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, known_offset_kms: np.ndarray | None = None
    ) -> Measured:
        """Measurements of the galaxies of windows; arguments as of `score`."""
        latent, reconstruction, residuals = self._examined(flux, ivar, mask)
        # The plain scores compare with the paper's, so they see the galaxy before artefacts are masked.
        sums, snr = line_sums(flux, ivar, mask, reconstruction), median_snr(flux, ivar, mask)
        known_offset_kms = np.full(len(flux), np.nan) if known_offset_kms is None else known_offset_kms
        windows, velocity, moved = self._recentred(residuals, (flux, ivar, mask), known_offset_kms)
        num_good = residuals.good.sum(2)
        residuals, code = self._mask_artefacts(residuals, windows, moved)
        triaged = np.float32(num_good - residuals.good.sum(2)) / np.maximum(num_good, 1)
        residual_sigma = residuals.residual_sigma(self.error)
        side = self.model.middle_side if isinstance(self.model, MaskedPredictor) else REGION_SIDE
        # Artefacts are flagged once, with the reconstruction, and masked for both.
        of_galaxy = self._sigma_of_galaxy(residuals, windows)
        of_regions, of_galaxies = (RegionSums.of(sigma, residuals.good, side) for sigma in (residual_sigma, of_galaxy))
        regions = (of_regions, of_galaxies)
        return Measured(sums, snr, latent, code, velocity, triaged, residuals, residual_sigma, regions)

    def _examined(
        self, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Residuals]:
        """Latents [N, D], reconstruction and residuals of windows."""
        if isinstance(self.model, MaskedPredictor):
            hidden = HiddenResiduals.predicted(self.model, flux, ivar, mask, self.device)
            return encode(self.model, flux, ivar, mask, device=self.device), hidden.reconstruction, hidden
        inference = infer(self.model, flux, ivar, mask, device=self.device)
        return inference.latent, inference.reconstruction, Residuals.of(flux, ivar, mask, inference.reconstruction)

    def _sigma_of_galaxy(self, residuals: Residuals, windows: Arrays) -> np.ndarray:
        """Residuals [N, L, S, Y, X] from the prediction of the whole galaxy, in sigma."""
        if isinstance(residuals, HiddenResiduals):
            return residuals.from_squares
        from_latent = reconstruct(self.model, *windows, from_latent=True, device=self.device)
        return residuals.against(from_latent).residual_sigma(self.latent_error)

    def combined(self, scores: GalaxyScores) -> np.ndarray:
        """Mean [N] of the standardised significances: about 0 with a spread of about 1 for typical galaxies.

        For a masked network only the two peaks count: summing all lines of a region adds the errors of all to the
        signal of one. An autoencoder's errors are of another kind, and all four count.
        """
        each = self.standardised(scores)
        return np.asarray(np.mean(each[1::2] if isinstance(self.model, MaskedPredictor) else each, axis=0))

    def standardised(self, scores: GalaxyScores) -> list[np.ndarray]:
        """Significances [N] without their dependence on nuisances, in the order of `SIGNIFICANCES`."""
        return [
            regression.transform(scores.significance[:, i], scores.nuisances)
            for i, regression in enumerate(self.regressions)
        ]

    def _recentred(
        self, residuals: Residuals, given: Arrays, known_offset_kms: np.ndarray
    ) -> tuple[Arrays, np.ndarray, np.ndarray]:
        """Centres displaced galaxies on their lines: a copy of the windows, and `residuals` in place.

        A wrong redshift alone would make every line of a galaxy unusual.

        Returns:
            The windows, the displacement [N] in km/s, and whether windows were moved, [N] bool.
        """
        flux, ivar, mask = given
        velocity = artefacts.displacement_kms(residuals.flux, residuals.variance, residuals.good, self.velocity_kms)
        known = np.isfinite(known_offset_kms)
        velocity = np.where(known, known_offset_kms, velocity)
        # Displacements below half a sample are ignored, unless they are known from wider windows.
        moved = known | artefacts.displaced(velocity, self.line_offsets, 0.5 * self.step_kms)
        # A copy, since artefacts are masked in it.
        mask = mask.copy()
        if moved.any():
            flux, ivar = flux.copy(), ivar.copy()
        for i in np.flatnonzero(moved):
            flux[i], ivar[i], mask[i] = _moved(flux[i], ivar[i], mask[i], velocity[i] / self.step_kms)
        self._recompute(residuals, (flux, ivar, mask), moved)
        return (flux, ivar, mask), velocity, moved

    def _mask_artefacts(self, residuals: Residuals, windows: Arrays, moved: np.ndarray) -> tuple[Residuals, np.ndarray]:
        """Masks artefacts: the remaining residuals and the reason code of each galaxy; `windows` is changed in place.

        A bad sample also biases the reconstruction of its spaxel, so the reconstruction is repeated without it; the
        wings of a spike are then found in the second pass.
        """
        code = np.where(moved, "redshift", np.where(artefacts.poorly_covered(residuals.good), "mask", ""))
        for _ in range(NUM_PASSES):
            residual_sigma = residuals.residual_sigma(self.error)
            sky = artefacts.sky_samples(residual_sigma, residuals.good, residuals.amplitude)
            spikes = artefacts.spikes(residual_sigma, residuals.flux, residuals.variance, residuals.good, self.fall)
            windows[2][spikes | sky[..., None, None]] = 1
            # One code a galaxy: the first that applies, `redshift` and `mask` before those of samples.
            hits = (("sky_line", sky.any((1, 2))), ("spike", spikes.any((1, 2, 3, 4))))
            for name, hit in hits:
                code = np.where((code == "") & hit, name, code)
            self._recompute(residuals, windows, np.asarray(hits[0][1] | hits[1][1]))
        rim = artefacts.edge_spaxels(residuals.residual_sigma(self.error), residuals.good)
        code = np.where((code == "") & rim.any((1, 2)), "edge", code)
        return residuals.without(rim[:, None, None]), code

    def _recompute(self, residuals: Residuals, windows: Arrays, chosen: np.ndarray) -> None:
        """Updates the residuals of chosen galaxies [N] bool in place, from the windows as they are now."""
        if chosen.any():
            flux, ivar, mask = (values[chosen] for values in windows)
            updated = self._residuals(flux, ivar, mask)
            for field in fields(residuals):
                getattr(residuals, field.name)[chosen] = getattr(updated, field.name)

    def _residuals(self, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray) -> Residuals:
        """Residuals of windows [N, L, S, Y, X]."""
        if isinstance(self.model, MaskedPredictor):
            return HiddenResiduals.predicted(self.model, flux, ivar, mask, self.device)
        return Residuals.of(flux, ivar, mask, reconstruct(self.model, flux, ivar, mask, device=self.device))


@dataclass(frozen=True)
class Calibration:
    """Calibration of one model on N ordinary galaxies, without regressions.

    Attributes:
        scorer: without regressions.
        significance: [N, 4], as of `GalaxyScores`.
        nuisances: [N, 3]; see `nuisances`.
    """

    scorer: GalaxyScorer
    significance: np.ndarray
    nuisances: np.ndarray

    def regressed(self, parts: "Sequence[Calibration]" = ()) -> GalaxyScorer:
        """Scorer with regressions on nuisances, from its own galaxies, or from those of several calibrations.

        From fewer than `calibration.MIN_REGRESSION` galaxies the dependence on nuisances is not learned.
        """
        names, parts = ("significance", "nuisances"), parts or [self]
        significance, known = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
        return replace(self.scorer, regressions=tuple(regressed(column, known) for column in significance.T))


def calibrate(
    model: WindowNetwork,
    batches: Callable[[], Iterable[Arrays]],
    velocity_kms: np.ndarray,
    *,
    psf_fwhm_spaxels: float,
    device: str = "cpu",
) -> Calibration:
    """Calibration on galaxies that may hold a few anomalies.

    Args:
        model: one that was not trained on these galaxies, or is too small to have memorised them.
        batches: gives their flux, ivar and mask [N, L, S, Y, X]; it is called twice.
        velocity_kms: [S] of the samples.
        psf_fwhm_spaxels: full width at half maximum of the survey's point-spread function.
        device: such as `cpu`.

    Raises:
        ValueError: there is no galaxy to calibrate on.
    """
    errors, latent_errors, velocities = [], [], []
    for flux, ivar, mask in batches():
        # A masked network predicts its error itself, so that only the displacement of the lines is left to measure.
        predicts_error = isinstance(model, MaskedPredictor)
        expected = np.zeros_like(flux) if predicts_error else reconstruct(model, flux, ivar, mask, device=device)
        residuals = Residuals.of(flux, ivar, mask, expected)
        velocities.append(artefacts.displacement_kms(residuals.flux, residuals.variance, residuals.good, velocity_kms))
        if not predicts_error:
            errors.append(ErrorSums.of(residuals))
            from_latent = reconstruct(model, flux, ivar, mask, from_latent=True, device=device)
            latent_errors.append(ErrorSums.of(residuals.against(from_latent)))
    if not sum(map(len, velocities)):
        raise ValueError("no galaxy to calibrate on")
    error, latent_error = (_typical_error(parts) for parts in (errors, latent_errors))
    line_offsets, fall = artefacts.LineOffsets.of(np.concatenate(velocities)), artefacts.point_fall(psf_fwhm_spaxels)
    # Measurements depend on the typical error: hence two passes over the galaxies.
    first = GalaxyScorer(model, velocity_kms, error, latent_error, line_offsets, fall, device=device)
    found = [(part.regions, part.nuisances) for part in (first.measure(*arrays) for arrays in batches())]
    known = np.concatenate([values for _, values in found])
    sums = [RegionSums.concatenate(parts) for parts in zip(*(regions for regions, _ in found), strict=True)]
    typical = tuple(map(TypicalSums.of, sums))
    significance = np.hstack([Significance.of(*pair).table() for pair in zip(sums, typical, strict=True)])
    return Calibration(replace(first, typical=typical), significance, known)


def _typical_error(parts: Sequence[ErrorSums]) -> np.ndarray:
    return ErrorSums.total(parts).typical_error() if parts else np.zeros((0, 0), np.float32)


def nuisances(sums: LineSums, snr: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Nuisances [N, 3] that a score should not depend on: brightness, S/N and covered spaxels, on logarithmic scales.

    NaN for a galaxy without a good sample, which thereby has no combined score.

    Args:
        sums: [N, L].
        snr: [N] median S/N; NaN counts as 0.
        good: [N, L, S, Y, X] bool.
    """
    # Logarithms, or a few bright and large galaxies would dominate the regression; arcsinh also takes a negative median
    # S/N.
    flux = np.maximum(sums.abs_flux.sum(1), 1e-30)
    size = good.any((1, 2)).sum((1, 2)).astype(float)
    size[size == 0] = np.nan
    return np.column_stack([np.log(flux), np.arcsinh(np.nan_to_num(snr)), np.log(size)])


def _largest(maps: Iterable[np.ndarray]) -> np.ndarray:
    """Value of largest magnitude of each element of signed maps."""
    return reduce(lambda first, second: np.where(np.abs(first) >= np.abs(second), first, second), maps)


def _root_mean(residual_sigma: np.ndarray, good: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Sums of residual_sigma over the root of their number: again in sigma for independent normal noise."""
    count = good.sum(axis)
    return np.asarray(residual_sigma.sum(axis) / np.sqrt(np.maximum(count, 1)), dtype=np.float32)


def _moved(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, samples: float) -> Arrays:
    """Windows [L, S, Y, X] with the values `samples` further on, interpolated linearly; masked beyond their ends."""
    good = good_samples(flux, ivar, mask)
    by = (0, -samples, 0, 0)
    # A sample is good where both samples that it is interpolated from are; below 1 for rounding.
    whole = interpolate(good.astype(np.float32), by, order=1, mode="constant") > 0.999
    flux = interpolate(np.where(good, flux, 0), by, order=1, mode="constant")
    # Variances are interpolated like the flux: an upper limit, whatever the correlation of neighbouring samples.
    variance = interpolate(np.divide(1, ivar, out=np.zeros_like(ivar), where=good), by, order=1, mode="constant")
    whole &= variance > 0
    return flux, np.divide(1, variance, out=np.zeros_like(variance), where=whole), (~whole).astype(mask.dtype)
