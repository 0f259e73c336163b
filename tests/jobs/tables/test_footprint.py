"""The footprint opens in mocpy, contains the galaxies' circles and little more, and needs positions and a size."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from click.testing import CliRunner, Result
from mocpy import MOC

from cubeprep.facts import SurveyFacts
from jobs import cli
from jobs.config import ProjectConfig
from jobs.tables.footprint import FootprintError, located, window_radius_arcsec, write_footprint
from modeling.catalog import read_catalog, write_catalog
from tests.jobs.catalogs import write_synthetic_catalog
from tests.synthetic import synthetic_store


@pytest.fixture
def catalog_path(tmp_path: Path) -> Path:
    write_synthetic_catalog(tmp_path / "catalog.parquet")
    return tmp_path / "catalog.parquet"


def lose_positions(path: Path, rows: slice) -> None:
    found = read_catalog(path)
    table = found.table.copy()
    table.loc[table.index[rows], "dec_deg"] = np.nan
    write_catalog(path, table, found.columns, found.provenance)


def export(path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli.main, ["export", "line", "--set", f"workspace={path.parent}", *options])


@pytest.mark.parametrize("radius_arcsec", [4.0, 11.3, 60.0])
def test_it_contains_the_circles_and_little_more(catalog_path: Path, radius_arcsec: float) -> None:
    catalog = read_catalog(catalog_path)
    moc = MOC.from_fits(write_footprint(catalog, catalog_path, radius_arcsec))
    galaxies = SkyCoord(catalog.table["ra_deg"], catalog.table["dec_deg"], unit="deg")
    around = np.arange(0, 360, 15) * u.deg
    for share, within in ((0.0, True), (0.99, True), (1.6, False)):
        places = galaxies[:, None].directional_offset_by(around, share * radius_arcsec * u.arcsec)
        assert (moc.contains_skycoords(places) == within).all()
    assert not moc.contains_skycoords(SkyCoord(0, -85, unit="deg")).any()
    circles = len(galaxies) * np.pi * np.radians(radius_arcsec / 3600) ** 2 / (4 * np.pi)
    assert 1 <= moc.sky_fraction / circles < 1.45


def test_the_command_writes_it_with_the_radius_of_the_windows(catalog_path: Path) -> None:
    result = export(catalog_path)
    assert result.exit_code == 0, result.output
    header = fits.getheader(catalog_path.with_name("catalog.moc.fits"), 1)
    assert header["RADIUS"] == pytest.approx(32 * 0.5 / 2**0.5)  # MaNGA's spaxels are half an arcsec wide
    assert header["NUMGAL"] == 60
    assert header["MOCORDER"] == 17
    assert "circles of 11.3 arcsec" in result.output
    assert catalog_path.with_suffix(".vot").exists()


def test_the_radius_is_that_of_the_scored_windows_whatever_the_configuration_says(catalog_path: Path) -> None:
    facts = SurveyFacts("erg", spaxel_arcsec=0.2).to_json()
    store = synthetic_store(catalog_path.with_name("windows.zarr"), shape=(2, 4, 16), survey_facts=facts)
    found = read_catalog(catalog_path)
    provenance = found.provenance | {"store": {"identity": store.identity, "path": store.path}}
    write_catalog(catalog_path, found.table, found.columns, provenance)
    result = export(catalog_path, "--format", "moc")
    assert (result.exit_code, "configuration" in result.output) == (0, False), result.output
    header = fits.getheader(catalog_path.with_name("catalog.moc.fits"), 1)
    assert header["RADIUS"] == pytest.approx(16 * 0.2 / 2**0.5)


def test_without_the_store_the_configuration_decides_and_it_says_so(catalog_path: Path) -> None:
    said = " ".join(export(catalog_path, "--format", "moc").output.split())
    assert "The circles are those of the configuration's windows: " in said
    assert "no window store here" in said
    assert "configuration" not in export(catalog_path, "--format", "moc", "--radius", "9arcsec").output


def test_windows_of_another_store_are_not_those_of_the_catalog(catalog_path: Path) -> None:
    synthetic_store(catalog_path.with_name("windows.zarr"), shape=(2, 4, 16))
    result = export(catalog_path, "--format", "moc")
    said = "is not the store of the catalog, so its windows may differ; give the radius of the galaxies' circles with"
    assert (result.exit_code, said in " ".join(result.output.split())) == (1, True), result.output
    assert export(catalog_path, "--format", "moc", "--radius", "9arcsec").exit_code == 0


def test_the_command_writes_it_alone_with_another_radius(catalog_path: Path) -> None:
    assert export(catalog_path, "--format", "moc", "--radius", "1arcmin").exit_code == 0
    assert fits.getheader(catalog_path.with_name("catalog.moc.fits"), 1)["RADIUS"] == pytest.approx(60)
    assert not catalog_path.with_suffix(".vot").exists()
    for options, said in (((), "expected an angle"), (("--format", "fits"), "expected --format moc, too")):
        wrong = export(catalog_path, "--radius", "1arcmin" if options else "wide", *options)
        assert (wrong.exit_code, said in wrong.output) == (2, True)


def test_galaxies_without_a_position_are_left_out_and_counted(catalog_path: Path) -> None:
    lose_positions(catalog_path, slice(3, 5))
    result = export(catalog_path)
    name = read_catalog(catalog_path).table["plateifu"].iloc[3]
    said = f"Left out of moc: 2 of 60 galaxies without a position (ra_deg, dec_deg), such as {name}"
    assert (result.exit_code, said in " ".join(result.output.split())) == (0, True), result.output
    assert fits.getheader(catalog_path.with_name("catalog.moc.fits"), 1)["NUMGAL"] == 58


def test_without_any_position_it_says_so_and_writes_none(catalog_path: Path) -> None:
    lose_positions(catalog_path, slice(None))
    result = export(catalog_path)
    said = "No footprint: "
    assert (result.exit_code, said in result.output) == (0, True), result.output
    assert catalog_path.with_suffix(".fits").exists()
    assert export(catalog_path, "--format", "moc").exit_code == 1
    assert not catalog_path.with_name("catalog.moc.fits").exists()


def test_a_catalog_without_the_columns_has_no_positions(catalog_path: Path) -> None:
    found = read_catalog(catalog_path)
    write_catalog(catalog_path, found.table.drop(columns="ra_deg"), found.columns, found.provenance)
    with pytest.raises(FootprintError, match="60 of 60 galaxies without a position"):
        located(read_catalog(catalog_path), catalog_path)


def test_the_radius_follows_the_spaxels_of_the_windows() -> None:
    def config(reader: str, **windows: object) -> ProjectConfig:
        sections = {"survey": {"reader": reader}, "prepare": {"windows": windows}}
        return ProjectConfig.model_validate({"workspace": ".", **sections})

    assert window_radius_arcsec(config("califa-elines", size=32)) == pytest.approx(16 * 2**0.5)
    assert window_radius_arcsec(config("muse", size=32, space="bin", bin_factor=5)) == pytest.approx(16 * 2**0.5)
    with pytest.raises(FootprintError, match=r"scale-to-re\); give the radius .* --radius"):
        window_radius_arcsec(config("manga-logcube", space="scale-to-re"))
