"""Running means of a training's metrics over galaxies.

Means of batches, of ranks and of the parts of an interrupted epoch add up in any order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor


class Summing(Protocol):
    """Anything that sums values over ranks; every `context.Context` does."""

    def sum(self, values: list[float]) -> list[float]:
        """Sums of the values over all processes."""


class RunningMeans:
    """Sums and counts of named metrics, each of one or more columns; NaN does not count.

    Attributes:
        totals: [column] float64 of each metric.
        counts: [column] galaxies behind each total.
    """

    def __init__(self) -> None:
        self.totals: dict[str, np.ndarray] = {}
        self.counts: dict[str, np.ndarray] = {}

    @classmethod
    def empty(cls, sizes: Mapping[str, int]) -> "RunningMeans":
        """Means of no galaxies yet, for metrics whose names and columns are known beforehand."""
        means = cls()
        means.totals = {name: np.zeros(size) for name, size in sizes.items()}
        means.counts = {name: np.zeros(size) for name, size in sizes.items()}
        return means

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Adds galaxies; each metric is [B] or [B, column], NaN where a galaxy does not count."""
        for name, tensor in metrics.items():
            # float64 on the CPU: an epoch sums many small float32 (or bfloat16) values.
            values = tensor.detach().double().cpu().numpy().reshape(len(tensor), -1)
            known = ~np.isnan(values)
            self.totals[name] = self.totals.get(name, 0.0) + np.where(known, values, 0).sum(axis=0)
            self.counts[name] = self.counts.get(name, 0.0) + known.sum(axis=0)

    def reduce(self, ranks: Summing) -> "RunningMeans":
        """Means over all ranks, which must hold the same metrics in the same order."""
        # One vector, so one all-reduce for all metrics.
        flat = np.concatenate([*self.totals.values(), *self.counts.values()])
        summed = np.array(ranks.sum(flat.tolist()))
        sizes = [len(column) for column in self.totals.values()]
        parts = np.split(summed, np.cumsum([*sizes, *sizes])[:-1])
        means = RunningMeans()
        means.totals = dict(zip(self.totals, parts[: len(sizes)], strict=True))
        means.counts = dict(zip(self.totals, parts[len(sizes) :], strict=True))
        return means

    def values(self, name: str) -> np.ndarray:
        """Means [column] of one metric; NaN where no galaxy counts."""
        total, count = self.totals[name], self.counts[name]
        return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

    def by_name(self, prefix: str, columns: Mapping[str, Sequence[str]] | None = None) -> dict[str, float]:
        """Means as `PREFIX_NAME`, and as `PREFIX_NAME/COLUMN` where columns are named.

        Means of no galaxy are left out, and so are metrics of several unnamed columns.
        """
        shown: dict[str, float] = {}
        for name in self.totals:
            values = self.values(name)
            labels = [f"/{column}" for column in (columns or {}).get(name, ())] or ([""] if len(values) == 1 else [])
            shown |= {f"{prefix}_{name}{label}": float(value) for label, value in zip(labels, values, strict=False)}
        return {name: value for name, value in shown.items() if not np.isnan(value)}

    def to_json(self) -> dict[str, Any]:
        """Totals and counts as JSON values, for `from_json`."""
        return {name: [self.totals[name].tolist(), self.counts[name].tolist()] for name in self.totals}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "RunningMeans":
        """Running means from the state that `to_json` returned."""
        means = cls()
        for name, (totals, counts) in state.items():
            means.totals[name], means.counts[name] = np.array(totals), np.array(counts)
        return means
