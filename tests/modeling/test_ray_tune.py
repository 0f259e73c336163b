from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from modeling.checkpoint import load_model
from modeling.config import ModelConfig, TrainConfig, TrainingJob, TuneConfig
from modeling.ray_tune import trial_job, tune
from tests.synthetic import synthetic_store

MODEL = ModelConfig(latent_dim=6, step_channels=4, lstm_channels=4, decoder_channels=4)


@pytest.mark.ray
@pytest.mark.slow
def test_the_best_of_two_trials_is_found(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "w.zarr", shape=(3, 4, 16))
    job = TrainingJob(store=store.path, model=MODEL, train=TrainConfig(batch_size=4, threads=1))
    config = TuneConfig(
        num_trials=2,
        concurrency=2,
        epochs=2,
        grace_epochs=2,
        space={"train.lr": {"choice": [1e-6, 1e-2]}, "model.latent_dim": {"randint": [3, 6]}},
    )
    heard: list[tuple[str, dict[str, Any], dict[str, float]]] = []
    tuned = tune(
        job,
        config,
        name="search",
        storage=str(tmp_path / "storage"),
        target=tmp_path / "model",
        listener=lambda *event: heard.append(event),
    )
    assert len(tuned.trials) == 2
    assert all(len(trial.history) == 2 and trial.error is None for trial in tuned.trials)
    assert tuned.trials[0].loss == min(trial.loss for trial in tuned.trials) == tuned.trained.best["best_loss"]
    assert len(heard) == 4
    assert all(parameters in [trial.parameters for trial in tuned.trials] for _, parameters, _ in heard)
    assert tuned.job.train.lr == tuned.trials[0].parameters["train.lr"]
    model, _ = load_model(tmp_path / "model")
    assert model.arguments["latent_dim"] == tuned.job.model.latent_dim in (3, 4, 5)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"train.learning_rate": {"uniform": [0, 1]}}, "train.learning_rate is no key"),
        ({"latent_dim": {"choice": [1]}}, "latent_dim is no key"),
        ({"train.lr": {"normal": [0, 1]}}, "train.lr: expected one of choice, uniform, loguniform, randint"),
        ({"train.lr": {"uniform": [0.1]}}, "train.lr: uniform takes a lower and an upper bound"),
        ({"train.lr": {"uniform": [0.2, 0.1]}}, "train.lr: uniform takes a lower and an upper bound"),
        ({"train.lr": {"loguniform": [-1, 0.1]}}, "train.lr: Input should be greater than 0"),
        ({"model.steps": {"choice": ["line", "spaxel"]}}, "model.steps: Input should be 'line' or 'sample'"),
        ({"train.lr": {"randint": [1, 3]}}, "train.lr: randint takes whole numbers"),
        ({"train.loss": {"choice": ["mae", "mse"]}}, "train.loss cannot be searched"),
        ({"train.lr": {"choice": []}}, "train.lr: choice takes values"),
    ],
)
def test_wrong_search_spaces_are_named(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        TuneConfig(space=space)
    assert message in str(error.value)


def test_all_mistakes_of_a_space_are_named_at_once() -> None:
    with pytest.raises(ValidationError, match=r"(?s)train\.a is no key.*model\.b is no key"):
        TuneConfig(space={"train.a": {"choice": [1]}, "model.b": {"choice": [1]}})


def test_numbers_that_yaml_reads_as_text_become_numbers() -> None:
    config = TuneConfig(space={"train.lr": {"loguniform": ["1e-4", "1e-2"]}})
    assert config.space["train.lr"]["loguniform"] == [1e-4, 1e-2]
    assert TuneConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_trial_overrides_the_job_and_is_validated() -> None:
    job = TrainingJob(store="w.zarr", model=MODEL)
    trial = trial_job(job, {"train.lr": 0.5, "model.latent_dim": 9}, epochs=7)
    assert (trial.train.lr, trial.model.latent_dim, trial.train.epochs, trial.train.num_workers) == (0.5, 9, 7, 0)
    assert trial.model.step_channels == MODEL.step_channels
    with pytest.raises(ValidationError, match="latent_dim"):
        trial_job(job, {"model.latent_dim": 0})
