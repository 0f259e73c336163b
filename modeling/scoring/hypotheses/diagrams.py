"""Line ratios of a component, and the state of its gas by published demarcations.

Kewley+2001 (doi:10.1086/321545): above the curve young stars cannot ionise the gas. That of Kauffmann+2003 is not used:
composite gas lies between the two, which is no hypothesis of its own. Marino+2013 (doi:10.1051/0004-6361/201321956):
oxygen abundance from [N II] / Halpha.
"""

from dataclasses import dataclass

import numpy as np

from cubeprep.line_ratios import kewley2001
from modeling.scoring.hypotheses.templates import Templates

# log [N II] / Halpha of 12 + log(O/H) = 8.28. Narrow-line regions of active nuclei are metal-rich and lie above it
# (Groves+2006, doi:10.1111/j.1365-2966.2006.10812.x).
METAL_POOR = -1.0
# He II 4687 / Hbeta above which a nucleus is active (Shirazi & Brinchmann 2012, doi:10.1111/j.1365-2966.2012.20439.x).
HEII = 0.1
HIGH_EXCITATION = 0.5  # log [O III] / Hbeta of compact starbursts (Yang+2017, ApJ 847, 38)
MIN_SNR = 3.0


@dataclass(frozen=True)
class Ratio:
    """Log10 of a ratio with its error; an upper limit where the line above is not detected, NaN where unknown."""

    value: float
    error: float
    is_limit: bool = False

    @property
    def known(self) -> bool:
        """Whether there is a value or a limit."""
        return bool(np.isfinite(self.value))

    def text(self, name: str) -> str:
        """Such as "log [N II]/Ha -0.12 ± 0.03"."""
        return f"log {name} {'< ' if self.is_limit else ''}{self.value:.2f}" + (
            "" if self.is_limit else f" ± {self.error:.2f}"
        )


NOTHING = Ratio(float("nan"), float("nan"))


def ratio(templates: Templates, flux: np.ndarray, error: np.ndarray, above: tuple[str, ...], below: str) -> Ratio:
    """Log10 of the summed flux of some lines over that of another.

    Args:
        templates: of the survey.
        flux: [L].
        error: [L]; an amplitude of zero has the error that it would have.
        above: lines of the numerator.
        below: line of the denominator.
    """
    if not {*above, below} <= set(templates.names):
        return NOTHING
    up, down = [templates.names.index(name) for name in above], templates.names.index(below)
    if flux[down] < MIN_SNR * error[down]:
        return NOTHING
    total, noise = float(flux[up].sum()), float(np.sqrt((error[up] ** 2).sum()))
    if not np.isfinite(noise):
        return NOTHING
    if total < MIN_SNR * noise:
        return Ratio(float(np.log10((max(total, 0) + noise) / flux[down])), float("nan"), is_limit=True)
    relative = np.hypot(noise / total, error[down] / flux[down])
    return Ratio(float(np.log10(total / flux[down])), float(relative / np.log(10)))


@dataclass(frozen=True)
class Ratios:
    """Ratios of one component."""

    nii_ha: Ratio
    oiii_hb: Ratio
    sii_ha: Ratio
    heii_hb: Ratio

    @classmethod
    def of(cls, templates: Templates, flux: np.ndarray, error: np.ndarray) -> "Ratios":
        """Ratios of the fluxes [L] of a component."""
        return cls(
            ratio(templates, flux, error, ("NII-6585",), "Ha-6564"),
            ratio(templates, flux, error, ("OIII-5008",), "Hb-4862"),
            ratio(templates, flux, error, ("SII-6718", "SII-6732"), "Ha-6564"),
            ratio(templates, flux, error, ("HeII-4687",), "Hb-4862"),
        )

    def differ(self, others: "Ratios", least_dex: float) -> bool:
        """Whether a ratio differs from that of other gas, by `least_dex` and three standard deviations."""
        pairs = [(self.nii_ha, others.nii_ha), (self.oiii_hb, others.oiii_hb), (self.sii_ha, others.sii_ha)]
        for mine, other in pairs:
            if not (mine.known and other.known) or other.is_limit:
                continue
            if mine.is_limit and mine.value < other.value - least_dex:
                return True
            if not mine.is_limit and abs(mine.value - other.value) > max(
                least_dex, 3 * np.hypot(mine.error, other.error)
            ):
                return True
        return False

    def text(self) -> str:
        """All that are known, in words."""
        named = (
            ("[N II]/Ha", self.nii_ha),
            ("[O III]/Hb", self.oiii_hb),
            ("[S II]/Ha", self.sii_ha),
            ("He II/Hb", self.heii_hb),
        )
        return ", ".join(
            each.text(name) for name, each in named if each.known and not (each.is_limit and name == "He II/Hb")
        )

    @property
    def is_metal_poor(self) -> bool:
        """Whether weak [N II], strong [O III] (at two standard deviations) and no `has_heii` mark metal-poor gas."""
        strong = self.oiii_hb.known and not self.oiii_hb.is_limit
        return bool(
            self.nii_ha.value < METAL_POOR
            and strong
            and self.oiii_hb.value - 2 * self.oiii_hb.error > HIGH_EXCITATION
            and not self.has_heii
        )

    @property
    def has_heii(self) -> bool:
        """Whether He II needs a harder radiation than that of stars, at two standard deviations."""
        known = self.heii_hb.known and not self.heii_hb.is_limit
        return known and self.heii_hb.value - 2 * self.heii_hb.error > np.log10(HEII)

    @property
    def is_agn(self) -> bool:
        """Whether the ratios are those of an active nucleus.

        He II with strong [O III], or ratios above Kewley+2001's curve at two standard deviations, if not metal-poor.
        """
        if self.has_heii and self.oiii_hb.known and self.oiii_hb.value > HIGH_EXCITATION:
            return True
        if not (self.nii_ha.known and self.oiii_hb.known) or self.nii_ha.is_limit or self.oiii_hb.is_limit:
            return False
        corners = [
            (self.nii_ha.value + a * self.nii_ha.error, self.oiii_hb.value + b * self.oiii_hb.error)
            for a, b in ((-2, 0), (0, -2))
        ]
        return not self.is_metal_poor and all(oiii > kewley2001(nii) for nii, oiii in corners)
