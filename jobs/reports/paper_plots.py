"""Plots of a survey for papers: maps of latents, histograms, ROC curves.

The colours are those of Okabe & Ito and viridis, safe for most colour-blind readers; labels also differ by marker.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from modeling.catalog import Catalog
from modeling.labels.label_statistics import Assessment

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
OTHERS = "#b3b3b3"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
    "text.parse_math": False,  # labels of galaxies may hold a $
    "figure.constrained_layout.use": True,
}
NUM_NUMBERED = 5  # more numbers would overlap
WIDE = (7.1, 4.2)  # inches, the width of a page


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes a figure as PDF and PNG."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".pdf", ".png")]
    with rc_context(STYLE):
        for path in paths:
            # Without a date, the same figure gives the same bytes.
            figure.savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else {"Software": None})
    return paths


def new_figure(size: tuple[float, float]) -> Figure:
    """Empty figure of a size in inches, in the style of this module."""
    with rc_context(STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        return figure


def score_axis(catalog: Catalog) -> str:
    """Name of the ranking score, with its unit."""
    name = f"score_{catalog.provenance.get('rank_by', '')}".rstrip("_")
    unit = catalog.columns["score"].unit
    return f"{name} [{unit}]" if unit else name


def score_histogram(score: np.ndarray, labelled: Mapping[str, np.ndarray], score_label: str) -> Figure:
    """Histograms of the scores of each label over those of all galaxies, each normalised to 1, as for the paper's AGN.

    Args:
        score: [galaxy].
        labelled: [galaxy] bool of each label.
        score_label: name of the score with its unit.
    """
    finite = score[np.isfinite(score)]
    logarithmic = finite.min() > 0 and finite.max() > 20 * finite.min()
    edges = np.histogram_bin_edges(np.log10(finite) if logarithmic else finite, bins=min(30, 10 + len(finite) // 20))
    bins: Any = 10**edges if logarithmic else edges
    columns = min(2, len(labelled))
    rows = -(-len(labelled) // columns)
    figure = new_figure((WIDE[0], 0.8 + 1.5 * rows))
    with rc_context(STYLE):
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, (name, chosen), colour in zip(grid.flat, labelled.items(), COLOURS, strict=False):
            values = score[chosen & np.isfinite(score)]
            axes.hist(finite, bins, weights=_shares(finite), color=OTHERS, label=f"all ({len(finite)})")
            label = f"{name} ({len(values)})"
            axes.hist(values, bins, weights=_shares(values), histtype="step", color=colour, lw=1.6, label=label)
            axes.axvline(np.median(values), color=colour, ls=":", lw=1.4, label="median")
            axes.set_xscale("log" if logarithmic else "linear")
            axes.legend(fontsize=7.5, handlelength=1.4)
        for axes in list(grid.flat)[len(labelled) - columns : len(labelled)]:  # lowest axes of each column
            axes.tick_params(labelbottom=True)
        for axes in list(grid.flat)[len(labelled) :]:
            axes.set_axis_off()
        figure.supxlabel(score_label, fontsize=9)
        figure.supylabel("share of galaxies", fontsize=9)
    return figure


def roc_curves(assessed: Mapping[str, Assessment]) -> Figure:
    """ROC curve of the score for each label, with its area and interval."""
    figure = new_figure(WIDE)
    with rc_context(STYLE):
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=OTHERS, lw=1, ls="--", label="chance")
        for (name, found), colour in zip(assessed.items(), COLOURS, strict=False):
            axes.plot(*found.roc, color=colour, lw=1.6, label=f"{name}: {found.auroc}")
        axes.set(xlabel="share of the others above the threshold", ylabel="share of the label above it")
        axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal", title="Area under the curve (95% interval)")
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def map_with_labels(table: pd.DataFrame, plateifu: np.ndarray, labelled: Mapping[str, np.ndarray]) -> Figure:
    """2-D map of latents with the galaxies of each label.

    Args:
        table: the catalog.
        plateifu: [galaxy] the assessed galaxies.
        labelled: [galaxy] bool of each label.
    """
    positions = table.set_index("plateifu").loc[plateifu, ["umap_1", "umap_2"]].to_numpy()
    figure = new_figure(WIDE)
    with rc_context(STYLE):
        axes = figure.add_subplot()
        everyone: Any = {"s": _dot_size(len(table)), "lw": 0, "rasterized": True, "label": f"all ({len(table)})"}
        axes.scatter(table["umap_1"], table["umap_2"], c=OTHERS, **everyone)
        drawn = zip(labelled.items(), COLOURS, MARKERS, strict=False)
        for (name, chosen), colour, marker in sorted(drawn, key=lambda item: -item[0][1].sum()):  # rarest label on top
            x, y = positions[chosen].T
            size = np.clip(900 / chosen.sum(), 22, 60)
            options: Any = {"edgecolors": "white", "linewidths": 0.4, "rasterized": chosen.sum() > 2000}
            axes.scatter(x, y, s=size, c=colour, marker=marker, label=f"{name} ({chosen.sum()})", **options)
        _map_axes(axes, table)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def map_by_score(table: pd.DataFrame, score_label: str, num_marked: int = 10) -> Figure:
    """2-D map of latents coloured by score; rings and ranks mark the most unusual galaxies."""
    finite = table[np.isfinite(table["score"])].sort_values("rank", ascending=False)
    figure = new_figure(WIDE)
    with rc_context(STYLE):
        axes = figure.add_subplot()
        options: Any = {"c": finite["score"], "cmap": "viridis", "norm": _norm(finite["score"].to_numpy())}
        drawn = axes.scatter(finite["umap_1"], finite["umap_2"], s=_dot_size(len(finite)), rasterized=True, **options)
        top = finite.tail(num_marked)
        axes.scatter(top["umap_1"], top["umap_2"], s=60, facecolors="none", edgecolors=COLOURS[1], lw=1.2)
        halo = [withStroke(linewidth=2, foreground="white")]
        for row in top.tail(NUM_NUMBERED).to_dict("records"):
            where = (row["umap_1"], row["umap_2"])
            options = {"xytext": (6, 5), "textcoords": "offset points", "fontsize": 8, "path_effects": halo}
            axes.annotate(str(row["rank"]), where, **options)
        _map_axes(axes, table)
        axes.set_title(
            f"rings: the {len(top)} most unusual galaxies, the first {NUM_NUMBERED} with their rank", loc="left"
        )
        figure.colorbar(drawn, label=score_label, pad=0.02)
    return figure


def map_in_3d(table: pd.DataFrame, score_label: str) -> Figure:
    """3-D map of latents coloured by score, from two directions, as in the paper."""
    finite = table[np.isfinite(table["score"])].sort_values("rank", ascending=False)
    figure = new_figure((7.1, 3.9))
    with rc_context(STYLE | {"figure.constrained_layout.use": False}):
        norm = _norm(finite["score"].to_numpy())
        all_axes = []
        for position, azimuth in enumerate((-60, 30), start=1):
            axes: Any = figure.add_subplot(1, 2, position, projection="3d")
            points = (finite[f"umap3_{i}"] for i in (1, 2, 3))
            drawn = axes.scatter(
                *points, c=finite["score"], cmap="viridis", norm=norm, s=_dot_size(len(finite)), depthshade=False
            )
            kind = str(table["embedding"].iloc[0]).upper()
            axes.set(xlabel=f"{kind} 1", ylabel=f"{kind} 2", zlabel=f"{kind} 3")
            for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
                axis.set_major_locator(MaxNLocator(4))
            axes.tick_params(labelsize=7, pad=0)
            axes.set_title(f"from azimuth {azimuth}°")
            axes.view_init(elev=22, azim=azimuth)
            axes.set_box_aspect(None, zoom=0.82)  # leaves room for the axis labels
            all_axes.append(axes)
        figure.colorbar(drawn, ax=all_axes, label=score_label, shrink=0.7, orientation="horizontal", aspect=45)
    return figure


def _shares(values: np.ndarray) -> np.ndarray:
    return np.full(len(values), 1 / max(1, len(values)))


def _dot_size(num: int) -> float:
    """Area of a dot in square points, smaller for more galaxies."""
    return float(np.clip(4000 / max(1, num), 2, 28))


def _norm(score: np.ndarray) -> Normalize:
    """Colour scale from the 1st to the 99.5th percentile; logarithmic if scores span decades."""
    low, high = np.quantile(score, [0.01, 0.995])
    if low > 0 and high > 20 * low:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + 1)


def _map_axes(axes: Any, table: pd.DataFrame) -> None:
    kind = str(table["embedding"].iloc[0]).upper()
    axes.set(xlabel=f"{kind} 1", ylabel=f"{kind} 2")
    axes.set_aspect("equal", adjustable="datalim")
