"""Makes the page of a catalog: one file to be sent to others, or served on this machine.

Reads the catalog that `cubescout score` wrote, the window store and the model that the catalog names, and writes one
HTML file, explore.html in the workspace, and beside the catalog in MLflow. It opens without a network, holds the table
of all galaxies (gallery, map, filters), and the maps and the spectra of every spaxel of the `explore.num_galaxies` most
unusual ones, of which it also takes neighbours while it stays small.

With --serve the same page shows every galaxy in full, from a server on this machine alone, and its labels go to the
workspace, where `cubescout rerank` learns from them. It prints its address, and ends at Ctrl-C.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cubeprep.storage import write_file
from cubeprep.store import Windows, WindowStore
from jobs.cli import EXIT_OK, command
from jobs.config import ProjectConfig
from jobs.page.export import export_page
from jobs.page.source import Source
from jobs.progress import console, progress_bar
from jobs.score import ScoringModel, open_model
from modeling.catalog import Catalog, read_catalog


def run(config: ProjectConfig, serve: bool = False, port: int = 8900) -> int:
    """Writes the page, also as an artifact of the catalog's MLflow run, or serves it; returns the exit code."""
    from modeling.catalog_registry import keep_beside_catalog

    catalog = read_catalog(config.catalog_path)
    store = WindowStore.open(config.store_path)
    check_same_store(catalog, store, config.catalog_path)
    model = reopen_model(config, catalog, store)
    source = open_source(config, catalog, store, model)
    if serve:
        serve_page(source, port)
        return EXIT_OK
    with progress_bar("Exporting", unit="galaxies") as bar:
        page, held = export_page(source, config.explore.num_galaxies, bar)
    write_file(str(config.page_path), page.encode())
    keep_beside_catalog(
        config.tracking_uri, config.tracking.catalog_name, catalog.provenance["created_utc"], config.page_path
    )
    console.print(
        f"{len(held)} of {len(catalog.table)} galaxies in full, {len(page.encode()) / 1e6:.1f} MB: {config.page_path}"
    )
    return EXIT_OK


def serve_page(source: Source, port: int) -> None:
    """Serves the page until interrupted."""
    from jobs.page.server import serve

    def announce(address: str) -> None:
        console.print(f"{len(source.catalog.table)} galaxies. Open this in a browser; Ctrl-C ends it:")
        console.print(f"  {address}", markup=False, highlight=False, soft_wrap=True)

    serve(source, port, announce)


def open_source(config: ProjectConfig, catalog: Catalog, store: WindowStore, model: ScoringModel) -> Source:
    """The contents of the page; the model reconstructs a galaxy when it is asked for."""
    return Source(
        catalog,
        store,
        catalog_path=config.catalog_path,
        labels_path=config.labels_path,
        reconstruct=as_scored(catalog, model, config.score.device),
        thumbnail_line=config.explore.thumbnail_line,
        key_lines=config.explore.key_lines,
    )


def as_scored(catalog: Catalog, model: ScoringModel, device: str) -> Callable[[Windows], np.ndarray]:
    """A function that reconstructs a galaxy's windows by the models that it was scored by: their mean.

    Models of folds, where there are any, that never saw the galaxy; else the main one.
    """
    from modeling.inference import reconstruct
    from modeling.scoring import Panel

    panel = Panel("", (model.network, *model.folds), model.num_left_out)
    mangaid = catalog.table.set_index("plateifu")["mangaid"]

    def mean(windows: Windows) -> np.ndarray:
        counts = panel.counts([str(mangaid[windows.plateifu.astype(str)[0]])])[:, 0]
        arrays = windows.flux, windows.ivar, windows.mask
        chosen = [network for network, count in zip(panel.networks, counts, strict=True) if count]
        return np.asarray(np.mean([reconstruct(network, *arrays, device=device) for network in chosen], axis=0))

    return mean


def check_same_store(catalog: Catalog, store: WindowStore, path: Path) -> None:
    """Checks that the catalog was made from this store.

    Raises:
        ValueError: it was made from another.
    """
    scored = catalog.provenance["store"]["identity"]
    if scored != store.identity:
        raise ValueError(
            f"{path} is the catalog of another store (identity {scored[:12]}) than {store.path} "
            f"(identity {store.identity[:12]}). Run `cubescout score` first."
        )


def reopen_model(config: ProjectConfig, catalog: Catalog, store: WindowStore) -> ScoringModel:
    """The model that the catalog's scores are of.

    Raises:
        ValueError: it is gone, or its weights are no longer the same.
    """
    made_by = catalog.provenance["model"]
    model = open_model(config, store, made_by["reference"])
    if model.digest != made_by["digest"]:
        raise ValueError(
            f"{made_by['reference']} is no longer the model of {config.catalog_path}: its weights have the digest "
            f"{model.digest[:12]}, then {made_by['digest'][:12]}. Does tracking.uri name the registry "
            "that it was scored with? If so, run `cubescout score` again."
        )
    return model


if __name__ == "__main__":
    command("explore")()
