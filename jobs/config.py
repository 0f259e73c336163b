"""The configuration of a project: one YAML file, of which each job reads its sections."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator

from cubeprep.config import Config, ConfigError, config_error, load_config
from cubeprep.prepare_config import PrepareConfig
from cubeprep.simulate.config import SimulateConfig
from cubeprep.storage import is_remote
from cubeprep.survey import SurveyConfig
from cubeprep.words import closest, suggestion
from jobs.engines.dask_on_ray import DaskOnRayConfig
from jobs.page.config import ExploreConfig
from modeling.labels.config import RerankConfig
from modeling.network.config import SIZE_MULTIPLE, ModelConfig
from modeling.scoring.config import ScoreConfig
from modeling.tracking.config import TrackingConfig
from modeling.tracking.database import sqlite_uri
from modeling.training.config import TrainConfig, TuneConfig, loss_mistake


class ProjectConfig(Config):
    """One survey, from cubes to catalog. Results go to `workspace`; paths are relative to the current folder."""

    workspace: Path = Field(description="Folder of results")
    preset: str = Field(
        "",
        description="Shipped configuration whose values hold where this one sets none; registered models keep its name",
    )
    seed: int = Field(0, ge=0, description="Seed of all random numbers")
    simulate: SimulateConfig = Field(SimulateConfig(), description="Survey that `simulate` makes")
    survey: SurveyConfig = Field(SurveyConfig(), description="Survey that is read: its files, reader and cuts")
    prepare: PrepareConfig = Field(PrepareConfig(), description="Windows cut from the cubes, and their store")
    dask_on_ray: DaskOnRayConfig = Field(DaskOnRayConfig(), description="Dask workers in actors of a Ray cluster")
    tracking: TrackingConfig = Field(TrackingConfig(), description="MLflow server, experiment and registered model")
    model: ModelConfig = Field(ModelConfig(), description="Network and its normalisation")
    train: TrainConfig = Field(TrainConfig(), description="Training: optimizer, loss, workers and cross-fitting")
    tune: TuneConfig = Field(TuneConfig(), description="Search of hyperparameters")
    score: ScoreConfig = Field(ScoreConfig(), description="Scores, calibration and columns of the catalog")
    explore: ExploreConfig = Field(ExploreConfig(), description="Page of the catalog")
    rerank: RerankConfig = Field(RerankConfig(), description="Ranking learned from labels")

    @field_validator("preset")
    @classmethod
    def _check_preset(cls, preset: str) -> str:
        if preset and preset not in shipped_configs():
            hint = suggestion(closest(preset, shipped_configs()))
            raise ValueError(f"no such shipped configuration{hint}; known are {', '.join(shipped_configs())}")
        return preset

    @property
    def survey_root(self) -> str:
        """Folder or URL of the cubes; by default the folder that `simulate` writes to."""
        return self.survey.root or str(self.workspace / "survey")

    @property
    def store_path(self) -> str:
        """Path or URL of the window store."""
        return self.prepare.store or str(self.workspace / "windows.zarr")

    @property
    def checkpoints_path(self) -> str:
        """Path or URL of the trainings' checkpoints."""
        return self.train.storage or str(self.workspace / "training")

    def folder_of(self, name: str) -> str:
        """Local folder of a training or search: that of its checkpoints, or of its model if those are at a URL."""
        return str(
            Path(self.workspace / "models" if is_remote(self.checkpoints_path) else self.checkpoints_path) / name
        )

    @property
    def tracking_uri(self) -> str:
        """URI of MLflow's backend; by default SQLite in the workspace."""
        return self.tracking.uri or sqlite_uri(self.workspace / "mlflow.db")

    @property
    def catalog_path(self) -> Path:
        """The anomaly catalog."""
        return self.workspace / "catalog.parquet"

    @property
    def labels_path(self) -> Path:
        """Labels given to galaxies."""
        return self.workspace / "labels.jsonl"

    @property
    def ranking_path(self) -> Path:
        """The catalog ranked by labels."""
        return self.workspace / "ranking.parquet"

    @property
    def page_path(self) -> Path:
        """The page of the most unusual galaxies."""
        return self.workspace / "explore.html"


def load_project(name_or_path: str, overrides: tuple[str, ...] = ()) -> ProjectConfig:
    """Loads a YAML file, or a shipped configuration by name.

    Raises:
        ConfigError: there is no such file or name, or the configuration has mistakes.
    """
    path = find_config(name_or_path)
    config = load_config(ProjectConfig, path, overrides, _of_preset)
    if mistakes := _mistakes_of_sections_together(config):
        raise config_error(path, mistakes, overrides)
    return config


def _of_preset(tree: dict[str, Any]) -> dict[str, Any]:
    """Values of the shipped configuration that a configuration names as its preset."""
    path = shipped_configs().get(str(tree.get("preset")))
    return yaml.safe_load(path.read_text()) if path else {}


def _mistakes_of_sections_together(config: ProjectConfig) -> list[str]:
    """Mistakes that would otherwise show only after the windows are cut, when a model is trained on them."""
    size, side = config.prepare.windows.size, config.model.hidden_side
    mistakes = [mistake] if (mistake := loss_mistake(config.model, config.train)) else []
    if config.model.kind == "masked" and side >= size:
        mistakes.append(f"model.hidden_side: {side}; expected less than prepare.windows.size, {size}")
    if config.model.kind == "masked" and len(config.prepare.windows.line_list) < 2:
        mistakes.append("prepare.windows.lines: one line; model.kind masked predicts lines from others, give several")
    if size % SIZE_MULTIPLE:
        near = size // SIZE_MULTIPLE * SIZE_MULTIPLE
        known = f"{SIZE_MULTIPLE} (they halve it three times), such as {near} or {near + SIZE_MULTIPLE}"
        mistakes.append(f"prepare.windows.size: {size}; models take a multiple of {known}")
    return mistakes


def shipped_configs() -> dict[str, Path]:
    """Files of the shipped configurations by their names, in alphabetical order."""
    return {path.stem: path for path in sorted(Path(str(files("jobs") / "configs")).glob("*.yaml"))}


def find_config(name_or_path: str) -> Path:
    """File of a configuration, given its path or the name of a shipped one such as `demo`."""
    path, shipped = Path(name_or_path), shipped_configs()
    if path.is_file():
        return path
    if name_or_path in shipped:
        return shipped[name_or_path]
    hint = suggestion(closest(name_or_path, shipped))
    raise ConfigError(name_or_path, [f"neither a file nor a shipped configuration ({', '.join(shipped)}){hint}"])
