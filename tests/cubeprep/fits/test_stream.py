from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeprep.cube import Rejected
from cubeprep.fits.stream import FitsStream, find_hdu, open_at, read_cube
from cubeprep.geometry import place
from tests.logcube import cube_hdus, write_gzipped

NAMES = ("FLUX", "IVAR", "MASK")
PLANES = np.array([0, 3, 4, 700, 4562])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cubes")
    hdus = cube_hdus(0.03, size=7)
    plain = folder / "cube.fits"
    hdus.writeto(plain)
    return {"plain": plain, "gzipped": write_gzipped(hdus, folder / "cube.fits.gz")}


def read(path: Path, names: tuple[str, ...] = NAMES, size: int = 7) -> list[np.ndarray]:
    stream, header = open_at(str(path), names[0])
    with stream:
        return read_cube(stream, header, names, PLANES, size)


@pytest.mark.parametrize("kind", ["plain", "gzipped"])
@pytest.mark.parametrize("size", [4, 7, 10])
def test_reads_what_astropy_reads(files: dict[str, Path], kind: str, size: int) -> None:
    got = read(files[kind], size=size)
    with fits.open(files["plain"]) as hdus:
        for name, planes in zip(NAMES, got, strict=True):
            want = place(hdus[name].data[PLANES], size)
            assert planes.dtype == want.dtype.newbyteorder("=")
            assert np.array_equal(planes, want)


def test_hdus_are_found_in_any_order(tmp_path: Path) -> None:
    hdus = cube_hdus(0.03, size=5)
    path = tmp_path / "cube.fits"
    fits.HDUList([hdus[0], hdus["FLUX"], hdus["WAVE"], hdus["MASK"], hdus["IVAR"]]).writeto(path)
    flux, ivar, mask = read(path, size=5)
    assert np.array_equal(ivar, hdus["IVAR"].data[PLANES])
    assert np.array_equal(mask, hdus["MASK"].data[PLANES])
    assert np.array_equal(flux, hdus["FLUX"].data[PLANES])


@pytest.mark.parametrize("kind", ["plain", "gzipped"])
@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.6])
def test_a_file_that_ends_early_is_rejected_by_name(
    files: dict[str, Path], kind: str, share: float, tmp_path: Path
) -> None:
    content = files[kind].read_bytes()
    path = tmp_path / files[kind].name
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(Rejected, match=str(path)) as caught:
        read(path)
    assert caught.value.code in ("truncated", "unreadable")


def test_a_flipped_bit_in_the_gzip_stream_is_noticed_or_harmless(files: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(files["gzipped"].read_bytes())
    content[20:60] = bytes(40)
    path = tmp_path / "cube.fits.gz"
    path.write_bytes(content)
    with pytest.raises(Rejected, match=str(path)):
        read(path)


def test_missing_and_misshapen_hdus_are_named(tmp_path: Path) -> None:
    hdus = cube_hdus(0.03, size=5)
    path = tmp_path / "no_ivar.fits"
    fits.HDUList([hdus[0], hdus["FLUX"], hdus["MASK"]]).writeto(path)
    with pytest.raises(Rejected, match=r"no_ivar\.fits: no HDU IVAR; it has PRIMARY, FLUX, MASK"):
        read(path)
    path = tmp_path / "bad_shape.fits"
    fits.HDUList([hdus[0], hdus["FLUX"], fits.ImageHDU(np.zeros((9, 5, 5)), name="IVAR")]).writeto(path)
    with pytest.raises(Rejected, match=r"bad_shape.*IVAR is \(9, 5, 5\)"):
        read(path)
    path = tmp_path / "table.fits"
    fits.HDUList([hdus[0], fits.BinTableHDU(np.zeros(3, dtype=[("a", "f4")]), name="FLUX")]).writeto(path)
    with pytest.raises(Rejected, match="no image of three axes"):
        read(path)


def test_a_file_that_is_not_there_or_not_fits(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="missing_file"):
        FitsStream(str(tmp_path / "none.fits"))
    text = tmp_path / "text.fits"
    text.write_text("hello " * 1000)
    with pytest.raises(Rejected, match="no FITS header"), FitsStream(str(text)) as stream:
        find_hdu(stream, "FLUX")


def test_scaled_integers_become_values(tmp_path: Path) -> None:
    path = tmp_path / "scaled.fits"
    hdu = fits.ImageHDU(np.linspace(-1, 1, 4563 * 9).reshape(4563, 3, 3), name="FLUX")
    hdu.scale("int16", bscale=1e-4, bzero=0.5)
    hdu.writeto(path)
    (flux,) = read(path, ("FLUX",), size=3)
    np.testing.assert_allclose(flux, np.linspace(-1, 1, 4563 * 9).reshape(4563, 3, 3)[PLANES], atol=1e-4)
