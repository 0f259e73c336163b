"""Makes the page of the most unusual galaxies, or serves the page of all of them.

Reads the catalog that `cubescout score` wrote, the window store and the model that the catalog names, and writes one
HTML file, explore.html in the workspace, and beside the catalog in MLflow. The file holds all it shows, scripts and
pictures included: it opens without a network and can be sent to others. The first `explore.num_galaxies` galaxies get a
card each: line maps, reconstruction, residuals, spectra, neighbours.

With --serve nothing is written but labels: a server on this machine alone shows every galaxy of the catalog, with maps
of the survey, filters, the spectra of any spaxel, and labels that `cubescout rerank` learns from. It prints its
address, and ends at Ctrl-C.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cubeprep.storage import write_file
from cubeprep.store import Windows, WindowStore
from jobs.cli import EXIT_OK, command
from jobs.config import ProjectConfig
from jobs.page.attribution import read_maps
from jobs.page.cards import Card, Neighbour, make_card, thumbnail_of, usual_shares
from jobs.page.figures import png_uri
from jobs.page.render import render_page
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
    if serve:
        serve_page(open_source(config, catalog, store, model), port)
        return EXIT_OK
    cards = make_cards(config, catalog, store, model)
    page = render_page(catalog, cards, store, config.explore)
    write_file(str(config.page_path), page.encode())
    keep_beside_catalog(
        config.tracking_uri, config.tracking.catalog_name, catalog.provenance["created_utc"], config.page_path
    )
    console.print(
        f"{len(cards)} of {len(catalog.table)} galaxies, {len(page.encode()) / 1e6:.1f} MB: {config.page_path}"
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
    """What the server gives out; the model runs over a galaxy when it is asked for."""

    return Source(
        catalog,
        store,
        catalog_path=config.catalog_path,
        labels_path=config.labels_path,
        reconstruct=as_scored(catalog, model, config.score.device),
        thumbnail_line=config.explore.thumbnail_line,
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


def make_cards(config: ProjectConfig, catalog: Catalog, store: WindowStore, model: ScoringModel) -> list[Card]:
    """The cards of the most unusual galaxies, most unusual first."""
    rows: list[Any] = catalog.table.head(config.explore.num_galaxies).to_dict("records")
    ranks = dict(zip(catalog.table["plateifu"], catalog.table["rank"], strict=True))
    thumbnail = thumbnails(store, config.explore.thumbnail_line)
    rest_wave = store.coordinate(store.splits[0], "rest_wave")
    lines = dict(zip(store.line_names, rest_wave.tolist(), strict=True))
    usual = usual_shares(catalog.table, store.line_names)
    reconstruct = as_scored(catalog, model, config.score.device)
    cards = []
    with progress_bar("Drawing", unit="galaxies") as bar:
        for row in rows:
            windows = store.read_galaxy(row["plateifu"])
            cards.append(
                make_card(
                    row,
                    windows,
                    reconstruct(windows),
                    lines=lines,
                    key_lines=config.explore.key_lines,
                    usual_shares=usual,
                    neighbours=_neighbours(row, ranks, thumbnail),
                    thumbnail=thumbnail(row["plateifu"]),
                    unusual=read_maps(config.catalog_path, row["plateifu"]).get("by_spaxel"),
                )
            )
            bar(len(cards), len(rows), row["plateifu"])
    return cards


def thumbnails(store: WindowStore, line_name: str) -> Callable[[str], str]:
    """A function that draws a galaxy's thumbnail, each only once."""
    line = store.line_names.index(line_name) if line_name in store.line_names else 0
    return cache(lambda plateifu: png_uri(thumbnail_of(store.read_galaxy(plateifu), line)))


def _neighbours(row: Mapping[str, Any], ranks: Mapping[str, int], thumbnail: Callable[[str], str]) -> list[Neighbour]:
    columns = row["neighbours"], row["neighbour_distances"], row["neighbour_same_object"]
    return [
        Neighbour(str(name), int(ranks[name]), float(distance), bool(same), thumbnail(name))
        for name, distance, same in zip(*columns, strict=True)
    ]


if __name__ == "__main__":
    command("explore")()
