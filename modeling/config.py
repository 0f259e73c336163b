"""What to train, search, score and track. The networks themselves take plain arguments and need torch alone."""

from typing import Literal

from pydantic import Field

from cubeprep.config import Config


class TrackingConfig(Config):
    """Where MLflow keeps runs and models."""

    uri: str | None = None  # default: SQLite in the workspace
    experiment: str = "cubescout"
    model_name: str = "cubescout"
    catalog_name: str = "cubescout-catalog"


class ModelConfig(Config):
    """The autoencoder."""

    kind: Literal["ae", "vae"] = "ae"


class TrainConfig(Config):
    """One training run."""

    epochs: int = Field(5, ge=1)
    num_workers: int = Field(1, ge=0)


class TuneConfig(Config):
    """A hyperparameter search."""

    num_trials: int = Field(4, ge=1)


class ScoreConfig(Config):
    """Scores, neighbours and UMAP."""

    num_neighbours: int = Field(5, ge=1)
