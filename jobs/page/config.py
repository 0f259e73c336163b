"""What the page shows."""

from pydantic import Field

from cubeprep.config import Config


class ExploreConfig(Config):
    """The page of the most unusual galaxies."""

    num_galaxies: int = Field(12, ge=1)
