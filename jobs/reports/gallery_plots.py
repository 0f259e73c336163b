"""Galleries for papers: line maps and spectra of unusual galaxies, and of their neighbours in latent space."""

from collections.abc import Callable, Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure

from cubeprep.store import Windows
from jobs.reports.paper_plots import COLOURS, OTHERS, STYLE, new_figure
from modeling.catalog import SHARE_PREFIX

GALLERY_COLUMNS = 3
REASON_WIDTH = 58  # characters that fit above a box
SOFTENING = 0.05  # fraction of the brightest flux below which the colour scale is linear
MAP_COLOURS = "viridis"
INK_BOX = {"facecolor": "black", "alpha": 0.55, "pad": 0.8, "linewidth": 0}


def line_map(windows: Windows, line: int) -> np.ndarray:
    """[y, x] mean flux of a line over its good samples, one galaxy, in the store's unit; NaN if there is none."""
    good = windows.good[0, line]
    total = np.where(good, windows.flux[0, line], 0).sum(0, dtype=np.float64)
    return np.divide(total, good.sum(0), out=np.full(total.shape, np.nan), where=good.any(0))


def line_spectra(windows: Windows, lines: Sequence[int]) -> np.ndarray:
    """[line, sample] flux summed over good spaxels, one galaxy, in the store's unit; NaN if there is none."""
    chosen = list(lines)
    good = windows.good[0, chosen]
    total = np.where(good, windows.flux[0, chosen], 0).sum((-2, -1), dtype=np.float64)
    return np.where(good.any((-2, -1)), total, np.nan)


def anomaly_gallery(
    rows: Sequence[Mapping[str, Any]],
    read: Callable[[str], Windows],
    line_names: Sequence[str],
    *,
    main_line: str,
    key_lines: Sequence[str],
    flux_unit: str,
) -> Figure:
    """Gallery of the most unusual galaxies: two line maps and the summed spectra of key lines.

    Args:
        rows: rows of the catalog.
        read: returns the windows of a galaxy by its plateifu.
        line_names: lines of the store.
        main_line: line of the first map.
        key_lines: lines of the spectra.
        flux_unit: unit of the store's flux.
    """
    names = list(line_names)
    shown = [line for line in key_lines if line in names] or names[:6]
    height = -(-len(rows) // GALLERY_COLUMNS)
    figure = new_figure((7.1, 2.0 * height + 0.95))
    # Laid out by hand: matplotlib's layouts cannot place square maps over a spectrum.
    figure.set_layout_engine("none")
    inch = 1 / figure.get_figheight()
    margins = {"left": 0.01, "right": 0.99, "top": 1 - 0.34 * inch, "bottom": inch}
    with rc_context(STYLE):
        grid = figure.add_gridspec(height, GALLERY_COLUMNS, hspace=0.32, wspace=0.08, **margins)
        for place, row in enumerate(rows):
            windows, cell = read(row["plateifu"]), grid[divmod(place, GALLERY_COLUMNS)]
            tile = cell.subgridspec(2, 2, height_ratios=[1.7, 1], hspace=0.03, wspace=0.02)
            for column, line in enumerate((main_line, _second_line(row, names, main_line))):
                axes = figure.add_subplot(tile[0, column])
                drawn = _draw_map(axes, line_map(windows, names.index(line)))
                axes.text(0.04, 0.96, line, transform=axes.transAxes, va="top", color="w", fontsize=6, bbox=INK_BOX)
            strip = figure.add_subplot(tile[1, :])
            _draw_spectra(strip, windows, names, shown, label=place + GALLERY_COLUMNS >= len(rows))
            _write_title(figure, tile[0, :].get_position(figure), row)
        _colour_bar(figure, drawn, flux_unit, cax=figure.add_axes((0.3, 0.6 * inch, 0.4, 0.08 * inch)))
        note = "below the maps: windows of lines summed over spaxels, on each galaxy's own scale"
        figure.text(0.5, 0.01, note, ha="center", fontsize=7)
    return figure


def _write_title(figure: Figure, box: Any, row: Mapping[str, Any]) -> None:
    """Title above a box: rank, name, score, and the catalog's reason and artefact code if any."""
    triage = f"   [{row['triage']}]" if row.get("triage") else ""
    lines = {
        0.14: (f"{row['rank']}. {row['plateifu']}   score {row['score']:.3g}{triage}", 7.0),
        0.03: (shorten(row.get("reason_1") or "", REASON_WIDTH, placeholder=" ..."), 5.5),
    }
    for height, (text, size) in lines.items():
        y = box.y1 + height / figure.get_figheight()
        figure.text((box.x0 + box.x1) / 2, y, text, ha="center", va="bottom", fontsize=size)


def _second_line(row: Mapping[str, Any], names: Sequence[str], main_line: str) -> str:
    """Line other than the main one with the largest share of the residual."""
    shares = {name: row.get(f"{SHARE_PREFIX}{name}", np.nan) for name in names if name != main_line}
    return max(shares, key=lambda name: np.nan_to_num(shares[name], nan=-1.0), default=main_line)


def neighbour_gallery(
    rows: Sequence[Mapping[str, Any]],
    read: Callable[[str], Windows],
    line: int,
    *,
    line_name: str,
    ranks: Mapping[str, int],
    flux_unit: str,
) -> Figure:
    """Gallery of unusual galaxies, one per row, with their nearest neighbours in latent space, nearest first.

    Args:
        rows: rows of the catalog.
        read: returns the windows of a galaxy by its plateifu.
        line: index of the line drawn.
        line_name: its name.
        ranks: ranks of all galaxies.
        flux_unit: unit of the store's flux.
    """
    width = 1 + max(len(row["neighbours"]) for row in rows)
    figure = new_figure((7.1, 1.42 * len(rows) + 0.6))
    with rc_context(STYLE):
        grid = figure.subplots(len(rows), width, squeeze=False)
        drawn: Any = None
        for axes_of_row, row in zip(grid, rows, strict=True):
            drawn = _draw_map(axes_of_row[0], line_map(read(row["plateifu"]), line), ring=True)
            axes_of_row[0].set_title(f"{row['plateifu']}\nrank {row['rank']}", fontsize=7, fontweight="bold")
            neighbours = zip(row["neighbours"], row["neighbour_distances"], row["neighbour_same_object"], strict=True)
            for axes, (name, distance, same) in zip(axes_of_row[1:], neighbours, strict=False):
                _draw_map(axes, line_map(read(name), line))
                note = "same object" if same else f"rank {ranks[name]}"
                axes.set_title(f"{name}\n{note}, d {distance:.1f}", fontsize=7)
            for axes in axes_of_row[1 + len(row["neighbours"]) :]:
                axes.set_axis_off()
        _colour_bar(figure, drawn, f"{flux_unit}, {line_name}", ax=figure.axes, shrink=0.5, aspect=50, pad=0.01)
        figure.suptitle("bold: unusual galaxies, with their neighbours to the right; d: latent distance", fontsize=8)
    return figure


def _draw_map(axes: Any, values: np.ndarray, *, ring: bool = False) -> Any:
    """Draws one map on its own scale, whose maximum is written into it."""
    finite = values[np.isfinite(values)]
    high = float(np.quantile(finite, 0.995)) if finite.size and np.quantile(finite, 0.995) > 0 else 1.0
    colours = colormaps[MAP_COLOURS].with_extremes(bad="#f2f2f2")
    # Each map is divided by its own maximum, so that one colour bar serves all.
    norm = AsinhNorm(SOFTENING, 0, 1)
    drawn = axes.imshow(values / high, origin="lower", cmap=colours, norm=norm, interpolation="nearest")
    axes.text(0.97, 0.03, f"{high:.2g}", transform=axes.transAxes, ha="right", color="w", fontsize=6, bbox=INK_BOX)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=ring, color=COLOURS[1], linewidth=1.8)
    return drawn


def _draw_spectra(axes: Any, windows: Windows, names: list[str], shown: list[str], *, label: bool) -> None:
    """Draws the windows of some lines side by side, divided by their highest sample."""
    spectra = line_spectra(windows, [names.index(line) for line in shown])
    highest = float(np.nanmax(np.abs(spectra))) if np.isfinite(spectra).any() else 0.0
    spectra = spectra / (highest or 1.0)
    step = spectra.shape[1] + 2
    axes.axhline(0, color=OTHERS, lw=0.6)
    for place, values in enumerate(spectra):
        axes.step(place * step + np.arange(len(values)), values, where="mid", lw=0.9, color=COLOURS[0])
    centres = [place * step + (step - 3) / 2 for place in range(len(shown))]
    axes.set_xticks(centres, [line.replace("-", "\n") for line in shown] if label else [""] * len(shown), fontsize=6)
    axes.tick_params(axis="x", length=0, pad=1)
    axes.set(yticks=[], ylim=(min(-0.1, float(np.nan_to_num(spectra).min())) - 0.05, 1.1))
    for spine in axes.spines.values():
        spine.set_visible(False)


def _colour_bar(figure: Figure, drawn: Any, flux_unit: str, **place: Any) -> None:
    bar = figure.colorbar(drawn, orientation="horizontal", **place)
    bar.set_ticks([0, 0.1, 0.3, 1], labels=["0", "0.1", "0.3", "1"], fontsize=7)
    bar.set_label(f"mean flux divided by the number in the map's corner [{flux_unit}]", fontsize=7)
