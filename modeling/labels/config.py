"""Section `rerank` of the configuration."""

from pydantic import Field

from cubeprep.config import Config


class RerankConfig(Config):
    """Ranking by labels."""

    usual: tuple[str, ...] = Field(
        ("usual", "uninteresting", "artefact", "artifact"),
        description="Labels that mean 'not interesting', ignoring case; any other label means an unusual galaxy",
    )
    num_next: int = Field(10, ge=1, description="Number of galaxies suggested for labelling next")
