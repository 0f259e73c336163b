"""What the page shows."""

from pydantic import Field

from cubeprep.config import Config


class ExploreConfig(Config):
    """The page of the most unusual galaxies."""

    num_galaxies: int = Field(12, ge=1, description="Galaxies with a card of their own")
    key_lines: tuple[str, ...] = Field(
        ("Hb-4862", "OIII-5008", "OI-6302", "Ha-6564", "NII-6585", "SII-6718"),
        description="Lines shown at once, with those that contribute most; the others at a click",
    )
    thumbnail_line: str = Field(
        "Ha-6564", description="Line of the thumbnails; the first line where there is none such"
    )
