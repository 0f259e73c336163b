"""Settings of the page."""

from pydantic import Field

from cubeprep.config import Config


class ExploreConfig(Config):
    """The page: all galaxies in its gallery and map, the most unusual in full in the exported file."""

    num_galaxies: int = Field(
        12, ge=1, description="Most unusual galaxies whose maps and spectra explore.html holds; --serve shows all"
    )
    key_lines: tuple[str, ...] = Field(
        ("Hb-4862", "OIII-5008", "OI-6302", "Ha-6564", "NII-6585", "SII-6718"),
        description="Lines shown at once, with the one that contributes most; the others at a click",
    )
    thumbnail_line: str = Field(
        "Ha-6564", description="Line of the thumbnails; the first line where there is none such"
    )
