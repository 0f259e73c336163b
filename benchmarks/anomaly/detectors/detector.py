"""The interface of detectors and their registry.

A detector is one small class with `fit(store, split)` and `score(store)`, decorated with `@register`.
`docs/benchmark.md` shows one in full.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from benchmarks.anomaly.tiers import Run, Tier
from cubeprep.store import Windows, WindowStore

# floor: knows nothing of the galaxy's physics. classical: no network. paper: the paper's. network: other networks.
# ours: what `cubescout score` does.
Group = Literal["floor", "classical", "network", "paper", "ours"]
SCORED_SPLIT = "test"


@dataclass(frozen=True)
class Scored:
    """Scores of all galaxies of a store, in the order of its rows.

    Attributes:
        score: [row] higher is more unusual.
        spaxels: [row, y, x] how much each spaxel adds to that, or None.
        lines: [row, line] the same of each line, or None.
        variants: other scores that the same detector offers, by name; each becomes a row of the table.
    """

    score: np.ndarray
    spaxels: np.ndarray | None = None
    lines: np.ndarray | None = None
    variants: dict[str, np.ndarray] = field(default_factory=dict)


class Detector(ABC):
    """Something that learns what is usual and scores galaxies.

    Attributes:
        name: as the table shows it.
        group: see `Group`.
        cost: which of the tier's runs it takes part in.
    """

    name: str
    group: Group
    cost: Literal["runs", "network_runs", "slow_runs"] = "runs"

    def __init__(self, tier: Tier, run: Run) -> None:
        self.tier, self.run = tier, run

    @abstractmethod
    def fit(self, store: WindowStore, split: str) -> None:
        """Learns from one split of a store; `validation` of the same store, which is clean, may choose an epoch."""

    def score(self, store: WindowStore) -> Scored:
        """Scores the split `test` of another store, shard by shard."""
        parts = [self.score_windows(windows) for windows in shards(store, SCORED_SPLIT)]
        return Scored(
            np.concatenate([part.score for part in parts]),
            _joined([part.spaxels for part in parts]),
            _joined([part.lines for part in parts]),
            {name: np.concatenate([part.variants[name] for part in parts]) for name in parts[0].variants},
        )

    @abstractmethod
    def score_windows(self, windows: Windows) -> Scored:
        """Scores some rows."""


DETECTORS: dict[str, type[Detector]] = {}
DetectorClass = TypeVar("DetectorClass", bound=type[Detector])


def register(detector: DetectorClass) -> DetectorClass:
    """Class decorator: makes a detector known.

    Raises:
        ValueError: another has its name.
    """
    if detector.name in DETECTORS:
        raise ValueError(f"two detectors are called {detector.name}")
    DETECTORS[detector.name] = detector
    return detector


def shards(store: WindowStore, split: str) -> Iterator[Windows]:
    """The rows of a split, a shard at a time."""
    for shard in range(store.num_shards(split)):
        windows = store.read_shard(split, shard)
        if len(windows):
            yield windows


def mapped(store: WindowStore, split: str, function: Callable[[Windows], np.ndarray]) -> np.ndarray:
    """[row, ...] of a function of rows, over a whole split."""
    return np.concatenate([function(windows) for windows in shards(store, split)])


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found else None
