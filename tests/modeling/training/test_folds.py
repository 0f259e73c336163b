from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from cubeprep.config import MistakeError
from cubeprep.store import WindowStore
from modeling.network.autoencoder import make_model
from modeling.network.checkpoint import CheckpointError, load_model, save_model
from modeling.network.config import ModelConfig
from modeling.tracking.models import checkpoint_digest
from modeling.training.config import TrainConfig, TrainingJob
from modeling.training.context import LocalContext
from modeling.training.cross_fitting import check_folds, fold_jobs, folds_of, train_fold
from modeling.training.folds import FOLDER, fold_of, left_out, load_folds, mark_folds
from modeling.training.loader import Loader, names_per_shard
from modeling.training.ray_train import train
from tests.synthetic import synthetic_store

MODEL: dict[str, Any] = dict.fromkeys(
    ("latent_dim", "step_channels", "lstm_channels", "decoder_channels", "spaxel_code"), 4
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    # Observations 1 and 4 are of one object.
    return synthetic_store(
        tmp_path_factory.mktemp("folds") / "w.zarr",
        shape=(3, 4, 16),
        num_train=11,
        galaxies_per_shard=2,
        repeats={4: 1},
    )


def job(store: WindowStore, **train: Any) -> TrainingJob:
    values = {"epochs": 2, "batch_size": 4, "num_workers": 0, "threads": 1, "folds": 2} | train
    return TrainingJob(store=store.path, model=ModelConfig(**MODEL), train=TrainConfig(**values))


def train_all(training: TrainingJob, workspace: Path) -> Path:
    target = workspace / "model"
    storage = str(workspace / "training")
    train(training, name="main", storage=storage, target=target)
    with folds_of(training, target, storage=storage) as jobs:
        for fold_job in jobs:
            train_fold(fold_job, storage=storage, target=target)
    return target


def test_folds_are_balanced_and_depend_on_the_object_alone() -> None:
    folds = Counter(fold_of(f"1-{number}", 5) for number in range(5000))
    assert set(folds) == set(range(5))
    assert all(900 < count < 1100 for count in folds.values())
    # Known values: a model trained by an earlier version must keep its folds, or it would score galaxies that it saw.
    assert [fold_of(f"1-{number}", 5) for number in range(8)] == [3, 0, 2, 1, 0, 0, 2, 3]


@pytest.mark.parametrize(("num", "unseen"), [(2, 1), (5, 1), (5, 2), (7, 3)])
def test_each_galaxy_is_unseen_by_as_many_models_as_folds_are_left_out(num: int, unseen: int) -> None:
    for number in range(50):
        fold = fold_of(f"1-{number}", num)
        assert sum(fold in left_out(model, num, unseen) for model in range(num)) == unseen


@pytest.mark.parametrize("cache_mib", [0, 64])
def test_a_loader_never_yields_what_is_left_out(store: WindowStore, cache_mib: int) -> None:
    shards = list(zip(*(names_per_shard(store, "train", name) for name in ("mangaid", "plateifu")), strict=True))
    seen: Counter[bytes] = Counter()
    for fold in range(2):
        loader = Loader(
            store, "train", batch_size=4, cache_mib=cache_mib, without=lambda name, fold=fold: fold_of(name, 2) == fold
        )
        kept = [[name for mangaid, name in zip(*shard, strict=True) if fold_of(mangaid, 2) != fold] for shard in shards]
        assert loader.plateifu == kept
        rows = [row.numpy().tobytes() for batch in loader.training(0) for row in batch["flux"]]
        wanted = [
            row.numpy().tobytes()
            for shard, ids in enumerate(mangaid for mangaid, _ in shards)
            for row, mangaid in zip(Loader(store, "train", batch_size=1).read_shard(shard)["flux"], ids, strict=True)
            if fold_of(mangaid, 2) != fold
        ]
        assert sorted(rows) == sorted(wanted)
        assert len(list(loader.training(0))) == loader.num_batches()
        seen.update(rows)
    assert len(seen) == store.num_rows("train")
    assert set(seen.values()) == {1}


def test_observations_of_one_object_are_left_out_together(store: WindowStore) -> None:
    ids = [mangaid for shard in names_per_shard(store, "train", "mangaid") for mangaid in shard]
    repeated = Counter(ids).most_common(1)[0][0]
    loader = Loader(store, "train", batch_size=4, without=lambda mangaid: mangaid == repeated)
    assert Counter(ids)[repeated] == 4  # two observations, two views of each
    assert sum(loader.rows_per_shard) == len(ids) - 4


def test_a_shard_of_which_all_is_left_out_is_not_read(store: WindowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = set(names_per_shard(store, "train", "mangaid")[2])
    loader = Loader(store, "train", batch_size=4, cache_mib=0, without=lambda mangaid: mangaid in first)
    read = []
    monkeypatch.setattr(
        loader.store,
        "read_shard",
        lambda split, shard: read.append(shard) or WindowStore.read_shard(store, split, shard),
    )
    list(loader.training(0))
    expected = [shard for shard, ids in enumerate(names_per_shard(store, "train", "mangaid")) if set(ids) - first]
    assert sorted(set(read)) == expected
    assert 2 not in expected


def test_nothing_left_to_train_on_is_refused(store: WindowStore) -> None:
    with pytest.raises(ValueError, match="'train' holds no galaxies but those left out"):
        Loader(store, "train", batch_size=4, without=lambda _: True)


def test_empty_folds_are_named_with_what_to_set(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "w.zarr", shape=(3, 4, 16), num_train=4)
    names = ("1-50", "1-51", "1-52")
    assert [[fold_of(name, num) for name in names] for num in (2, 3)] == [[1, 0, 0], [1, 1, 1]]
    check_folds(job(store, folds=2))
    with pytest.raises(MistakeError) as caught:
        check_folds(job(store, folds=3))
    assert str(caught.value) == (
        f"{store.path}: train.folds is 3, and of 3 objects to train on none falls into fold 0, 2: a hash of its name "
        "decides. Set train.folds=2, or 0 (no cross-fitting)."
    )
    # With two folds left out, two folds are too few.
    with pytest.raises(MistakeError, match=r"into fold 1, (\d+, ){8}10 \.\.\.: .* Set train\.folds=0 \(no"):
        check_folds(job(store, folds=50, left_out=2))


def test_identity_is_of_the_fold_and_the_main_model_is_as_without_folds(store: WindowStore) -> None:
    main, other = job(store), job(store, folds=5, left_out=2)
    assert main.identity("s") == job(store, folds=0).identity("s") == other.identity("s")
    jobs = [*fold_jobs(main), *fold_jobs(other), *fold_jobs(job(store, folds=5))]
    assert len({one.identity("s") for one in [main, *jobs]}) == 13


@pytest.mark.parametrize("values", [{"folds": 1}, {"folds": 2, "left_out": 2}])
def test_leaving_out_all_folds_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="nothing to train on"):
        TrainConfig(**values)
    with pytest.raises(ValidationError, match=r"fold is 3, but train\.folds is 2"):
        TrainingJob(store="w.zarr", train=TrainConfig(folds=2), fold=3)


@pytest.mark.slow
def test_folds_lie_beside_the_main_model_and_a_rerun_trains_nothing(
    store: WindowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = train_all(job(store), tmp_path)
    folds = load_folds(target)
    assert (folds.num, folds.left_out, len(folds.models)) == (2, 1, 2)
    weights = [torch.cat([value.flatten() for value in model.state_dict().values()]) for model in folds.models]
    assert not torch.equal(*weights)
    digest = checkpoint_digest(target)
    steps = []
    monkeypatch.setattr(Loader, "training", lambda *_: steps.append(1))
    monkeypatch.setattr(LocalContext, "report", lambda *_: steps.append(1))
    assert checkpoint_digest(train_all(job(store), tmp_path)) == digest
    assert not steps
    # The registry distinguishes a model with folds from the same one without.
    assert checkpoint_digest(tmp_path / "training/main/last/best") != digest


@pytest.mark.slow
def test_an_interrupted_fold_goes_on(store: WindowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_all(job(store), tmp_path / "whole")
    report = LocalContext.report
    reports = []

    def interrupt(self: LocalContext, metrics: Any, checkpoint: Path | None) -> None:
        reports.append(metrics)
        if len(reports) == 6:  # the second epoch of the second fold
            raise KeyboardInterrupt
        report(self, metrics, checkpoint)

    monkeypatch.setattr(LocalContext, "report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_all(job(store), tmp_path / "parts")
    with pytest.raises(CheckpointError, match="of 2 folds, the models of 1 are missing"):
        load_folds(tmp_path / "parts/model")
    target = train_all(job(store), tmp_path / "parts")
    assert len(reports) == 7
    assert checkpoint_digest(target) == checkpoint_digest(whole)


def test_folds_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    arguments = ModelConfig(**MODEL).arguments((3, 4, 16))
    save_model(tmp_path, make_model(arguments, 0), {})
    assert load_folds(tmp_path).models == ()
    mark_folds(tmp_path, 2, 1)
    assert load_model(tmp_path)[1] == {"folds": {"num": 2, "left_out": 1}}
    save_model(tmp_path / FOLDER / "0", make_model(arguments, 1), {})
    with pytest.raises(CheckpointError, match="of 2 folds, the models of 1 are missing"):
        load_folds(tmp_path)
    save_model(tmp_path / FOLDER / "1", make_model(arguments | {"latent_dim": 5}, 1), {})
    with pytest.raises(CheckpointError, match="the models of 1 are built otherwise"):
        load_folds(tmp_path)
    (tmp_path / FOLDER / "1/model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no readable safetensors file"):
        load_folds(tmp_path)
    save_model(tmp_path, make_model(arguments, 0), {"folds": "two"})
    with pytest.raises(CheckpointError, match="folds is 'two', expected num, at most 1000, and left_out"):
        load_folds(tmp_path)
