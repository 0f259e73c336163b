"""Section `rerank`."""

from pydantic import Field

from cubeprep.config import Config


class RerankConfig(Config):
    """A ranking by labels."""

    usual: tuple[str, ...] = Field(
        ("usual", "uninteresting", "artefact"), description="Labels of galaxies that are no finds; all others are"
    )
    num_next: int = Field(10, ge=1, description="Galaxies to ask for")
