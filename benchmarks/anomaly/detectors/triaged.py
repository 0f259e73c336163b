"""Classical detectors before and after the triage and the standardisation of `cubescout score`.

Artefacts are masked and displaced galaxies recentred as `GalaxyScorer` does, with the residuals of the detector's own
reconstruction, or of PCA-128 for detectors without one. The detector then scores these windows, and each of its scores
is regressed on brightness, S/N and size. A network is thus compared with simple models that had the same treatment.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.anomaly.detectors.classical import Pca128, Pca512, Pca512Copies
from benchmarks.anomaly.detectors.detector import Detector, Group, Scored, register, shards
from benchmarks.anomaly.detectors.factorisation import Hmf
from benchmarks.anomaly.detectors.features import Reconstructing
from benchmarks.anomaly.detectors.networks import psf_fwhm_spaxels
from benchmarks.anomaly.detectors.physical import PhysicalEcod, PhysicalForest
from benchmarks.anomaly.detectors.spectra import Rx
from benchmarks.anomaly.tiers import Run, Tier
from cubeprep.store import Windows, WindowStore
from modeling.scoring import artefacts
from modeling.scoring.calibration import regressed
from modeling.scoring.galaxy_scorer import GalaxyScorer, nuisances
from modeling.scoring.residual_sums import line_sums, median_snr
from modeling.scoring.significance import ErrorSums, RegionSums, Residuals, Significance, TypicalSums

VALIDATION = "validation"


@dataclass(frozen=True)
class Cleaned:
    """Galaxies without artefacts, with residuals of the guide and the nuisances."""

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
            residuals = Residuals.of(windows.flux, windows.ivar, windows.mask, guide.reconstruct(windows))
            sums.append(ErrorSums.of(residuals))
            velocities.append(
                artefacts.displacement_kms(residuals.flux, residuals.variance, residuals.good, velocity_kms)
            )
        error = ErrorSums.total(sums).typical_error()
        offsets, fall = artefacts.LineOffsets.of(np.concatenate(velocities)), artefacts.point_fall(psf_fwhm)
        return cls(guide, velocity_kms, error, np.zeros((0, 0)), offsets, fall)  # type: ignore[arg-type]

    def clean(self, windows: Windows, reconstruction: np.ndarray) -> Cleaned:
        """Galaxies of windows with artefacts masked and lines centred; `reconstruction` is the guide's of `windows`."""
        arrays = windows.flux, windows.ivar, windows.mask
        residuals = Residuals.of(*arrays, reconstruction)
        sums, snr = line_sums(*arrays, reconstruction), median_snr(*arrays)
        centred, _, moved = self._recentred(residuals, arrays, np.full(len(windows), np.nan))
        residuals, _ = self._mask_artefacts(residuals, centred, moved)
        flux, ivar, mask = centred
        mask = np.where(residuals.good, mask, np.maximum(mask, 1))
        kept = Windows(flux, ivar, mask, windows.plateifu, windows.view)
        return Cleaned(kept, residuals, nuisances(sums, snr, residuals.good))

    def _residuals(self, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray) -> Residuals:
        names = np.zeros(len(flux), dtype=int)
        reconstruction = self.model.reconstruct_masked(Windows(flux, ivar, mask, names, names))  # type: ignore[operator]
        return Residuals.of(flux, ivar, mask, reconstruction)


class Guide:
    """A fitted reconstruction, and the triage that it guides, calibrated on the validation galaxies."""

    def __init__(self, reconstruction: Reconstructing, store: WindowStore, split: str, tier: Tier) -> None:
        self.reconstruction = reconstruction
        velocity_kms, psf = store.coordinate(split, "velocity_kms"), psf_fwhm_spaxels(tier)
        self.triage = Triage.calibrated(reconstruction, lambda: shards(store, VALIDATION), velocity_kms, psf)
        self._last: tuple[Windows, np.ndarray, Cleaned] | None = None

    def cleaned(self, windows: Windows) -> tuple[np.ndarray, Cleaned]:
        """Reconstruction of windows, and the windows without artefacts; those of the last call are kept."""
        if self._last is None or self._last[0] is not windows:
            reconstruction = self.reconstruction.reconstruct(windows)
            self._last = windows, reconstruction, self.triage.clean(windows, reconstruction)
        return self._last[1:]


# Guide of the last training sample: several detectors share it, and score the same windows in turn.
_shared: dict[tuple[str, str, Run], Guide] = {}


def shared_guide(store: WindowStore, split: str, tier: Tier, run: Run) -> Guide:
    """Guide by PCA-128, for itself and for detectors without a reconstruction; fitted once for a training sample."""
    key = store.path, split, run
    if key not in _shared:
        _shared.clear()
        reconstruction = Pca128(tier, run)
        reconstruction.fit(store, split)
        _shared[key] = Guide(reconstruction, store, split, tier)
    return _shared[key]


class Triaged(Detector):
    """A detector with its own scores, and its standardised scores after the triage as variants.

    Attributes:
        inner: the detector.
    """

    group: Group = "classical"
    inner: type[Detector]

    def __init__(self, tier: Tier, run: Run) -> None:
        super().__init__(tier, run)
        self.detector = self.inner(tier, run)

    def fit(self, store: WindowStore, split: str) -> None:
        """Fits the detector, then calibrates triage and regressions on the validation galaxies.

        Residuals of the training galaxies would be too small: a linear model has nearly as many components as rows.
        """
        if isinstance(self.detector, Reconstructing) and self.inner is not Pca128:
            self.detector.fit(store, split)
            self.guide = Guide(self.detector, store, split, self.tier)
        else:
            self.guide = shared_guide(store, split, self.tier, self.run)
            if self.inner is Pca128:
                self.detector = self.guide.reconstruction
            else:
                self.detector.fit(store, split)
        self.training = self.detector.training
        cleaned = [self.guide.cleaned(part)[1] for part in shards(store, VALIDATION)]
        if isinstance(self.detector, Reconstructing):
            self.typical = TypicalSums.of(RegionSums.concatenate([self._sums(part.residuals) for part in cleaned]))
        parts = [self._behind(part) for part in cleaned]
        known = np.concatenate([part.nuisances for part in cleaned])
        scores = {name: np.concatenate([found[name] for found in parts]) for name in parts[0]}
        self.regressions = {name: regressed(score, known) for name, score in scores.items()}

    def score_windows(self, windows: Windows) -> Scored:
        """The detector's scores, and those after the triage; `triaged` is the standardised main score."""
        reconstruction, cleaned = self.guide.cleaned(windows)
        if isinstance(self.detector, Reconstructing):
            front = self.detector.judge(windows, reconstruction)
        else:
            front = self.detector.score_windows(windows)
        behind = {
            name: self.regressions[name].transform(score, cleaned.nuisances)
            for name, score in self._behind(cleaned).items()
        }
        if "triaged region" in behind:
            behind["triaged region and peak"] = (behind["triaged region"] + behind["triaged peak"]) / 2
        return Scored(front.score, front.spaxels, front.lines, front.variants | behind)

    def _behind(self, cleaned: Cleaned) -> dict[str, np.ndarray]:
        """Scores [row] of galaxies without artefacts by name, before standardisation."""
        if not isinstance(self.detector, Reconstructing):
            return _named(self.detector.score_windows(cleaned.windows))
        residuals = cleaned.residuals
        scores = _named(self.detector.judge(cleaned.windows, residuals.flux - residuals.residual))
        table = Significance.of(self._sums(residuals), self.typical).table()
        return scores | {"triaged region": table[:, 0], "triaged peak": table[:, 1]}

    def _sums(self, residuals: Residuals) -> RegionSums:
        return RegionSums.of(residuals.residual_sigma(self.guide.triage.error), residuals.good)


def _named(scored: Scored) -> dict[str, np.ndarray]:
    return {"triaged": scored.score} | {f"triaged {name}": score for name, score in scored.variants.items()}


# These detectors do not register themselves: their row is that of the class made here.
for _inner in (Pca128, Pca512, Pca512Copies, Hmf, Rx, PhysicalEcod, PhysicalForest):
    register(
        type(f"Triaged{_inner.__name__}", (Triaged,), {"inner": _inner, "name": _inner.name, "alone": _inner.alone})
    )
