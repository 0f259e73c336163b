"""Results of a hyperparameter search: trials as a table, on the terminal and in files, and as parallel coordinates."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeprep.csvtext import csv_text
from cubeprep.files import replacing
from cubeprep.words import counted
from jobs.console.progress import console

if TYPE_CHECKING:
    import pandas as pd

    from modeling.training.ray_tune import Trial

NLL = "nll"
STATES = {"done": "#1f77b4", "stopped early": "#888888"}


def trials_table(trials: "Sequence[Trial]", epochs: int) -> "pd.DataFrame":
    """One row per trial, best first: name, state, parameters by their dotted keys, epochs, `nll`, reason.

    The states are `done`, `stopped early` (by ASHA or the time budget) and `failed`, with its `reason`.
    """
    import pandas as pd

    rows = []
    for trial in trials:
        state = "failed" if trial.error else "done" if len(trial.history) >= epochs else "stopped early"
        nll = trial.loss if math.isfinite(trial.loss) else math.nan
        row = {"trial": trial.name, "state": state, **trial.parameters}
        rows.append(row | {"epochs": len(trial.history), NLL: nll, "reason": trial.error or ""})
    return pd.DataFrame(rows)


def write_table(table: "pd.DataFrame", folder: Path) -> list[Path]:
    """Writes the table as CSV and as Parquet; returns the files."""
    csv, parquet = folder / "trials.csv", folder / "trials.parquet"
    with replacing(csv) as partial:
        partial.write_text(csv_text(table))
    with replacing(parquet) as partial:
        table.to_parquet(partial, index=False)
    return [csv, parquet]


def print_table(table: "pd.DataFrame") -> None:
    """Prints the table with short parameter names, and below it the reasons of failed trials."""
    from rich.table import Table

    shown = Table(
        *(name.rpartition(".")[2] for name in table.columns if name != "reason"),
        title=counted(len(table), "trial"),
        title_justify="left",
    )
    for row in table.drop(columns="reason").itertuples(index=False):
        shown.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
    console.print(shown)
    for trial, reason in table.query("reason != ''")[["trial", "reason"]].itertuples(index=False):
        console.print(f"Trial {trial} failed: {reason}", markup=False)


def plot_parallel(table: "pd.DataFrame", path: Path) -> Path:
    """Draws one line per trial across its parameters to its likelihood, the best in red; failed trials lack the latter.

    Args:
        table: result of `trials_table`.
        path: path of the PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    keys = [key for key in table.columns if "." in key]
    axes = [_Axis.of(table[key], key) for key in keys] + [_Axis.of(table[NLL], NLL)]
    figure = Figure(figsize=(2.2 + 1.9 * len(axes), 5.0), layout="constrained")
    plot = figure.add_subplot()
    best = table[NLL].idxmin() if table[NLL].notna().any() else None
    for index, row in table.iterrows():
        heights = [axis.height(row[axis.key]) for axis in axes]
        label = None
        if index == best:
            style: dict[str, Any] = {"color": "#d62728", "linewidth": 2.5, "zorder": 3}
            label = f"best: {row['trial']}"
        elif row["state"] == "failed":
            style = {"color": "#888888", "linewidth": 1.2, "linestyle": ":"}
        else:
            style = {"color": STATES[row["state"]], "linewidth": 1.2, "alpha": 0.7}
        plot.plot(range(len(axes)), heights, marker="o", markersize=4, label=label or row["state"], **style)
    for position, axis in enumerate(axes):
        plot.axvline(position, color="black", linewidth=0.8, zorder=0)
        for height, text in axis.ticks():
            plot.annotate(
                text,
                (position, height),
                xytext=(5, 3),
                textcoords="offset points",
                fontsize=8,
                zorder=4,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )
    plot.set_xticks(range(len(axes)), [axis.label for axis in axes])
    plot.set_yticks([])
    plot.set_xlim(-0.15, len(axes) - 0.65)
    plot.set_ylim(-0.08, 1.08)
    plot.spines[:].set_visible(False)
    handles, labels = plot.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=4, frameon=False)
    plot.set_title(f"{counted(len(table), 'trial')}; nll of the validation split, lower is better")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


class _Axis:
    """Axis of one column with heights from 0 to 1: linear, logarithmic for wide ranges, or categorical."""

    def __init__(self, key: str, values: list[Any], *, is_number: bool) -> None:
        self.key = key
        self.values = values
        self.is_number = is_number
        self.is_log = is_number and min(values) > 0 and max(values) > 20 * min(values)
        self.label = f"{key} (log)" if self.is_log else key

    @classmethod
    def of(cls, column: "pd.Series", key: str) -> "_Axis":
        known = [value for value in column if not (isinstance(value, float) and not math.isfinite(value))]
        is_number = all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in known)
        if is_number:
            return cls(key, sorted({float(value) for value in known}) or [0.0], is_number=True)
        return cls(key, sorted({str(value) for value in known}), is_number=False)

    def height(self, value: Any) -> float:
        """Height of a value; NaN if it is not finite."""
        if not self.is_number:
            return (self.values.index(str(value)) + 0.5) / len(self.values)
        scale = math.log if self.is_log else float
        if not math.isfinite(value):
            return math.nan
        low, high = scale(self.values[0]), scale(self.values[-1])
        return (scale(float(value)) - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and labels of ticks: every value if they are few, else five over the range."""
        if not self.is_number:
            return [(self.height(value), value) for value in self.values]
        shown = self.values
        if len(shown) > 5:
            space = np.geomspace if self.is_log else np.linspace
            shown = space(shown[0], shown[-1], 5).tolist()
        return [(self.height(value), f"{value:.3g}") for value in shown]
