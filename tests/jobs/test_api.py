"""The functions for notebooks give what the catalog holds and name what is missing; examples and the notebook run."""

import doctest
import importlib
import re
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from cubeprep.store import StoreError
from jobs import api
from jobs.config import ProjectConfig
from jobs.search import similar_galaxies
from modeling.catalog import CatalogError
from tests.test_architecture import ROOT, modules_of

NOTEBOOK = ROOT / "docs" / "notebooks" / "survey.ipynb"
WITH_EXAMPLES = [
    name
    for package in ("cubeprep", "modeling", "jobs")
    for name, path in modules_of(package).items()
    if ">>> " in path.read_text()
]


@pytest.fixture(scope="module")
def workspace(project: ProjectConfig) -> Path:
    return project.workspace


@pytest.mark.slow
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


def test_a_galaxy_of_which_nothing_was_observed_has_no_score(workspace: Path) -> None:
    galaxy = api.open_store(workspace).read_galaxy("1005-1902")
    found = api.score(workspace, replace(galaxy, mask=np.ones_like(galaxy.mask))).iloc[0]
    assert found["num_good"] == 0
    assert found.filter(regex="score_|velocity|snr|share_").isna().all()


def test_neighbours_are_those_of_the_command(workspace: Path) -> None:
    catalog = api.open_catalog(workspace / "catalog.parquet")
    found = api.neighbours(workspace, "1005-1903", num=4)
    assert found.equals(similar_galaxies(workspace / "catalog.parquet", catalog, "1005-1903", 4))
    assert found["same_object"].sum() <= 1


@pytest.mark.slow
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
    with pytest.raises(ValueError, match="num: expected 1 or more, got -1"):
        api.neighbours(workspace, "1005-1902", num=-1)
    (tmp_path / "catalog.fits").touch()
    with pytest.raises(ValueError, match=r"catalog\.fits: expected a workspace"):
        api.open_catalog(tmp_path / "catalog.fits")
    galaxy = api.open_store(workspace).read_galaxy("1005-1902")
    with pytest.raises(ValueError, match="8485-1901"):
        api.score(workspace, replace(galaxy, plateifu=np.array(["8485-1901"])))
    with pytest.raises(ValueError, match=r"expected rows of shape \(.*, got \(1, "):
        api.score(workspace, replace(galaxy, flux=galaxy.flux[:, :1]))
    array: Any = galaxy.flux
    with pytest.raises(TypeError, match=r"expected Windows, .* got ndarray"):
        api.score(workspace, array)
    with pytest.raises(FileNotFoundError, match="no attribution maps"):
        api.attribution(tmp_path, "1005-1902")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_give_what_they_say(name: str, workspace: Path) -> None:
    results = doctest.testmod(importlib.import_module(name), extraglobs={"workspace": workspace})
    assert results.failed == 0
    assert results.attempted > 0


def test_every_function_for_notebooks_has_an_example() -> None:
    examples = {test.name for test in doctest.DocTestFinder().find(api, "api") if test.examples}
    assert examples == {f"api.{name}" for name in api.__all__}


@pytest.fixture(scope="module")
def notebook() -> Any:
    import nbformat

    return nbformat.read(NOTEBOOK, as_version=4)


def text_of(cell: Any) -> str:
    """Printed text of a cell."""
    return "".join(output.get("text", "") for output in cell.outputs)


def test_the_notebook_is_kept_without_outputs_and_counts(notebook: Any) -> None:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_the_catalog_holds(
    notebook: Any, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("CUBESCOUT_WORKSPACE", str(workspace))
    made = deepcopy(notebook)
    NotebookClient(made, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    cells = [cell for cell in made.cells if cell.cell_type == "code"][1:]
    assert all(cell.outputs for cell in cells)
    catalog = api.open_catalog(workspace).table
    first = catalog["plateifu"].iloc[0]
    (printed,) = [text_of(cell) for cell in cells if "api.score" in cell.source]
    found = re.search(rf"{first}: (\S+) as observed, (\S+) in the catalog\n{first}: (\S+) without", printed)
    assert found
    again, recorded, without = map(float, found.groups())
    assert recorded == pytest.approx(catalog["score_combined"].iloc[0], abs=1e-3)
    assert again == pytest.approx(recorded, abs=2e-3)
    assert without != again
    drawn = [cell for cell in cells if any("image/png" in output.get("data", {}) for output in cell.outputs)]
    assert len(drawn) == 2
