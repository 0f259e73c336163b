from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from cubeprep.store import WindowStore
from modeling.network.checkpoint import load_model, save_model
from modeling.network.config import ModelConfig
from modeling.network.make import make_network
from modeling.training.config import StartConfig, TrainConfig, TrainingJob
from modeling.training.context import LocalContext
from modeling.training.cross_fitting import fold_jobs
from modeling.training.ray_train import check_job, train, train_rank
from modeling.training.start import initial_network, objects_seen, publish, seen_before
from tests.synthetic import synthetic_store

AE: dict[str, Any] = dict.fromkeys(
    ("latent_dim", "step_channels", "lstm_channels", "decoder_channels", "spaxel_code"), 4
)
MASKED: dict[str, Any] = {"kind": "masked", "latent_dim": 4, "context_channels": 8, "lstm_channels": 0}
SHAPE = (3, 4, 16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return synthetic_store(tmp_path_factory.mktemp("start") / "w.zarr", shape=SHAPE, num_train=7, num_validation=2)


def saved(folder: Path, store: WindowStore, model: dict[str, Any], **metadata: Any) -> Path:
    """An untrained model of the store's windows, with weights of another seed than that of `job`."""
    network = make_network(ModelConfig(**model), store.shape, store.line_names, seed=7)
    save_model(folder, network, {"line_names": store.line_names} | metadata)
    return folder


def job(store: WindowStore, start: StartConfig | None, model: dict[str, Any], **train: Any) -> TrainingJob:
    values = {"epochs": 1, "batch_size": 8, "num_workers": 0, "threads": 1, "loss": "student-t"} | train
    settings = TrainConfig(**values, start_from=start and start.reference)
    return TrainingJob(store=store.path, model=ModelConfig(**model), train=settings, start=start)


@pytest.mark.parametrize("model", [AE, MASKED])
def test_a_training_starts_with_the_weights_of_the_other_model(
    store: WindowStore, tmp_path: Path, model: dict[str, Any]
) -> None:
    start = publish(saved(tmp_path / "m", store, model), str(tmp_path / "storage"), reference="m")
    trained = train(
        job(store, start, model, lr=1e-9), name="a", storage=str(tmp_path / "storage"), target=tmp_path / "new"
    )
    given, _ = load_model(tmp_path / "m")
    taken, metadata = load_model(trained.directory)
    for (name, one), other in zip(taken.state_dict().items(), given.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6, msg=name)
    assert metadata["job"]["start"] == {"weights_sha256": start.weights_sha256, "reference": "m", "run_id": ""}


@pytest.mark.slow
def test_frozen_weights_stay_also_after_an_interruption(
    store: WindowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = publish(saved(tmp_path / "m", store, MASKED), str(tmp_path), reference="m")
    two = job(store, start, MASKED, epochs=2, freeze="all-but-last", lr=0.01)
    whole = train(two, name="whole", storage=str(tmp_path), target=tmp_path / "whole")
    report = LocalContext.report

    def interrupt(self: LocalContext, metrics: Any, checkpoint: Path | None) -> None:
        if metrics is not None and metrics["epoch"] == 1:
            raise KeyboardInterrupt
        report(self, metrics, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(LocalContext, "report", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(two, name="again", storage=str(tmp_path), target=tmp_path / "again")
    again = train(two, name="again", storage=str(tmp_path), target=tmp_path / "again")
    given = load_model(tmp_path / "m")[0].state_dict()
    one, other = (load_model(found.directory)[0].state_dict() for found in (whole, again))
    moved = {name for name in given if not torch.equal(one[name], given[name])}
    assert moved == {"to_samples.weight", "to_samples.bias", "to_coarse.weight", "to_coarse.bias"}
    assert all(torch.equal(one[name], other[name]) for name in given)


def test_identity_is_of_the_weights_and_not_of_their_name_or_place(store: WindowStore, tmp_path: Path) -> None:
    start = publish(saved(tmp_path / "m", store, AE), str(tmp_path), reference="m")
    base = job(store, start, AE).identity("s")
    assert job(store, start.model_copy(update={"path": "s3://b", "reference": "n"}), AE).identity("s") == base
    others = [
        job(store, None, AE),
        job(store, start, AE, freeze="all-but-last"),
        job(store, start.model_copy(update={"weights_sha256": "0"}), AE),
    ]
    assert len({base, *(other.identity("s") for other in others)}) == 4


def test_all_folds_start_with_the_same_weights(store: WindowStore, tmp_path: Path) -> None:
    start = publish(saved(tmp_path / "m", store, AE), str(tmp_path), reference="m")
    folds = fold_jobs(job(store, start, AE, folds=2))
    one, other = (initial_network(fold, store)[0].state_dict() for fold in folds)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_job_that_lacks_its_start_is_refused(store: WindowStore) -> None:
    wrong = TrainingJob(store=store.path, model=ModelConfig(**AE), train=TrainConfig(start_from="m"))
    with pytest.raises(ValueError, match=r"train\.start_from is m, but the job starts from None"):
        check_job(wrong)
    with pytest.raises(ValidationError, match="without start_from the weights are random"):
        TrainConfig(freeze="all-but-last")


def test_what_does_not_fit_is_refused_before_anything_is_trained(store: WindowStore, tmp_path: Path) -> None:
    start = publish(saved(tmp_path / "m", store, MASKED), str(tmp_path), reference="models:/m/1")
    with pytest.raises(
        ValueError, match=r"models:/m/1 does not fit this training\. model\.latent_dim: it has 4, here it is 9"
    ):
        check_job(job(store, start, MASKED | {"latent_dim": 9}))


def test_a_copy_with_other_weights_is_refused(store: WindowStore, tmp_path: Path) -> None:
    start = publish(saved(tmp_path / "m", store, AE), str(tmp_path), reference="m")
    network = make_network(ModelConfig(**AE), store.shape, seed=8)
    save_model(Path(start.path), network, {})
    with pytest.raises(ValueError, match=f"sha256 of its weights is .*, expected {start.weights_sha256}"):
        check_job(job(store, start, AE))


def test_a_model_knows_the_objects_that_it_and_its_start_have_seen(store: WindowStore, tmp_path: Path) -> None:
    namesake = synthetic_store(tmp_path / "n.zarr", shape=SHAPE, num_train=7, num_validation=2, seed=1)
    first = job(store, None, AE, folds=2)
    seen = {"objects_seen": objects_seen(first, store, {})}
    assert len(seen_before(seen, store)) == 8  # of 9, one of which was rejected
    # Another survey that numbers its objects alike holds other galaxies.
    assert seen_before(seen, namesake) == []
    both = {"objects_seen": objects_seen(first, namesake, seen)}
    assert len(seen_before(both, store)) == len(seen_before(both, namesake)) == 8
    of_fold = {"objects_seen": objects_seen(fold_jobs(first)[0], store, {})}
    assert 2 <= len(seen_before(of_fold, store)) < 8
    # A model of an earlier version has its store recorded alone.
    assert len(seen_before({"store_identity": store.identity}, store)) == 8
    assert seen_before({"store_identity": "other"}, store) == seen_before({}, store) == []


def test_a_trained_model_records_what_it_has_seen(store: WindowStore, tmp_path: Path) -> None:
    train_rank(job(store, None, AE), LocalContext(tmp_path))
    _, metadata = load_model(tmp_path / "last")
    assert len(seen_before(metadata, store)) == 8


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_worker_of_ray_starts_with_the_weights_too(store: WindowStore, tmp_path: Path) -> None:
    storage = str(tmp_path / "storage")
    start = publish(saved(tmp_path / "m", store, AE), storage, reference="m")
    trained = train(job(store, start, AE, lr=1e-9, num_workers=1), name="ray", storage=storage, target=tmp_path / "new")
    given, taken = load_model(tmp_path / "m")[0].state_dict(), load_model(trained.directory)[0].state_dict()
    for name, value in given.items():
        torch.testing.assert_close(taken[name], value, rtol=0, atol=1e-6, msg=name)
