"""A catalog's row from the FITS file again, and a candidate against the champion."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result

from cubeprep.checksum import file_checksum
from cubeprep.masks import good_samples
from cubeprep.store import WindowStore
from jobs import cli, promote
from jobs.console import command
from jobs.reproduce import ReproduceError, check_source, load_ensemble
from modeling.catalog import read_catalog
from modeling.network.checkpoint import load_model, save_model
from modeling.network.inference import infer
from modeling.tracking.models import find_version, register_model, resolve_model
from modeling.tracking.runs import make_client, start_run
from modeling.training.losses import student_t_nll
from modeling.training.model_comparison import Comparison, compare, measure_split
from tests.logcube import write_survey

pytestmark = pytest.mark.slow  # a training

REDSHIFTS = {f"1-{i}": 0.02 + 0.003 * i for i in range(8)}
SMALL = {
    "prepare.dask.num_workers": 0,
    "prepare.windows.size": 8,
    "prepare.windows.num_samples": 4,
    "prepare.split.validation": 0.25,
    "train.num_workers": 0,
    "train.epochs": 2,
    "train.threads": 1,
    "model.latent_dim": 4,
}


def settings(workspace: Path) -> list[str]:
    values = SMALL | {"workspace": workspace, "survey.root": workspace / "survey"}
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduce")
    write_survey(folder / "survey", REDSHIFTS, size=9)
    for job in ("prepare", "train", "score"):
        result = invoke(job, "demo", *settings(folder))
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def copy(workspace: Path, tmp_path: Path) -> Path:
    """Catalog and store, to be spoiled; the model stays where it is."""
    shutil.copy(workspace / "catalog.parquet", tmp_path)
    shutil.copytree(workspace / "windows.zarr", tmp_path / "windows.zarr")
    return tmp_path


def uri(workspace: Path) -> str:
    return f"sqlite:///{workspace / 'mlflow.db'}"


def test_every_row_is_reproduced_from_its_file(workspace: Path) -> None:
    catalog = workspace / "catalog.parquet"
    for plateifu in read_catalog(catalog).table["plateifu"].head(3):
        result = invoke("reproduce", catalog, plateifu)
        assert result.exit_code == 0, result.output
        assert "Reproduced to 1e-05" in result.output
        assert re.search(r"score_chi2 +│ +\S+ +│ +\S+ +│", result.output)
        assert "crc32:" in result.output


@pytest.mark.parametrize("factor", [1 + 1e-4, np.nan])
def test_a_row_that_was_tampered_with_is_not_reproduced(workspace: Path, copy: Path, factor: float) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(copy / "catalog.parquet")
    at = table.schema.get_field_index("score_mae")
    changed = table.set_column(at, table.schema.field(at), [table["score_mae"].to_numpy() * factor])
    pq.write_table(changed, copy / "catalog.parquet")
    result = invoke("reproduce", copy / "catalog.parquet", "1-1", "--tracking-uri", uri(workspace))
    assert result.exit_code == command.EXIT_FAILED
    assert "Not reproduced to 1e-05: score_mae" in result.output


def test_what_is_missing_is_named(workspace: Path, copy: Path, tmp_path: Path) -> None:
    catalog = workspace / "catalog.parquet"
    unknown = invoke("reproduce", catalog, "9-9")
    assert (unknown.exit_code, "9-9" in unknown.output) == (2, True)
    no_model = invoke("reproduce", copy / "catalog.parquet", "1-1")
    assert (no_model.exit_code, "there is no registry" in no_model.output) == (2, True)
    no_store = invoke("reproduce", catalog, "1-1", "--store", tmp_path / "none.zarr")
    assert (no_store.exit_code, "none.zarr' does not exist" in no_store.output) == (2, True)


def test_a_changed_file_is_told_by_its_checksum(workspace: Path, copy: Path) -> None:
    (path,) = WindowStore.open(str(copy / "windows.zarr")).galaxies().query("plateifu == '1-2'")["source"]
    before = Path(path).read_bytes()
    try:
        Path(path).write_bytes(before + b"\0")
        result = invoke("reproduce", workspace / "catalog.parquet", "1-2")
        assert result.exit_code == command.EXIT_FAILED
        assert "has changed since the store was made" in result.output
        Path(path).unlink()
        result = invoke("reproduce", workspace / "catalog.parquet", "1-2")
        assert result.exit_code == command.EXIT_FAILED
        assert Path(path).name in result.output
    finally:
        Path(path).write_bytes(before)


def test_each_file_of_a_galaxy_is_checked(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("blue.fits", "red.fits")]
    for path in paths:
        path.write_bytes(path.name.encode())
    checksums = ";".join(file_checksum(str(path), "crc32") for path in paths)
    source = {"source": ";".join(map(str, paths)), "source_checksum": checksums}
    store: Any = SimpleNamespace(attrs={"config": {"prepare": {"checksum": "crc32"}}})
    check_source(store, source)
    for path in paths:
        before = path.read_bytes()
        path.write_bytes(b"changed")
        with pytest.raises(ReproduceError, match=f"{path.name} has changed"):
            check_source(store, source)
        path.write_bytes(before)


def register_spoiled(workspace: Path, folder: Path, noise: float) -> str:
    """The champion with noise on its weights, as the candidate."""
    network, metadata = load_model(resolve_model(uri(workspace), "models:/cubescout@champion").directory)
    rng = np.random.default_rng(0)
    for weights in network.parameters():
        weights.data += noise * type(weights.data)(rng.normal(size=tuple(weights.shape)).astype(np.float32))
    save_model(folder, network, metadata)
    # Not compared with the champion when it is registered: another measure.
    with start_run(uri(workspace), "tests", "spoiled") as run:
        made = register_model(
            run, folder, model_name="cubescout", store_identity="s", loss=0.0, comparable=f"noise {noise}"
        )
    return made.version


def test_a_worse_candidate_is_refused_unless_forced(workspace: Path, tmp_path: Path) -> None:
    champion = find_version(make_client(uri(workspace)), "models:/cubescout@champion").version
    version = register_spoiled(workspace, tmp_path / "model", 0.3)
    arguments = ("promote", "cubescout@candidate", "demo", *settings(workspace))
    result = invoke(*arguments)
    assert result.exit_code == command.EXIT_REFUSED, result.output
    assert "Not promoted: worse by negative log-likelihood" in result.output
    assert find_version(make_client(uri(workspace)), "models:/cubescout@champion").version == champion
    result = invoke(*arguments, "--force")
    assert result.exit_code == 0, result.output
    assert find_version(make_client(uri(workspace)), "models:/cubescout@champion").version == int(version)
    # And back: the better one needs no force.
    result = invoke("promote", f"cubescout/{champion}", *arguments[2:])
    assert result.exit_code == 0, result.output
    assert find_version(make_client(uri(workspace)), "models:/cubescout@champion").version == champion
    again = invoke("promote", "cubescout@champion", *arguments[2:])
    assert "is already the champion" in again.output


def test_a_measure_that_is_only_shown_refuses_nothing(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(uri(workspace))
    champion = find_version(client, "models:/cubescout@champion").version
    version = register_spoiled(workspace, tmp_path / "model", 1e-6)
    measures = iter([{"nll": np.zeros(4), "chi2": np.full(4, 2.0)}, {"nll": np.ones(4), "chi2": np.ones(4)}])
    monkeypatch.setattr(promote, "measure_split", lambda *_: next(measures))
    result = invoke("promote", f"cubescout/{version}", "demo", *settings(workspace))
    client.set_registered_model_alias("cubescout", "champion", champion)
    assert result.exit_code == 0, result.output
    assert f"version {version} is the champion" in result.output


MASKED = {"model.kind": "masked", "model.context_channels": 8, "model.lstm_channels": 2, "train.loss": "student-t"}


def test_a_masked_network_is_trained_scored_reproduced_and_promoted_by_force_alone(workspace: Path, copy: Path) -> None:
    values = [part for key, value in MASKED.items() for part in ("--set", f"{key}={value}")]
    arguments = ("demo", *settings(copy), *values, "--set", f"tracking.uri={uri(workspace)}")
    for job in ("train", "score"):
        result = invoke(job, *arguments, *(["--set", "score.model=models:/cubescout@candidate"] * (job == "score")))
        assert result.exit_code == 0, result.output
    table = read_catalog(copy / "catalog.parquet").table
    assert np.isfinite(table[["score_combined", "score_peak", "score_latent_peak"]]).all(axis=None)
    result = invoke("reproduce", copy / "catalog.parquet", table["plateifu"][0], "--tracking-uri", uri(workspace))
    assert result.exit_code == 0, result.output
    refused = invoke("promote", "cubescout@candidate", *arguments)
    assert refused.exit_code == command.EXIT_USAGE
    assert "is a MaskedPredictor with hidden squares of 5 spaxels and the champion a ConvLSTMAutoencoder" in " ".join(
        refused.output.split()
    )
    champion = find_version(make_client(uri(workspace)), "models:/cubescout@champion").version
    forced = invoke("promote", "cubescout@candidate", *arguments, "--force")
    assert forced.exit_code == 0, forced.output
    back = invoke("promote", f"cubescout/{champion}", *arguments, "--force")
    assert back.exit_code == 0, back.output


def test_the_benchmark_decides_too(workspace: Path, tmp_path: Path) -> None:
    paths = []
    for name, recall in (("candidate", 0.1), ("champion", 0.2)):
        # The lowest contamination decides; at the higher one the candidate is ahead.
        rows = {"name": ["PCA", "Cubescout", "Cubescout"], "contamination": [0, 0.01, 0]}
        rows["pauroc"] = [0.9, 0.5 - recall, recall]
        paths.append(tmp_path / f"{name}.parquet")
        pd.DataFrame(rows).to_parquet(paths[-1])
    version = register_spoiled(workspace, tmp_path / "model", 1e-7)
    arguments = ("promote", f"cubescout/{version}", "demo", *settings(workspace))
    refused = invoke(*arguments, "--benchmark", *paths)
    assert refused.exit_code == command.EXIT_REFUSED, refused.output
    assert "pAUROC" in refused.output.rpartition("Not promoted")[2]
    wrong = invoke(*arguments, "--benchmark", workspace / "catalog.parquet", paths[0])
    assert (wrong.exit_code, "not a results.parquet" in wrong.output) == (2, True)


def test_measures_are_means_over_galaxies(workspace: Path) -> None:
    store = WindowStore.open(str(workspace / "windows.zarr"))
    network, _ = load_model(resolve_model(uri(workspace), "models:/cubescout/1").directory)
    found = measure_split(network, store, "validation")
    galaxies = [windows for split, windows in store.iter_galaxies() if split == "validation"]
    flux, ivar, mask = (np.concatenate([getattr(w, name) for w in galaxies]) for name in ("flux", "ivar", "mask"))
    reconstruction = infer(network, flux, ivar, mask).reconstruction
    good = good_samples(flux, ivar, mask)
    in_sigma = [torch.from_numpy(np.where(good, values * np.sqrt(ivar), 0)) for values in (reconstruction, flux)]
    expected = student_t_nll(*in_sigma, torch.from_numpy(good), torch.ones(good.shape))
    assert len(expected) == 2
    np.testing.assert_allclose(found["nll"], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="no split nothing"):
        measure_split(network, store, "nothing")


def test_a_comparison_says_how_much_depends_on_the_galaxies() -> None:
    rng = np.random.default_rng(0)
    champion = {"nll": rng.normal(0, 5, 100), "chi2": np.full(100, np.nan)}
    likelihood, chi2 = compare({"nll": champion["nll"] - rng.normal(1, 0.5, 100), "chi2": champion["chi2"]}, champion)
    low, high = likelihood.interval
    assert low < likelihood.candidate - likelihood.champion < high
    assert -1.2 < low < high < -0.8  # galaxies differ by 5, but in both models alike
    assert not likelihood.worse
    assert np.isnan(chi2.interval).all()


def test_a_model_without_its_hardest_galaxies_is_worse() -> None:
    chi2 = np.ones(3)
    likelihood, _ = compare(
        {"nll": np.array([np.nan, 0.1, 0.2]), "chi2": chi2}, {"nll": np.array([5, 0.15, 0.1]), "chi2": chi2}
    )
    assert likelihood.worse
    likelihood, _ = compare(
        {"nll": np.array([9, 0.1, 0.0]), "chi2": chi2}, {"nll": np.array([np.nan, 0.15, 0.1]), "chi2": chi2}
    )
    assert (likelihood.candidate, likelihood.champion) == (0.05, 0.125)
    assert not likelihood.worse


def test_what_cannot_be_compared_is_worse() -> None:
    assert Comparison("x", float("nan"), 1.0).worse
    assert not Comparison("x", 1.0, 1.0).worse
    assert Comparison("recall", 0.1, 0.2, higher_is_better=True).worse


def test_other_weights_and_judges_that_are_not_kept_are_told(workspace: Path) -> None:
    catalog = read_catalog(workspace / "catalog.parquet")
    catalog.provenance["model"]["fold_digests"] = ["a", "b"]
    with pytest.raises(ReproduceError, match="other weights"):
        load_ensemble(catalog, uri(workspace))
    del catalog.provenance["judges"]
    with pytest.raises(ReproduceError, match="calibrated"):
        load_ensemble(catalog, uri(workspace))


def test_rows_that_models_of_folds_made_are_reproduced(workspace: Path, tmp_path: Path) -> None:
    folded = ["--set", f"prepare.store={workspace / 'windows.zarr'}", "--set", f"workspace={tmp_path}"]
    folded += ["--set", "train.folds=2", "--set", "train.epochs=1"]
    for job in ("train", "score"):
        result = invoke(job, "demo", *settings(workspace), *folded)
        assert result.exit_code == 0, result.output
    table = read_catalog(tmp_path / "catalog.parquet").table
    assert (table["num_models"] == 1).all()
    for plateifu in table["plateifu"].head(2):
        result = invoke("reproduce", tmp_path / "catalog.parquet", plateifu)
        assert result.exit_code == 0, result.output
        for name in ("score_combined", "score_latent_peak", "score_spread"):
            assert name in result.output
