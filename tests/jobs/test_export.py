"""The catalog as FITS and VOTable: valid by the standards' own checks, and all there when it is opened again."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.io.votable import parse, ucd, validate
from astropy.table import Table
from click.testing import CliRunner

from cubeprep.facts import SurveyFacts
from cubeprep.line_ratios import COLUMNS as LINE_RATIOS
from jobs import cli
from jobs.config import ProjectConfig
from jobs.tables.survey_links import other_observations, page_urls, page_urls_of_store, survey_name
from jobs.tables.ucds import UCDS, ucd_of
from jobs.tables.write import write_exports
from modeling.catalog import Column, read_catalog, write_catalog
from tests.jobs.catalogs import write_synthetic_catalog

FLUX_PER_SPAXEL = u.Unit("1e-17 erg / (s cm2 Angstrom pix)")  # FITS and VOTable have no unit "spaxel"
LATER = {
    "is_find": Column("Whether it is a find"),
    "p_value": Column("Conformal p-value"),
    "triage": Column("Why it may be an artefact"),
    "reason_1": Column("What is unusual, in words"),
}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With columns that come and go: booleans, texts that are missing, letters beyond ASCII, numbers that are NaN."""
    path = tmp_path_factory.mktemp("export") / "catalog.parquet"
    write_synthetic_catalog(path)
    found = read_catalog(path)
    more = {
        "is_find": found.table["rank"] < 4,
        "p_value": np.where(found.table["rank"] == 2, np.nan, 0.5),
        "triage": "",
        "reason_1": [f"{i} ± 1 Å off" if i % 2 else None for i in range(len(found.table))],
    }
    write_catalog(path, found.table.assign(**more), found.columns | LATER, found.provenance)
    write_exports(path, "manga")
    return path


def test_the_votable_breaks_no_rule(catalog: Path) -> None:
    report = io.StringIO()
    assert validate(str(catalog.with_suffix(".vot")), output=report), report.getvalue()
    parse(catalog.with_suffix(".vot"), verify="exception")


@pytest.mark.parametrize("suffix", [".vot", ".fits"])
def test_the_same_rows_come_back(catalog: Path, suffix: str) -> None:
    expected = read_catalog(catalog)
    table = Table.read(catalog.with_suffix(suffix))
    table.convert_bytestring_to_unicode()
    assert table.colnames == [*expected.table, "url", "other_observations"]
    for name, values in expected.table.items():
        if name in ("neighbours", "reason_1", "triage"):
            continue
        want = np.stack(values.to_list()) if values.dtype == object and name != "mangaid" else values.to_numpy()
        np.testing.assert_array_equal(np.asarray(table[name]), want, err_msg=name)
    assert [row.split() for row in table["neighbours"]] == [list(row) for row in expected.table["neighbours"]]
    assert table["reason_1"][1] == "1 +/- 1 \\xc5 off"
    assert table["score_mae"].unit == FLUX_PER_SPAXEL
    assert table["ra_deg"].unit == u.deg
    assert table["url"][0] == f"https://dr17.sdss.org/marvin/galaxy/{expected.table['plateifu'][0]}/"


def test_every_column_has_a_description_and_a_ucd_of_the_vocabulary(catalog: Path) -> None:
    header = fits.getheader(catalog.with_suffix(".fits"), 1)
    fields = parse(catalog.with_suffix(".vot")).get_first_table().fields
    # TOPCAT (STIL of 4.8) cannot read a bit in a binary table.
    assert {field.datatype for field in fields} == {"boolean", "char", "double", "long"}
    described = read_catalog(catalog).columns
    for i, field in enumerate(fields, start=1):
        ucd.parse_ucd(field.ucd, check_controlled_vocabulary=True)
        assert field.description
        assert header[f"TUCD{i}"] == field.ucd == ucd_of(field.name)
        if field.name in described:
            assert header[f"TCOMM{i}"] == described[field.name].description


def test_all_ucds_are_of_the_vocabulary() -> None:
    for word in UCDS.values():
        ucd.parse_ucd(word, check_controlled_vocabulary=True)
    assert ucd_of("score_nll") == "stat.likelihood"
    for name in LINE_RATIOS:
        ucd.parse_ucd(ucd_of(name), check_controlled_vocabulary=True)
        assert ucd_of(name).startswith("stat.error;") == name.endswith("_error")
    assert [ucd_of(f"sdss_{name}") for name in ("z", "separation_arcsec", "num_matches", "e_error")] == [
        "", "pos.angDistance", "meta.number", "",
    ]  # fmt: skip
    assert ucd_of("share_Ha-6564").endswith("em.line")


def test_the_position_has_its_frame_and_the_tables_say_what_they_were_made_from(catalog: Path) -> None:
    resource = parse(catalog.with_suffix(".vot")).resources[0]
    assert resource.coordinate_systems[0].system == "ICRS"
    by_name = {field.name: field for field in resource.tables[0].fields}
    assert by_name["ra_deg"].ref == by_name["dec_deg"].ref == resource.coordinate_systems[0].ID
    assert {info.name: info.value for info in resource.infos}["model.reference"] == "models:/m/1"
    header = fits.getheader(catalog.with_suffix(".fits"), 1)
    assert header["RADESYS"] == "ICRS"
    assert "model.reference = models:/m/1" in list(header["HISTORY"])


def test_the_calibration_stays_in_the_parquet_file(catalog: Path) -> None:
    found = read_catalog(catalog)
    calibration = {"judges": [{"velocity_kms": [0.0] * 100}], "by_redshift": {"nodes": [1.0] * 100}}
    write_catalog(catalog, found.table, found.columns, found.provenance | calibration)
    write_exports(catalog, "")
    names = [info.name for info in parse(catalog.with_suffix(".vot")).resources[0].infos]
    names += [text.partition(" = ")[0] for text in fits.getheader(catalog.with_suffix(".fits"), 1)["HISTORY"]]
    assert "model.reference" in names
    assert not [name for name in names if name.startswith(("judges", "by_redshift"))]
    assert read_catalog(catalog).provenance["judges"] == calibration["judges"]


def test_repeat_observations_are_linked(catalog: Path) -> None:
    table = Table.read(catalog.with_suffix(".vot"))
    objects = dict(zip(table["plateifu"], table["mangaid"], strict=True))
    linked = {row["plateifu"]: row["other_observations"].split() for row in table if row["other_observations"]}
    assert len(linked) == 12
    for name, others in linked.items():
        assert [objects[other] for other in others] == [objects[name]]
    assert other_observations(["a", "b", "a", "a"], ["1", "2", "3", "4"]) == [["3", "4"], [], ["1", "4"], ["1", "3"]]


def test_pages_need_a_survey_that_has_them_and_a_position_where_they_go_by_it() -> None:
    table = pd.DataFrame({"plateifu": ["8485-1901", "a b"], "ra_deg": [232.5, np.nan], "dec_deg": [-48.5, np.nan]})
    assert page_urls("manga", table)[1] == "https://dr17.sdss.org/marvin/galaxy/a%20b/"
    assert "232.500000d%20-48.500000d" in page_urls("sami", table)[0]
    assert "pos=232.500000,-48.500000" in page_urls("muse", table)[0]
    assert [page_urls(name, table)[1] for name in ("sami", "muse", "simulated", "other")] == [""] * 4


def test_simulated_galaxies_have_no_page(tmp_path: Path) -> None:
    config = ProjectConfig(workspace=tmp_path)
    assert survey_name(config) == "manga"
    (tmp_path / "survey").mkdir()
    (tmp_path / "survey" / "simulate.json").write_text("{}")
    assert survey_name(config) == "simulated"


def test_the_store_knows_the_pages_of_its_galaxies_unless_an_earlier_version_made_it(tmp_path: Path) -> None:
    table, config = pd.DataFrame({"plateifu": ["8485-1901"]}), ProjectConfig(workspace=tmp_path)
    own = SurveyFacts("erg", page_url="https://example.org/{plateifu}").to_json()
    expected = {
        "https://example.org/8485-1901": {"survey_facts": own},
        "": {"survey_facts": own | {"page_url": ""}},
        "https://dr17.sdss.org/marvin/galaxy/8485-1901/": {"survey_facts": {}},
    }
    for url, attrs in expected.items():
        assert page_urls_of_store(attrs, config, table) == [url]


def test_the_command_writes_what_is_asked_for(tmp_path: Path) -> None:
    write_synthetic_catalog(tmp_path / "catalog.parquet", num_galaxies=1)
    command = ["export", "demo", "--set", f"workspace={tmp_path}", "--format", "votable"]
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 0, result.output
    assert validate(str(tmp_path / "catalog.vot"), output=io.StringIO())
    assert not (tmp_path / "catalog.fits").exists()


def test_without_a_catalog_it_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["export", "demo", "--set", f"workspace={tmp_path}"])
    assert result.exit_code == 2
    assert "no catalog here" in result.output


def test_a_unit_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    write_synthetic_catalog(path)
    found = read_catalog(path)
    write_catalog(path, found.table, found.columns | {"z": Column("Redshift", "furlong")}, found.provenance)
    with pytest.raises(ValueError, match="column z: 'furlong' is not a valid unit"):
        write_exports(path, "manga")
