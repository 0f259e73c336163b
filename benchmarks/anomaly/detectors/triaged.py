"""Classical detectors behind the triage and the standardisation of `cubescout score`.

Artefacts are masked and displaced galaxies recentred as `GalaxyScorer` does, with the residuals of the detector's own
reconstruction, or of PCA-128 for detectors without one. The detector then scores these windows, and each of its scores
is regressed on brightness, S/N and size. A network is thus compared with simple models that had the same treatment.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from benchmarks.anomaly.detectors.classical import Pca, Pca128, Pca512, Pca512Copies
from benchmarks.anomaly.detectors.detector import Detector, Scored, register, shards
from benchmarks.anomaly.detectors.factorisation import Hmf
from benchmarks.anomaly.detectors.features import Reconstructing
from benchmarks.anomaly.detectors.networks import PSF_FWHM_ARCSEC
from benchmarks.anomaly.detectors.physical import PhysicalEcod, PhysicalForest
from benchmarks.anomaly.detectors.spectra import Rx
from benchmarks.anomaly.tiers import Run, Tier
from cubeprep.simulate.footprint import SPAXEL_ARCSEC
from cubeprep.store import Windows, WindowStore
from modeling.scoring import artefacts
from modeling.scoring.calibration import NuisanceRegression
from modeling.scoring.galaxy_scorer import MIN_CALIBRATION, GalaxyScorer, nuisances
from modeling.scoring.residual_sums import line_sums, median_snr
from modeling.scoring.significance import ErrorSums, Residuals, Significance

FILL_PASSES = 2  # masked artefacts would be zeros to a principal component
VALIDATION = "validation"


@dataclass(frozen=True)
class Cleaned:
    """Galaxies without artefacts, with residuals of the guide and what scores should not depend on."""

    windows: Windows
    residuals: Residuals
    nuisances: np.ndarray


class Triage(GalaxyScorer):
    """The triage of `GalaxyScorer` with another reconstruction than a network's: `model` is a `Reconstructing`."""

    @classmethod
    def calibrated(
        cls, guide: Reconstructing, galaxies: Callable[[], Iterator[Windows]], velocity_kms: np.ndarray, psf_fwhm: float
    ) -> "Triage":
        """Triage calibrated on galaxies that the guide was not trained on; `psf_fwhm` in spaxels."""
        sums, velocities = [], []
        for windows in galaxies():
            residuals = _residuals(guide, windows)
            sums.append(ErrorSums.of(residuals))
            velocities.append(
                artefacts.displacement_kms(residuals.flux, residuals.variance, residuals.good, velocity_kms)
            )
        error = ErrorSums.total(sums).typical_error()
        offsets, fall = artefacts.LineOffsets.of(np.concatenate(velocities)), artefacts.point_fall(psf_fwhm)
        return cls(guide, velocity_kms, error, np.zeros((0, 0)), offsets, fall)  # type: ignore[arg-type]

    def clean(self, windows: Windows) -> Cleaned:
        """Galaxies of windows with artefacts masked and lines centred."""
        residuals = _residuals(self.model, windows)  # type: ignore[arg-type]
        arrays = windows.flux, windows.ivar, windows.mask
        sums, snr = line_sums(*arrays, windows.flux - residuals.residual), median_snr(*arrays)
        centred, _, moved = self._recentred(residuals, arrays, np.full(len(windows), np.nan))
        residuals, _ = self._mask_artefacts(residuals, centred, moved)
        flux, ivar, mask = centred
        mask = np.where(residuals.good, mask, np.maximum(mask, 1))
        kept = Windows(flux, ivar, mask, windows.plateifu, windows.view)
        return Cleaned(kept, residuals, nuisances(sums, snr, residuals.good))

    def _recompute(self, residuals: Residuals, windows: tuple[np.ndarray, ...], chosen: np.ndarray) -> None:
        if chosen.any():
            names = np.zeros(int(chosen.sum()), dtype=int)
            flux, ivar, mask = (values[chosen] for values in windows)
            updated = _residuals(self.model, Windows(flux, ivar, mask, names, names))  # type: ignore[arg-type]
            for field in fields(residuals):
                getattr(residuals, field.name)[chosen] = getattr(updated, field.name)


def _residuals(guide: Reconstructing, windows: Windows) -> Residuals:
    return Residuals.of(windows.flux, windows.ivar, windows.mask, guide.reconstruct(windows))


class Triaged(Detector):
    """A detector behind the triage, with standardised scores.

    Attributes:
        inner: the detector.
    """

    group = "classical"
    inner: type[Detector]

    def __init__(self, tier: Tier, run: Run) -> None:
        super().__init__(tier, run)
        self.detector = self.inner(tier, run)
        self.guide = self.detector if isinstance(self.detector, Reconstructing) else Pca128(tier, run)
        if isinstance(self.guide, Pca):
            self.guide.fill_passes = FILL_PASSES

    def fit(self, store: WindowStore, split: str) -> None:
        """Fits the detector, then calibrates triage and regressions on the validation galaxies.

        Residuals of the training galaxies would be too small: a linear model has nearly as many components as rows.
        """
        for detector in {id(part): part for part in (self.detector, self.guide)}.values():
            detector.fit(store, split)
        velocity_kms = store.coordinate(split, "velocity_kms")
        psf = PSF_FWHM_ARCSEC / (SPAXEL_ARCSEC * self.tier.data.bin_factor)
        self.triage = Triage.calibrated(self.guide, lambda: shards(store, VALIDATION), velocity_kms, psf)
        found = [self._raw(windows) for windows in shards(store, VALIDATION)]
        scores = {name: np.concatenate([scored[name] for _, scored, _ in found]) for name in found[0][1]}
        known = np.concatenate([values for *_, values in found])
        self.regressions = {name: _regression(score, known) for name, score in scores.items()}

    def score_windows(self, windows: Windows) -> Scored:
        """Standardised scores; of the residuals, the significance of regions and lines are variants too."""
        scored, scores, known = self._raw(windows)
        excess = {name: self.regressions[name].transform(score, known) for name, score in scores.items()}
        if "region" in excess:
            excess["region and peak"] = (excess["region"] + excess["peak"]) / 2
        return Scored(excess.pop(""), scored.spaxels, scored.lines, excess)

    def _raw(self, windows: Windows) -> tuple[Scored, dict[str, np.ndarray], np.ndarray]:
        """Result of the detector, all scores before standardisation by name, and the nuisances."""
        cleaned = self.triage.clean(windows)
        if not isinstance(self.detector, Reconstructing):
            scored = self.detector.score_windows(cleaned.windows)
            return scored, {"": scored.score, **scored.variants}, cleaned.nuisances
        residuals = cleaned.residuals
        scored = self.detector.judge(cleaned.windows, residuals.flux - residuals.residual)
        table = Significance.of(residuals.residual_sigma(self.triage.error), residuals.good).table()
        scores = {"": scored.score, **scored.variants, "region": table[:, 0], "peak": table[:, 1]}
        return scored, scores, cleaned.nuisances


def _regression(score: np.ndarray, known: np.ndarray) -> NuisanceRegression:
    if (np.isfinite(score) & np.isfinite(known).all(axis=1)).sum() < MIN_CALIBRATION:
        return NuisanceRegression.of_nothing(known.shape[1])
    return NuisanceRegression().fit(score, known)


# Dependent classes of one line each: a detector is behind the triage what it is in front of it.
for _inner in (Pca128, Pca512, Pca512Copies, Hmf, Rx, PhysicalEcod, PhysicalForest):
    register(type(f"Triaged{_inner.__name__}", (Triaged,), {"inner": _inner, "name": f"{_inner.name}, triaged"}))
