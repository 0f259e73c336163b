"""Plot of a training: losses by epoch, and the error of each line in the first and last epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

LINE_ERROR = "validation_mae/"


def plot_training(history: Sequence[Mapping[str, float]], path: Path) -> Path:
    """Writes the plot as PNG; returns its path.

    Args:
        history: metrics of each epoch, as reported by `fit`.
        path: path of the file.
    """
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    losses, lines = figure.subplots(1, 2, width_ratios=(1, 2))
    epochs = [metrics["epoch"] + 1 for metrics in history]
    for name, label in (("train_loss", "training"), ("validation_loss", "validation")):
        losses.plot(epochs, [metrics.get(name, np.nan) for metrics in history], marker="o", ms=3, label=label)
    losses.set(xlabel="epoch", ylabel="loss")
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.legend(frameon=False)
    first, last = (_line_errors(history[i]) for i in (0, -1))
    place = np.arange(len(last))
    lines.bar(place - 0.2, [first.get(name, np.nan) for name in last], 0.38, color="0.75", label="first epoch")
    lines.bar(place + 0.2, list(last.values()), 0.38, label="last epoch")
    lines.set_xticks(place, list(last), rotation=60, ha="right", fontsize=8)
    lines.set(ylabel="mean absolute error, normalised units", title="Validation galaxies")
    lines.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _line_errors(metrics: Mapping[str, float]) -> dict[str, float]:
    return {key.removeprefix(LINE_ERROR): value for key, value in metrics.items() if key.startswith(LINE_ERROR)}
