"""Section `tracking` of the configuration."""

from pydantic import Field

from cubeprep.config import Config


class TrackingConfig(Config):
    """MLflow's backend, and the names of runs, models and catalogs in it."""

    uri: str | None = Field(None, description="MLflow tracking URI; default: SQLite, mlflow.db in the workspace")
    experiment: str = Field("cubescout", min_length=1, description="MLflow experiment of all runs")
    model_name: str = Field("cubescout", pattern=r"^[^/:]+$", description="Name of the registered model")
    catalog_name: str = Field("cubescout-catalog", pattern=r"^[^/:]+$", description="Name of the registered catalog")
