"""The two plots of the whole survey, by Bokeh: the map of latents and the histogram of scores."""

import numpy as np
import pandas as pd
from bokeh.embed import components
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    HoverTool,
    LinearColorMapper,
    LogColorMapper,
    LogTicker,
    Span,
    TapTool,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure
from bokeh.resources import Resources

# Readable on the page's light and dark ground alike, until the page's script sets the theme's own.
INK = "#7a828c"
ACCENT = "#d9480f"
SOURCE_NAME = "galaxies"  # by which the page's script finds it


def survey_plots(table: pd.DataFrame, score_label: str, num_cards: int) -> tuple[str, dict[str, str]]:
    """The script of both plots, and the element of each: `umap` and `histogram`.

    Args:
        table: the catalog's, ordered by rank.
        score_label: of the score, with its unit.
        num_cards: galaxies with a card; they are marked.
    """
    plots = {"umap": umap_plot(table, num_cards), "histogram": histogram(table, score_label, num_cards)}
    script, elements = components(plots)
    return script, elements


def bokeh_script() -> str:
    """Bokeh's own code, as script elements that load nothing."""
    return str(Resources(mode="inline", components=["bokeh"]).render_js())


def umap_plot(table: pd.DataFrame, num_cards: int) -> figure:
    """The 2-D map of latents coloured by score; the galaxies with a card have a ring."""
    finite = table[np.isfinite(table["score"])].iloc[::-1]  # the most unusual drawn last, on top
    columns = ["umap_1", "umap_2", "plateifu", "rank", "score", "z", "split"]
    source = ColumnDataSource({name: finite[name].to_list() for name in columns}, name=SOURCE_NAME)
    source.data["size"] = [11 if rank <= num_cards else 7 for rank in finite["rank"]]
    source.data["line"] = [ACCENT if rank <= num_cards else INK for rank in finite["rank"]]
    source.data["line_width"] = [2.0 if rank <= num_cards else 0.5 for rank in finite["rank"]]
    mapper = _mapper(finite["score"].to_numpy())
    kind = str(table["embedding"].iloc[0]).upper()
    plot = figure(
        height=420,
        sizing_mode="stretch_width",
        tools="pan,wheel_zoom,box_zoom,reset,save",
        x_axis_label=f"{kind} 1",
        y_axis_label=f"{kind} 2",
    )
    points = plot.scatter(
        "umap_1",
        "umap_2",
        source=source,
        size="size",
        fill_color={"field": "score", "transform": mapper},
        fill_alpha=0.9,
        line_color="line",
        line_width="line_width",
        nonselection_alpha=0.9,
    )
    tips = [("galaxy", "@plateifu"), ("rank", "@rank"), ("score", "@score{%.4g}"), ("z", "@z{0.0000}")]
    hover = HoverTool(renderers=[points], tooltips=[*tips, ("split", "@split")], formatters={"@score": "printf"})
    plot.add_tools(hover, TapTool(renderers=[points]))
    bar = ColorBar(color_mapper=mapper, width=10, padding=4, background_fill_alpha=0)
    if isinstance(mapper, LogColorMapper):
        bar.ticker = LogTicker(mantissas=[1, 2, 5])
    plot.add_layout(bar, "right")
    return _plain(plot)


def histogram(table: pd.DataFrame, score_label: str, num_cards: int) -> figure:
    """How the scores are distributed; a line marks the least unusual galaxy with a card."""
    score = table["score"].to_numpy()
    score = score[np.isfinite(score)]
    is_log = _spans_decades(score)
    edges = _edges(score, is_log)
    counts = np.histogram(score, edges)[0]
    plot = figure(
        height=420,
        sizing_mode="stretch_width",
        tools="save",
        x_axis_type="log" if is_log else "linear",
        x_axis_label=score_label,
        y_axis_label="galaxies",
    )
    if is_log:
        plot.xaxis.ticker = LogTicker(mantissas=[1, 2, 5])
    plot.quad(top=counts, bottom=0, left=edges[:-1], right=edges[1:], fill_color=INK, fill_alpha=0.55, line_color=None)
    if score.size:
        threshold = float(np.sort(score)[::-1][min(num_cards, score.size) - 1])
        plot.add_layout(
            Span(location=threshold, dimension="height", line_color=ACCENT, line_dash="dashed", line_width=2)
        )
    plot.y_range.start = 0
    return _plain(plot)


def _spans_decades(score: np.ndarray) -> bool:
    return bool(score.size and score.min() > 0 and score.max() > 10 * score.min())


def _edges(score: np.ndarray, is_log: bool) -> np.ndarray:
    low, high = (float(score.min()), float(score.max())) if score.size else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    num_bins = int(np.clip(2 * np.sqrt(score.size), 8, 60))
    return np.geomspace(low, high, num_bins + 1) if is_log else np.linspace(low, high, num_bins + 1)


def _mapper(score: np.ndarray) -> LogColorMapper | LinearColorMapper:
    low, high = (float(score.min()), float(score.max())) if score.size else (0.0, 1.0)
    kind = LogColorMapper if _spans_decades(score) else LinearColorMapper
    return kind(palette=Viridis256, low=low, high=high if high > low else low + 1)


def _plain(plot: figure) -> figure:
    """Takes the theme of the page: no ground, quiet lines, no logo (it would be a link to elsewhere)."""
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.background_fill_alpha = plot.border_fill_alpha = 0
    plot.outline_line_color = None
    plot.grid.grid_line_color = INK
    plot.grid.grid_line_alpha = 0.2
    for item in [*plot.axis, *plot.select({"type": ColorBar})]:
        item.major_label_text_color = INK
        item.major_label_text_font_size = "12px"
    for axis in plot.axis:
        axis.axis_label_text_color = axis.axis_line_color = axis.major_tick_line_color = INK
        axis.minor_tick_line_color = None
        axis.axis_label_text_font_size = "13px"
        axis.axis_label_text_font_style = "normal"
    return plot
