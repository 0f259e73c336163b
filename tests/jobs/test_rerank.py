"""The rerank command: a round of asking and labelling."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner

from jobs import cli
from jobs.rerank import finds_of
from modeling.catalog import METADATA_KEY, read_catalog
from modeling.labels.labels import Label, append, catalog_version
from tests.jobs.catalogs import write_synthetic_catalog


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_synthetic_catalog(tmp_path / "catalog.parquet", num_galaxies=90)
    return tmp_path


def run(workspace: Path, *settings: str) -> str:
    overrides = [part for setting in (f"workspace={workspace}", *settings) for part in ("--set", setting)]
    result = CliRunner().invoke(cli.main, ["rerank", "demo", *overrides])
    assert result.exit_code == 0, result.output
    return result.output


def test_without_labels_it_asks_for_the_highest_score_first(workspace: Path) -> None:
    text = run(workspace, "rerank.num_next=3")
    assert "0 labels (0 detections) for 90 galaxies" in text
    ranking = pd.read_parquet(workspace / "ranking.parquet")
    assert (ranking["rank_by_labels"] == ranking["rank"]).all()
    assert ranking.query("ask == 1")["rank"].tolist() == [1]
    assert sorted(ranking.query("ask > 0")["ask"]) == [1, 2, 3]


def test_with_a_label_of_each_galaxy_none_is_suggested(workspace: Path) -> None:
    names = read_catalog(workspace / "catalog.parquet").table["plateifu"]
    append(workspace / "labels.jsonl", [Label(plateifu=name, label="usual") for name in names])
    text = run(workspace)
    assert "none is left to label next" in text
    assert "To label next" not in text


def test_capitals_do_not_make_a_find_of_an_artefact() -> None:
    said = pd.Series(["Artefact", "", "USUAL", "blueberry"])
    assert finds_of(said, ("usual", "artefact")) == {0: False, 2: False, 3: True}


def test_labels_raise_what_is_like_the_finds(workspace: Path) -> None:
    """Three clusters of latents: those of one are finds, those of another artefacts."""
    names = read_catalog(workspace / "catalog.parquet").table["plateifu"]
    cluster = names.str.split("-").map(lambda parts: (20 * (int(parts[0]) - 8000) + int(parts[1]) - 1901) % 3)
    said = [
        Label(plateifu=name, label={0: "blueberry", 1: "artefact"}[kind], author="ann")
        for name, kind in zip(names, cluster, strict=True)
        if kind < 2
    ]
    gone = Label(plateifu="9999-1", label="blueberry", author="ann")
    append(workspace / "labels.jsonl", [*said[:16], gone])
    text = run(workspace)
    assert re.search(r"16 labels \(\d+ detections?\)", text)
    assert "1 label of galaxies outside this catalog left out" in text
    assert re.search(
        r"Of the 50 most likely detections, \d+ have no label and are not among the first 50 by score", text
    )
    ranking = pd.read_parquet(workspace / "ranking.parquet").set_index("plateifu")
    unseen = pd.Series(cluster.to_numpy(), names)[ranking.index[ranking["label"] == ""]]
    mean_rank = ranking.loc[unseen.index, "rank_by_labels"].groupby(unseen).mean()
    assert mean_rank[0] < mean_rank[2] < mean_rank[1]
    assert (ranking.query("ask > 0")["label"] == "").all()
    kept = json.loads(pq.read_schema(workspace / "ranking.parquet").metadata[METADATA_KEY])
    assert kept["num_labels"] == 16
    assert kept["catalog"] == catalog_version(workspace / "catalog.parquet")


def test_the_lines_of_the_maps_are_features(workspace: Path) -> None:
    names = read_catalog(workspace / "catalog.parquet").table["plateifu"].tolist()
    append(workspace / "labels.jsonl", [Label(plateifu=names[0], label="agn", author="ann")])
    run(workspace)
    before = pd.read_parquet(workspace / "ranking.parquet").set_index("plateifu")["expected"]
    group = zarr.open_group(workspace / "catalog.attribution.zarr", mode="w", zarr_format=3)
    known = names[:-1]  # a galaxy without maps does no harm
    group.create_array("plateifu", shape=(len(known),), dtype=str)[...] = np.array(known, dtype=np.dtypes.StringDType())
    by_line = np.zeros((len(known), 3), dtype=np.float32)
    by_line[[0, 7], 1] = 50
    group.create_array("by_line", shape=by_line.shape, dtype="float32")[...] = by_line
    run(workspace)
    after = pd.read_parquet(workspace / "ranking.parquet").set_index("plateifu")["expected"]
    assert (after - before).drop(names[0]).idxmax() == names[7]


def test_damaged_maps_are_named(workspace: Path) -> None:
    (workspace / "catalog.attribution.zarr").mkdir()
    result = CliRunner().invoke(cli.main, ["rerank", "demo", "--set", f"workspace={workspace}"])
    assert result.exit_code == 1
    assert "catalog.attribution.zarr: damaged" in result.output


def test_which_labels_are_no_finds_is_a_setting(workspace: Path) -> None:
    append(workspace / "labels.jsonl", [Label(plateifu="8000-1901", label="merger", author="ann")])
    assert "1 label (1 detection)" in run(workspace)
    assert "1 label (0 detections)" in run(workspace, "rerank.usual=[merger]")


def test_without_a_catalog_it_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["rerank", "demo", "--set", f"workspace={tmp_path}"])
    assert result.exit_code == 2
    assert "no catalog here" in result.output
