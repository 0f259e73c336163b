import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cubeprep.store import StoreError, WindowStore
from modeling.network.autoencoder import make_model
from modeling.network.checkpoint import load_model, weights_digest
from modeling.network.config import ModelConfig
from modeling.ray_session import storage_path
from modeling.training import ray_train
from modeling.training.config import TrainConfig, TrainingJob
from modeling.training.ray_train import check_job, choose_device, has_checkpoint, threads_per_worker, train
from tests.synthetic import synthetic_store

MODEL = ModelConfig(latent_dim=6, step_channels=4, lstm_channels=4, decoder_channels=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    # 12 galaxies in train, one of them set aside, three views: 33 rows, which two workers cannot share evenly.
    return synthetic_store(tmp_path_factory.mktemp("ray") / "w.zarr", shape=(3, 4, 16), num_views=3)


def job(store: WindowStore, **train: Any) -> TrainingJob:
    # One batch an epoch, so that any order of rows is the same batch; Adagrad, since Adam blows up rounding.
    values = {"epochs": 2, "batch_size": 36, "optimizer": "adagrad", "lr": 0.03, "schedule": "constant", "threads": 1}
    return TrainingJob(store=store.path, model=MODEL, train=TrainConfig(**values | train))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_two_workers_train_as_one_process_and_one_worker_goes_on(store: WindowStore, tmp_path: Path) -> None:
    storage = str(tmp_path / "storage")
    alone = train(job(store, num_workers=0), name="alone", storage=storage, target=tmp_path / "alone")
    events: list[tuple[str, dict[str, float]]] = []
    (tmp_path / "storage" / "ddp").mkdir()
    (tmp_path / "storage" / "ddp" / "checkpoint_manager_snapshot.json").write_text('{"ray')  # as a kill may leave it
    together = train(
        job(store, num_workers=2),
        name="ddp",
        storage=storage,
        target=tmp_path / "together",
        listener=lambda event, metrics: events.append((event, metrics)),
    )
    assert len(together.history) == 2
    for ours, theirs in zip(together.history, alone.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    (one, _), (two, _) = load_model(tmp_path / "alone"), load_model(tmp_path / "together")
    start = make_model(MODEL.arguments(store.shape), seed=0)
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5, msg=name)
    moved = [(a - b).abs().max() for a, b in zip(one.parameters(), start.parameters(), strict=True)]
    assert max(moved) > 1e-2
    assert [metrics["epoch"] for event, metrics in events if event == "epoch"] == [0, 1]
    assert sum(event == "step" for event, _ in events) == 2

    longer = train(job(store, num_workers=1, epochs=3), name="ddp", storage=storage, target=tmp_path / "longer")
    assert longer.history[:2] == together.history
    assert len(longer.history) == 3


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_more_workers_than_a_machine_has_room_for_do_not_wait(store: WindowStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"3 workers: 3 CPUs needed, and Ray has 2: lower train\.num_workers"):
        train(job(store, num_workers=3), name="many", storage=str(tmp_path), target=tmp_path / "model")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_local_ray_is_closed_to_those_without_its_token() -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    code = f"import ray; ray.init(address={address!r}, log_to_driver=False); print(ray.get(ray.put('in')))"

    def connect(environment: dict[str, str]) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, **pipes)

    own = dict(os.environ)
    others = {key: value for key, value in own.items() if key != "RAY_AUTH_TOKEN"} | {"RAY_AUTH_MODE": "disabled"}
    with connect(own) as one, connect(others) as other:
        assert one.communicate(timeout=100)[0].strip() == "in"
        assert other.communicate(timeout=100)[0].strip() == ""


def test_a_finished_training_is_taken_without_ray(
    store: WindowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_ray(*_: Any, **__: Any) -> None:
        raise RuntimeError("Ray starts")

    monkeypatch.setattr(ray_train, "_train_with_ray", start_ray)
    alone = train(job(store, num_workers=0), name="run", storage=str(tmp_path), target=tmp_path / "alone")
    # As Ray leaves it, except for the metrics, which are not read.
    (tmp_path / "run" / "last").rename(tmp_path / "run" / "checkpoint_1")
    snapshot = tmp_path / "run" / "checkpoint_manager_snapshot.json"
    whole = '{"latest_checkpoint_result": {"checkpoint_dir_name": "checkpoint_1"}}'
    snapshot.write_text(whole)
    again = train(job(store, num_workers=2), name="run", storage=str(tmp_path), target=tmp_path / "again")
    assert (again.history, again.best) == (alone.history, alone.best)
    (one, _), (two, _) = load_model(alone.directory), load_model(again.directory)
    assert weights_digest(one) == weights_digest(two)
    for epochs, text in ((3, whole), (2, '{"ray'), (2, '{"latest_checkpoint_result": null}')):
        snapshot.write_text(text)
        with pytest.raises(RuntimeError, match="Ray starts"):
            train(job(store, num_workers=2, epochs=epochs), name="run", storage=str(tmp_path), target=tmp_path / "no")


def test_a_training_continues_with_ray_or_without_as_it_began(store: WindowStore, tmp_path: Path) -> None:
    alone, shared = job(store, num_workers=0), job(store, num_workers=1)
    finished = train(alone, name="run", storage=str(tmp_path), target=tmp_path / "model")
    again = train(shared, name="run", storage=str(tmp_path), target=tmp_path / "again")
    assert again.earlier
    assert again.history == finished.history
    longer = shared.model_copy(update={"train": shared.train.model_copy(update={"epochs": 9})})
    assert has_checkpoint(longer, name="run", storage=str(tmp_path))
    with pytest.raises(ValueError, match=r"begun with train\.num_workers 0, whose checkpoints Ray cannot resume"):
        train(longer, name="run", storage=str(tmp_path), target=tmp_path / "no")
    (tmp_path / "run" / "last").rename(tmp_path / "run" / "checkpoint_1")
    (tmp_path / "run" / ray_train.SNAPSHOT).write_text(
        '{"latest_checkpoint_result": {"checkpoint_dir_name": "checkpoint_1"}}'
    )
    assert train(alone, name="run", storage=str(tmp_path), target=tmp_path / "again").earlier
    longer = alone.model_copy(update={"train": alone.train.model_copy(update={"epochs": 9})})
    with pytest.raises(
        ValueError, match=r"begun with train\.num_workers of 1 or more, whose checkpoints a training with"
    ):
        train(longer, name="run", storage=str(tmp_path), target=tmp_path / "no")


def test_a_batch_that_workers_cannot_share_fails_before_ray_starts(store: WindowStore) -> None:
    with pytest.raises(ValueError, match="batch_size is 36, too few galaxies for 37 workers"):
        check_job(job(store, num_workers=37))


def test_a_missing_store_fails_before_ray_starts(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no window store here"):
        check_job(TrainingJob(store=str(tmp_path / "nothing.zarr")))


def test_identity_of_a_run_is_that_of_what_decides_the_weights(store: WindowStore) -> None:
    base = job(store).identity("s")
    for same in ({"num_workers": 2}, {"threads": 2}, {"cache_mib": 0}, {"storage": "s3://b"}):
        assert job(store, **same).identity("s") == base
    for other in ({"lr": 0.1}, {"epochs": 3}, {"batch_size": 8}):
        assert job(store, **other).identity("s") != base
    assert job(store).identity("t") != base
    assert job(store).model_copy(update={"store": "elsewhere"}).identity("s") == base


def test_threads_share_the_machine(store: WindowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [threads_per_worker(job(store, num_workers=n, threads=None)) for n in (0, 1, 3, 16)] == [8, 8, 2, 1]
    assert threads_per_worker(job(store, num_workers=2)) == 1


def test_a_gpu_that_is_not_there_is_named(store: WindowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device(job(store)) == "cpu"
    with pytest.raises(ValueError, match="no GPU"):
        choose_device(job(store, use_gpu=True))


def test_storage_urls_carry_the_endpoint_that_pyarrow_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert storage_path("s3://bucket/runs") == "s3://bucket/runs"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    expected = "s3://bucket/runs?endpoint_override=127.0.0.1:9000&scheme=http&region=eu-west-1"
    assert storage_path("s3://bucket/runs") == expected
    assert storage_path("gs://bucket/runs") == "gs://bucket/runs"
    monkeypatch.chdir(tmp_path)
    assert storage_path("runs") == str(tmp_path / "runs")
