"""Plots of ROC curves and of recall over amplitude."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.anomaly.dataset import Data
from benchmarks.anomaly.evaluate import FALSE_POSITIVE_RATE, Entry
from benchmarks.anomaly.metrics import roc_curve
from benchmarks.anomaly.report import OURS, Report, highlighted

# Okabe & Ito's colours, distinguishable with colour-vision deficiency; line styles for print.
STYLES = (("#000000", ":"), ("#D55E00", "-"), ("#0072B2", "--"), ("#009E73", "-."), ("#999999", ":"))
FAMILY_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
OTHERS: dict[str, Any] = {"color": "#cccccc", "linewidth": 0.8, "zorder": 1}


def write_plots(report: Report, data: Data, entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Paths of the plots `roc.png` and `recall.png`, which are written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "roc.png", folder / "recall.png"]
    plot_roc(report, data, entries, paths[0])
    plot_recall(report, data, paths[1])
    return paths


def plot_roc(report: Report, data: Data, entries: Sequence[Entry], path: Path) -> None:
    """Plots recall over the false-positive rate, whose logarithmic axis shows the relevant low rates."""
    figure, axes = _figure(1)
    chosen = dict(zip(highlighted(report), STYLES, strict=True))
    compared = data.rows["kind"].isin(["", "A"]).to_numpy()
    positive = (data.rows["kind"] == "A").to_numpy()[compared]
    grid = np.geomspace(1e-3, 1, 300)
    for entry in entries:
        curves = [roc_curve(scores[compared], positive) for scores in entry.at(data.tier.headline).values()]
        # Recall at false-positive rates below one galaxy is interpolated, as for the area.
        mean = np.mean([np.interp(grid, fpr, tpr) for fpr, tpr in curves], axis=0)
        axes[0].plot(grid, mean, **_style(entry.name, chosen))
    axes[0].plot([], [], label="other scores", **OTHERS)
    axes[0].axvline(FALSE_POSITIVE_RATE, color="#999999", linewidth=0.8, zorder=0)
    axes[0].set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1.01), xlabel="false-positive rate", ylabel="recall")
    axes[0].set_title("Families A at all amplitudes, against clean galaxies", fontsize=10)
    _save(figure, path)


def plot_recall(report: Report, data: Data, path: Path) -> None:
    """Plots recall at 1% false positives over the signal-to-noise ratio of the injected difference."""
    figure, axes = _figure(2)
    families = report.families[report.families["kind"] == "A"]
    chosen = dict(zip(highlighted(report), STYLES, strict=True))
    for name, part in families.groupby("name"):
        recall = part.groupby("amplitude")["fires"].mean()
        axes[0].plot(recall.index, recall, **_style(str(name), chosen))
    axes[0].plot([], [], label="other scores", **OTHERS)
    ours = families[families["name"] == OURS]
    for colour, (name, part) in zip(FAMILY_COLOURS * 5, ours.groupby("family", sort=False), strict=False):
        axes[1].plot(part["amplitude"], part["fires"], color=colour, marker="o", markersize=4, label=str(name))
    for ax, title in zip(axes, ("Detectors, all families A", f"{OURS}, each family A"), strict=True):
        ax.set(xscale="log", ylim=(-0.01, 1.01), xlabel="S/N of the injected difference")
        ax.set_title(title, fontsize=10)
    axes[0].set_ylabel("recall at 1% false positives")
    _save(figure, path)


def _style(name: str, chosen: dict[str, tuple[str, str]]) -> dict[str, Any]:
    if name not in chosen:
        return OTHERS
    colour, dashes = chosen[name]
    return {"color": colour, "linestyle": dashes, "linewidth": 2, "label": name, "zorder": 3}


def _figure(num_panels: int) -> tuple[Any, Any]:
    """Figure and axes of panels side by side, without pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * num_panels, 4.2), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, num_panels, sharey=True))


def _save(figure: Any, path: Path) -> None:
    for ax in figure.axes:
        ax.grid(color="#eeeeee")
        # Below the axes, since curves are everywhere in them.
        ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    figure.savefig(path, dpi=150)
