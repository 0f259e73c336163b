"""Trainings that start from a registered model, from a folder, and from the model that comes with the package."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jobs import cli
from jobs.config import load_project
from modeling.network import pretrained
from modeling.tracking.models import find_version, resolve_model
from modeling.tracking.runs import make_client
from tests.synthetic import synthetic_store

SMALL = {
    **{f"model.{key}": 4 for key in ("latent_dim", "step_channels", "lstm_channels", "decoder_channels")},
    "train.num_workers": 0,
    "train.threads": 1,
    "train.epochs": 1,
    "train.batch_size": 8,
    "train.folds": 0,
}


def invoke(workspace: Path, *arguments: str, job: str = "train", **settings: Any) -> tuple[int, str]:
    values = SMALL | {"workspace": workspace, "prepare.store": workspace / "w.zarr"} | settings
    overrides = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    result = CliRunner().invoke(cli.main, [job, "line", *arguments, *overrides])
    return result.exit_code, " ".join(result.output.split())


def store(workspace: Path, seed: int) -> None:
    synthetic_store(workspace / "w.zarr", shape=(3, 4, 16), num_train=6, num_validation=2, seed=seed)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a trained model."""
    workspace = tmp_path_factory.mktemp("source")
    store(workspace, seed=0)
    code, text = invoke(workspace)
    assert code == 0, text
    return workspace


def folder_of(source: Path) -> Path:
    (found,) = (source / "models").iterdir()
    return found


@pytest.fixture
def target(tmp_path: Path) -> Path:
    store(tmp_path, seed=1)
    return tmp_path


def uri(workspace: Path) -> str:
    return load_project("line", (f"workspace={workspace}",)).tracking_uri


@pytest.mark.slow
def test_a_registered_model_is_recorded_in_run_version_and_card(source: Path, target: Path) -> None:
    settings = {"train.start_from": "models:/cubescout@champion", "tracking.uri": uri(source)}
    settings |= {"tracking.model_name": "tuned", "train.freeze": "all-but-last", "train.folds": 2, "train.left_out": 1}
    code, text = invoke(target, **settings)
    assert code == 0, text
    assert "Starts from models:/cubescout/1 (weights " in text
    client = make_client(uri(source))
    given, made = find_version(client, "models:/cubescout@champion"), find_version(client, "models:/tuned@champion")
    run = client.get_run(made.run_id)
    for tags in (made.tags, run.data.tags):
        assert tags["start_from"] == "models:/cubescout/1"
        assert tags["start_run"] == given.run_id
        assert len(tags["start_sha256"]) == 64
    assert run.data.params["train.start_from"] == "models:/cubescout@champion"
    assert f"`models:/cubescout/1` (sha256 `{made.tags['start_sha256'][:12]}`)" in made.description
    # The same command again resumes: nothing is trained, and the version stays.
    assert invoke(target, **settings)[0] == 0
    assert find_version(client, "models:/tuned@candidate").version == made.version
    assert resolve_model(uri(source), "models:/tuned@champion").reference == "models:/tuned/1"


@pytest.mark.slow
def test_another_start_is_another_training(source: Path, target: Path) -> None:
    assert invoke(target, **{"train.start_from": folder_of(source)})[0] == 0
    (run,) = (target / "models").iterdir()
    code, text = invoke(target, "--resume", run.name)
    assert code == 2
    assert f"train.start_from was {folder_of(source)}, here it is None" in text


@pytest.mark.slow
def test_a_start_that_has_seen_the_galaxies_is_refused_with_folds_and_noted_without(
    source: Path, tmp_path: Path
) -> None:
    store(tmp_path, seed=0)  # the store that it was trained on
    folds = {"train.start_from": folder_of(source), "train.folds": 2, "train.left_out": 1}
    code, text = invoke(tmp_path, **folds)
    assert code == 2
    assert "has seen 7 objects of this store (1-100, 1-101, 1-50 ...): with train.folds, 2, no model would be" in text
    code, text = invoke(tmp_path, "--force", **folds)
    assert code == 0, text
    assert "Note: " in text
    code, text = invoke(tmp_path, **folds | {"train.folds": 0})
    assert code == 0, text
    assert "has seen 7 objects of this store" in text


@pytest.mark.slow
def test_windows_made_otherwise_are_refused_unless_forced(source: Path, target: Path) -> None:
    shutil.copytree(folder_of(source), target / "other")
    description = json.loads((target / "other" / "model.json").read_text())
    description["metadata"]["window_settings"]["prepare.windows.continuum"] = "sidebands"
    (target / "other" / "model.json").write_text(json.dumps(description))
    settings = {"train.start_from": target / "other"}
    code, text = invoke(target, **settings)
    assert code == 2
    assert "where prepare.windows.continuum is None, the model was trained on sidebands. Start from a model" in text
    assert not (target / "models").exists()
    code, text = invoke(target, "--force", **settings)
    assert code == 0, text


@pytest.mark.slow
def test_the_package_s_model_is_a_start_and_scores(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", target / "none")
    for job, key in (("train", "train.start_from"), ("score", "score.model")):
        code, text = invoke(target, job=job, **{key: "pretrained"})
        assert code == 1
        assert "no pretrained model in this version: name a registered model or a model's folder" in text
    shutil.copytree(folder_of(source), target / "package")
    (target / "package" / "card.json").write_text('{"description": "Of 7 simulated galaxies."}')
    monkeypatch.setattr(pretrained, "FOLDER", target / "package")
    code, text = invoke(target, **{"train.start_from": "pretrained"})
    assert code == 0, text
    assert "Starts from pretrained (weights " in text
    assert "Of 7 simulated galaxies." in text


def test_a_search_does_not_vary_a_network_that_is_fixed(target: Path) -> None:
    code, text = invoke(target, job="tune", **{"train.start_from": "pretrained"})
    assert code == 2
    assert "model.latent_dim: train.start_from fixes the network, so only keys of train can be searched" in text
