"""A project of the smallest size that takes all steps, and what these leave; for tests that disturb them."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cubeprep import storage
from cubeprep.files import PARTIAL
from cubeprep.store import StoreError, WindowStore
from modeling.catalog import CatalogError, read_catalog
from modeling.network.checkpoint import load_model
from modeling.tracking.database import sqlite_uri
from modeling.tracking.models import resolve_model
from modeling.tracking.runs import find_run, make_client
from tests.chaos import Command

SETTINGS: dict[str, Any] = {
    "seed": 3,
    "prepare": {
        "windows": {"size": 8},
        "galaxies_per_shard": 1,
        "augment": {"num_views": 2},
        "split": {"validation": 0.25, "test": 0},
        "dask": {"num_workers": 2},
    },
    "model": {"latent_dim": 4, "step_channels": 4, "lstm_channels": 4, "decoder_channels": 4},
    "train": {"epochs": 3, "batch_size": 2, "threads": 1, "checkpoint_steps": 2, "lr": 5e-4},
    # No trial is stopped early, so its loss depends on its learning rate alone; none becomes better than the training.
    "tune": {"num_trials": 3, "epochs": 2, "grace_epochs": 2, "space": {"train.lr": {"choice": [1e-6, 2e-6, 3e-6]}}},
    "score": {"num_workers": 2},
}


class Workspace:
    """A workspace, and the commands on it."""

    def __init__(self, folder: Path, survey: str, settings: Mapping[str, Any]) -> None:
        self.folder, self._config, self._log = folder / "ws", folder / "config.yaml", folder / "log"
        values: dict[str, Any] = SETTINGS | {"workspace": str(self.folder), "survey": {"root": survey}}
        for key, value in settings.items():
            section, _, name = key.partition(".")
            values[section] = values.get(section, {}) | {name: value}
        folder.mkdir()
        self._config.write_text(yaml.safe_dump(values))
        self.store = str(settings.get("prepare.store", self.folder / "windows.zarr"))
        self.tracking = str(settings.get("tracking.uri", sqlite_uri(self.folder / "mlflow.db")))
        self.model = str(settings.get("tracking.model_name", "cubescout"))
        self.experiment = str(settings.get("tracking.experiment", "cubescout"))

    def start(self, step: str) -> Command:
        return Command(step, self._config, self._log)


@dataclass(frozen=True)
class Products:
    """What the four steps leave.

    Attributes:
        windows: digests of the store's arrays, by name.
        weights: digest of the weights of `train`.
        trials: final loss by learning rate.
        catalog: the catalog's table.
        names: files and folders of the workspace.
        versions: number of registered models.
        records: names of the parameters, metrics and stores that MLflow has of each kind of run.
    """

    windows: dict[str, str]
    weights: str
    trials: dict[float, float]
    catalog: pd.DataFrame
    names: set[str]
    versions: int
    records: dict[str, Any]

    @classmethod
    def of(cls, workspace: Workspace) -> "Products":
        (table,) = (pd.read_parquet(path) for path in workspace.folder.glob("tune/*/trials.parquet"))
        assert len(table) == SETTINGS["tune"]["num_trials"]
        assert np.isfinite(table["nll"]).all()
        (model,) = workspace.folder.glob("models/train-*")
        weights = weights_digest(model)
        assert weights_digest(registered(workspace, "@champion")) == weights
        versions = make_client(workspace.tracking).search_model_versions(f"name = '{workspace.model}'")
        for version in versions:
            load_model(registered(workspace, f"/{version.version}"))
        return cls(
            digests(workspace.store),
            weights,
            dict(zip(table["train.lr"], table["nll"], strict=True)),
            read_catalog(workspace.folder / "catalog.parquet").table,
            {path.name for path in workspace.folder.iterdir() if not path.name.endswith(PARTIAL)},
            len(versions),
            {job: record(workspace, job) for job in ("prepare", "train", "tune", "trial", "score")},
        )

    def assert_same(self, other: "Products") -> None:
        """Another run has the same windows and weights bit by bit, and the same scores as `reproduce` demands."""
        assert self.windows == other.windows
        assert self.weights == other.weights
        for rate in self.trials.keys() & other.trials.keys():
            assert self.trials[rate] == pytest.approx(other.trials[rate], rel=1e-6)
        pd.testing.assert_frame_equal(self.catalog, other.catalog, rtol=1e-6, atol=1e-9)
        assert self.versions == other.versions
        assert self.records == other.records
        assert self.names <= other.names  # some of them lie on servers


def weights_digest(model: Path) -> str:
    """sha256 of a model's weights."""
    return sha256((model / "model.safetensors").read_bytes()).hexdigest()


def registered(workspace: Workspace, which: str) -> Path:
    """Folder of a registered model: `@ALIAS` or `/VERSION`."""
    return resolve_model(workspace.tracking, f"models:/{workspace.model}{which}").directory


def record(workspace: Workspace, job: str) -> tuple[set[str], set[str], list[str]]:
    """Names of the parameters, metrics and stores of the last run of a job that MLflow has as finished."""
    client = make_client(workspace.tracking)
    run = find_run(workspace.tracking, workspace.experiment, {"job": job}, finished=True)
    assert run, f"no finished run of {job}"
    data, inputs = client.get_run(run).data, client.get_run(run).inputs
    metrics = {name for name in data.metrics if not name.startswith("system/")}
    return set(data.params), metrics, [used.dataset.digest for used in inputs.dataset_inputs]


def digests(store: str) -> dict[str, str]:
    """sha256 of a store's arrays; its tables name the survey's files, which lie elsewhere on S3."""
    fs, root = storage.filesystem(store)
    names = {name.removeprefix(root): name for name in fs.find(root)}
    return {short: sha256(fs.cat_file(name)).hexdigest() for short, name in names.items() if "/c/" in short}


def assert_whole_or_absent(workspace: Workspace, expected: Products) -> None:
    """No reader takes something for finished that differs from the undisturbed product."""
    with suppress(StoreError):
        WindowStore.open(workspace.store)
        assert digests(workspace.store) == expected.windows, "the store opens, and is not whole"
    for model in workspace.folder.glob("models/*/model.json"):
        load_model(model.parent)
    with suppress(CatalogError):
        table = read_catalog(workspace.folder / "catalog.parquet").table
        pd.testing.assert_frame_equal(table, expected.catalog, rtol=1e-6, atol=1e-9)
    database = workspace.folder / "mlflow.db"
    if database.exists():
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
