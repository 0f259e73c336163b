"""The catalog in HATS opens in LSDB and hats with all rows, where they are on the sky, described as ours are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from jobs import cli
from jobs.tables.hats import write_hats
from modeling.catalog import read_catalog, write_catalog
from tests.holders import holding
from tests.jobs.catalogs import write_synthetic_catalog

if TYPE_CHECKING:
    import lsdb

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def catalog_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hats") / "catalog.parquet"
    write_synthetic_catalog(path)
    (path.with_suffix(".hats") / "earlier").mkdir(parents=True)
    write_hats(read_catalog(path), path, "manga")
    return path


@pytest.fixture(scope="module")
def opened(catalog_path: Path) -> lsdb.Catalog:
    import lsdb  # takes a second, which each process of the suite would pay at the top

    return lsdb.open_catalog(catalog_path.with_suffix(".hats"))


def export(path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli.main, ["export", "line", "--set", f"workspace={path.parent}", *options])


def test_the_same_rows_come_back(opened: lsdb.Catalog, catalog_path: Path) -> None:
    expected = read_catalog(catalog_path).table.set_index("plateifu")
    found = opened.compute().set_index("plateifu").loc[expected.index]
    assert list(found.columns) == [*expected.columns, "url", "other_observations"]
    for name in ("z", "ra_deg", "score", "rank", "mangaid"):
        assert found[name].tolist() == expected[name].tolist()
    np.testing.assert_array_equal(found["share_Hb-4862"].to_numpy(float, na_value=np.nan), expected["share_Hb-4862"])
    assert expected["share_Hb-4862"].isna().sum() == 9
    for name in ("neighbours", "neighbour_distances"):
        assert [list(row) for row in found[name]] == [list(row) for row in expected[name]]


def test_a_cone_holds_the_galaxies_within_its_radius(opened: lsdb.Catalog, catalog_path: Path) -> None:
    table = read_catalog(catalog_path).table
    centre = table.iloc[3]
    unit = [
        np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
        for ra, dec in np.radians(table[["ra_deg", "dec_deg"]].to_numpy())
    ]
    near = table["plateifu"][np.degrees(np.arccos(np.clip(unit @ unit[3], -1, 1))) < 30]
    assert 1 < len(near) < len(table)
    cone = opened.cone_search(ra=centre.ra_deg, dec=centre.dec_deg, radius_arcsec=30 * 3600).compute()
    assert sorted(cone["plateifu"]) == sorted(near)


def test_another_catalog_is_matched_with_it(opened: lsdb.Catalog, catalog_path: Path) -> None:
    import lsdb

    table = read_catalog(catalog_path).table
    assert opened.margin is not None  # without one, LSDB warns that matches at the edges of parts are lost
    other = pd.DataFrame({"ra": table["ra_deg"], "dec": table["dec_deg"] + 1 / 3600, "name": table["plateifu"]})
    pairs = lsdb.from_dataframe(other).crossmatch(opened, radius_arcsec=2, suffix_method="overlapping_columns")
    found = pairs.compute()
    assert len(found) == len(table)
    assert (found["name"] == found["plateifu"]).all()


def test_it_keeps_to_the_format_and_names_what_it_was_made_from(catalog_path: Path) -> None:
    import hats
    from hats.io.validation import is_valid_collection

    folder = catalog_path.with_suffix(".hats")
    assert is_valid_collection(folder, strict=True)
    assert sorted(path.name for path in folder.iterdir()) == ["collection.properties", "cubescout", "cubescout_5arcs"]
    catalog = hats.read_hats(folder).main_catalog
    assert catalog.catalog_info.total_rows == 60
    field = catalog.schema.field("score_mae")
    assert field.metadata[b"unit"] == b"1e-17 erg / (s cm2 Angstrom spaxel)"
    assert field.metadata[b"description"].startswith(b"Mean |flux - reconstruction|")
    assert "cubescout_store=abc" in (folder / "cubescout" / "hats.properties").read_text()


def test_the_command_writes_it_where_it_is_asked_for(tmp_path: Path) -> None:
    import lsdb

    path = tmp_path / "catalog.parquet"
    write_synthetic_catalog(path, num_galaxies=3)
    assert export(path, "--format", "fits").exit_code == 0
    assert not path.with_suffix(".hats").exists()
    result = export(path, "--format", "hats")
    assert result.exit_code == 0, result.output
    found = lsdb.open_catalog(path.with_suffix(".hats")).compute()
    assert len(found) == 3
    assert str(found["other_observations"].dtype) == "list<element: string>[pyarrow]"  # all are empty
    assert not path.with_suffix(".vot").exists()


def test_it_needs_lsdb_and_positions_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "catalog.parquet"
    write_synthetic_catalog(path, num_galaxies=3)
    found = read_catalog(path)
    write_catalog(path, found.table.assign(ra_deg=np.nan), found.columns, found.provenance)
    result = export(path, "--format", "hats")
    assert (result.exit_code, "3 of 3 galaxies without a position" in result.output) == (1, True)
    write_catalog(path, found.table, found.columns, found.provenance)
    monkeypatch.setitem(sys.modules, "lsdb", None)
    result = export(path, "--format", "hats")
    assert (result.exit_code, "pip install 'cubescout[hats]'" in result.output) == (1, True)
    assert {path.name for path in tmp_path.iterdir()} == {"catalog.latents.parquet", "catalog.parquet"}


def test_a_second_process_is_refused_while_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    write_synthetic_catalog(path, num_galaxies=3)
    unfinished = tmp_path / ".catalog.hats.partial" / "cubescout"
    unfinished.mkdir(parents=True)
    with holding(path.with_suffix(".hats")):
        result = export(path, "--format", "hats")
    assert (result.exit_code, "catalog.hats: process" in " ".join(result.output.split())) == (2, True), result.output
    assert unfinished.exists()
