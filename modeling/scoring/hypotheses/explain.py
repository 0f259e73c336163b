"""The hypothesis that explains best why a galaxy is unusual, in the field's words.

Hypotheses of one place compete for its excess over its surroundings, those of the instrument for the whole galaxy. Each
has its gain of the information criterion over ordinary light; the highest wins if it is clearly the highest.

Shapes: T samples of all windows, Y and X spaxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from modeling.scoring.artefacts import FWHM_PER_SIGMA
from modeling.scoring.explanations import place as place_in_words
from modeling.scoring.hypotheses import components
from modeling.scoring.hypotheses.extraction import Extracted, Galaxy, extract, psf_area
from modeling.scoring.hypotheses.images import arm_shift, sharpness
from modeling.scoring.hypotheses.naming import UNCLEAR, Candidate, Describer, pm
from modeling.scoring.hypotheses.ordinary import Narrow, fit_narrow, place_of
from modeling.scoring.hypotheses.sky import SAME_SIGN, stripe
from modeling.scoring.hypotheses.templates import Templates

# Differences of the information criterion: above 10 the evidence is very strong (Kass & Raftery 1995,
# doi:10.1080/01621459.1995.10476572). Against ordinary light it must be seven standard deviations: a chi2 of 25 against
# noise in a thousand trials, and 25 more, since in bright nuclei errors of stars and profiles are as large.
CLEARLY = 10.0
LEAST_EVIDENCE = 50.0
# A richer kind of fit contains the simpler one, which is preferred where it explains nearly as much.
NESTED = (("single", "peaks"), ("line", "single"), ("line", "peaks"))
# Of the evidence: other lines may explain this much of one line's residual, whose profile is not exactly Gaussian.
LINE_SHARE = 0.05
# Lines at the largest width of narrow ones are discarded; two peaks may imitate the flat tops of broad ones.
IMITATED = 1.5
MOST = 0.9  # of the richer fit's chi2, that the simpler one must explain
MIN_REDSHIFT_KMS = 60.0  # gas of a galaxy as a whole moves less against its stars
MIN_REDSHIFT_SNR = 20.0
# Several lines have to agree: one alone is another line.
MIN_LINES = 3
ALONE_SHARE = 0.85
MIN_DEFICIT = 0.15  # of the light of the surroundings: gaps between clumps are shallower
OTHERS_SHARE = 0.1  # of the evidence for a deficit, that other light may have
EXCLUDED_SIGMA = 4.5  # of the PSF: light of the region, which is not of the galaxy as a whole
MIN_WHOLE_SPAXELS = 10
MIN_SAMPLES = 5  # per line; fewer do not resolve a profile
PLACES = [(0, 0), *((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)]
# Parameters of hypotheses; which of them a galaxy has depends on its hypothesis.
VALUES = {
    "velocity_kms": "Velocity of the component relative to the galaxy's redshift",
    "fwhm_kms": "FWHM of the component, without the instrument's width",
    "separation_kms": "Separation of two peaks",
    "wave_angstrom": "Observed vacuum wavelength of a single line",
    "log_nii_ha": "log10 of [N II] 6585 over Halpha of the component",
    "log_oiii_hb": "log10 of [O III] 5008 over Hbeta of the component",
}


@dataclass(frozen=True)
class Hypothesis:
    """Best hypothesis for a galaxy.

    Attributes:
        name: one of `naming.NAMES`.
        text: a sentence; empty where nothing is significant.
        significance: in standard deviations.
        values: parameters by the names of `VALUES`; those that do not apply are left out.
        candidates: all that competed, best first.
    """

    name: str
    text: str
    significance: float
    values: dict[str, float] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Survey:
    """Properties of a survey that hypotheses use.

    Attributes:
        templates: lines and samples of the windows.
        psf_sigma: standard deviation of the PSF, spaxels.
        spaxel_arcsec: side of a spaxel; without it places are in spaxels.
        north_up: whether north is up and east left; otherwise places have no direction.
    """

    templates: Templates
    psf_sigma: float
    spaxel_arcsec: float | None = None
    north_up: bool = False

    def explain(
        self, flux: np.ndarray, variance: np.ndarray, good: np.ndarray, region: tuple[int, int], z: float
    ) -> Hypothesis:
        """Best hypothesis for a galaxy's most significant region.

        Args:
            flux: [L, S, Y, X] observed, flux units; any value where not good.
            variance: the same shape, of the flux.
            good: the same shape, bool.
            region: row and column of its middle.
            z: redshift of the windows.
        """
        if flux.shape[1] < MIN_SAMPLES:
            return Hypothesis("", "", 0.0)
        shape = (-1, *flux.shape[2:])
        galaxy = Galaxy(
            np.where(good, flux, 0).reshape(shape), np.where(good, variance, 1).reshape(shape), good.reshape(shape),
            self.psf_sigma,
        )  # fmt: skip
        return _decided(_Explanation(self, galaxy, region, z).candidates())


def _decided(candidates: Sequence[Candidate]) -> Hypothesis:
    """The candidate that is clearly the best, else `unclear`."""
    ranked = tuple(sorted(candidates, key=lambda each: -each.evidence))
    if not ranked or ranked[0].evidence < LEAST_EVIDENCE:
        return Hypothesis("", "", 0.0, candidates=ranked)
    first = ranked[0]
    for simple, rich in NESTED:
        simpler = next((each for each in ranked if each.kind == simple), None)
        clearly = max(CLEARLY, LINE_SHARE * first.evidence if simple == "line" else 0)
        if (
            first.kind == rich
            and simpler is not None
            and first.evidence - simpler.evidence < clearly
            and simpler.significance**2 > MOST * first.significance**2
        ):
            first = simpler
    contained = {rich for simple, rich in NESTED if simple == first.kind}
    rivals = [each for each in ranked if each.name != first.name and each.kind not in contained]
    if rivals and first.evidence - rivals[0].evidence < CLEARLY:
        text = "unclear: " + "; or ".join(each.text for each in (first, rivals[0]) if each.text)
        return Hypothesis(UNCLEAR, text, first.significance, candidates=ranked)
    if first.name in ("", UNCLEAR):
        return Hypothesis(first.name, first.text, first.significance if first.name else 0.0, candidates=ranked)
    return Hypothesis(first.name, first.text, first.significance, dict(first.values), ranked)


def redshift_text(velocity_kms: float) -> str:
    """Text of the hypothesis of a wrong redshift."""
    return f"wrong redshift: all lines of the galaxy at {velocity_kms:+.0f} km/s"


class _Explanation:
    """Candidates for one galaxy."""

    def __init__(self, survey: Survey, galaxy: Galaxy, region: tuple[int, int], z: float) -> None:
        self.survey, self.galaxy, self.region, self.z = survey, galaxy, region, z
        height, width = galaxy.flux.shape[1:]
        rows, columns = np.mgrid[:height, :width]
        # The mirror image of the region, where a disc rotates the other way, is excluded too.
        mirror = height - region[0], width - region[1]
        self.outside = np.ones((height, width), dtype=bool)
        for y, x in (region, mirror):
            self.outside &= np.hypot(rows - y, columns - x) > EXCLUDED_SIGMA * galaxy.psf_sigma
        self.whole = cache(self._whole)

    def candidates(self) -> list[Candidate]:
        """All candidates."""
        return [*self._sky(), *self._shifted(), *self._redshift(), *self._local()]

    def _whole(self, at_rest: bool = False) -> Narrow:
        """Narrow lines of the galaxy without its region, averaged to a PSF's area; all of it if little is left."""
        good = self.galaxy.good & self.outside
        if good.any(0).sum() < MIN_WHOLE_SPAXELS:
            good = self.galaxy.good
        total = np.where(good, self.galaxy.flux, 0).sum((1, 2), dtype=np.float64)
        noise = np.where(good, self.galaxy.variance, 0).sum((1, 2), dtype=np.float64)
        share = psf_area(self.galaxy.psf_sigma) / max(good.any(0).sum(), 1)
        variance = np.where(good.any((1, 2)), share**2 * noise, np.inf)
        return fit_narrow(self.survey.templates, share * total, variance, at_rest=at_rest, whole=True)

    def _sky(self) -> list[Candidate]:
        found = stripe(self.galaxy, self.survey.templates, self.whole())
        if found is None or found.same_sign < SAME_SIGN:
            return []
        wave = found.light.parameters[0] * (1 + self.z)
        sign = "" if found.light.flux[0] > 0 else "negative "
        text = f"{sign}sky-line residual: {wave:.1f} Angstrom, over the whole bundle"
        evidence = found.light.evidence(found.count, found.scale)
        significance = float(np.sqrt(found.light.gain / found.scale))
        return [Candidate("sky_line", "stripe", text, evidence, significance, {"wave_angstrom": float(wave)})]

    def _shifted(self) -> list[Candidate]:
        whole = self.whole()
        found = arm_shift(self.galaxy, self.survey.templates, (whole.velocity_kms, whole.sigma_kms), self.outside)
        if found is None or found.gain <= 0:
            return []
        text = f"images of blue lines displaced by {found.size:.2f} ± {found.error:.2f} spaxels against red ones"
        evidence = found.gain - 2 * float(np.log(self.galaxy.good.any(0).sum()))
        return [Candidate("shifted_images", "images", text, evidence, float(np.sqrt(found.gain)))]

    def _redshift(self) -> list[Candidate]:
        whole = self.whole()
        velocity = whole.velocity_kms
        power = np.divide(whole.flux, whole.error, out=np.zeros_like(whole.flux), where=whole.error > 0) ** 2
        alone = whole.strong.sum() < MIN_LINES or power.max() > ALONE_SHARE * power.sum()
        # A peak beyond the outermost sample is not seen: in lines as broad as the windows, noise decides on which side.
        seen = abs(velocity) <= max(map(abs, self.survey.templates.velocity_kms))
        if abs(velocity) < MIN_REDSHIFT_KMS or not seen or whole.snr < MIN_REDSHIFT_SNR or alone:
            return []
        gain = whole.gain - self.whole(True).gain
        text = redshift_text(velocity)
        evidence = gain - 2 * float(np.log(len(self.survey.templates.wave)))
        significance = float(np.sqrt(max(gain, 0)))
        return [Candidate("redshift", "galaxy", text, evidence, significance, {"velocity_kms": velocity})]

    def _local(self) -> list[Candidate]:
        """Candidates for the region's excess over its surroundings."""
        found = self._best_place()
        if found is None:
            return []
        survey, templates = self.survey, self.survey.templates
        shape = self.galaxy.flux.shape[1:]
        middle = np.array(shape) / 2
        # Half a diagonal more: the centre of an even number of spaxels lies between them.
        central = bool(
            np.hypot(*(np.array([found.y, found.x]) - middle)) <= FWHM_PER_SIGMA / 2 * survey.psf_sigma + 0.71
        )
        place = place_of(templates, found, self.whole, central=central)
        one, broad = components.single(templates, place.excess), components.broad(templates, place.excess)
        two, line = components.peaks(templates, place.excess, one), components.line(templates, place.excess)
        gain = max(light.gain for light in (one, broad, two, line) if light is not None)
        free = place.excess.nuisances.shape[1]
        scale = max((place.excess.chi2 - gain) / max(place.excess.count - free, 1), 1.0)
        where = place_in_words(found.y, found.x, shape, survey.spaxel_arcsec, north_up=survey.north_up)
        words = Describer(templates, place, where, central, self.z, scale)
        sharp = sharpness(self.galaxy, templates, line, found.y, found.x)
        candidates = [words.line(line, sharp), *([words.broad(broad)] if broad else []), words.peaks(two)]
        if one.parameters[1] < 0.98 * components.LIMIT_KMS:
            candidates.append(words.single(one))
        elif broad and candidates[2].evidence < IMITATED * candidates[1].evidence:
            del candidates[2]
        # A deficit stands only where it leaves nothing else to explain.
        amount, error = place.amount()
        missing = (amount / error) ** 2 / scale
        if amount < -MIN_DEFICIT and max(each.evidence for each in candidates) < OTHERS_SHARE * missing:
            text = f"dead fibre or gap: {pm(-100 * amount, 100 * error)}% of the light missing, {where}"
            candidates.append(Candidate("lost_light", "deficit", text, missing, float(np.sqrt(missing))))
        return candidates

    def _best_place(self) -> Extracted | None:
        """Place with the brightest source within a spaxel of the region's; not beyond an edge of the bundle."""
        height, width = self.galaxy.flux.shape[1:]
        places = [(self.region[0] + dy, self.region[1] + dx) for dy, dx in PLACES]
        inside = [place for place in places if 0 <= place[0] < height and 0 <= place[1] < width]
        found = [each for place in inside if (each := extract(self.galaxy, *place)) is not None]
        if not found:
            return None
        alike = [each for each in found if not each.lopsided] if not found[0].lopsided else found[:1]
        return max(alike, key=lambda each: float((np.maximum(each.source, 0) ** 2 / each.variance).sum()))
