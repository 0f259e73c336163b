"""Constants of a survey that its files or its papers state; each reader holds its own."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class SurveyFacts:
    """Constants of a survey.

    Attributes:
        flux_unit: unit of the windows that its reader gives.
        spaxel_arcsec: side of a spaxel, arcsec; None where only the headers of the cubes have it.
        orientation: how the sky lies in the arrays, such as `north up, east left`; empty where that differs.
        psf_fwhm_arcsec: typical full width at half maximum of the point-spread function; None where it differs.
        page_url: the survey's public page of a galaxy, with the fields `{plateifu}`, `{ra_deg}` and `{dec_deg}`, the
            last two with a format such as `{ra_deg:.6f}`; empty where there is none.
    """

    flux_unit: str
    spaxel_arcsec: float | None = None
    orientation: str = ""
    psf_fwhm_arcsec: float | None = None
    page_url: str = ""

    @property
    def north_up(self) -> bool:
        """Whether north is up in the arrays."""
        return self.orientation.startswith("north up")

    @property
    def psf_fwhm_spaxels(self) -> float | None:
        """FWHM of the point-spread function in spaxels; None where one of the two is not known."""
        if self.spaxel_arcsec is None or self.psf_fwhm_arcsec is None:
            return None
        return self.psf_fwhm_arcsec / self.spaxel_arcsec

    def to_json(self) -> dict[str, Any]:
        """JSON values, as a store keeps them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SurveyFacts":
        """Facts from a store; what a later version of the store knows beyond them is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
