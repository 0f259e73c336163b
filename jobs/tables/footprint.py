"""Footprint of a catalog on the sky: a multi-order coverage map (MOC, IVOA 2.0) of a circle around each galaxy.

The map contains the circles. Its order is the lowest at which a cell is at most a quarter of the radius wide, so that
its area is 1.2 to 1.4 times theirs. The file uses the NUNIQ encoding, which readers of MOC 1 know, too.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cubeprep.storage import StorageError, write_file
from cubeprep.store import StoreError, WindowStore
from cubeprep.survey import survey_facts
from cubeprep.version import code_version
from cubeprep.words import counted
from jobs.config import ProjectConfig
from modeling.catalog import Catalog
from modeling.labels.labels import catalog_version

POSITION = ("ra_deg", "dec_deg")
CELLS_PER_RADIUS = 4
SUFFIX = ".moc.fits"
GIVE_RADIUS = "give the radius of the galaxies' circles with --radius"


class FootprintError(ValueError):
    """No galaxy has a position, or the size of the circles is unknown."""


def write_footprint(catalog: Catalog, catalog_path: Path, radius_arcsec: float) -> Path:
    """Writes the footprint of galaxies with positions beside their catalog, and returns its path."""
    import astropy.units as u
    from astropy.coordinates import Angle
    from mocpy import MOC

    ra_deg, dec_deg = (catalog.table[name].to_numpy(float) * u.deg for name in POSITION)
    radius = Angle(radius_arcsec, "arcsec")
    order = int(MOC.spatial_resolution_to_order(radius / CELLS_PER_RADIUS))
    moc = MOC.from_cones(ra_deg, dec_deg, radius=radius, max_depth=order, union_strategy="small_cones")
    file = moc.serialize("fits", v1_compatible=True)
    header = file[1].header
    header["CREATOR"] = f"cubescout {code_version()}"
    header["RADIUS"] = (radius_arcsec, "[arcsec] of the circle around each galaxy")
    header["NUMGAL"] = (len(ra_deg), "number of galaxies")
    header["CATALOG"] = (catalog_version(catalog_path), "first digits of the catalog's sha256")
    content, path = io.BytesIO(), catalog_path.with_suffix(SUFFIX)
    file.writeto(content)
    write_file(str(path), content.getvalue())
    return path


def located(catalog: Catalog, catalog_path: Path) -> tuple[Catalog, str]:
    """The galaxies with a position, and a sentence about the others; empty if there are none.

    Raises:
        FootprintError: no galaxy has a position.
    """
    table = catalog.table
    known = np.isfinite(table.reindex(columns=list(POSITION)).to_numpy(float)).all(axis=1)
    if known.all():
        return catalog, ""
    first = table.loc[~known, "plateifu"].iloc[0]
    number = f"{(~known).sum()} of {counted(len(table), 'galaxy')}"
    said = f"{number} without a position ({', '.join(POSITION)}), such as {first}"
    if not known.any():
        raise FootprintError(f"{catalog_path}: {said}")
    return replace(catalog, table=table[known].reset_index(drop=True)), said


def scored_radius_arcsec(catalog: Catalog, config: ProjectConfig) -> tuple[float, str]:
    """Half the diagonal of the windows that were scored, arcsec, and a sentence if only the configuration gives it.

    The configuration may differ from that of `prepare`, so it decides only if the store cannot be read.

    Raises:
        FootprintError: the store is not that of the catalog, or the size of a spaxel on the sky is unknown.
    """
    try:
        store = WindowStore.open(config.store_path)
    except (StoreError, StorageError) as error:
        return window_radius_arcsec(config), f"The circles are those of the configuration's windows: {error}"
    if store.identity != catalog.provenance["store"]["identity"]:
        raise FootprintError(f"{store.path} is not the store of the catalog, so its windows may differ; {GIVE_RADIUS}")
    return _half_diagonal_arcsec(store.attrs, store.shape[2]), ""


def window_radius_arcsec(config: ProjectConfig) -> float:
    """Half the diagonal of the windows that a configuration describes, arcsec.

    Raises:
        FootprintError: the size of a spaxel on the sky is unknown.
    """
    return _half_diagonal_arcsec({"config": config.model_dump(mode="json")}, config.prepare.windows.size)


def _half_diagonal_arcsec(attrs: Mapping[str, Any], size: int) -> float:
    """Half the diagonal of windows of `size` spaxels, arcsec, by the attributes of their store."""
    spaxel = survey_facts(attrs).spaxel_arcsec
    if spaxel is None:
        made_by = attrs["config"]
        reader = made_by.get("survey", {}).get("reader", "unknown")
        space = made_by.get("prepare", {}).get("windows", {}).get("space", "unknown")
        raise FootprintError(
            f"the size of a spaxel is unknown (survey.reader: {reader}, prepare.windows.space: {space}); {GIVE_RADIUS}"
        )
    return size * spaxel / math.sqrt(2)
