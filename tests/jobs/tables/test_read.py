"""Tables of others: six formats, one content; what is wrong is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import MaskedColumn, Table

from jobs.tables.label_tables import read_labels
from jobs.tables.read import TableError, column_of, keyed, read_table

FORMATS = {
    "csv": "ascii.csv",
    "ecsv": "ascii.ecsv",
    "fits": "fits",
    "vot": "votable",
    "parquet": "parquet",
    "dat": "ascii.basic",
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_gives_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels.{suffix}"
    kinds = MaskedColumn(["agn", "x", "merger"], mask=[False, True, False])
    table = Table({"PLATEIFU": ["8000-1901", "8000-1902", "8000-1903"], "kind": kinds, "mass": [9.5, np.nan, 11]})
    if suffix == "parquet":
        table.to_pandas().to_parquet(path)
    else:
        table.write(path, format=FORMATS[suffix])
    found = keyed(read_table(path), path)
    assert list(found.index) == ["8000-1901", "8000-1902", "8000-1903"]
    assert found["kind"].iloc[[0, 2]].tolist() == ["agn", "merger"]
    assert pd.isna(found["kind"].iloc[1]) or found["kind"].iloc[1] == ""
    assert found["mass"].iloc[0] == 9.5


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"a\.xls: cannot tell its format"):
        read_table(tmp_path / "a.xls")
    for name in ("a.fits", "a.vot", "a.parquet", "a.ecsv"):
        (tmp_path / name).write_text("nonsense")
        with pytest.raises(TableError, match="not a table"):
            read_table(tmp_path / name)
    with pytest.raises(TableError, match=r"none\.csv: no such file"):
        read_table(tmp_path / "none.csv")


def test_columns_are_found_in_any_capitals_or_suggested() -> None:
    table = pd.DataFrame({"AGN_CLASS": [1], "x": [2], "X": [3]})
    assert column_of(table, "agn_class", Path("t")).tolist() == [1]
    assert column_of(table, "X", Path("t")).tolist() == [3]
    with pytest.raises(TableError, match=r"no column 'agn_clas' among AGN_CLASS, x, X; did you mean AGN_CLASS\?"):
        column_of(table, "agn_clas", Path("t"))


def test_rows_are_keyed_once(tmp_path: Path) -> None:
    path = Path("t")
    table = pd.DataFrame({"plateifu": [" 1-1", "1-2", "1-2", None], "kind": ["a", "b", "b", "c"]})
    assert keyed(table, path)["kind"].to_dict() == {"1-1": "a", "1-2": "b"}
    table.loc[2, "kind"] = "other"
    with pytest.raises(TableError, match="several rows that differ for 1 galaxy, such as 1-2"):
        keyed(table, path)
    numbers = pd.DataFrame({"catid": [41144, 572402], "type": [1.0, 2.0]})
    assert list(keyed(numbers, path, "catid").index) == ["41144", "572402"]


def test_the_key_may_stand_beside_plateifu_and_be_a_number(tmp_path: Path) -> None:
    table = pd.DataFrame({"plateifu": ["a", "b", "c"], "CATID": [100162.0, np.nan, 100163.0], "kind": ["agn", "x", ""]})
    path = tmp_path / "sami.parquet"
    table.to_parquet(path)
    found = read_labels(path, ["100162", "100163"], label="kind", key="CATID")
    assert found.labelled["agn"].tolist() == [True, False]
    assert found.num_rows == 2


@pytest.mark.parametrize("label", ["P>1-2", "P>"])
def test_a_threshold_that_is_no_number_is_named(tmp_path: Path, label: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text("plateifu,P\n1-1,0.5\n")
    with pytest.raises(TableError, match="expected a number after >"):
        read_labels(path, ["1-1"], label=label, key="plateifu")


def test_sentinels_are_no_class_and_no_number(tmp_path: Path) -> None:
    rows = [("8000-1", -0.5, -0.5, 0.9), ("8000-2", -999, -999, -9999), ("8000-3", -99.0, -9999.0, 0.1)]
    table = Table(rows=rows, names=("plateifu", "bpt_x", "bpt_y", "P_MERGE"))
    for suffix in ("csv", "fits"):
        path = tmp_path / f"labels.{suffix}"
        table.write(path, format=FORMATS[suffix])
        known = [row[0] for row in rows]
        bpt = read_labels(path, known, bpt=("bpt_x", "bpt_y"), key="plateifu")
        assert {name: chosen.tolist() for name, chosen in bpt.labelled.items()} == {
            "star_forming": [True, False, False]
        }
        mergers = read_labels(path, known, label="P_MERGE>0.5", key="plateifu")
        assert mergers.plateifu.tolist() == ["8000-1", "8000-3"]


def test_galaxies_are_matched_by_names_with_leading_zeros(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("catid,kind\n00123,a\n 00124 ,b\n")
    labels = read_labels(path, ["00124", "00123", "123"], label="kind", key="catid")
    assert labels.plateifu.tolist() == ["00124", "00123"]


@pytest.mark.parametrize("cells", ["1,0,,1", "1.0,0.0,,1.0", "True,False,,True", "1,0,0,1", "true,,,true"])
def test_a_flag_is_one_class_with_the_column_s_name(tmp_path: Path, cells: str) -> None:
    path = tmp_path / "labels.csv"
    names = ["8000-1", "8000-2", "8000-3", "8000-4"]
    rows = [f"{name},{cell}" for name, cell in zip(names, cells.split(","), strict=True)]
    path.write_text("\n".join(["plateifu,barred", *rows, ""]))
    labels = read_labels(path, names, label="barred", key="plateifu")
    # An empty cell is unknown where others say no.
    unknown = "8000-3" if ",," in cells and "," * 3 not in cells else ""
    assert labels.plateifu.tolist() == [name for name in names if name != unknown]
    assert {name: labels.plateifu[chosen].tolist() for name, chosen in labels.labelled.items()} == {
        "barred": ["8000-1", "8000-4"]
    }


def test_a_table_without_the_key_tells_of_the_option(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("name,barred\n8000-1,1\n")
    with pytest.raises(TableError, match=r"no column 'plateifu' among name, barred.*; --key names the column"):
        read_labels(path, ["8000-3"], label="barred", key="plateifu")


def test_a_flag_that_is_unknown_for_all_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("plateifu,barred\n8000-1,1\n8000-2,0\n8000-3,\n")
    with pytest.raises(TableError, match="barred is empty for every galaxy that is in the catalog"):
        read_labels(path, ["8000-3"], label="barred", key="plateifu")
