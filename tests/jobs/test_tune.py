"""The tune job: what a search leaves in MLflow and in the workspace."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from jobs import cli
from jobs.config import load_project
from modeling.tracking.runs import make_client
from tests.holders import holding
from tests.jobs.test_train import SMALL
from tests.synthetic import synthetic_store

SPACE = "{train.lr: {loguniform: [1e-4, 1e-2]}, model.latent_dim: {choice: [3, 5]}}"


def test_a_search_does_not_begin_if_its_training_would_have_empty_folds(tmp_path: Path) -> None:
    synthetic_store(tmp_path / "w.zarr", shape=(3, 4, 16), num_train=4)
    settings = SMALL | {"workspace": tmp_path, "prepare.store": tmp_path / "w.zarr", "tune.space": SPACE}
    settings |= {"train.folds": 3, "train.left_out": 1}
    overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    result = CliRunner().invoke(cli.main, ["tune", "line", "--retrain", *overrides])
    assert result.exit_code == 2, result.output
    assert "of 3 objects to train on none falls into fold 0, 2" in result.output
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_search_leaves_one_run_with_a_child_a_trial_and_a_model_trained_on(tmp_path: Path) -> None:
    synthetic_store(tmp_path / "w.zarr", shape=(3, 4, 16), num_train=6, num_validation=2)
    settings = SMALL | {"workspace": tmp_path, "prepare.store": tmp_path / "w.zarr"}
    settings |= {"tune.space": SPACE, "tune.num_trials": 3, "tune.concurrency": 2, "tune.epochs": 2}
    overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    result = CliRunner().invoke(cli.main, ["tune", "line", "--retrain", *overrides])
    assert result.exit_code == 0, result.output

    (folder,) = (tmp_path / "tune").iterdir()
    table = pd.read_parquet(folder / "trials.parquet")
    assert len(table) == 3
    config = load_project("line", (f"workspace={tmp_path}",))
    client = make_client(config.tracking_uri)
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["job"] == "tune"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "search")} == {
        f"search/{name}" for name in ("trials.csv", "trials.parquet", "parallel.png", "best.yaml")
    }
    children = {run.info.run_name: run for run in runs if run.data.tags["job"] == "trial"}
    assert set(children) == set(table["trial"])
    for row in table.to_dict("records"):
        child = children[row["trial"]]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.params == {key: str(row[key]) for key in ("train.lr", "model.latent_dim")}
        history = client.get_metric_history(child.info.run_id, "best_nll")
        assert [entry.step for entry in history] == list(range(row["epochs"]))
        assert history[-1].value == row["nll"]

    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert best["train"]["lr"] == table["train.lr"][0]
    (trained,) = [run for run in runs if run.data.tags["job"] == "train"]
    assert float(trained.data.params["train.lr"]) == best["train"]["lr"]
    assert client.get_model_version_by_alias("cubescout", "candidate").run_id == trained.info.run_id

    with holding(tmp_path / "training" / folder.name):
        result = CliRunner().invoke(cli.main, ["tune", "line", "--retrain", *overrides])
    assert result.exit_code == 2, result.output
    assert f"{folder.name}: process" in result.output
