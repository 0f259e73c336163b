import os
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from cubeprep.storage import StorageError
from cubeprep.store import Windows, WindowStore
from modeling.training.loader import (
    Batch,
    Loader,
    RankShare,
    RowRef,
    cores_of_rank,
    epoch_order,
    split_steps,
    tensors_of,
)
from tests.synthetic import synthetic_store

SHAPE = (3, 4, 8)
ROWS = [8, 8, 3, 8, 5]  # shards of unequal size, as rejected galaxies leave them


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return synthetic_store(tmp_path_factory.mktemp("data") / "w.zarr", shape=SHAPE, num_train=11, galaxies_per_shard=2)


def order(*, streams: int = 1, epoch: int = 0, seed: int = 0, buffer_rows: int = 10) -> list[RowRef]:
    return epoch_order(ROWS, seed=seed, epoch=epoch, streams=streams, buffer_rows=buffer_rows)


@pytest.mark.parametrize("streams", [1, 2, 3, 5, 40])
def test_an_epoch_visits_each_row_once(streams: int) -> None:
    assert sorted(order(streams=streams)) == [(shard, row) for shard, rows in enumerate(ROWS) for row in range(rows)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("streams", [1, 2, 5])
def test_ranks_share_the_same_batches_however_many_they_are(streams: int, world_size: int) -> None:
    rows = order(streams=streams)
    ranks = [split_steps(rows, 6, RankShare(rank, world_size)) for rank in range(world_size)]
    assert {len(steps) for steps in ranks} == {6}
    for number, parts in enumerate(zip(*ranks, strict=True)):
        batch = rows[6 * number : 6 * number + 6]
        seen = [row for part in parts if part.weight for row in part.rows]
        assert sorted(seen) == sorted(batch)
        # The mean over ranks of weighted means is the mean over the batch.
        for part in parts:
            assert part.rows
            assert part.weight in (0, len(part.rows) * world_size / len(batch))


def test_with_as_many_ranks_as_streams_only_shards_at_the_seams_are_read_twice() -> None:
    shards = [8] * 6
    for world_size in (2, 3):
        rows = epoch_order(shards, seed=0, epoch=0, streams=world_size, buffer_rows=10)
        steps = [split_steps(rows, 7, RankShare(rank, world_size)) for rank in range(world_size)]
        readers = Counter(shard for rank in steps for shard in {ref[0] for step in rank for ref in step.rows})
        assert set(readers.values()) == {1}


def test_order_changes_with_epoch_and_seed_and_nothing_else() -> None:
    assert order(streams=2, epoch=1) == order(streams=2, epoch=1)
    assert order(streams=2, epoch=1) != order(streams=2, epoch=2)
    assert order(streams=2, epoch=1, seed=1) != order(streams=2, epoch=1)


def test_each_epoch_has_its_own_order_of_shards() -> None:
    orders = {tuple(dict.fromkeys(shard for shard, _ in order(epoch=epoch, buffer_rows=0))) for epoch in range(5)}
    assert len(orders) >= 4


def test_buffer_mixes_shards() -> None:
    def switches(order: list[RowRef]) -> int:
        return sum(a[0] != b[0] for a, b in pairwise(order))

    assert switches(order(buffer_rows=20)) > switches(order(buffer_rows=1)) >= len(ROWS) - 1


def test_batches_hold_the_rows_of_the_store(store: WindowStore) -> None:
    loader = Loader(store, "train", batch_size=4)
    batches = list(loader.training(0))
    assert len(batches) == loader.num_batches() == 5
    assert [len(batch["flux"]) for batch in batches] == [4, 4, 4, 4, 4]
    assert sum(loader.rows_per_shard) == store.num_rows("train") == 20
    read = torch.cat([batch["flux"] for batch in batches])
    stored = np.concatenate([store.read_shard("train", k).flux for k in range(store.num_shards("train"))])
    sums = np.nansum(stored, axis=(1, 2, 3, 4))
    np.testing.assert_allclose(np.sort(read.sum(dim=(1, 2, 3, 4)).numpy()), np.sort(sums), rtol=1e-4)
    good = torch.cat([batch["good"] for batch in batches])
    assert good.dtype == torch.bool
    assert 0 < good.sum() < good.numel()
    assert (read[~good] == 0).all()
    assert (torch.cat([batch["ivar"] for batch in batches])[good] > 0).all()


def test_memory_does_not_change_the_batches(store: WindowStore) -> None:
    kept, read = Loader(store, "train", batch_size=4), Loader(store, "train", batch_size=4, cache_mib=0)
    for epoch in (0, 1):
        for a, b in zip(kept.training(epoch), read.training(epoch), strict=True):
            assert all(torch.equal(a[name], b[name]) for name in ("flux", "ivar", "good"))
    assert kept._cache
    assert not read._cache


def test_no_more_shards_are_kept_than_the_memory_holds(store: WindowStore) -> None:
    loader = Loader(store, "train", batch_size=4)
    bytes_per_shard = sum(tensor.nbytes for tensor in loader.read_shard(0).values())
    loader = Loader(store, "train", batch_size=4, cache_mib=2.5 * bytes_per_shard / 2**20)  # type: ignore[arg-type]
    list(loader.training(0))
    assert len(loader._cache) == 2 < store.num_shards("train")


def test_global_batch_is_the_same_for_any_number_of_ranks(store: WindowStore) -> None:
    for world_size in (1, 2, 4):
        loaders = [Loader(store, "train", batch_size=4, share=RankShare(r, world_size)) for r in range(world_size)]
        first = [next(loader.training(0)) for loader in loaders]
        assert sum(len(batch["flux"]) for batch in first) == 4
        assert {loader.num_batches() for loader in loaders} == {5}


def test_evaluation_sees_each_row_once_over_all_ranks(store: WindowStore) -> None:
    seen = [
        len(batch["flux"])
        for rank in range(3)
        for batch in Loader(store, "train", batch_size=3, share=RankShare(rank, 3)).evaluation()
    ]
    assert sum(seen) == 20


def test_more_workers_than_galaxies_in_a_batch_are_refused(store: WindowStore) -> None:
    with pytest.raises(ValueError, match="batch_size is 4, too few galaxies for 5 workers"):
        Loader(store, "train", batch_size=4, share=RankShare(0, 5))


def test_a_split_without_galaxies_is_refused(tmp_path: Path) -> None:
    empty = synthetic_store(tmp_path / "w.zarr", shape=SHAPE, num_train=1, num_views=1)
    with pytest.raises(ValueError, match="'train' holds no galaxies"):
        Loader(empty, "train", batch_size=4)


def test_an_epoch_goes_on_at_any_step(store: WindowStore) -> None:
    loader = Loader(store, "train", batch_size=4, cache_mib=0)
    whole = list(loader.training(1))
    for first_step in (0, 2, 4):
        rest = list(loader.training(1, first_step))
        assert len(rest) == len(whole) - first_step
        for a, b in zip(rest, whole[first_step:], strict=True):
            assert all(torch.equal(a[name], b[name]) for name in a)


def test_each_shard_is_read_once_an_epoch_and_one_ahead(store: WindowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(store, "train", batch_size=4, buffer_rows=1, cache_mib=0)
    loader.readers, loader.makers = 2, 1
    read: list[int] = []
    read_shard = WindowStore.read_shard

    def noting(self: WindowStore, split: str, shard: int) -> Windows:
        read.append(shard)
        return read_shard(self, split, shard)

    monkeypatch.setattr(WindowStore, "read_shard", noting)
    batches = loader.training(0)
    next(batches)
    assert len(read) < store.num_shards("train")
    list(batches)
    assert sorted(read) == [shard for shard, rows in enumerate(loader.rows_per_shard) if rows]


def test_the_number_of_threads_changes_no_batch(store: WindowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(readers: int, makers: int) -> list[Batch]:
        loader = Loader(store, "train", batch_size=3, cache_mib=0)
        loader.readers, loader.makers = readers, makers
        return list(loader.training(1))

    expected = batches(1, 1)
    row, late = Loader.row, iter([0.05, 0.0] * 100)

    def delayed(self: Loader, tensors: Batch, ref: RowRef) -> Batch:
        time.sleep(next(late))  # so that batches are ready in another order than they were asked for
        return row(self, tensors, ref)

    monkeypatch.setattr(Loader, "row", delayed)
    for found, batch in zip(batches(6, 4), expected, strict=True):
        assert all(torch.equal(found[name], batch[name]) for name in batch)


def test_threads_read_and_make_a_bounded_number_ahead(store: WindowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(store, "train", batch_size=1, cache_mib=0, buffer_rows=1)
    loader.readers, loader.makers = 1, 2
    made: list[RowRef] = []
    row = Loader.row
    monkeypatch.setattr(Loader, "row", lambda self, tensors, ref: made.append(ref) or row(self, tensors, ref))
    for taken, _ in enumerate(loader.training(0), 1):
        assert taken <= len(made) <= taken + 3
    assert len(made) == 20


def test_cores_are_shared_by_the_ranks_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert [cores_of_rank(ranks) for ranks in (1, 4, 40)] == [16, 4, 1]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores_of_rank(40) == 8


def test_samples_that_are_not_good_are_zero_and_others_as_stored() -> None:
    values = [1.5, -2.5, -0.0, np.nan, np.inf, -np.inf, 3e38]
    flux, ivar, mask = (
        np.array(array.ravel(), dtype).reshape(2, -1)
        for array, dtype in zip(
            np.meshgrid(values, [2.0, 0.0, -1.0, np.nan, np.inf], [0, 1], indexing="ij"),
            (np.float32, np.float32, np.uint8),
            strict=True,
        )
    )
    good = (mask == 0) & (ivar == 2) & np.isfinite(flux)
    expected = [np.where(good, array, np.float32(0)) for array in (flux, ivar)]
    found = tensors_of(flux, ivar, mask)
    assert good.sum() == 4
    assert np.array_equal(found["good"].numpy(), good)
    for name, array in zip(("flux", "ivar"), expected, strict=True):
        assert found[name].numpy().tobytes() == array.tobytes()


def test_a_shard_that_cannot_be_read_is_an_error_of_the_loop(
    store: WindowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(store, "train", batch_size=4)

    def broken(self: WindowStore, split: str, shard: int) -> Windows:
        raise StorageError("the server is gone")

    monkeypatch.setattr(WindowStore, "read_shard", broken)
    with pytest.raises(StorageError, match="gone"):
        list(loader.training(0))


def test_the_first_rows_are_of_several_shards_and_the_same_on_all_ranks(store: WindowStore) -> None:
    first = [Loader(store, "train", batch_size=4, seed=rank, share=RankShare(rank, 2)).first(6, 3) for rank in range(2)]
    loader = Loader(store, "train", batch_size=4, seed=0)
    shards = [shard for shard, count in enumerate(loader.rows_per_shard) if count]
    views = store.attrs["splits"]["train"]["num_views"]
    chosen = shards[:: -(-len(shards) // 3)]
    expected = torch.cat([loader.read_shard(shard)["flux"][::views][:2] for shard in chosen])
    for batch in first:
        torch.testing.assert_close(batch["flux"], expected, rtol=0, atol=0, equal_nan=True)
        assert len(batch["flux"]) == len(batch["ivar"]) == len(batch["good"]) == len(expected) > 1
