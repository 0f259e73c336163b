"""Configuration of the page."""

from typing import Literal

from pydantic import Field

from cubeprep.config import Config


class ExploreConfig(Config):
    """Contents of the page: galaxies that the exported file holds in full, and lines that are shown first."""

    num_galaxies: int = Field(
        12, ge=1, description="Most unusual galaxies whose maps and spectra explore.html contains; --serve shows all"
    )
    key_lines: tuple[str, ...] = Field(
        ("Hb-4862", "OIII-5008", "OI-6302", "Ha-6564", "NII-6585", "SII-6718"),
        description="Lines shown at first, beside the one that contributes most; a click shows all",
    )
    thumbnail_line: str = Field(
        "Ha-6564", description="Line of the thumbnails; the store's first line if it lacks this one"
    )
    sky_image: Literal["legacy", "panstarrs", "sdss", "dss"] | None = Field(
        None,
        description="Survey of which the page shows an image beside the maps of a galaxy. Browsers request it from CDS "
        "(alasky.cds.unistra.fr), which so learns the positions that are looked at, also those of the exported file; "
        "by default nothing is requested",
    )
