"""The whole path through the command line, on a small simulated survey and on real files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from cubeprep.store import WindowStore
from jobs import cli
from jobs.config import load_project
from modeling.catalog import read_catalog
from modeling.latents import umap_map
from modeling.tracking.lineage import git_commit
from tests.jobs.pages import messages_of

SMALL = {
    "simulate.num_galaxies": 10,
    "simulate.bundle_shares": "{19: 1}",
    "simulate.num_workers": 1,
    "prepare.augment.num_views": 2,
    "prepare.dask.num_workers": 0,
    "train.num_workers": 0,
    "train.epochs": 2,
    "explore.num_galaxies": 3,
}


def run(job: str, config: str, workspace: Path, **settings: object) -> str:
    arguments = [job, config, "--set", f"workspace={workspace}"]
    for key, value in settings.items():
        arguments += ["--set", f"{key}={value}"]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def trained_model(workspace: Path) -> Path:
    (model,) = (workspace / "models").iterdir()
    return model


@pytest.fixture(scope="module", autouse=True)
def maps_by_umap() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(umap_map, "MIN_UMAP", 5)
        yield


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    for job in ("simulate", "prepare", "train", "score", "explore"):
        run(job, "demo", folder, **SMALL)
    return folder


@pytest.mark.slow
def test_every_galaxy_is_in_the_catalog_with_its_provenance(workspace: Path) -> None:
    store = WindowStore.open(str(workspace / "windows.zarr"))
    catalog = read_catalog(workspace / "catalog.parquet")
    accepted = store.galaxies().query("status == 'accepted'")
    assert sorted(catalog.table["plateifu"]) == sorted(accepted["plateifu"])
    assert sorted(catalog.table["rank"]) == list(range(1, len(catalog.table) + 1))
    assert np.isfinite(catalog.table["score"]).all()
    assert set(catalog.table["embedding"]) == {"umap"}
    provenance = str(catalog.provenance)
    assert store.identity in provenance
    assert "cubescout" in provenance


@pytest.mark.slow
def test_model_and_catalog_are_registered_with_aliases(workspace: Path) -> None:
    from mlflow import MlflowClient

    config = load_project("demo", (f"workspace={workspace}",))
    client = MlflowClient(tracking_uri=config.tracking_uri, registry_uri=config.tracking_uri)
    champion = client.get_model_version_by_alias("cubescout", "champion")
    identity = WindowStore.open(config.store_path).identity
    assert champion.tags["store_identity"] == identity
    assert champion.tags["preset"] == "demo"
    assert champion.tags["git"] == git_commit()
    catalog = client.get_model_version_by_alias("cubescout-catalog", "current")
    scored, trained = client.get_run(catalog.run_id), client.get_run(champion.run_id)
    prepared = client.get_run(trained.data.tags["mlflow.parentRunId"])
    assert scored.data.tags["mlflow.parentRunId"] == trained.info.run_id
    assert prepared.data.tags["job"] == "prepare"
    assert [run.inputs.dataset_inputs[0].dataset.digest for run in (prepared, trained, scored)] == [identity[:36]] * 3
    assert {"training.png", "environment.txt", "config.yaml"} <= {
        item.path for item in client.list_artifacts(trained.info.run_id)
    }
    assert (catalog.tags["model.version"], catalog.tags["store.identity"]) == (str(champion.version), identity)


@pytest.mark.slow
def test_the_page_shows_the_most_unusual_galaxies(workspace: Path) -> None:
    held = messages_of((workspace / "explore.html").read_text())
    table = read_catalog(workspace / "catalog.parquet").table.sort_values("rank")
    assert {f"galaxy-{name}" for name in table["plateifu"].head(3)} <= set(held)
    assert held["contents"][0]["galaxies"][:3] == table["plateifu"].head(3).tolist()


@pytest.mark.slow
def test_a_rerun_changes_nothing_that_is_done(workspace: Path) -> None:
    before = (workspace / "windows.zarr" / "summary.json").stat().st_mtime_ns
    run("prepare", "demo", workspace, **SMALL)
    assert (workspace / "windows.zarr" / "summary.json").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.realdata
def test_sami_galaxies_are_scored_by_the_demos_model(workspace: Path, real_data: Path, tmp_path: Path) -> None:
    windows = {"prepare.windows.continuum": "sidebands"}  # as the demo's model was trained
    settings = {"survey.root": real_data / "sami" / "cubes", "prepare.dask.num_workers": 0, **windows}
    run("prepare", "sami", tmp_path, **settings)
    output = run("score", "sami", tmp_path, **settings, **{"score.model": trained_model(workspace)})
    assert "was trained on another store" in output
    table = read_catalog(tmp_path / "catalog.parquet").table
    assert set(table["plateifu"]) == {"41144_A", "56140_A", "572402_A"}
    assert np.isfinite(table["score"]).all()
    assert (table.set_index("plateifu")["ew_ha_angstrom"].loc[["41144_A", "572402_A"]] > 5).all()


@pytest.mark.slow
@pytest.mark.realdata
def test_stars_of_sami_galaxies_are_found_by_the_preset(real_data: Path, tmp_path: Path) -> None:
    run("prepare", "sami", tmp_path, **{"survey.root": real_data / "sami" / "cubes", "prepare.dask.num_workers": 0})
    galaxies = pd.read_parquet(tmp_path / "windows.zarr" / "galaxies.parquet").set_index("plateifu")
    assert galaxies["z_flag"].to_dict() == {"41144_A": False, "56140_A": False, "572402_A": False}
    assert galaxies.loc["56140_A", "z_offset_kms"] < -200, "of a fast rotator's brighter side: its stars do not follow"
    assert (galaxies["stellar_share"] > 0.9).all()
    old = galaxies.loc["56140_A"]
    assert old["d4000"] > 1.5 > galaxies["d4000"].drop("56140_A").max()
    assert old["stellar_velocity_kms"] < -40, "as its lines, its stars lie below the redshift of the header"
    assert 150 < old["stellar_sigma_kms"] < 300


@pytest.mark.slow
@pytest.mark.realdata
def test_manga_maps_are_prepared_trained_on_and_scored(real_data: Path, tmp_path: Path) -> None:
    settings = {
        "survey.root": real_data / "manga",
        "prepare.dask.num_workers": 0,
        "train.num_workers": 0,
        "train.epochs": 2,
    }
    for job in ("prepare", "train", "score"):
        run(job, "maps", tmp_path, **settings)
    table = read_catalog(tmp_path / "catalog.parquet").table
    assert table["plateifu"].tolist() == ["7815-3702"]
    assert np.isfinite(table["score"]).all()


@pytest.mark.slow
@pytest.mark.realdata
def test_a_model_of_other_windows_is_refused(workspace: Path, real_data: Path, tmp_path: Path) -> None:
    settings = {"survey.root": real_data / "manga", "prepare.dask.num_workers": 0}
    run("prepare", "maps", tmp_path, **settings)
    arguments = ["score", "maps", "--set", f"workspace={tmp_path}", "--set", f"score.model={trained_model(workspace)}"]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert "samples" in result.output
