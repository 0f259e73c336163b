"""Finds the galaxies most similar to a given one, or regions similar to a region of it.

Compares standardised latents by their Euclidean distance. Up to 100,000 galaxies the search is exact; beyond that it
uses a graph that finds nearly all neighbours, built at the first search and kept beside the catalog
(catalog.latents.index).

With --region x0:x1,y0:y1 (spaxels of the window, counted from 0; x runs along a row) the search is for regions: the
model encodes that rectangle alone, moved to the centre of the window, and adjacent rectangles of the same shape in
every galaxy of the store. Their latents are kept beside the catalog for each shape, catalog.regions-HxW.parquet; the
first search for a shape takes as long as scoring the survey, or several times that.

--output writes the table as .csv or .parquet.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from cubeprep.csvtext import csv_text
from cubeprep.storage import write_file
from cubeprep.store import WindowStore
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, CommandError, command
from jobs.console.progress import console
from jobs.models.region_latents import read_or_make
from jobs.tables.read import observations
from modeling.catalog import Catalog, latents_path, read_catalog, read_latents
from modeling.latents.latent_index import LatentIndex
from modeling.latents.neighbours import LatentScaler

SHOWN = ("plateifu", "region", "distance", "rank", "score", "z", "same_object")


def run(
    config: ProjectConfig, plateifu: str, region: str | None = None, num: int = 10, output: str | None = None
) -> int:
    """Prints the neighbours of a galaxy or region, and writes them if asked; returns the exit code."""
    if output:
        check_output(Path(output))
    catalog = read_catalog(config.catalog_path)
    (plateifu,) = observations([plateifu], catalog.table, config.catalog_path, config.store_path)
    if region:
        found = similar_regions(config, catalog, plateifu, region, num)
    else:
        found = similar_galaxies(config.catalog_path, catalog, plateifu, num)
    _print(found, f"Most similar to {plateifu}" + (f", spaxels {region}" if region else ""))
    if output:
        write_file(output, _encoded(found, Path(output)))
        console.print(f"Written to {output}", markup=False)
    return EXIT_OK


def similar_galaxies(catalog_path: Path, catalog: Catalog, plateifu: str, num: int) -> pd.DataFrame:
    """Galaxies most similar to one, nearest first: plateifu, distance, rank, score, z, same_object."""
    names, latent = read_latents(latents_path(catalog_path))
    standard = LatentScaler.fit(latent)(latent).astype(np.float32)
    index = LatentIndex.load_or_build(latents_path(catalog_path).with_suffix(".index"), standard)
    row = int(np.flatnonzero(names == plateifu)[0])
    rows, distances = index.query(standard[row], num + 1)
    other = rows[0] != row
    found = pd.DataFrame({"plateifu": names[rows[0][other]], "distance": distances[0][other]})[:num]
    return _with_catalog(found, catalog, plateifu)


def similar_regions(config: ProjectConfig, catalog: Catalog, plateifu: str, text: str, num: int) -> pd.DataFrame:
    """Regions of other galaxies most similar to a region of one, with the additional column region."""
    from jobs.models.opening import check_same_store, reopen_model
    from modeling.latents.regions import MIN_GOOD, Region, region_latents, usable_regions

    store = WindowStore.open(config.store_path)
    try:
        region = Region.parse(text, store.shape[2])
    except ValueError as error:
        raise CommandError(f"--{error}") from error
    check_same_store(catalog, store, config.catalog_path)
    model = reopen_model(config, catalog, store)
    if not model.network.mask_input:
        console.print("Note: this model has no mask input and treats the spaxels around a region as empty sky.")
    windows = store.read_galaxy(plateifu)
    arrays = windows.flux, windows.ivar, windows.mask
    wanted = list(usable_regions(*arrays, [region]))
    if not wanted:
        raise ValueError(f"region {region} of {plateifu}: less than {MIN_GOOD:.0%} of its samples are good")
    query = region_latents(model.network, *arrays, wanted, device=config.score.torch_device)
    known = read_or_make(config, store, model, region.shape)
    standardise = LatentScaler.fit(known.latent)
    others = known.plateifu != plateifu
    rows, distances = LatentIndex.build(standardise(known.latent[others])).query(standardise(query), num)
    found = pd.DataFrame(
        {
            "plateifu": known.plateifu[others][rows[0]],
            "region": known.region[others][rows[0]],
            "distance": distances[0],
        }
    )
    return _with_catalog(found, catalog, plateifu)


def check_output(path: Path) -> None:
    """Checks that the suffix of an output file names a known format.

    Raises:
        CommandError: it does not.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise CommandError(f"--output {path}: expected the suffix .csv or .parquet")


def _with_catalog(found: pd.DataFrame, catalog: Catalog, plateifu: str) -> pd.DataFrame:
    table = catalog.table.set_index("plateifu")
    joined = found.join(table[["mangaid", "rank", "score", "z"]], on="plateifu")
    same = joined.pop("mangaid") == table.loc[plateifu, "mangaid"]
    return joined.assign(same_object=same)[[name for name in SHOWN if name == "same_object" or name in joined]]


def _encoded(found: pd.DataFrame, path: Path) -> bytes:
    if path.suffix == ".csv":
        return csv_text(found).encode()
    buffer = io.BytesIO()
    found.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _print(found: pd.DataFrame, title: str) -> None:
    table = Table(title=title, title_justify="left")
    for name in found:
        table.add_column(str(name), justify="left" if name in ("plateifu", "region") else "right")
    for row in found.to_dict("records"):
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    command("search")()
