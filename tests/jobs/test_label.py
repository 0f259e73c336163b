"""The label command: labels and tables of labels go into the workspace's file; what is wrong is named."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs import cli
from modeling.labels.labels import catalog_version, current, read
from tests.jobs.catalogs import write_synthetic_catalog


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_synthetic_catalog(tmp_path / "catalog.parquet")
    return tmp_path


def label(workspace: Path, *arguments: str) -> tuple[int, str]:
    command = ["label", "demo", "--set", f"workspace={workspace}", *arguments]
    result = CliRunner().invoke(cli.main, command, prog_name="cubescout")
    return result.exit_code, result.output


def test_labels_are_kept_with_author_note_and_catalog(workspace: Path) -> None:
    code, text = label(workspace, "8000-1901=blueberry", "8000-1902=artefact", "--author", "ann", "--note", "seen")
    assert code == 0, text
    history = read(workspace / "labels.jsonl")
    assert current(history).to_dict() == {"8000-1901": "blueberry", "8000-1902": "artefact"}
    assert set(history["author"]) == {"ann"}
    assert set(history["note"]) == {"seen"}
    assert set(history["catalog"]) == {catalog_version(workspace / "catalog.parquet")}
    assert "artefact 1" in text
    assert "Labels that mean an unusual galaxy, to `rerank` and to the p-values of `score`: blueberry. Add" in text


def test_a_table_of_labels_is_read_and_an_empty_label_withdraws(workspace: Path) -> None:
    table = workspace / "mine.csv"
    table.write_text("PLATEIFU,label\n8000-1903,merger\n8000-1904,\n8000-1901,blueberry\n")
    code, text = label(workspace, "--table", str(table))
    assert code == 0
    assert "1 row without a label left out" in text
    code, text = label(workspace, "8000-1901=")
    assert code == 0
    assert "1 label withdrawn by" in text
    assert current(read(workspace / "labels.jsonl")).to_dict() == {"8000-1903": "merger"}


def test_a_label_of_an_object_is_that_of_its_observation(workspace: Path) -> None:
    code, text = label(workspace, "1-0=blueberry")
    assert code == 0, text
    assert current(read(workspace / "labels.jsonl")).to_dict() == {"8000-1901": "blueberry"}
    code, text = label(workspace, "1-0=blueberry", "8000-1901=merger")
    assert code == 2
    assert "8000-1901: given as 'blueberry' and as 'merger'" in text


def test_unknown_galaxies_are_named_with_the_closest_and_nothing_is_written(workspace: Path) -> None:
    code, text = label(workspace, "8000-1901=blueberry", "800-1902=merger")
    assert code == 2
    assert "800-1902 (closest: " in text
    assert "8000-1902" in text
    assert not (workspace / "labels.jsonl").exists()


def test_a_rejected_galaxy_is_named_with_its_reason(workspace: Path) -> None:
    rejected = workspace / "windows.zarr" / "rejected.csv"
    rejected.parent.mkdir()
    rejected.write_text("plateifu,mangaid,z,code,reason\n8000-12701,1-1,0.02,quality,flagged CRITICAL\n")
    code, text = label(workspace, "8000-12701=merger", "9-9=merger")
    assert code == 2
    assert f"8000-12701 was rejected by `cubescout prepare` (quality), see {rejected}; 9-9. No label was added" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no labels given"),
        (["8000-1901"], "expected PLATEIFU=LABEL"),
        (["8000-1901=", "8000-1902=agn"], "8000-1901: without a label, so there is none to withdraw"),
        (["--table", "{}/no.csv"], "no.csv"),
        (["8000-1901=0"], "'8000-1901=0': the label is 0, expected a word"),
        (["8000-1901=False"], "the label is False, expected a word"),
        (["8000-1901=agn", "8000-1901=artefact"], "8000-1901: given as 'agn' and as 'artefact'"),
    ],
)
def test_mistakes_are_named(workspace: Path, arguments: list[str], message: str) -> None:
    code, text = label(workspace, *(argument.format(workspace) for argument in arguments))
    assert code == 2
    assert message in text


def test_a_table_without_labels_says_what_it_has(workspace: Path) -> None:
    table = workspace / "mine.csv"
    table.write_text("8000-1903,merger\n")
    code, text = label(workspace, "--table", str(table))
    assert code == 2
    assert "its first line holds the galaxy 8000-1903, but should name the columns, such as plateifu" in text
    table.write_text("plateifu,lable\n8000-1903,merger\n")
    code, text = label(workspace, "--table", str(table))
    assert code == 2
    assert "no column 'label' among lable; did you mean lable?" in text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("8000-1901,agn,x\n8000-1903,merger\n", "line 2 has not as many cells as the first"),
        ("8000-1901,\n8000-1903,nan\n", "no row has a label"),
        ("8000-1901,True\n8000-1903,\n", "the label of 8000-1901 is True, expected a word"),
        ("8000-1901,1\n8000-1903,\n", "the label of 8000-1901 is 1"),
        ("8000-1901,agn\n9999-1,agn\n", "mine.csv: not among the 60 galaxies of"),
    ],
)
def test_a_table_that_is_not_understood_adds_nothing(workspace: Path, rows: str, message: str) -> None:
    table = workspace / "mine.csv"
    table.write_text("plateifu,label\n" + rows)
    code, text = label(workspace, "--table", str(table))
    assert code == 2
    assert message in text
    assert not (workspace / "labels.jsonl").exists()
