"""Names and sentences for fits, from place, width, velocity and line ratios of a component."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from modeling.scoring.artefacts import FWHM_PER_SIGMA
from modeling.scoring.hypotheses.components import Light
from modeling.scoring.hypotheses.diagrams import Ratios
from modeling.scoring.hypotheses.images import Sharpness
from modeling.scoring.hypotheses.ordinary import Place
from modeling.scoring.hypotheses.templates import Templates

INSTRUMENT_KMS = 70.0  # standard deviation of MaNGA's line-spread function
# A profile of several times the width of the windows is nearly flat in them: errors from the curvature of chi2 are then
# too small, in injections by the FWHM over this one.
FLAT_FWHM_KMS = 2000.0
RESOLVED_KMS = 20.0  # standard deviation, without the instrument's, below which nothing is resolved
# Outflows: broader than gravity makes the gas of a nucleus (Harrison+2014, doi:10.1093/mnras/stu515), or broad and
# moving against the galaxy.
WING_FWHM_KMS = 700.0
MOVING_FWHM_KMS = 250.0
MOVING_KMS = 100.0
# Three times the shift by rotation and the PSF, `ordinary.SHIFT_KMS`.
DISPLACED_KMS = 90.0
BROADENED_KMS = 400.0  # FWHM; below 700 km/s a nucleus may have it from rotation
OTHER_DEX = 0.15  # least difference of ratios that count as different
COINCIDENT_KMS = 60.0  # below this offset a peak is part of the surroundings' lines
# Vacuum rest wavelengths of the strongest lines of distant galaxies, Angstrom.
DISTANT = {"Ha": 6564.6, "[O III]": 5008.2, "[O II]": 3728.5, "Lya": 1215.7}
MIN_DISTANCE = 0.005  # in redshift, behind the galaxy

UNCLEAR = "unclear"
NAMES = {
    "": "nothing significant",
    UNCLEAR: "no hypothesis is clearly the best",
    "broad_balmer": "broad component of the Balmer lines",
    "double_peak": "two narrow peaks in all lines",
    "wing": "broad or fast component of all lines in the nucleus",
    "agn_ratios": "line ratios above the curve of Kewley+2001",
    "metal_poor": "compact gas of strong [O III] and weak [N II]",
    "line_ratios": "other line ratios than those of the surroundings",
    "kinematics": "gas that moves against its surroundings",
    "foreign_line": "one line at a wavelength of none of the galaxy's lines, or without its companions",
    "spike": "one line sharper than the point-spread function",
    "sky_line": "one wavelength over the whole bundle",
    "lost_light": "all lines fainter by the same factor",
    "redshift": "all lines displaced alike over the whole galaxy",
    "shifted_images": "images of blue lines displaced against those of red ones",
}
# Those of the instrument or the pipeline alone; light is also lost in a galaxy's dust.
INSTRUMENTAL = ("spike", "sky_line", "shifted_images")


@dataclass(frozen=True)
class Candidate:
    """A hypothesis with the evidence for it.

    Attributes:
        name: one of `NAMES`.
        kind: of the fit, see `components.Light`; that of the test where there is none.
        text: a sentence with numbers and errors.
        evidence: gain of the information criterion over ordinary light.
        significance: root of the chi2 that it explains, in standard deviations.
        values: its parameters by the names of `explain.VALUES`.
    """

    name: str
    kind: str
    text: str
    evidence: float
    significance: float
    values: Mapping[str, float] = field(default_factory=dict)


def intrinsic_fwhm(sigma_kms: float) -> float:
    """FWHM of a line in km/s without the instrument's width."""
    return float(FWHM_PER_SIGMA * np.sqrt(max(sigma_kms**2 - INSTRUMENT_KMS**2, 0)))


def pm(value: float, error: float, signed: bool = False) -> str:
    """Value and error such as "3,100 ± 150"; rounded to ten where the error is above thirty or unknown."""
    if not np.isfinite(error):
        return f"about {round(value, -1):{'+' if signed else ''},.0f}"
    digits = _digits(error)
    value, error = round(value, digits), max(round(error, digits), 1.0)
    return f"{value:+,.0f} ± {error:,.0f}" if signed else f"{value:,.0f} ± {error:,.0f}"


def width(fwhm: float, error: float) -> str:
    """FWHM in km/s with its error, such as "FWHM 310 ± 20 km/s"; an upper limit where the line is not resolved."""
    narrowest = FWHM_PER_SIGMA * RESOLVED_KMS
    if np.isfinite(error) and fwhm < max(error, narrowest):
        return f"unresolved (below {round(max(fwhm + 2 * error, narrowest), _digits(error)):,.0f} km/s)"
    return f"FWHM {pm(fwhm, error)} km/s"


def _digits(error: float) -> int:
    """Digits after the point, as `round` takes them."""
    return -1 if error > 30 else 0


@dataclass(frozen=True)
class Describer:
    """Names fits at one place.

    Attributes:
        templates: of the survey.
        place: where the fits were made.
        where: the place in words.
        central: whether it is the centre.
        z: redshift of the galaxy.
        scale: reduced chi2 of the best fit, at least 1.
    """

    templates: Templates
    place: Place
    where: str
    central: bool
    z: float
    scale: float

    def broad(self, light: Light) -> Candidate:
        """Broad Balmer lines."""
        (velocity, sigma), (_, error) = light.parameters, light.errors * np.sqrt(self.scale)
        fwhm = FWHM_PER_SIGMA * sigma
        error = FWHM_PER_SIGMA * error * max(fwhm / FLAT_FWHM_KMS, 1)
        text = f"broad Balmer component: FWHM {pm(fwhm, error)} km/s, {self.where}"
        index = self.templates.index("Ha-6564")
        narrow = 0.0 if index is None else self.place.amount(light.spectrum)[0] * self.place.host.flux[index]
        if index is not None and narrow > 0 and light.flux[index] > 0:
            text += f", log broad/narrow Ha {np.log10(light.flux[index] / narrow):.1f}"
        return self._candidate("broad_balmer", light, text, {"velocity_kms": velocity, "fwhm_kms": fwhm})

    def peaks(self, light: Light) -> Candidate:
        """Two peaks."""
        apart, error = light.parameters[2], light.errors[2] * np.sqrt(self.scale)
        sides = light.parameters[0] + np.array([-0.5, 0.5]) * apart - self.place.host.velocity_kms
        near, far = sorted(sides, key=abs)
        if abs(near) < COINCIDENT_KMS and abs(far) > 2 * DISPLACED_KMS:
            text = f"gas at {far:+.0f} km/s from {self._against}, {self.where}"
            return self._candidate("kinematics", light, text, {"velocity_kms": far + self.place.host.velocity_kms})
        text = f"double-peaked lines: {pm(apart, error)} km/s apart, {self.where}"
        values = {"velocity_kms": light.parameters[0], "separation_kms": apart}
        return self._candidate("double_peak", light, text, values)

    def single(self, light: Light) -> Candidate:
        """One component of narrow lines."""
        velocity, sigma = light.parameters
        dv, ds = light.errors * np.sqrt(self.scale)
        fwhm, offset = intrinsic_fwhm(sigma), velocity - self.place.host.velocity_kms
        # A nucleus is compared with the galaxy's velocity, not with its host's.
        offset = velocity if self.central else offset
        split, total, purest = self._ratios(light)
        ratios, name = self._name(fwhm, offset, split, total, purest)
        values = {"velocity_kms": velocity, "fwhm_kms": fwhm}
        values |= {"log_nii_ha": ratios.nii_ha.value, "log_oiii_hb": ratios.oiii_hb.value}
        # FWHM and sigma differ by the instrument's width in quadrature.
        wide = width(fwhm, FWHM_PER_SIGMA * ds * sigma / max(fwhm / FWHM_PER_SIGMA, RESOLVED_KMS))
        moving = f"{pm(velocity, dv, signed=True)} km/s, {wide}"
        measured = f": {ratios.text()}" if ratios.text() else ""
        side = "blue" if offset < -MOVING_KMS / 2 else "red" if offset > MOVING_KMS / 2 else "broad"
        texts = {
            "wing": f"{side} wing of the lines: {moving}, {self.where}",
            "metal_poor": f"metal-poor starburst{measured}, {self.where}",
            "agn_ratios": f"AGN-like gas{measured}, {self.where}",
            "kinematics": f"gas at {pm(offset, dv, signed=True)} km/s from {self._against}, {wide}{measured}, "
            f"{self.where}",
            "": "",
            UNCLEAR: f"broadened lines: {moving}, {self.where}",
            "line_ratios": f"other line ratios than around it{measured}, {self.where}",
        }
        return self._candidate(name, light, texts[name], values)

    @property
    def _against(self) -> str:
        """Reference of the velocity, in words."""
        return "the galaxy's mean velocity" if self.place.of_galaxy else "its surroundings"

    def line(self, light: Light, sharpness: Sharpness) -> Candidate:
        """One line: of another galaxy, or a cosmic ray where it is sharper than the PSF or the spectrograph."""
        wave, error = light.parameters[0], light.errors[0] * np.sqrt(self.scale)
        observed = wave * (1 + self.z)
        at = f"{observed:.1f} ± {max(error * (1 + self.z), 0.1):.1f} Angstrom"
        values = {"wave_angstrom": observed}
        if sharpness.is_sharp:
            size = f"{sharpness.width:.1f} times as wide as the PSF"
            return self._candidate("spike", light, f"cosmic ray: {size}, at {at}, {self.where}", values)
        origins = [
            f"{name} at z {observed / rest - 1:.3f}"
            for name, rest in DISTANT.items()
            if observed / rest - 1 > self.z + MIN_DISTANCE
        ]
        text = f"foreign line: {at}, {self.where} ({' or '.join(origins)})"
        return self._candidate("foreign_line", light, text, values)

    def _candidate(self, name: str, light: Light, text: str, values: Mapping[str, float]) -> Candidate:
        evidence = light.evidence(self.place.excess.count, self.scale)
        significance = float(np.sqrt(max(light.gain / self.scale, 0)))
        return Candidate(name, light.kind, text, evidence, significance, {k: float(v) for k, v in values.items()})

    def _ratios(self, light: Light) -> tuple[Ratios, Ratios, Ratios]:
        """Ratios of a component, of the whole source, and of the source less the most host light that it may hold.

        Where a component and its host have the same profile, their shares are undetermined: only their sum is known,
        and an upper limit on the host from the line that exceeds it least.
        """
        host = self.place.host
        total = light.flux + max(self.place.amount(light.spectrum)[0], 0) * host.flux
        gram, _ = self.place.excess.normal(self.templates.component(light.parameters[:1], light.parameters[1:2]))
        precision = self._precision(light)
        error = np.sqrt(self.scale / np.maximum(precision, 1e-300))
        strong = host.strong & (np.diag(gram[0]) > 0)
        share = ((total + error)[strong] / host.flux[strong]).min() if strong.any() else 0.0
        purest = total - share * np.where(strong, host.flux, 0)
        return (
            Ratios.of(self.templates, light.flux, light.flux_error * np.sqrt(self.scale)),
            Ratios.of(self.templates, total, error),
            Ratios.of(self.templates, purest, error),
        )

    def _precision(self, light: Light) -> np.ndarray:
        """Inverse variance [L] of each line's total flux, without nuisances."""
        spectra = self.templates.component(light.parameters[:1], light.parameters[1:2])[0]
        return np.asarray(spectra**2 @ self.place.excess.weight)

    def _name(self, fwhm: float, offset: float, split: Ratios, total: Ratios, purest: Ratios) -> tuple[Ratios, str]:
        """Ratios to quote, and the name of a component."""
        ratios = split if split.nii_ha.known and split.oiii_hb.known else total
        moving = abs(offset) > MOVING_KMS and fwhm > MOVING_FWHM_KMS
        if self.central and (fwhm > WING_FWHM_KMS or moving):
            return ratios, "wing"
        if purest.is_metal_poor or ratios.is_metal_poor:
            return (ratios if ratios.is_metal_poor else purest), "metal_poor"
        # Where [N II] exceeds the host least, all of it may be the host's, and the component metal-poor.
        open_nii = purest.nii_ha.known and purest.nii_ha.value < ratios.nii_ha.value - 0.3
        if ratios.is_agn and not open_nii:
            return ratios, "agn_ratios"
        if fwhm > WING_FWHM_KMS and abs(offset) > MOVING_KMS:
            return ratios, "wing"
        if fwhm > BROADENED_KMS:
            return ratios, UNCLEAR
        if abs(offset) > DISPLACED_KMS:
            return ratios, "kinematics"
        host = self.place.host
        own = Ratios.of(self.templates, host.flux, host.error)
        return ratios, "line_ratios" if ratios.differ(own, OTHER_DEX) else ""
