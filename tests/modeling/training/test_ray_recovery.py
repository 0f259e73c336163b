"""Crashes of a training of two workers on Ray cost the steps since its last checkpoint, and nothing of its result.

`pytest --log-cli-level=INFO` shows digests of the final weights.
"""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from cubeprep.store import WindowStore
from modeling.network.checkpoint import load_model
from modeling.network.config import ModelConfig
from modeling.ray_session import set_environment
from modeling.training.config import TrainConfig, TrainingJob
from tests import forks, recorded_train
from tests.modeling.training import two_ranks
from tests.ray_head import BARE_HEAD, started_by
from tests.ray_workers import forked_workers
from tests.recorded_train import Place, Steps
from tests.s3 import JuiceFS, point_at
from tests.synthetic import synthetic_store

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(600)]

EPOCHS, STEPS, CHECKPOINT_STEPS = 3, 6, 3
MODEL = {"kind": "vae", "latent_dim": 6, "step_channels": 4, "lstm_channels": 4, "decoder_channels": 4}
TRAIN = {
    "epochs": EPOCHS,
    "batch_size": 4,
    "num_workers": 2,
    "threads": 1,
    "checkpoint_steps": CHECKPOINT_STEPS,
    "cache_mib": 0,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return synthetic_store(tmp_path_factory.mktemp("ray") / "w.zarr", shape=(3, 4, 16), num_train=13)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket on an S3 server with credentials, of which all of Ray's processes that start later know."""
    server = JuiceFS(tmp_path_factory.mktemp("s3"))
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        point_at(patch, server.port)
        yield f"s3://{server.bucket}"
    server.close()


class Nodes:
    """Two Ray nodes on this machine with a CPU each, so that each has one of two workers."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        noticed_soon = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
        head = BARE_HEAD | {"num_cpus": 1, "_system_config": noticed_soon}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address
        self._second = self._cluster.add_node(num_cpus=1)

    def kill_worker(self) -> None:
        """Kills the process that trains on the second node."""
        (worker,) = [child for child in started_by(self._second) if "RayTrainWorker" in " ".join(child.cmdline())]
        worker.kill()

    def replace_second(self) -> None:
        """Kills the second node with all that runs on it, and adds another."""
        self._lose(self._second)
        self._second = self._cluster.add_node(num_cpus=1)

    def lose_all(self) -> None:
        for node in self._cluster.list_all_nodes():
            self._lose(node)

    def _lose(self, node: Any) -> None:
        children = started_by(node)
        self._cluster.remove_node(node, allow_graceful=False)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


@pytest.fixture(scope="module")
def nodes(bucket: str) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch, forked_workers():
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        patch.delenv("RAY_ADDRESS", raising=False)
        set_environment()
        nodes = Nodes()
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        nodes.lose_all()


def job(store: WindowStore) -> TrainingJob:
    return TrainingJob(store=store.path, model=ModelConfig(**MODEL), train=TrainConfig(**TRAIN))


@pytest.fixture(scope="module")
def undisturbed(store: WindowStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of two workers to whom nothing happens, without Ray, whose workers take seconds to start."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ranks = [forks.start(two_ranks.run, rank, job(store), folder) for rank in (0, 1)]
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    return folder / "last" / "best"


def assert_same_weights(model: Path, undisturbed: Path) -> None:
    disturbed, expected = (load_model(folder)[0].state_dict() for folder in (model, undisturbed))
    for name, folder in {"disturbed": model, "undisturbed": undisturbed}.items():
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        logger.info("%s: sha256 of the weights %s", name, digest)
    worst = max(float((disturbed[key] - expected[key]).abs().max()) for key in expected)
    logger.info("greatest difference of a weight: %.1e", worst)
    assert worst <= 1e-6


def assert_repeated_in(counts: Counter[Place], epochs: tuple[int, ...]) -> None:
    """Each step was done, and in some epochs, which were disturbed, the two behind the checkpoint were done twice."""
    assert set(counts) == {(epoch, step) for epoch in range(EPOCHS) for step in range(STEPS)}
    repeated = {(epoch, step) for epoch in epochs for step in (CHECKPOINT_STEPS, CHECKPOINT_STEPS + 1)}
    assert counts == Counter(dict.fromkeys(counts, 1)) + Counter(repeated)


def held(epoch: int) -> Place:
    """Where a training is disturbed: within an epoch and within an interval, two steps after a checkpoint."""
    return epoch, CHECKPOINT_STEPS + 1


class Command:
    """`cubescout train` of the same training, its checkpoints on S3, in a process of its own."""

    def __init__(self, store: WindowStore, bucket: str, folder: Path) -> None:
        settings = {"workspace": str(folder / "ws"), "prepare": {"store": store.path}, "model": MODEL}
        settings["train"] = TRAIN | {"storage": f"{bucket}/{folder.name}"}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        self.steps = Steps(folder / "steps")
        self.name = f"train-{job(store).identity(store.identity)[:12]}"
        self.model = folder / "ws" / "models" / self.name
        self._config, self._starts = folder / "config.yaml", 0
        self._driver: ForkServerProcess | None = None

    def start(self, *arguments: str) -> None:
        self._starts += 1
        self._output.mkdir()
        words = (str(self._config), *arguments)
        self._driver = forks.start(recorded_train.train, self.steps.folder, *words, output=self._output)

    @contextmanager
    def held_at(self, place: Place) -> Iterator[None]:
        """For the time of the block the training waits after that step."""
        with self.steps.hold_at(place):
            self._wait(lambda: self.steps.counts()[place] > 0)
            yield

    def kill(self) -> None:
        assert self._driver
        self._driver.kill()
        self._driver.join()

    def finish(self) -> None:
        """Waits for the model; its registration is tested elsewhere."""
        self._wait(lambda: "The model has" in self._printed())
        self.kill()

    @property
    def _output(self) -> Path:
        return self._config.with_name(f"output-{self._starts}")

    def _printed(self) -> str:
        return "".join(path.read_text() for path in self._output.iterdir())

    def _wait(self, done: Callable[[], bool]) -> None:
        assert self._driver
        deadline = time.monotonic() + 240
        while not done():
            assert self._driver.is_alive(), self._printed()
            assert time.monotonic() < deadline, self._printed()
            time.sleep(0.1)


@pytest.mark.long
def test_a_killed_driver(store: WindowStore, nodes: Nodes, undisturbed: Path, bucket: str, tmp_path: Path) -> None:
    """The cluster stays, and is used again."""
    command = Command(store, bucket, tmp_path)
    command.start()
    with command.held_at(held(1)):
        command.kill()
    command.start("--resume", command.name)
    command.finish()
    assert_repeated_in(command.steps.counts(), epochs=(1,))
    assert_same_weights(command.model, undisturbed)


def test_a_killed_worker_a_lost_node_and_a_lost_cluster(
    store: WindowStore, nodes: Nodes, undisturbed: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(store, bucket, tmp_path)
    command.start()
    with command.held_at(held(0)):
        nodes.kill_worker()
    with command.held_at(held(1)):
        nodes.replace_second()
    with command.held_at(held(2)):
        command.kill()
        nodes.lose_all()
    monkeypatch.delenv("RAY_ADDRESS")  # for a Ray of its own
    command.start("--resume", command.name)
    command.finish()
    assert_repeated_in(command.steps.counts(), epochs=(0, 1, 2))
    assert_same_weights(command.model, undisturbed)
