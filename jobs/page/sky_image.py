"""Survey images of the sky beside the maps, which the browser requests from CDS if the configuration names a survey.

The service is hips2fits (https://alasky.cds.unistra.fr/hips-image-services/hips2fits). It learns which positions are
looked at, so it is off by default, and the page's policy allows its address only where it is on.
"""

from typing import NamedTuple
from urllib.parse import quote

from cubeprep.config import MistakeError
from cubeprep.facts import SurveyFacts

ENDPOINT = "https://alasky.cds.unistra.fr/hips-image-services/hips2fits"
PIXELS = 300


class ImageSurvey(NamedTuple):
    """Survey of which CDS has images: name, identifier of its HiPS, and credit."""

    name: str
    hips: str
    credit: str


SURVEYS = {
    "legacy": ImageSurvey(
        "Legacy Surveys DR10",
        "CDS/P/DESI-Legacy-Surveys/DR10/color",
        "Legacy Surveys / D. Lang (Perimeter Institute)",
    ),
    "panstarrs": ImageSurvey("Pan-STARRS DR1", "CDS/P/PanSTARRS/DR1/color-z-zg-g", "Pan-STARRS1 Surveys / STScI"),
    "sdss": ImageSurvey("SDSS DR9", "CDS/P/SDSS9/color", "Sloan Digital Sky Survey"),
    "dss": ImageSurvey("DSS2", "CDS/P/DSS2/color", "Digitized Sky Survey, STScI / NASA"),
}


def sky_image(survey: str | None, facts: SurveyFacts, size: int) -> dict[str, str | float] | None:
    """Address and credit of images with the field of view of the windows; None without a survey.

    Args:
        survey: key of `SURVEYS`, or None.
        facts: of the survey of the cubes.
        size: side of the windows, spaxels.

    Returns:
        `url` with the fields `{ra}` and `{dec}`, degrees, ICRS; `name`; `credit`; `side_arcsec`; `host`.

    Raises:
        MistakeError: the galaxies are not known to be on the sky, or the size of the windows there is unknown.
    """
    if survey is None:
        return None
    if not facts.page_url:
        raise MistakeError(
            f"explore.sky_image: {survey}; these galaxies are simulated, or of a survey without public pages, so that "
            "the page shows no image of their positions; expected null"
        )
    if facts.spaxel_arcsec is None:
        raise MistakeError(
            f"explore.sky_image: {survey}; the size of a spaxel on the sky is unknown, or differs between galaxies "
            "(prepare.windows.space: scale-to-re), and with it the field of view; expected null"
        )
    chosen, side_arcsec = SURVEYS[survey], size * facts.spaxel_arcsec
    query = (
        f"hips={quote(chosen.hips, safe='')}&width={PIXELS}&height={PIXELS}&projection=TAN&coordsys=icrs"
        f"&fov={side_arcsec / 3600:.6f}&ra={{ra}}&dec={{dec}}&format=jpg"
    )
    return {
        "url": f"{ENDPOINT}?{query}",
        "name": chosen.name,
        "credit": chosen.credit,
        "side_arcsec": side_arcsec,
        "host": ENDPOINT.split("/")[2],
    }


def image_sources(own: str, image: dict[str, str | float] | None) -> str:
    """Sources of the policy's `img-src`: the page's own, and the service's address if the page shows its images."""
    return f"{own} {ENDPOINT}" if image else own
