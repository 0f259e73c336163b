"""Measures how galaxies of known classes are distributed in score and latent space, such as the paper's AGN.

Reads the catalog and a table of labels (CSV, ECSV, FITS, Parquet, VOTable, or text in columns), matched by plateifu:

\b
  cubescout assess CONFIG --labels agn.ecsv --label AGN_CLASS     each class, or each selection method
  cubescout assess CONFIG --labels zoo.fits --label 'P_MERGE>0.5' a threshold
  cubescout assess CONFIG --labels lines.dat --bpt BPT_x BPT_y    classes from log NII/Ha and log OIII/Hb
  cubescout assess CONFIG --labels truth.parquet --label unusual  the truth of a simulated survey
  cubescout assess CONFIG --labels agn.dat                        a list of galaxies against all others

Only galaxies in the table count; for a list, the whole catalog counts. In a column of classes, or of true (or 1)
alone, an empty cell means without the label; in one of true and false, or 1 and 0, and for a threshold, it means
unknown, and the galaxy is left out. For each label with at least 3 galaxies the report gives the over-representation
among the highest scores, the area under the ROC curve, and the share of the same label among the nearest neighbours
against chance, with 95% intervals from a bootstrap over objects. Writes report.md, report.html, assessment.csv and the
plots to WORKSPACE/assess/NAME.

Labels are not the truth about anomaly: the paper finds that most AGN score low. Never tune a model on them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cubeprep.csvtext import csv_text
from cubeprep.storage import write_file
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, CommandError, command
from jobs.console.progress import console
from jobs.reports.assess_report import describe, html_of, markdown_of, results_table
from jobs.reports.paper_plots import map_with_labels, roc_curves, save, score_axis, score_histogram
from jobs.tables.label_tables import Labels, check_label_options, read_labels
from modeling.catalog import Catalog, latents_path, read_catalog, read_latents
from modeling.labels.label_statistics import MIN_GALAXIES, Assessment, Sample, assess_labels
from modeling.latents.latent_index import LatentIndex
from modeling.latents.neighbours import LatentScaler

NUM_NEIGHBOURS = 10
SPARE_NEIGHBOURS = 10  # allows for this many repeat observations nearer than the nearest other object
# Words for the signs of thresholds in the names of folders.
SIGNS = {">=": " from ", ">": " above ", "<=": " to ", "<": " below "}


def run(
    config: ProjectConfig,
    labels: str,
    label: str | None = None,
    bpt: tuple[str, str] | None = None,
    key: str = "plateifu",
) -> int:
    """Writes the report; returns the exit code."""
    check_label_options(labels, label, bpt, key)
    path = Path(labels)
    catalog = read_catalog(config.catalog_path)
    found = read_labels(path, catalog.table["plateifu"].tolist(), label=label, bpt=bpt or None, key=key)
    sample = make_sample(catalog, config.catalog_path, found)
    assessed = assess_labels(sample, found.labelled, seed=config.seed)
    if not assessed:
        counts = ", ".join(f"{name} {chosen.sum()}" for name, chosen in found.labelled.items())
        raise CommandError(
            f"{path}: of {counted(len(found.plateifu), 'galaxy')} in the catalog, {counts}: "
            f"each label needs {MIN_GALAXIES} galaxies with it and {MIN_GALAXIES} without"
            f"{'' if label or bpt else '; without --label the table is a list of galaxies, and all others are without'}"
        )
    folder = config.workspace / "assess" / folder_name(path, label, bpt)
    plots = make_plots(catalog, sample, found, assessed)
    for name, figure in plots.items():
        save(figure, folder / name)
    results = results_table(assessed, other_scores(catalog, found, assessed))
    write_file(str(folder / "assessment.csv"), csv_text(results).encode())
    report = markdown_of(describe(catalog, found, path, assessed), results, list(plots))
    write_file(str(folder / "report.md"), report.encode())
    write_file(str(folder / "report.html"), html_of(report, folder).encode())
    _print(found, assessed)
    console.print(f"Report: {folder / 'report.html'}", markup=False)
    return EXIT_OK


def folder_name(path: Path, label: str | None, bpt: tuple[str, str] | None) -> str:
    """Name of a report's folder: the table and the label taken from it."""
    wanted = label or ""
    for sign, word in SIGNS.items():
        wanted = wanted.replace(sign, word)
    texts = (path.stem, *(("bpt", *bpt) if bpt else (wanted,)))
    return "-".join(filter(None, ["".join(c if c.isalnum() else "_" for c in text) for text in texts]))


def make_sample(catalog: Catalog, catalog_path: Path, labels: Labels) -> Sample:
    """Scores of the assessed galaxies and their neighbours among each other."""
    table = catalog.table.set_index("plateifu").loc[labels.plateifu]
    names, latent = read_latents(latents_path(catalog_path))
    rows = pd.Series(np.arange(len(names)), names)[labels.plateifu].to_numpy()
    standard = LatentScaler.fit(latent)(latent[rows]).astype(np.float32)
    mangaid = table["mangaid"].to_numpy(dtype=object)
    found, _ = LatentIndex.build(standard).query(standard, NUM_NEIGHBOURS + SPARE_NEIGHBOURS)
    neighbours = np.full((len(table), NUM_NEIGHBOURS), -1)
    for row, nearest in enumerate(found):
        others = nearest[mangaid[nearest] != mangaid[row]][:NUM_NEIGHBOURS]
        neighbours[row, : len(others)] = others
    return Sample(table["score"].to_numpy(dtype=float), neighbours, mangaid)


def other_scores(catalog: Catalog, labels: Labels, assessed: dict[str, Assessment]) -> dict[str, dict[str, float]]:
    """Area under the ROC curve of each label, by each score of the catalog."""
    from modeling.labels.label_statistics import auroc

    table = catalog.table.set_index("plateifu").loc[labels.plateifu]
    scores = [name for name in table if str(name).startswith("score_") and name != "score_spread"]
    even = np.ones(len(table))
    return {
        label: {
            str(name): auroc(np.nan_to_num(table[name].to_numpy(dtype=float), nan=-np.inf), chosen, even)
            for name in scores
        }
        for label, chosen in labels.labelled.items()
        if label in assessed
    }


def make_plots(catalog: Catalog, sample: Sample, labels: Labels, assessed: dict[str, Assessment]) -> dict[str, Figure]:
    """Plots of the report by name, of the six labels with most galaxies."""
    largest = sorted(assessed, key=lambda name: -assessed[name].num_labelled)[:6]
    shown: dict[str, Any] = {name: labels.labelled[name] for name in assessed if name in largest}
    return {
        "scores": score_histogram(sample.score, shown, score_axis(catalog)),
        "roc": roc_curves({name: assessed[name] for name in shown}),
        "latents": map_with_labels(catalog.table, labels.plateifu, shown),
    }


def _print(labels: Labels, assessed: dict[str, Assessment]) -> None:
    console.print(f"{counted(len(labels.plateifu), 'galaxy')} of the catalog, {labels.source}:", markup=False)
    for name, found in assessed.items():
        number = found.num_labelled + found.num_others
        purity = f"purity {found.purity} by chance {found.chance:.2f}"
        # A share of less than one galaxy is meaningless.
        top = "".join(f"  top {p:g}% x{value}" for p, value in found.enrichment.items() if p / 100 * number >= 1)
        console.print(f"  {name:<16} {found.num_labelled:>5}  AUROC {found.auroc}{top}  {purity}", markup=False)
    if labels.unknown:
        names = counted(len(labels.unknown), "name")
        console.print(f"  {names} of the table not in the catalog, such as {labels.unknown[0]}", markup=False)
    few = {name: int(chosen.sum()) for name, chosen in labels.labelled.items() if name not in assessed}
    if few:
        shown = ", ".join(f"{name} {number}" for name, number in few.items())
        console.print(f"  too few galaxies with or without the label: {shown}", markup=False)


if __name__ == "__main__":
    command("assess")()
