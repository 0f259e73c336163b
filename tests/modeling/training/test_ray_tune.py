import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cubeprep.store import WindowStore
from modeling.network.checkpoint import load_model
from modeling.network.config import ModelConfig
from modeling.ray_session import RaySessionError
from modeling.training.config import TrainConfig, TrainingJob, TuneConfig
from modeling.training.ray_tune import Tuned, trial_job, tune
from modeling.training.ray_tune_hooks import DRIVER, deadline
from tests.local_ray import LocalRay
from tests.synthetic import synthetic_store

MODEL = ModelConfig(latent_dim=6, step_channels=4, lstm_channels=4, decoder_channels=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return synthetic_store(tmp_path_factory.mktemp("ray") / "w.zarr", shape=(3, 4, 16))


def job(store: WindowStore) -> TrainingJob:
    return TrainingJob(store=store.path, model=MODEL, train=TrainConfig(batch_size=4, threads=1))


@pytest.mark.ray
@pytest.mark.slow
def test_an_interrupted_search_goes_on_and_sets_failures_aside(
    store: WindowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_ray: LocalRay
) -> None:
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")  # the search's state is written at each event
    # The greatest rate makes any loss infinite.
    config = TuneConfig(
        num_trials=4,
        concurrency=2,
        epochs=2,
        grace_epochs=2,
        space={"train.lr": {"choice": [1e-6, 1e-2, 1e36]}, "train.loss": {"choice": ["mse", "gaussian"]}},
    )
    heard: list[tuple[str, float]] = []

    def search(stop_after: int | None) -> Tuned:
        def listen(trial: str, parameters: dict[str, Any], metrics: dict[str, float]) -> None:
            heard.append((trial, metrics["epoch"]))
            if len(heard) == stop_after:
                raise KeyboardInterrupt

        places = {"name": "search", "storage": str(tmp_path / "storage"), "target": tmp_path / "model"}
        return tune(job(store), config, **places, listener=listen)

    # What a kill leaves within the first seconds; then the search is interrupted, then done.
    (tmp_path / "storage/search").mkdir(parents=True)
    (tmp_path / "storage/search/tuner.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(KeyboardInterrupt):
        search(stop_after=3)
    before = set(heard)
    local_ray.stop()
    local_ray.start(include_dashboard=True)  # for the next test
    tuned = search(None)
    assert search(None).trials == tuned.trials  # a finished search is not run again
    assert len(tuned.trials) == 4
    assert {name for name, _ in before} <= {trial.name for trial in tuned.trials}
    repeated = {name for name, epoch in before if heard.count((name, epoch)) > 1}
    assert len(repeated) <= 1  # the one whose report was lost in the crash
    assert {name for name, _ in before} - repeated

    failed = [trial for trial in tuned.trials if trial.error]
    assert failed
    assert len(failed) < 4
    for trial in failed:
        assert trial.parameters["train.lr"] == 1e36
        assert "the loss became" in trial.error
        # Tried again. A resumed search begins a new file, so that the first failure need not stand in it.
        assert "Failure # 2 " in (tmp_path / "storage/search" / trial.name / "error.txt").read_text()
    best = tuned.trials[0]
    assert best.loss == min(trial.loss for trial in tuned.trials) == tuned.trained.best["validation_nll"]
    assert len(best.history) == 2
    assert tuned.job.train.lr == best.parameters["train.lr"] == 1e-2
    assert tuned.job.train.loss == best.parameters["train.loss"]
    load_model(tmp_path / "model")


@pytest.mark.ray
@pytest.mark.slow
def test_trials_may_have_workers_of_their_own(store: WindowStore, tmp_path: Path, local_ray: LocalRay) -> None:
    local_ray.start(include_dashboard=True)
    config = TuneConfig(
        num_trials=2,
        concurrency=2,
        epochs=2,
        grace_epochs=1,
        workers_per_trial=2,
        space={"model.latent_dim": {"randint": [3, 6]}},
    )
    places = {"name": "nested", "storage": str(tmp_path / "storage"), "target": tmp_path / "model"}
    tuned = tune(job(store), config, **places)
    assert [trial.error for trial in tuned.trials] == [None, None]
    assert all(1 <= len(trial.history) <= 2 for trial in tuned.trials)
    model, _ = load_model(tmp_path / "model")
    assert model.arguments["latent_dim"] == tuned.job.model.latent_dim
    assert tuned.job.train.num_workers == 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_budget_of_time_that_is_too_short_is_said(store: WindowStore, tmp_path: Path) -> None:
    places = {"name": "short", "storage": str(tmp_path / "storage"), "target": tmp_path / "model"}
    with pytest.raises(RuntimeError, match=r"within tune.time_budget_s: 0\.1"):
        tune(job(store), TuneConfig(num_trials=4, concurrency=1, time_budget_s=0.1, epochs=50), **places)


def test_a_search_needs_a_validation_split(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "w.zarr", shape=(3, 4, 16), num_train=4, num_validation=0)
    with pytest.raises(ValueError, match="validation split, which is empty"):
        tune(job(store), TuneConfig(), name="none", storage=str(tmp_path), target=tmp_path / "model")


def test_budgets_do_not_make_another_search() -> None:
    same = TuneConfig(time_budget_s=10, retrain=True).search_identity()
    assert same == TuneConfig().search_identity()
    assert TuneConfig(num_trials=9).search_identity() != same


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"train.grad_clip": {"uniform": [None, 1.0]}}, "train.grad_clip: uniform takes numbers, found"),
        ({"train.loss": {"uniform": ["mae", "student-t"]}}, "train.loss: uniform takes numbers, found"),
        ({"train.weight_decay": {"loguniform": [0, 0.01]}}, "loguniform takes bounds above 0, found"),
        ({"model.hidden_side": {"choice": [3, 5]}}, "model.hidden_side cannot be searched: likelihoods of squares"),
        ({"train.learning_rate": {"uniform": [0, 1]}}, "train.learning_rate is not a key"),
        ({"latent_dim": {"choice": [1]}}, "latent_dim is not a key"),
        ({"train.lr": {"normal": [0, 1]}}, "train.lr: expected one of choice, uniform, loguniform, randint"),
        ({"train.lr": {"uniform": [0.1]}}, "train.lr: uniform takes a lower and an upper bound"),
        ({"train.lr": {"uniform": [0.2, 0.1]}}, "train.lr: uniform takes a lower and an upper bound"),
        ({"train.lr": {"loguniform": [-1, 0.1]}}, "train.lr: Input should be greater than 0"),
        ({"model.steps": {"choice": ["line", "spaxel"]}}, "model.steps: Input should be 'line' or 'sample'"),
        ({"train.lr": {"randint": [1, 3]}}, "train.lr: randint takes whole numbers"),
        (
            {"train.batch_size": {"uniform": [2, 8]}},
            "train.batch_size: takes whole numbers, of which uniform gives none",
        ),
        ({"train.loss": {"choice": ["mae", "l3"]}}, "train.loss: Input should be"),
        ({"train.epochs": {"choice": [1, 2]}}, "train.epochs cannot be searched"),
        ({"train.num_workers": {"choice": [1, 2]}}, "train.num_workers cannot be searched"),
        ({"train.lr": {"choice": []}}, "train.lr: choice takes values"),
    ],
)
def test_wrong_search_spaces_are_named(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        TuneConfig(space=space)
    assert message in str(error.value)


def test_all_mistakes_of_a_space_are_named_at_once() -> None:
    with pytest.raises(ValidationError, match=r"(?s)train\.a is not a key.*model\.b is not a key"):
        TuneConfig(space={"train.a": {"choice": [1]}, "model.b": {"choice": [1]}})


def test_numbers_that_yaml_reads_as_text_become_numbers() -> None:
    config = TuneConfig(space={"train.lr": {"loguniform": ["1e-4", "1e-2"]}})
    assert config.space["train.lr"]["loguniform"] == [1e-4, 1e-2]
    assert TuneConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_trial_overrides_the_job_and_is_validated() -> None:
    job = TrainingJob(store="w.zarr", model=MODEL)
    config = TuneConfig(epochs=7, workers_per_trial=2)
    trial = trial_job(job, {"train.lr": 0.5, "model.latent_dim": 9}, config)
    assert (trial.train.lr, trial.model.latent_dim, trial.train.epochs, trial.train.num_workers) == (0.5, 9, 7, 2)
    assert trial_job(job, {}, TuneConfig()).train.num_workers == 0
    assert trial.model.step_channels == MODEL.step_channels
    with pytest.raises(ValidationError, match="latent_dim"):
        trial_job(job, {"model.latent_dim": 0}, config)


def test_a_search_ends_with_the_last_node(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(DRIVER, "deadline", float("inf"))  # whatever a search before has left
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": False}, {"Alive": True}])
    assert not deadline().stop_all()
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": False}])
    with pytest.raises(RaySessionError, match="last node; run the same command"):
        deadline().stop_all()
