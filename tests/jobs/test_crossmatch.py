"""Crossmatch: matches by position against those made by hand, any format, identifiers, ambiguity, and the page."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner

from jobs import cli
from jobs.page.columns import column_arrays
from jobs.tables.matches import with_matches
from modeling.catalog import Column, read_catalog, write_catalog
from tests.jobs.catalogs import write_synthetic_catalog

BIG = 1237648720693755918  # an SDSS objid, which a float rounds to ...936


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_synthetic_catalog(tmp_path / "catalog.parquet")
    return tmp_path


def moved(row: pd.Series, arcsec: float, angle_deg: float = 60.0) -> SkyCoord:
    """Position at a distance from that of a galaxy."""
    return SkyCoord(row["ra_deg"], row["dec_deg"], unit="deg").directional_offset_by(
        angle_deg * u.deg, arcsec * u.arcsec
    )


def other_catalog(workspace: Path) -> Table:
    """Matches of galaxy 0 (at 1.5 and 0.5 arcsec), galaxy 1 (at 1.9) and galaxy 2 (at 2.1), and one on the far side."""
    rows = read_catalog(workspace / "catalog.parquet").table
    places = [moved(rows.iloc[i], d) for i, d in ((0, 1.5), (0, 0.5), (1, 1.9), (2, 2.1))]
    places.append(SkyCoord((rows["ra_deg"].iloc[5] + 180) % 360, -60, unit="deg"))
    return Table(
        {
            "RA": [place.ra.deg for place in places] * u.deg,
            "DEC": [place.dec.deg for place in places] * u.deg,
            "objid": np.array([BIG, BIG + 1, BIG + 2, BIG + 3, BIG + 4]),
            "flux_w3": np.array([1.0, 2.0, 3.0, 4.0, 5.0]) * u.mJy,
            "name": ["a", "b", "c", "d", "e"],
            "agn": [False, True, True, False, True],
        }
    )


def run(workspace: Path, *arguments: object) -> tuple[int, str]:
    command = ["crossmatch", "demo", *map(str, arguments), "--set", f"workspace={workspace}"]
    result = CliRunner().invoke(cli.main, command)
    return result.exit_code, result.output


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "vot", "parquet"])
def test_the_nearest_row_is_taken_and_the_others_are_counted(workspace: Path, suffix: str) -> None:
    path = workspace / f"WISE.{suffix}"
    other_catalog(workspace).write(path, **({"format": "votable"} if suffix == "vot" else {}))
    code, text = run(workspace, path)
    assert code == 0, text
    assert "2 of 60 galaxies with a match within 2 arcsec, 1 with several (WISE_num_matches)" in text
    found = read_catalog(workspace / "catalog.match-WISE.parquet")
    table = found.table
    assert table["WISE_num_matches"].tolist() == [2, 1, *[0] * 58]
    np.testing.assert_allclose(table["WISE_separation_arcsec"][:2], [0.5, 1.9], atol=1e-4)
    assert table["WISE_separation_arcsec"][2:].isna().all()
    assert table["WISE_objid"].tolist() == [str(BIG + 1), str(BIG + 2), *[""] * 58]
    assert table["WISE_name"].tolist() == ["b", "c", *[""] * 58]
    assert table["WISE_agn"].tolist() == ["True", "True", *[""] * 58]
    assert table["WISE_flux_w3"].tolist()[:2] == [2.0, 3.0]
    assert math.isnan(table["WISE_flux_w3"][2])
    assert found.columns["WISE_flux_w3"].unit == ("mJy" if suffix != "csv" else "")
    assert found.columns["WISE_separation_arcsec"].unit == "arcsec"
    pd.testing.assert_frame_equal(
        table[list(read_catalog(workspace / "catalog.parquet").table)],
        read_catalog(workspace / "catalog.parquet").table,
    )


def test_provenance_names_the_table_and_both_catalogs(workspace: Path) -> None:
    other_catalog(workspace).write(workspace / "wise.fits")
    assert run(workspace, workspace / "wise.fits", "--radius", "0.05arcmin")[0] == 0
    found, own = (read_catalog(workspace / f"catalog{name}.parquet") for name in (".match-wise", ""))
    assert (
        found.provenance.pop("crossmatch").items()
        >= {
            "table": str(workspace / "wise.fits"),
            "radius_arcsec": 3.0,
            "positions": ["RA", "DEC"],
        }.items()
    )
    assert found.provenance == own.provenance
    assert found.table["wise_num_matches"].tolist()[:3] == [2, 1, 1]
    for suffix in ("fits", "vot"):
        table = Table.read(workspace / f"catalog.match-wise.{suffix}")
        assert table["wise_flux_w3"].unit == u.mJy
        assert table["wise_num_matches"].tolist() == found.table["wise_num_matches"].tolist()


def test_positions_in_hours_under_other_names_and_chosen_columns(workspace: Path) -> None:
    table = other_catalog(workspace)
    place = SkyCoord(table["RA"], table["DEC"])
    table["alpha"], table["delta"] = place.ra.to_string("hour", sep=":", precision=4), place.dec.to_string(sep=":")
    table.remove_columns(["RA", "DEC"])
    table["alpha"][4] = ""
    table.write(workspace / "x.csv")
    code, text = run(workspace, workspace / "x.csv")
    assert code == 2
    assert "no column of positions is known among objid, flux_w3, name, agn, alpha, delta; " in text
    assert "name the columns with --ra and --dec" in text
    settings = ["--ra", "alpha", "--dec", "delta", "--prefix", "p", "--column", "NAME"]
    code, text = run(workspace, workspace / "x.csv", *settings)
    assert code == 0, text
    found = read_catalog(workspace / "catalog.match-p.parquet").table
    assert [name for name in found if name.startswith("p_")] == [
        *("p_alpha", "p_delta", "p_name", "p_separation_arcsec", "p_num_matches"),
    ]
    assert found["p_name"].tolist()[:3] == ["b", "c", ""]


def test_right_ascensions_in_hours_are_written_although_fits_has_no_such_unit(workspace: Path) -> None:
    table = other_catalog(workspace)
    table["RA"] = table["RA"].to(u.hourangle)
    table.write(workspace / "o.ecsv")
    code, text = run(workspace, workspace / "o.ecsv")
    assert code == 0, text
    found = read_catalog(workspace / "catalog.match-o.parquet")
    assert found.columns["o_RA"] == Column("RA of o.ecsv, in hourangle")
    assert (found.table["o_num_matches"] > 0).any()
    assert (workspace / "catalog.match-o.vot").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--radius", "far"], "--radius far: expected an angle such as 2arcsec"),
        (["--radius", "2 km"], "--radius 2 km: expected an angle"),
        (["--radius=-1"], "--radius -1: expected an angle above 0"),
        (["--prefix", "2mass"], "--prefix 2mass: expected letters"),
        (["--column", "magg"], "no column 'magg'"),
        (["--ra", "ra"], "--ra and --dec: expected both"),
        (["--prefix", "total"], "the catalog has columns of that name already (total_flux)"),
        (["--prefix", "share"], "--prefix share: columns of the catalog itself begin so"),
        (["--prefix", "score_x"], "--prefix score_x: columns of the catalog itself begin so"),
    ],
)
def test_mistakes_of_the_command_are_named(workspace: Path, arguments: list[str], message: str) -> None:
    other = other_catalog(workspace)
    other["flux"] = 1.0
    other.write(workspace / "o.fits")
    code, text = run(workspace, workspace / "o.fits", *arguments)
    assert code == 2
    assert message in text
    assert not list(workspace.glob("catalog.match*"))


def test_a_galaxy_without_a_position_has_no_match(workspace: Path) -> None:
    other_catalog(workspace).write(workspace / "o.fits")
    path = workspace / "catalog.parquet"
    catalog = read_catalog(path)
    catalog.table.loc[0, "ra_deg"] = np.nan
    write_catalog(path, catalog.table, catalog.columns, catalog.provenance)
    code, text = run(workspace, workspace / "o.fits")
    assert code == 0
    assert "1 galaxy of the catalog without a position" in text
    assert read_catalog(workspace / "catalog.match-o.parquet").table["o_num_matches"].tolist()[:3] == [0, 1, 0]


def test_the_page_has_the_columns_of_this_catalog_and_of_no_other(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other_catalog(workspace).write(workspace / "w.fits")
    path = workspace / "catalog.parquet"
    assert run(workspace, workspace / "w.fits")[0] == 0
    assert run(workspace, workspace / "w.fits", "--prefix", "v", "--radius", "3")[0] == 0
    described, arrays = column_arrays(with_matches(read_catalog(path), path))
    shown = {item["name"]: item for item in described}
    assert shown["w_flux_w3"]["unit"] == "mJy"
    assert arrays["w_num_matches"].tolist()[:3] == [2, 1, 0]
    assert arrays["v_num_matches"].tolist()[:3] == [2, 1, 1]
    catalog = read_catalog(path)
    write_catalog(path, catalog.table, catalog.columns, catalog.provenance | {"created_utc": "2026-11-27T00:00:00"})
    assert "w_flux_w3" not in with_matches(read_catalog(path), path).table
    assert "catalog.match-w.parquet is left out: it was made from another catalog" in caplog.text


@pytest.mark.parametrize(
    ("suffix", "kind", "first", "expected"),
    [
        ("csv", np.uint64, 2**63 + 1024, str),  # an SDSS specObjID
        ("parquet", np.uint64, 2**63 - 100, str),
        ("parquet", np.int64, 1237648720693755918, str),
        ("parquet", np.int64, 2**53 - 100, int),
        ("parquet", np.uint16, 65000, int),
    ],
)
def test_integers_are_exact_where_every_galaxy_matches(
    workspace: Path, suffix: str, kind: type, first: int, expected: type
) -> None:
    ours = read_catalog(workspace / "catalog.parquet").table
    numbers = [first + row for row in range(len(ours))]
    other = pd.DataFrame({"ra": ours["ra_deg"], "dec": ours["dec_deg"], "id": np.array(numbers, dtype=kind)})
    path = workspace / f"o.{suffix}"
    other.to_csv(path, index=False) if suffix == "csv" else other.to_parquet(path)
    code, text = run(workspace, path)
    assert code == 0, text
    assert "60 of 60 galaxies with a match" in text
    wanted = [expected(number) for number in numbers]
    assert read_catalog(workspace / "catalog.match-o.parquet").table["o_id"].tolist() == wanted
    for made in ("fits", "vot"):
        written = Table.read(workspace / f"catalog.match-o.{made}")["o_id"]
        assert [value.decode() if isinstance(value, bytes) else value for value in written.tolist()] == wanted


def test_integers_without_a_match_are_missing(workspace: Path) -> None:
    path = workspace / "far.csv"
    path.write_text("ra,dec,w\n10.6,-85.0,1\n")
    code, text = run(workspace, path)
    assert code == 0, text
    assert read_catalog(workspace / "catalog.match-far.parquet").table["far_w"].isna().all()
    assert (
        "far.csv: right ascensions of 10.6 to 10.6 and declinations of -85 to -85 deg; the catalog: right asc" in text
    )
    assert " deg apart; right ascensions of no more than 24 may be hours" in text.replace("\n", " ")


def test_degrees_with_leading_zeros_are_degrees(workspace: Path) -> None:
    row = read_catalog(workspace / "catalog.parquet").table.iloc[0]
    path = workspace / "padded.csv"
    path.write_text(f"ra,dec\n{row['ra_deg']:011.7f},{row['dec_deg']:+011.7f}\n001.0000000,-80.0000000\n")
    code, text = run(workspace, path)
    assert code == 0, text
    assert "1 of 60 galaxies with a match" in text


def test_each_position_is_read_by_itself(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (row for _, row in read_catalog(workspace / "catalog.parquet").table.iloc[:2].iterrows())
    place = SkyCoord(second["ra_deg"], second["dec_deg"], unit="deg")
    path = workspace / "mixed.csv"
    sexagesimal = f"{place.ra.to_string('hour', sep=':', precision=4)},{place.dec.to_string(sep=' ', precision=3)}"
    minus = "\N{MINUS SIGN}" if first["dec_deg"] < 0 else ""
    degrees = f"{first['ra_deg']:.7f},{minus}{abs(first['dec_deg']):.7f}"
    path.write_text(f"ra,dec\n{degrees}\n{sexagesimal}\n?,2.5\n10.25,-99.99\n,\n")
    code, text = run(workspace, path)
    assert code == 0, text
    assert "2 of 60 galaxies with a match" in text
    assert "2 rows without a position that can be read, such as ra ? and dec 2.5" in caplog.text + text
    assert "3 rows of mixed.csv without a position" in text
    path.write_text("ra,dec\n?,2.5\n")
    code, text = run(workspace, path)
    assert code == 2
    assert "ra and dec hold no positions, such as ra ? and dec 2.5" in text


@pytest.mark.parametrize(
    ("units", "in_text"), [(("h", "deg"), False), (("degrees", "degrees"), False), (('"h:m:s"', '"d:m:s"'), True)]
)
def test_units_of_positions_are_those_that_surveys_write(
    workspace: Path, units: tuple[str, str], in_text: bool
) -> None:
    row = read_catalog(workspace / "catalog.parquet").table.iloc[0]
    place = SkyCoord(row["ra_deg"], row["dec_deg"], unit="deg")
    ra, dec = place.ra.hour if units[0] == "h" else place.ra.deg, place.dec.deg
    if in_text:
        ra, dec = place.ra.to_string("hour", sep=" ", precision=4), place.dec.to_string(sep=" ", precision=3)
    table = Table({"RAJ2000": [ra], "DEJ2000": [dec]})
    for name, unit in zip(table.colnames, units, strict=True):
        table[name].unit = u.Unit(unit, parse_strict="silent")
    table.write(workspace / "units.vot", format="votable")
    code, text = run(workspace, workspace / "units.vot")
    assert code == 0, text
    assert "1 of 60 galaxies with a match" in text


def test_right_ascensions_beyond_24_hours_are_refused(workspace: Path) -> None:
    path = workspace / "degrees.csv"
    path.write_text("ra,dec\n112:27:39,-01:23:45\n")
    code, text = run(workspace, path)
    assert code == 2
    assert "degrees.csv: ra and dec hold no positions" in text
    assert "112" in text


def test_names_beyond_ascii_are_written_without_accents_where_the_format_needs_it(workspace: Path) -> None:
    path, name = workspace / "Véron.csv", "z_spéc"
    table = other_catalog(workspace)
    table.rename_column("flux_w3", name)
    table.write(path, format="ascii.csv")
    code, text = run(workspace, path, "--prefix", "veron")
    assert code == 0, text
    made = workspace / "catalog.match-veron.parquet"
    assert f"veron_{name}" in read_catalog(made).table
    assert "veron_z_spec" in Table.read(made.with_suffix(".vot"), format="votable").colnames
    with fits.open(made.with_suffix(".fits")) as hdus:
        assert "veron_z_spec" in hdus[1].columns.names
        assert r"RA of V\xe9ron.csv" in hdus[1].header["TCOMM*"].values()
