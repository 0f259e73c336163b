"""Section `rerank` of the configuration."""

from pydantic import Field

from cubeprep.config import Config


class RerankConfig(Config):
    """Ranking by labels."""

    usual: tuple[str, ...] = Field(
        ("usual", "uninteresting", "artefact", "artifact"),
        description="Labels that mean 'not interesting', in capitals or not; any other label counts as a detection",
    )
    num_next: int = Field(10, ge=1, description="Number of galaxies suggested for labelling next")
