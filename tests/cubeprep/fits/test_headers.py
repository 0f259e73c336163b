"""A cube under any legal header gives the same windows; integers, tiles, junk and sizes that are not what they seem."""

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cubeprep.cube import Rejected, screened
from cubeprep.extract import extract_windows, to_grid
from cubeprep.fits import stream
from cubeprep.fits.cubefile import CubeFile, CubeLayout
from cubeprep.fits.stream import FitsStream, open_at, read_cube
from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.readers.muse import LAYOUT
from cubeprep.windows import LineWindows, WindowConfig, sealed

CONFIG = WindowConfig(lines=("Ha-6564",), size=8, sampling="conserve", continuum="sidebands")
SHAPE = (400, 7, 5)  # no square, so that axes cannot be taken for each other
WAVE = 6400.0 + 1.25 * np.arange(SHAPE[0])
PLANES = np.array([0, 7, 8, 399])
NONFINITE = WINDOW_MASK_BITS["NONFINITE"]


def voxels(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux in whole numbers of 1e-20, so that integers hold it too; variance; quality."""
    rng = np.random.default_rng(seed)
    line = 4000 * np.exp(-0.5 * ((WAVE - 6562.8 * 1.02) / 3) ** 2)
    flux = np.rint(line[:, None, None] * rng.uniform(0.2, 1, SHAPE[1:]) + rng.normal(0, 100, SHAPE))
    quality = (rng.random(SHAPE) < 0.02).astype(np.int32)
    return flux, np.full(SHAPE, 100.0**2), quality


def cards(style: str = "CD", unit: str = "Angstrom") -> dict[str, Any]:
    factor = {"Angstrom": 1, "nm": 0.1, "um": 1e-4, "m": 1e-10}[unit]
    made: dict[str, Any] = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "AWAV", "CUNIT3": unit, "CRPIX3": 1.0}
    made |= {"CRVAL3": 6400.0 * factor, "CUNIT1": "deg", "CUNIT2": "deg"}
    steps = (-0.2 / 3600, 0.2 / 3600, 1.25 * factor)
    if style == "CDELT":
        return made | {f"CDELT{i}": step for i, step in enumerate(steps, 1)}
    made |= {f"{style}{i}_{i}": step for i, step in enumerate(steps, 1)}
    return made | ({f"CDELT{i}": 1.0 for i in (1, 2, 3)} if style == "PC" else {})


UNITS = {"10**(-20)*erg/s/cm**2/Angstrom": 1.0, "1e-17 erg/s/cm2/A/pixel": 1e-3, "1e-19 erg s-1 cm-2 nm-1": 1.0}
UNITS |= {"erg/s/cm2/Angstrom": 1e-20, "1e-23 W m-2 Angstrom-1": 1.0}


def write_cube(
    path: Path,
    *,
    unit: str = "10**(-20)*erg/s/cm**2/Angstrom",
    kind: str = "variance",
    dtype: str = "f4",
    order: tuple[str, ...] = ("DATA", "STAT", "DQ"),
    header: dict[str, Any] | None = None,
    compression: str = "",
    junk: bytes = b"",
    lower: bool = False,
    fourth: bool = False,
) -> Path:
    """A MUSE cube; `unit` is that of DATA, `kind` what STAT holds, `dtype` how DATA are kept."""
    flux, variance, quality = voxels()
    noise = {"variance": variance, "sigma": np.sqrt(variance), "ivar": 1 / variance}[kind]
    power = {"variance": 2, "sigma": 1, "ivar": -2}[kind]
    factor = UNITS[unit]
    data: dict[str, np.ndarray] = {"DATA": flux * factor, "STAT": noise * factor**power, "DQ": quality}
    wide = ">f8" if factor < 1e-10 else ">f4"
    hdus = []
    for name in order:
        values = data[name].astype({"DATA": wide if dtype == "f4" else dtype, "STAT": wide, "DQ": "i4"}[name])
        values = values[None] if fourth else values
        made = fits.Header(cards() if header is None else header)
        if name != "DQ":
            made["BUNIT"] = unit if name == "DATA" else f"({unit})**({power})"
        if compression:
            tiles = (1,) * (values.ndim - 2) + values.shape[-2:]
            lossless = {"quantize_level": 0.0} if values.dtype.kind == "f" else {}
            hdus.append(
                fits.CompImageHDU(values, made, name=name, compression_type=compression, tile_shape=tiles, **lossless)
            )
        else:
            hdus.append(fits.ImageHDU(values, made, name=name.lower() if lower else name))
    content = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(content)
    whole = content.getvalue() + junk
    path.write_bytes(gzip.compress(whole, 1) if path.suffix == ".gz" else whole)
    return path


def windows_of(path: Path) -> Any:
    return extract_windows([CubeFile(str(path), LAYOUT)], 0.02, CONFIG, source=str(path)).windows


@pytest.fixture(scope="module")
def canonical(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return windows_of(write_cube(tmp_path_factory.mktemp("canonical") / "c.fits"))


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    unit=st.sampled_from(list(UNITS)),
    kind=st.sampled_from(["variance", "sigma", "ivar"]),
    dtype=st.sampled_from(["f4", "f8", "i2", "i4", "i8", "u2", "<f4"]),
    order=st.permutations(["DATA", "STAT", "DQ"]),
    style=st.sampled_from(["CD", "PC", "CDELT"]),
    wave_unit=st.sampled_from(["Angstrom", "nm", "um", "m"]),
    compression=st.sampled_from(["", "", "GZIP_1", "GZIP_2"]),
    ending=st.sampled_from([b"", b"\n", b"junk " * 700]),
    suffix=st.sampled_from([".fits", ".fits.gz", ".FITS"]),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_a_cube_under_any_legal_header_gives_the_same_windows(
    tmp_path: Path, canonical: Any, unit: str, kind: str, dtype: str, order: list[str], style: str, wave_unit: str,
    compression: str, ending: bytes, suffix: str, flags: tuple[bool, bool],
) -> None:  # fmt: skip
    if UNITS[unit] != 1 or dtype == "u2":
        dtype = "f4"  # integers hold whole numbers of the unit, unsigned ones none below 0
    header = cards(style, wave_unit)
    path = write_cube(
        tmp_path / f"c{suffix}", unit=unit, kind=kind, dtype=dtype, order=tuple(order), header=header,
        compression=compression, junk=ending, lower=flags[0], fourth=flags[1] and not compression,
    )  # fmt: skip
    got = windows_of(path)
    np.testing.assert_array_equal(got.mask, canonical.mask)
    np.testing.assert_allclose(got.flux, canonical.flux, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(got.ivar, canonical.ivar, rtol=1e-4)


def test_the_canonical_windows_are_those_of_the_voxels(canonical: Any) -> None:
    assert 0.7 < (canonical.mask == 0).sum() / (10 * 7 * 5) < 1
    good = canonical.flux[canonical.mask == 0]
    assert 2 < good.max() < 5  # 4000 x 1e-20 in 1e-17


def read_one(path: Path, name: str = "DATA") -> np.ndarray:
    stream, header = open_at(str(path), name)
    with stream:
        (found,) = read_cube(stream, header, (name,), PLANES, None)
    return found


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_integers_of_every_kind_are_what_astropy_reads(tmp_path: Path, dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = np.random.default_rng(1).integers(limits.min, limits.max, SHAPE, dtype=dtype, endpoint=True)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(values, name="DATA")]).writeto(tmp_path / "c.fits")
    found = read_one(tmp_path / "c.fits")
    assert found.dtype.kind == np.dtype(dtype).kind
    np.testing.assert_array_equal(found[:, :7, 1:6], values[PLANES])


@pytest.mark.parametrize("bits", [10, 30])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_mask_bits_are_obeyed_in_integers_of_every_width(tmp_path: Path, dtype: str, bits: int) -> None:
    layout = CubeLayout("DATA", "STAT", "variance", "DQ", bad_bits=1 << bits | 1)
    path = write_cube(tmp_path / "c.fits")
    fits_in = bits < np.iinfo(dtype).bits - (dtype[0] == "i")
    mask = np.zeros(SHAPE, dtype=dtype)
    mask[:, 0], mask[:, 1], mask[:, 2] = 1, (1 << bits) * fits_in, 2
    with fits.open(path) as hdus:
        fits.HDUList([hdus[0], hdus[1], hdus[2], fits.ImageHDU(mask, name="DQ")]).writeto(tmp_path / "m.fits")
    planes = CubeFile(str(tmp_path / "m.fits"), layout).read(PLANES, None)
    bad = (planes.mask[0, :, 3] & WINDOW_MASK_BITS["SURVEY"]) > 0
    assert bad.tolist() == [True, fits_in, False, False, False, False, False]


def test_blank_integers_are_masked_and_scaled_ones_are_values(tmp_path: Path) -> None:
    flux, variance, _ = voxels()
    stored = np.rint(flux / 2).astype(np.int16)
    stored[:, :2] = -32768
    header = fits.Header(cards() | {"BUNIT": "10**(-20)*erg/s/cm**2/Angstrom"})
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(stored, header, name="DATA"), fits.ImageHDU(variance, header, name="STAT")]
    del hdus[2].header["BUNIT"]
    hdus[1].header["BLANK"] = -32768
    fits.HDUList(hdus).writeto(tmp_path / "b.fits")
    with fits.open(tmp_path / "b.fits", mode="update", do_not_scale_image_data=True) as update:
        update["DATA"].header["BSCALE"], update["DATA"].header["BZERO"] = 2.0, 1.0
    planes = CubeFile(str(tmp_path / "b.fits"), LAYOUT).read(PLANES, None)
    with fits.open(tmp_path / "b.fits") as read:
        want = read["DATA"].data[PLANES]
    assert np.isnan(want[:, :2]).all()
    assert (planes.mask[:, :2, 1:6] == NONFINITE).all()
    assert (planes.mask[:, 2:, 1:6] == 0).all()
    np.testing.assert_allclose(planes.flux[:, 2:, 1:6], want[:, 2:] * 1e-3, rtol=1e-6)


@pytest.mark.parametrize(
    ("card", "message"),
    [(("BSCALE", 0.0), "BSCALE = 0"), (("BZERO", "x"), "BZERO = 'x'"), (("BLANK", 1.5), "BLANK = 1.5")],
)
def test_scales_that_are_none_are_refused(tmp_path: Path, card: tuple[str, object], message: str) -> None:
    path = write_cube(tmp_path / "c.fits", dtype="i4")
    content = path.read_bytes()
    text = fits.Card(*card).image.encode()
    assert content.count(b"EXTNAME = 'DATA") == 1
    path.write_bytes(content.replace(fits.Card("CUNIT1", "deg").image.encode(), text, 1))
    with pytest.raises(Rejected, match=message) as caught:
        read_one(path)
    assert caught.value.code == "bad_scale"


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_2", "PLIO_1"])
def test_compressed_tiles_are_read(tmp_path: Path, compression: str) -> None:
    values = np.random.default_rng(2).integers(0, 2000, SHAPE).astype(np.int32)
    hdu = fits.CompImageHDU(values, name="DATA", compression_type=compression)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "c.fits.fz")
    np.testing.assert_array_equal(read_one(tmp_path / "c.fits.fz")[:, :7, 1:6], values[PLANES])
    content = bytearray((tmp_path / "c.fits.fz").read_bytes())
    (tmp_path / "cut.fits.fz").write_bytes(content[: len(content) // 2])
    with pytest.raises(Rejected, match=r"cut\.fits\.fz: has \d+ bytes, its header asks for"):
        read_one(tmp_path / "cut.fits.fz")


def test_a_tile_larger_than_the_budget_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hdu = fits.CompImageHDU(np.zeros(SHAPE, np.int32), name="DATA", compression_type="GZIP_1", tile_shape=SHAPE)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "c.fits.fz")
    size = 4 * int(np.prod(SHAPE))
    monkeypatch.setattr(stream, "MOST_BYTES", size)
    read_one(tmp_path / "c.fits.fz")
    monkeypatch.setattr(stream, "MOST_BYTES", size - 1)
    with pytest.raises(Rejected, match="to be held at once") as caught:
        read_one(tmp_path / "c.fits.fz")
    assert caught.value.code == "too_large"


def test_a_table_with_a_heap_lies_between_two_images(tmp_path: Path) -> None:
    path = write_cube(tmp_path / "c.fits")
    heap = fits.Column("a", "PJ()", array=np.array([np.arange(5), np.arange(3000)], dtype=object))
    with fits.open(path) as hdus:
        between = fits.BinTableHDU.from_columns([heap], name="QC")
        assert between.header["PCOUNT"] == 0
        fits.HDUList([hdus[0], hdus["DATA"], between, hdus["STAT"]]).writeto(tmp_path / "h.fits")
    assert fits.getheader(tmp_path / "h.fits", "QC")["PCOUNT"] > 2880
    stream, header = open_at(str(tmp_path / "h.fits"), "DATA")
    with stream:
        _, stat = read_cube(stream, header, ("DATA", "STAT"), PLANES, None)
    assert (stat[:, :7, 1:6] == 100.0**2).all()


def test_junk_behind_the_last_hdu_is_the_end_and_before_another_is_damage(tmp_path: Path) -> None:
    path = write_cube(tmp_path / "c.fits", junk=b"not a header" * 1000)
    with FitsStream(str(path)) as stream:
        assert [header.get("EXTNAME") for header in stream.hdus()] == [None, "DATA", "STAT", "DQ"]
    content = write_cube(tmp_path / "d.fits").read_bytes()
    start = content.index(b"XTENSION", content.index(b"'STAT"))
    (tmp_path / "d.fits").write_bytes(content[:start] + b"x" * 2880 + content[start:])
    with pytest.raises(Rejected, match="though one follows"):
        windows_of(tmp_path / "d.fits")


def test_an_optional_mask_before_the_fluxes_is_obeyed(tmp_path: Path) -> None:
    first, last = (
        windows_of(write_cube(tmp_path / "c.fits", order=order))
        for order in (("DQ", "STAT", "DATA"), ("DATA", "STAT", "DQ"))
    )
    np.testing.assert_array_equal(first.mask, last.mask)
    assert (first.mask == WINDOW_MASK_BITS["SURVEY"]).any()
    without = windows_of(write_cube(tmp_path / "c.fits", order=("DATA", "STAT")))
    assert (without.mask[:, :, :7, 2:7] & WINDOW_MASK_BITS["SURVEY"] == 0).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MASKZERO", "bad_card: .*HDUCLAS3 = 'MASKZERO' of DQ marks bad voxels by 0, expected 0 for good ones"),
        ("twice", "bad_card: .*2 HDUs have EXTNAME = 'STAT', expected one"),
    ],
)
def test_a_mask_of_good_voxels_and_a_name_that_is_there_twice_are_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    path = write_cube(
        tmp_path / "c.fits", order=("DATA", "STAT", "STAT", "DQ") if name == "twice" else ("DATA", "STAT", "DQ")
    )
    if name == "MASKZERO":
        fits.setval(path, "HDUCLAS3", value=name, extname="DQ")
    with pytest.raises(Rejected, match=message):
        windows_of(path)


def bomb(path: Path, planes: int, side: int = 5) -> Path:
    """A gzipped file of a header alone that claims so many planes."""
    header = fits.Header(cards() | {"BUNIT": "1e-20 erg/s/cm2/A"})
    hdu = fits.ImageHDU(np.zeros((1, 1, 1), dtype=np.float32), header, name="DATA")
    hdu.header["NAXIS1"], hdu.header["NAXIS2"], hdu.header["NAXIS3"] = side, side, planes
    content = fits.PrimaryHDU().header.tostring() + hdu.header.tostring()
    path.write_bytes(gzip.compress(content.encode()))
    return path


@pytest.mark.parametrize(
    ("planes", "side", "message"),
    [
        (250_000_000, 5, "NAXIS3 = 250000000, expected 1 to 200000"),
        (100_000, 10_000_000, "NAXIS2 = 10000000, expected 1 to 20000"),
        (100_000, 15_000, r"has \d+ bytes, its header asks for"),
    ],
)
def test_sizes_are_checked_before_memory_is_taken(tmp_path: Path, planes: int, side: int, message: str) -> None:
    import tracemalloc

    path = bomb(tmp_path / "bomb.fits.gz", planes, side)
    assert path.stat().st_size < 1000
    tracemalloc.start()
    with pytest.raises(Rejected, match=message):
        CubeFile(str(path), LAYOUT).read(np.arange(100), 8)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_no_value_that_overflows_the_store_counts_as_good() -> None:
    flux = np.array([1e39, 1.0, 1.0, 1e-50]).reshape(4, 1, 1)
    ivar = np.array([1.0, 1e39, 1e-60, 1.0]).reshape(4, 1, 1)
    planes = screened(flux, ivar, np.zeros((1, 1, 1), dtype=bool), np.zeros((1, 1), dtype=bool))
    assert planes.mask.ravel().tolist() == [NONFINITE, NONFINITE, WINDOW_MASK_BITS["SURVEY"], 0]
    assert np.isfinite(planes.flux).all()
    assert np.isfinite(planes.ivar).all()
    assert (planes.ivar > 0).tolist() == (planes.mask == 0).tolist()


def test_sums_that_overflow_are_masked_before_they_enter_a_store() -> None:
    config = WindowConfig(lines=("Ha-6564",), size=8, space="bin", bin_factor=2)
    flux = np.full((1, 10, 16, 16), 1.0, np.float32)
    flux[0, 3, 4:6, 6:8] = 2e38  # four of them are beyond float32
    windows = LineWindows(flux, np.ones_like(flux), np.zeros(flux.shape, dtype=np.uint8))
    with np.errstate(over="ignore"):
        binned = to_grid(windows, 0.2, 1.0, config, "cube")
    assert np.isinf(binned.flux[0, 3, 2, 3])
    binned.ivar[0, 7, 0, 0] = 0
    kept = sealed(binned)
    assert kept.mask[0, 3, 2, 3] == kept.mask[0, 7, 0, 0] == NONFINITE
    good = kept.mask == 0
    assert good.sum() == good.size - 2
    assert np.isfinite(kept.flux[good]).all()
    assert (np.isfinite(kept.ivar) & (kept.ivar > 0) == good).all()
    assert np.isnan(kept.flux[~good]).all()
    assert sealed(kept) is kept


def test_the_resolution_of_an_arm_is_that_of_its_survey(tmp_path: Path) -> None:
    path = str(write_cube(tmp_path / "cube.fits"))
    assert CubeFile(path, CubeLayout("DATA", "STAT", "variance")).lsf_sigma_kms is None
    sigma = CubeFile(path, LAYOUT).lsf_sigma_kms
    assert sigma is not None
    assert sigma.shape == (SHAPE[0],)
    # Bacon+2017: FWHM 2.56 Angstrom at 6400 and 2.49 at 6899, wavelengths in air.
    np.testing.assert_allclose(sigma[[0, -1]], [51.0, 46.0], atol=0.1)
