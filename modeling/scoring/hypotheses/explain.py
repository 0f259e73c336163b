"""The hypothesis that explains best why a galaxy is unusual, in the field's words."""

from dataclasses import dataclass, field, replace

import numpy as np

from modeling.scoring.explanations import place as place_in_words
from modeling.scoring.hypotheses import components, instrument
from modeling.scoring.hypotheses.components import Light
from modeling.scoring.hypotheses.diagrams import Ratios
from modeling.scoring.hypotheses.extraction import Extracted, Galaxy, extract
from modeling.scoring.hypotheses.ordinary import Narrow, Place, fit_narrow, place_of
from modeling.scoring.hypotheses.templates import Templates

INSTRUMENT_KMS = 70.0
FWHM = 2.3548
# Differences of the information criterion: above 10 the evidence is very strong (Kass & Raftery 1995,
# doi:10.1080/01621459.1995.10476572).
CLEARLY = 10.0
MIN_EVIDENCE = 25.0
WRONG_KMS = 60.0
MIN_DEFICIT = 0.15  # of the light of the surroundings: clumps and gaps make smaller ones
OTHERS_SHARE = 0.1
UNCLEAR = "unclear"
NESTED = (("single", "peaks"), ("line", "single"), ("line", "peaks"))


@dataclass(frozen=True)
class Hypothesis:
    """An explanation."""

    name: str
    text: str
    evidence: float
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A hypothesis that competes, with the evidence for it."""

    name: str
    text: str
    evidence: float
    values: dict[str, float]
    kind: str = ""


@dataclass(frozen=True)
class Setting:
    """What is known of the survey."""

    templates: Templates
    psf_sigma: float
    spaxel_arcsec: float | None


def explain(setting: Setting, galaxy: Galaxy, region: tuple[int, int], z: float) -> tuple[Hypothesis, list[Candidate]]:
    """Best hypothesis for what a region shows, and all candidates."""
    templates = setting.templates
    height, width = galaxy.flux.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    # Without the region and its mirror image, in which a rotating disc moves the other way.
    mirror = height - region[0], width - region[1]
    outside = np.ones((height, width), dtype=bool)
    for y, x in (region, mirror):
        outside &= np.hypot(rows - y, columns - x) > 4.5 * galaxy.psf_sigma
    whole = _whole(templates, galaxy, outside)
    candidates: list[Candidate] = []
    candidates += _global(setting, galaxy, whole, outside)
    best_place = _best_place(setting, galaxy, region, whole)
    if best_place is not None:
        candidates += _local(setting, galaxy, *best_place, whole, z)
    candidates.sort(key=lambda each: -each.evidence)
    if not candidates or candidates[0].evidence < MIN_EVIDENCE:
        return Hypothesis(UNCLEAR, "unclear: nothing stands out", 0.0), candidates
    first = candidates[0]
    # Of nested models the simpler one stands unless the other is clearly better.
    for simple, rich in NESTED:
        simpler = next((each for each in candidates if each.kind == simple), None)
        if first.kind == rich and simpler is not None and first.evidence - simpler.evidence < CLEARLY:
            first = simpler
    rivals = [each for each in candidates if each.name != first.name and (first.kind, each.kind) not in NESTED]
    if rivals and first.evidence - rivals[0].evidence < CLEARLY:
        return Hypothesis(UNCLEAR, f"unclear: {first.name} or {rivals[0].name}", first.evidence), candidates
    return Hypothesis(first.name, first.text, first.evidence, first.values), candidates


def _whole(templates: Templates, galaxy: Galaxy, chosen: np.ndarray, *, central: bool = False) -> Narrow:
    good = galaxy.good & chosen
    if good.any(0).sum() < 10:
        good = galaxy.good
    flux = np.where(good, galaxy.flux, 0).sum((1, 2), dtype=np.float64)
    count = good.sum((1, 2))
    variance = np.where(count > 0, np.where(good, galaxy.variance, 0).sum((1, 2), dtype=np.float64), np.inf)
    return fit_narrow(templates, flux, variance, central=central, whole=True)


def _best_place(setting: Setting, galaxy: Galaxy, region: tuple[int, int], whole: Narrow):
    """The place within a spaxel of the region's with the highest excess."""
    found: list[Extracted] = []
    height, width = galaxy.flux.shape[1:]
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y, x = region[0] + dy, region[1] + dx
            if 0 <= y < height and 0 <= x < width:
                each = extract(galaxy, y, x)
                if each is not None:
                    found.append(each)
    if not found:
        return None
    whole_view = [each for each in found if not each.lopsided] or [each for each in found if (each.y, each.x) == region] or found
    at = max(whole_view, key=lambda each: float((np.maximum(each.source, 0) ** 2 / each.variance).sum()))
    centre = np.array([(height) / 2, (width) / 2])
    central = np.hypot(at.y - centre[0], at.x - centre[1]) <= FWHM * galaxy.psf_sigma + 0.71
    return at, place_of(setting.templates, at, whole, central=bool(central)), bool(central)


def _global(setting: Setting, galaxy: Galaxy, whole: Narrow, outside: np.ndarray) -> list[Candidate]:
    templates, found = setting.templates, []
    streak = instrument.stripe(galaxy, templates, whole)
    if streak is not None and streak.same_sign > instrument.SAME_SIGN:
        evidence = streak.light.evidence(len(templates.wave))
        sign = "" if streak.light.flux[0] > 0 else "negative "
        found.append(Candidate("sky_line", f"{sign}sky-line residual", evidence, {"wave": streak.light.parameters[0]}))
    move = instrument.arm_shift(galaxy, templates, whole)
    if move is not None and move.gain > 0:
        found.append(Candidate("shift", f"blue images shifted by {np.hypot(move.dy, move.dx):.2f} spaxels", move.gain - 10, {"dy": move.dy, "dx": move.dx}))
    if abs(whole.velocity_kms) > WRONG_KMS and whole.snr > 20:
        gain = whole.snr**2 - _whole(templates, galaxy, outside, central=True).snr**2
        found.append(Candidate("redshift", f"all lines displaced by {whole.velocity_kms:+.0f} km/s", gain - 10, {}))
    return found


def _local(
    setting: Setting, galaxy: Galaxy, at: Extracted, place: Place, central: bool, whole: Narrow, z: float
) -> list[Candidate]:
    templates, data = setting.templates, place.excess
    one = components.single(templates, data)
    lights = [one, components.broad(templates, data), components.peaks(templates, data, one), components.line(templates, data)]
    lights = [light for light in lights if light is not None]
    dof = max(data.count - 30, 1)
    scale = max((data.chi2 - max(light.gain for light in lights)) / dof, 1.0)
    where = place_in_words(at.y, at.x, galaxy.flux.shape[1:], setting.spaxel_arcsec)
    found = [
        replace(_named(setting, galaxy, at, place, light, light.evidence(data.count, scale), central, where, z), kind=light.kind)
        for light in lights
    ]
    deficit = _deficit(place, max(light.gain for light in lights), scale)
    if deficit is not None:
        found.append(Candidate("fibre", f"{-100 * place.amount:.0f}% of the light missing, {where}", deficit, {}))
    return found


def _deficit(place: Place, others: float, scale: float) -> float | None:
    """Evidence for a deficit of all lines alike, where it leaves nothing else to explain."""
    gain = (place.amount / place.amount_error) ** 2
    if place.amount > -MIN_DEFICIT or others > OTHERS_SHARE * gain:
        return None
    return float(gain / scale)


def _named(setting, galaxy, at, place, light: Light, evidence: float, central: bool, where: str, z: float) -> Candidate:
    templates = setting.templates
    if light.kind == "line":
        wave = light.parameters[0]
        image = instrument.image_of(galaxy, templates, light, at.y, at.x)
        narrow = light.parameters[1] < 0.85 * INSTRUMENT_KMS
        if light.flux[0] < 0:
            return Candidate("negative_line", f"absorption at {wave * (1 + z):.1f} A", evidence, {})
        if image.width < instrument.SHARP and image.gain_over_psf > 9:
            return Candidate("cosmic_ray", f"cosmic ray, {where}", evidence, {"width": image.width})
        return Candidate("foreign_line", f"line at {wave * (1 + z):.1f} A, {where}", evidence, {"width": image.width, "sigma": light.parameters[1]})
    velocity, sigma = light.parameters[:2]
    width = FWHM * np.sqrt(max(sigma**2 - INSTRUMENT_KMS**2, 0))
    if light.kind == "broad":
        return Candidate("broad_balmer", f"broad Balmer lines: FWHM {width:,.0f} km/s, {where}", evidence, {"fwhm": width})
    if light.kind == "peaks":
        return Candidate("double_peak", f"double peaks {light.parameters[2]:.0f} km/s apart, {where}", evidence, {"separation": light.parameters[2]})
    ratios = Ratios.of(templates, light.flux, light.flux_error)
    offset = velocity - place.host.velocity_kms
    purest = Ratios.of(templates, _without_host(light, place), light.flux_error)
    name = _component_name(width, offset, ratios, purest, central)
    return Candidate(name, f"{name}: v {velocity:+.0f} km/s FWHM {width:.0f}, {ratios.text()}, {where}", evidence, {"v": velocity, "fwhm": width, "n2": ratios.nii_ha.value, "o3": ratios.oiii_hb.value})


def _without_host(light: Light, place: Place) -> np.ndarray:
    """Fluxes [L] of a component less as much of the host's as they may hold.

    A component and its host have the same profile where both are narrow, so that how they share the light is open.
    """
    strong = place.host.flux > 5 * place.host.error
    if not strong.any():
        return light.flux
    share = (light.flux[strong] / place.host.flux[strong]).min()
    return light.flux - share * np.where(strong, place.host.flux, 0)


def _component_name(width: float, offset: float, ratios: Ratios, purest: Ratios, central: bool) -> str:
    if central and (width > 400 or (abs(offset) > 100 and width > 300)):
        return "wing"
    if purest.is_metal_poor:
        return "starburst"
    if ratios.is_agn:
        return "agn"
    if width > 500 and abs(offset) > 100:
        return "wing"
    if abs(offset) > 50:
        return "kinematics"
    return "gas"
