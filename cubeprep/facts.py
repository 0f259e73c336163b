"""Constants of a survey, from its files or its papers; each reader defines those of its survey."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class SurveyFacts:
    """Constants of a survey.

    Attributes:
        flux_unit: unit of the fluxes that the reader returns.
        spaxel_arcsec: side of a spaxel, arcsec; None if only the headers of the cubes give it.
        orientation: orientation of the sky in the arrays, such as `north up, east left`; empty if it varies.
        psf_fwhm_arcsec: typical full width at half maximum of the point-spread function; None if it varies.
        page_url: template of a galaxy's public page, with the fields `{plateifu}`, `{ra_deg}` and `{dec_deg}`, the
            last two with a format such as `{ra_deg:.6f}`; empty if there are no such pages.
    """

    flux_unit: str
    spaxel_arcsec: float | None = None
    orientation: str = ""
    psf_fwhm_arcsec: float | None = None
    page_url: str = ""

    @property
    def north_up(self) -> bool:
        """Whether north is up and east left in the arrays; False if that is not known."""
        return self.orientation.startswith("north up, east left")

    @property
    def psf_fwhm_spaxels(self) -> float | None:
        """FWHM of the point-spread function in spaxels; None if it or the spaxel size is unknown."""
        if self.spaxel_arcsec is None or self.psf_fwhm_arcsec is None:
            return None
        return self.psf_fwhm_arcsec / self.spaxel_arcsec

    def to_json(self) -> dict[str, Any]:
        """JSON values, in the form that a store records."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SurveyFacts":
        """Facts recorded in a store; fields that a later version added are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
