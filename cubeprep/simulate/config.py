"""What to simulate."""

from pydantic import Field

from cubeprep.config import Config


class SimulateConfig(Config):
    """A simulated survey."""

    num_galaxies: int = Field(48, ge=1)
    num_workers: int | None = Field(None, ge=1)
