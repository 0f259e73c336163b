"""Tables of surveys and users: seven formats, one content, one rule for names and for what is missing."""

import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table

from cubeprep.config import MistakeError
from cubeprep.cube import Target
from cubeprep.fits.gunzip import unzipped
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.tables import TableError, in_unit, is_velocity, name_of, number, read_table
from tests.logcube import write_survey

FORMATS = {"csv": "ascii.csv", "tsv": "ascii.tab", "ecsv": "ascii.ecsv", "fits": "fits", "vot": "votable"}
FORMATS |= {"parquet": "", "dat": "ascii.basic"}


def write(table: Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_pandas().to_parquet(path)
    else:
        table.write(path, format=FORMATS[path.suffix[1:]])
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_numbers_and_what_is_missing_are_the_same_in_every_format(tmp_path: Path, suffix: str) -> None:
    kinds = MaskedColumn(["agn", "x", "n/a", " merger "], mask=[False, True, False, False])
    columns = {
        "name": ["00123", "00124", "ngc 1", "-9999"],
        "kind": kinds,
        "z": [0.02, -9999.0, np.nan, 0.05],
        "bpt_x": np.array([-999.0, -99.0, 0.5, -99999.0]),
        "num": np.array([1, -99, 3, -999]),
        "stellar_vel": [-99.0, -999.0, -9999.0, 20.0],
    }
    found = read_table(write(Table(columns), tmp_path / f"t.{suffix}"), text=("name",))
    assert found["name"].tolist()[:3] == ["00123", "00124", "ngc 1"]
    assert pd.isna(found["name"][3])
    assert found["kind"].tolist()[::3] == ["agn", "merger"]
    assert found["kind"].isna().tolist() == [False, True, True, False]
    np.testing.assert_array_equal(found["z"], [0.02, np.nan, np.nan, 0.05])
    np.testing.assert_array_equal(found["bpt_x"], [np.nan, np.nan, 0.5, np.nan])
    assert found["num"].isna().tolist() == [False, True, False, True]
    assert found["num"][2] == 3
    np.testing.assert_array_equal(found["stellar_vel"], [-99, -999, np.nan, 20])


@pytest.mark.parametrize("suffix", ["csv", "dat"])
def test_a_column_with_a_leading_zero_is_of_names_whatever_it_is_called(tmp_path: Path, suffix: str) -> None:
    separator = "," if suffix == "csv" else "  "
    rows = [("catid", "z", "one"), ("00123", "0.02", "0"), ("123", "0.5", "7")]
    path = tmp_path / f"t.{suffix}"
    path.write_text("\n".join(separator.join(row) for row in rows))
    found = read_table(path)
    assert found["catid"].tolist() == ["00123", "123"]
    assert found["z"].tolist() == [0.02, 0.5]
    assert found["one"].tolist() == [0, 7]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfname,z\ngal1,0.02\n",
        b"# mine\nname,z\n# between\ngal1,0.02\n\n",
        b"name;z\r\n gal1 ;0.02\r\n",
        b'"name","z"\n"gal1","0.02"\n',
        b"name,z,\ngal1,0.02,\n",
        b"name, z\ngal1, 0.02",
    ],
)
def test_csv_as_people_write_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    found = read_table(path)
    assert found.to_dict("list") == {"name": ["gal1"], "z": [0.02]}
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content))
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv.gz"), found)


def test_a_cell_of_two_lines_stays_one_cell(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('name,note,z\ngal1,"two\nlines, and # more",0.1\ngal2,"a ""b""",0.2\n')
    found = read_table(tmp_path / "t.csv")
    assert found["note"].tolist() == ["two\nlines, and # more", 'a "b"']
    assert found["z"].tolist() == [0.1, 0.2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'name,z,note\na,0.1,x\nb,0.2,"open\nc,0.3,x\nd,0.4,y\n'),
        ("t.csv", 'name,z,note\na,0.1,x\nb,0.2,"3\nc,0.3,"x"\n'),
        ("t.csv", 'name\na\n"b\nc\n'),
        ("t.dat", 'name z note\na 0.1 x\nb 0.2 "3\nc 0.3 x\n'),
    ],
)
def test_a_quotation_mark_that_is_not_closed_swallows_no_rows(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TableError, match="line 3: a quotation mark is not closed before the next row"):
        read_table(tmp_path / name)


def test_identifiers_of_64_bits_stay_exact_beside_missing_ones(tmp_path: Path) -> None:
    whole = [1237668331486511235, 1237668331486511236]
    (tmp_path / "t.csv").write_text(f"id,huge\n{whole[0]},{10**30}\n,\n{whole[1]},1\n")
    arrow = pa.table({"id": [whole[0], None, whole[1]], "huge": [str(10**30), None, "1"]})
    pq.write_table(arrow, tmp_path / "t.parquet")
    for suffix in ("csv", "parquet"):
        found = read_table(tmp_path / f"t.{suffix}")
        assert found["id"].dropna().tolist() == whole
        assert pd.isna(found["id"][1])
        assert found["huge"].tolist()[::2] == [str(10**30), "1"]


def test_parquet_keeps_its_masks_units_decimals_and_named_index(tmp_path: Path) -> None:
    table = Table({"name": ["a", "b"], "z": MaskedColumn([0.03, 0.05], mask=[False, True])})
    table["v"] = [1.0, 2.0] * units.km / units.s
    table.write(tmp_path / "astropy.parquet")
    found = read_table(tmp_path / "astropy.parquet")
    np.testing.assert_array_equal(found["z"], [0.03, np.nan])
    assert found.attrs["units"] == {"v": "km / s"}
    decimals = pa.table({"p": [Decimal("0.5"), Decimal("-999")]})
    pq.write_table(decimals, tmp_path / "decimal.parquet")
    np.testing.assert_array_equal(read_table(tmp_path / "decimal.parquet")["p"], [0.5, np.nan])
    pd.DataFrame({"z": [0.1]}, index=pd.Index(["a"], name="name")).to_parquet(tmp_path / "pandas.parquet")
    assert read_table(tmp_path / "pandas.parquet").to_dict("list") == {"name": ["a"], "z": [0.1]}


def test_a_votable_whose_rows_are_elsewhere_is_refused(tmp_path: Path) -> None:
    stream = '<DATA><BINARY><STREAM encoding="base64" href="file:///etc/passwd"/></BINARY></DATA>'
    field = '<FIELD name="plateifu" datatype="char" arraysize="*"/>'
    head = '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>'
    (tmp_path / "t.vot").write_text(f"{head}{field}{stream}</TABLE></RESOURCE></VOTABLE>")
    with pytest.raises(TableError, match="its rows are in another file"):
        read_table(tmp_path / "t.vot")


def test_columns_of_votables_are_known_by_name_and_sky_positions_are_left_out(tmp_path: Path) -> None:
    table = Table({"z": [0.008], "z_1": [0.02]})
    table.write(tmp_path / "t.vot", format="votable")
    text = (tmp_path / "t.vot").read_text().replace('name="z"', 'name="z_err"').replace('name="z_1"', 'name="z"')
    (tmp_path / "t.vot").write_text(text)
    assert read_table(tmp_path / "t.vot").to_dict("list") == {"z_err": [0.008], "z": [0.02]}
    QTable({"name": ["a"], "sky": SkyCoord([1], [2], unit="deg")}).write(tmp_path / "t.ecsv")
    assert read_table(tmp_path / "t.ecsv").to_dict("list") == {"name": ["a"]}


def test_a_spreadsheet_under_another_name_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("name,z\na,0.1\n".encode("utf-16"))
    with pytest.raises(TableError, match="not text in UTF-8; save it as CSV in UTF-8"):
        read_table(tmp_path / "t.csv")


def targets_of(table: Path, content: str | Table | None) -> list[Target]:
    """Targets of a survey of a file `a.fits` beside the table, which is written unless `content` is None."""
    (table.parent / "a.fits").write_bytes(b"")
    if isinstance(content, str):
        table.write_text(content)
    elif content is not None:
        content.write(table, overwrite=True)
    config = SurveyConfig(reader="muse", root=str(table.parent), table=str(table))
    return select_targets(config, make_reader(config))


@pytest.mark.parametrize(
    ("stated", "expected", "factor"),
    [
        *(("degrees", "deg", 1), ("DEG", "deg", 1), ("Hours", "deg", 15), ("radians", "deg", 180 / np.pi)),
        *(("Arcsec", "arcsec", 1), ("arcmin", "arcsec", 60), ("none", "", 1), ("", "", 1)),
    ],
)
def test_units_are_known_as_people_write_them(stated: str, expected: str, factor: float) -> None:
    found = in_unit(pd.Series([2.0, -999.0]), stated, expected)
    assert found[0] == pytest.approx(2 * factor)
    assert np.isnan(number(found[1]))


def test_units_of_positions_and_radii_are_converted(tmp_path: Path) -> None:
    content = QTable({"name": ["a"], "z": [0.02], "ra": [10.5] * units.hourangle, "dec": [-0.02] * units.rad})
    content["re_arcsec"] = [0.05] * units.arcmin
    (target,) = targets_of(tmp_path / "t.ecsv", content)
    found = target.ra_deg, target.dec_deg, target.re_arcsec
    np.testing.assert_allclose(found, (157.5, np.degrees(-0.02), 3.0))
    for column, unit, expected in (("re_arcsec", "kpc", "arcsec"), ("z", "percent", "a pure number")):
        content[column] = [5.0] * units.Unit(unit)
        with pytest.raises(TableError, match=f"the column '{column}' is in .*, expected {expected}"):
            targets_of(tmp_path / "t.ecsv", content)
        del content[column]
        content["z"] = [0.02]


@pytest.mark.parametrize(
    ("columns", "cells", "reason"),
    [
        ("z", "0", "its redshift is 0, which stands for an unknown one"),
        ("z,ra,dec", "0.02,10:20:30,2", "ra is '10:20:30', expected degrees up to 360"),
        ("z,ra,dec", "0.02,10,-99.99", "dec is -99.99, expected degrees of -90 to 90"),
        ("z,re_arcsec", "0.02,-99.99", "re_arcsec is -99.99, expected a radius above 0"),
        ("z,depth", "0.02,deep", "depth is 'deep', expected a number"),
    ],
)
def test_values_that_cannot_be_set_their_galaxy_aside(tmp_path: Path, columns: str, cells: str, reason: str) -> None:
    (target,) = targets_of(tmp_path / "t.csv", f"name,{columns}\na,{cells}\n")
    assert target.rejected is not None
    assert reason in target.rejected[1]


def test_a_column_is_not_mistaken_for_one_in_other_capitals(tmp_path: Path) -> None:
    (target,) = targets_of(tmp_path / "t.csv", "name,Z,z\na,0.008,0.02\n")
    assert target.z == 0.02
    with pytest.raises(TableError, match="NAME and Name differ in their capitals alone; rename the right one 'name'"):
        targets_of(tmp_path / "t.csv", "NAME,Name,z\na,b,0.02\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,z\n", "it has no rows"),
        ("# name z\na,0.02\n", "The first line that is no comment must name the columns"),
    ],
)
def test_a_table_without_rows_or_header_is_told_so(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(MistakeError, match=message):
        targets_of(tmp_path / "t.csv", content)


def test_a_list_of_files_holds_paths_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table, listed = tmp_path / "t.csv", tmp_path / "files.txt"
    table.write_text("name,z\na,0.02\n")
    config = SurveyConfig(reader="muse", root=str(listed), table=str(table))
    listed.write_text("a.fits\nb.fits.1\n", encoding="utf-8-sig")
    (target,) = select_targets(config, make_reader(config))
    assert target.paths == (f"{tmp_path}/a.fits",)
    assert f"left out, since no cubes by their names: 1, such as {tmp_path}/b.fits.1" in caplog.text
    for line in ("a.fits  # good seeing", '"a.fits"', "a.fits,"):
        listed.write_text(f"b.fits\n{line}\n")
        with pytest.raises(MistakeError, match="is not a path alone"):
            select_targets(config, make_reader(config))


def test_a_bad_cell_and_a_bad_row_cost_one_galaxy_each(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.fits").write_bytes(b"")
    table = tmp_path / "t.csv"
    table.write_text("name,z,ra\na,0.02,10\nb,x.y,-999\nc,0.02,1,2,5\nd,0.03\n,0.5,1\n")
    config = SurveyConfig(reader="muse", root=str(tmp_path), table=str(table))
    targets = {target.plateifu: target for target in select_targets(config, make_reader(config))}
    assert list(targets) == ["a", "b", "c", "d"]
    assert targets["a"].rejected is None
    assert (targets["a"].z, targets["a"].ra_deg) == (0.02, 10)
    assert targets["b"].rejected == ("bad_row", f"{table}: b: z is 'x.y', expected a redshift")
    assert np.isnan(targets["b"].ra_deg)
    why = targets["c"].rejected
    assert why is not None
    assert why[0] == "bad_row"
    assert why[1] == f"{table}: line 4 has 5 cells, expected 3 as in the header; it begins with c, 0.02, 1, 2, 5"
    short = "line 5 has 2 cells, expected 3 as in the header, none for 'ra'; it begins with d, 0.03"
    assert targets["d"].rejected == ("bad_row", f"{table}: {short}")


def test_a_short_line_of_drpall_is_told_so(tmp_path: Path) -> None:
    root, table = write_survey(tmp_path / "survey", {"1-1": 0.03, "1-2": 0.03}, size=4), tmp_path / "drpall.csv"
    table.write_text("plateifu,mangaid,objra,objdec,nsa_z,drp3qual\n1-1,x,1,2,0.03,0\n1-2,y,1,2\n")
    config = SurveyConfig(root=str(root), table=str(table))
    good, short = select_targets(config, make_reader(config))
    assert (good.rejected, good.z) == (None, 0.03)
    why = "line 3 has 4 cells, expected 6 as in the header, none for 'nsa_z'; it begins with 1-2, y, 1, 2"
    assert short.rejected == ("bad_row", f"{table}: {why}")


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "parquet"])
@pytest.mark.parametrize("column", ["name", "z", "re_arcsec"])
def test_a_column_of_arrays_is_no_column_of_values(tmp_path: Path, suffix: str, column: str) -> None:
    path = tmp_path / f"t.{suffix}"
    content: dict[str, list[object]] = {"name": ["a", "b"], "z": [0.02, 0.03], "re_arcsec": [1.0, 2.0]}
    content[column] = [[value, value] for value in content[column]]
    pd.DataFrame(content).to_parquet(path) if suffix == "parquet" else write(Table(content), path)
    message = rf"t\.{suffix}: .*the column '{column}' holds an array of 2 values in row 1, expected a number or a text$"
    with pytest.raises(TableError, match=message):
        targets_of(path, None)
    assert read_table(path, columns=[name for name in content if name != column]).shape == (2, 2)


def test_a_column_of_arrays_of_different_lengths_is_no_column_of_values(tmp_path: Path) -> None:
    columns = [fits.Column("name", "1A", array=["a", "b"]), fits.Column("z", "PD()", array=[[0.02], [0.03, 0.04]])]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "t.fits")
    with pytest.raises(
        TableError, match="the column 'z' holds an array of 1 value in row 1, expected a number or a text"
    ):
        targets_of(tmp_path / "t.fits", None)


def test_objects_without_a_name_are_their_observations_own(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("name,z,object\na,0.02,\nb,0.02,n/a\nc,0.02,NGC1\nd,0.02,-9999\ne,0.02,0012\n")
    for name in "abcde":
        (tmp_path / f"{name}.fits").write_bytes(b"")
    config = SurveyConfig(reader="muse", root=str(tmp_path), table=str(table), duplicates="first")
    targets = select_targets(config, make_reader(config))
    assert [target.mangaid for target in targets] == ["a", "b", "NGC1", "d", "0012"]
    assert all(target.rejected is None for target in targets)


def test_rows_of_one_galaxy_must_not_differ_in_what_is_used(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(b"")
    table = tmp_path / "t.csv"
    config = SurveyConfig(reader="muse", root=str(tmp_path), table=str(table))
    table.write_text("name,z,note\na,0.02,x\na,0.02,y\n")
    assert len(select_targets(config, make_reader(config))) == 1
    table.write_text("name,z\nb,0.5\na,0.02\na,0.03\n")
    with pytest.raises(ValueError, match=r"t\.csv: two rows of a differ: row 2 has z = 0.02; row 3 has z = 0.03"):
        select_targets(config, make_reader(config))


def test_a_table_that_is_not_there_or_of_no_known_format_is_named(tmp_path: Path) -> None:
    for name, message in (("none.csv", "no such file; survey.table"), ("t.xls", "cannot tell its format from '.xls'")):
        config = SurveyConfig(reader="muse", root=str(tmp_path), table=str(tmp_path / name))
        with pytest.raises(ValueError, match=message):
            select_targets(config, make_reader(config))
    for name, content in (("empty.csv", b""), ("two.csv", b"a,a\n1,2\n"), ("utf16.csv", "a,b\n".encode("utf-16"))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TableError, match=rf"{name}: not a table that can be read as \.csv"):
            read_table(tmp_path / name)


def test_only_the_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    path = write(Table({"NAME": ["a"], "z": [1.0], "wide": [[1.0, 2.0]]}), tmp_path / "t.fits")
    found = read_table(path, columns=("name", "absent"))
    assert list(found) == ["NAME"]
    assert found.attrs["columns"] == ["NAME", "z", "wide"]


@pytest.mark.parametrize("value", [None, np.ma.masked, pd.NA, "", "n/a", float("nan"), -99, "-999", np.float32(-9999)])
def test_one_rule_for_what_is_missing_also_for_cards(value: object) -> None:
    assert np.isnan(number(value))
    assert name_of(value) == "" or value in (-99, np.float32(-9999))


def test_numbers_and_names_that_are_there() -> None:
    assert [number(value) for value in ("0.5", -98.9, np.int16(3), -1)] == [0.5, -98.9, 3, -1]
    assert number(-999.0, velocity=True) == -999
    assert np.isnan(number(-9999.0, velocity=True))
    assert [name_of(value) for value in (" 00123 ", 12, 12.0, "NGC 1")] == ["00123", "12", "12", "NGC 1"]


@pytest.mark.parametrize("name", ["stellar_vel", "VEL", "gas_velocity", "v_sys", "vlos", "cz_helio"])
def test_velocities_are_known_by_name(name: str) -> None:
    assert is_velocity(name)


@pytest.mark.parametrize("name", ["z", "v_mag", "level", "bpt_x", "dec", "novel"])
def test_other_columns_are_no_velocities(name: str) -> None:
    assert not is_velocity(name)
    assert is_velocity(name, "km / s")
    assert is_velocity(name, "km s-1")
    assert not is_velocity(name, "Msun")


def test_what_unzips_to_more_than_is_allowed_is_refused_before_it_is_held() -> None:
    content = gzip.compress(bytes(9 << 20))
    assert unzipped(content, 9 << 20) == bytes(9 << 20)
    assert unzipped(b"plain", 5) == b"plain"
    with pytest.raises(OSError, match="it is larger than 0 MiB"):
        unzipped(b"plain", 4)
    with pytest.raises(OSError, match="larger than 8 MiB"):
        unzipped(content, 8 << 20)
    with pytest.raises(OSError, match="damaged gzip"):
        unzipped(content[:-20])


def test_redshifts_that_are_none_are_refused_with_their_cell_or_unit(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(b"")
    table = tmp_path / "table.csv"
    table.write_text("name,z\na,26400 km/s\n")
    config = SurveyConfig(reader="muse", root=str(tmp_path), table=str(table))
    (target,) = select_targets(config, make_reader(config))
    assert target.rejected == ("bad_row", f"{table}: a: z is '26400 km/s', expected a redshift")
    config = config.model_copy(update={"table": str(tmp_path / "table.ecsv")})
    Table({"name": ["a"], "z": [26400.0] * units.km / units.s}).write(str(config.table))
    with pytest.raises(ValueError, match=r"the column 'z' is in km / s, expected a pure number"):
        select_targets(config, make_reader(config))
