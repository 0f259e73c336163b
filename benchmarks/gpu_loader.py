"""A store of plain NumPy files for `benchmarks.gpu`, which may run where there is no Zarr.

The loader is the one of trainings, with its threads, shuffle buffer and page-locked batches; shards are read again from
their files, which the system caches, and need no decompression.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.gpu_cases import Preset
from modeling.training import loader as of_training
from modeling.training.loader import Batch, Loader
from modeling.training.views import Views

ROWS_PER_SHARD = 32
# Files are read several times an epoch, so that it lasts longer than its start.
MOST_FILES = 16


@dataclass
class Rows:
    """Part of `Windows` that `Loader` reads."""

    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray


class FileStore:
    """Part of a `WindowStore` that `Loader` uses: shards of noise, one file for each array."""

    def __init__(self, folder: Path, preset: Preset, num_shards: int) -> None:
        """Writes the shards."""
        self.path, self.num_shards = str(folder), num_shards
        self.attrs: dict[str, Any] = {"splits": {"train": {"num_views": 1, "galaxies_per_shard": ROWS_PER_SHARD}}}
        shape = (ROWS_PER_SHARD, *preset.shape, preset.shape[2])
        rng = np.random.default_rng(0)
        for shard in range(min(num_shards, MOST_FILES)):
            np.save(folder / f"{shard}.flux.npy", rng.standard_normal(shape, dtype=np.float32))
            np.save(folder / f"{shard}.ivar.npy", np.ones(shape, np.float32))
            np.save(folder / f"{shard}.mask.npy", (rng.random(shape) < 0.05).astype(np.uint8))

    def coordinate(self, split: str, name: str) -> np.ndarray:
        """Names of rows, which are numbers, or their validity, which is always true."""
        number = self.num_shards * ROWS_PER_SHARD
        return np.ones(number, bool) if name == "valid" else np.arange(number).astype(str)

    def read_shard(self, split: str, shard: int) -> Rows:
        """One shard."""
        return Rows(
            *(np.load(Path(self.path) / f"{shard % MOST_FILES}.{name}.npy") for name in ("flux", "ivar", "mask"))
        )


def loader_vs_memory(device: str, preset: Preset, num_shards: int, wait: Callable[[], None]) -> float:
    """Rate of an epoch on batches of the loader over that on batches in page-locked memory."""
    with _loader(device, preset, num_shards) as loader:
        steps = loader.num_batches()
        trainer = preset.trainer(device, 10 * steps)

        def seconds(batches: Iterable[Batch]) -> float:
            began = time.perf_counter()
            trainer.train_epoch(batches, lambda event, metrics: None)
            wait()
            return time.perf_counter() - began

        kept = [batch for _, batch in zip(range(4), loader.training(0), strict=False)]
        in_memory = [kept[number % len(kept)] for number in range(steps)]
        seconds(in_memory)
        began = time.perf_counter()
        rows = sum(len(batch["flux"]) for batch in loader.training(0))
        rate = rows / (time.perf_counter() - began)
        print(f"loader alone: {rate:.0f} samples/s, {loader.readers} threads read and {loader.makers} make batches")
        memory, disk = (
            min(seconds(source()) for _ in range(3)) for source in (lambda: in_memory, lambda: loader.training(0))
        )
        return memory / disk


@contextmanager
def _loader(device: str, preset: Preset, num_shards: int) -> Iterator[Loader]:
    # Views are read from a configuration whose parser this machine may lack.
    observed = Views(1, 0, None)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as name, mock.patch.object(of_training.Views, "of", return_value=observed):
        store: Any = FileStore(Path(name), preset, num_shards)
        options = {"batch_size": preset.train.batch_size, "cache_mib": 0, "pin_memory": device == "cuda"}
        yield Loader(store, "train", **options)
