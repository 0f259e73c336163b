"""Simulated MAPS: the layout of the real file, and values that agree with the cube, its truth and its noise."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from cubeprep.cube import Rejected
from cubeprep.lines import DAP_DR17_LINES, PAPER_LINES, SPEED_OF_LIGHT_KMS
from cubeprep.masks import DAPPIXMASK, bits_value
from cubeprep.readers import manga_maps
from cubeprep.simulate.cube import observe
from cubeprep.simulate.dap import DAPTYPES, write_maps
from cubeprep.simulate.defects import Defects
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.maps import GalaxyMaps
from cubeprep.simulate.ratios import LINE_NAMES
from cubeprep.simulate.target import Target
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import fits_bytes
from tests.cubeprep.simulated import LIKE_7815_3702, make_galaxy, make_maps

DONOTUSE = 1 << DAPPIXMASK["DONOTUSE"]
REAL_MAPS = "manga/manga-7815-3702-MAPS-HYB10-GAU-MILESHC.fits.gz"
STAR = Defects(star_arcsec=(-4.0, 2.0), star_brightness=2.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Galaxy, GalaxyMaps]:
    """Both forms of the MAPS of one galaxy, whose parameters are those of the real 7815-3702."""
    folder = tmp_path_factory.mktemp("maps")
    galaxy = make_galaxy(seed=3, num_fibres=37, **LIKE_7815_3702)
    maps, target = make_maps(galaxy), Target(8001, "3701", "1-100001", 2.5, STAR)
    cube = observe(galaxy, maps, 1.0, 10, np.random.default_rng(4), STAR)
    paths = {form: folder / target.maps_path(daptype) for form, daptype in DAPTYPES.items()}
    write_maps(paths, target, galaxy, maps, cube)
    return folder, galaxy, maps


@pytest.fixture(scope="module")
def files(made) -> dict[str, fits.HDUList]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Decompressed once: astropy would begin anew for each HDU that it goes back to.
        found = {form: next(made[0].rglob(f"*{name}.fits.gz")) for form, name in DAPTYPES.items()}
        opened = {form: fits.open(fits_bytes(str(path))) for form, path in found.items()}
        for hdus in opened.values():
            hdus.verify("exception")
    return opened


def channel(hdus: fits.HDUList, extension: str, line: str) -> np.ndarray:
    cards = hdus[extension].header["C*"]
    names = [value for key, value in cards.items() if key[1:].isdigit()]
    return hdus[extension].data[names.index(line)]


def usable(hdus: fits.HDUList, quantity: str, line: str) -> np.ndarray:
    return channel(hdus, f"{quantity}_MASK", line) & DONOTUSE == 0


@pytest.mark.slow
@pytest.mark.realdata
def test_the_22_line_form_has_the_layout_of_the_real_file(files, real_data: Path):
    """Extensions, their order, types and dimensions, channels, units and classes."""
    ours = files["dr15"]
    with fits.open(fits_bytes(str(real_data / REAL_MAPS))) as real:
        assert [hdu.name for hdu in ours] == [hdu.name for hdu in real]
        for one, other in zip(ours[1:], real[1:], strict=True):
            assert one.data.dtype == other.data.dtype, one.name
            assert one.data.ndim == other.data.ndim, one.name
            assert one.data.shape[:-2] == other.data.shape[:-2], one.name
            skipped = {"CHECKSUM", "DATASUM"} | {f"NAXIS{n}" for n in (1, 2)}
            missing = set(other.header) - set(one.header) - skipped
            assert not missing, (one.name, missing)
            by_value = [key for key in other.header if key[0] in "CU" and key[1:].isdigit()]
            for key in [*by_value, "BUNIT", "HDUCLAS1", "HDUCLAS2", "HDUCLAS3", "ERRDATA", "QUALDATA", "SCIDATA"]:
                assert one.header.get(key) == other.header.get(key), (one.name, key)
        needed = {"PLATEIFU", "MANGAID", "SCINPVEL", "REFF", "ECOOPA", "ECOOELL", "DAPTYPE", "DAPFRMT", "DRP3QUAL"}
        assert needed <= set(ours[0].header) & set(real[0].header)
        assert all(isinstance(ours[0].header[key], type(real[0].header[key])) for key in needed)


def test_the_35_line_form_has_the_channels_of_dr17(files):
    header = files["dr17"]["EMLINE_GFLUX"].header
    assert [header[f"C{n:02d}"] for n in range(1, 36)] == [line.name for line in DAP_DR17_LINES]
    assert files["dr17"]["EMLINE_SFLUX"].header["C01"] == "OIId-3728"
    assert files["dr17"]["SPX_ELLCOO"].data.shape[0] == 4
    assert {"EMLINE_GANR", "EMLINE_FOM", "SPECINDEX_MODEL", "EMLINE_SEW_CNT"} <= {hdu.name for hdu in files["dr17"]}


def test_our_reader_reads_both(made, files):
    for daptype in DAPTYPES.values():
        reader = manga_maps.Reader(SurveyConfig(reader="manga-maps", root=str(made[0] / daptype)))
        (target,) = reader.find_targets()
        assert target.z == pytest.approx(made[1].z)
        planes = reader.read_maps(target, [line.name for line in PAPER_LINES], None)
        assert planes.flux.shape == (19, 44, 44)
        assert (planes.mask == 0).mean() > 0.25
    with pytest.raises(Rejected, match="no channel for SIII-9533"):
        manga_maps.channels(files["dr15"]["EMLINE_GFLUX"].header, ["SIII-9533"], "dr15")


def test_fluxes_agree_with_the_truth_within_their_errors(made, files):
    _, _, maps = made
    for name, bias in (("Ha-6564", 0.5), ("OIII-5008", 0.5), ("SII-6718", 0.5), ("Hgam-4341", 0.5), ("NII-6549", 0.7)):
        for form, hdus in files.items():
            ok = usable(hdus, "EMLINE_GFLUX", name)
            flux, ivar = (channel(hdus, key, name)[ok] for key in ("EMLINE_GFLUX", "EMLINE_GFLUX_IVAR"))
            truth = maps.line_flux[LINE_NAMES.index(name)][ok]
            chi = (flux - truth) * np.sqrt(ivar)
            assert 0.8 < 0.5 * np.diff(np.percentile(chi, [16, 84]))[0] < 1.3, (name, form)
            assert abs(np.median(chi)) < bias, (name, form)
            assert np.median(flux / truth) == pytest.approx(1, abs=0.06), (name, form)


def test_summed_fluxes_agree_with_fitted_ones(files):
    hdus = files["dr17"]
    for name in ("Hb-4862", "Hgam-4341", "SIII-9533"):
        ok = usable(hdus, "EMLINE_GFLUX", name) & usable(hdus, "EMLINE_SFLUX", name)
        fitted, summed = (channel(hdus, key, name)[ok] for key in ("EMLINE_GFLUX", "EMLINE_SFLUX"))
        strong = fitted * np.sqrt(channel(hdus, "EMLINE_GFLUX_IVAR", name)[ok]) > 8
        assert strong.sum() > 50
        assert np.median(summed[strong] / fitted[strong]) == pytest.approx(1, abs=0.08), name


def test_velocities_and_widths_agree_with_the_truth(made, files):
    _, galaxy, maps = made
    hdus = files["dr17"]
    flux = np.array([part.flux[LINE_NAMES.index("Ha-6564")] for part in maps.gas])
    mean = [
        maps.sampling.gridded((flux * np.array([getattr(part, key) ** power for part in maps.gas])).sum(axis=0))
        / np.maximum(maps.sampling.gridded(flux.sum(axis=0)), 1e-9)
        for key, power in (("velocity_kms", 1), ("velocity_kms", 2), ("sigma_kms", 2))
    ]
    ok = usable(hdus, "EMLINE_GVEL", "Ha-6564")
    error = channel(hdus, "EMLINE_GVEL", "Ha-6564")[ok] - mean[0][ok]
    assert np.abs(np.median(error)) < 1.0
    assert np.percentile(np.abs(error), 90) < 6.0
    ok = usable(hdus, "EMLINE_GSIGMA", "Ha-6564")
    instrument = channel(hdus, "EMLINE_INSTSIGMA", "Ha-6564")[ok]
    measured = np.sqrt(np.maximum(channel(hdus, "EMLINE_GSIGMA", "Ha-6564")[ok] ** 2 - instrument**2, 0))
    true = np.sqrt(mean[2] + mean[1] - mean[0] ** 2)[ok]
    assert np.median(measured / true) == pytest.approx(1, abs=0.1)
    assert hdus[0].header["SCINPVEL"] == pytest.approx(galaxy.z * SPEED_OF_LIGHT_KMS)


def test_masked_values_are_zero_and_nothing_is_nan(files):
    for hdus in files.values():
        assert all(np.isfinite(hdu.data).all() for hdu in hdus[1:])
        for quantity in ("EMLINE_GFLUX", "EMLINE_SFLUX", "EMLINE_GVEL", "STELLAR_VEL"):
            masked = hdus[f"{quantity}_MASK"].data & DONOTUSE > 0
            assert not hdus[quantity].data[masked].any()
        mask = hdus["EMLINE_GFLUX_MASK"].data
        star = bits_value(["FORESTAR"], DAPPIXMASK)
        assert (mask & star > 0).any()
        assert (mask[mask & star > 0] & DONOTUSE > 0).all()
        assert hdus["BINID"].data[0][mask[0] & DONOTUSE == 0].min() == 0


def test_coordinates_are_those_of_the_sky_and_of_the_disc(made, files):
    _, galaxy, _ = made
    hdus = files["dr15"]
    east, north = hdus["SPX_SKYCOO"].data
    assert (east[22, 0], north[0, 22]) == (11.0, -11.0)
    celestial = WCS(hdus["SPX_MFLUX"].header).celestial
    _, dec = celestial.all_pix2world(22, 42, 0)
    assert float(dec) - galaxy.dec_deg == pytest.approx(10 / 3600, rel=1e-3)
    radius, relative, azimuth = hdus["SPX_ELLCOO"].data
    np.testing.assert_allclose(relative, radius / np.float32(galaxy.re_arcsec), rtol=1e-5)
    # Along the major axis, the radius on the sky is the radius in the disc.
    major = np.abs(np.abs((azimuth - 90) % 180 - 90)) < 3
    np.testing.assert_allclose(radius[major], np.hypot(east, north)[major], rtol=0.02, atol=0.02)


@pytest.mark.realdata
def test_the_real_coordinates_follow_the_same_formula(real_data: Path):
    from cubeprep.simulate.dapfile import _elliptical

    with fits.open(fits_bytes(str(real_data / REAL_MAPS))) as real:
        header, sky, ellipse = real[0].header, real["SPX_SKYCOO"].data, real["SPX_ELLCOO"].data
    changes = {"pa_deg": header["ECOOPA"], "axis_ratio": 1 - header["ECOOELL"], "re_arcsec": header["REFF"]}
    ours = _elliptical(sky, make_galaxy(**changes), "dr15")
    np.testing.assert_allclose(ours[:2], ellipse[:2], rtol=2e-3, atol=2e-3)
    far = ellipse[0] > 1
    assert np.percentile(np.abs((ours[2] - ellipse[2] + 180) % 360 - 180)[far], 99) < 0.5
