"""Maps as FITS: the position of a source whose place on the sky is known, units, sums, provenance, and refusals."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from click.testing import CliRunner

from cubeprep.extract import window_grid
from cubeprep.fits.cubefile import CubeFile
from cubeprep.fits.wcs import centre_on_sky, moved_sky, placed_sky, sky_shift
from cubeprep.prepare import prepare
from cubeprep.prepare_config import GalaxyConfig, PrepareConfig
from cubeprep.readers import muse
from cubeprep.shard import extract_galaxy
from cubeprep.store import Windows, WindowStore
from cubeprep.survey import SurveyConfig, make_reader
from cubeprep.windows import WindowConfig
from jobs import cli, score
from jobs.config import ProjectConfig
from jobs.reports.fits_maps import fits_bytes, galaxy_maps
from modeling.catalog import read_catalog
from modeling.scoring.config import ScoreConfig
from tests.jobs.test_score import make_project, save_tiny_model
from tests.logcube import WAVE, cube_hdus, line_spectrum, write_drpall, write_gzipped

SPAXEL_ARCSEC, ANGLE = 0.5, np.radians(37.0)
SOURCE = np.array([13.0, 4.0])  # x and y, from 0, in a cube of 18 spaxels a side
CENTRE = np.array([180.0, 60.0])  # far from the equator, where a degree of right ascension is half as long
NAMES = ["1-1", "1-2", "1-3", "1-4"]


def sky_cards(size: int) -> dict[str, Any]:
    """North is 37 degrees from up, and the reference pixel is no spaxel's centre."""
    cosine, sine = np.cos(ANGLE) * SPAXEL_ARCSEC / 3600, np.sin(ANGLE) * SPAXEL_ARCSEC / 3600
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS"}
    cards |= {"CD1_1": -cosine, "CD1_2": sine, "CD2_1": sine, "CD2_2": cosine}
    return cards | {"CRVAL1": CENTRE[0], "CRVAL2": CENTRE[1], "CRPIX1": size / 2 + 0.3, "CRPIX2": size / 2 - 1.2}


def write_rotated_survey(root: Path, size: int = 18) -> dict[str, fits.Header]:
    """Faint galaxies with one bright source off the centre; the headers of their FLUX."""
    headers = {}
    for seed, name in enumerate(NAMES):
        hdus = cube_hdus(0.03, size=size, seed=seed)
        y, x = np.mgrid[:size, :size]
        blob = np.exp(-0.5 * ((x - SOURCE[0]) ** 2 + (y - SOURCE[1]) ** 2))
        hdus["FLUX"].data += (5 * line_spectrum(WAVE, 0.03)[:, None, None] * blob).astype(np.float32)
        hdus["IVAR"].data[:] = 2500.0
        hdus["MASK"].data[:] = 0
        hdus["FLUX"].header.update(sky_cards(size))
        headers[name] = hdus["FLUX"].header
        write_gzipped(hdus, root / name.split("-")[0] / "stack" / f"manga-{name}-LOGCUBE.fits.gz")
    write_drpall(root, [(name, f"7-{name}", 0.03) for name in NAMES])
    return headers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ProjectConfig, fits.Header]:
    """A scored survey of rotated cubes, and the header of one."""
    folder = tmp_path_factory.mktemp("maps")
    header = write_rotated_survey(folder / "survey")[NAMES[0]]
    windows = WindowConfig(lines=("Hb-4862", "OIII-5008", "Ha-6564"), size=16, continuum="sidebands")
    prepare(
        PrepareConfig(windows=windows, dask={"num_workers": 0}, split={"validation": 0.25, "test": 0}),
        SurveyConfig(root=str(folder / "survey")),
        str(folder / "windows.zarr"),
        seed=1,
    )
    model = save_tiny_model(folder / "model", (3, 10, 16))
    config = ProjectConfig(workspace=folder, score=ScoreConfig(model=str(model)))
    assert score.run(config) == 0
    return config, header


def run(config: ProjectConfig, *names: str) -> tuple[int, str]:
    settings = [f"--set=workspace={config.workspace}", f"--set=score.model={config.score.model}"]
    result = CliRunner().invoke(cli.main, ["maps", "line", *names, *settings])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def maps(made: tuple[ProjectConfig, fits.Header]) -> fits.HDUList:
    code, text = run(made[0], NAMES[0], NAMES[1])
    assert code == 0, text
    assert (made[0].workspace / "maps" / f"{NAMES[1]}.fits").exists()
    return fits.open(made[0].workspace / "maps" / f"{NAMES[0]}.fits", checksum=True)


def separation_spaxels(first: np.ndarray, second: np.ndarray) -> float:
    """Angle between two positions (degrees), in spaxels of the cube."""
    scale = np.array([np.cos(np.radians(CENTRE[1])), 1.0])
    return float(np.hypot(*((first - second) * scale)) * 3600 / SPAXEL_ARCSEC)


@pytest.mark.slow
def test_a_known_source_lies_where_the_cubes_own_header_says(
    made: tuple[ProjectConfig, fits.Header], maps: fits.HDUList
) -> None:
    expected = np.array(WCS(made[1]).celestial.wcs_pix2world(*SOURCE, 0))
    assert separation_spaxels(expected, CENTRE) > 3
    for name in ("FLUX", "BY_PLACE", "BY_SPAXEL", "TRIAGED"):
        wcs = WCS(maps[name].header).celestial
        assert wcs.pixel_shape == (16, 16)
        image = maps["FLUX"].data[2]
        near = np.where(image > image.max() / 4, image, 0).astype(float)
        y, x = (near * np.mgrid[:16, :16]).sum((1, 2)) / near.sum()
        assert separation_spaxels(np.array(wcs.wcs_pix2world(x, y, 0)), expected) < 0.1


def test_a_galaxy_without_a_position_is_where_the_middle_of_its_windows_is(
    made: tuple[ProjectConfig, fits.Header],
) -> None:
    config, header = made
    reader = make_reader(SurveyConfig(root=str(config.workspace / "survey")))
    galaxy = GalaxyConfig(windows=WindowConfig(lines=("Ha-6564",), size=16, continuum="sidebands"))
    target = replace(reader.find_targets()[0], ra_deg=CENTRE[0], dec_deg=CENTRE[1])
    as_given = extract_galaxy(reader, target, galaxy)[0]
    assert (as_given.ra_deg, as_given.remarks) == (None, "")
    hours = extract_galaxy(reader, replace(target, ra_deg=target.ra_deg / 15), galaxy)[0]
    assert hours.ra_deg is None
    assert "the survey's position ra 12.00000, dec " in hours.remarks
    assert "59.6 degrees from the middle of its windows at ra 180.0" in hours.remarks
    near, beyond = (
        extract_galaxy(reader, replace(target, dec_deg=target.dec_deg + arcsec / 3600), galaxy)[0] for arcsec in (2, 8)
    )
    assert near.remarks == ""
    assert " arcsec from the middle of its windows at " in beyond.remarks
    assert ", which are 8.0 arcsec wide, by the cube's header" in beyond.remarks
    found = extract_galaxy(reader, replace(target, dec_deg=np.nan), galaxy)[0]
    expected = np.array(WCS(header).celestial.wcs_pix2world(8.5, 8.5, 0))
    assert separation_spaxels(np.array([found.ra_deg, found.dec_deg]), expected) < 1e-3
    assert separation_spaxels(expected, CENTRE) > 0.5


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, SkyCoord(180, 60, unit="deg", frame="galactic").icrs),
        ({"RADESYS": "FK5", "EQUINOX": 1975.0}, SkyCoord(180, 60, unit="deg", frame="fk5", equinox="J1975").icrs),
        ({"RADESYS": "MOON"}, None),
        ({"CD1_1": 0.0, "CD1_2": 0.0}, None),
    ],
)
def test_positions_are_icrs_whatever_the_frame(cards: dict[str, Any], expected: SkyCoord | None) -> None:
    ra_deg, dec_deg = centre_on_sky(sky_cards(16) | {"CRPIX1": 8.5, "CRPIX2": 8.5} | cards, 16)
    if expected is None:
        assert np.isnan([ra_deg, dec_deg]).all()
    else:
        assert SkyCoord(ra_deg, dec_deg, unit="deg").separation(expected).arcsec < 1e-3


def test_fluxes_are_those_of_the_lines_and_residuals_add_up(maps: fits.HDUList) -> None:
    assert [maps["FLUX"].header[f"C{i:02d}"] for i in (1, 2, 3)] == ["Hb-4862", "OIII-5008", "Ha-6564"]
    assert u.Unit(maps["FLUX"].header["BUNIT"]) == u.Unit("1e-17 erg / (s cm2 pix)")
    x, y = SOURCE.astype(int) - 1  # the window of 16 starts one spaxel in
    # 5 times 20, and the faint galaxy below it: lines of 90 km/s lose little in a window of 690.
    galaxy = 20 * np.exp(-np.hypot(*(SOURCE - 8.5)) / 3)
    np.testing.assert_allclose(maps["FLUX"].data[:, y, x], 100 + galaxy, rtol=0.02)
    np.testing.assert_allclose(
        maps["RESIDUAL"].data, maps["FLUX"].data - maps["MODEL"].data, rtol=1e-3, atol=1e-3 * maps["FLUX"].data.max()
    )
    assert (maps["GOOD"].data == 1).all()


def test_the_noise_is_that_of_the_cube(maps: fits.HDUList) -> None:
    wave = 6564.0 * 1.03 * np.log(10) * 1e-4
    np.testing.assert_allclose(maps["FLUX_ERROR"].data[2], 0.02 * wave * np.sqrt(10), rtol=0.05)


def test_the_primary_header_says_what_the_maps_were_made_from(
    made: tuple[ProjectConfig, fits.Header], maps: fits.HDUList
) -> None:
    header, catalog = maps[0].header, read_catalog(made[0].catalog_path)
    assert header["OBJECT"] == NAMES[0]
    assert header["MODELSHA"] == catalog.provenance["model"]["digest"]
    assert header["STORE"] == WindowStore.open(made[0].store_path).identity
    assert header["RANK"] == catalog.table.set_index("plateifu").loc[NAMES[0], "rank"]
    assert header["CREATOR"].startswith("cubescout ")
    assert any(line.startswith("code_version = ") for line in header["HISTORY"])
    maps.verify("exception")


def test_a_galaxy_whose_cube_has_no_celestial_axes_is_refused(made: tuple[ProjectConfig, fits.Header]) -> None:
    store, table = WindowStore.open(made[0].store_path), io.BytesIO()
    whole = store.galaxies()
    try:
        for change, message in (
            (whole.assign(wcs=""), "has no celestial axes"),
            (whole.drop(columns="wcs"), "earlier"),
        ):
            table = io.BytesIO()
            change.to_parquet(table, index=False)
            store.write_file("galaxies.parquet", table.getvalue())
            code, text = run(made[0], NAMES[0])
            assert code == 1
            assert message in text
    finally:
        whole.to_parquet(table := io.BytesIO(), index=False)
        store.write_file("galaxies.parquet", table.getvalue())


def test_an_unknown_galaxy_is_named(made: tuple[ProjectConfig, fits.Header]) -> None:
    code, text = run(made[0], "1-9")
    assert code == 2
    assert "1-9 (closest: 1-" in text


@pytest.mark.parametrize("space", ["crop", "bin", "scale-to-re"])
@pytest.mark.parametrize("shape", [(18, 18), (11, 17)])
@pytest.mark.parametrize("kind", ["CD", "CDELT and PC", "CDELT and CROTA"])
def test_every_spaxel_of_a_new_grid_is_where_it_was(space: str, shape: tuple[int, int], kind: str) -> None:
    header = fits.Header(sky_cards(18))
    if kind != "CD":
        turned = [header.pop(f"CD{i}_{j}") for i in (1, 2) for j in (1, 2)]
        header["CDELT1"], header["CDELT2"] = -SPAXEL_ARCSEC / 3600, SPAXEL_ARCSEC / 3600
        pc = np.array(turned).reshape(2, 2) / [[header["CDELT1"]], [header["CDELT2"]]]
        header.update({"CROTA2": np.degrees(ANGLE)} if "CROTA" in kind else _pc_cards(pc))
    config = WindowConfig(space=space, size=8, extent_re=3.0)
    size = config.read_size or max(shape)
    cards = placed_sky(header, shape, config.read_size)
    if grid := window_grid(size, SPAXEL_ARCSEC, 1.7, config, ""):
        cards = moved_sky(cards, (grid.start, grid.start), grid.scale)
    start, scale = (grid.start, grid.scale) if grid else (0.0, 1.0)
    # Where the planes begin in the cube, by counting: what `place` does with numbered spaxels is tested elsewhere.
    offset = [-((size - n) // 2) if n < size else (n - size) // 2 for n in shape[::-1]]
    new = np.random.default_rng(0).uniform(0, 8, (2, 20))
    old = (new + 0.5) * scale + start - 0.5 + np.array(offset)[:, None]
    expected, found = (WCS(h).celestial.wcs_pix2world(*at, 0) for h, at in ((header, old), (fits.Header(cards), new)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.001 * SPAXEL_ARCSEC / 3600)


def _pc_cards(matrix: np.ndarray) -> dict[str, float]:
    return {f"PC{i + 1}_{j + 1}": float(matrix[i, j]) for i in (0, 1) for j in (0, 1)}


@pytest.mark.parametrize(
    "change", [{"CTYPE1": "RA---TAN-SIP"}, {"CTYPE1": "LINEAR"}, {"CRPIX1": "6 5"}, {"CD1_1": 0.0, "CD1_2": 0.0}]
)
def test_a_header_without_plain_celestial_axes_gives_none(change: dict[str, Any]) -> None:
    header = fits.Header(sky_cards(18) | change)
    assert placed_sky(header, (18, 18), 16) == {}
    assert placed_sky(fits.Header(sky_cards(18)), (18, 18), 16) != {}


@pytest.mark.parametrize("card", ["LONPOLE =   18O.0  bad", "EQUINOX = 2000.0.0"])
def test_a_damaged_card_of_the_sky_gives_no_axes_and_is_no_reason_to_lose_a_galaxy(card: str) -> None:
    header = fits.Header(sky_cards(18))
    header.append(fits.Card.fromstring(card))
    assert placed_sky(header, (18, 18), 16) == {}


def test_where_a_frame_is_not_known_nothing_is_known_of_a_shift() -> None:
    cards = placed_sky(fits.Header(sky_cards(18)), (18, 18), 16)
    assert sky_shift(cards, cards | {"CRVAL2": float(cards["CRVAL2"]) + 1 / 3600}, 16) > 0.5
    assert sky_shift(cards, cards | {"RADESYS": "NONE"}, 16) == 0


@pytest.mark.slow
def test_a_store_of_a_reader_without_positions_names_the_galaxy(tmp_path: Path) -> None:
    config = make_project(tmp_path)  # its store is as earlier versions made it
    assert score.run(config) == 0
    name = read_catalog(config.catalog_path).table["plateifu"][0]
    code, text = run(config, name)
    assert code == 1
    assert "no column wcs" in text


def arms_of(reader: str, real_data: Path) -> dict[str, Any]:
    """Cubes or maps of a survey, each with the path of its file."""
    if reader == "muse":
        return {str(path): CubeFile(str(path), muse.LAYOUT).sky for path in (real_data / "muse").glob("*.fits*")}
    made = make_reader(SurveyConfig(reader=reader, root=str(real_data / reader.partition("-")[0])))
    targets = [target for target in made.find_targets() if not target.rejected]
    if reader == "sami":
        return {path: arm.sky for target in targets for path, arm in zip(target.paths, made.open(target), strict=True)}
    return {target.paths[0]: lambda size, t=target: made.read_maps(t, ["Ha-6564"], size).sky for target in targets}


@pytest.mark.realdata
@pytest.mark.parametrize("reader", ["sami", "muse", "manga-maps"])
def test_windows_of_real_cubes_keep_their_coordinates(real_data: Path, reader: str) -> None:
    found = arms_of(reader, real_data)
    assert found
    for path, sky in found.items():
        with fits.open(path) as hdus:
            header = next(hdu.header for hdu in hdus if hdu.header["NAXIS"] == 3)
        offset = [(n - 24) // 2 if n >= 24 else -((24 - n) // 2) for n in (header["NAXIS1"], header["NAXIS2"])]
        at = np.array([[0.0, 11.5, 23.0], [3.0, 11.5, 20.0]])
        expected = WCS(header).celestial.wcs_pix2world(*(at + np.array(offset)[:, None]), 0)
        placed = WCS(fits.Header(sky(24))).celestial.wcs_pix2world(*at, 0)
        np.testing.assert_allclose(placed, expected, rtol=0, atol=0.02 / 3600)


def test_a_flux_of_one_sample_stays_that_of_an_angstrom() -> None:
    flux = np.full((1, 2, 1, 3, 3), 5.0, np.float32)
    windows = Windows(flux, np.ones_like(flux), np.zeros(flux.shape, np.uint8), np.array(["8000-1"]), np.array([0]))
    unit = "1e-17 erg / (s cm2 Angstrom spaxel)"
    lines = {"wave": np.array([5000.0, 6564.6]), "velocity_kms": np.zeros(1)}
    maps = galaxy_maps(windows, 0.5 * flux, {}, **lines, flux_unit=unit)
    assert maps.units["FLUX"] == unit
    np.testing.assert_array_equal(maps.values["RESIDUAL"], np.full((2, 3, 3), 2.5))
    sky = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    written = fits_bytes(
        maps, ["OIII-5008", "Ha-6564"], sky, {"MODEL": "/home/josé/model", "OBJECT": ("é", "plate")}, []
    )
    with fits.open(io.BytesIO(written)) as hdus:
        assert (hdus[0].header["MODEL"], hdus[0].header["OBJECT"]) == (r"/home/jos\xe9/model", r"\xe9")
