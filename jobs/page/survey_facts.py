"""Facts about the whole survey that the page states beside the columns of the catalog."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.store import WindowStore
from modeling.catalog import SHARE_PREFIX, Catalog

# Properties of a survey's cubes that the store does not hold: size of a spaxel, and orientation of the array.
SKY = {
    "manga-logcube": (0.5, "north up, east left"),
    "manga-maps": (0.5, "north up, east left"),
    "sami": (0.5, "orientation as in the survey's cubes"),
}
MAX_REJECTED_SHOWN = 200
STRONG_CORRELATION = 0.5
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def summarise(catalog: Catalog, store: WindowStore) -> dict[str, Any]:
    """Counts, splits, rejected galaxies and correlations of a survey, as JSON values."""
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
        # `combined` is about 0 for typical galaxies, so its ratio to the median says nothing
        "median_score": median if catalog.provenance["rank_by"] != "combined" and median > 0 else None,
        "fdr": catalog.provenance.get("config", {}).get("fdr"),
    }


def score_label(catalog: Catalog) -> str:
    """The name of the score that ranks, with its unit."""
    names = {
        "combined": "excess over typical galaxies",
        "unexplained": "unexplained share of the signal",
        "chi2": "reduced χ² of the reconstruction",
        "relative": "relative error of the reconstruction",
        "mae": "mean absolute error of the reconstruction",
    }
    label = names[catalog.provenance["rank_by"]]
    unit = catalog.columns["score"].unit
    return f"{label} ({pretty_unit(unit)})" if unit else label


def short_provenance(provenance: dict[str, Any]) -> dict[str, Any]:
    """Provenance without the tables of numbers of the calibration, which only the catalog keeps."""
    kept: dict[str, Any] = {}
    for name, value in provenance.items():
        if isinstance(value, dict):
            kept[name] = short_provenance(value)
        elif not (isinstance(value, list) and any(isinstance(item, list | dict) for item in value)):
            kept[name] = value
    return kept


def pretty_unit(unit: str) -> str:
    """A unit of the form `1e-17 erg / (s cm2 Angstrom)` with exponents set as such; others stay as they are."""
    match = re.fullmatch(r"1e(-?\d+) (\w+) / \(([\w ]+)\)", unit)
    if not match:
        return unit
    below = [_inverse(part) for part in match[3].replace("Angstrom", "Å").split()]
    return " ".join([f"10{match[1].translate(SUPERSCRIPTS)}", match[2], *below])


def sky(store: WindowStore) -> str:
    """The size of a map and its orientation on the sky, as far as both are known."""
    reader = reader_of(store)
    size = store.shape[2]
    if reader not in SKY:
        return f"Maps are {size} × {size} spaxels; scale and orientation are the survey's"
    arcsec, orientation = SKY[reader]
    return f"Maps are {size * arcsec:g}″ × {size * arcsec:g}″ ({arcsec:g}″ a spaxel), {orientation}"


def reader_of(store: WindowStore) -> str:
    """The reader that a store was made with; empty where that was not kept."""
    return str(store.attrs["config"].get("survey", {}).get("reader", ""))


def usual_shares(table: pd.DataFrame, line_names: Sequence[str]) -> dict[str, float]:
    """Median share of each line in the residual, over all galaxies of a catalog; 0 where none has any."""
    medians = {name: float(table[SHARE_PREFIX + name].median()) for name in line_names}
    return {name: value if np.isfinite(value) else 0.0 for name, value in medians.items()}


def _inverse(part: str) -> str:
    name, power = re.fullmatch(r"(\D+)(\d*)", part).groups()  # type: ignore[union-attr]
    return name + f"-{power or 1}".translate(SUPERSCRIPTS)
