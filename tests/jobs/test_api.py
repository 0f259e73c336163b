"""The functions for notebooks: they give what the catalog holds, and name what is missing."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cubeprep.store import StoreError
from jobs import api, score
from jobs.search import similar_galaxies
from modeling.catalog import CatalogError
from tests.jobs.test_score import make_project


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_project(tmp_path_factory.mktemp("api"), repeats={3: 1})
    assert score.run(config) == 0
    return config.workspace


def test_scores_of_the_stores_windows_are_those_of_the_catalog(workspace: Path) -> None:
    table = api.open_catalog(workspace).table.set_index("plateifu")
    store = api.open_store(workspace)
    galaxies = [store.read_galaxy(name) for name in table.index[:2]]
    names = ("flux", "ivar", "mask", "plateifu", "view")
    both = replace(galaxies[0], **{n: np.concatenate([getattr(g, n) for g in galaxies]) for n in names})
    again = api.score(str(workspace), both)
    assert again.index.tolist() == table.index[:2].tolist()
    shared = [name for name in again if name in table]
    assert {"score_combined", "score_mae", "score_peak", "num_good", "share_Ha-6564"} & set(shared) >= {"score_peak"}
    assert len(shared) > 15
    for name in shared:
        np.testing.assert_allclose(again[name].astype(float), table[name].head(2).astype(float), rtol=1e-4, atol=1e-4)


def test_a_line_that_is_added_raises_the_score(workspace: Path) -> None:
    galaxy = api.open_store(workspace).read_galaxy("1005-1902")
    flux = galaxy.flux.copy()
    flux[0, 2, 1:3, 6:9, 6:9] += 30 / np.sqrt(np.nanmedian(galaxy.ivar[galaxy.good]))
    before, after = (api.score(workspace, each).iloc[0] for each in (galaxy, replace(galaxy, flux=flux)))
    assert after["score_peak"] > before["score_peak"]
    assert after["score_chi2"] > before["score_chi2"]


def test_neighbours_are_those_of_the_command(workspace: Path) -> None:
    catalog = api.open_catalog(workspace / "catalog.parquet")
    found = api.neighbours(workspace, "1005-1903", num=4)
    assert found.equals(similar_galaxies(workspace / "catalog.parquet", catalog, "1005-1903", 4))
    assert found["same_object"].sum() <= 1


def test_figures_are_drawn_of_a_store_that_has_moved(workspace: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(workspace, moved, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    drawn = api.figures(moved)
    assert all(isinstance(figure, Figure) and figure.axes for figure in drawn.values())
    assert set(drawn) == {"umap", "umap_3d", "anomalies", "neighbours"}


def test_what_is_missing_is_named(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no window store here"):
        api.open_store(tmp_path / "none")
    with pytest.raises(CatalogError, match=r"catalog\.parquet"):
        api.open_catalog(tmp_path)
    with pytest.raises(ValueError, match="1005-9999"):
        api.neighbours(workspace, "1005-9999")
    galaxy = api.open_store(workspace).read_galaxy("1005-1902")
    with pytest.raises(ValueError, match="8485-1901"):
        api.score(workspace, replace(galaxy, plateifu=np.array(["8485-1901"])))
    with pytest.raises(FileNotFoundError, match="no attribution maps"):
        api.attribution(tmp_path, "1005-1902")
