"""Cubescout in notebooks: the store, catalog, scores, neighbours and figures of a workspace.

Each function takes the workspace, the folder of a project's results such as `runs/demo`. Slow imports are deferred
until a function needs them. Changes of these functions are listed in CHANGELOG.md.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cubeprep.store import Windows, WindowStore
from jobs.config import ProjectConfig
from jobs.tables.read import check_known, observations
from modeling.catalog import Catalog, read_catalog

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["attribution", "figures", "neighbours", "open_catalog", "open_store", "score"]


def open_store(path: str | Path) -> WindowStore:
    """The window store of a workspace, open for reading.

    Args:
        path: the workspace; or, where `prepare.store` names another place, path or URL of the store.

    Raises:
        StoreError: there is no store, it is not finished, or it is damaged.
        StorageError: the storage service fails.

    Examples:
        >>> store = open_store(workspace)
        >>> store.shape  # lines, samples per line, spaxels a side
        (5, 4, 16)
        >>> store.read_galaxy("1005-1902").flux.shape  # [row, line, sample, y, x]
        (1, 5, 4, 16, 16)
    """
    kept = _project(path).store_path
    return WindowStore.open(kept if Path(kept).exists() else str(path))


def open_catalog(path: str | Path) -> Catalog:
    """The anomaly catalog of a workspace: a pandas table by rank, descriptions and units of its columns, provenance.

    astropy and TOPCAT read the same table from `catalog.vot` and `catalog.fits` beside it.

    Args:
        path: the workspace, or a `.parquet` file that `cubescout score` wrote.

    Raises:
        CatalogError: there is no catalog, or it is damaged.
        ValueError: `path` is another file.

    Examples:
        >>> catalog = open_catalog(workspace)
        >>> catalog.table["rank"].tolist()[:3]
        [1, 2, 3]
        >>> catalog.columns["score_mae"].unit
        '1e-17 erg / (s cm2 Angstrom spaxel)'
    """
    if str(path).endswith(".parquet"):
        return read_catalog(Path(path))
    if Path(path).is_file():
        raise ValueError(f"{path}: expected a workspace, or catalog.parquet in one; astropy reads other tables")
    return read_catalog(_project(path).catalog_path)


def score(workspace: str | Path, windows: Windows, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Scores of windows by the models that scored a catalog, with the calibration that the catalog records.

    Unchanged windows of the store reproduce the catalog's values. Changed ones, such as with a masked region or an
    added line, show how the score responds. Ranks, p- and q-values depend on the whole survey and are not given.

    Args:
        workspace: folder with the catalog.
        windows: galaxies of the catalog as observed, flux [row, line, sample, y, x] in the store's unit.
        tracking_uri: URI of MLflow's backend with the models; default: `mlflow.db` in the workspace.

    Returns:
        One row per row of `windows`, indexed by plateifu, with the catalog's names and units of columns.

    Raises:
        CatalogError: there is no catalog.
        TableError: a galaxy is not in it.
        TypeError: `windows` are something else, such as an array.
        ValueError: the models are missing or have changed, the store is not the catalog's, or the shape of the windows
            differs.

    Examples:
        >>> galaxy = open_store(workspace).read_galaxy("1005-1902")
        >>> again = score(workspace, galaxy)["score_combined"].iloc[0]
        >>> recorded = open_catalog(workspace).table.set_index("plateifu")["score_combined"]["1005-1902"]
        >>> bool(abs(again - recorded) < 1e-4)
        True
    """
    from jobs.reproduce import load_ensemble, own_columns
    from modeling.scoring.survey_scorer import known_offsets_kms

    if not isinstance(windows, Windows):
        found = type(windows).__name__
        raise TypeError(f"windows: expected Windows, such as open_store(workspace).read_galaxy(NAME), got {found}")
    config, catalog = _project(workspace), open_catalog(workspace)
    store = _store_of(config, catalog)
    expected, given = (*store.shape, store.shape[2]), windows.flux.shape[1:]
    if given != expected:
        raise ValueError(f"windows: expected rows of shape {expected}, as the store has, got {given}")
    rows = catalog.table.set_index("plateifu")
    names = windows.plateifu.astype(str)
    check_known(names.tolist(), catalog.table["plateifu"].tolist(), config.catalog_path, config.store_path)
    ensemble = load_ensemble(catalog, tracking_uri or config.tracking_uri)
    offset_kms = known_offsets_kms(store.galaxies())
    scored = []
    for i, name in enumerate(names):
        row = slice(i, i + 1)
        arrays = windows.flux[row], windows.ivar[row], windows.mask[row]
        means = ensemble.score(arrays, [rows["mangaid"][name]], offset_kms[[name]].to_numpy())
        scored.append(own_columns(means, catalog, rows["z"][name], store.line_names))
    return pd.DataFrame(scored, index=pd.Index(names, name="plateifu"))


def attribution(workspace: str | Path, plateifu: str) -> dict[str, np.ndarray]:
    """Attribution maps: where a galaxy is unusual, in sigma.

    Args:
        workspace: folder with the catalog.
        plateifu: the galaxy.

    Returns:
        `by_place` [line, y, x], `by_sample` [line, sample], `by_line` [line], `by_spaxel` [y, x] and `triaged`
        [line, y, x]; see `modeling.scoring.attribution`.

    Raises:
        FileNotFoundError: there are no maps beside the catalog.
        KeyError: the galaxy is not among them.
        ValueError: the maps are damaged, or of another catalog.

    Examples:
        >>> maps = attribution(workspace, "1005-1902")
        >>> maps["by_place"].shape, maps["by_spaxel"].shape
        ((5, 16, 16), (16, 16))
    """
    from modeling.scoring.attribution import attribution_path, read_attribution

    path = _project(workspace).catalog_path
    created_utc = read_catalog(path).created_utc if path.exists() else ""
    return read_attribution(attribution_path(path), plateifu, created_utc)


def neighbours(workspace: str | Path, plateifu: str, num: int = 10) -> pd.DataFrame:
    """Galaxies most similar to one, nearest first.

    Args:
        workspace: folder with the catalog.
        plateifu: the galaxy, or the mangaid of an object with one observation.
        num: number of neighbours; fewer where there are fewer galaxies.

    Returns:
        plateifu, distance (Euclidean, in standardised latents), rank, score, z, and `same_object`, whether it is
        another observation of the same object.

    Raises:
        CatalogError: there is no catalog.
        TableError: the galaxy is not in it.
        ValueError: `num` is less than 1.

    Examples:
        >>> found = neighbours(workspace, "1005-1902", num=3)
        >>> len(found), bool(found["distance"].is_monotonic_increasing), "1005-1902" in set(found["plateifu"])
        (3, True, False)
    """
    from jobs.search import similar_galaxies

    if num < 1:
        raise ValueError(f"num: expected 1 or more, got {num}")
    config, catalog = _project(workspace), open_catalog(workspace)
    (plateifu,) = observations([plateifu], catalog.table, config.catalog_path, config.store_path)
    return similar_galaxies(config.catalog_path, catalog, plateifu, num)


def figures(workspace: str | Path) -> dict[str, "Figure"]:
    """Figures of a survey, as `cubescout figures` draws them.

    Args:
        workspace: folder with the catalog.

    Returns:
        matplotlib figures: the maps of latents `umap` and `umap_3d`, the most unusual galaxies `anomalies`, and the
        first of them with their `neighbours`.

    Raises:
        CatalogError: there is no catalog.
        ValueError: the store is missing, or not the catalog's.

    Examples:
        >>> sorted(figures(workspace))
        ['anomalies', 'neighbours', 'umap', 'umap_3d']
    """
    from jobs.figures import galleries, survey_figures

    config, catalog = _project(workspace), open_catalog(workspace)
    return survey_figures(catalog) | galleries(config, catalog, _store_of(config, catalog))


def _project(workspace: str | Path) -> ProjectConfig:
    return ProjectConfig(workspace=Path(workspace))


def _store_of(config: ProjectConfig, catalog: Catalog) -> WindowStore:
    """The catalog's store: that of the workspace if there is one, since the recorded path may be relative."""
    from jobs import reproduce

    return reproduce.open_store(catalog, config.store_path if Path(config.store_path).exists() else None)
