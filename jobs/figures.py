"""Draws the figures of a survey for a paper, each as PDF and PNG.

Reads the catalog and the window store, and writes to WORKSPACE/figures: the map of latents coloured by score in two
(umap) and three dimensions (umap_3d); the most unusual galaxies with line maps and spectra (anomalies); the first of
them with their nearest neighbours in latent space (neighbours). With --labels also the scores of the galaxies with each
label (label_scores) and their places on the map (label_umap); see `cubescout assess --help` for the tables.

The colours are safe for most colour-blind readers. Text in the PDF files stays text.
"""

from functools import cache
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cubeprep.store import WindowStore
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, CommandError, command
from jobs.console.progress import console
from jobs.reports.gallery_plots import anomaly_gallery, neighbour_gallery
from jobs.reports.paper_plots import map_by_score, map_in_3d, map_with_labels, save, score_axis, score_histogram
from jobs.tables.label_tables import check_label_options, read_labels
from modeling.catalog import Catalog, read_catalog

NUM_ROWS_OF_NEIGHBOURS = 5
MAX_LABELS = 6


def run(
    config: ProjectConfig,
    labels: str | None = None,
    label: str | None = None,
    bpt: tuple[str, str] | None = None,
    key: str = "plateifu",
) -> int:
    """Writes the figures; returns the exit code."""
    from jobs.models.opening import check_same_store

    check_label_options(labels, label, bpt, key)
    catalog = read_catalog(config.catalog_path)
    store = WindowStore.open(config.store_path)
    check_same_store(catalog, store, config.catalog_path)
    figures = survey_figures(catalog) | galleries(config, catalog, store)
    if labels:
        figures |= label_figures(catalog, Path(labels), label=label, bpt=bpt or None, key=key)
    for name, figure in figures.items():
        save(figure, config.workspace / "figures" / name)
    console.print(f"{', '.join(figures)}: PDF and PNG in {config.workspace / 'figures'}", markup=False)
    return EXIT_OK


def survey_figures(catalog: Catalog) -> dict[str, Figure]:
    """Maps of the latents."""
    label = score_axis(catalog)
    return {"umap": map_by_score(catalog.table, label), "umap_3d": map_in_3d(catalog.table, label)}


def galleries(config: ProjectConfig, catalog: Catalog, store: WindowStore) -> dict[str, Figure]:
    """Galleries of the most unusual galaxies, and of the first of them with neighbours."""
    names, unit = store.line_names, str(store.attrs["flux_unit"])
    read = cache(store.read_galaxy)
    main = config.explore.thumbnail_line if config.explore.thumbnail_line in names else names[0]
    rows: list[Any] = catalog.table.head(config.explore.num_galaxies).to_dict("records")
    key_lines = config.explore.key_lines
    drawn = {"anomalies": anomaly_gallery(rows, read, names, main_line=main, key_lines=key_lines, flux_unit=unit)}
    first = [row for row in rows[:NUM_ROWS_OF_NEIGHBOURS] if len(row["neighbours"])]
    if first:
        ranks = dict(zip(catalog.table["plateifu"], catalog.table["rank"], strict=True))
        drawn["neighbours"] = neighbour_gallery(
            first, read, names.index(main), line_name=main, ranks=ranks, flux_unit=unit
        )
    return drawn


def label_figures(
    catalog: Catalog, path: Path, *, label: str | None, bpt: tuple[str, str] | None, key: str
) -> dict[str, Figure]:
    """Score histogram and map of a table's labels; the `MAX_LABELS` with most galaxies."""
    found = read_labels(path, catalog.table["plateifu"].tolist(), label=label, bpt=bpt, key=key)
    largest = sorted(found.labelled, key=lambda name: -found.labelled[name].sum())[:MAX_LABELS]
    shown = {name: found.labelled[name] for name in found.labelled if name in largest and found.labelled[name].any()}
    if not shown:
        raise CommandError(f"{path}: no galaxy of the catalog has a label by {found.source}")
    score = catalog.table.set_index("plateifu").loc[found.plateifu, "score"].to_numpy(dtype=float)
    return {
        "label_scores": score_histogram(score, shown, score_axis(catalog)),
        "label_umap": map_with_labels(catalog.table, found.plateifu, shown),
    }


if __name__ == "__main__":
    command("figures")()
