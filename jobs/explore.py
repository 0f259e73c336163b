"""Makes the page of a catalog: one file to be sent to others, or served on this machine.

Reads the catalog that `cubescout score` wrote, the window store and the model that the catalog names, and writes one
HTML file, explore.html in the workspace, and beside the catalog in MLflow. It opens without a network, holds the table
of all galaxies (gallery, map, filters; also columns of `crossmatch`), and the maps and the spectra of every spaxel of
the `explore.num_galaxies` most unusual ones, with as many of their neighbours as keep it small.

With --serve the same page shows every galaxy in full, from a server on this machine alone, and its labels are saved in
the workspace, where `cubescout rerank` learns from them. Buttons send galaxies to TOPCAT and Aladin (SAMP). It prints
its address, and ends at Ctrl-C.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial

import click

from cubeprep.redact import unredacted
from cubeprep.storage import write_file
from cubeprep.store import WindowStore
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, command
from jobs.console.progress import console, progress_bar
from jobs.models.opening import ScoringModel, as_scored, check_same_store, reopen_model
from jobs.page.export import export_page
from jobs.page.source import Source
from jobs.tables.matches import with_matches
from jobs.tables.samp import send_chosen
from jobs.tables.survey_links import survey_name
from modeling.catalog import Catalog, check_recorded, read_catalog


def run(config: ProjectConfig, serve: bool = False, port: int = 8900) -> int:
    """Writes the page, also to the catalog's MLflow run, or serves it; returns the exit code."""
    from modeling.tracking.catalog_registry import keep_beside_catalog

    catalog = read_catalog(config.catalog_path)
    store = WindowStore.open(config.store_path)
    check_same_store(catalog, store, config.catalog_path)
    check_recorded(catalog, config.catalog_path, ("created_utc", "rank_by", "spearman.score", "model.digest"))
    model = reopen_model(config, catalog, store)
    catalog = with_matches(catalog, config.catalog_path)
    send = partial(send_chosen, catalog, config.workspace / "samp", survey_name(config)) if serve else None
    source = open_source(config, catalog, store, model, send)
    if serve:
        serve_page(source, port)
        return EXIT_OK
    with progress_bar("Exporting", unit="galaxies") as bar:
        page, held = export_page(source, config.explore.num_galaxies, bar)
    write_file(str(config.page_path), page.encode())
    console.print(
        f"{len(held)} of {counted(len(catalog.table), 'galaxy')} in full, {len(page.encode()) / 1e6:.1f} MB: "
        f"{config.page_path}"
    )
    keep_beside_catalog(
        config.tracking_uri, config.tracking.catalog_name, catalog.provenance["created_utc"], config.page_path
    )
    return EXIT_OK


def serve_page(source: Source, port: int) -> None:
    """Serves the page until interrupted."""
    from jobs.page.server import serve

    def announce(address: str) -> None:
        console.print(
            f"{counted(len(source.catalog.table), 'galaxy')}. Open this address in a browser; stop with Ctrl-C:"
        )
        # Its secret was made for this user, who cannot open the page without it.
        click.echo(f"  {address}", file=unredacted(sys.stdout))

    serve(source, port, announce)


def open_source(
    config: ProjectConfig,
    catalog: Catalog,
    store: WindowStore,
    model: ScoringModel,
    send: Callable[[Sequence[str], bool], str] | None = None,
) -> Source:
    """The contents of the page; the model reconstructs a galaxy on request. `send` is as in `Source`."""
    return Source(
        catalog,
        store,
        catalog_path=config.catalog_path,
        labels_path=config.labels_path,
        reconstruct=as_scored(catalog, model, config.score.torch_device),
        thumbnail_line=config.explore.thumbnail_line,
        key_lines=config.explore.key_lines,
        send=send,
        image_survey=config.explore.sky_image,
    )


if __name__ == "__main__":
    command("explore")()
