"""Listing a survey: one bad file, row or card costs one galaxy, and nothing is left out without a word."""

import gzip
import io
import logging
import os
import socket
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from cubeprep.config import MistakeError
from cubeprep.cube import Rejected, Target
from cubeprep.fits import gunzip
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.storage import StorageError
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.survey_files import find_files, guarded_target
from tests.logcube import write_drpall, write_gzipped, write_survey
from tests.maps import maps_hdus, write_maps


def targets(config: SurveyConfig) -> dict[str, tuple[str, str] | None]:
    return {target.plateifu: target.rejected for target in select_targets(config, make_reader(config))}


def write_sami(root: Path, catid: str, z: object, kind: str = "cube", arms: tuple[str, ...] = ("blue", "red")) -> None:
    root.mkdir(exist_ok=True)
    for arm in arms:
        hdu = fits.PrimaryHDU(np.zeros((4, 5, 5), np.float32))
        hdu.header["Z_SPEC"], hdu.header["CATARA"], hdu.header["CATADEC"] = z, "n/a", 1.0
        hdu.writeto(root / f"{catid}_A_{kind}_{arm}.fits")


@pytest.mark.parametrize("z", ["N/A", None, "", -9999.0, "-999", True])
def test_a_redshift_that_is_none_costs_one_sami_galaxy(tmp_path: Path, z: object) -> None:
    write_sami(tmp_path / "s", "1000", 0.03)
    write_sami(tmp_path / "s", "1001", z)
    found = targets(SurveyConfig(reader="sami", root=str(tmp_path / "s")))
    assert found["1000_A"] is None
    assert found["1001_A"] is not None
    assert found["1001_A"][0] == "no_redshift"
    assert "1001_A_cube_red.fits: Z_SPEC = " in found["1001_A"][1]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "missing_hdu"),
        (b"text " * 1000, "unreadable"),
        (b"SIMPLE  = " + b" " * 100, "truncated"),
        (b"\x1f\x8b12", "truncated"),
    ],
)
def test_a_file_that_is_none_costs_one_galaxy(tmp_path: Path, content: bytes, code: str) -> None:
    for root, reader in ((tmp_path / "s", "sami"), (tmp_path / "m", "manga-maps")):
        root.mkdir()
        if reader == "sami":
            write_sami(root, "1000", 0.03)
            write_sami(root, "1001", 0.03)
            path = root / "1001_A_cube_red.fits"
        else:
            write_maps(root, maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03))
            path = root / "manga-1-2-MAPS-HYB10-MILESHC.fits"
        path.write_bytes(content)
        found = {
            name: rejected and rejected[0]
            for name, rejected in targets(SurveyConfig(reader=reader, root=str(root))).items()
        }
        assert sorted(map(str, found.values())) == sorted(["None", code])


@pytest.mark.parametrize("arms", [("blue", "red"), ("red",)])
def test_two_kinds_of_sami_cubes_of_one_observation_are_refused_by_name(tmp_path: Path, arms: tuple[str, ...]) -> None:
    write_sami(tmp_path / "s", "1000", 0.03, "cube", ("blue",))
    write_sami(tmp_path / "s", "1000", 0.03, "adaptive", arms)
    with pytest.raises(MistakeError, match=r"1000_A_(adaptive|cube)_.*1000_A_(cube|adaptive)_.*keep one kind below"):
        targets(SurveyConfig(reader="sami", root=str(tmp_path / "s")))


def test_sami_spectra_are_no_cubes_and_observations_may_differ_in_kind(tmp_path: Path) -> None:
    write_sami(tmp_path / "s", "1000", 0.03)
    write_sami(tmp_path / "s", "1000", 0.03, "spectrum_re")
    write_sami(tmp_path / "s", "1001", 0.03, "sectors")
    config = SurveyConfig(reader="sami", root=str(tmp_path / "s"))
    names = [Path(path).name for target in select_targets(config, make_reader(config)) for path in target.paths]
    assert names == [f"{kind}_{arm}.fits" for kind in ("1000_A_cube", "1001_A_sectors") for arm in ("blue", "red")]


def test_a_header_that_is_damaged_costs_one_galaxy(tmp_path: Path) -> None:
    write_sami(tmp_path / "s", "1000", 0.03)
    write_sami(tmp_path / "s", "1001", 0.03)
    path = tmp_path / "s" / "1001_A_cube_red.fits"
    path.write_bytes(path.read_bytes().replace(b"NAXIS   =                    3", b"NAXIS   =                    9"))
    found = targets(SurveyConfig(reader="sami", root=str(tmp_path / "s")))
    assert found["1000_A"] is None
    assert found["1001_A"] is not None
    assert found["1001_A"][0] == "unreadable"
    assert str(path) in found["1001_A"][1]


def test_a_name_in_the_header_of_another_file_costs_one_galaxy(tmp_path: Path) -> None:
    for name in ("8000-1", "8000-2"):
        hdus = maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03)
        hdus[0].header["PLATEIFU"] = name
        path = write_maps(tmp_path, hdus)
        if name == "8000-2":
            hdus[0].header["PLATEIFU"] = "8000-1"
            write_gzipped(hdus, path)
    config = SurveyConfig(reader="manga-maps", root=str(tmp_path))
    first, second = select_targets(config, make_reader(config))
    assert first.rejected is None
    assert second.rejected is not None
    assert second.rejected[0] == "bad_card"
    assert "PLATEIFU = '8000-1', expected '8000-2'" in second.rejected[1]


@pytest.mark.parametrize(
    ("card", "value", "rejected"),
    [
        ("DAPQUAL", 1 << 30, "quality"),
        ("DRP3QUAL", 1 << 30, "quality"),
        ("DAPQUAL", 1 << 1, None),
        ("DAPQUAL", "bad", "bad_card"),
        ("DRP3QUAL", -1, "bad_card"),
        ("DRP3QUAL", "no card", "quality"),
        ("DAPQUAL", "no card", "quality"),
        ("MANGAID", "-9999", None),
        ("SCINPVEL", -9999.0, "no_redshift"),
    ],
)
def test_maps_obey_the_quality_of_the_cube_and_of_the_fits(
    tmp_path: Path, card: str, value: object, rejected: str | None
) -> None:
    hdus = maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03)
    hdus[0].header[card] = value
    if value == "no card":
        del hdus[0].header[card]
    write_maps(tmp_path, hdus)
    config = SurveyConfig(reader="manga-maps", root=str(tmp_path))
    (target,) = select_targets(config, make_reader(config))
    assert (target.rejected and target.rejected[0]) == rejected
    if card == "SCINPVEL":
        assert target.rejected is not None
        assert "SCINPVEL = -9999.0" in target.rejected[1]
    if card == "MANGAID":
        assert target.mangaid == target.plateifu == "8000-1"
    if rejected is None and card == "DAPQUAL":
        chosen = config.model_copy(update={"reject_quality": ("BADZ",)})
        (target,) = select_targets(chosen, make_reader(chosen))
        assert target.rejected == ("quality", f"{target.paths[0]}: the survey's quality flag has BADZ")


def test_quality_bits_of_maps_are_those_of_drp_and_dap() -> None:
    make_reader(SurveyConfig(reader="manga-maps", root="x", reject_quality=("BADZ", "BADFLUX")))
    with pytest.raises(ValueError, match="unknown mask bits BADZZ"):
        make_reader(SurveyConfig(reader="manga-maps", root="x", reject_quality=("BADZZ",)))


@pytest.fixture
def drpall(tmp_path: Path) -> Path:
    names = ["1-1", "1-2", "1-3"]
    for name in names:
        (tmp_path / f"manga-{name}-LOGCUBE.fits.gz").write_bytes(b"")
    write_drpall(tmp_path, [(name, f"7-{name}", 0.03) for name in names], columns={"z": [0.04, 0.05, 0.06]})
    return tmp_path / "drpall.fits"


def changed(path: Path, column: str, row: int, value: object) -> SurveyConfig:
    table = Table(Table.read(path), masked=True, copy=True)
    if value is np.ma.masked:
        table[column].mask[row] = True
    else:
        table[column][row] = value
    table.write(path, overwrite=True)
    return SurveyConfig(root=str(path.parent), duplicates="first")


def test_a_galaxy_outside_the_nsa_has_the_redshift_of_the_other_column(drpall: Path) -> None:
    config = changed(drpall, "nsa_z", 0, -9999.0)
    found = select_targets(config, make_reader(config))
    assert [(target.z, target.rejected) for target in found] == [(0.04, None), (0.03, None), (0.03, None)]


def test_a_quality_that_is_not_known_costs_one_galaxy(drpall: Path) -> None:
    found = targets(changed(drpall, "drp3qual", 1, np.ma.masked))
    assert (found["1-1"], found["1-3"]) == (None, None)
    assert found["1-2"] is not None
    assert found["1-2"][0] == "quality"
    assert "no drp3qual for 1-2" in found["1-2"][1]


@pytest.mark.parametrize("value", ["", "  ", "-9999", "N/A"])
def test_objects_without_mangaid_are_their_own(drpall: Path, value: str) -> None:
    for row in range(3):
        config = changed(drpall, "mangaid", row, value)
    found = select_targets(config, make_reader(config))
    assert [target.mangaid for target in found] == ["1-1", "1-2", "1-3"]
    assert [target.rejected for target in found] == [None] * 3


def test_rows_of_drpall_that_differ_are_named_and_equal_ones_are_one(drpall: Path) -> None:
    table = Table.read(drpall)
    table.add_row(list(table[0]))
    table.write(drpall, overwrite=True)
    config = SurveyConfig(root=str(drpall.parent))
    assert len(targets(config)) == 3
    table["nsa_z"][3] += 0.02
    table.write(drpall, overwrite=True)
    with pytest.raises(
        ValueError, match=r"drpall.fits: two rows of 1-1 differ: row 1 has nsa_z = 0\.03; row 4 has nsa_z"
    ):
        targets(config)


def test_pipes_and_sockets_are_left_out_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_sami(tmp_path / "s", "1000", 0.03)
    os.mkfifo(tmp_path / "s" / "1001_A_cube_blue.fits")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path / "s")  # names of sockets are short
        server.bind("1001_A_cube_red.fits")
        os.chdir(here)
        with caplog.at_level(logging.WARNING):
            found = targets(SurveyConfig(reader="sami", root=str(tmp_path / "s")))
    assert list(found) == ["1000_A"]
    said = [record.getMessage() for record in caplog.records]
    assert [name in " ".join(said) for name in ("1001_A_cube_blue.fits", "1001_A_cube_red.fits")] == [True, True]


def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sami(tmp_path / "s", "1000", 0.03)
    (tmp_path / "s" / "closed").mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ValueError, match=r"s/closed: this folder cannot be read \(Permission denied\)"):
        targets(SurveyConfig(reader="sami", root=str(tmp_path / "s")))


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    write_sami(tmp_path / "elsewhere", "1000", 0.03)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "s")
    assert list(targets(SurveyConfig(reader="sami", root=str(tmp_path / "s")))) == ["1000_A"]


def test_suffixes_in_capitals_are_files_of_the_survey(tmp_path: Path) -> None:
    from cubeprep.readers import califa_elines, manga_logcube, manga_maps, muse, sami

    names = {
        "NGC1.ELINES.cube.FITS": califa_elines,
        "manga-1-2-LOGCUBE.fits.fz": manga_logcube,
        "manga-1-2-MAPS-HYB10.FITS.GZ": manga_maps,
        "GAL.Fits": muse,
        "1_A_RED.FITS": sami,
    }
    for name, module in names.items():
        (tmp_path / name).write_bytes(b"")
        assert [Path(path).name for path in find_files(str(tmp_path), module.FILE_NAME).values()].count(name) == 1


@pytest.mark.parametrize("kind", ["inflated", "claimed"])
def test_maps_that_are_too_large_cost_one_galaxy_and_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    hdus = maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03)
    content = io.BytesIO()
    hdus.writeto(content)
    whole = content.getvalue()
    if kind == "claimed":
        start = whole.index(b"'EMLINE_GFLUX'") - 2000
        card = b"NAXIS3  =                   35"
        at = whole.index(card, start)
        whole = whole[:at] + b"NAXIS3  =            250000000" + whole[at + len(card) :]
    else:
        monkeypatch.setattr(gunzip, "LARGEST_WHOLE", 1 << 20)
        whole += bytes(8 << 20)
    (tmp_path / "manga-8000-1-MAPS-HYB10.fits.gz").write_bytes(gzip.compress(whole))
    config = SurveyConfig(reader="manga-maps", root=str(tmp_path))
    reader = make_reader(config)
    (target,) = select_targets(config, reader)
    tracemalloc.start()
    with pytest.raises(Rejected, match=r"MAPS-HYB10\.fits\.gz") as caught:
        reader.read_maps(target, ["Ha-6564"], 8)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    assert caught.value.code == "truncated"


def test_whatever_a_file_does_to_its_reader_costs_one_galaxy_but_a_service_that_fails_stops_the_listing() -> None:
    unread = Target("1-1", "1-1", np.nan, np.nan, np.nan, ("a.fits",))

    def read(error: Exception) -> Target:
        def fail() -> Target:
            raise error

        return guarded_target(unread, fail)

    assert read(RecursionError("deep")).rejected == ("unreadable", "a.fits: RecursionError: deep")
    assert read(Rejected("bad_card", "a.fits: x")).rejected == ("bad_card", "a.fits: x")
    with pytest.raises(StorageError, match="away"):
        read(StorageError("s3://b/a.fits: away"))


def test_names_that_are_whole_numbers_are_text_and_others_refused() -> None:
    assert SurveyConfig.model_validate({"galaxies": [41144, "8485-1901"]}).galaxies == ("41144", "8485-1901")
    for bad in ([1.5], [True], 41144):
        with pytest.raises(ValueError, match=r"Input should be a valid (string|tuple)"):
            SurveyConfig.model_validate({"galaxies": bad})


@pytest.mark.parametrize("reader", ["manga-logcube", "manga-maps", "califa-elines"])
def test_files_of_another_reader_are_recognised(reader: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,z\na,0.1\n")
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "41144_A_cube_blue.fits.gz"
    file.touch()
    config = SurveyConfig(reader=reader, root=str(tmp_path), table=str(tmp_path / "t.csv"))
    with pytest.raises(MistakeError) as caught:
        select_targets(config, make_reader(config))
    assert str(caught.value) == (
        f"survey.reader is {reader}; the files below {tmp_path} (such as {file}) fit the reader sami: "
        "--set survey.reader=sami"
    )


def test_a_survey_of_which_nothing_is_left_says_why(tmp_path: Path) -> None:
    redshifts = {"8000-1": 0.5, "8000-2": 0.6, "8000-3": np.nan}
    survey = SurveyConfig(root=str(write_survey(tmp_path / "survey", redshifts, size=9)))
    out_of_range, without = r"2 redshift_range, such as .*z = 0\.5.*z_max.*", "1 no_redshift, such as .*8000-3"
    with pytest.raises(MistakeError, match=f"none of 3 galaxies can be used: {out_of_range}; {without}"):
        prepare(PrepareConfig(), survey, str(tmp_path / "s.zarr"), seed=3)
    assert not (tmp_path / "s.zarr").exists()
