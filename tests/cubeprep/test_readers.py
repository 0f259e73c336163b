"""Physics of the real files, and what the readers make of files that are not as they should be."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeprep.cluster import DaskConfig
from cubeprep.config import MistakeError
from cubeprep.cube import Rejected, screened
from cubeprep.fits.wcs import wavelengths
from cubeprep.lines import LINES_BY_NAME, PAPER_LINES, air_to_vacuum
from cubeprep.masks import DAPPIXMASK, DRP3PIXMASK, WINDOW_MASK_BITS, bits_value
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.readers import manga_maps
from cubeprep.store import WindowStore
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.survey_files import fits_bytes
from cubeprep.windows import LineWindows, WindowConfig
from tests.cubeprep.test_windows import ArrayArm, extract_windows
from tests.logcube import WAVE, cube_hdus, write_drpall, write_survey
from tests.maps import DR17_CHANNELS, maps_hdus, write_maps

HA = LINES_BY_NAME["Ha-6564"]
SIX_ANGSTROM = WindowConfig(
    lines=("Ha-6564",),
    num_samples=10,
    step_dex=float(np.log10((HA.rest_wave + 6) / (HA.rest_wave - 6))) / 10,
    sampling="conserve",
    continuum="sidebands",
    size=50,
)


def sami_windows(real_data: Path, observation: str) -> tuple[float, LineWindows]:
    config = SurveyConfig(reader="sami", root=str(real_data / "sami" / "cubes"), galaxies=(observation,))
    reader = make_reader(config)
    (target,) = select_targets(config, reader)
    return target.z, extract_windows(reader.open(target), target.z, SIX_ANGSTROM)


@pytest.mark.realdata
@pytest.mark.parametrize("observation", ["41144_A", "572402_A"])
def test_sami_halpha_agrees_with_the_surveys_own_map(real_data: Path, observation: str) -> None:
    z, windows = sami_windows(real_data, observation)
    edges = HA.rest_wave * (1 + z) * 10 ** ((np.arange(11) - 5) * SIX_ANGSTROM.step_dex)
    flux = (windows.flux[0] * np.diff(edges)[:, None, None]).sum(axis=0) / 10  # to SAMI's 1e-16
    name = f"{observation}_Halpha_sectors_1-comp.fits"
    with fits.open(real_data / "sami" / observation.split("_")[0] / name) as hdus:
        survey_flux, error = hdus[0].data[0], hdus[1].data[0]
    strong = np.isfinite(flux) & (survey_flux / error > 10)
    assert strong.sum() > 500
    low, median, high = np.percentile(flux[strong] / survey_flux[strong], [16, 50, 84])
    assert 0.90 <= median <= 1.00
    assert high - low < 0.06
    spectrum = np.nansum(windows.flux[0], axis=(1, 2))
    peak = HA.rest_wave * 10 ** SIX_ANGSTROM.offsets_dex[spectrum.argmax()]
    assert abs(peak - HA.rest_wave) < 1.5


@pytest.mark.realdata
def test_sami_lines_in_the_gap_between_the_arms_are_masked(real_data: Path) -> None:
    config = SurveyConfig(reader="sami", root=str(real_data / "sami" / "cubes"), galaxies=("41144_A",))
    reader = make_reader(config)
    (target,) = select_targets(config, reader)
    arms = reader.open(target)
    assert all("sectors cube: spaxels of a bin share one spectrum" in arm.remarks[0] for arm in arms)
    windows = extract_windows(arms, target.z, WindowConfig(sampling="conserve", min_lines=12))
    covered = {
        name: bool((mask == 0).any()) for name, mask in zip(WindowConfig().line_names, windows.mask, strict=True)
    }
    assert not covered["HeI-5877"]
    assert covered["Hb-4862"]
    assert covered["SII-6732"]
    assert np.isnan(windows.flux[list(covered).index("HeI-5877")]).all()


@pytest.mark.realdata
def test_maps_channels_are_chosen_by_name_and_masked_spaxels_never_contribute(real_data: Path) -> None:
    config = SurveyConfig(reader="manga-maps", root=str(real_data / "manga"))
    reader = make_reader(config)
    (target,) = select_targets(config, reader)
    assert (target.plateifu, target.mangaid) == ("7815-3702", "1-113540")
    assert target.z == pytest.approx(0.02938, abs=1e-4)
    names = ["Ha-6564", "Hb-4862", "OIII-5008"]  # not in the order of the file
    planes = reader.read_maps(target, names, 42)
    with fits.open(target.paths[0]) as hdus:
        header = hdus["EMLINE_GFLUX"].header
        channel = {header[f"C{i:02d}"].strip(): i - 1 for i in range(1, 23)}
        flux, mask = (hdus[f"EMLINE_GFLUX{suffix}"].data for suffix in ("", "_MASK"))
    unusable = (mask & bits_value(["DONOTUSE"], DAPPIXMASK)) != 0
    held_values = 0
    for name, got, bad in zip(names, planes.flux, planes.mask, strict=True):
        want, masked = flux[channel[name]], unusable[channel[name]]
        held_values += int((want[masked] != 0).sum())
        assert (bad[masked] > 0).all()
        assert (got[bad > 0] == 0).all()
        assert np.array_equal(got[bad == 0], want[bad == 0])
    assert held_values > 0, "the file was chosen because masked spaxels hold values in it"
    assert 0.4 < (planes.mask > 0).mean() < 0.6


@pytest.mark.parametrize("line_map", ["GFLUX", "SFLUX"])
def test_unreliable_maps_are_masked_unless_asked_otherwise(tmp_path: Path, line_map: str) -> None:
    hdus = maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03)
    name, halpha = f"EMLINE_{line_map}", DR17_CHANNELS.index("Ha-6564")
    hdus[f"{name}_MASK"].data[halpha, 2, 3] = 1 << DAPPIXMASK["UNRELIABLE"]
    write_maps(tmp_path, hdus)
    others = tuple(bit for bit in manga_maps.DEFAULT_MASK_BITS if bit != "UNRELIABLE")
    for bits, flux, mask in ((None, 0, WINDOW_MASK_BITS["SURVEY"]), (others, hdus[name].data[halpha, 2, 3], 0)):
        config = SurveyConfig(reader="manga-maps", root=str(tmp_path), line_map=line_map, mask_bits=bits)
        reader = make_reader(config)
        (target,) = select_targets(config, reader)
        planes = reader.read_maps(target, ["Ha-6564"], None)
        assert (planes.flux[0, 2, 3], planes.mask[0, 2, 3]) == (flux, mask)
        assert (planes.mask != 0).sum() == (mask != 0)
        assert (planes.ivar[0, 2, 3] > 0) == (mask == 0)


@pytest.mark.realdata
def test_unreliable_sums_of_a_real_file_lack_flux_and_fits_have_none(real_data: Path) -> None:
    """Why these values are masked: the errors do not cover the flux that is missing from the sums."""
    config = SurveyConfig(reader="manga-maps", root=str(real_data / "manga"), line_map="SFLUX")
    reader = make_reader(config)
    (target,) = select_targets(config, reader)
    with fits.open(target.paths[0]) as hdus:
        summed, ivar, mask = (hdus[f"EMLINE_SFLUX{suffix}"].data for suffix in ("", "_IVAR", "_MASK"))
        fitted, fit_mask = (hdus[f"EMLINE_GFLUX{suffix}"].data for suffix in ("", "_MASK"))
        names = [hdus["EMLINE_SFLUX"].header[f"C{i:02d}"] for i in range(1, len(mask) + 1)]
    bit, others = 1 << DAPPIXMASK["UNRELIABLE"], bits_value(["NOVALUE", "MATHERROR", "DONOTUSE"], DAPPIXMASK)
    assert not (fit_mask & bit).any()
    unreliable, usable = (mask & bit) != 0, ((mask | fit_mask) & others) == 0
    sigmas = (summed - fitted) * np.sqrt(ivar)
    low, usual = (np.percentile(sigmas[usable & which], 5) for which in (unreliable, ~unreliable))
    assert low < -7
    assert usual > -2.5
    assert (reader.read_maps(target, names, None).mask[unreliable] != 0).all()


@pytest.mark.realdata
def test_the_channels_of_dr17_are_those_of_its_line_file(real_data: Path) -> None:
    rows = [row.split() for row in (real_data / "linedb" / "elpmpl11.par").read_text().splitlines()]
    fitted = [f"{row[2]}-{int(float(row[3]))}" for row in rows if row and row[0] == "DAPEML"]
    assert list(DR17_CHANNELS) == fitted
    assert len(fitted) == 35


@pytest.mark.realdata
@pytest.mark.parametrize("line_map", ["GFLUX", "SFLUX"])
def test_a_line_has_the_same_map_in_a_file_of_22_and_of_35_channels(
    real_data: Path, tmp_path: Path, line_map: str
) -> None:
    (source,) = (real_data / "manga").glob("*MAPS*")
    rng = np.random.default_rng(0)
    with fits.open(fits_bytes(str(source))) as hdus:
        shape = hdus[f"EMLINE_{line_map}"].shape[1:]
        new = maps_hdus(np.zeros(shape), np.zeros(shape, dtype=bool), z=0.02938, plateifu="7815-3702")
        old_names = [hdus[f"EMLINE_{line_map}"].header[f"C{i:02d}"].strip() for i in range(1, 23)]
        common = [name for name in DR17_CHANNELS if name in old_names]
        for suffix in ("", "_IVAR", "_MASK"):
            old, hdu = hdus[f"EMLINE_{line_map}{suffix}"].data, new[f"EMLINE_{line_map}{suffix}"]
            hdu.data[:] = rng.integers(1, 9, hdu.shape)  # lines that the old file lacks hold something else
            for name in common:
                hdu.data[DR17_CHANNELS.index(name)] = old[old_names.index(name)]
    write_maps(tmp_path, new)
    planes = []
    for root in (real_data / "manga", tmp_path):
        config = SurveyConfig(reader="manga-maps", root=str(root), line_map=line_map)
        reader = make_reader(config)
        (target,) = select_targets(config, reader)
        assert (target.plateifu, round(target.z, 4)) == ("7815-3702", 0.0294)
        planes.append(reader.read_maps(target, common, 32))
    assert len(common) >= 20
    for name in ("flux", "ivar", "mask"):
        np.testing.assert_array_equal(getattr(planes[0], name), getattr(planes[1], name))
    assert (planes[0].mask == 0).sum() > 1000


def test_all_lines_of_dr17_become_a_store(tmp_path: Path) -> None:
    shape, bad = (12, 12), np.zeros((12, 12), dtype=bool)
    bad[0] = True
    hdus = maps_hdus(np.zeros(shape), bad, z=0.03)
    write_maps(tmp_path / "maps", hdus)
    config = SurveyConfig(reader="manga-maps", root=str(tmp_path / "maps"), line_map="SFLUX")
    job = PrepareConfig(windows=WindowConfig(lines="dap-dr17", num_samples=1, size=12), dask=DaskConfig(num_workers=0))
    prepare(job, config, str(tmp_path / "s"), seed=0)
    store = WindowStore.open(str(tmp_path / "s"))
    got = store.read_galaxy("8000-1").flux[0, :, 0]
    assert store.shape == (35, 1, 12)
    np.testing.assert_array_equal(got[:, ~bad], hdus["EMLINE_SFLUX"].data[:, ~bad])
    assert np.isnan(got[:, bad]).all()


@pytest.mark.realdata
def test_real_manga_spectra_have_halpha_in_the_middle_of_its_window(real_data: Path) -> None:
    config = WindowConfig(num_samples=20, size=8, min_lines=1, continuum="sidebands")
    halpha = config.line_names.index("Ha-6564")
    peaks = []
    for name in ("MaNGA_test_spectra.fits.gz", "MaNGA_multicomp_test_spectra.fits.gz"):
        with fits.open(real_data / "spectra" / name) as hdus:
            wave, *spectra = (hdus[key].data for key in ("WAVE", "FLUX", "IVAR", "MASK", "Z"))
        np.testing.assert_allclose(WAVE, wave, rtol=1e-6)
        for flux, ivar, mask, z in zip(*spectra, strict=True):
            windows = extract_windows([ArrayArm(wave, flux, ivar, (mask & 1 << 10) != 0)], float(z), config)
            significance = (windows.flux * np.sqrt(windows.ivar))[halpha, :, 0, 0]
            if np.isfinite(significance).all() and significance.max() > 8:
                peaks.append(float(config.velocity_kms[significance.argmax()]))
    assert len(peaks) == 6
    assert np.abs(peaks).max() < 150


def test_logcube_windows_hold_the_flux_of_the_lines(tmp_path: Path) -> None:
    root = write_survey(tmp_path, {"8135-1902": 0.031}, sigma=1e-4)
    config = SurveyConfig(root=str(root))
    reader = make_reader(config)
    (target,) = select_targets(config, reader)
    assert (target.plateifu, target.mangaid, target.z, target.ra_deg) == ("8135-1902", "7-8135-1902", 0.031, 180.0)
    windows = extract_windows(reader.open(target), target.z, WindowConfig(sampling="conserve", size=12))
    for i, line in enumerate(PAPER_LINES):
        if line.name in ("NeIII-3968", "Heps-3971"):
            continue  # each holds a part of the other
        width = line.rest_wave * 1.031 * np.log(10) * 1e-4
        assert windows.flux[i, :, 6, 6].sum() * width == pytest.approx(20 * np.exp(-np.hypot(0.5, 0.5) / 3), rel=0.01)
    assert (windows.mask[:, :, 0, 0] > 0).all()


def test_logcube_wavelengths_are_those_of_the_wave_hdu() -> None:
    hdus = cube_hdus(0.03, size=2)
    wave = wavelengths(hdus["FLUX"].header, "cube", kinds=("WAVE-LOG",))
    np.testing.assert_allclose(wave, hdus["WAVE"].data, rtol=1e-12)
    hdus["FLUX"].header["CTYPE3"] = "AWAV"
    with pytest.raises(Rejected, match="cube: FLUX has CTYPE3 = 'AWAV'"):
        wavelengths(hdus["FLUX"].header, "cube", kinds=("WAVE-LOG",))


def test_mask_bits_are_named_and_configurable(tmp_path: Path) -> None:
    assert bits_value(["NOCOV", "DONOTUSE"], DRP3PIXMASK) == 1 | 1 << 10
    with pytest.raises(ValueError, match="unknown mask bits DONOTSUE; known are NOCOV"):
        make_reader(SurveyConfig(mask_bits=("DONOTSUE",)))
    with pytest.raises(ValueError, match="unknown mask bits"):
        make_reader(SurveyConfig(reject_quality=("CRITICLE",)))


def test_nothing_bad_keeps_a_value() -> None:
    flux = np.array([1.0, 2.0, np.nan, 4.0, 1e30]).reshape(5, 1, 1)
    ivar = np.array([1.0, 0.0, 1.0, np.inf, 1.0]).reshape(5, 1, 1)
    planes = screened(flux, ivar, np.arange(5).reshape(5, 1, 1) == 4, np.zeros((1, 1), dtype=bool))
    assert planes.mask.ravel().tolist() == [0, 1, 8, 8, 1]
    assert planes.flux.ravel().tolist() == [1, 0, 0, 0, 0]
    assert planes.ivar.ravel().tolist() == [1, 0, 0, 0, 0]


def test_selection_gives_a_reason_for_each_galaxy_left_out(tmp_path: Path) -> None:
    redshifts = {"1-1": 0.03, "1-2": -9999.0, "1-3": 0.2, "1-4": 0.03, "1-5": float("nan")}
    root = write_survey(tmp_path, redshifts, size=2)
    (root / "drpall.fits").unlink()
    rows = [(name, f"7-{name}", z) for name, z in redshifts.items()]
    write_drpall(root, rows, quality={"1-4": 1 << 30})
    extra = root / "1" / "stack" / "manga-9-9-LOGCUBE.fits.gz"
    extra.write_bytes((root / "1" / "stack" / "manga-1-1-LOGCUBE.fits.gz").read_bytes())
    config = SurveyConfig(root=str(root), galaxies=("1-1", "1-2", "1-3", "1-4", "1-5", "9-9", "404-1"))
    targets = select_targets(config, make_reader(config))
    codes = {target.plateifu: target.rejected and target.rejected[0] for target in targets}
    assert codes == {
        "1-1": None,
        "1-2": "no_redshift",
        "1-3": "redshift_range",
        "1-4": "quality",
        "1-5": "no_redshift",
        "9-9": "not_in_table",
        "404-1": "missing_file",
    }


def survey_of_repeats(root: Path, columns: dict[str, list[float]]) -> SurveyConfig:
    """Five observations of two objects: 1-1 failed, 1-2 has two quality bits, 1-3 and 1-4 none; 2-1 stands alone."""
    root.mkdir()
    names = ["1-1", "1-2", "1-3", "1-4", "2-1"]
    for name in names:
        (root / f"manga-{name}-LOGCUBE.fits.gz").write_bytes(b"")
    quality = {"1-1": 1 << 30, "1-2": 1 << 2 | 1 << 14}
    write_drpall(root, [(name, f"object {name[0]}", 0.03) for name in names], quality, columns)
    return SurveyConfig(root=str(root))


def rejections(config: SurveyConfig) -> dict[str, tuple[str, str]]:
    """Code and last words of the reason of each target that was left out."""
    left_out = {target.plateifu: target.rejected for target in select_targets(config, make_reader(config))}
    return {name: (found[0], found[1].split(": ")[-1]) for name, found in left_out.items() if found}


QUALITY = ("quality", "the survey's quality flag has CRITICAL")


def test_repeat_observations_are_kept_unless_asked_otherwise(tmp_path: Path) -> None:
    config = survey_of_repeats(tmp_path / "s", {})
    assert rejections(config) == {"1-1": QUALITY}
    by_name = ("duplicate", "it is the first by name")
    first = config.model_copy(update={"duplicates": "first"})
    assert rejections(first) == {"1-1": QUALITY, "1-3": by_name, "1-4": by_name}
    (reason,) = {t.rejected[1] for t in select_targets(first, make_reader(first)) if t.plateifu == "1-4" and t.rejected}
    assert "manga-1-4-LOGCUBE.fits.gz: object 1 was observed as 1-2 too, which is kept" in reason


@pytest.mark.parametrize(
    ("columns", "kept", "why"),
    [
        ({"bluesn2": [90.0, 90, 3, 4, 1], "redsn2": [90.0, 90, 8, 8, 1]}, "1-4", "it is deeper, 12 against 11"),
        (
            {"bluesn2": [90.0, 90, 4, 4, 1], "exptime": [900.0, 900, 300, 600, 1]},
            "1-4",
            "it is deeper, 600 against 300",
        ),
        ({"nexp": [9.0, 9, 12, 9, 9]}, "1-3", "it is deeper, 12 against 9"),
        ({"nexp": [9.0, 9, 9, 9, 9]}, "1-3", "it is the first by name"),
        ({"nexp": [9.0, 9, -9999, 9, 9]}, "1-4", "it is deeper, 9 against nan"),
        ({}, "1-3", "it is the first by name"),
    ],
)
def test_the_best_of_repeat_observations_is_clean_then_deep(
    tmp_path: Path, columns: dict[str, list[float]], kept: str, why: str
) -> None:
    config = survey_of_repeats(tmp_path / "s", columns).model_copy(update={"duplicates": "best"})
    (other,) = {"1-3", "1-4"} - {kept}
    cleaner = ("duplicate", "it has 0 quality bits against 2")
    assert rejections(config) == {"1-1": QUALITY, "1-2": cleaner, other: ("duplicate", why)}


def test_quality_bits_are_named_and_chosen(tmp_path: Path) -> None:
    config = survey_of_repeats(tmp_path / "s", {}).model_copy(update={"reject_quality": ("SKYSUBBAD", "UNUSUAL")})
    assert rejections(config) == {"1-2": ("quality", "the survey's quality flag has SKYSUBBAD, UNUSUAL")}


def test_a_root_without_folder_or_table_says_so(tmp_path: Path) -> None:
    for root, message in (
        (tmp_path / "none", r"^survey\.root: .*none does not exist\. Give the folder with the cubes, or a text file"),
        (tmp_path, r"no drpall\*\.fits"),
    ):
        config = SurveyConfig(root=str(root))
        with pytest.raises(ValueError, match=message):
            select_targets(config, make_reader(config))
    (tmp_path / "drpall.fits").write_bytes(b"not a table")
    with pytest.raises(ValueError, match="cannot be read as drpall"):
        select_targets(SurveyConfig(root=str(tmp_path)), make_reader(SurveyConfig(root=str(tmp_path))))


@pytest.mark.slow
@pytest.mark.realdata
def test_muse_cube_is_read_with_its_quality_and_in_vacuum(real_data: Path, tmp_path: Path) -> None:
    name = "mpdaf_minicube_Abell478"
    table = tmp_path / "galaxies.csv"
    table.write_text(f"name,z\n{name},0.0881\nnot_here,0.1\n")
    config = SurveyConfig(reader="muse", root=str(real_data / "muse"), table=str(table), z_max=0.2)
    reader = make_reader(config)
    target, absent = select_targets(config, reader)
    code, reason = absent.rejected or ("", "")
    assert code == "missing_file"
    assert reason.startswith(
        f"{table}: not_here has no file below {config.root}; files there have names such as mpdaf_"
    )
    (arm,) = reader.open(target)
    with fits.open(target.paths[0]) as hdus:
        air = hdus["DATA"].header["CRVAL3"] + 1.25 * np.arange(3681)
        np.testing.assert_allclose(arm.wave, air * 1.000277, rtol=5e-6)
        planes = arm.read(np.array([10, 2000, 3600]), 40)
        data, variance, quality = (hdus[key].data[[10, 2000, 3600]] for key in ("DATA", "STAT", "DQ"))
    good = planes.mask == 0
    assert np.array_equal(~good, (quality != 0) | ~np.isfinite(data) | ~np.isfinite(variance))
    np.testing.assert_allclose(planes.flux[good], data[good] * 1e-3, rtol=1e-5)
    np.testing.assert_allclose(planes.ivar[good], 1e6 / variance[good], rtol=1e-5)


@pytest.mark.realdata
def test_muse_lines_far_apart_in_wavelength_agree_on_the_redshift(real_data: Path, tmp_path: Path) -> None:
    table = tmp_path / "galaxies.csv"
    table.write_text("name,z\nmpdaf_minicube_Abell478,0.0860\n")
    config = SurveyConfig(reader="muse", root=str(real_data / "muse"), table=str(table), z_max=0.2)
    reader = make_reader(config)
    (target,) = select_targets(config, reader)
    lines = ("Hb-4862", "OI-6302", "Ha-6564", "NII-6585", "SII-6718")
    window = WindowConfig(lines=lines, num_samples=12, sampling="conserve", continuum="sidebands", size=40)
    windows = extract_windows(reader.open(target), target.z, window)
    spectra = np.nansum(windows.flux, axis=(2, 3))
    peaks = window.velocity_kms[spectra.argmax(axis=1)]
    assert np.abs(peaks).max() < 70, dict(zip(lines, peaks, strict=True))
    assert (spectra.max(axis=1) > 4 * np.abs(spectra[:, [0, -1]]).mean(axis=1)).all()


@pytest.mark.realdata
def test_califa_maps_are_chosen_by_description(real_data: Path, tmp_path: Path) -> None:
    table = tmp_path / "galaxies.csv"
    table.write_text("name,z\nNGC4047,0.0114\n")
    config = SurveyConfig(reader="califa-elines", root=str(real_data / "califa"), table=str(table))
    reader = make_reader(config)
    (target,) = select_targets(config, reader)
    planes = reader.read_maps(target, ["Hb-4862", "Ha-6564", "HeII-4687"], 78)
    flux = np.where(planes.mask == 0, planes.flux, np.nan)
    strong = flux[1] * np.sqrt(planes.ivar[1]) > 20
    assert strong.sum() > 1000
    assert 2.5 < np.nanmedian((flux[1] / flux[0])[strong]) < 8, "a Balmer decrement with dust"
    assert (planes.mask[2] > 0).all(), "Pipe3D has no He II here"
    with fits.open(target.paths[0]) as hdus:
        assert planes.flux[1].max() == pytest.approx(hdus[0].data[6].max() * 10)


@pytest.mark.parametrize(("kind", "in_air"), [("AWAV", True), ("LINEAR", True), ("WAVE", False)])
def test_muse_wavelengths_are_in_air_unless_the_header_says_vacuum(tmp_path: Path, kind: str, in_air: bool) -> None:
    grid = 4750 + 1.25 * np.arange(6)
    cards = {"CTYPE3": kind, "CUNIT3": "Angstrom", "CRPIX3": 1.0, "CRVAL3": 4750.0, "CD3_3": 1.25}
    unit = {"BUNIT": "10**(-20)*erg/s/cm**2/Angstrom"}
    fits.HDUList(
        [fits.PrimaryHDU(), fits.ImageHDU(np.ones((6, 2, 2), "f4"), fits.Header(cards | unit), name="DATA")]
    ).writeto(tmp_path / "g.fits")
    (tmp_path / "t.csv").write_text("name,z\ng,0.01\n")
    config = SurveyConfig(reader="muse", root=str(tmp_path), table=str(tmp_path / "t.csv"))
    (target,) = select_targets(config, make_reader(config))
    (arm,) = make_reader(config).open(target)
    np.testing.assert_allclose(arm.wave, air_to_vacuum(grid) if in_air else grid, rtol=1e-12)


def test_errors_of_califa_maps_are_sigmas(tmp_path: Path) -> None:
    data = np.stack([np.full((3, 4), value, "f4") for value in (7.0, 2.0, 0.5, 9.0)])
    data[2, 0, 0] = 0
    header = fits.Header()
    for i, kind in ((1, "flux"), (2, "error flux"), (3, "flux")):
        header[f"DESC_{i}"] = "Halpha emission line" if i < 3 else "[OIII]5007 emission line"
        header[f"TYPE_{i}"], header[f"UNITS_{i}"] = kind, "10^-16 erg"
    fits.PrimaryHDU(data, header).writeto(tmp_path / "NGC1.ELINES.cube.fits")
    (tmp_path / "t.csv").write_text("name,z\nNGC1,0.01\n")
    config = SurveyConfig(reader="califa-elines", root=str(tmp_path), table=str(tmp_path / "t.csv"))
    (target,) = select_targets(config, make_reader(config))
    maps = make_reader(config).read_maps(target, ["Ha-6564", "OIII-5008"], 4)
    assert maps.flux[0, 2, 2] == pytest.approx(20)
    assert maps.ivar[0, 2, 2] == pytest.approx(1 / 5**2)
    assert ((maps.mask[0] == 0).sum(), (maps.mask[1] > 0).all()) == (11, True), "no error, or no map of errors"
    fits.setval(target.paths[0], "DESC_3", value="Halpha emission line")
    with pytest.raises(Rejected, match=r"bad_card: .*DESC_1 and DESC_3 are both the flux of 'Halpha'"):
        make_reader(config).read_maps(target, ["Ha-6564"], 4)
    with pytest.raises(Rejected, match="no_coverage"):
        make_reader(config).read_maps(target, ["Hb-4862"], 4)


def test_readers_that_need_a_table_say_so(tmp_path: Path) -> None:
    config = SurveyConfig(reader="muse", root=str(tmp_path))
    with pytest.raises(ValueError, match=r"survey\.table.*name and z"):
        select_targets(config, make_reader(config))
    config = config.model_copy(update={"table": str(tmp_path / "t.csv")})
    for columns, said in (
        (
            "galaxy,z",
            "no column 'name'; it has galaxy, z. Rename the column of the file's name without its suffix to name.",
        ),
        (
            "galaxy,redshift",
            (
                "no columns 'name' and 'z'; it has galaxy, redshift. "
                "Rename the column of the file's name without its suffix to name and that of the redshift to z."
            ),
        ),
        (
            "names,z",
            (
                "no column 'name'; it has names, z; did you mean names? "
                "Rename the column of the file's name without its suffix to name."
            ),
        ),
    ):
        (tmp_path / "t.csv").write_text(f"{columns}\na,0.1\n")
        with pytest.raises(MistakeError) as caught:
            select_targets(config, make_reader(config))
        assert str(caught.value) == f"{tmp_path}/t.csv (survey.table): {said}"


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("damage", "code"), [("truncated", "truncated"), ("no HDU", "missing_hdu"), ("no line", "no_coverage")]
)
def test_a_damaged_maps_file_is_rejected_by_name(real_data: Path, tmp_path: Path, damage: str, code: str) -> None:
    (source,) = (real_data / "manga").glob("*MAPS*")
    path = tmp_path / source.name
    if damage == "truncated":
        path.write_bytes(source.read_bytes()[:400_000])
    else:
        with fits.open(fits_bytes(str(source))) as hdus:
            if damage == "no HDU":
                del hdus["EMLINE_GFLUX_MASK"]
            else:
                hdus["EMLINE_GFLUX"].header["C19"] = "Lya-1216"
            hdus.writeto(path, output_verify="ignore")
    config = SurveyConfig(reader="manga-maps", root=str(tmp_path))
    reader = make_reader(config)
    (target,) = select_targets(config, reader)
    with pytest.raises(Rejected, match=source.name) as caught:
        reader.read_maps(target, ["Ha-6564"], 32)
    assert caught.value.code == code
