"""Makes the page of the most unusual galaxies, or serves a page of all galaxies.

Reads the catalog of `cubescout score`, the window store and the model named in the catalog. Writes one HTML file,
explore.html, to the workspace and beside the catalog in MLflow. The file is self-contained: it opens without a network
and can be sent to others. Each of the first `explore.num_galaxies` galaxies has a card: line maps, reconstruction,
residuals, spectra, neighbours.

With --serve, a server on this machine shows every galaxy of the catalog, with survey maps, filters, the spectra of any
spaxel, and labels for `cubescout rerank`. Other machines cannot reach it. It writes nothing but labels, prints its
address and stops at Ctrl-C.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cubeprep.storage import write_file
from cubeprep.store import WindowStore
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, command
from jobs.console.progress import console, progress_bar
from jobs.models.opening import ScoringModel, as_scored, check_same_store, reopen_model
from jobs.page.attribution import read_maps
from jobs.page.cards import Card, Neighbour, make_card, thumbnail_of, usual_shares
from jobs.page.figures import png_uri
from jobs.page.render import render_page
from jobs.page.source import Source
from modeling.catalog import Catalog, read_catalog


def run(config: ProjectConfig, serve: bool = False, port: int = 8900) -> int:
    """Writes the page, also to the catalog's MLflow run, or serves it; returns the exit code."""
    from modeling.tracking.catalog_registry import keep_beside_catalog

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
        console.print(f"{len(source.catalog.table)} galaxies. Open this address in a browser; stop with Ctrl-C:")
        console.print(f"  {address}", markup=False, highlight=False, soft_wrap=True)

    serve(source, port, announce)


def open_source(config: ProjectConfig, catalog: Catalog, store: WindowStore, model: ScoringModel) -> Source:
    """Data of the served page; the model runs on a galaxy when it is requested."""

    return Source(
        catalog,
        store,
        catalog_path=config.catalog_path,
        labels_path=config.labels_path,
        reconstruct=as_scored(catalog, model, config.score.device),
        thumbnail_line=config.explore.thumbnail_line,
    )


def make_cards(config: ProjectConfig, catalog: Catalog, store: WindowStore, model: ScoringModel) -> list[Card]:
    """Cards of the most unusual galaxies, in the order of rank."""
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
    """Function that draws a galaxy's thumbnail, each once."""
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
