"""Facts about the survey that the page shows beside the columns of the catalog."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.facts import SurveyFacts
from cubeprep.store import WindowStore
from modeling.catalog import SHARE_PREFIX, Catalog

MAX_REJECTED_SHOWN = 200
STRONG_CORRELATION = 0.5
# Pages at a position, of which {ra} and {dec} are in degrees, ICRS.
SKY_LINKS = {
    "SIMBAD": "https://simbad.cds.unistra.fr/simbad/sim-coo?Coord={ra}d%20{dec}d&Radius=10&Radius.unit=arcsec",
    "NED": "https://ned.ipac.caltech.edu/cgi-bin/objsearch?search_type=Near+Position+Search&in_csys=Equatorial"
    "&in_equinox=J2000.0&lon={ra}d&lat={dec}d&radius=0.2",
    "DESI Legacy viewer": "https://www.legacysurvey.org/viewer?ra={ra}&dec={dec}&mark={ra},{dec}&zoom=15&layer=ls-dr10",
    "ESO archive": "https://archive.eso.org/scienceportal/home?pos={ra},{dec}&r=0.016667",
}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def summarise(catalog: Catalog, store: WindowStore) -> dict[str, Any]:
    """Counts, splits, rejected galaxies and correlations of the score, as JSON values."""
    galaxies = store.galaxies()
    rejected = galaxies[galaxies["status"] == "rejected"]
    spearman = catalog.provenance["spearman"]
    nuisances = {"flux": "brightness", "snr": "S/N"}
    following = [
        nuisances[name]
        for name, value in spearman["score"].items()
        if value is not None and abs(value) > STRONG_CORRELATION
    ]
    median = float(catalog.table["score"].median())
    return {
        "num_galaxies": len(catalog.table),
        "splits": {str(name): int(count) for name, count in catalog.table["split"].value_counts().items()},
        "num_lines": len(store.line_names),
        "z_range": [float(catalog.table["z"].min()), float(catalog.table["z"].max())],
        "num_rejected": len(rejected),
        "reasons": {str(code): int(count) for code, count in rejected["code"].value_counts().items()},
        "rejected": rejected.head(MAX_REJECTED_SHOWN)[["plateifu", "code", "reason"]].astype(str).to_dict("records"),
        "spearman": {name: spearman[name] for name in ("score", "mae") if name in spearman},
        "following": following,
        "own_model": catalog.provenance["model"].get("trained_on", "") in ("", store.identity),
        "cross_fitted": bool(catalog.provenance["model"].get("fold_digests")),
        # `combined` is about 0 for typical galaxies, so its ratio to the median has no meaning
        "median_score": median if catalog.provenance["rank_by"] != "combined" and median > 0 else None,
        "fdr": catalog.provenance.get("config", {}).get("fdr"),
    }


def score_label(catalog: Catalog) -> str:
    """Name of the score that ranks the galaxies, with its unit."""
    names = {
        "combined": "combined significance",
        "unexplained": "unexplained share of the signal",
        "chi2": "reduced χ² of the reconstruction",
        "relative": "relative error of the reconstruction",
        "mae": "mean absolute error of the reconstruction",
    }
    label = names[catalog.provenance["rank_by"]]
    unit = catalog.columns["score"].unit
    return f"{label} ({pretty_unit(unit)})" if unit else label


def short_provenance(provenance: dict[str, Any]) -> dict[str, Any]:
    """Provenance without the numerical tables of the calibration, which only the catalog contains."""
    kept: dict[str, Any] = {}
    for name, value in provenance.items():
        if isinstance(value, dict):
            kept[name] = short_provenance(value)
        elif not (isinstance(value, list) and any(isinstance(item, list | dict) for item in value)):
            # JSON has no NaN, which Python writes and browsers refuse.
            kept[name] = None if isinstance(value, float) and not np.isfinite(value) else value
    return kept


def pretty_unit(unit: str) -> str:
    """Unit with superscripts, from the form `1e-17 erg / (s cm2 Angstrom)`; other texts are returned unchanged."""
    match = re.fullmatch(r"1e(-?\d+) (\w+) / \(([\w ]+)\)", unit)
    if not match:
        return unit
    below = [_inverse(part) for part in match[3].replace("Angstrom", "Å").split()]
    return " ".join([f"10{match[1].translate(SUPERSCRIPTS)}", match[2], *below])


def sky(facts: SurveyFacts, size: int) -> str:
    """Sentence about the size and orientation of maps of `size` spaxels a side, as far as they are known."""
    orientation = facts.orientation or "orientation as in the cubes"
    if facts.spaxel_arcsec is None:
        return f"Maps are {size} × {size} spaxels, {orientation}"
    arcsec = facts.spaxel_arcsec
    return f"Maps are {size * arcsec:g}″ × {size * arcsec:g}″ ({arcsec:g}″ a spaxel), {orientation}"


def sky_links(facts: SurveyFacts) -> dict[str, str]:
    """Templates of the pages about a position, by name; none for simulated galaxies, which have no public pages."""
    return SKY_LINKS if facts.page_url else {}


def usual_shares(table: pd.DataFrame, line_names: Sequence[str]) -> dict[str, float | None]:
    """Median share of each line in the residual over the galaxies of a catalog; None if none has a value."""
    medians = {name: float(table[SHARE_PREFIX + name].median()) for name in line_names}
    return {name: value if np.isfinite(value) else None for name, value in medians.items()}


def _inverse(part: str) -> str:
    name, power = re.fullmatch(r"(\D+)(\d*)", part).groups()  # type: ignore[union-attr]
    return name + f"-{power or 1}".translate(SUPERSCRIPTS)
