"""Context of a training loop: rank, device, reports and checkpoints.

The loop in `fit.py` takes any `Context`. `LocalContext` is one process; `ray_train.RayContext` is one of many.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

Metrics = dict[str, float]
# Called during a training with ("step", {epoch, step, num_steps, loss}) and ("epoch", the epoch's metrics).
Listener = Callable[[str, Metrics], None]


class Context(Protocol):
    """One process of a training."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0; rank 0 writes checkpoints."""

    @property
    def world_size(self) -> int:
        """Number of processes that share each global batch."""

    @property
    def device(self) -> torch.device:
        """Device of the model."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """Model to call in training, such as one in `DistributedDataParallel`."""

    def sum(self, values: list[float]) -> list[float]:
        """Sums of the values over all processes."""

    def report(self, metrics: Metrics | None, checkpoint: Path | None) -> None:
        """Takes an epoch's metrics, and on rank 0 a checkpoint directory, which is copied before this returns.

        `metrics` is None within an epoch. All ranks report together.
        """

    def resume(self) -> Any:
        """Context manager that yields the directory of the last checkpoint, or None at the start of a run."""


class LocalContext:
    """Context of a single process; with a `directory` it keeps the last checkpoint, as `last/`, and all metrics."""

    rank = 0
    world_size = 1

    def __init__(self, directory: Path | None = None, device: str = "cpu") -> None:
        self.directory = directory
        self.device = torch.device(device)
        self.history: list[Metrics] = []

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def sum(self, values: list[float]) -> list[float]:
        """The values themselves."""
        return values

    def report(self, metrics: Metrics | None, checkpoint: Path | None) -> None:
        """Keeps the metrics and the checkpoint; a crash in between leaves the previous checkpoint."""
        if metrics is not None:
            self.history.append(metrics)
        if self.directory is None or checkpoint is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        last, new, old = (self.directory / name for name in ("last", "last.new", "last.old"))
        shutil.rmtree(new, ignore_errors=True)
        # Two renames, since one cannot replace a directory: after a crash in between, `resume` takes `last.old`.
        shutil.copytree(checkpoint, new)
        if last.exists():
            shutil.rmtree(old, ignore_errors=True)
            last.rename(old)
        new.rename(last)
        shutil.rmtree(old, ignore_errors=True)
        if metrics is not None:
            with (self.directory / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(metrics) + "\n")

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        """The last checkpoint, if there is one; `last.old` after a crash between the two renames."""
        names = ("last", "last.old") if self.directory else ()
        present = [self.directory / name for name in names if self.directory and (self.directory / name).is_dir()]
        yield present[0] if present else None


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Temporary directory for a checkpoint until it is reported."""
    with tempfile.TemporaryDirectory(prefix="cubescout-checkpoint-") as name:
        yield Path(name)
