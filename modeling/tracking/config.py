"""Section `tracking`."""

from pydantic import Field

from cubeprep.config import Config


class TrackingConfig(Config):
    """Where MLflow keeps runs and models."""

    uri: str | None = None  # default: SQLite in the workspace
    experiment: str = Field("cubescout", min_length=1)
    model_name: str = Field("cubescout", pattern=r"^[^/:]+$")
    catalog_name: str = Field("cubescout-catalog", pattern=r"^[^/:]+$")
