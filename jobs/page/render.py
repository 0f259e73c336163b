"""From cards to one HTML file. All text passes Jinja's autoescape: identifiers and reasons come from files."""

import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cubeprep.store import FLUX_UNIT, WindowStore
from jobs.page.cards import Card
from jobs.page.config import ExploreConfig
from jobs.page.figures import CHI2_COLOURS, FLUX_COLOURS, SIGMA_COLOURS, SPECTRUM_HEIGHT, SPECTRUM_WIDTH, gradient
from jobs.page.plots import bokeh_script, survey_plots
from modeling.catalog import Catalog

# What is known of a survey's cubes and not in the store: size of a spaxel, and how the sky lies in the array.
SKY = {
    "manga-logcube": (0.5, "north up, east left"),
    "manga-maps": (0.5, "north up, east left"),
    "sami": (0.5, "orientation as in the survey's cubes"),
}
MAX_REJECTED_SHOWN = 200
STRONG_CORRELATION = 0.5


def render_page(catalog: Catalog, cards: Sequence[Card], store: WindowStore, config: ExploreConfig) -> str:
    """The whole page, as HTML that loads nothing from anywhere."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "percent": percent, "signed": signed}
    template = environment.from_string((files("jobs.page") / "template.html.j2").read_text(encoding="utf-8"))
    label = score_label(catalog)
    script, plots = survey_plots(catalog.table, label, len(cards))
    return template.render(
        cards=cards,
        summary=summarise(catalog, store),
        provenance=catalog.provenance,
        columns=catalog.columns,
        score_label=label,
        median_score=float(catalog.table["score"].median()),
        flux_unit=pretty_unit(catalog.provenance["store"]["flux_unit"]),
        sky=sky(store),
        velocity_kms=store.coordinate(store.splits[0], "velocity_kms"),
        thumbnail_line=config.thumbnail_line if config.thumbnail_line in store.line_names else store.line_names[0],
        gradients={"flux": gradient(FLUX_COLOURS), "sigma": gradient(SIGMA_COLOURS), "chi2": gradient(CHI2_COLOURS)},
        box={"width": SPECTRUM_WIDTH, "height": SPECTRUM_HEIGHT},
        linked={card.row["rank"] for card in cards},
        bokeh=Markup(bokeh_script()),  # noqa: S704 - Bokeh's own code
        plot_script=Markup(script),  # noqa: S704 - Bokeh escapes what is in it
        plots={name: Markup(element) for name, element in plots.items()},  # noqa: S704
    )


def summarise(catalog: Catalog, store: WindowStore) -> dict[str, Any]:
    """What the head of the page says of the survey."""
    galaxies = store.galaxies()
    rejected = galaxies[galaxies["status"] == "rejected"]
    spearman = catalog.provenance["spearman"]
    following = [
        {"flux": "brightness", "snr": "S/N"}[name]
        for name, value in spearman["score"].items()
        if value is not None and abs(value) > STRONG_CORRELATION
    ]
    return {
        "num_galaxies": len(catalog.table),
        "splits": catalog.table["split"].value_counts().to_dict(),
        "num_lines": len(store.line_names),
        "z_range": (float(catalog.table["z"].min()), float(catalog.table["z"].max())),
        "num_rejected": len(rejected),
        "reasons": rejected["code"].value_counts().to_dict(),
        "rejected": rejected.head(MAX_REJECTED_SHOWN)[["plateifu", "code", "reason"]].to_dict("records"),
        "spearman": spearman,
        "following": following,
        "own_model": catalog.provenance["model"].get("trained_on", "") in ("", store.identity),
        "cross_fitted": bool(catalog.provenance["model"].get("fold_digests")),
        "ratios": catalog.provenance["rank_by"] != "combined",  # which is about 0 for usual galaxies
        "embedding": str(catalog.table["embedding"].iloc[0]),
    }


def score_label(catalog: Catalog) -> str:
    """The name of the score that ranks, with its unit."""
    names = {
        "combined": "excess over usual galaxies",
        "unexplained": "share of the signal left unexplained",
        "chi2": "reduced χ² of the reconstruction",
        "relative": "relative error of the reconstruction",
        "mae": "mean absolute error of the reconstruction",
    }
    label = names[catalog.provenance["rank_by"]]
    unit = catalog.columns["score"].unit
    return f"{label} ({pretty_unit(unit)})" if unit else label


def pretty_unit(unit: str) -> str:
    """A unit for the eye; those that are not known here stay as they are."""
    return "10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹ spaxel⁻¹" if unit == FLUX_UNIT else unit


def sky(store: WindowStore) -> str:
    """The size of a map and how it lies on the sky, as far as both are known."""
    reader = reader_of(store)
    size = store.shape[2]
    if reader not in SKY:
        return f"Maps are {size} × {size} spaxels; scale and orientation are the survey's"
    arcsec, orientation = SKY[reader]
    return f"Maps are {size * arcsec:g}″ × {size * arcsec:g}″ ({arcsec:g}″ a spaxel), {orientation}"


def reader_of(store: WindowStore) -> str:
    """The reader that a store was made with; empty where that was not kept."""
    return str(store.attrs["config"].get("survey", {}).get("reader", ""))


def number(value: float, digits: int = 3) -> str:
    """A number to so many significant digits; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if -4 <= magnitude < 6:
        return f"{value:.{max(0, digits - 1 - magnitude)}f}".replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{raised}".replace("-", "−")


def percent(value: float) -> str:
    """A share in percent; a dash where there is none."""
    return f"{100 * value:.0f}%" if np.isfinite(value) else "–"


def signed(value: float | None) -> str:
    """A correlation, with its sign."""
    return "undefined" if value is None else f"{value:+.2f}".replace("-", "−")
