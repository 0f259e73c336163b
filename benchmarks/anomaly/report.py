"""Writes the results of the benchmark: tables and `name=value` lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.anomaly.all_families import load_families
from benchmarks.anomaly.confusion import CLEAR_AMPLITUDE, accuracy, tables
from benchmarks.anomaly.dataset import Data
from benchmarks.anomaly.evaluate import (
    CURVES,
    ORACLE,
    Bootstrap,
    Entry,
    averaged,
    interval,
    recall_by_amplitude,
    thresholds,
)

OURS = "Cubescout"
NAMED = [
    "pauroc",
    "auroc",
    "auprc",
    "recall_at_50",
    "recall_at_100",
    "amplitude_50",
    "fires_n",
    "fdr_at_10",
    "artefact_share_top100",
    "aupro",
    "pointing_game",
    "top1_line",
    "spearman_flux",
    "spearman_snr",
    "spearman_size",
]
SHOWN = {
    "pauroc": "pAUROC",
    "pauroc_interval": "95%",
    "auroc": "AUROC",
    "auprc": "AUPRC at 1%",
    "recall_at_50": "recall at 50",
    "recall_at_100": "recall at 100",
    "amplitude_50": "S/N at 50% recall",
    "fires_n": "N flagged",
    "artefact_share_top100": "artefacts in top 100",
    "fdr_at_10": "FDR at 10%",
    "aupro": "AUPRO",
    "pointing_game": "pointing",
    "top1_line": "line",
    "spearman_flux": "rho flux",
    "spearman_snr": "rho S/N",
    "spearman_size": "rho size",
    "seconds": "CPU s",
}


@dataclass(frozen=True)
class Report:
    """Results of the benchmark.

    Attributes:
        table: one row per score of a detector and contamination.
        families: fraction of each family above the threshold of 1% false positives, by detector and amplitude.
        figures: the `name=value` lines.
    """

    table: pd.DataFrame
    families: pd.DataFrame
    figures: dict[str, float]


def make_report(data: Data, entries: Sequence[Entry]) -> Report:
    """All tables and figures."""
    tier = data.tier
    bootstrap = Bootstrap(data, tier)
    rows = []
    for entry in entries:
        for contamination in sorted({run.contamination for run in entry.scores}):
            row = {"name": entry.name, "group": entry.group, "contamination": contamination, "seconds": entry.seconds}
            row |= {"seeds": len(entry.at(contamination))} | averaged(entry, data, contamination)
            for curve in CURVES if contamination == tier.headline else ():
                row[f"{curve}_low"], row[f"{curve}_high"] = interval(bootstrap.curve(entry, contamination, curve))
            rows.append(row)
    table = pd.DataFrame(rows).sort_values("pauroc", ascending=False, ignore_index=True)
    return Report(table, family_table(data, entries), headline_figures(data, entries, table, bootstrap))


def headline_figures(
    data: Data, entries: Sequence[Entry], table: pd.DataFrame, bootstrap: Bootstrap
) -> dict[str, float]:
    """Our model's measures and its gains over the paper and over the best classical score."""
    headline = data.tier.headline
    main = table[table["contamination"] == headline].set_index("name")
    figures = {name: float(main.loc[OURS, name]) for name in NAMED}
    rivals = {
        "paper": main.loc[["paper AE", "paper VAE"], "pauroc"].idxmax(),
        "best_classical": main.loc[main["group"] == "classical", "pauroc"].idxmax(),
    }
    by_name = {entry.name: entry for entry in entries}
    figures["hypothesis_accuracy"] = accuracy(data, by_name[OURS])
    ours = bootstrap.curve(by_name[OURS], headline, "pauroc")
    for name, rival in rivals.items():
        figures[f"pauroc_gain_vs_{name}"] = float(main.loc[OURS, "pauroc"] - main.loc[rival, "pauroc"])
        low, high = interval(ours - bootstrap.curve(by_name[rival], headline, "pauroc"))
        figures |= {f"pauroc_gain_vs_{name}_low": low, f"pauroc_gain_vs_{name}_high": high}
    return figures


def family_table(data: Data, entries: Sequence[Entry]) -> pd.DataFrame:
    """Fraction of flagged rows of each family and amplitude, for each detector at the headline contamination."""
    rows = []
    for entry in entries:
        fires = [scores > thresholds(scores, data.rows) for scores in entry.at(data.tier.headline).values()]
        for family in load_families().values():
            shares = np.mean([recall_by_amplitude(fired, data, family.name) for fired in fires], axis=0)
            for level, share in enumerate(shares):
                row = {"name": entry.name, "family": family.name, "kind": family.kind, "level": level}
                rows.append(row | {"amplitude": data.tier.data.amplitudes[level], "fires": share})
    return pd.DataFrame(rows)


def write_report(report: Report, data: Data, entries: Sequence[Entry], folder: Path, title: str) -> list[Path]:
    """Writes `results.md`, `results.parquet` and `families.parquet`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("results.md", "results.parquet", "families.parquet")]
    report.table.to_parquet(paths[1])
    report.families.to_parquet(paths[2])
    paths[0].write_text(as_markdown(report, data, entries, title))
    return paths


def real_tables(entries: Sequence[Entry], headline: float) -> list[str]:
    """A table of the real cubes, if there are any."""
    rows = {entry.name: [entry.real[run] for run in entry.at(headline) if run in entry.real] for entry in entries}
    table = pd.DataFrame({name: pd.concat(found, axis=1).mean(axis=1) for name, found in rows.items() if found}).T
    if table.empty:
        return []
    table.columns = [f"{amplitude:g}" for amplitude in table.columns]
    shown = table.sort_values(table.columns[-2], ascending=False)
    return ["## Real cubes: fraction of injections that score above their clean twin, by amplitude", markdown(shown)]


def confusion_tables(data: Data, entries: Sequence[Entry]) -> list[str]:
    """Hypotheses of each detector that has any."""
    parts = []
    for name, table in tables(data, entries):
        parts.append(f"## {name}: hypotheses of injections at S/N {CLEAR_AMPLITUDE:g} and above, in rows of the data")
        parts.append(markdown(table))
    return parts


def as_markdown(report: Report, data: Data, entries: Sequence[Entry], title: str) -> str:
    """The tables as one page."""
    headline = data.tier.headline
    table = report.table.assign(
        pauroc_interval=[f"{low:.3f} to {high:.3f}" for low, high in report.table[["pauroc_low", "pauroc_high"]].values]
    )
    main = table[table["contamination"] == headline]
    contaminated = report.table.pivot_table(index="name", columns="contamination", values="pauroc").dropna()
    contaminated = contaminated.sort_values(headline, ascending=False)
    contaminated.columns = [f"{share:.0%}" for share in contaminated.columns]
    ours = report.families[report.families["name"] == OURS]
    by_family = ours.pivot_table(index=["kind", "family"], columns="amplitude", values="fires")
    by_family.columns = [f"{amplitude:g}" for amplitude in by_family.columns]
    parts = [
        f"# {title}",
        f"## All detectors, {headline:.0%} of the training galaxies contaminated",
        markdown(main.set_index("name")[list(SHOWN)].rename(columns=SHOWN)),
        "## pAUROC by contamination",
        markdown(contaminated),
        f"## {OURS}: fraction above the threshold of 1% false positives, by amplitude (N: by strength)",
        markdown(by_family.reset_index().set_index("family")),
        *confusion_tables(data, entries),
        *real_tables(entries, headline),
        "## Figures",
        "\n".join(["```", *(f"{name}={value:.4f}" for name, value in report.figures.items()), "```"]),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown; numbers to three digits, empty cells for NaN."""
    header = ["", *map(str, table.columns)]
    lines = [header, ["---"] + ["---:"] * len(table.columns)]
    lines += [[str(name), *map(_cell, row)] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    if not np.isfinite(number):
        return ""
    return f"{number:.0f}" if abs(number) >= 10 else f"{number:.3f}"


def highlighted(report: Report, headline: float) -> list[str]:
    """Detectors drawn in colour: the bound, ours, the paper's, the best classical one and chance."""
    main = report.table[report.table["contamination"] == headline].set_index("name")
    best = main.loc[main["group"] == "classical", "pauroc"].idxmax()
    paper = main.loc[["paper AE", "paper VAE"], "pauroc"].idxmax()
    return [ORACLE, OURS, best, paper, "random"]
