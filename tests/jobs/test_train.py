"""The train job on a store of a few small galaxies, in this process: what `--resume` goes on with, and refuses."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import jobs.train
from cubeprep.store import WindowStore
from jobs import cli
from jobs.config import ProjectConfig, load_project
from jobs.console import command
from jobs.models.training import training_job
from modeling.tracking.models import resolve_model
from modeling.tracking.runs import RequestError, find_run, make_client
from modeling.training.context import LocalContext
from modeling.training.folds import load_folds
from modeling.training.ray_train import Trained
from tests.holders import holding
from tests.synthetic import synthetic_store

SMALL = {
    "model.latent_dim": 4,
    "model.context_channels": 8,
    "model.hidden_side": 5,
    "train.num_workers": 0,
    "train.threads": 1,
    "train.epochs": 2,
    "train.batch_size": 8,
    "train.folds": 0,
}


def invoke(workspace: Path, *arguments: str, **settings: Any) -> tuple[int, str]:
    values = SMALL | {"workspace": workspace, "prepare.store": workspace / "w.zarr"} | settings
    overrides = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    result = CliRunner().invoke(cli.main, ["train", "line", *arguments, *overrides])
    return result.exit_code, result.output


def runs(workspace: Path) -> list[Any]:
    config = load_project("line", (f"workspace={workspace}",))
    client = make_client(config.tracking_uri)
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    return list(client.search_runs([experiment.experiment_id], "tags.job = 'train'"))


def test_workers_in_other_folders_find_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = ProjectConfig(workspace=Path("runs"))
    assert training_job(config).store == str(tmp_path / "runs" / "windows.zarr")
    remote = config.prepare.model_copy(update={"store": "s3://bucket/w.zarr"})
    assert training_job(config.model_copy(update={"prepare": remote})).store == "s3://bucket/w.zarr"


def test_a_server_that_does_not_answer_stops_no_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away, logged = [True], []

    class Tracked:
        def logged_steps(self, name: str) -> set[int]:
            return set()

        def log_metrics(self, metrics: dict[str, float], epoch: int) -> None:
            if away[0]:
                raise RequestError("http://there:5000: cannot log a batch")
            logged.append(epoch)

    tracked: Any = Tracked()
    listener = jobs.train._Listener(tracked, lambda *_, **__: None, epochs=4)
    history = [{"epoch": epoch, "train_loss": 1.0} for epoch in range(4)]
    for metrics in history[:3]:
        listener("epoch", metrics)
    assert [record.getMessage() for record in caplog.records if record.name == "jobs.train"] == [
        "epoch 1 is not logged, the training goes on: http://there:5000: cannot log a batch"
    ]
    away[0] = False
    listener("epoch", history[3])
    listener.catch_up(Trained(Path(), {}, history))
    assert logged == [3, 0, 1, 2]


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a training that was interrupted in its second epoch."""
    synthetic_store(tmp_path / "w.zarr", shape=(3, 4, 16), num_train=6, num_validation=2)
    interrupt_at_second_epoch(tmp_path, monkeypatch)
    return tmp_path


def interrupt_at_second_epoch(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts a training and interrupts it."""
    report = LocalContext.report

    def interrupt(self: LocalContext, metrics: dict[str, float] | None, checkpoint: Path | None) -> None:
        if metrics is not None and metrics["epoch"] == 1:
            raise KeyboardInterrupt
        report(self, metrics, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(LocalContext, "report", interrupt)
        assert invoke(workspace)[0] == command.EXIT_INTERRUPTED


@pytest.mark.slow
def test_a_training_that_another_process_runs_is_refused(tmp_path: Path) -> None:
    synthetic_store(tmp_path / "w.zarr", shape=(3, 4, 16), num_train=6, num_validation=2)
    config = load_project("line", tuple(f"{key}={value}" for key, value in SMALL.items()))
    job = training_job(config)
    name = f"train-{job.identity(WindowStore.open(str(tmp_path / 'w.zarr')).identity)[:12]}"
    with holding(tmp_path / "training" / name) as holder:
        code, text = invoke(tmp_path)
        assert code == command.EXIT_USAGE, text
        assert f"{tmp_path}/training/{name}: process {holder.pid} on " in text.replace("\n", " ")
        assert not (tmp_path / "training" / name).exists()
        assert invoke(tmp_path, **{"train.epochs": 1})[0] == 0, "another training of the same workspace"
    assert invoke(tmp_path)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("by", ["name", "id"])
def test_a_training_goes_on_in_its_own_run(interrupted: Path, by: str) -> None:
    (run,) = runs(interrupted)
    assert run.info.status == "KILLED"
    code, text = invoke(interrupted, "--resume", run.info.run_name if by == "name" else run.info.run_id)
    assert code == 0, text
    (after,) = runs(interrupted)
    assert (after.info.run_id, after.info.status) == (run.info.run_id, "FINISHED")
    client = make_client(load_project("line", (f"workspace={interrupted}",)).tracking_uri)
    assert [entry.step for entry in client.get_metric_history(run.info.run_id, "train_loss")] == [0, 1]


@pytest.mark.slow
def test_a_run_gets_the_inputs_that_it_lacks_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a kill between a run's creation and the record of its inputs."""
    synthetic_store(tmp_path / "w.zarr", shape=(3, 4, 16), num_train=6, num_validation=2)
    with monkeypatch.context() as patch:
        patch.setattr(jobs.train, "log_training", lambda *_: None)
        interrupt_at_second_epoch(tmp_path, monkeypatch)
    (run,) = runs(tmp_path)
    assert not run.inputs.dataset_inputs
    for threads in (1, 2):
        assert invoke(tmp_path, "--resume", run.info.run_id, **{"train.threads": threads})[0] == 0
    (run,) = runs(tmp_path)
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "w.zarr"
    assert run.data.params["train.threads"] == "1"


@pytest.mark.slow
def test_what_cannot_go_on_is_refused_with_its_reason(interrupted: Path) -> None:
    (run,) = runs(interrupted)
    name = run.info.run_name
    for unknown in ("train-0", "it's"):
        code, text = invoke(interrupted, "--resume", unknown)
        assert code == command.EXIT_USAGE
        assert f"{unknown} is neither a training's name nor the id" in text
    code, text = invoke(interrupted, "--resume", name, **{"train.epochs": 3, "train.threads": 2})
    assert code == command.EXIT_USAGE
    assert f"{name} is another training: train.epochs was 2, here it is 3" in text
    assert "threads" not in text
    code, text = invoke(interrupted, "--resume", name, **{"train.storage": interrupted / "elsewhere"})
    assert code == command.EXIT_USAGE
    assert f"{name} has left no checkpoint in {interrupted}/elsewhere" in text
    config = load_project("line", (f"workspace={interrupted}",))
    assert find_run(config.tracking_uri, "no such experiment", {"job": "train"}) is None


@pytest.mark.slow
def test_a_finished_training_says_so_and_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modeling.training import ray_train

    synthetic_store(tmp_path / "w.zarr", shape=(3, 4, 16), num_train=6, num_validation=2)
    code, text = invoke(tmp_path, **{"train.epochs": 1})
    assert (code, "finished already" in text) == (0, False), text
    monkeypatch.setattr(ray_train, "train_rank", None)
    code, text = invoke(tmp_path, **{"train.epochs": 1})
    assert (code, f"{tmp_path}: the training is finished already" in text) == (0, True), text


@pytest.mark.slow
def test_the_registered_model_has_its_folds(tmp_path: Path) -> None:
    synthetic_store(tmp_path / "w.zarr", shape=(3, 4, 16), num_train=9, num_validation=2)
    folds = {"train.folds": 2, "train.left_out": 1, "train.epochs": 1}
    assert invoke(tmp_path, **folds | {"train.folds": 0})[0] == 0
    code, text = invoke(tmp_path, **folds)
    assert code == 0, text
    config = load_project("line", (f"workspace={tmp_path}",))
    # The main model is the same as without folds, but what is registered is not.
    registered = resolve_model(config.tracking_uri, f"models:/{config.tracking.model_name}@candidate")
    assert registered.version == "2"
    assert load_folds(registered.directory).num == 2
    metrics = runs(tmp_path)[0].data.metrics
    assert {"validation_loss", "fold_0/validation_loss", "fold_1/validation_loss"} <= set(metrics)
