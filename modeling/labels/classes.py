"""Classes of galaxies from labels: logistic regressions on latents and scores, with calibrated probabilities.

Each label is learned against all other labelled galaxies. Objects, not observations, are divided into folds. Within a
training part, the strength of the regularisation is chosen by cross-validation, and a logistic curve from the decision
values of galaxies left out gives probabilities (Platt 1999; scikit-learn's `CalibratedClassifierCV` cannot keep the
observations of an object together in both steps). Classes are weighted so that a rare one is learned; the curve undoes
the weighting. The result is linear: one weight for each feature, and an intercept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.utils.class_weight import compute_sample_weight

from cubeprep.words import counted
from modeling.labels.label_statistics import NUM_BOOTSTRAP, Estimate, auroc, estimate, estimate_auroc
from modeling.labels.rerank import SCORE_WEIGHT, ordered
from modeling.latents.neighbours import LatentScaler
from modeling.resampling import bootstrap_weights

NUM_FOLDS = 5
MIN_OBJECTS = 10  # with a label, and without it: each fold of a training part then holds some of both
STRENGTHS = tuple(10.0**power for power in range(-2, 5))  # inverse strengths of the regularisation
NUM_BINS, MIN_PER_BIN = 10, 10  # of the reliability
UNIFORM_VARIANCE = 1 / 12  # of ordered scores


@dataclass(frozen=True)
class Features:
    """Features of galaxies: latents, and percentiles of scores, free of units and heavy tails.

    Attributes:
        mean: [dimension] of the latents.
        scale: [dimension] by which latents are multiplied; all together then have unit variance.
        scores: names of the scores.
    """

    mean: np.ndarray
    scale: np.ndarray
    scores: tuple[str, ...]

    @classmethod
    def of(cls, latent: np.ndarray, scores: tuple[str, ...]) -> Self:
        """Features for latents [galaxy, dimension] of a catalog."""
        scaler = LatentScaler.fit(latent)
        alive = np.isfinite(scaler.spread)
        return cls(scaler.mean, 1 / scaler.spread / np.sqrt(max(1, alive.sum())), scores)

    def __call__(self, latent: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Features [galaxy, feature].

        Args:
            latent: [galaxy, dimension] of the same encoder.
            scores: [galaxy, score], of which only the order among these galaxies counts.
        """
        weight = SCORE_WEIGHT / np.sqrt(UNIFORM_VARIANCE * max(1, len(self.scores)))
        return np.concatenate([(latent - self.mean) * self.scale, weight * ordered(scores)], axis=1)


@dataclass(frozen=True)
class Head:
    """Linear classifier of one label.

    Attributes:
        weight: [feature].
        intercept: of the log odds.
        strength: inverse strength of the regularisation that was chosen.
    """

    weight: np.ndarray
    intercept: float
    strength: float

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Probability [galaxy] of the label, for galaxies drawn like the labelled ones."""
        return np.asarray(expit(features @ self.weight + self.intercept))


@dataclass(frozen=True)
class Quality:
    """Quality of probabilities of galaxies that their heads have not seen.

    Attributes:
        num_labelled: galaxies with the label.
        num_others: labelled galaxies without it.
        auroc: area under the ROC curve.
        average_precision: area under the curve of precision against recall; by chance, the share of the label.
        brier: mean squared error of the probabilities.
        brier_of_share: that of the label's share as the probability of every galaxy.
        reliability: [bin, 3] mean probability, share of the label, number of galaxies.
    """

    num_labelled: int
    num_others: int
    auroc: Estimate
    average_precision: Estimate
    brier: float
    brier_of_share: float
    reliability: np.ndarray


@dataclass(frozen=True)
class Classified:
    """A label learned from some galaxies of a catalog.

    Attributes:
        head: learned from all labelled galaxies.
        probability: [galaxy]; of a labelled object by a head that has not seen it.
        quality: of the labelled galaxies' probabilities.
    """

    head: Head
    probability: np.ndarray
    quality: Quality


def few_objects(labels: Mapping[str, np.ndarray], objects: np.ndarray) -> dict[str, tuple[int, int]]:
    """Labels that cannot be learned, with the numbers of objects with and without them.

    Args:
        labels: [labelled galaxy] bool of each label.
        objects: [labelled galaxy] identifier of the object.
    """
    counts = {name: (len(set(objects[chosen])), len(set(objects[~chosen]))) for name, chosen in labels.items()}
    return {name: found for name, found in counts.items() if min(found) < MIN_OBJECTS}


def classify(
    features: np.ndarray, objects: np.ndarray, rows: np.ndarray, labelled: np.ndarray, *, seed: int = 0
) -> Classified:
    """Learns one label and predicts it for all galaxies.

    Args:
        features: [galaxy, feature] of the whole catalog.
        objects: [galaxy] identifier of the object.
        rows: [labelled galaxy] rows of the galaxies that the labels cover.
        labelled: [labelled galaxy] bool, which have the label.
        seed: of folds and bootstrap.

    Raises:
        ValueError: there are fewer than `MIN_OBJECTS` objects with or without the label.
    """
    known, groups = features[rows], objects[rows].astype(str)
    if few := few_objects({"": labelled}, groups):
        num, others = few[""]
        raise ValueError(f"{counted(num, 'object')} with the label, {others} without: {MIN_OBJECTS} are needed of both")
    head = _fit(known, labelled, groups, seed)
    probability = head.probability(features)
    for train, test in _folds(known, labelled, groups, seed):
        # Also observations without a label of objects that have one.
        left_out = np.isin(objects.astype(str), groups[test])
        probability[left_out] = _fit(known[train], labelled[train], groups[train], seed).probability(features[left_out])
    return Classified(head, probability, _quality(probability[rows], labelled, groups, seed))


def _folds(
    features: np.ndarray, labelled: np.ndarray, groups: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to train on and rows left out of each fold, with all observations of an object in one."""
    splitter = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(features, labelled, groups))


def _fit(features: np.ndarray, labelled: np.ndarray, groups: np.ndarray, seed: int) -> Head:
    """Head from labelled galaxies: strength by cross-validation, then calibration, then all of them."""
    folds = _folds(features, labelled, groups, seed)
    balanced = compute_sample_weight("balanced", labelled)
    decided = {
        strength: cross_val_predict(_learner(strength), features, labelled, cv=folds, method="decision_function")
        for strength in STRENGTHS
    }
    best = min(STRENGTHS, key=lambda strength: log_loss(labelled, expit(decided[strength]), sample_weight=balanced))
    slope, offset = _calibration(decided[best], labelled)
    learner = _learner(best).fit(features, labelled)
    return Head(slope * learner.coef_[0], float(slope * learner.intercept_[0] + offset), best)


def _learner(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=5000)


def _calibration(decision: np.ndarray, labelled: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the log odds as a function of decision values of galaxies that were left out."""
    num, others = int(labelled.sum()), int((~labelled).sum())
    # Platt's targets: 0 and 1 would give certainty where the classes separate.
    target = np.where(labelled, (num + 1) / (num + 2), 1 / (others + 2))
    twice = np.concatenate([decision, decision])[:, None]
    answers = np.repeat([True, False], len(decision))
    curve = LogisticRegression(C=1e6, max_iter=5000)
    curve.fit(twice, answers, sample_weight=np.concatenate([target, 1 - target]))
    slope = float(curve.coef_[0, 0])
    if slope <= 0:  # the features do not predict the label
        return 0.0, float(logit(target.mean()))
    return slope, float(curve.intercept_[0])


def _quality(probability: np.ndarray, labelled: np.ndarray, objects: np.ndarray, seed: int) -> Quality:
    rows = []
    # Weights of 1 first: the value of the sample itself.
    for weight in chain([np.ones(len(labelled))], bootstrap_weights(objects, NUM_BOOTSTRAP, seed)):
        drawn = weight * labelled
        precision = average_precision_score(labelled, probability, sample_weight=weight) if drawn.any() else np.nan
        rows.append([auroc(probability, labelled, weight), precision])
    areas, precisions = np.array(rows).T
    share = labelled.mean()
    return Quality(
        int(labelled.sum()),
        int((~labelled).sum()),
        estimate_auroc(areas, labelled, objects),
        estimate(precisions),
        brier=float(np.mean((probability - labelled) ** 2)),
        brier_of_share=float(share * (1 - share)),
        reliability=_reliability(probability, labelled),
    )


def _reliability(probability: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Mean probability, share of the label and number of galaxies in bins of about equal numbers, [bin, 3]."""
    bins = np.array_split(np.argsort(probability, kind="stable"), np.clip(len(labelled) // MIN_PER_BIN, 1, NUM_BINS))
    return np.array([[probability[rows].mean(), labelled[rows].mean(), len(rows)] for rows in bins])
