import gzip
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from pydantic import ValidationError

from cubeprep.lines import LINES_BY_NAME, PAPER_LINES, SPEED_OF_LIGHT_KMS
from cubeprep.masks import DRP3PIXMASK, bits_value
from cubeprep.simulate import drp
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.cube import Cube, observe, true_spectra
from cubeprep.simulate.footprint import CUBE_SIZE, coverage
from cubeprep.simulate.galaxy import Galaxy, draw_galaxy
from cubeprep.simulate.maps import GalaxyMaps, aperture, galaxy_maps, nuclear_bpt
from cubeprep.simulate.ratios import LINE_NAMES, bpt_class
from cubeprep.simulate.spectrum import WAVE, extinction
from cubeprep.simulate.survey import plan_survey, simulate_survey

SMALL = SimulateConfig(num_galaxies=3, num_workers=1, bundle_shares={19: 1}, repeat_fraction=0.34)
SEED = 5

# Fully covered spaxels of the real bundles, shared/data/manga/hexagon_masks.fits.
REAL_HEXAGON_COUNTS = {19: 475, 37: 891, 61: 1438, 91: 2100, 127: 2897}
REAL_HEXAGONS = Path(__file__).parents[3] / "shared" / "data" / "manga" / "hexagon_masks.fits"


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("survey")
    simulate_survey(SMALL, SEED, root)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def make_galaxy(galaxy_class="star_forming", unusual="", seed=1, num_fibres=19, **changes) -> Galaxy:
    galaxy = draw_galaxy(galaxy_class, unusual, num_fibres, (0.015, 0.075), np.random.default_rng(seed))
    return replace(galaxy, **changes)


def make_maps(galaxy: Galaxy, seed=2) -> GalaxyMaps:
    return galaxy_maps(galaxy, 2.5, np.random.default_rng(seed))


def make_cube(galaxy: Galaxy, seed: int, depth=1.0) -> Cube:
    return observe(galaxy, make_maps(galaxy), depth, 10, np.random.default_rng(seed))


def line_spectra(galaxy: Galaxy, maps: GalaxyMaps, covered: np.ndarray) -> np.ndarray:
    """Emission lines alone, corrected for the Milky Way."""
    with_lines, without = (true_spectra(galaxy, m, covered) for m in (maps, replace(maps, gas=())))
    return (with_lines - without).astype(np.float64) / 10 ** (-0.4 * galaxy.ebv_galactic * extinction(WAVE))


def moments(spectra: np.ndarray, name: str, galaxy: Galaxy) -> tuple[np.ndarray, np.ndarray]:
    """Flux and mean wavelength within +-800 km/s of a line."""
    wave = LINES_BY_NAME[name].rest_wave * (1 + galaxy.z)
    near = np.abs(WAVE / wave - 1) < 800 / SPEED_OF_LIGHT_KMS
    width = WAVE[near] * np.log(10) * 1e-4
    flux = (spectra[:, near] * width).sum(axis=1)
    return flux, (spectra[:, near] * width * WAVE[near]).sum(axis=1) / flux


# The survey: files, bytes, interruptions.


def test_bytes_do_not_depend_on_the_number_of_workers(survey, tmp_path):
    simulate_survey(SMALL.model_copy(update={"num_workers": 2}), SEED, tmp_path)
    assert contents(tmp_path) == contents(survey)
    assert len(contents(survey)) == SMALL.num_galaxies + 3


def test_another_seed_gives_another_survey(survey, tmp_path):
    simulate_survey(SMALL.model_copy(update={"num_galaxies": 1}), SEED + 1, tmp_path)
    with fits.open(tmp_path / "drpall.fits") as one, fits.open(survey / "drpall.fits") as other:
        assert one["MANGA"].data["nsa_z"][0] != other["MANGA"].data["nsa_z"][0]


def test_the_gzip_header_has_no_time(survey):
    for path in survey.rglob("*.fits.gz"):
        with path.open("rb") as file, gzip.GzipFile(fileobj=file) as member:
            member.read(1)
            assert member.mtime == 0


def test_an_interrupted_run_resumes(survey, tmp_path):
    def stop(done, total):
        assert total == SMALL.num_galaxies
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_survey(SMALL, SEED, tmp_path, stop)
    (first,) = tmp_path.rglob("*.fits.gz")
    times = first.stat().st_mtime_ns
    assert not (tmp_path / "drpall.fits").exists()

    calls = []
    simulate_survey(SMALL, SEED, tmp_path, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert first.stat().st_mtime_ns == times
    assert contents(tmp_path) == contents(survey)


def test_a_crash_leaves_no_half_file(survey, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(drp, "_vectors", fail)
        with pytest.raises(OSError, match="disk full"):
            simulate_survey(SMALL, SEED, tmp_path)
    assert not list(tmp_path.rglob("*.fits.gz"))
    assert list(tmp_path.rglob("*.part"))
    simulate_survey(SMALL, SEED, tmp_path)
    assert contents(tmp_path) == contents(survey)


def test_another_survey_in_the_same_folder_is_refused(survey):
    before = contents(survey)
    with pytest.raises(ValueError, match=r"depth \(1.0, now 2.0\)"):
        simulate_survey(SMALL.model_copy(update={"depth": 2.0}), SEED, survey)
    with pytest.raises(ValueError, match=r"seed \(5, now 6\)"):
        simulate_survey(SMALL, SEED + 1, survey)
    assert contents(survey) == before


def test_a_damaged_identity_is_refused(tmp_path):
    (tmp_path / "simulate.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        simulate_survey(SMALL, SEED, tmp_path)


def test_drpall_lists_the_cubes_that_are_there(survey):
    with fits.open(survey / "drpall.fits") as hdus:
        hdus.verify("exception")
        table = hdus["MANGA"].data
        assert hdus["MANGA"].columns["plate"].format == "J"
    truth = pq.read_table(survey / "truth.parquet").to_pylist()
    assert [row["plateifu"] for row in truth] == table["plateifu"].tolist()
    np.testing.assert_array_equal(table["nsa_z"], [row["z"] for row in truth])
    for row in table:
        assert row["plateifu"] == f"{row['plate']}-{row['ifudsgn']}"
        path = survey / str(row["plate"]) / "stack" / f"manga-{row['plateifu']}-LOGCUBE.fits.gz"
        header = fits.getheader(path)
        assert (header["PLATEIFU"], header["MANGAID"]) == (row["plateifu"], row["mangaid"])
        assert (header["OBJRA"], header["MNGTARG1"]) == (row["objra"], row["mngtarg1"])
        assert int(row["ifudsgn"][:-2]) == row["ifudesignsize"] == 19


def test_repeats_are_the_same_galaxy_observed_again(survey):
    rows = pq.read_table(survey / "truth.parquet").to_pylist()
    first, again = sorted(rows, key=lambda row: [r["mangaid"] for r in rows].count(row["mangaid"]))[-2:]
    assert first["mangaid"] == again["mangaid"]
    assert first["plateifu"] != again["plateifu"]
    assert (first["z"], first["log_mass"], first["oh"]) == (again["z"], again["log_mass"], again["oh"])
    assert first["psf_fwhm_arcsec"] != again["psf_fwhm_arcsec"]


def test_a_cube_is_a_true_logcube(survey):
    path = sorted(survey.rglob("*.fits.gz"))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path) as hdus:
            hdus.verify("exception")
            names = [hdu.name for hdu in hdus]
            flux, ivar, mask = (hdus[name].data for name in ("FLUX", "IVAR", "MASK"))
            header, wave = hdus["FLUX"].header, hdus["WAVE"].data
            post, pre, sres = (hdus[name].data for name in ("LSFPOST", "LSFPRE", "SPECRES"))
            psf, image = hdus["GPSF"].data, hdus["GIMG"].data
    assert names[:7] == ["PRIMARY", "FLUX", "IVAR", "MASK", "LSFPOST", "LSFPRE", "WAVE"]
    assert flux.shape == ivar.shape == mask.shape == post.shape == (4563, 34, 34)
    assert (flux.dtype.name, mask.dtype.name) == ("float32", "int32")
    assert header["BUNIT"] == "1E-17 erg/s/cm^2/Ang/spaxel"
    assert (header["ERRDATA"], header["QUALDATA"], header["CTYPE3"]) == ("IVAR", "MASK", "WAVE-LOG")
    np.testing.assert_allclose(np.diff(np.log10(wave)), 1e-4, rtol=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy turns Angstrom into m, and says so
        from_wcs = WCS(header).spectral.all_pix2world(np.arange(4563), 0)[0] * 1e10
    np.testing.assert_allclose(from_wcs, wave, rtol=1e-9)
    inside = mask[0] == 0
    np.testing.assert_allclose(post[:, inside].mean(axis=1) * sres * 2.3548, wave, rtol=1e-4)
    assert (pre[:, inside] < post[:, inside]).all()
    assert psf.sum() == pytest.approx(1, rel=1e-5)
    assert image[17, 17] > 3 * np.median(image[inside]) > 0


def test_masks_are_those_of_the_drp():
    star, dead = DRP3PIXMASK["FORESTAR"], DRP3PIXMASK["DEADFIBER"]
    masks = [make_cube(make_galaxy(), seed).mask for seed in range(25, 36)]
    assert {bit for mask in masks for bit in (star, dead) if (mask & (1 << bit)).any()} == {star, dead}
    for mask in masks:
        assert (mask[coverage(19) == 0] == bits_value(["NOCOV", "DONOTUSE"], DRP3PIXMASK)).all()
        assert (mask[coverage(19) == 1] & 1 == 0).all()
        flagged = mask != 0
        np.testing.assert_array_equal(flagged, mask & (1 << DRP3PIXMASK["DONOTUSE"]) > 0)
        assert 0.4 < (~flagged).mean() + 0.1 < 0.6


def test_nothing_outside_the_bundle(survey):
    with fits.open(sorted(survey.rglob("*.fits.gz"))[0]) as hdus:
        flux, ivar, mask = (hdus[name].data for name in ("FLUX", "IVAR", "MASK"))
    nothing = mask & 1 > 0
    assert 0.3 < nothing.mean() < 0.4
    assert not flux[nothing].any()
    assert not ivar[nothing].any()
    assert (ivar[~nothing] > 0).all()
    assert np.isfinite(flux).all()


@pytest.mark.parametrize("num_fibres", sorted(CUBE_SIZE))
def test_hexagons_are_as_large_as_the_real_ones(num_fibres):
    full = (coverage(num_fibres) == 1).sum()
    assert full == pytest.approx(REAL_HEXAGON_COUNTS[num_fibres], rel=0.03)
    assert 0.60 < (coverage(num_fibres) > 0).mean() < 0.70


@pytest.mark.realdata
@pytest.mark.skipif(not REAL_HEXAGONS.exists(), reason=f"needs {REAL_HEXAGONS}")
@pytest.mark.parametrize("num_fibres", sorted(CUBE_SIZE))
def test_hexagons_have_the_shape_of_the_real_ones(num_fibres):
    real = fits.getdata(REAL_HEXAGONS)[sorted(CUBE_SIZE).index(num_fibres)] > 0
    ours = coverage(num_fibres) == 1
    centre = np.argwhere(real).mean(axis=0).round().astype(int)
    half = CUBE_SIZE[num_fibres] // 2
    padded = np.pad(real, 10)
    start = centre + 10 - half
    real = padded[start[0] : start[0] + 2 * half, start[1] : start[1] + 2 * half]
    assert (real & ours).sum() / (real | ours).sum() > 0.93


# Noise.


@pytest.mark.parametrize("depth", [1.0, 3.0])
def test_ivar_knows_the_noise(depth):
    galaxy = make_galaxy("composite")
    one, other = (make_cube(galaxy, seed, depth) for seed in (11, 12))
    usable = ((one.mask | other.mask) == 0)[one.covered]
    chi = (one.flux - other.flux)[usable] / np.sqrt(1 / one.ivar + 1 / other.ivar)[usable]
    assert abs(chi.mean()) < 0.01
    # In every part of the spectrum, and for the brightest and the faintest spaxels.
    for part in np.array_split(chi, 8, axis=1):
        assert part.std() == pytest.approx(1, abs=0.02)
    order = np.argsort(one.flux[usable].mean(axis=1))
    for part in np.array_split(chi[order], 4):
        assert part.std() == pytest.approx(1, abs=0.02)


def test_depth_divides_the_noise():
    shallow, deep = (make_cube(make_galaxy(), 3, depth) for depth in (1.0, 4.0))
    np.testing.assert_allclose(deep.ivar / shallow.ivar, 16, rtol=2e-3)


def test_dropped_bits_are_far_below_the_noise():
    galaxy = make_galaxy("seyfert")
    all_bits, few = (observe(galaxy, make_maps(galaxy), 1.0, bits, np.random.default_rng(4)) for bits in (23, 10))
    np.testing.assert_allclose(few.ivar, all_bits.ivar, rtol=6e-4)
    assert (np.abs(few.flux - all_bits.flux) * np.sqrt(all_bits.ivar)).mean() < 0.01


# Physics.


@pytest.mark.parametrize(
    ("weak", "strong", "ratio"),
    [("OIII-4960", "OIII-5008", 0.340), ("OI-6365", "OI-6302", 0.328)],
)
def test_doublets_keep_their_ratio(weak, strong, ratio):
    galaxy = make_galaxy("seyfert", ebv=0.0)
    spectra = line_spectra(galaxy, make_maps(galaxy), aperture(19, 3.0))
    measured = moments(spectra, weak, galaxy)[0].sum() / moments(spectra, strong, galaxy)[0].sum()
    assert measured == pytest.approx(ratio, rel=0.005)


def test_all_doublets_are_tied_before_dust():
    maps = make_maps(make_galaxy("seyfert", ebv=0.0))
    flux = dict(zip(LINE_NAMES, maps.line_flux.sum(axis=(1, 2)), strict=True))
    for weak, strong, ratio in (
        ("OIII-4960", "OIII-5008", 0.340),
        ("NII-6549", "NII-6585", 0.327),
        ("OI-6365", "OI-6302", 0.328),
    ):
        assert flux[weak] / flux[strong] == pytest.approx(ratio, rel=1e-6)


def test_balmer_lines_follow_case_b_and_dust():
    covered = aperture(19, 3.0)
    fluxes = {}
    for ebv in (0.0, 0.5):
        # One reddening everywhere: the nucleus sees the whole of it.
        galaxy = make_galaxy("star_forming", ebv=ebv)
        spectra = line_spectra(galaxy, make_maps(galaxy), covered).sum(axis=0, keepdims=True)
        hdel, hgam, hb = (moments(spectra, name, galaxy)[0][0] for name in ("Hdel-4102", "Hgam-4341", "Hb-4862"))
        fluxes[ebv] = (hgam / hb, hdel / hb)
    assert fluxes[0.0] == pytest.approx((0.468, 0.259), rel=0.01)
    # At most as red as the centre's E(B-V) makes them.
    for dusty, free, name in zip(fluxes[0.5], fluxes[0.0], ("Hgam-4341", "Hdel-4102"), strict=True):
        excess = extinction(LINES_BY_NAME[name].rest_wave) - extinction(LINES_BY_NAME["Hb-4862"].rest_wave)
        assert 10 ** (-0.4 * 0.5 * excess) * free < dusty < 0.99 * free


def test_extinction_is_cardelli():
    # Table 3 of Cardelli, Clayton & Mathis 1989, R_V = 3.1: V, R, I, J.
    np.testing.assert_allclose(
        extinction(np.array([1e4 / 1.82, 7000, 9000, 12500])) / 3.1, [1, 0.751, 0.479, 0.282], atol=0.003
    )


def test_lines_lie_at_the_redshift_and_rotation():
    galaxy = make_galaxy(pa_deg=30.0, inclination_deg=60.0, axis_ratio=0.53, v_max_kms=200.0)
    maps = make_maps(galaxy)
    covered = coverage(19) == 1
    flux, wave = moments(line_spectra(galaxy, maps, covered), "OIII-5008", galaxy)
    velocity = (wave / (LINES_BY_NAME["OIII-5008"].rest_wave * (1 + galaxy.z)) - 1) * SPEED_OF_LIGHT_KMS
    bright = flux > 0.01 * flux.max()
    expected = maps.gas[0].velocity_kms[covered]
    assert np.abs(velocity - expected)[bright].max() < 3.0
    # North through east is up through left: at 30 degrees the receding side lies up and to the left.
    y, x = (np.argwhere(covered) - 17).T
    towards = y * np.cos(np.radians(30)) - x * np.sin(np.radians(30))
    assert velocity[bright & (towards > 5)].min() > 30
    assert velocity[bright & (towards < -5)].max() < -30
    assert 100 < np.abs(velocity[bright]).max() < 200 * np.sin(np.radians(60))


@pytest.mark.parametrize("galaxy_class", ["star_forming", "composite", "seyfert", "liner"])
def test_nuclei_lie_in_their_bpt_region(galaxy_class):
    for seed in range(25):
        galaxy = make_galaxy(galaxy_class, seed=seed)
        bpt = nuclear_bpt(galaxy, make_maps(galaxy))
        assert bpt_class(bpt.nii_ha, bpt.oiii_hb, bpt.sii_ha) == galaxy_class, (seed, bpt)


def test_metals_fall_and_ratios_rise_outwards():
    galaxy = make_galaxy(num_fibres=61, log_mass=10.5, oh=8.5, oh_gradient=-0.1)
    maps = make_maps(galaxy)
    names = [line.name for line in PAPER_LINES]
    oiii_hb = maps.line_flux[names.index("OIII-5008")] / maps.line_flux[names.index("Hb-4862")]
    inner, outer = aperture(61, 1.5), (coverage(61) == 1) & ~aperture(61, 1.2 * galaxy.re_arcsec)
    assert np.median(oiii_hb[outer]) > 1.3 * np.median(oiii_hb[inner])


def test_passive_galaxies_have_next_to_no_lines():
    passive, forming = (make_maps(make_galaxy(name)) for name in ("passive", "star_forming"))
    ha = [line.name for line in PAPER_LINES].index("Ha-6564")
    ew = [maps.line_flux[ha].sum() / maps.starlight.sum() for maps in (passive, forming)]
    assert ew[0] < 1.0
    assert ew[1] > 8.0


def test_old_stars_have_a_break_and_magnesium():
    galaxy = make_galaxy("passive", z=0.03)
    spectrum = true_spectra(galaxy, replace(make_maps(galaxy), gas=()), aperture(19, 1.0)).mean(axis=0)
    rest = WAVE / 1.03

    def mean(low, high):
        return spectrum[(low < rest) & (rest < high)].mean()

    # Bands of D4000n (Balogh+1999) and Mg b (Worthey+1994, in vacuum).
    assert 1.5 < mean(4001, 4101) / mean(3851, 3951) < 2.3
    assert mean(5162, 5194) < 0.95 * (mean(5119, 5144) + mean(5193, 5208)) / 2


def test_unusual_galaxies_have_what_the_truth_says():
    broad = make_galaxy("seyfert", "broad_line", z=0.03)
    near = aperture(19, 1.0)
    spectra = [true_spectra(g, make_maps(g), near).sum(axis=0) for g in (broad, replace(broad, broad_fwhm_kms=0.0))]
    wing = np.abs(WAVE / (LINES_BY_NAME["Ha-6564"].rest_wave * 1.03 * (1 - 1800 / SPEED_OF_LIGHT_KMS)) - 1) < 1e-3
    assert spectra[0][wing].mean() > 1.3 * spectra[1][wing].mean()

    names = [line.name for line in PAPER_LINES]
    maps = make_maps(make_galaxy("star_forming", "blueberry"))
    assert maps.line_flux[names.index("OIII-5008")].sum() > 300 * maps.starlight.sum()

    galaxy = make_galaxy("star_forming", "offnuclear_agn", pa_deg=90.0)
    heii = make_maps(galaxy).line_flux[names.index("HeII-4687")]
    y, x = np.unravel_index(heii.argmax(), heii.shape)
    assert (abs(y - 17) <= 1, -11 < x - 17 < -6) == (True, True)


# The plan and the configuration.


def test_the_plan_has_the_shares_of_the_config():
    config = SimulateConfig(num_galaxies=200, repeat_fraction=0.05, unusual_fraction=0.0)
    plan = plan_survey(config, 0)
    galaxies = [item.galaxy for item in plan if item.index == item.source]
    assert len(galaxies) == 190
    for name, share in config.class_shares.items():
        assert sum(g.galaxy_class == name for g in galaxies) == pytest.approx(190 * share, abs=1)
    assert len({item.target.plateifu for item in plan}) == 200
    assert len({item.target.mangaid for item in plan}) == 190
    assert all(0.015 <= g.z <= 0.075 for g in galaxies)
    # Size goes with mass among galaxies of the same kind.
    late = [g for g in galaxies if g.galaxy_class == "star_forming"]
    assert np.corrcoef([g.log_mass for g in late], [np.log10(g.re_arcsec * g.z) for g in late])[0, 1] > 0.4


def test_unusual_galaxies_are_as_many_as_asked():
    plan = plan_survey(SimulateConfig(num_galaxies=100, repeat_fraction=0, unusual_fraction=0.06), 1)
    assert sorted(item.galaxy.unusual for item in plan if item.galaxy.unusual) == sorted(
        2 * ["broad_line", "offnuclear_agn", "blueberry"]
    )


def test_more_workers_or_a_json_detour_do_not_change_the_identity(survey):
    identity = json.loads((survey / "simulate.json").read_text())
    assert "num_workers" not in identity["simulate"]
    assert SimulateConfig.model_validate(json.loads(SMALL.model_dump_json())) == SMALL


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bundle_shares": {20: 1.0}}, "no bundle of"),
        ({"bundle_shares": {19: 0.0}}, "bundle_shares"),
        ({"class_shares": {"seyfert": -1.0}}, "class_shares"),
        ({"class_shares": {"quasar": 1.0}}, "quasar"),
        ({"redshift_range": (0.05, 0.02)}, "redshift_range"),
        ({"depth": 0}, "depth"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(ValidationError, match=message):
        SimulateConfig(**values)
