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
    ORACLE,
    Bootstrap,
    Entry,
    averaged,
    interval,
    recall_by_amplitude,
    thresholds,
)

OURS = "Cubescout"
PAPER = ("paper AE", "paper VAE")
# The family that every detector of ours missed, and the amplitude at which it must be found.
MISSED_FAMILY, MISSED_AMPLITUDE = "blueberry", 1000
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
    "fires_clean": "clean flagged",
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
        rivals: names of the scores that ours is compared with, by the name of the gain.
    """

    table: pd.DataFrame
    families: pd.DataFrame
    figures: dict[str, float]
    rivals: dict[str, str]


def make_report(data: Data, entries: Sequence[Entry]) -> Report:
    """All tables and figures."""
    tier = data.tier
    bootstrap = Bootstrap(data, tier)
    rows = []
    for entry in entries:
        for contamination in sorted({run.contamination for run in entry.scores}):
            row = {"name": entry.name, "group": entry.group, "contamination": contamination, "seconds": entry.seconds}
            row |= {"seeds": len(entry.at(contamination))} | averaged(entry, data, contamination)
            if contamination == tier.headline:
                row["pauroc_low"], row["pauroc_high"] = interval(bootstrap.pauroc(entry, contamination))
            rows.append(row)
    table = pd.DataFrame(rows).sort_values("pauroc", ascending=False, ignore_index=True)
    main = table[table["contamination"] == tier.headline].set_index("name")
    families, rivals = family_table(data, entries), find_rivals(main)
    figures = {name: float(main.loc[OURS, name]) for name in NAMED}
    figures["hypothesis_accuracy"] = accuracy(data, next(entry for entry in entries if entry.name == OURS))
    figures |= gains(data, entries, main, rivals, bootstrap) | further_figures(entries, families, tier.headline)
    return Report(table, families, figures, rivals)


def find_rivals(main: pd.DataFrame) -> dict[str, str]:
    """Names of the paper's better network, if there is one, and of the best classical score, variants included."""
    found = {"best_classical": main.loc[main["group"] == "classical", "pauroc"].idxmax()}
    paper = [name for name in PAPER if name in main.index]
    return ({"paper": main.loc[paper, "pauroc"].idxmax()} if paper else {}) | found


def gains(
    data: Data, entries: Sequence[Entry], main: pd.DataFrame, rivals: dict[str, str], bootstrap: Bootstrap
) -> dict[str, float]:
    """Our model's gains in pAUROC over its rivals, with 95% intervals of paired resamples."""
    by_name = {entry.name: entry for entry in entries}
    ours = bootstrap.pauroc(by_name[OURS], data.tier.headline)
    figures: dict[str, float] = {}
    for name, rival in rivals.items():
        figures[f"pauroc_gain_vs_{name}"] = float(main.loc[OURS, "pauroc"] - main.loc[rival, "pauroc"])
        low, high = interval(ours - bootstrap.pauroc(by_name[rival], data.tier.headline))
        figures |= {f"pauroc_gain_vs_{name}_low": low, f"pauroc_gain_vs_{name}_high": high}
    return figures


def further_figures(entries: Sequence[Entry], families: pd.DataFrame, headline: float) -> dict[str, float]:
    """Our model's recall of the family that was missed, and its win rate on real cubes, where they can be measured."""
    found = families["name"].eq(OURS) & families["family"].eq(MISSED_FAMILY)
    recall = families.loc[found & families["amplitude"].eq(MISSED_AMPLITUDE), "fires"]
    figures = {f"recall_{MISSED_FAMILY}_{MISSED_AMPLITUDE}": float(recall.iloc[0])} if len(recall) else {}
    (ours,) = (entry for entry in entries if entry.name == OURS)
    strongest = [ours.real[run].iloc[-1] for run in ours.at(headline) if run in ours.real]
    return figures | ({"real_win_rate": float(np.mean(strongest))} if strongest else {})


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
        at = f"A and C at S/N {CLEAR_AMPLITUDE:g} and above, N and clean galaxies"
        parts.append(f"## {name}: hypotheses, numbers of rows over all runs ({at})")
        parts.append(markdown(table.astype(str)))
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
        *notes(report, data, entries),
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


def notes(report: Report, data: Data, entries: Sequence[Entry]) -> list[str]:
    """The rivals, and the detectors' summaries of their training."""
    rivals = [f"- {name}: {rival}" for name, rival in report.rivals.items()]
    if "paper" not in report.rivals:
        rivals.append(
            "- paper: its networks were not run and no result of theirs is kept for these data; `--paper` runs them"
        )
    elif data.tier.paper_asked:
        rivals.append("- paper: its networks are trained with `--paper` alone; a run without it shows the kept result")
    training = [f"- {entry.name}: {'; '.join(entry.training)}" for entry in entries if entry.training]
    return ["\n".join(["Compared with:", "", *rivals]), "\n".join(["Training, by fold:", "", *training])]


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


def highlighted(report: Report) -> list[str]:
    """Detectors drawn in colour: the bound, ours, the paper's, the best classical one and chance."""
    return [ORACLE, OURS, report.rivals["best_classical"], report.rivals.get("paper", PAPER[0]), "random"]
