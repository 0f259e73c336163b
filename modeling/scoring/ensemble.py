"""Combines the scores of several models: each galaxy by the models that never saw it, calibrated to p-values.

Shapes: N galaxies, L lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from modeling.latents.neighbours import Neighbours
from modeling.scoring.calibration import NuisanceRegression, conformal_p_values, q_values, quantile_bins
from modeling.scoring.galaxy_scorer import MAPS, SIGNIFICANCES, GalaxyScorer, GalaxyScores
from modeling.scoring.residual_sums import LineSums

# A bin of S/N and size with fewer calibration galaxies gives no p-value below about 0.02: it is compared with all.
MIN_PER_KIND = 50
MIN_REDSHIFTS = 10  # a regression through fewer follows their own scores


@dataclass(frozen=True)
class SurveyScores:
    """Scores of a survey, each [N].

    Attributes:
        combined: mean over models of `GalaxyScorer.combined`, after a final regression on redshift.
        spread: standard deviation over models; NaN where one model scores the galaxy.
        nll: mean over models of `GalaxyScores.nll`.
        region: mean over models (of logarithms) of the significance of the most unusual region, in standard deviations.
        peak: the same of the most unusual line of a region.
        latent_region, latent_peak: the same of the residuals of the latent reconstruction.
        density: mean distance to the nearest galaxies that are other objects, in standardised latents.
        num_models: models that score the galaxy.
        p_value: conformal; NaN where there is no calibration galaxy.
        q_value: lowest false discovery rate at which the galaxy is still a detection.
        by_redshift: regression of the mean on redshift; None where too few redshifts are known.
    """

    combined: np.ndarray
    spread: np.ndarray
    nll: np.ndarray
    region: np.ndarray
    peak: np.ndarray
    latent_region: np.ndarray
    latent_peak: np.ndarray
    density: np.ndarray
    num_models: np.ndarray
    p_value: np.ndarray
    q_value: np.ndarray
    by_redshift: NuisanceRegression | None


@dataclass(frozen=True)
class EnsembleMean:
    """Mean scores of several models for the same galaxies.

    Attributes:
        scores: means over the models that count for each galaxy; latent, reason code and S/N of the first model.
        combined: [N] mean.
        spread: [N] sample standard deviation; NaN where one model counts.
        num_models: [N].
    """

    scores: GalaxyScores
    combined: np.ndarray
    spread: np.ndarray
    num_models: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence["EnsembleMean"]) -> "EnsembleMean":
        """Galaxies of several parts in one, in order."""
        names = ("combined", "spread", "num_models")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(scores=GalaxyScores.concatenate([part.scores for part in parts]), **arrays)

    def without_maps(self) -> "EnsembleMean":
        """Same scores without the maps, which are large."""
        empty: dict[str, Any] = {name: np.empty((len(self.combined), 0), np.float32) for name in MAPS}
        return replace(self, scores=replace(self.scores, **empty))


def average(scorers: Sequence[GalaxyScorer], scores: Sequence[GalaxyScores], counts: np.ndarray) -> EnsembleMean:
    """Mean scores over the models that count for each galaxy.

    Args:
        scorers: the first is the main model, whose latents and reason codes are kept.
        scores: by each scorer, of the same galaxies.
        counts: [scorer, N] bool, which scorers count for a galaxy; at least one for each.
    """
    weight = counts / counts.sum(0)
    values = np.stack([scorer.combined(scored) for scorer, scored in zip(scorers, scores, strict=True)])
    combined = (weight * values).sum(0)
    num = counts.sum(0)
    squares = (counts * (values - combined) ** 2).sum(0)
    spread = np.sqrt(np.divide(squares, num - 1, out=np.full(len(num), np.nan), where=num > 1))

    def mean(values: Sequence[np.ndarray]) -> np.ndarray:
        shaped = weight.reshape(*weight.shape, *(1,) * (values[0].ndim - 1))
        return np.asarray(sum(w * v for w, v in zip(shaped, values, strict=True)))

    # Latents of different models span different spaces, and a reason code has no mean: the main model's are kept.
    kept = {"latent": scores[0].latent, "code": scores[0].code, "snr": scores[0].snr}
    sums = LineSums(*(mean([getattr(scored.sums, field.name) for scored in scores]) for field in fields(LineSums)))
    others = [field.name for field in fields(GalaxyScores) if field.name not in (*kept, "sums")]
    means = {name: mean([getattr(scored, name) for scored in scores]) for name in others}
    return EnsembleMean(GalaxyScores(sums=sums, **kept, **means), combined, spread, num)


def combine(
    means: EnsembleMean, neighbours: Neighbours, z: np.ndarray, calibrating: np.ndarray, num_bins: int = 3
) -> SurveyScores:
    """Calibrated scores of a survey.

    Args:
        means: of `average`.
        neighbours: of the galaxies, for the density.
        z: [N] redshift; NaN where unknown.
        calibrating: [N] bool, galaxies that no model was fitted to, which calibrate the others and each other.
        num_bins: bins of S/N, and of size, within which p-values are computed where calibration galaxies suffice.
    """
    by_redshift = None
    if np.isfinite(z).sum() >= MIN_REDSHIFTS:
        by_redshift = NuisanceRegression().fit(means.combined, _log_redshift(z))
    combined = without_redshift(means.combined, z, by_redshift)
    calibrating = calibrating & np.isfinite(combined)
    kind = kinds(means.scores.nuisances, calibrating, num_bins)
    p_value = p_values(combined, kind, calibrating)
    # A repeat observation lies next to its galaxy however rare the galaxy is, so it does not count as a neighbour.
    other = ~neighbours.same_object
    distance = np.where(other, neighbours.distance, 0).sum(1)
    return SurveyScores(
        combined=combined,
        spread=means.spread,
        nll=means.scores.nll,
        # Undoes the logarithm of `Significance.table`; over models the mean stays one of logarithms.
        **dict(zip(SIGNIFICANCES, np.expm1(means.scores.significance).T, strict=True)),
        density=np.divide(distance, other.sum(1), out=np.full(len(distance), np.nan), where=other.any(1)),
        num_models=means.num_models,
        p_value=p_value,
        q_value=q_values(p_value, int(calibrating.sum())),
        by_redshift=by_redshift,
    )


def without_redshift(combined: np.ndarray, z: np.ndarray, by_redshift: NuisanceRegression | None) -> np.ndarray:
    """`SurveyScores.combined` [N] from the mean over models [N] and the redshift z [N]."""
    return combined if by_redshift is None else by_redshift.transform(combined, _log_redshift(z))


def _log_redshift(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.log1p(np.nan_to_num(z))[:, None])


def kinds(nuisances: np.ndarray, calibrating: np.ndarray, num_bins: int) -> np.ndarray:
    """Bin [N] of S/N and size; 0 for all where calibration galaxies are too few for bins, -1 for a bin of too few.

    Within a bin scores are closer to exchangeable, which conformal p-values assume.

    Args:
        nuisances: [N, 3] of `galaxy_scorer.nuisances`.
        calibrating: [N] bool.
        num_bins: of S/N, and of size.
    """
    if calibrating.sum() < MIN_PER_KIND * num_bins**2:
        return np.zeros(len(nuisances), dtype=int)
    inner = np.arange(1, num_bins) / num_bins
    bins = [quantile_bins(column, np.quantile(column[calibrating], inner)) for column in nuisances[:, 1:].T]
    kind = np.maximum(bins[0] * num_bins + bins[1], 0)  # of NaN, which has no p-value in any bin
    held = np.bincount(kind[calibrating], minlength=num_bins**2)
    return np.where(held[kind] >= MIN_PER_KIND, kind, -1)


def p_values(score: np.ndarray, kind: np.ndarray, calibrating: np.ndarray) -> np.ndarray:
    """Conformal p-values [N]; a calibration galaxy is compared with the other ones.

    Args:
        score: [N], high is unusual; NaN gives NaN.
        kind: [N] of `kinds`.
        calibrating: [N] bool.
    """
    p_value = np.full(len(score), np.nan)
    if not calibrating.any():
        return p_value
    # A bin with too few calibration galaxies of its own is compared with all of them.
    for value in np.unique(kind):
        reference = calibrating & (kind == value if value >= 0 else True)
        tested = (kind == value) & ~calibrating
        p_value[tested] = conformal_p_values(score[tested], score[reference])
        own = (kind == value) & calibrating
        above = conformal_p_values(score[own], score[reference]) * (reference.sum() + 1) - 1
        p_value[own] = above / max(int(reference.sum()), 1)  # each is among its own references once
    return np.where(np.isfinite(score), p_value, np.nan)
