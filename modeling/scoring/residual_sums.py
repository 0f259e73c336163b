"""Plain scores of a galaxy: residuals of the autoencoder summed per line over good samples.

All scores come from sums over good samples (`LineSums`), so masked values, whatever they hold, change nothing. A sample
is good if its mask is 0, its inverse variance positive and its flux finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from scipy.stats import rankdata, spearmanr

from cubeprep.masks import good_samples
from modeling.scoring.config import RankBy

# Scores of sums over a galaxy's residuals; `combined` comes from `ensemble.SurveyScores`.
PlainScore = Literal["unexplained", "chi2", "relative", "mae"]


@dataclass(frozen=True)
class LineSums:
    """Sums over the good samples and spaxels of each line's window; all [galaxy, line], float64.

    Attributes:
        num_good: good samples.
        abs_residual: sum of |flux - reconstruction|, flux units.
        chi2: sum of (flux - reconstruction)^2 * ivar, no unit.
        snr2: sum of flux^2 * ivar, no unit.
        abs_flux: sum of |flux|, flux units.
        flux: sum of flux, flux units.
        variance: sum of 1 / ivar, flux units squared.
    """

    num_good: np.ndarray
    abs_residual: np.ndarray
    chi2: np.ndarray
    snr2: np.ndarray
    abs_flux: np.ndarray
    flux: np.ndarray
    variance: np.ndarray

    @property
    def snr(self) -> np.ndarray:
        """[galaxy, line] S/N of the flux summed over the window and all spaxels; NaN where no sample is good.

        Covariance between spaxels is left out, so that it is an upper limit where the cube was resampled.
        """
        return _ratio(self.flux, np.sqrt(self.variance))

    @classmethod
    def concatenate(cls, parts: Sequence["LineSums"]) -> "LineSums":
        """Galaxies of several shards in one, in order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True)
class Scores:
    """Scores of galaxies; NaN where a galaxy has no good sample. All [galaxy] but `line_shares`.

    Attributes:
        mae: mean absolute residual per good sample, flux units: the paper's score. Ranks by brightness.
        chi2: mean of residual^2 * ivar per good sample. 1 is a residual of pure noise; degrees of freedom are not
            subtracted, since the encoder is not fitted to the galaxy. Ranks well-observed galaxies first, as long as
            the model is not perfect.
        unexplained: (`chi2` - 1) over the mean of flux^2 * ivar per good sample: the share of the signal, in units of
            noise, that neither the model nor noise explains. About 0 for pure noise or a perfect model, 1 for a model
            that predicts zero: an anomaly that outshines its galaxy cannot move it far above 1. Of these four it
            depends least on brightness and S/N.
        relative: `mae` over the mean |flux| per good sample. Ranks faint, noisy galaxies first.
        combined: of `ensemble.SurveyScores`; NaN where it was not computed.
        score: the one of these that ranks.
        rank: int64, 1 is the most unusual; equal scores keep their order, NaN comes last.
        line_shares: [galaxy, line] share of each line in the residual (of |residual| where `mae` or `relative` ranks,
            else of chi2); NaN where the line has no good sample. The others of a row sum to 1, or are NaN where there
            is no residual.
        top_line: [galaxy] index of the line with the largest share; -1 where there is none.
        total_flux: sum of flux over good samples and spaxels, in the unit of a sum over spaxels.
        strongest_line: [galaxy] index of the line with the highest `LineSums.snr`; -1 where there is none.
        strongest_line_snr: that S/N; NaN where there is none.
        median_snr: median of flux * sqrt(ivar) over good samples.
        num_good: good samples.
    """

    mae: np.ndarray
    chi2: np.ndarray
    unexplained: np.ndarray
    relative: np.ndarray
    combined: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    line_shares: np.ndarray
    top_line: np.ndarray
    total_flux: np.ndarray
    strongest_line: np.ndarray
    strongest_line_snr: np.ndarray
    median_snr: np.ndarray
    num_good: np.ndarray


def line_sums(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, reconstruction: np.ndarray) -> LineSums:
    """Sums of each galaxy's residuals over each line's window.

    Args:
        flux: [galaxy, line, sample, y, x], flux units; any value where masked.
        ivar: the same shape, inverse variance of `flux`.
        mask: the same shape; 0 is good.
        reconstruction: the same shape, the model's flux; not read where masked.

    Raises:
        ValueError: the shapes differ, or the reconstruction of a good sample is not finite: the model is broken.
    """
    shapes = {"flux": flux.shape, "ivar": ivar.shape, "mask": mask.shape, "reconstruction": reconstruction.shape}
    if flux.ndim != 5 or len(set(shapes.values())) > 1:
        raise ValueError(f"expected four arrays [galaxy, line, sample, y, x] of one shape, found {shapes}")
    good = good_samples(flux, ivar, mask)
    # Masked before any arithmetic, since 0 x NaN is NaN. float64: `unexplained` is the difference of two large sums.
    flux = np.where(good, flux, 0).astype(np.float64)
    residual = flux - np.where(good, reconstruction, 0)
    broken = np.flatnonzero(~np.isfinite(residual).all(axis=(1, 2, 3, 4)))
    if broken.size:
        raise ValueError(f"the model's reconstruction is not finite for {broken.size} of {len(flux)} galaxies")
    window = (2, 3, 4)
    weight = np.where(good, ivar, 0)
    return LineSums(
        num_good=good.sum(window, dtype=np.float64),
        abs_residual=np.abs(residual).sum(window),
        chi2=(residual**2 * weight).sum(window),
        snr2=(flux**2 * weight).sum(window),
        abs_flux=np.abs(flux).sum(window),
        flux=flux.sum(window),
        variance=np.divide(1, ivar, out=np.zeros(flux.shape), where=good).sum(window),
    )


def median_snr(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Median S/N [galaxy], of flux * sqrt(ivar) over the good samples of each galaxy; NaN where there is none.

    Args:
        flux: [galaxy, line, sample, y, x], flux units.
        ivar: the same shape.
        mask: the same shape; 0 is good.
    """
    good = good_samples(flux, ivar, mask)
    medians = np.full(len(flux), np.nan)
    for i, chosen in enumerate(good):
        if chosen.any():
            medians[i] = np.median(flux[i][chosen] * np.sqrt(ivar[i][chosen].astype(np.float64)))
    return medians


def scores_from_sums(
    sums: LineSums, snr: np.ndarray, rank_by: RankBy = "unexplained", *, combined: np.ndarray | None = None
) -> Scores:
    """Scores, ranks and line shares of galaxies.

    Args:
        sums: [galaxy, line].
        snr: [galaxy] of `median_snr`.
        rank_by: which score ranks.
        combined: [galaxy] of `ensemble.SurveyScores`, if it was computed.

    Raises:
        ValueError: there is no such score, or `combined` is to rank and was not given.
    """
    if rank_by not in get_args(RankBy):
        raise ValueError(f"rank_by: {rank_by!r} is none of {', '.join(get_args(RankBy))}")
    if combined is None:
        if rank_by == "combined":
            raise ValueError("rank_by is combined, but there is no combined score")
        combined = np.full(len(sums.num_good), np.nan)
    num_good = sums.num_good.sum(1)
    mae = _ratio(sums.abs_residual.sum(1), num_good)
    by_name = {
        "mae": mae,
        "chi2": _ratio(sums.chi2.sum(1), num_good),
        "unexplained": _ratio(sums.chi2.sum(1) - num_good, sums.snr2.sum(1)),
        "relative": _ratio(sums.abs_residual.sum(1), sums.abs_flux.sum(1)),
        "combined": combined,
    }
    # The shares explain the score that ranks, so they are of the residual that it sums.
    per_line = sums.abs_residual if rank_by in ("mae", "relative") else sums.chi2
    shares = np.where(sums.num_good > 0, _ratio(per_line, per_line.sum(1, keepdims=True)), np.nan)
    strongest, highest_snr = _highest(sums.snr)
    return Scores(
        **by_name,
        score=by_name[rank_by],
        rank=ranks(by_name[rank_by]),
        line_shares=shares,
        top_line=_highest(shares)[0],
        total_flux=sums.flux.sum(1),
        strongest_line=strongest,
        strongest_line_snr=highest_snr,
        median_snr=np.asarray(snr, dtype=np.float64),
        num_good=num_good.astype(np.int64),
    )


def ranks(score: np.ndarray) -> np.ndarray:
    """Ranks [galaxy] int64: 1 for the highest score, ties in order, NaN last."""
    # Ordinal, so that the same scores give the same ranks on every machine.
    return rankdata(np.where(np.isnan(score), np.inf, -score), method="ordinal").astype(np.int64)


def nuisance_correlations(scores: Scores) -> dict[str, dict[str, float | None]]:
    """Spearman's rank correlation of each score with total flux and median S/N.

    Near 1 or -1 the score only sorts galaxies by brightness or depth of observation.

    Returns:
        For `score` and each of the scores: `flux` and `snr`, in -1..1; None for fewer than three galaxies or
        where one of the two does not vary.
    """
    return {
        name: {
            "flux": spearman(getattr(scores, name), scores.total_flux),
            "snr": spearman(getattr(scores, name), scores.median_snr),
        }
        for name in ("score", *get_args(RankBy))
    }


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation over the finite pairs; None for fewer than three or where one does not vary."""
    finite = np.isfinite(first) & np.isfinite(second)
    first, second = first[finite], second[finite]
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)


def _highest(per_line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and value [galaxy] of the highest value of each row [galaxy, line]; -1 and NaN for a row of NaN."""
    known = np.isfinite(per_line)
    index = np.where(known, per_line, -np.inf).argmax(1)
    return np.where(known.any(1), index, -1), np.take_along_axis(per_line, index[:, None], 1)[:, 0]


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient; NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)
