"""Statistics of labelled galaxies in score and in latent space: enrichment, ROC and neighbour purity, with intervals.

Intervals come from a bootstrap over objects, since repeat observations of one object are not independent. That of an
AUROC is widened to Newcombe's, since resamples of three galaxies that all score high are all alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import roc_curve

from cubeprep.words import counted
from modeling.resampling import bootstrap_weights

NUM_BOOTSTRAP = 1000
LEVEL = 0.95
MIN_GALAXIES = 3  # of a label, and without it; with fewer, the statistics would be noise


@dataclass(frozen=True)
class Estimate:
    """Value with the interval that holds `LEVEL` of its bootstrap; NaN where it is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Sample:
    """Galaxies that a table of labels covers.

    Attributes:
        score: [galaxy]; higher is more unusual. NaN counts as lowest.
        neighbours: [galaxy, k] rows of the nearest galaxies of the sample, other observations of the object left out;
            -1 where there are fewer.
        mangaid: [galaxy] identifier of the object.
    """

    score: np.ndarray
    neighbours: np.ndarray
    mangaid: np.ndarray


@dataclass(frozen=True)
class Assessment:
    """Statistics of the galaxies of one label among the others of a sample.

    Attributes:
        num_labelled: galaxies with the label.
        num_others: galaxies without it.
        auroc: probability that a labelled galaxy scores higher than another; 0.5 for unrelated scores.
        enrichment: by percentage, the share of labelled galaxies among that percentage of the highest scores, over
            their share among all; 1 for unrelated scores.
        purity: mean share of the label among a labelled galaxy's nearest neighbours.
        chance: that share for neighbours drawn at random.
        roc: false and true positive rates, [2, point].
    """

    num_labelled: int
    num_others: int
    auroc: Estimate
    enrichment: dict[float, Estimate]
    purity: Estimate
    chance: float
    roc: np.ndarray


def assess_label(
    sample: Sample,
    labelled: np.ndarray,
    *,
    percentages: tuple[float, ...] = (1, 5, 10),
    num_bootstrap: int = NUM_BOOTSTRAP,
    seed: int = 0,
) -> Assessment:
    """Statistics of one label, with bootstrap intervals.

    Args:
        sample: all galaxies.
        labelled: [galaxy] bool.
        percentages: of the sample, at which the enrichment is computed.
        num_bootstrap: number of resamples.
        seed: of the bootstrap.

    Raises:
        ValueError: fewer than `MIN_GALAXIES` with or without the label.
    """
    num_labelled, num_others = int(labelled.sum()), int((~labelled).sum())
    if min(num_labelled, num_others) < MIN_GALAXIES:
        raise ValueError(
            f"{counted(num_labelled, 'galaxy')} with the label, {num_others} without: {MIN_GALAXIES} are needed of both"
        )
    score = np.nan_to_num(sample.score, nan=np.nanmin(sample.score) - 1)
    agreement = neighbour_agreement(sample.neighbours, labelled)
    asked = labelled & np.isfinite(agreement)
    rows = []
    # Weights of 1 first: the value of the sample itself. A resample is a weight, so neighbours need no new search.
    for weight in chain([np.ones(len(labelled))], bootstrap_weights(sample.mangaid, num_bootstrap, seed)):
        tops = [enrichment(score, labelled, weight, percentage / 100) for percentage in percentages]
        alike = (weight * np.nan_to_num(agreement))[asked].sum() / _or_nan(weight[asked].sum())
        rows.append([auroc(score, labelled, weight), alike, *tops])
    areas, *others = np.array(rows).T
    purity, *enrichments = map(estimate, others)
    return Assessment(
        num_labelled,
        num_others,
        auroc=estimate_auroc(areas, labelled, sample.mangaid),
        purity=purity,
        enrichment=dict(zip(percentages, enrichments, strict=True)),
        # A galaxy is not its own neighbour, hence the 1 in both.
        chance=(num_labelled - 1) / (len(labelled) - 1),
        roc=np.stack(roc_curve(labelled, score)[:2]),
    )


def assess_labels(sample: Sample, labels: Mapping[str, np.ndarray], *, seed: int = 0) -> dict[str, Assessment]:
    """Statistics of each label that has enough galaxies, by `assess_label`; the others are left out."""
    enough = {
        name: labelled for name, labelled in labels.items() if min(labelled.sum(), (~labelled).sum()) >= MIN_GALAXIES
    }
    return {name: assess_label(sample, labelled, seed=seed) for name, labelled in enough.items()}


def auroc(score: np.ndarray, labelled: np.ndarray, weight: np.ndarray) -> float:
    """Area under the ROC curve of weighted galaxies; NaN without both kinds.

    The probability that a labelled galaxy scores higher than another, equal scores counting half (Mann & Whitney 1947,
    doi:10.1214/aoms/1177730491).

    Args:
        score: [galaxy]; higher is more unusual.
        labelled: [galaxy] bool.
        weight: [galaxy], such as of a resample.
    """
    # Counted per distinct score, so that ties need no pairs of galaxies.
    values, group = np.unique(score, return_inverse=True)
    positive = np.bincount(group, weight * labelled, minlength=len(values))
    negative = np.bincount(group, weight * ~labelled, minlength=len(values))
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / _or_nan(positive.sum() * negative.sum()))


def enrichment(score: np.ndarray, labelled: np.ndarray, weight: np.ndarray, fraction: float) -> float:
    """Share of labelled galaxies in the top `fraction` of scores over their share in all; NaN without any.

    The galaxy at the border counts with the part of its weight that lies within; the top holds at least one galaxy.
    Arguments as of `auroc`.
    """
    order = np.argsort(-score, kind="stable")
    weight, labelled = weight[order], labelled[order]
    before = np.cumsum(weight) - weight
    inside = np.clip(max(fraction * weight.sum(), 1) - before, 0, weight)
    base = (weight * labelled).sum() / weight.sum()
    return float((inside * labelled).sum() / inside.sum() / _or_nan(base))


def neighbour_agreement(neighbours: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Share [galaxy] of labelled galaxies among the neighbours of each; NaN for a galaxy without any.

    Args:
        neighbours: [galaxy, k] rows of galaxies; -1 where there are fewer.
        labelled: [galaxy] bool.
    """
    known = neighbours >= 0  # -1 would read the last galaxy
    hits = (labelled[neighbours] & known).sum(1)
    return np.divide(hits, known.sum(1), out=np.full(len(neighbours), np.nan), where=known.any(1))


def _or_nan(value: float) -> float:
    """Value to divide by: NaN instead of 0, so that the quotient is NaN without a warning."""
    return value if value else np.nan


def estimate(values: np.ndarray) -> Estimate:
    """Estimate from the value of the sample itself, first, and those of its resamples."""
    # A resample without galaxies of the label has no value.
    finite = values[1:][np.isfinite(values[1:])]
    if not finite.size:
        return Estimate(float(values[0]), np.nan, np.nan)
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values[0]), float(low), float(high))


def estimate_auroc(values: np.ndarray, labelled: np.ndarray, mangaid: np.ndarray) -> Estimate:
    """AUROC from that of the sample itself, first, and those of its resamples; its interval also contains Newcombe's.

    Args:
        values: areas under the ROC curve.
        labelled: [galaxy] bool.
        mangaid: [galaxy] identifier of the object.
    """
    found = estimate(values)
    low, high = newcombe(found.value, len(np.unique(mangaid[labelled])), len(np.unique(mangaid[~labelled])))
    return Estimate(found.value, float(np.fmin(found.low, low)), float(np.fmax(found.high, high)))


def newcombe(area: float, num_labelled: int, num_others: int) -> tuple[float, float]:
    """Interval of an AUROC of independent galaxies (Newcombe 2006, doi:10.1002/sim.2324, method 5).

    All areas that differ from the measured one by no more than chance allows, with the variance of Hanley & McNeil
    (1982, doi:10.1148/radiology.143.1.7063747) at that area.
    """
    quantile, mean_number = norm.ppf((1 + LEVEL) / 2), (num_labelled + num_others) / 2

    def excess(true: float) -> float:
        spread = 1 + (mean_number - 1) * ((1 - true) / (2 - true) + true / (1 + true))
        return float((area - true) ** 2 - quantile**2 * true * (1 - true) * spread / (num_labelled * num_others))

    # An area of 0 or 1 is itself a root, but not the one that is sought.
    low = brentq(excess, 0, min(area, 1 - 1e-9)) if area > 0 else 0.0
    high = brentq(excess, max(area, 1e-9), 1) if area < 1 else 1.0
    return low, high
