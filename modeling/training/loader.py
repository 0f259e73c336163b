"""Batches from a window store: whole shards in a seeded random order, through a shuffle buffer, disjoint over ranks.

The order of rows is a pure function of (seed, epoch, streams), made before anything is read: see `epoch_order`. There
are as many streams as workers in the training's configuration. So a training that is resumed on more or fewer ranks
sees the same batches.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress, zip_longest
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from modeling.training.rows import copy_all, set_bad_to_zero
from modeling.training.views import Views

if TYPE_CHECKING:  # the loader takes anything that gives shards, also where there is no Zarr
    from cubeprep.store import WindowStore

Batch = dict[str, Tensor]
RowRef = tuple[int, int]  # shard, and position among its valid rows, views that the loader makes included
# Largest numbers of threads; each reader holds a shard, and each maker a batch.
MOST_READERS = 6
MOST_MAKERS = 4


@dataclass(frozen=True)
class RankShare:
    """Part of a split that one of several ranks reads."""

    rank: int = 0
    world_size: int = 1

    def bounds(self, num_rows: int) -> tuple[int, int]:
        """First row of this rank in the common order, and the one after its last; sizes differ by one at most."""
        return self.rank * num_rows // self.world_size, (self.rank + 1) * num_rows // self.world_size


@dataclass(frozen=True)
class Step:
    """Rows of a batch that belong to one rank.

    Attributes:
        rows: at least one.
        weight: of their mean loss, so that the mean over ranks is the mean over the rows of all ranks.
    """

    rows: list[RowRef]
    weight: float = 1.0


def epoch_order(
    rows_per_shard: Sequence[int], *, seed: int, epoch: int, streams: int, buffer_rows: int
) -> list[RowRef]:
    """All rows in the order of one epoch: one row of each stream in turn.

    All streams share one order of shards, and each takes a contiguous part of it, so that only shards at the borders
    belong to two. Within its part a stream draws rows from a buffer that is filled shard by shard.

    Args:
        rows_per_shard: [shard] number of rows.
        seed: of the training.
        epoch: from 0.
        streams: number of streams.
        buffer_rows: rows that the shuffle buffer holds.
    """
    shards = np.random.default_rng([seed, epoch]).permutation(len(rows_per_shard))
    rows = [(int(shard), row) for shard in shards for row in range(rows_per_shard[shard])]
    orders = []
    for stream in range(streams):
        start, stop = RankShare(stream, streams).bounds(len(rows))
        orders.append(_draw(rows[start:stop], np.random.default_rng([seed, epoch, stream]), buffer_rows))
    return [row for turn in zip_longest(*orders) for row in turn if row is not None]


def split_steps(order: Sequence[RowRef], batch_size: int, share: RankShare) -> list[Step]:
    """One rank's part of each global batch, which is `batch_size` rows of the order, or fewer at its end.

    With as many ranks as streams, each rank reads one stream and so shards of its own.
    """
    steps = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        mine = list(batch[(share.rank - start) % share.world_size :: share.world_size])
        # A rank without a row must still take part in the all-reduce: with a row that has no weight.
        steps.append(Step(mine or [batch[0]], len(mine) * share.world_size / len(batch)))
    return steps


def _draw(stream: list[RowRef], rng: np.random.Generator, buffer_rows: int) -> list[RowRef]:
    """Rows of a stream, shuffled through a buffer."""
    # A buffer, since a full shuffle would read a shard for nearly every row.
    order, buffer = [], []
    for row in stream:
        buffer.append(row)
        if len(buffer) > buffer_rows:
            order.append(buffer.pop(int(rng.integers(len(buffer)))))
    while buffer:
        order.append(buffer.pop(int(rng.integers(len(buffer)))))
    return order


class Loader:
    """Batches of one split for one rank.

    Each batch is a dict of tensors [B, line, sample, y, x]: `flux` float32, 0 where not good; `ivar` float32; `good`
    bool; and the scalar `weight` of `Step` where it is not 1. While a model works on one batch, threads read
    the next shards, and others assemble the next batches from them, views included. There are more of them where there
    are more cores. Shards are kept in memory over epochs up to `cache_mib`. Results depend on neither.

    Attributes:
        readers: threads that read shards, and shards that are read ahead.
        makers: threads that make batches, and batches that are made ahead but for one.
    """

    def __init__(
        self,
        store: WindowStore,
        split: str,
        *,
        batch_size: int,
        share: RankShare | None = None,
        seed: int = 0,
        buffer_rows: int = 256,
        cache_mib: int = 1024,
        pin_memory: bool = False,
        without: Callable[[str], bool] | None = None,
    ) -> None:
        """Looks up how many rows each shard holds; reads no windows yet.

        Args:
            store: a finished store.
            split: one of its splits.
            batch_size: rows of one batch over all ranks.
            share: this rank's part; all of it by default.
            seed: of the order.
            buffer_rows: rows that the shuffle buffer holds.
            cache_mib: memory in MiB for shards that are kept.
            pin_memory: whether batches are in page-locked memory, from which a GPU copies asynchronously.
            without: whether to leave out the galaxies of a mangaid, as if the split did not hold them.

        Raises:
            ValueError: the split has no rows, or the batch fewer than there are ranks.
        """
        self.share = share or RankShare()
        if batch_size < self.share.world_size:
            raise ValueError(f"train.batch_size is {batch_size}, too few galaxies for {self.share.world_size} workers")
        self.store, self.split, self.seed, self.buffer_rows = store, split, seed, buffer_rows
        self.batch_size = batch_size
        self.views = Views.of(store, split)
        self._kept = rows_kept(store, split, without)
        names = names_per_shard(store, split)
        self.plateifu = [list(compress(*shard)) for shard in zip(names, self._kept, strict=True)]
        self.rows_per_shard = [len(names) * self.views.count for names in self.plateifu]
        if not sum(self.rows_per_shard):
            but = " but those left out" if without else ""
            raise ValueError(f"{store.path}: split {split!r} holds no galaxies{but}")
        self._cache: dict[int, Batch] = {}
        self._cache_lock = Lock()
        self._cache_left = cache_mib * 2**20
        self._pin_memory = pin_memory
        cores = cores_of_rank(self.share.world_size)
        self.readers = min(MOST_READERS, max(2, cores // 2))
        self.makers = min(MOST_MAKERS, max(1, cores // 4))

    def num_batches(self) -> int:
        """Number of batches of a training epoch, the same on all ranks."""
        return -(-sum(self.rows_per_shard) // self.batch_size)

    def training(self, epoch: int, first_step: int = 0, streams: int | None = None) -> Iterator[Batch]:
        """This rank's part of the batches of one epoch, from `first_step` on; the last may be smaller.

        Args:
            epoch: from 0.
            first_step: from 0.
            streams: of `epoch_order`; as many as ranks by default.
        """
        order = epoch_order(
            self.rows_per_shard,
            seed=self.seed,
            epoch=epoch,
            streams=streams or self.share.world_size,
            buffer_rows=self.buffer_rows,
        )
        return self._batches(split_steps(order, self.batch_size, self.share)[first_step:])

    def evaluation(self) -> Iterator[Batch]:
        """Batches of this rank with each row once, in the order of the store."""
        rows = [(shard, row) for shard, count in enumerate(self.rows_per_shard) for row in range(count)]
        start, stop = self.share.bounds(len(rows))
        size = -(-self.batch_size // self.share.world_size)
        return self._batches([Step(rows[k : min(k + size, stop)]) for k in range(start, stop, size)])

    def first(self, num_rows: int = 64, num_shards: int = 4) -> Batch:
        """Some galaxies of a few shards as observed, the same on all ranks."""
        # From shards spread over the split, not from its first rows alone.
        held = [shard for shard, count in enumerate(self.rows_per_shard) if count]
        parts = [self.read_shard(shard) for shard in held[:: -(-len(held) // num_shards)]]
        kept = -(-num_rows // len(parts))
        stored_views = self.store.attrs["splits"][self.split]["num_views"]
        return {name: torch.cat([part[name][::stored_views][:kept] for part in parts]) for name in parts[0]}

    def _batches(self, steps: list[Step]) -> Iterator[Batch]:
        """Batches of some steps in order, made by threads that are a little ahead."""
        with (
            ThreadPoolExecutor(self.readers, thread_name_prefix="shards") as readers,
            ThreadPoolExecutor(self.makers, thread_name_prefix="batches") as makers,
        ):
            rows = _Rows(self, [ref for step in steps for ref in step.rows], readers)
            ahead: deque[Future[Batch]] = deque()
            try:
                for step in steps:
                    # Shards are looked up here, in the order of the rows, whichever batch is ready first.
                    ahead.append(makers.submit(self._batch, [(rows.take(ref), ref) for ref in step.rows], step.weight))
                    if len(ahead) > self.makers + 1:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:  # the consumer has stopped
                    future.cancel()

    def _batch(self, rows: list[tuple[Future[Batch], RowRef]], weight: float) -> Batch:
        found = [self.row(shard.result(), ref) for shard, ref in rows]
        batch = {name: self._empty(len(rows), values) for name, values in found[0].items()}
        # Not by torch, which in this thread would start threads of its own, beside those of the model.
        copy_all(
            [(row[name].numpy(), to.numpy()[place]) for name, to in batch.items() for place, row in enumerate(found)]
        )
        if weight != 1:
            batch["weight"] = torch.tensor(weight)
        return batch

    def _empty(self, num_rows: int, row: Tensor) -> Tensor:
        """Memory for rows like this one."""
        shape = num_rows, *row.shape
        if self._pin_memory:
            return torch.empty(shape, dtype=row.dtype, pin_memory=True)
        # By NumPy, which asks for large pages: the first use of small ones takes longer than the copy.
        return torch.from_numpy(np.empty(shape, row.numpy().dtype))

    def read_shard(self, shard: int) -> Batch:
        """All valid rows of a shard that are not left out, as tensors; from memory if the shard is kept there."""
        if shard in self._cache:
            return self._cache[shard]
        windows = self.store.read_shard(self.split, shard)
        if not all(self._kept[shard]):
            windows = windows.select(np.array(self._kept[shard]))
        tensors = tensors_of(windows.flux, windows.ivar, windows.mask)
        num_bytes = sum(tensor.nbytes for tensor in tensors.values())
        with self._cache_lock:
            if num_bytes <= self._cache_left:
                self._cache_left -= num_bytes
                self._cache[shard] = tensors
        return tensors

    def row(self, tensors: Batch, ref: RowRef) -> Batch:
        """One row from the tensors of its shard; views that the store does not hold are made here."""
        shard, (position, view) = ref[0], divmod(ref[1], self.views.count)
        observed = {name: tensor[position] for name, tensor in tensors.items()}
        if not view:
            return observed
        arrays = {name: tensor.numpy() for name, tensor in observed.items()}
        return tensors_of(*self.views.make(self.plateifu[shard][position], view, **arrays))


class _Rows:
    """Reads shards in the order of their first rows, some ahead, and releases each after its last row."""

    def __init__(self, loader: Loader, order: list[RowRef], readers: ThreadPoolExecutor) -> None:
        self._loader = loader
        self._readers = readers
        self._left = Counter(shard for shard, _ in order)
        self._to_come = iter(dict(self._left))
        self._open: dict[int, Future[Batch]] = {}
        self._unused: deque[int] = deque()
        for _ in range(loader.readers):
            self._read_ahead()

    def _read_ahead(self) -> None:
        """Starts to read the next shard, in the order of first rows."""
        shard = next(self._to_come, None)
        if shard is not None:
            self._open[shard] = self._readers.submit(self._loader.read_shard, shard)
            self._unused.append(shard)

    def take(self, ref: RowRef) -> Future[Batch]:
        """The shard of a row, which is used once."""
        shard, _ = ref
        tensors = self._open[shard]
        if self._unused and shard == self._unused[0]:
            self._unused.popleft()
            self._read_ahead()
        self._left[shard] -= 1
        if not self._left[shard]:
            del self._open[shard]
        return tensors


def cores_of_rank(world_size: int) -> int:
    """Cores of this machine for each of the ranks on it."""
    # Set by Ray Train and torchrun; without them all ranks may be on this machine.
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // ranks)


def tensors_of(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray) -> Batch:
    """Flux, ivar and good samples as tensors that share the arrays' memory, 0 where not good."""
    good = set_bad_to_zero(flux, ivar, mask)  # in place, since the arrays are ours
    arrays = {"flux": flux, "ivar": ivar, "good": good}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def rows_kept(store: WindowStore, split: str, without: Callable[[str], bool] | None) -> list[list[bool]]:
    """Whether each valid row is kept, shard by shard; views and repeat observations go with their mangaid."""
    objects = names_per_shard(store, split, "mangaid")
    return [[without is None or not without(mangaid) for mangaid in shard] for shard in objects]


def names_per_shard(store: WindowStore, split: str, name: str = "plateifu") -> list[list[str]]:
    """Galaxy of each valid row that the store holds, shard by shard; `name` is `plateifu` or `mangaid`."""
    attrs = store.attrs["splits"][split]
    step = attrs["num_views"] * attrs["galaxies_per_shard"]
    valid, names = store.coordinate(split, "valid"), store.coordinate(split, name)
    starts = range(0, len(valid), step)
    return [names[start : start + step][valid[start : start + step]].tolist() for start in starts]
