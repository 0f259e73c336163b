"""Files of users of version 0.1.0 are read and scored as they were: see tests/data/made_by.py.

These files must never be made again with later code. Where a change of format is meant, the reader learns the old one.
"""

import hashlib
import json
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from cubeprep.store import WindowStore
from jobs.cli import main
from modeling.catalog import Catalog, read_catalog
from modeling.scoring.explanations import NUM_REASONS

BEFORE = Path(__file__).parent / "data" / "before_rooms"
PRESETS = ("line", "paper")
# Written by PyTorch's operations on one processor, read with this one's kernels.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
SCORES = ("rank", "score", "p_value", "q_value", "is_find", "triage", "num_models", "total_flux", "median_snr")
SCORE_BEGINNINGS = ("score_", "share_", "reason_", "neighbour", "num_good", "top_line", "velocity_offset")
CHANGED = {f"score_{name}" for name in ("combined", "spread", "region", "peak", "latent_region", "latent_peak")}
CHANGED |= {"p_value", "q_value"}
RANKED = {"rank", "score"}


@dataclass(frozen=True)
class Workspace:
    """A user's workspace of before, brought to this machine; `expected` is its catalog."""

    preset: str
    path: Path
    expected: Catalog

    def run(self, job: str, *arguments: str) -> str:
        found = CliRunner().invoke(main, [job, self.preset, *arguments, "--set", f"workspace={self.path}"])
        assert found.exit_code == 0, found.output
        return found.output


def make_workspace(preset: str, path: Path) -> Workspace:
    shutil.copytree(BEFORE / preset, path)
    sql = (path / "mlflow.sql").read_text().replace("WORKSPACE", str(path)).replace("FOLDER", str(path.parent))
    database = sqlite3.connect(path / "mlflow.db")
    database.executescript(sql)
    database.close()
    return Workspace(preset, path, read_catalog(path / "catalog.parquet"))


@pytest.fixture(scope="module", params=PRESETS)
def scored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Its catalog was made again by this version's code, with the champion of its registry."""
    workspace = make_workspace(request.param, tmp_path_factory.mktemp("scored") / request.param)
    for name in ("catalog.parquet", "catalog.latents.parquet"):
        (workspace.path / name).unlink()
    shutil.rmtree(workspace.path / "catalog.attribution.zarr")
    workspace.run("score")
    return workspace


@pytest.fixture(params=PRESETS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    return make_workspace(request.param, tmp_path / request.param)


def registered_model(workspace: Path) -> Path:
    (model,) = workspace.glob("mlartifacts/*/*/artifacts/model")
    return model


@pytest.mark.parametrize("preset", PRESETS)
def test_the_registered_model_gives_the_numbers_that_it_was_registered_with(preset: str) -> None:
    import mlflow.pyfunc

    model = registered_model(BEFORE / preset)
    with np.load(model / "example.npz", allow_pickle=False) as example:
        windows = {name: example[name] for name in ("flux", "ivar", "mask")}
        found = mlflow.pyfunc.load_model(str(model)).predict(windows)
        for name in ("score", "latent"):
            np.testing.assert_allclose(found[name], example[name], **CLOSE, err_msg=name)


@pytest.mark.parametrize("preset", PRESETS)
def test_its_checkpoint_is_read_by_our_own_loader(preset: str) -> None:
    from modeling.checkpoint import load_model
    from modeling.inference import infer

    model = registered_model(BEFORE / preset)
    network, metadata = load_model(model / "artifacts" / "checkpoint")
    assert metadata["line_names"] == WindowStore.open(str(BEFORE / preset / "windows.zarr")).line_names
    with np.load(model / "example.npz", allow_pickle=False) as example:
        found = infer(network, example["flux"], example["ivar"], example["mask"])
        np.testing.assert_allclose(found.latent, example["latent"], **CLOSE)
        np.testing.assert_allclose(found.mae, example["score"], **CLOSE)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_store_holds_the_same_bits(preset: str) -> None:
    store = WindowStore.open(str(BEFORE / preset / "windows.zarr"))
    expected = json.loads((BEFORE / preset / "windows.json").read_text())
    found = store.galaxies().set_index("status")["plateifu"]["accepted"]
    assert sorted(found) == sorted(expected)
    for name, digests in expected.items():
        windows = store.read_galaxy(name)
        arrays = windows.flux, windows.ivar, windows.mask
        assert [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays] == digests
    assert store.splits == ["train", "validation", "test"]
    assert len(found) == store.summary()["accepted"] == 9
    assert store.galaxies().query("status == 'rejected'")["code"].tolist() == ["quality"]
    assert len(store.read_records()) == sum(store.num_shards(split) for split in store.splits)


@pytest.mark.slow
def test_the_store_is_scored_as_it_was(scored: Workspace) -> None:
    expected, found = scored.expected, read_catalog(scored.path / "catalog.parquet")
    names = [name for name in expected.table if name in SCORES or name.startswith(SCORE_BEGINNINGS)]
    # That version added the squares of a region's spaxels, which is another number.
    changed = CHANGED | (RANKED if expected.provenance["rank_by"] == "combined" else set())
    assert len(set(names) - changed) > 20
    assert np.isfinite(found.table["score_combined"]).all()
    table = found.table.set_index("plateifu").loc[expected.table["plateifu"]].reset_index()
    for name in names:
        if name.startswith("reason_"):
            check_reason(int(name.removeprefix("reason_")), table, expected.table)
        elif name not in changed:
            check_column(name, table[name], expected.table[name])
        if name != "total_flux":  # a sum over spaxels, whose unit had been that of one
            assert found.columns[name].unit == expected.columns[name].unit
    assert found.provenance["model"]["digest"] == expected.provenance["model"]["digest"]
    assert found.provenance["model"]["fold_digests"] == expected.provenance["model"]["fold_digests"]


def check_reason(number: int, found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Reasons of lines are those of before, behind a hypothesis, which that version had not."""
    moved = (found["reason_1"] != "") & (found["reason_1"] == found["hypothesis_text"])
    check_column(f"reason_{number}", found.loc[~moved, f"reason_{number}"], expected.loc[~moved, f"reason_{number}"])
    if number < NUM_REASONS:
        behind = found.loc[moved, f"reason_{number + 1}"]
        check_column(f"reason_{number}", behind, expected.loc[moved, f"reason_{number}"])


def check_column(name: str, found: pd.Series, expected: pd.Series) -> None:
    values, wanted = (np.array([np.asarray(value) for value in column]) for column in (found, expected))
    if wanted.dtype.kind == "f":
        # Distances are of standardised latents, whose rounding does not shrink with the distance.
        close = CLOSE | ({"atol": 1e-5} if "distance" in name else {})
        np.testing.assert_allclose(values, wanted, **close, err_msg=name)
    else:
        np.testing.assert_array_equal(values, wanted, err_msg=name)


def test_the_catalog_is_searched_and_exported(workspace: Workspace) -> None:
    from astropy.table import Table

    table = workspace.expected.table
    nearest: Any = table.iloc[0]
    workspace.run("search", nearest["plateifu"], "--num", "1", "--output", str(workspace.path / "found.csv"))
    found = pd.read_csv(workspace.path / "found.csv").iloc[0]
    assert found["plateifu"] == nearest["neighbours"][0]
    assert found["distance"] == pytest.approx(nearest["neighbour_distances"][0], rel=1e-5, abs=1e-5)
    workspace.run("export")
    exported = Table.read(workspace.path / "catalog.vot")
    np.testing.assert_array_equal(exported["score"], table["score"])
    assert list(exported["plateifu"]) == table["plateifu"].tolist()


def test_labels_rank_the_catalog(workspace: Workspace) -> None:
    table = workspace.expected.table
    workspace.run("label", f"{table['plateifu'][2]}=artefact")
    lines = [json.loads(line) for line in (workspace.path / "labels.jsonl").read_text().splitlines()]
    assert lines[0]["note"] == "a ring, März"
    version = hashlib.sha256((workspace.path / "catalog.parquet").read_bytes()).hexdigest()
    assert all(version.startswith(line["catalog"]) for line in lines)
    workspace.run("rerank")
    ranking = pd.read_parquet(workspace.path / "ranking.parquet").set_index("plateifu")
    labels = [ranking.loc[name, "label"] for name in table["plateifu"][:3]]
    assert labels == ["interesting", "", "artefact"]
