"""The classify command: from a table or own labels to probabilities, files and the registry."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from jobs import cli
from jobs.classify import columns_of
from jobs.config import load_project
from jobs.tables.features import latents_of
from jobs.tables.survey_links import LINKS
from modeling.catalog import read_catalog, write_catalog
from modeling.labels import classes
from modeling.labels.classes import Features, Head
from modeling.labels.head_file import write_heads
from modeling.labels.labels import Label, append, catalog_version
from modeling.tracking.models import find_version
from modeling.tracking.runs import make_client
from tests.jobs.catalogs import PROVENANCE, write_synthetic_catalog

MODEL = PROVENANCE["model"] | {"digest": "d" * 64}


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """For intervals, as in the tests of `modeling.labels.classes`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classes, "NUM_BOOTSTRAP", 100)
        yield


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_workspace(tmp_path_factory.mktemp("classify"))


def write_workspace(workspace: Path, digest: str = MODEL["digest"]) -> Path:
    """A catalog in three clusters of latents, and a table with the cluster of 60 of its 90 galaxies."""
    path = workspace / "catalog.parquet"
    write_synthetic_catalog(path, num_galaxies=90)
    catalog = read_catalog(path)
    write_catalog(path, catalog.table, catalog.columns, PROVENANCE | {"model": MODEL | {"digest": digest}})
    table = catalog.table.sort_values("plateifu", ignore_index=True)
    kinds = np.array(["AGN", "merger > 1", ""])[cluster_of(table)]
    pd.DataFrame({"plateifu": table["plateifu"], "kind": kinds}).head(60).to_csv(workspace / "kinds.csv", index=False)
    return workspace


def cluster_of(table: pd.DataFrame) -> np.ndarray:
    parts = table["plateifu"].str.split("-").map(lambda parts: 20 * (int(parts[0]) - 8000) + int(parts[1]) - 1901)
    return parts.to_numpy() % 3


def run(workspace: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.main, ["classify", "demo", "--set", f"workspace={workspace}", *arguments])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def learned(workspace: Path) -> tuple[Path, str]:
    code, text = run(workspace, "--labels", str(workspace / "kinds.csv"), "--label", "kind")
    assert code == 0, text
    return workspace, text


@pytest.mark.slow
def test_the_table_has_probabilities_with_descriptions_and_ucds(learned: tuple[Path, str]) -> None:
    from astropy.io import fits

    workspace, text = learned
    assert "60 galaxies of the catalog, column kind; of those left out: AGN 20 AUROC 1.00 (0.92 to 1.00)" in text
    found = read_catalog(workspace / "catalog.classes.parquet")
    table, cluster = found.table, cluster_of(found.table)
    assert table["labelled"].sum() == 60
    assert set(table.loc[table["labelled"], "label"]) == {"AGN", "merger > 1", ""}
    for column, kind in (("probability_AGN", 0), ("probability_merger_1", 1)):
        assert table.loc[cluster == kind, column].min() > 0.5 > table.loc[cluster != kind, column].max()
        assert table.loc[~table["labelled"] & (cluster == kind), column].min() > 0.5
    assert found.columns["probability_merger_1"].description.startswith("Probability of the label 'merger > 1' among")
    with fits.open(workspace / "catalog.classes.fits") as file:
        header = file["CATALOG"].header
        place = 1 + file["CATALOG"].columns.names.index("probability_AGN")
        assert header[f"TUCD{place}"] == "stat.probability"
    assert (workspace / "catalog.classes.vot").is_file()


@pytest.mark.slow
def test_classifiers_are_registered_with_their_quality(learned: tuple[Path, str]) -> None:
    workspace, _ = learned
    client = make_client(load_project("demo", (f"workspace={workspace}",)).tracking_uri)
    version = find_version(client, "models:/cubescout-classes@current")
    assert version.tags["model_digest"] == MODEL["digest"]
    assert version.tags["labels"] == "column kind"
    metrics = client.get_run(version.run_id).data.metrics
    assert metrics["AGN/auroc"] == 1
    assert metrics["merger_1/brier"] < metrics["merger_1/brier_of_share"] == pytest.approx(2 / 9)
    files = {file.path for file in client.list_artifacts(version.run_id, "classes")}
    assert files == {
        "classes/catalog.classes.json",
        *(f"classes/catalog.classes.{kind}" for kind in ("parquet", "fits", "vot")),
    }
    kept = json.loads((workspace / "catalog.classes.json").read_text())
    assert set(kept["heads"]) == set(kept["quality"]) == {"AGN", "merger > 1"}


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["models:/cubescout-classes@current", "catalog.classes.json"])
def test_learned_classes_are_applied_to_a_catalog_of_the_same_model(
    learned: tuple[Path, str], tmp_path: Path, reference: str
) -> None:
    workspace, _ = learned
    uri = load_project("demo", (f"workspace={workspace}",)).tracking_uri
    where = reference if reference.startswith("models:/") else str(workspace / reference)
    write_workspace(tmp_path)
    code, text = run(tmp_path, "--heads", where, "--set", f"tracking.uri={uri}")
    assert code == 0, text
    table = read_catalog(tmp_path / "catalog.classes.parquet").table
    assert table.loc[cluster_of(table) == 0, "probability_AGN"].min() > 0.5
    assert "labelled" not in table
    write_workspace(tmp_path, digest="e" * 64)
    code, text = run(tmp_path, "--heads", where, "--set", f"tracking.uri={uri}")
    assert code == 2
    assert "takes latents of another model (weights dddddddddddd) than that of" in text


@pytest.mark.slow
def test_own_labels_are_learned_and_too_few_are_counted(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    code, text = run(tmp_path)
    assert code == 2
    assert "labels.jsonl: no labels of galaxies in this catalog; label some, or give --labels TABLE" in text
    table = read_catalog(tmp_path / "catalog.parquet").table
    words = np.array(["blueberry", "usual", "Gr\u2028öße"])[cluster_of(table)]
    said = [Label(plateifu=name, label=word, author="a") for name, word in zip(table["plateifu"], words, strict=True)]
    append(tmp_path / "labels.jsonl", said[:18])
    code, text = run(tmp_path)
    assert code == 2
    assert "Each label needs 10 of both; `cubescout rerank` learns from fewer" in text
    assert not (tmp_path / "catalog.classes.json").exists()
    append(tmp_path / "labels.jsonl", said[18:60])
    code, text = run(tmp_path)
    assert code == 0, text
    assert {"probability_Gr_e", "probability_blueberry", "probability_usual"} <= set(
        read_catalog(tmp_path / "catalog.classes.parquet").table
    )


def test_a_catalog_of_an_earlier_version_is_named(tmp_path: Path) -> None:
    write_synthetic_catalog(tmp_path / "catalog.parquet")
    code, text = run(tmp_path)
    assert code == 1
    assert "provenance.model.digest is missing" in text


@pytest.mark.parametrize("option", [("--label", "kind"), ("--bpt", "x", "y"), ("--key", "name")])
def test_options_of_a_table_are_refused_without_one(option: tuple[str, ...], tmp_path: Path) -> None:
    code, text = run(tmp_path, *option)
    assert code == 2
    assert f"{option[0]}: ignored without a table of labels; expected --labels TABLE, too" in text


def test_labels_of_a_column_and_of_line_ratios_at_once_are_refused(tmp_path: Path) -> None:
    (tmp_path / "kinds.csv").write_text("plateifu,kind,x,y\n1-1,AGN,0,0\n")
    code, text = run(tmp_path, "--labels", str(tmp_path / "kinds.csv"), "--label", "kind", "--bpt", "x", "y")
    assert code == 2
    assert "--label and --bpt: each says what the labels are; leave out one" in text


def test_labels_are_refused_where_nothing_is_learned(tmp_path: Path) -> None:
    (tmp_path / "kinds.csv").write_text("plateifu,kind\n1-1,AGN\n")
    options = ["--labels", str(tmp_path / "kinds.csv"), "--label", "kind"]
    code, text = run(tmp_path, "--heads", "models:/cubescout-classes@current", *options)
    assert code == 2
    assert "--labels, --label: ignored by --heads, which applies what was learned before; leave out one" in text


def test_applied_classes_record_their_own_catalog_and_keep_its_links(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    path = tmp_path / "catalog.parquet"
    catalog = read_catalog(path)
    names = catalog.table["plateifu"]
    linked = catalog.table.assign(url="https://host/" + names, other_observations=[[name] for name in names])
    write_catalog(path, linked, catalog.columns | LINKS, catalog.provenance)
    made = {"created_utc": "2020-01-01", "catalog": "of another", "labels": "column kind", "num_labelled": 60}
    features = Features.of(latents_of(linked, path), ("score",))
    head = Head(np.zeros(len(features.mean) + 1), 0.0, 1.0)
    write_heads(
        tmp_path / "heads.json", {"AGN": head}, features, model_digest=MODEL["digest"], quality={}, provenance=made
    )
    code, text = run(tmp_path, "--heads", str(tmp_path / "heads.json"))
    assert code == 0, text
    found = read_catalog(tmp_path / "catalog.classes.parquet")
    assert found.provenance["heads"] == made | {"reference": str(tmp_path / "heads.json")}
    assert found.provenance["catalog"] == catalog_version(path)
    assert found.provenance["created_utc"] > made["created_utc"]
    assert found.provenance["code_version"]
    assert found.provenance["model"] == MODEL
    assert "labels" not in found.provenance
    assert found.table["url"].tolist() == linked["url"].tolist()
    assert [list(others) for others in found.table["other_observations"]] == linked["other_observations"].tolist()


def test_columns_of_labels_differ() -> None:
    names = ["P_MERGE > 0.5", "P_MERGE < 0.5", "AGN", "agn", "Groß", "星爆", "活动"]
    assert list(columns_of(names).values()) == [
        "probability_P_MERGE_0_5",
        "probability_P_MERGE_0_5_2",
        "probability_AGN",
        "probability_agn_2",
        "probability_Gro",
        "probability_label",
        "probability_label_2",
    ]
