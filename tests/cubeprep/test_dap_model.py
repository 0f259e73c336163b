"""Starlight from the DAP's model cubes: forms, masks and bins, crop and pad, and files that cannot be used."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeprep.cube import Rejected
from cubeprep.dap_model import find_models, read_starlight
from cubeprep.geometry import outside, place
from cubeprep.masks import DAPSPECMASK
from cubeprep.stars.starlight import ModelStars
from tests.logcube import WAVE, cube_hdus, write_gzipped
from tests.maps import maps_hdus, write_maps
from tests.model_cubes import DAPTYPES, MASK_OF_MODEL, model_hdus, write_model

SHAPE = (6, 8)  # neither square nor symmetric, so that swapped axes are seen
PLANES = np.array([0, 7, 1500, 1501, 3000, 4562])
WITHOUT_MODEL = {"FORESTAR", "FITFAILED", "ELFAILED", "NOMODEL"}
FORMS = list(DAPTYPES)


def galaxy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stars and lines [plane, y, x], which differ from spaxel to spaxel, and numbers of the models [y, x]."""
    rng = np.random.default_rng(5)
    stars = rng.uniform(0.5, 2, SHAPE) * (1 + 0.1 * np.sin(WAVE / 30))[:, None, None]
    lines = rng.uniform(0, 9, SHAPE) * (np.arange(len(WAVE)) % 1500 == 0)[:, None, None]
    bins = np.arange(stars[0].size).reshape(SHAPE)
    bins[0, :3] = bins[5, 7] = -1
    return stars, lines, bins


STARS, LINES, BINS = galaxy()


def read(path: Path, size: int | None = None, **changes) -> ModelStars:
    return read_starlight(str(path), planes=PLANES, size=size, **({"wave": WAVE, "shape": SHAPE} | changes))


def spaxels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Flux and `fitted` in the cube's own spaxels."""
    got = read(path)
    return got.flux[:, 1:7], got.fitted[:, 1:7]


@pytest.fixture(scope="module", params=FORMS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models"), model_hdus(STARS, LINES, BINS, request.param))


@pytest.mark.parametrize("size", [None, 5, 6, 7, 8, 11, 14])
def test_starlight_is_that_of_the_spaxel_cropped_and_padded_like_the_cube(path: Path, size: int | None) -> None:
    got = read(path, size)
    fitted = place(BINS >= 0, size) & ~outside(SHAPE, size)
    assert got.flux.dtype == np.float32
    assert got.fitted.dtype == bool
    np.testing.assert_array_equal(got.fitted, np.broadcast_to(fitted, got.fitted.shape))
    np.testing.assert_allclose(got.flux, place(STARS[PLANES] * (BINS >= 0), size), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_hdus_may_be_in_any_order_and_compressed_by_tiles(form: str, tmp_path: Path) -> None:
    hdus = model_hdus(STARS, LINES, BINS, form)
    flux, fitted = spaxels(write_model(tmp_path / "a", hdus))
    turned = fits.HDUList([hdus[0], *hdus[:0:-1]])
    model = hdus["MODEL"]
    tiles = {"compression_type": "GZIP_1", "tile_shape": (507, *SHAPE), "quantize_level": 0}
    turned["MODEL"] = fits.CompImageHDU(model.data, model.header, "MODEL", **tiles)
    other_flux, other_fitted = spaxels(write_model(tmp_path / "b", turned))
    np.testing.assert_array_equal(other_flux, flux)
    np.testing.assert_array_equal(other_fitted, fitted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bit", list(DAPSPECMASK))
def test_pixels_have_a_model_unless_a_bit_denies_it(form: str, bit: str, tmp_path: Path) -> None:
    hdus = model_hdus(STARS, LINES, BINS, form)
    hdus[MASK_OF_MODEL[form]].data[1500, 3, 4] |= 1 << DAPSPECMASK[bit]
    flux, fitted = spaxels(write_model(tmp_path, hdus))
    assert fitted[2, 3, 4] == (bit not in WITHOUT_MODEL)
    assert (flux[2, 3, 4] == 0) == (bit in WITHOUT_MODEL)
    assert fitted[3, 3, 4]


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_masks_of_other_integer_types(kind: type, tmp_path: Path) -> None:
    hdus = model_hdus(STARS, LINES, BINS)
    hdus["MODEL_MASK"].data = np.where(BINS == 20, 1 << DAPSPECMASK["FITFAILED"], 0 * STARS).astype(kind)
    _, fitted = spaxels(write_model(tmp_path, hdus))
    np.testing.assert_array_equal(fitted, np.broadcast_to((BINS >= 0) & (BINS != 20), fitted.shape))


def test_the_bins_of_the_emission_line_models_decide(tmp_path: Path) -> None:
    """A spaxel may be too faint for the stellar kinematics, and have a model with those of the nearest bin."""
    hdus = model_hdus(STARS, LINES, BINS)
    hdus["BINID"].data[1, 3, 4] = hdus["BINID"].data[3, 2, 5] = -1
    _, fitted = spaxels(write_model(tmp_path, hdus))
    assert fitted[:, 3, 4].all()
    assert not fitted[:, 2, 5].any()


@pytest.mark.parametrize("form", FORMS)
def test_zeros_and_numbers_that_are_not_finite_are_no_model(form: str, tmp_path: Path) -> None:
    hdus = model_hdus(STARS, LINES, BINS, form)
    hdus["MODEL"].data[:1000, 2, 2] = hdus["EMLINE"].data[:1000, 2, 2] = 0
    hdus["MODEL"].data[1500, 3, 3], hdus["EMLINE"].data[1501, 3, 3] = np.nan, -np.inf
    flux, fitted = spaxels(write_model(tmp_path, hdus))
    np.testing.assert_array_equal(fitted[:, 2, 2], PLANES >= 1000)
    np.testing.assert_array_equal(fitted[:, 3, 3], [True, True, False, False, True, True])
    assert np.isfinite(flux).all()
    assert not flux[~fitted].any()


def test_fluxes_are_converted_each_from_its_own_unit(tmp_path: Path) -> None:
    hdus = model_hdus(STARS, LINES, BINS)
    hdus["EMLINE"].data *= 1000
    hdus["EMLINE"].header["BUNIT"] = "1E-20 erg/s/cm^2/ang/spaxel"
    flux, _ = spaxels(write_model(tmp_path, hdus))
    np.testing.assert_allclose(flux, STARS[PLANES] * (BINS >= 0), rtol=1e-5, atol=1e-5)


def test_only_the_planes_asked_for_are_held(tmp_path: Path) -> None:
    side = 24
    stars = np.ones((len(WAVE), side, side), dtype=np.float32)
    path = write_model(tmp_path, model_hdus(stars, stars, np.arange(side**2).reshape(side, side)))
    tracemalloc.start()
    read(path, shape=(side, side))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.15 * stars.nbytes


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.9, 0.995])
def test_a_truncated_file_is_rejected_by_name(path: Path, tmp_path: Path, share: float) -> None:
    content = path.read_bytes()
    cut = tmp_path / path.name
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(Rejected, match=path.name) as error:
        read(cut)
    assert error.value.code == "truncated"


def test_a_damaged_gzip_is_rejected_though_it_decompresses(path: Path, tmp_path: Path) -> None:
    content, damaged = bytearray(path.read_bytes()), tmp_path / path.name
    content[-8] ^= 1  # of the CRC
    damaged.write_bytes(content)
    with pytest.raises(Rejected, match=f"truncated: .*{path.name}: CRC check failed"):
        read(damaged)


def test_a_missing_file_is_rejected_by_name(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"missing_file: .*nowhere\.fits\.gz"):
        read(tmp_path / "nowhere.fits.gz")


def drop(name: str) -> Callable[[fits.HDUList], None]:
    return lambda hdus: hdus.pop(name)


def card(hdu: str | int, key: str, value: object) -> Callable[[fits.HDUList], None]:
    return lambda hdus: hdus[hdu].header.set(key, value)


def crop(name: str) -> Callable[[fits.HDUList], None]:
    def change(hdus: fits.HDUList) -> None:
        hdus[name].data = hdus[name].data[..., 1:]

    return change


def float_mask(hdus: fits.HDUList) -> None:
    hdus["MODEL_MASK"].data = hdus["MODEL_MASK"].data.astype(np.float32)


def voronoi(hdus: fits.HDUList) -> None:
    """VOR10: the emission-line module, too, fits mean spectra of bins."""
    hdus["BINID"].data[3] //= 4


def no_data(hdus: fits.HDUList) -> None:
    """The DAP writes an empty HDU where it has no model."""
    hdus["MODEL"] = fits.ImageHDU(name="MODEL")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (drop("MODEL"), "missing_hdu", "no HDU MODEL; it has PRIMARY, FLUX"),
        (drop("EMLINE"), "missing_hdu", "no HDU EMLINE;"),
        (drop("MODEL_MASK"), "missing_hdu", "no HDU MODEL_MASK or EMLINE_MASK"),
        (drop("BINID"), "missing_hdu", "no HDU BINID"),
        (no_data, "bad_shape", "MODEL is no image of three axes"),
        (crop("MODEL"), "bad_shape", r"MODEL is \(4563, 6, 7\) .* LOGCUBE \(4563, 6, 8\)"),
        (crop("EMLINE"), "bad_shape", "EMLINE is"),
        (crop("MODEL_MASK"), "bad_shape", "MODEL_MASK is"),
        (crop("BINID"), "bad_shape", r"BINID has \(6, 7\) spaxels"),
        (float_mask, "bad_shape", "MODEL_MASK holds float32, not integers"),
        (card("MODEL", "CRVAL3", 3.6217e-7), "bad_wave", r"MODEL covers 3621\.700 to .* LOGCUBE 3621\.596 to"),
        (card("EMLINE", "PC3_3", 8.34e-11), "bad_wave", "EMLINE covers"),
        (card("MODEL", "BUNIT", "erg/s/cm^2/spaxel"), "bad_unit", "BUNIT = 'erg/s/cm"),
        (card("EMLINE", "BUNIT", "adu"), "bad_unit", "BUNIT = 'adu'"),
        (card(0, "DAPQUAL", 1 << 30), "quality", "CRITICAL"),
        (card("BINID", "C4", "Other"), "no_coverage", r"no channel for Em\. line models; it has"),
        (voronoi, "binned", r"BINID 1 of 'Em\. line models' covers 4 spaxels, expected models of single spaxels"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used_say_why(change: Callable, code: str, words: str, tmp_path: Path) -> None:
    hdus = model_hdus(STARS, LINES, BINS)
    change(hdus)
    path = write_model(tmp_path, hdus)
    with pytest.raises(Rejected, match=f"{path.name}: .*{words}") as error:
        read(path)
    assert error.value.code == code


def test_the_cube_of_another_galaxy_is_rejected(path: Path, tmp_path: Path) -> None:
    other = tmp_path / path.name.replace("8000-1", "8000-2")
    other.symlink_to(path)
    with pytest.raises(Rejected, match=r"wrong_galaxy: .*PLATEIFU = '8000-1', expected '8000-2'"):
        read(other)


def test_models_must_have_the_planes_and_spaxels_of_the_cube(path: Path) -> None:
    for changes in ({"wave": WAVE[1:]}, {"shape": (8, 6)}):
        with pytest.raises(Rejected, match=r"bad_shape: .* is \(4563, 6, 8\)"):
            read(path, **changes)
    with pytest.raises(Rejected, match="bad_wave"):
        read(path, wave=WAVE * 10**2e-6)  # two hundredths of a plane


def test_models_are_found_by_plateifu_beside_cubes_and_maps(tmp_path: Path) -> None:
    nothing = np.zeros(SHAPE)
    write_maps(tmp_path, maps_hdus(nothing, nothing > 0, z=0.03))
    write_gzipped(cube_hdus(0.03, size=4), tmp_path / "8000" / "stack" / "manga-8000-1-LOGCUBE.fits.gz")
    assert find_models(str(tmp_path)) == {}
    (tmp_path / "deep").mkdir()
    names = {
        "8000-1": "manga-8000-1-LOGCUBE-HYB10-MILESHC-MASTARHC2.fits.gz",
        "8001-12705": "manga-8001-12705-logcube-SPX.fits",
    }
    for name in names.values():
        (tmp_path / "deep" / name).touch()
    assert find_models(str(tmp_path)) == {key: str(tmp_path / "deep" / name) for key, name in names.items()}
    listed = tmp_path / "files.txt"
    listed.write_text("".join(f"deep/{name}\n" for name in names.values()))
    assert set(find_models(str(listed))) == set(names)


def test_two_analyses_of_one_galaxy_are_refused(tmp_path: Path) -> None:
    for name in ("HYB10-MILESHC-MASTARSSP", "HYB10-MILESHC-MASTARHC2"):
        (tmp_path / f"manga-8000-1-LOGCUBE-{name}.fits.gz").touch()
    with pytest.raises(ValueError, match=r"MASTARHC2.* and .*MASTARSSP.* model cubes of 8000-1: keep one DAPTYPE"):
        find_models(str(tmp_path))
    with pytest.raises(ValueError, match=r"survey\.maps_root: .*nowhere does not exist"):
        find_models(str(tmp_path / "nowhere"))
