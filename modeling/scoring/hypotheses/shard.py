"""Hypotheses of the galaxies of a shard.

Shapes: N galaxies, L lines, S samples, Y and X spaxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubeprep.masks import good_samples
from modeling.scoring.artefacts import FWHM_PER_SIGMA
from modeling.scoring.hypotheses.explain import VALUES, Hypothesis, Survey, redshift_text
from modeling.scoring.hypotheses.templates import Templates

# Excess chi2 of a region in standard deviations; below, chance alone makes one in many galaxies.
MIN_SIGNIFICANCE = 5.0


@dataclass(frozen=True)
class Hypotheses:
    """Hypotheses of N galaxies.

    Attributes:
        name: [N] of `naming.NAMES`; empty where nothing is significant.
        text: [N] a sentence, or empty.
        significance: [N] in standard deviations; 0 where there is no hypothesis.
        values: [N, parameter] in the order of `explain.VALUES`; NaN where they do not apply.
    """

    name: np.ndarray
    text: np.ndarray
    significance: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, found: Sequence[Hypothesis]) -> "Hypotheses":
        """Hypotheses of galaxies in one."""
        values = [[each.values.get(name, np.nan) for name in VALUES] for each in found]
        return cls(
            np.array([each.name for each in found], dtype=str),
            np.array([each.text for each in found], dtype=str),
            np.array([each.significance for each in found], dtype=np.float64),
            np.array(values, dtype=np.float64).reshape(len(found), len(VALUES)),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["Hypotheses"]) -> "Hypotheses":
        """Galaxies of several parts in one, in order."""
        # As objects: with a fixed width, every text would be as long as the longest.
        texts = (np.concatenate([getattr(part, field).astype(object) for part in parts]) for field in ("name", "text"))
        numbers = (np.concatenate([getattr(part, field) for part in parts]) for field in ("significance", "values"))
        return cls(*texts, *numbers)


def survey_of(
    store: Any, psf_fwhm_spaxels: float, spaxel_arcsec: float | None, *, north_up: bool = False
) -> Survey | None:
    """Lines, samples and PSF of a store; None where the continuum was left in its windows.

    Args:
        store: `cubeprep.store.WindowStore`.
        psf_fwhm_spaxels: FWHM of the PSF.
        spaxel_arcsec: side of a spaxel, if it is known.
        north_up: whether north is up and east left.
    """
    if store.window_settings["prepare.windows.continuum"] in (None, "none"):
        return None
    split = store.splits[0]
    waves, velocities = (store.coordinate(split, name) for name in ("rest_wave", "velocity_kms"))
    templates = Templates(tuple(store.line_names), tuple(map(float, waves)), tuple(map(float, velocities)))
    return Survey(templates, psf_fwhm_spaxels / FWHM_PER_SIGMA, spaxel_arcsec, north_up)


def hypotheses(
    survey: Survey | None,
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
    by_spaxel: np.ndarray,
    z: np.ndarray,
    known_offset_kms: np.ndarray | None = None,
) -> Hypotheses:
    """Hypotheses for the most significant region of each galaxy.

    Args:
        survey: of the store; None where its windows do not suit.
        arrays: flux, ivar and mask [N, L, S, Y, X] as observed.
        by_spaxel: [N, Y, X] of `galaxy_scorer.GalaxyScores`.
        z: [N] redshift of the windows.
        known_offset_kms: [N] displacement of the lines where it was measured in wider windows, else NaN. It is then
            the hypothesis.
    """
    found: list[Hypothesis] = []
    known = np.full(len(by_spaxel), np.nan) if known_offset_kms is None else known_offset_kms
    for i, significance in enumerate(by_spaxel):
        if survey is None or not significance.max(initial=0) >= MIN_SIGNIFICANCE:
            found.append(Hypothesis("", "", 0.0))
            continue
        flux, ivar, mask = (values[i] for values in arrays)
        good = good_samples(flux, ivar, mask)
        variance = np.divide(1, ivar, out=np.ones(ivar.shape, np.float32), where=good)
        y, x = np.unravel_index(int(significance.argmax()), significance.shape)
        best = survey.explain(flux, variance, good, (int(y), int(x)), float(z[i]))
        if np.isfinite(known[i]):
            # Windows that cut the lines off would make wings and kinematics of them.
            values = {"velocity_kms": float(known[i])}
            sigma = best.significance or float(significance.max())
            best = Hypothesis("redshift", redshift_text(known[i]), sigma, values, best.candidates)
        found.append(best)
    return Hypotheses.of(found)
