"""CALIFA's ELINES cubes: the unit of each plane, wherever it stands, and files compressed by tiles."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeprep.cube import Planes
from cubeprep.survey import SurveyConfig, make_reader, select_targets


def elines(first: int) -> tuple[np.ndarray, fits.Header]:
    """Flux 7 and error 2 of Halpha, in 1e-16 erg/s/cm2, from plane `first` on; the others are of no line."""
    data, header = np.full((4, 6, 6), 99.0, "f4"), fits.Header()
    for plane, kind, value in ((first, "flux", 7), (first + 1, "error flux", 2)):
        data[plane] = value
        header[f"DESC_{plane}"], header[f"TYPE_{plane}"] = "Halpha emission line", kind
        header[f"UNITS_{plane}"] = "10^-16 erg"
    return data, header


def read(folder: Path, name: str, hdus: list[fits.PrimaryHDU]) -> Planes:
    fits.HDUList(hdus).writeto(folder / name)
    (folder / "t.csv").write_text("name,z\nNGC1,0.01\n")
    config = SurveyConfig(reader="califa-elines", root=str(folder), table=str(folder / "t.csv"))
    (target,) = select_targets(config, make_reader(config))
    return make_reader(config).read_maps(target, ["Hb-4862", "Ha-6564"], 4)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_plane_has_its_unit_wherever_it_stands(tmp_path: Path, first: int) -> None:
    maps = read(tmp_path, "NGC1.ELINES.cube.fits", [fits.PrimaryHDU(*elines(first))])
    np.testing.assert_allclose(maps.flux[1], 70)
    np.testing.assert_allclose(maps.ivar[1], 1 / 20**2)
    assert (maps.mask[0] > 0).all(), "no map of Hbeta"
    assert (maps.mask[1] == 0).all()


def test_a_file_compressed_by_tiles_is_the_same(tmp_path: Path) -> None:
    data, header = elines(0)
    packed = fits.CompImageHDU(data, header, compression_type="GZIP_2", quantize_level=0)
    maps = read(tmp_path, "NGC1.ELINES.cube.fits.fz", [fits.PrimaryHDU(), packed])
    np.testing.assert_allclose(maps.flux[1], 70)
