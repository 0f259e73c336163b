"""Interface and registry of detectors.

A detector is a small class with `fit(store, split)` and `score_windows(windows)`, decorated with `@register`.
`docs/new-detector.md` shows a complete example.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import pandas as pd

from benchmarks.anomaly.tiers import Run, Tier
from cubeprep.store import Windows, WindowStore

# floor: does not depend on the galaxy's physics. classical: no network. paper: the paper's networks. network: other
# networks. ours: the model and score of `cubescout score`.
Group = Literal["floor", "classical", "network", "paper", "ours"]
SCORED_SPLIT = "test"


@dataclass(frozen=True)
class Scored:
    """Scores of galaxies, in the order of their rows.

    Attributes:
        score: [row] score; higher is more unusual.
        spaxels: [row, y, x] contribution of each spaxel to the score, or None.
        lines: [row, line] contribution of each line, or None.
        variants: [row] other scores of the same detector, by name; each becomes a row of the table.
        hypotheses: [row] names of `modeling.scoring.hypotheses.naming.NAMES`, or None.
        latents: [row, dimension] latents of each galaxy by a network, or None.
    """

    score: np.ndarray
    spaxels: np.ndarray | None = None
    lines: np.ndarray | None = None
    variants: dict[str, np.ndarray] = field(default_factory=dict)
    hypotheses: np.ndarray | None = None
    latents: np.ndarray | None = None

    @classmethod
    def joined(cls, parts: Sequence["Scored"]) -> "Scored":
        """Scores of the rows of all parts."""
        return cls(
            np.concatenate([part.score for part in parts]),
            _joined([part.spaxels for part in parts]),
            _joined([part.lines for part in parts]),
            {name: np.concatenate([part.variants[name] for part in parts]) for name in parts[0].variants},
            _joined([part.hypotheses for part in parts]),
            _joined([part.latents for part in parts]),
        )


class Detector(ABC):
    """Base class of detectors, which learn typical galaxies from a training sample and score others.

    Attributes:
        name: name in the tables.
        group: group in the tables; see `Group`.
        cost: name of the tier's list of runs that the detector takes part in.
        alone: whether its training takes so long that it is a task of its own; others share one that reads the data.
        training: summary of the training, such as its best epoch; kept with the result.
    """

    name: str
    group: Group
    cost: Literal["runs", "network_runs", "slow_runs", "paper_runs"] = "runs"
    alone: bool = False
    training: str = ""

    def __init__(self, tier: Tier, run: Run) -> None:
        self.tier, self.run = tier, run

    @abstractmethod
    def fit(self, store: WindowStore, split: str) -> None:
        """Learns from one split of a store; its split `validation`, which is clean, may be used to select an epoch."""

    @abstractmethod
    def score_windows(self, windows: Windows) -> Scored:
        """Scores of the given rows; called for each shard of the split `SCORED_SPLIT` of another store in turn."""

    def score_real(self, windows: Windows, rows: pd.DataFrame) -> np.ndarray:
        """Scores [row] of real galaxies and copies of them, of another survey than the training sample."""
        return self.score_windows(windows).score


DETECTORS: dict[str, type[Detector]] = {}
DetectorClass = TypeVar("DetectorClass", bound=type[Detector])


def register(detector: DetectorClass) -> DetectorClass:
    """Class decorator that registers a detector.

    Raises:
        ValueError: the name is already in use.
    """
    if detector.name in DETECTORS:
        raise ValueError(f"two detectors are called {detector.name}")
    DETECTORS[detector.name] = detector
    return detector


def shards(store: WindowStore, split: str) -> Iterator[Windows]:
    """Yields the valid rows of a split, one shard at a time."""
    for shard in range(store.num_shards(split)):
        windows = store.read_shard(split, shard)
        if len(windows):
            yield windows


def observed_shards(store: WindowStore, split: str) -> Iterator[Windows]:
    """Yields the galaxies of a split as observed, one shard at a time."""
    return (windows.observed for windows in shards(store, split))


def mapped(store: WindowStore, split: str, function: Callable[[Windows], np.ndarray]) -> np.ndarray:
    """Values [galaxy, ...] of a function of galaxies as observed, over a whole split.

    The noisier and shifted views that networks train on would use up components of linear methods.
    """
    return np.concatenate([function(windows) for windows in observed_shards(store, split)])


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found else None
