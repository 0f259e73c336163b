"""Files that contradict themselves, their names or each other are rejected."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeprep.cube import Rejected
from cubeprep.fits.cubefile import CubeFile, CubeLayout
from cubeprep.masks import DAPPIXMASK
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.windows import WindowConfig
from tests.cubeprep.test_windows import extract_windows
from tests.logcube import cube_hdus, write_drpall
from tests.maps import maps_hdus, write_maps


def sami_cube(path: Path, **cards: object) -> None:
    """A SAMI arm of 300 planes about Halpha at z = 0.03; `cards` replace those of the header."""
    made = {"NAME": "1000", "Z_SPEC": 0.03, "BUNIT": "1e-16 erg/s/cm2/A", "CUNIT3": "Angstrom"}
    made |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "AWAV", "CRPIX1": 3.0, "CRPIX2": 3.0, "CRPIX3": 1.0}
    made |= {"CRVAL1": 150.0, "CRVAL2": 2.0, "CRVAL3": 6600.0, "CDELT1": -0.5 / 3600, "CDELT2": 0.5 / 3600}
    header = fits.Header(made | {"CDELT3": 1.0} | cards)
    errors = fits.ImageHDU(np.ones((300, 5, 5), np.float32), name="VARIANCE")
    fits.HDUList([fits.PrimaryHDU(np.ones((300, 5, 5), np.float32), header), errors]).writeto(path)


@pytest.mark.parametrize(
    ("blue", "message"),
    [
        ({}, None),
        ({"NAME": "2000"}, "bad_card: .*_blue.fits: NAME = '2000', expected '1000'"),
        ({"Z_SPEC": 0.031}, "bad_card: .*_blue.fits: Z_SPEC = 0.031, expected 0.03 as in the other arm"),
        ({"CRPIX1": 3.4}, None),
        ({"CRPIX1": 3.6}, r"bad_shape: .*the same spaxel 0\.6 spaxels apart .* expected 0\.5 at most"),
        ({"CRVAL2": 2.001}, "bad_shape: .*the same spaxel 7.2 spaxels apart"),
        ({"CDELT1": -1 / 3600, "CDELT2": 1 / 3600}, "bad_shape: .*the same spaxel 2.8 spaxels apart"),
        ({"CTYPE1": "", "CUNIT1": "deg", "CDELT1": -1 / 3600}, r"bad_shape: .*spaxels of 0\.5 and 0\.70.* arcsec"),
    ],
)
def test_arms_that_contradict_each_other_or_their_names_are_rejected(
    tmp_path: Path, blue: dict[str, object], message: str | None
) -> None:
    sami_cube(tmp_path / "1000_A_cube_blue.fits", **blue)
    sami_cube(tmp_path / "1000_A_cube_red.fits", CRVAL3=6850.0)
    reader = make_reader(SurveyConfig(reader="sami", root=str(tmp_path)))
    (target,) = reader.find_targets()
    lines = ("Ha-6564", "SII-6718")  # one in each arm
    config = WindowConfig(lines=lines, num_samples=4, sampling="conserve", min_lines=2, size=8)
    if message is None:
        assert (extract_windows(reader.open(target), target.z, config).mask[..., 3, 3] == 0).all()
        return
    with pytest.raises(Rejected, match=message):
        extract_windows(reader.open(target), target.z, config)


def test_arms_compressed_by_tiles_are_the_same(tmp_path: Path) -> None:
    config = WindowConfig(lines=("Ha-6564",), num_samples=4, sampling="conserve", size=8)
    found = []
    for suffix in (".fits", ".fits.fz"):
        folder = tmp_path / suffix
        folder.mkdir()
        sami_cube(folder / "1000_A_cube_blue.fits")
        sami_cube(folder / "1000_A_cube_red.fits", CRVAL3=6850.0)
        for path in folder.glob("*.fits") if suffix.endswith("fz") else ():
            with fits.open(path) as hdus:
                options = {"compression_type": "GZIP_2", "quantize_level": 0}
                packed = [fits.CompImageHDU(hdu.data, hdu.header, hdu.name, **options) for hdu in hdus]
                fits.HDUList([fits.PrimaryHDU(), *packed]).writeto(f"{path}.fz")
            path.unlink()
        reader = make_reader(SurveyConfig(reader="sami", root=str(folder)))
        (target,) = reader.find_targets()
        assert target.z == 0.03
        found.append(extract_windows(reader.open(target), target.z, config))
    for name in ("flux", "ivar", "mask"):
        np.testing.assert_array_equal(getattr(found[1], name), getattr(found[0], name))


@pytest.mark.parametrize(
    ("cards", "cut", "message"),
    [
        ({"PLATEIFU": "1-1", "DRP3QUAL": 1 << 2}, 0, None),
        ({"PLATEIFU": "9-9"}, 0, "bad_card: .*1-1-LOGCUBE.fits: PLATEIFU = '9-9', expected '1-1'"),
        ({"DRP3QUAL": 1 << 30}, 0, "quality: .*1-1-LOGCUBE.fits: DRP3QUAL of its header has CRITICAL"),
        ({}, 3, "bad_wave: .*WAVE has 4560 wavelengths, 3624.10 to 10353.81 Angstrom, expected 4560, 3621.60 to"),
    ],
)
def test_a_logcube_that_contradicts_its_name_or_itself_is_rejected(
    tmp_path: Path, cards: dict[str, object], cut: int, message: str | None
) -> None:
    hdus = cube_hdus(0.03, size=2)
    hdus[0].header.update(cards)
    for hdu in hdus[1:]:
        hdu.data = hdu.data[cut:].copy()
    hdus.writeto(tmp_path / "manga-1-1-LOGCUBE.fits")
    write_drpall(tmp_path, [("1-1", "7-1", 0.03)])
    reader = make_reader(SurveyConfig(root=str(tmp_path)))
    (target,) = reader.find_targets()

    def read(*, to_end: bool) -> None:
        (arm,) = reader.open(target)
        arm.reads_to_end = to_end
        arm.read(np.array([100]), None)

    for to_end in (
        True,
        False,
    ):  # WAVE of a local file that is not gzipped is compared with `prepare.verify: windows` too
        if message is None:
            read(to_end=to_end)
            continue
        with pytest.raises(Rejected, match=message):
            read(to_end=to_end)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("channel", "bad_card: .*C24 and C35 are 'Ha-6564', expected one channel of it"),
        ("HDU", "bad_card: .*2 HDUs have EXTNAME = 'EMLINE_GFLUX', expected one"),
        ("last HDU", "bad_card: .*2 HDUs have EXTNAME = 'EMLINE_GFLUX', expected one"),
    ],
)
def test_maps_with_two_things_of_one_name_are_rejected(tmp_path: Path, change: str, message: str) -> None:
    hdus = maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03)
    if change == "channel":
        hdus["EMLINE_GFLUX"].header["C35"] = "Ha-6564"
    else:
        hdus.insert(2 if change == "HDU" else len(hdus), hdus["EMLINE_GFLUX"].copy())
    write_maps(tmp_path, hdus)
    reader = make_reader(SurveyConfig(reader="manga-maps", root=str(tmp_path)))
    (target,) = reader.find_targets()
    with pytest.raises(Rejected, match=message):
        reader.read_maps(target, ["Ha-6564"], None)
    if change == "channel":
        assert (reader.read_maps(target, ["Hb-4862"], None).mask == 0).all(), "the other channels are read"


@pytest.mark.parametrize(
    ("primary", "flux", "message"),
    [
        ({"SPECSYS": "SOURCE"}, {}, "bad_wave: .*PRIMARY has SPECSYS = 'SOURCE', expected TOPOCENT"),
        ({"SPECSYS": "SOURCE"}, {"SPECSYS": "BARYCENT"}, None),
        ({"SPECSYS": "BARYCENT"}, {}, None),
        ({"SPECSYS": "BARYCENT"}, {"SPECSYS": "SOURCE"}, "bad_wave: .*FLUX has SPECSYS = 'SOURCE'"),
        ({"AIRORVAC": "air"}, {}, "bad_wave: .*PRIMARY has AIRORVAC = 'air', expected 'vac'"),
        ({"AIRORVAC": "vac"}, {}, None),
    ],
)
def test_frame_and_medium_of_the_primary_header_hold_where_the_data_state_none(
    tmp_path: Path, primary: dict[str, str], flux: dict[str, str], message: str | None
) -> None:
    hdus = cube_hdus(0.03, size=2)
    hdus[0].header.update(primary)
    hdus["FLUX"].header.update(flux)
    hdus.writeto(tmp_path / "a.fits")
    if message is None:
        CubeFile(str(tmp_path / "a.fits"), CubeLayout("FLUX", "IVAR", "ivar"))
        return
    with pytest.raises(Rejected, match=message):
        CubeFile(str(tmp_path / "a.fits"), CubeLayout("FLUX", "IVAR", "ivar"))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("to_end", [True, False])
@pytest.mark.parametrize("name", ["IVAR", "GIMG"])
def test_a_second_hdu_of_a_name_behind_those_that_are_read_is_noticed(
    tmp_path: Path, name: str, to_end: bool, suffix: str
) -> None:
    hdus = cube_hdus(0.03, size=2)
    hdus += [fits.ImageHDU(np.zeros((2, 2), np.float32), name="GIMG"), fits.ImageHDU(hdus["IVAR"].data, name=name)]
    path = tmp_path / f"manga-1-1-LOGCUBE.fits{suffix}"
    hdus.writeto(path)
    cube = CubeFile(str(path), CubeLayout("FLUX", "IVAR", "ivar", "MASK", wave="WAVE"))
    cube.reads_to_end = to_end
    if name == "GIMG" or (suffix and not to_end):  # unzipping what is left would be the cost that is to be saved
        cube.read(np.array([100]), None)
        return
    with pytest.raises(Rejected, match=r"bad_card: .*2 HDUs have EXTNAME = 'IVAR', expected one"):
        cube.read(np.array([100]), None)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_last_hdu_may_lack_its_padding(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / "whole.fits"
    cube_hdus(0.03, size=2).writeto(whole)
    content = whole.read_bytes().rstrip(b"\0")
    path = tmp_path / f"cut.fits{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    CubeFile(str(path), CubeLayout("FLUX", "IVAR", "ivar", "MASK", wave="WAVE")).read(np.array([100]), None)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4"])
def test_mask_bits_of_maps_are_obeyed_in_integers_of_every_width(tmp_path: Path, dtype: str) -> None:
    hdus = maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03)
    mask = np.zeros(hdus["EMLINE_GFLUX_MASK"].shape, dtype)
    mask[:, 2, 3] = 1 << DAPPIXMASK["FITFAILED"]
    hdus["EMLINE_GFLUX_MASK"].data = mask
    write_maps(tmp_path, hdus)
    reader = make_reader(SurveyConfig(reader="manga-maps", root=str(tmp_path)))
    (target,) = reader.find_targets()
    bad = reader.read_maps(target, ["Ha-6564"], None).mask[0] != 0
    assert np.argwhere(bad).tolist() == [[2, 3]]


def test_two_files_of_one_galaxy_are_refused_by_name(tmp_path: Path) -> None:
    for kind in ("HYB10-GAU-MILESHC", "VOR10-GAU-MILESHC"):
        (tmp_path / f"manga-7815-3702-MAPS-{kind}.fits.gz").write_bytes(b"")
    config = SurveyConfig(reader="manga-maps", root=str(tmp_path))
    with pytest.raises(ValueError, match=r"HYB10.*VOR10.*same kind and name"):
        select_targets(config, make_reader(config))
