"""What a crash costs a training on Ray: at most the steps since its last checkpoint, and nothing of its result."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from cubeprep.store import WindowStore
from modeling.checkpoint import load_model
from modeling.config import ModelConfig, TrainConfig, TrainingJob
from modeling.context import Metrics
from modeling.ray_train import Trained, ray_session, train
from tests.synthetic import synthetic_store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS, STEPS, CHECKPOINT_STEPS = 4, 12, 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return synthetic_store(tmp_path_factory.mktemp("ray") / "w.zarr", shape=(3, 4, 16), num_train=13)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    with ray_session(num_cpus=2):
        yield


def job(store: WindowStore) -> TrainingJob:
    model = ModelConfig(kind="vae", latent_dim=6, step_channels=4, lstm_channels=4, decoder_channels=4)
    config = TrainConfig(
        epochs=EPOCHS,
        batch_size=2,
        num_workers=2,
        threads=1,
        checkpoint_steps=CHECKPOINT_STEPS,
        cache_mib=0,
        schedule="cosine",
    )
    return TrainingJob(store=store.path, model=model, train=config)


def own_workers() -> list[psutil.Process]:
    """The processes of this driver's Ray that train."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "RayTrainWorker" in " ".join(child.cmdline())]


class KillOnce:
    """Hears of steps; kills one worker in the third epoch."""

    def __init__(self) -> None:
        self.killed_at: tuple[float, float] | None = None
        self.steps: Counter[tuple[float, float]] = Counter()

    def __call__(self, event: str, metrics: Metrics) -> None:
        if event != "step":
            return
        self.steps[metrics["epoch"], metrics["step"]] += 1
        if self.killed_at is None and metrics["epoch"] == 2 and metrics["step"] >= 4:
            workers = own_workers()
            assert len(workers) == 2
            self.killed_at = metrics["epoch"], metrics["step"]
            workers[-1].kill()


def weights(trained: Trained) -> list[torch.Tensor]:
    return list(load_model(trained.directory)[0].parameters())


def test_a_worker_killed_within_an_epoch_costs_steps_and_no_accuracy(
    store: WindowStore, tmp_path: Path, ray_cluster: None
) -> None:
    storage = str(tmp_path / "storage")
    undisturbed = train(job(store), name="whole", storage=storage, target=tmp_path / "whole")
    killer = KillOnce()
    disturbed = train(job(store), name="killed", storage=storage, target=tmp_path / "killed", listener=killer)
    assert killer.killed_at is not None
    assert disturbed.history == undisturbed.history
    for ours, theirs in zip(weights(disturbed), weights(undisturbed), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert set(killer.steps) == {(epoch, step) for epoch in range(EPOCHS) for step in range(STEPS)}
    repeated = [place for place, count in killer.steps.items() if count > 1]
    assert len(repeated) <= CHECKPOINT_STEPS
