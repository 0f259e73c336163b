"""Checksums of gzip and FITS, and cards that contradict each other."""

import contextlib
import gzip
import io
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeprep.cube import Rejected
from cubeprep.fits.cubefile import CubeFile
from cubeprep.fits.stream import FitsStream
from cubeprep.fits.sums import RunningSum, header_agrees, stated_sum, total
from cubeprep.readers.muse import LAYOUT
from cubeprep.stars.blocks import BlockSums
from tests.cubeprep.fits.test_headers import PLANES, write_cube


def with_sums(path: Path, change: Callable[[fits.HDUList], None] = lambda hdus: None) -> bytes:
    """Content of a cube's file whose HDUs have checksums."""
    held = io.BytesIO()
    with fits.open(path) as hdus:
        change(hdus)
        hdus.writeto(held, checksum=True)
    return held.getvalue()


def remarks_of(path: Path) -> tuple[str, ...]:
    return CubeFile(str(path), LAYOUT).read(PLANES, None).remarks


@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
def test_sums_agree_with_those_that_astropy_writes(tmp_path: Path, suffix: str) -> None:
    content = with_sums(write_cube(tmp_path / "c.fits", dtype="i2"))
    path = tmp_path / f"s.{suffix}"
    path.write_bytes(gzip.compress(content, 1) if suffix == "fits.gz" else content)
    assert remarks_of(path) == ()
    with fits.open(io.BytesIO(content)) as hdus:
        for hdu in hdus[1:]:
            data = content[hdu.fileinfo()["datLoc"] : hdu.fileinfo()["datLoc"] + hdu.fileinfo()["datSpan"]]
            assert total([data[:2880], data[2880:]]) == stated_sum(hdu.header) > 0


@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
@pytest.mark.parametrize("name", ["DATA", "STAT"])
def test_a_flipped_bit_of_the_data_is_remarked_on(tmp_path: Path, name: str, suffix: str) -> None:
    content = bytearray(with_sums(write_cube(tmp_path / "c.fits")))
    with fits.open(io.BytesIO(bytes(content))) as hdus:
        content[hdus[name].fileinfo()["datLoc"] + 4000] ^= 4
    path = tmp_path / f"s.{suffix}"
    path.write_bytes(gzip.compress(content, 1) if suffix == "fits.gz" else content)
    assert remarks_of(path) == (f"{name}: its data are not those of its DATASUM",)


def test_a_running_sum_is_that_of_the_whole_however_it_is_cut() -> None:
    rng = random.Random(2)
    content = rng.randbytes(4000)
    found, start = RunningSum(), 0
    while start < len(content):
        length = rng.choice((0, 1, 2, 3, 4, 5, 700))
        found.add(memoryview(content)[start : start + length])
        start += length
    assert found.total == total([content])


@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
def test_an_edited_header_is_remarked_on(tmp_path: Path, suffix: str) -> None:
    content = with_sums(write_cube(tmp_path / "c.fits"))
    assert content.count(b"6400.0") == 3
    content = content.replace(b"6400.0", b"6401.0", 1)
    path = tmp_path / f"s.{suffix}"
    path.write_bytes(gzip.compress(content, 1) if suffix == "fits.gz" else content)
    assert remarks_of(path) == ("DATA: its header is not that of its CHECKSUM",)


def test_a_header_without_sums_agrees() -> None:
    header = fits.Header({"CHECKSUM": "x"})
    assert header_agrees(header, bytes(2880))
    assert stated_sum(fits.Header({"DATASUM": "many"})) is None
    assert not header_agrees(fits.Header({"CHECKSUM": "x", "DATASUM": "7"}), bytes(2880))


def test_damage_in_gzip_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    content = write_cube(tmp_path / "c.fits.gz").read_bytes()
    rng, noticed = random.Random(1), list[bool]()
    for _ in range(40):
        damaged = bytearray(content)
        damaged[rng.randrange(100, len(content))] ^= 1 << rng.randrange(8)
        with contextlib.suppress(OSError, EOFError, zlib.error):
            gzip.decompress(damaged)
            continue  # without effect
        (tmp_path / "d.fits.gz").write_bytes(damaged)
        with pytest.raises(Rejected) as caught:
            CubeFile(str(tmp_path / "d.fits.gz"), LAYOUT).read(PLANES, None)
        noticed.append("CRC" in caught.value.reason)
    assert sum(noticed) > 20  # decompressed to other values


def test_zeros_after_the_end_of_gzip_are_padding(tmp_path: Path) -> None:
    path = write_cube(tmp_path / "c.fits.gz")
    path.write_bytes(path.read_bytes() + bytes(1000))
    assert (CubeFile(str(path), LAYOUT).read(PLANES, None).mask == 0).any()


def test_gzip_that_goes_on_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_cube(tmp_path / "c.fits.gz")
    path.write_bytes(path.read_bytes() + gzip.compress(bytes(3 << 20)))
    monkeypatch.setattr("cubeprep.fits.stream.MOST_BYTES", 2 << 20)
    with FitsStream(str(path)) as stream, pytest.raises(Rejected, match="unzips to 2 MiB more"):
        stream.finish()


def twice(path: Path, keyword: str, value: object) -> Path:
    """A file in which a card of DATA is there a second time, in place of one that is not needed."""
    card = fits.Card(keyword, value).image.encode()
    content = path.read_bytes()
    spare = fits.Card("CUNIT2", "deg").image.encode()
    assert spare in content
    path.write_bytes(content.replace(spare, card, 1))
    return path


def test_cards_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = twice(write_cube(tmp_path / "c.fits"), "CRVAL3", 6500.0)
    with pytest.raises(Rejected, match=r"c\.fits: CRVAL3 is there 2 times, as 6400\.0, 6500\.0") as caught:
        CubeFile(str(path), LAYOUT)
    assert caught.value.code == "bad_card"
    CubeFile(str(twice(write_cube(tmp_path / "e.fits"), "CRVAL3", 6400.0)), LAYOUT)
    CubeFile(str(twice(write_cube(tmp_path / "f.fits"), "COMMENT", "6400")), LAYOUT)


@pytest.mark.parametrize("kind", ["variance", "sigma"])
@pytest.mark.parametrize("unit", ["10**(-20)*erg/s/cm**2/Angstrom", "1e-17 erg/s/cm2/A/pixel"])
def test_errors_under_the_unit_of_the_fluxes_are_what_the_scatter_says(tmp_path: Path, kind: str, unit: str) -> None:
    wanted = CubeFile(str(write_cube(tmp_path / "c.fits")), LAYOUT).read(np.arange(30), None)
    path = write_cube(tmp_path / "d.fits", kind=kind, unit=unit)
    with fits.open(path, mode="update") as hdus:
        hdus["STAT"].header["BUNIT"] = unit
    found = CubeFile(str(path), LAYOUT).read(np.arange(30), None)
    np.testing.assert_allclose(found.ivar, wanted.ivar, rtol=1e-4)
    assert found.remarks == (
        ("STAT: has the unit of DATA; by their scatter its values are variances",) * (kind == "variance")
    )
    cube = CubeFile(str(path), LAYOUT)
    with_stars = cube.read_summed(np.arange(30), None, BlockSums(np.arange(30), cube.wave))
    said = {"variance": "; by their scatter its values are variances"}
    expected = said.get(kind, ", and holds sigmas; the fit of the stars took them for variances")
    assert with_stars.remarks == (f"STAT: has the unit of DATA{expected}",)
