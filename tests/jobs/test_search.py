"""The search command, by galaxy and by region of one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from cubeprep.store import WindowStore
from jobs import cli, score, search
from jobs.config import ProjectConfig
from jobs.models import opening, region_latents
from modeling.catalog import latents_path, read_catalog, read_latents, write_latents
from modeling.latents.neighbours import standardise
from tests.jobs.catalogs import write_synthetic_catalog


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_synthetic_catalog(tmp_path / "catalog.parquet")
    return tmp_path


def run(workspace: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.main, ["search", "demo", "--set", f"workspace={workspace}", *arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_neighbours_are_the_nearest_in_standardised_latents(workspace: Path, suffix: str) -> None:
    output = workspace / f"found.{suffix}"
    code, text = run(workspace, "8001-1905", "--num", "7", "--output", str(output))
    assert code == 0, text
    found = pd.read_csv(output) if suffix == "csv" else pd.read_parquet(output)
    names, latent = read_latents(latents_path(workspace / "catalog.parquet"))
    distance = pd.Series(np.linalg.norm(standardise(latent) - standardise(latent)[names == "8001-1905"], axis=1), names)
    expected = distance.drop("8001-1905").sort_values().head(7)
    assert list(found["plateifu"]) == list(expected.index)
    np.testing.assert_allclose(found["distance"], expected, rtol=1e-5)
    table = read_catalog(workspace / "catalog.parquet").table.set_index("plateifu")
    assert list(found["rank"]) == list(table.loc[found["plateifu"], "rank"])
    assert all(name in text for name in found["plateifu"])


def test_a_twin_at_the_very_same_place_is_found(workspace: Path) -> None:
    path = latents_path(workspace / "catalog.parquet")
    names, latent = read_latents(path)
    latent = np.where((names == "8000-1902")[:, None], latent[names == "8000-1901"], latent)
    write_latents(path, names.tolist(), latent, {})
    output = workspace / "found.csv"
    assert run(workspace, "8000-1901", "--num", "2", "--output", str(output))[0] == 0
    found = pd.read_csv(output)
    assert found["plateifu"][0] == "8000-1902"
    assert found["distance"][0] == 0
    assert "8000-1901" not in set(found["plateifu"])


def test_repeat_observations_are_marked(workspace: Path) -> None:
    _, text = run(workspace, "8000-1909", "--num", "59")
    (line,) = [line for line in text.splitlines() if "yes" in line]
    assert "8000-1910" in line


def test_a_galaxy_may_be_named_by_its_object_unless_that_was_observed_twice(workspace: Path) -> None:
    output = workspace / "found.csv"
    assert run(workspace, "1-25", "--num", "3", "--output", str(output))[0] == 0
    by_object = output.read_text()
    assert run(workspace, "8001-1906", "--num", "3", "--output", str(output))[0] == 0
    assert output.read_text() == by_object
    code, text = run(workspace, "1-8")
    assert code == 2
    assert "1-8 is an object with 2 observations; name one of 8000-1909, 8000-1910" in text


def test_an_unknown_galaxy_is_told_the_closest(workspace: Path) -> None:
    code, text = run(workspace, "8001-19051")
    assert code == 2
    assert "not among the 60 galaxies of" in text
    assert "8001-19051 (closest: 8001-1905" in text


def test_an_unknown_format_is_refused_before_anything_is_done(workspace: Path) -> None:
    code, text = run(workspace, "8001-1905", "--output", "found.txt")
    assert code == 2
    assert "expected the suffix .csv or .parquet" in text
    assert "Most similar" not in text


@pytest.mark.slow
def test_a_region_finds_regions_of_its_shape_in_other_galaxies(project: ProjectConfig) -> None:
    catalog = read_catalog(project.catalog_path)
    name = catalog.table["plateifu"][0]
    found = search.similar_regions(project, catalog, name, "4:9,4:8", 6)
    assert len(found) == 6
    assert name not in set(found["plateifu"])
    assert (np.diff(found["distance"]) >= 0).all()
    assert len(found.drop_duplicates(["plateifu", "region"])) == 6


def test_region_latents_are_kept_for_the_same_store_and_model(
    project: ProjectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = WindowStore.open(project.store_path)
    model = opening.open_model(project, store)
    first = region_latents.read_or_make(project, store, model, (5, 5))
    assert len(set(first.plateifu)) == 15
    monkeypatch.setattr(region_latents, "_make", lambda *_: pytest.fail("made again"))
    again = region_latents.read_or_make(project, store, model, (5, 5))
    np.testing.assert_array_equal(first.latent, again.latent)
    assert list(first.region) == list(again.region)
    other = score.ScoringModel(model.network, "other", "", "another digest", "")
    with pytest.raises(pytest.fail.Exception, match="made again"):
        region_latents.read_or_make(project, store, other, (5, 5))


def test_a_region_without_good_samples_says_so(project: ProjectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = read_catalog(project.catalog_path)
    monkeypatch.setattr("modeling.latents.regions.MIN_GOOD", 1.1)
    with pytest.raises(ValueError, match=r"region 4:9,4:8 of .*: less than"):
        search.similar_regions(project, catalog, catalog.table["plateifu"][0], "4:9,4:8", 3)


def test_a_region_beyond_the_window_is_refused(project: ProjectConfig) -> None:
    catalog = read_catalog(project.catalog_path)
    with pytest.raises(ValueError, match="<= 16"):
        search.similar_regions(project, catalog, catalog.table["plateifu"][0], "4:19,4:8", 3)
