"""Reranks galaxies by a few labels: a Gaussian process on latents and scores, around the unsupervised ranking.

The process models the difference between the labels and the score's prediction: without labels the ranking is that of
the score; a label moves galaxies similar to the labelled one, and hardly those far from all labels. A linear part
learns which directions matter everywhere. Sources: Rasmussen & Williams 2006, chapter 2 (scikit-learn's
`GaussianProcessRegressor`); the next galaxies to label by the upper confidence bound, Srinivas et al. 2010
(arXiv:0912.3995), several at a time as in Ginsbourger et al. 2010 (doi:10.1007/978-3-642-10701-6_6).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

NUM_COMPONENTS = 16  # of the latents: in more dimensions all distances are alike
SCORE_WEIGHT = 0.5  # standard deviation of all scores together, that of all latents together being 1
LINE_WEIGHT, HYPOTHESIS_WEIGHT = 0.5, 1.0  # of the kind of anomaly: two galaxies of one hypothesis share it
LABEL_NOISE = 0.05  # variance of a label: people err, and classes have edges
# Prior mean of a label, 1 for a detection: the score alone never makes a detection likelier than not, and predicts one
# only near the top of the ranking.
PRIOR_TOP, PRIOR_POWER = 0.5, 4
CURIOSITY = 0.2  # standard deviations added to the mean where labels are asked for


@dataclass(frozen=True)
class Reranking:
    """Ranking by scores and labels.

    Attributes:
        value: [galaxy] predicted label: about 1 for a detection, 0 for none.
        uncertainty: [galaxy] standard deviation of that.
        rank: [galaxy] int64, 1 is the likeliest detection; ties by the unsupervised score.
    """

    value: np.ndarray
    uncertainty: np.ndarray
    rank: np.ndarray


def percentile(score: np.ndarray) -> np.ndarray:
    """Share [galaxy] of galaxies with a lower score, 0 to 1; NaN counts as lowest."""
    ordered = rankdata(np.nan_to_num(score, nan=-np.inf), method="average")
    return np.asarray((ordered - 1) / max(1, len(score) - 1))


def ordered(scores: np.ndarray) -> np.ndarray:
    """Percentiles, -0.5 to 0.5, of scores [galaxy, score], which have heavy tails and different units."""
    return np.stack([percentile(column) for column in scores.T], axis=1) - 0.5


def features_of(
    latent: np.ndarray,
    scores: np.ndarray,
    by_line: np.ndarray | None = None,
    hypothesis: np.ndarray | None = None,
) -> np.ndarray:
    """Features [galaxy, feature] of the Gaussian process: latents, scores and the kind of anomaly.

    Args:
        latent: [galaxy, dimension] standardised.
        scores: [galaxy, score], of which only the order counts.
        by_line: [galaxy, line] excess of each line, in standard deviations.
        hypothesis: [galaxy] name of the anomaly; empty for none.
    """
    components = min(NUM_COMPONENTS, *latent.shape)
    varies = np.ptp(latent, axis=0).any()
    reduced = PCA(components, svd_solver="full").fit_transform(latent) if varies else np.zeros((len(latent), 1))
    parts = [_unit_variance(reduced), SCORE_WEIGHT * _unit_variance(ordered(scores))]
    if by_line is not None:
        parts.append(LINE_WEIGHT * _unit_variance(np.log1p(np.maximum(np.nan_to_num(by_line), 0))))
    if hypothesis is not None:
        parts.append(HYPOTHESIS_WEIGHT * (hypothesis[:, None] == np.unique(hypothesis)).astype(float))
    return np.concatenate(parts, axis=1)


class Reranker:
    """Ranks galaxies by their score and a few labels; everything independent of the labels is computed once."""

    def __init__(
        self,
        latent: np.ndarray,
        score: np.ndarray,
        scores: np.ndarray,
        by_line: np.ndarray | None = None,
        hypothesis: np.ndarray | None = None,
    ) -> None:
        """Computes prior, features and kernel.

        Args:
            latent: [galaxy, dimension] standardised.
            score: [galaxy] the unsupervised score.
            scores: [galaxy, score] all scores, as features.
            by_line, hypothesis: as in `features_of`.
        """
        self.prior = PRIOR_TOP * percentile(score) ** PRIOR_POWER
        self.features = features_of(latent, scores, by_line, hypothesis)
        self.kernel = _kernel(self.features)

    def __call__(self, labels: Mapping[int, float]) -> Reranking:
        """Ranking by labels: by row, whether the galaxy is labelled a detection, 1 or 0."""
        prior = self.prior
        value, uncertainty = prior.copy(), np.ones(len(prior))
        if labels:
            rows = np.array(sorted(labels))
            answers = np.array([float(labels[row]) for row in rows])
            # The kernel is fixed: few labels do not determine its parameters.
            learner = GaussianProcessRegressor(self.kernel, alpha=LABEL_NOISE, optimizer=None)
            learner.fit(self.features[rows], answers - prior[rows])
            change, uncertainty = learner.predict(self.features, return_std=True)
            value = prior + change
        order = np.lexsort((np.arange(len(prior)), -prior, -value))
        rank = np.empty(len(prior), dtype=np.int64)
        rank[order] = np.arange(1, len(prior) + 1)
        return Reranking(value, uncertainty, rank)


def ask_next(reranker: Reranker, labels: Mapping[int, float], objects: np.ndarray, num: int) -> np.ndarray:
    """Rows of the galaxies whose labels would help most, best first; one of each object.

    Each is chosen as if those before it had their predicted labels, so that they are not all alike.

    Args:
        reranker: of the galaxies.
        labels: those so far, as `reranker` takes them.
        objects: [galaxy] identifier of the object; those with a label on one observation are left out.
        num: galaxies wanted.
    """
    assumed, known, chosen = dict(labels), {objects[row] for row in labels}, []
    for _ in range(num):
        ranking = reranker(assumed)
        promise = ranking.value + CURIOSITY * ranking.uncertainty
        row = next((row for row in np.lexsort((ranking.rank, -promise)) if objects[row] not in known), None)
        if row is None:
            break
        known.add(objects[row])
        chosen.append(row)
        assumed[int(row)] = ranking.value[row]
    return np.array(chosen, dtype=np.int64)


def _kernel(features: np.ndarray) -> ConstantKernel:
    """Kernel by which galaxies nearer than a third of the typical distance are similar, plus a weak linear part."""
    # All pairs of some 500 galaxies: the memory grows with the square of their number.
    sample = features[:: max(1, len(features) // 500)]
    distance = np.linalg.norm(sample[:, None] - sample[None], axis=2)
    typical = float(np.median(distance[distance > 0])) if (distance > 0).any() else 1.0
    return ConstantKernel(0.5) * RBF(typical / 3) + ConstantKernel(0.05) * DotProduct(0.1)


def _unit_variance(values: np.ndarray) -> np.ndarray:
    total = np.sqrt(values.var(0).sum())
    return np.asarray((values - values.mean(0)) / total) if total > 0 else np.zeros_like(values)
