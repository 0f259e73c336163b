"""Models against each other, on the same galaxies and by measures that no loss or normalisation is part of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cubeprep.store import WindowStore
from modeling.autoencoder import ConvLSTMAutoencoder
from modeling.config import TrainConfig
from modeling.objective import Objective
from modeling.score import good_samples

MEASURES = {
    "nll": "negative log-likelihood of a good sample, nats",
    "chi2": "squared residual of a good sample over its variance",
}


@dataclass(frozen=True)
class Comparison:
    """Two models by one measure, of which lower is better unless it says otherwise.

    Attributes:
        measure: what it is.
        candidate, champion: the values.
        decides: whether the promotion depends on it.
        higher_is_better: such as recall.
    """

    measure: str
    candidate: float
    champion: float
    decides: bool = True
    higher_is_better: bool = False

    @property
    def worse(self) -> bool:
        """Whether the candidate is worse, or cannot be said not to be."""
        if self.higher_is_better:
            return not self.candidate >= self.champion
        return not self.candidate <= self.champion


def measure_split(model: ConvLSTMAutoencoder, store: WindowStore, split: str) -> dict[str, float]:
    """Means over the galaxies of a split as observed, by the names of `MEASURES`; a shard at a time.

    Raises:
        ValueError: the split has no galaxy with a good sample.
    """
    if split not in store.splits:
        raise ValueError(f"{store.path} has no split {split}: models cannot be compared on it")
    model.eval()
    objective = Objective(model, TrainConfig())
    parts: list[dict[str, np.ndarray]] = []
    for shard in range(store.num_shards(split)):
        windows = store.read_shard(split, shard)
        windows = windows.select(windows.view == 0)
        if not len(windows):
            continue
        arrays = windows.flux, windows.ivar, good_samples(windows.flux, windows.ivar, windows.mask)
        found = objective.evaluate(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
        parts.append({name: found[name].numpy() for name in MEASURES})
    means = {name: _mean([part[name] for part in parts]) for name in MEASURES}
    if not np.isfinite(means["nll"]):
        raise ValueError(f"{store.path}: no galaxy of the split {split} has a finite likelihood")
    return means


def compare(candidate: dict[str, float], champion: dict[str, float]) -> list[Comparison]:
    """By likelihood, which decides, and what is shown beside it."""
    return [Comparison(text, candidate[name], champion[name], name == "nll") for name, text in MEASURES.items()]


def _mean(values: Sequence[np.ndarray]) -> float:
    whole = np.concatenate(values) if values else np.zeros(0)
    finite = whole[~np.isnan(whole)]
    return float(finite.mean(dtype=np.float64)) if finite.size else float("nan")
