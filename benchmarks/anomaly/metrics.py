"""All measures of the benchmark as pure functions of scores and truth. Higher scores are more unusual.

Where galaxies may have weights, `weight` is [..., n]; its leading axes are resamples and are those of the result.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import label

Weights = np.ndarray | None


def partial_auroc(score: np.ndarray, positive: np.ndarray, max_fpr: float = 0.01, weight: Weights = None) -> np.ndarray:
    """Mean recall [...] over false-positive rates from 0 to `max_fpr`: 1 is perfect, `max_fpr` / 2 is chance.

    Args:
        score: [n] scores.
        positive: [n] bool, the anomalies.
        max_fpr: largest false-positive rate, in (0, 1].
        weight: [..., n] weights; all 1 by default.
    """
    fpr, tpr = roc_curve(score, positive, weight)
    return area_below(fpr, tpr, max_fpr) / max_fpr


def auroc(score: np.ndarray, positive: np.ndarray, weight: Weights = None) -> np.ndarray:
    """Area under the ROC curve: the probability that a positive outscores a negative, with ties counted as half."""
    return partial_auroc(score, positive, 1.0, weight)


def roc_curve(score: np.ndarray, positive: np.ndarray, weight: Weights = None) -> tuple[np.ndarray, np.ndarray]:
    """False- and true-positive rates [..., threshold + 1] from (0, 0) to (1, 1), with a step per distinct score."""
    false, true = _cumulated(score, positive, weight)
    return false / false[..., -1:], true / true[..., -1:]


def average_precision(
    score: np.ndarray, positive: np.ndarray, prevalence: float = 0.01, weight: Weights = None
) -> np.ndarray:
    """Area under the precision-recall curve if positives were as rare as `prevalence`, which is also the chance level.

    Positives are down-weighted to that fraction; precision is summed over the steps of recall.
    """
    fpr, tpr = roc_curve(score, positive, weight)
    true, false = prevalence * tpr[..., 1:], (1 - prevalence) * fpr[..., 1:]
    precision = true / np.where(true + false > 0, true + false, 1)
    return (np.diff(tpr, axis=-1) * precision).sum(axis=-1)


def area_below(x: np.ndarray, y: np.ndarray, stop: float) -> np.ndarray:
    """Area [...] from x = 0 to `stop` under the polyline through points [..., n] of increasing x."""
    x0, x1, y0, y1 = x[..., :-1], x[..., 1:], y[..., :-1], y[..., 1:]
    end = np.minimum(x1, stop)
    width = np.clip(end - x0, 0, None)
    slope = np.divide(y1 - y0, x1 - x0, out=np.zeros_like(y0), where=x1 > x0)
    return (width * (y0 + 0.5 * slope * width)).sum(axis=-1)


def _cumulated(score: np.ndarray, positive: np.ndarray, weight: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative weights of negatives and positives [..., threshold + 1] at or above each distinct score, in
    descending order.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, dtype=np.float64)
    sums = []
    for chosen in (~positive, positive):
        total = np.cumsum((weight * chosen)[..., order], axis=-1)[..., last]
        sums.append(np.concatenate([np.zeros_like(total[..., :1]), total], axis=-1))
    return sums[0], sums[1]


def recall_at(score: np.ndarray, positive: np.ndarray, k: int) -> float:
    """Fraction of the positives that are among the `k` highest scores."""
    return float(positive[np.argsort(-score, kind="stable")[:k]].sum() / positive.sum())


def share_at(score: np.ndarray, chosen: np.ndarray, k: int) -> float:
    """Fraction of the `k` highest scores that belong to `chosen`."""
    return float(chosen[np.argsort(-score, kind="stable")[:k]].mean())


def threshold_at(calibration: np.ndarray, rate: float) -> float:
    """Lowest threshold that a new galaxy exchangeable with the calibration exceeds with probability at most `rate`.

    Infinite if the calibration is too small for that rate.

    Source: conformal quantiles, Vovk, Gammerman & Shafer 2005 (Algorithmic Learning in a Random World).
    """
    allowed = int(np.floor(rate * (len(calibration) + 1))) - 1
    return float(np.sort(calibration)[::-1][allowed]) if allowed >= 0 else float("inf")


def amplitude_at_recall(amplitudes: Sequence[float], recalls: Sequence[float], wanted: float = 0.5) -> float:
    """Amplitude at which recall first reaches `wanted`, interpolated in its logarithm; NaN if it never does.

    If the recall of the lowest amplitude is already that high, the result is the lowest amplitude.
    """
    for i, recall in enumerate(recalls):
        if recall >= wanted:
            if i == 0:
                return float(amplitudes[0])
            share = (wanted - recalls[i - 1]) / (recall - recalls[i - 1])
            low, high = np.log(amplitudes[i - 1 : i + 1])
            return float(np.exp(low + share * (high - low)))
    return float("nan")


def false_discovery_proportion(discovered: np.ndarray, positive: np.ndarray) -> float:
    """Fraction of the discoveries that are false; 0 without discoveries."""
    return float((discovered & ~positive).sum() / max(discovered.sum(), 1))


def pro_area(values: np.ndarray, mask: np.ndarray, covered: np.ndarray, max_fpr: float = 0.3) -> float:
    """Area under the per-region overlap curve of one map up to a false-positive rate of `max_fpr`; 1 is perfect.

    Source: Bergmann et al. 2020 (arXiv:1911.02357, section 5.1), with thresholds for each galaxy.

    Args:
        values: [y, x] score of each spaxel.
        mask: [y, x] bool, the true spaxels.
        covered: [y, x] bool, spaxels with data; others are ignored.
        max_fpr: largest false-positive rate.

    Returns:
        The area; NaN if all or none of the covered spaxels are in the mask.
    """
    mask = mask & covered
    if not mask.any() or mask[covered].all():
        return float("nan")
    regions, num_regions = label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(regions[covered], minlength=num_regions + 1)
    share = np.where(mask, 1 / (num_regions * sizes[regions]), 0)
    fpr, _ = roc_curve(values[covered], mask[covered])
    _, overlap = _cumulated(values[covered], np.ones(covered.sum(), dtype=bool), share[covered])
    return float(area_below(fpr, overlap, max_fpr) / max_fpr)


def points_at(values: np.ndarray, mask: np.ndarray, covered: np.ndarray) -> bool:
    """Whether the covered spaxel with the highest value lies in the mask.

    Source: the pointing game of Zhang et al. 2018 (doi:10.1007/s11263-017-1059-x).
    """
    return bool(mask.flat[np.where(covered, values, -np.inf).argmax()])


def line_family(name: str) -> str:
    """Species of a line: `Balmer`, or the ion."""
    ion = name.split("-")[0]
    return "Balmer" if ion in ("Ha", "Hb", "Hgam", "Hdel", "Heps", "Hzet", "Heta", "Hthe", "H11", "H12") else ion


def names_line(lines: np.ndarray, line_snr2: np.ndarray, families: Sequence[str]) -> bool:
    """Whether the line that a detector rates highest belongs to a species that changed most.

    Args:
        lines: [line] contributions to the detector's score.
        line_snr2: [line] (S/N)^2 of the injected difference; lines with at least half of the maximum changed most.
        families: [line] species of each line.
    """
    changed = {families[int(i)] for i in np.flatnonzero(line_snr2 >= 0.5 * line_snr2.max())}
    return families[int(np.argmax(lines))] in changed
