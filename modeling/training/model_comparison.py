"""Comparison of two models on the same galaxies, by measures that do not depend on their losses or normalisations."""

from dataclasses import dataclass

import numpy as np
import torch

from cubeprep.store import WindowStore
from modeling.network.normalisation import WindowNetwork
from modeling.resampling import bootstrap_weights
from modeling.training.config import TrainConfig
from modeling.training.masked_objective import make_objective

NUM_RESAMPLINGS = 1000
MEASURES = {
    "nll": "negative log-likelihood of a good sample, nats",
    "chi2": "squared residual of a good sample over its variance",
}


@dataclass(frozen=True)
class Comparison:
    """Two models by one measure, of which lower is better unless `higher_is_better`.

    Attributes:
        measure: description of the measure.
        candidate: its value for the candidate.
        champion: its value for the champion.
        decides: whether the promotion depends on it.
        higher_is_better: for measures such as recall.
        interval: middle 95% of the candidate's mean less the champion's over resampled galaxies; NaN if not known.
    """

    measure: str
    candidate: float
    champion: float
    decides: bool = True
    higher_is_better: bool = False
    interval: tuple[float, float] = (float("nan"), float("nan"))

    @property
    def worse(self) -> bool:
        """Whether the candidate is worse, or one of the values is NaN."""
        # Negated comparisons, since those with NaN are false: an unknown value must not promote a model.
        if self.higher_is_better:
            return not self.candidate >= self.champion
        return not self.candidate <= self.champion


def measure_split(model: WindowNetwork, store: WindowStore, split: str) -> dict[str, np.ndarray]:
    """Measures [galaxy] of a split's galaxies as observed, by the names of `MEASURES`; a shard at a time.

    Raises:
        ValueError: the store has no such split, or the split no galaxy with a finite likelihood.
    """
    if split not in store.splits:
        raise ValueError(f"{store.path} has no split {split}: models cannot be compared on it")
    model.eval()
    objective = make_objective(model, TrainConfig(loss="student-t"))
    parts: list[dict[str, np.ndarray]] = []
    for shard in range(store.num_shards(split)):
        windows = store.read_shard(split, shard).observed
        if not len(windows):
            continue
        arrays = windows.flux, windows.ivar, windows.good
        measured = objective.evaluate(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
        parts.append({name: measured[name].numpy() for name in MEASURES})
    measures = {name: np.concatenate([part[name] for part in parts] or [np.zeros(0)]) for name in MEASURES}
    if not np.isfinite(_mean(measures["nll"])):
        raise ValueError(f"{store.path}: no galaxy of the split {split} has a finite likelihood")
    return measures


def compare(candidate: dict[str, np.ndarray], champion: dict[str, np.ndarray]) -> list[Comparison]:
    """Comparisons by likelihood, which decides, and by chi2; both models on the same galaxies.

    A galaxy without a value by the champion is left out of both means. One without a value by the candidate alone makes
    the candidate's mean NaN: without its hardest galaxies a model would be the better one.
    """
    known = {name: np.isfinite(champion[name]) for name in MEASURES}
    return [
        Comparison(
            text,
            float(np.where(known[name], candidate[name], 0).sum(dtype=np.float64) / max(known[name].sum(), 1)),
            _mean(champion[name]),
            decides=name == "nll",
            # Of paired values: galaxies differ more from each other than models do on one galaxy.
            interval=_interval(candidate[name] - champion[name]),
        )
        for name, text in MEASURES.items()
    ]


def _mean(values: np.ndarray) -> float:
    finite = values[~np.isnan(values)]
    return float(finite.mean(dtype=np.float64)) if finite.size else float("nan")


def _interval(differences: np.ndarray) -> tuple[float, float]:
    """Middle 95% of the means over galaxies drawn with replacement."""
    finite = differences[np.isfinite(differences)].astype(np.float64)
    if finite.size < 2:
        return float("nan"), float("nan")
    drawn = bootstrap_weights(np.arange(finite.size), NUM_RESAMPLINGS, seed=0)
    low, high = np.percentile([weight @ finite / finite.size for weight in drawn], [2.5, 97.5])
    return float(low), float(high)
