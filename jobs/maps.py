"""Writes maps of galaxies as FITS files with world coordinates, for DS9, Aladin or jdaviz.

Reads the catalog, the window store and the model that scored it, and writes WORKSPACE/maps/PLATEIFU.fits, one file for
each galaxy. An extension holds one quantity of all lines, [line, y, x]: FLUX with FLUX_ERROR, MODEL (the
reconstruction), RESIDUAL, RESIDUAL_SIGMA, CHI2, GOOD (the share of good samples), TRIAGED (the share of these that was
masked as artefacts before scoring), and the attribution maps BY_PLACE and, for all lines together, BY_SPAXEL. The cards
C01, C02, ... name the lines, as in the MAPS of MaNGA's DAP. BUNIT is the unit, with a spaxel as a pixel; NaN is masked.
The primary header names the model, the catalog, the store and the version of Cubescout.

The orientation and the size of the spaxels are those of the galaxy's cube, on the grid of the windows, which
`cubescout prepare` keeps in the store. A store made by an earlier version lacks them and is rejected, as is a galaxy
whose cube has no celestial coordinates.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.redact import redact
from cubeprep.storage import write_file
from cubeprep.store import Windows, WindowStore
from cubeprep.version import code_version
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, command
from jobs.console.progress import console
from jobs.models.opening import as_scored, check_same_store, reopen_model
from jobs.page.attribution import read_maps
from jobs.page.survey_texts import short_provenance
from jobs.reports.fits_maps import Maps, fits_bytes, galaxy_maps
from jobs.tables.read import observations
from jobs.tables.write import flat
from modeling.catalog import Catalog, read_catalog
from modeling.labels.labels import catalog_version


def run(config: ProjectConfig, plateifu: tuple[str, ...]) -> int:
    """Writes the maps of some galaxies; returns the exit code."""
    catalog = read_catalog(config.catalog_path)
    names = observations(plateifu, catalog.table, config.catalog_path, config.store_path)
    store = WindowStore.open(config.store_path)
    check_same_store(catalog, store, config.catalog_path)
    galaxies = store.galaxies().set_index("plateifu")
    skies = {name: sky_of(galaxies, name, store.path) for name in names}
    reconstruct = as_scored(catalog, reopen_model(config, catalog, store), config.score.torch_device)
    history = [f"{key} = {value}" for key, value in flat(short_provenance(catalog.provenance)).items()]
    for name, sky in skies.items():
        maps = maps_of(config, catalog, store, name, float(galaxies["z_used"][name]), reconstruct)
        cards = primary_cards(config, catalog, store, name)
        path = config.workspace / "maps" / f"{name.replace('/', '%2F')}.fits"  # names of some surveys contain a slash
        write_file(str(path), fits_bytes(maps, store.line_names, sky, cards, history))
        console.print(f"{', '.join(maps.values)}: {path}", markup=False)
    return EXIT_OK


def maps_of(
    config: ProjectConfig,
    catalog: Catalog,
    store: WindowStore,
    plateifu: str,
    z: float,
    reconstruct: Callable[[Windows], np.ndarray],
) -> Maps:
    """Maps of a galaxy whose windows were cut at redshift `z`; those of the attribution if there are any."""
    windows = store.read_galaxy(plateifu)
    attribution = read_maps(config.catalog_path, plateifu, catalog.created_utc)
    if not attribution:
        where = f"{plateifu}: there are no attribution maps beside {config.catalog_path}"
        console.print(f"{where}, so that BY_PLACE, BY_SPAXEL and TRIAGED are left out", markup=False)
    rest_wave, velocity_kms = (store.coordinate(store.splits[0], name) for name in ("rest_wave", "velocity_kms"))
    return galaxy_maps(
        windows,
        reconstruct(windows),
        attribution,
        wave=rest_wave * (1 + z),
        velocity_kms=velocity_kms,
        flux_unit=str(store.attrs["flux_unit"]),
    )


def sky_of(galaxies: pd.DataFrame, plateifu: str, where: str) -> dict[str, str | float]:
    """Cards of the celestial axes of a galaxy's windows.

    Args:
        galaxies: table of a store, indexed by plateifu.
        plateifu: an accepted galaxy.
        where: path of the store.

    Raises:
        ValueError: the store does not have them.
    """
    if "wcs" not in galaxies:
        raise ValueError(
            f"{where}: its galaxies.parquet has no column wcs, which an earlier version of Cubescout did not keep; "
            "make a new store with `cubescout prepare` to have maps with world coordinates"
        )
    text, source = (str(galaxies[column][plateifu] or "") for column in ("wcs", "source"))
    if not text:
        raise ValueError(
            f"{where}: no world coordinates of {plateifu}: the header of {source} has no "
            "celestial axes without distortions, or its reader does not pass them on"
        )
    cards: dict[str, str | float] = json.loads(text)
    return cards


def primary_cards(config: ProjectConfig, catalog: Catalog, store: WindowStore, plateifu: str) -> dict[str, Any]:
    """Provenance of the maps, as values and comments of the primary header."""
    row: Any = catalog.table.set_index("plateifu").loc[plateifu]
    made_by = catalog.provenance["model"]
    return {
        "CREATOR": (f"cubescout {code_version()}", "program that wrote this file"),
        "DATE": (datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"), "UTC"),
        "OBJECT": (plateifu, "plateifu"),
        "MANGAID": (str(row["mangaid"]), "object"),
        "REDSHIFT": (float(row["z"]), "redshift of the catalog"),
        "RANK": (int(row["rank"]), "1 is the most unusual galaxy"),
        "SCORE": (float(row["score"]), f"score_{catalog.provenance['rank_by']}"),
        "CATALOG": (catalog_version(config.catalog_path), "first digits of the catalog's sha256"),
        "CATDATE": (str(catalog.provenance["created_utc"]), "date of the catalog"),
        "MODEL": redact(str(made_by["reference"])),
        "MODELSHA": made_by["digest"],
        "STORE": store.identity,
    }


if __name__ == "__main__":
    command("maps")()
