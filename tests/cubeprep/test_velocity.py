"""Windows that follow a velocity field: analytic rotating discs, and MAPS files as they should and should not be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy.special import erf

from cubeprep.cluster import DaskConfig
from cubeprep.config import ConfigError
from cubeprep.cube import Planes, Rejected, screened
from cubeprep.extract import extract_windows
from cubeprep.lines import LINES_BY_NAME, SPEED_OF_LIGHT_KMS
from cubeprep.masks import DAPPIXMASK
from cubeprep.masks import WINDOW_MASK_BITS as BITS
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.readers.manga_maps import read_velocity
from cubeprep.sampling import pixel_edges
from cubeprep.store import WindowStore
from cubeprep.survey import SurveyConfig
from cubeprep.velocity import VelocityConfig, VelocityField
from cubeprep.windows import WindowConfig
from tests.logcube import WAVE, cube_hdus, line_spectrum, write_drpall, write_gzipped
from tests.maps import BAD, maps_hdus, write_maps

LINES = ("Hb-4862", "Ha-6564")
SIZE = 12
Z = 0.031
CORRECT = VelocityConfig(correct=True)


def disc_velocity(size: int = SIZE, v_max: float = 230.0) -> np.ndarray:
    """[y, x] km/s of a disc that rotates about an axis of its own."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = np.hypot(x, y)
    return v_max * np.tanh(radius / 2) * (0.8 * x + 0.6 * y) / np.maximum(radius, 1e-9)


def rotating(wave: np.ndarray, velocity_kms: np.ndarray, sigma_kms: float = 70.0) -> np.ndarray:
    """[plane, y, x] mean flux densities of Gaussian lines of unit flux, integrated over the pixels."""
    edges, cube = pixel_edges(wave)[:, None, None], np.zeros((len(wave), *velocity_kms.shape))
    for name in LINES:
        centre = LINES_BY_NAME[name].rest_wave * (1 + Z) * (1 + velocity_kms / SPEED_OF_LIGHT_KMS)
        scaled = (edges - centre) / (np.sqrt(2) * centre * sigma_kms / SPEED_OF_LIGHT_KMS)
        cube += np.diff(erf(scaled), axis=0) / 2
    return cube / np.diff(edges, axis=0)


@dataclass
class CubeArm:
    """An arm whose cube [plane, y, x] is in memory; it remembers the planes that were read."""

    wave: np.ndarray
    flux: np.ndarray
    bad: np.ndarray | None = None
    ivar: np.ndarray | None = None
    read_planes: list[int] = field(default_factory=list)

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        self.read_planes = planes.tolist()
        flux = self.flux[planes]
        bad = np.zeros(flux.shape, dtype=bool) if self.bad is None else self.bad[planes]
        ivar = np.ones(flux.shape) if self.ivar is None else self.ivar[planes]
        return screened(flux, ivar, bad, np.zeros(flux.shape[1:], dtype=bool), 0.5)


def about(velocity_kms: np.ndarray, z: float = Z, config: VelocityConfig = CORRECT) -> VelocityField:
    return VelocityField.about(velocity_kms, Z, z, config)


def config(**changes: object) -> WindowConfig:
    return WindowConfig(**({"lines": LINES, "num_samples": 16, "size": SIZE, "sampling": "conserve"} | changes))


def widths(window: WindowConfig, z: float = Z) -> np.ndarray:
    """[line, sample, 1, 1] widths of the samples, Angstrom."""
    edges = 10 ** ((np.arange(window.num_samples + 1) - window.num_samples / 2) * window.step_dex)
    return (
        np.array([LINES_BY_NAME[name].rest_wave for name in LINES])[:, None, None, None]
        * (1 + z)
        * np.diff(edges).reshape(1, -1, 1, 1)
    )


def centroids(flux: np.ndarray) -> np.ndarray:
    """[line, y, x] centroid of each window against its middle, samples."""
    sample = np.arange(flux.shape[1]) - (flux.shape[1] - 1) / 2
    return np.einsum("lsyx,s->lyx", flux, sample) / flux.sum(axis=1)


@pytest.mark.parametrize("wave", [WAVE, np.arange(4800.0, 7200.0, 0.7)], ids=["log", "linear"])
@pytest.mark.parametrize("z_windows", [Z, Z + 2e-4])
def test_a_rotating_disc_is_at_rest_in_every_spaxel(wave: np.ndarray, z_windows: float) -> None:
    velocity = disc_velocity()
    window = config()
    arm = CubeArm(wave, rotating(wave, velocity))
    moving = extract_windows([arm], z_windows, window).windows
    at_rest = extract_windows([arm], z_windows, window, velocity=about(velocity, z_windows)).windows
    assert np.abs(centroids(moving.flux)).max() > 2
    assert np.abs(centroids(at_rest.flux)).max() < 0.05
    flux = (at_rest.flux.astype(float) * widths(window, z_windows)).sum(axis=1)
    np.testing.assert_allclose(flux, 1, rtol=1e-5)
    assert (at_rest.mask == 0).all()


def test_nearest_moves_each_spaxel_by_whole_planes() -> None:
    velocity = disc_velocity()
    cube = rotating(WAVE, velocity)
    window = config(sampling="nearest")
    got = extract_windows([CubeArm(WAVE, cube)], Z, window, velocity=about(velocity)).windows
    assert np.abs(centroids(got.flux)).max() < 0.51
    for value in got.flux[1, :, 3, 4]:
        assert value in cube[:, 3, 4].astype(np.float32)
    np.testing.assert_allclose((got.flux * widths(window)).sum(axis=1), 1, rtol=2e-3)


@pytest.mark.parametrize("sampling", ["nearest", "conserve"])
@pytest.mark.parametrize("continuum", ["none", "sidebands"])
def test_a_galaxy_at_rest_is_cut_as_without_correction(sampling: str, continuum: str) -> None:
    rng = np.random.default_rng(0)
    flux = rng.normal(size=(len(WAVE), SIZE, SIZE)).astype(np.float32)
    arm = CubeArm(WAVE, flux, rng.random(flux.shape) < 0.05, rng.uniform(1, 2, flux.shape).astype(np.float32))
    window = config(sampling=sampling, continuum=continuum)
    want = extract_windows([arm], Z, window).windows
    got = extract_windows([arm], Z, window, velocity=about(np.zeros((SIZE, SIZE)))).windows
    np.testing.assert_array_equal(got.mask, want.mask)
    np.testing.assert_allclose(got.flux, want.flux, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got.ivar, want.ivar, rtol=1e-5)


def test_one_velocity_for_all_spaxels_is_another_redshift() -> None:
    rng = np.random.default_rng(0)
    flux = rng.normal(size=(len(WAVE), SIZE, SIZE)).astype(np.float32)
    arm = CubeArm(WAVE, flux, rng.random(flux.shape) < 0.05, rng.uniform(1, 2, flux.shape).astype(np.float32))
    shift = 1 + 143.0 / SPEED_OF_LIGHT_KMS
    want = extract_windows([arm], (1 + Z) * shift - 1, config()).windows
    got = extract_windows([arm], Z, config(), velocity=about(np.full((SIZE, SIZE), 143.0))).windows
    np.testing.assert_array_equal(got.mask, want.mask)
    np.testing.assert_allclose(got.flux, want.flux * shift, rtol=1e-4, atol=1e-4)  # per width at the galaxy's redshift
    np.testing.assert_allclose(got.ivar, want.ivar / shift**2, rtol=1e-4)


@pytest.mark.parametrize("sampling", ["nearest", "conserve"])
def test_masked_planes_mask_their_samples_and_leak_nothing(sampling: str) -> None:
    rng = np.random.default_rng(1)
    velocity, window = disc_velocity(), config(sampling=sampling, continuum="sidebands")
    cube = rotating(WAVE, velocity)
    bad = rng.random(cube.shape) < 0.1
    results = []
    for value in (0.0, 1e30, np.nan, -np.inf):
        arm = CubeArm(WAVE, np.where(bad, value, cube), bad)
        results.append(extract_windows([arm], Z, window, velocity=about(velocity)).windows)
        got = results[-1]
        assert np.array_equal(np.isnan(got.flux), got.mask > 0)
        assert np.array_equal(got.ivar == 0, got.mask > 0)
        np.testing.assert_array_equal(got.flux, results[0].flux)
    assert 0.05 < (results[0].mask > 0).mean() < 0.4
    clean = extract_windows([CubeArm(WAVE, cube)], Z, window, velocity=about(velocity)).windows
    good = results[0].mask == 0
    np.testing.assert_allclose(results[0].flux[good], clean.flux[good], atol=2e-3)


def test_sidebands_follow_the_line() -> None:
    velocity = disc_velocity()
    lines = rotating(WAVE, velocity)
    continuum = (5 + 0.01 * (WAVE - 6000))[:, None, None]
    want = extract_windows([CubeArm(WAVE, lines)], Z, config(), velocity=about(velocity)).windows
    with_bands = config(continuum="sidebands")
    got = extract_windows([CubeArm(WAVE, lines + continuum)], Z, with_bands, velocity=about(velocity)).windows
    np.testing.assert_allclose(got.flux, want.flux, atol=0.03)  # a continuum of 5 to 10 is scaled by 1 + v / c
    assert (got.ivar < want.ivar).all()


def test_spaxels_without_velocity_stay_at_the_redshift_or_are_masked() -> None:
    velocity = disc_velocity()
    arm = CubeArm(WAVE, rotating(WAVE, velocity))
    holes = np.random.default_rng(2).random(velocity.shape) < 0.3
    patchy = np.where(holes, np.nan, velocity)
    whole = extract_windows([arm], Z, config(), velocity=about(velocity)).windows
    plain = extract_windows([arm], Z, config()).windows
    stay = extract_windows([arm], Z, config(), velocity=about(patchy)).windows
    np.testing.assert_array_equal(stay.flux[..., ~holes], whole.flux[..., ~holes])
    np.testing.assert_allclose(stay.flux[..., holes], plain.flux[..., holes], atol=1e-6)
    masking = about(patchy, config=CORRECT.model_copy(update={"unknown": "mask"}))
    masked = extract_windows([arm], Z, config(), velocity=masking).windows
    assert (masked.mask[..., holes] == BITS["NOVELOCITY"]).all()
    assert np.isnan(masked.flux[..., holes]).all()
    assert (masked.ivar[..., holes] == 0).all()
    np.testing.assert_array_equal(masked.flux[..., ~holes], whole.flux[..., ~holes])


def test_velocities_beyond_the_limit_count_as_unknown() -> None:
    velocity = np.array([[0.0, 499.0], [-501.0, np.nan]])
    field = about(velocity)
    assert field.known.tolist() == [[True, True], [False, False]]
    assert field.shift[1].tolist() == [1, 1]
    assert np.isfinite(field.shift).all()


@pytest.mark.parametrize("sampling", ["nearest", "conserve"])
def test_a_line_that_leaves_the_range_in_some_spaxels_is_masked_there(sampling: str) -> None:
    wave = WAVE[LINES_BY_NAME["Ha-6564"].rest_wave * (1 + Z) * 10 ** (8.6e-4) > WAVE]
    velocity = disc_velocity()
    arm = CubeArm(wave, rotating(wave, velocity))
    for continuum in ("none", "sidebands"):
        window = config(sampling=sampling, continuum=continuum, min_lines=1)
        got = extract_windows([arm], Z, window, velocity=about(velocity)).windows
        out = (got.mask[1] & BITS["NOCOVERAGE"]) > 0
        assert (got.mask[0] == 0).all()
        if continuum == "sidebands":
            assert out.all(), "the red band is out of range"
            continue
        assert not out[:, velocity < -20].any()
        assert out[-1, velocity > 150].all()
        assert not out[0].any()


@pytest.mark.parametrize("continuum", ["none", "sidebands"])
def test_no_more_planes_are_read_than_the_velocities_need(continuum: str) -> None:
    velocity, window = disc_velocity(), config(continuum=continuum)
    arm = CubeArm(WAVE, rotating(WAVE, velocity))
    extract_windows([arm], Z, window)
    plain = len(arm.read_planes)
    extract_windows([arm], Z, window, velocity=about(velocity))
    extra = 2 * np.abs(velocity).max() / (np.log(10) * 1e-4 * SPEED_OF_LIGHT_KMS) + 2
    assert plain < len(arm.read_planes) <= plain + len(LINES) * (1 if continuum == "none" else 3) * extra


def test_velocities_come_from_maps_by_name_and_masked_ones_do_not(tmp_path: Path) -> None:
    velocity = disc_velocity()
    bad = np.zeros(velocity.shape, dtype=bool)
    bad[2, 3:6] = True
    hdus = maps_hdus(velocity, bad, z=Z)
    for name in ("EMLINE_GVEL_IVAR", "STELLAR_VEL_IVAR"):
        hdus[name].data[..., 7, 7] = 1 / 31.0**2
        hdus[name].data[..., 7, 8] = 0
    hdus["EMLINE_GVEL"].data[:23] = 400  # of other lines than Halpha
    path = str(write_maps(tmp_path, hdus))
    for tracer, factor in (("Ha-6564", 1.0), ("stars", 0.9)):
        got, z = read_velocity(path, tracer, None, shape=velocity.shape, max_error_kms=30)
        known = ~bad
        known[7, 7:9] = False
        assert z == pytest.approx(Z)
        assert np.array_equal(np.isfinite(got), known)
        np.testing.assert_allclose(got[known], factor * velocity[known], rtol=1e-6)
    padded, _ = read_velocity(path, "Ha-6564", SIZE + 2, shape=velocity.shape, max_error_kms=30)
    assert np.isnan(padded[0]).all()
    assert np.array_equal(
        padded[1:-1, 1:-1],
        read_velocity(path, "Ha-6564", None, shape=velocity.shape, max_error_kms=30)[0],
        equal_nan=True,
    )
    hdus[0].header["PLATEIFU"] = "9-9"
    write_gzipped(hdus, Path(path))
    with pytest.raises(Rejected, match="PLATEIFU = '9-9', expected '"):
        read_velocity(path, "stars", None, shape=velocity.shape, max_error_kms=30)


@pytest.mark.realdata
def test_velocities_of_a_real_maps_file(real_data: Path) -> None:
    (path,) = (real_data / "manga").glob("*MAPS*")
    with fits.open(path) as hdus:
        maps, bits = hdus["EMLINE_GVEL"].data[18], hdus["EMLINE_GVEL_MASK"].data[18]
        stars = hdus["STELLAR_VEL"].data
    gas, z = read_velocity(str(path), "Ha-6564", None, shape=(42, 42), max_error_kms=30)
    known = np.isfinite(gas)
    assert z == pytest.approx(0.02938, abs=1e-4)
    assert np.array_equal(known, bits & (1 << DAPPIXMASK["DONOTUSE"]) == 0)
    assert np.array_equal(gas[known], maps[known])
    assert np.ptp(gas[known]) > 100, "it rotates"
    of_stars, _ = read_velocity(str(path), "stars", None, shape=(42, 42), max_error_kms=30)
    both = known & np.isfinite(of_stars)
    assert np.array_equal(of_stars[both], stars[both])
    assert np.corrcoef(gas[both], of_stars[both])[0, 1] > 0.9


def remove(name: str) -> Callable[[fits.HDUList], None]:
    def change(hdus: fits.HDUList) -> None:
        del hdus[name]

    return change


def mask_all(hdus: fits.HDUList) -> None:
    hdus["EMLINE_GVEL_MASK"].data[:] = BAD


def crop_all(hdus: fits.HDUList) -> None:
    for hdu in hdus[1:]:
        hdu.data = hdu.data[..., :-2, :-2]


def no_redshift(hdus: fits.HDUList) -> None:
    del hdus[0].header["SCINPVEL"]


def failed(hdus: fits.HDUList) -> None:
    hdus[0].header["DAPQUAL"] = 1 << 30


def another_line(hdus: fits.HDUList) -> None:
    hdus["EMLINE_GVEL"].header["C24"] = "Lya-1216"


# What is wrong with a MAPS file, and the code that its galaxy gets.
BAD_MAPS: dict[str, tuple[str, Callable[[fits.HDUList], None]]] = {
    "no velocities": ("missing_hdu", remove("EMLINE_GVEL")),
    "no mask": ("missing_hdu", remove("EMLINE_GVEL_MASK")),
    "all masked": ("no_velocity", mask_all),
    "of another cube": ("bad_shape", crop_all),
    "no redshift": ("no_redshift", no_redshift),
    "failed in the DAP": ("quality", failed),
    "no such line": ("no_coverage", another_line),
}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> SurveyConfig:
    """A rotating galaxy with good MAPS, one without, and one for each kind of bad MAPS."""
    root = tmp_path_factory.mktemp("survey")
    velocity, bad = disc_velocity(9, 200.0), np.zeros((9, 9), dtype=bool)
    hdus = cube_hdus(Z, size=9)
    spectra = [line_spectrum(WAVE, (1 + Z) * (1 + v / SPEED_OF_LIGHT_KMS) - 1) for v in velocity.ravel()]
    hdus["FLUX"].data[:] = np.array(spectra).T.reshape(-1, 9, 9)
    cube = write_gzipped(hdus, root / "cubes" / "manga-8000-1-LOGCUBE.fits.gz")
    names = ["8000-1", "8000-2", "8000-3", *(f"9000-{i}" for i in range(len(BAD_MAPS)))]
    for name in names[1:]:
        (root / "cubes" / f"manga-{name}-LOGCUBE.fits.gz").hardlink_to(cube)
    write_drpall(root / "cubes", [(name, f"7-{name}", Z) for name in names])
    write_maps(root / "maps", maps_hdus(velocity, bad, z=Z))
    cut = write_maps(root / "maps", maps_hdus(velocity, bad, z=Z, plateifu="8000-3"))
    cut.write_bytes(cut.read_bytes()[:9000])
    for name, (_, change) in zip(names[3:], BAD_MAPS.values(), strict=True):
        hdus = maps_hdus(velocity, bad, z=Z, plateifu=name)
        change(hdus)
        write_maps(root / "maps", hdus)
    return SurveyConfig(root=str(root / "cubes"), maps_root=str(root / "maps"))


def prepared(survey: SurveyConfig, path: Path, **velocity: object) -> WindowStore:
    job = PrepareConfig(
        windows=WindowConfig(size=9, sampling="conserve"),
        velocity=VelocityConfig(correct=True, **velocity),
        dask=DaskConfig(num_workers=0),
    )
    prepare(job, survey, str(path), seed=0)
    return WindowStore.open(str(path))


def test_bad_maps_set_their_galaxy_aside_by_name(survey: SurveyConfig, tmp_path: Path) -> None:
    store = prepared(survey, tmp_path / "s")
    table = store.galaxies().set_index("plateifu")
    expected = {"8000-1": "", "8000-2": "no_maps", "8000-3": "truncated"}
    expected |= {f"9000-{i}": code for i, (code, _) in enumerate(BAD_MAPS.values())}
    assert table["code"].to_dict() == expected
    assert table.loc["8000-1", "velocity"] == "corrected"
    assert "no MAPS of 8000-2" in table.loc["8000-2", "reason"]
    for name in [name for name in expected if name not in ("8000-1", "8000-2")]:
        assert f"manga-{name}-MAPS" in table.loc[name, "reason"]
    assert store.summary()["velocity_corrected"] == 1
    assert table.loc["8000-1", "source"].count(";") == table.loc["8000-1", "source_checksum"].count(";") == 1
    halpha = store.read_galaxy("8000-1").flux[0, store.line_names.index("Ha-6564")]
    inside = np.isfinite(halpha).all(axis=0)
    assert inside.sum() > 40
    assert set(halpha[:, inside].argmax(axis=0)) <= {4, 5}


def test_bad_maps_may_leave_their_galaxy_uncorrected_and_recorded_as_such(survey: SurveyConfig, tmp_path: Path) -> None:
    store = prepared(survey, tmp_path / "s", missing="uncorrected")
    table = store.galaxies().set_index("plateifu")
    assert (table["status"] == "accepted").all()
    assert store.summary()["velocity_corrected"] == 1
    assert table.loc["8000-2", "velocity"].startswith("no_maps: ")
    for name, (code, _) in enumerate(BAD_MAPS.values()):
        assert table.loc[f"9000-{name}", "velocity"].startswith(f"{code}: ")
    plain = PrepareConfig(windows=WindowConfig(size=9, sampling="conserve"), dask=DaskConfig(num_workers=0))
    prepare(plain, survey, str(tmp_path / "plain"), seed=0)
    untouched = WindowStore.open(str(tmp_path / "plain"))
    assert (untouched.galaxies()["velocity"] == "").all()
    for name, same in (("8000-1", False), ("8000-2", True), ("9000-3", True)):
        pair = [of.read_galaxy(name).flux for of in (store, untouched)]
        assert np.array_equal(*pair, equal_nan=True) == same


def test_a_survey_without_velocity_fields_is_refused_at_once(tmp_path: Path) -> None:
    job = PrepareConfig(velocity=CORRECT)
    with pytest.raises(ConfigError, match=r"survey\.maps_root must name"):
        prepare(job, SurveyConfig(root=str(tmp_path)), str(tmp_path / "s"), seed=0)
    conserve = job.model_copy(update={"windows": WindowConfig(sampling="conserve")})
    with pytest.raises(ConfigError, match="sami has no velocity fields"):
        prepare(conserve, SurveyConfig(reader="sami", root=str(tmp_path)), str(tmp_path / "s"), seed=0)
    with pytest.raises(
        ValueError, match=r"survey\.maps_root: .*none does not exist\. Give the folder with the MAPS, or a text file"
    ):
        prepare(job, SurveyConfig(root=str(tmp_path), maps_root=str(tmp_path / "none")), str(tmp_path / "s"), seed=0)
    with pytest.raises(Rejected, match="no such file"):
        read_velocity(str(tmp_path / "none.fits"), "Ha-6564", None, shape=(9, 9), max_error_kms=30)
