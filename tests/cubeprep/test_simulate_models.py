"""Simulated model cubes of the DAP: layout, masks, and starlight that leaves the LOGCUBE with lines and noise alone."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from pydantic import ValidationError

from cubeprep.cube import Planes
from cubeprep.cube import Target as SurveyTarget
from cubeprep.dap_model import find_models, read_starlight
from cubeprep.lines import DAP_DR17_LINES, LINES_BY_NAME, SPEED_OF_LIGHT_KMS
from cubeprep.masks import DAPPIXMASK, DAPSPECMASK
from cubeprep.readers import manga_logcube
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.cube import Cube, galactic_transmission, observe, star_spectra
from cubeprep.simulate.dap import DAPTYPES, write_maps
from cubeprep.simulate.dapmodel import scaled_starlight
from cubeprep.simulate.defects import Defects
from cubeprep.simulate.drp import write_logcube
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.instrument import NUM_WAVES, WAVE
from cubeprep.simulate.maps import GalaxyMaps
from cubeprep.simulate.ratios import LINE_NAMES
from cubeprep.simulate.survey import simulate_survey
from cubeprep.simulate.target import Target
from cubeprep.stars.starlight import ModelStars
from cubeprep.survey import SurveyConfig
from cubeprep.survey_files import fits_bytes
from tests.cubeprep.simulated import LIKE_7815_3702, make_galaxy, make_maps

STAR = Defects(star_arcsec=(-4.0, 2.0), star_brightness=2.0)
PLANES = np.arange(150, 4550)
FORMS = list(DAPTYPES)
BIT = {name: 1 << bit for name, bit in DAPSPECMASK.items()}
CUBES = ("FLUX", "IVAR", "MODEL", "EMLINE", "STELLAR", "EMLINE_BASE")


@dataclass
class Simulated:
    """A galaxy, its cube as made and as read, and the folder of its files."""

    root: Path
    galaxy: Galaxy
    maps: GalaxyMaps
    cube: Cube
    planes: Planes
    opened: dict[str, fits.HDUList] = field(default_factory=dict)

    def starlight(self, form: str) -> ModelStars:
        """Starlight in the planes `PLANES`, from the file of a form."""
        folder = str(self.root / DAPTYPES[form])  # type: ignore[index]
        (path,) = find_models(folder).values()
        return read_starlight(path, WAVE, PLANES, None, shape=self.cube.covered.shape)  # type: ignore[arg-type]

    def hdus(self, form: str) -> fits.HDUList:
        """Model cube of a form, which astropy has verified."""
        if form not in self.opened:
            path = next((self.root / DAPTYPES[form]).rglob("*-LOGCUBE-*"))  # type: ignore[index]
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                self.opened[form] = fits.open(fits_bytes(str(path)))
                self.opened[form].verify("exception")
        return self.opened[form]

    def line_free(self, low: float, high: float, away_kms: float = 900.0) -> np.ndarray:
        """Which of `PLANES` lie between two wavelengths and far from all lines."""
        wave = WAVE[PLANES]
        lines = np.array([line.rest_wave for line in DAP_DR17_LINES])[:, None] * (1 + self.galaxy.z)
        return (np.abs(wave / lines - 1) > away_kms / SPEED_OF_LIGHT_KMS).all(axis=0) & (low < wave) & (wave < high)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    root = tmp_path_factory.mktemp("models")
    galaxy = make_galaxy(seed=3, num_fibres=19, **LIKE_7815_3702)
    maps, target = make_maps(galaxy), Target(8001, "1901", "1-100001", 2.5, STAR)
    cube = observe(galaxy, maps, 1.0, 10, np.random.default_rng(4), STAR)
    write_logcube(root / target.cube_path, target, galaxy, cube)
    paths, models = (
        {form: root / place(daptype) for form, daptype in DAPTYPES.items()}
        for place in (target.maps_path, target.model_path)
    )
    write_maps(paths, target, galaxy, maps, cube, model_paths=models)
    opened = SurveyTarget(target.plateifu, target.mangaid, galaxy.z, 0, 0, (str(root / target.cube_path),))
    (arm,) = manga_logcube.Reader(SurveyConfig(root=str(root))).open(opened)
    np.testing.assert_allclose(arm.wave, WAVE, rtol=1e-9)
    return Simulated(root, galaxy, maps, cube, arm.read(PLANES, None))


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("dr15", "FLUX IVAR MASK WAVE REDCORR MODEL EMLINE EMLINE_BASE EMLINE_MASK BINID"),
        ("dr17", "FLUX IVAR MASK LSF WAVE REDCORR MODEL MODEL_MASK EMLINE STELLAR STELLAR_MASK BINID"),
    ],
)
def test_extensions_are_those_of_the_release(made: Simulated, form: str, names: str) -> None:
    hdus = made.hdus(form)
    assert [hdu.name for hdu in hdus] == ["PRIMARY", *names.split()]
    assert hdus[0].header["DAPFRMT"] == "LOGCUBE"
    assert hdus[0].header["DAPTYPE"] == DAPTYPES[form]  # type: ignore[index]
    for hdu in hdus[1:]:
        if hdu.name in ("WAVE", "REDCORR"):
            assert (hdu.data.shape, hdu.data.dtype) == ((NUM_WAVES,), ">f4")
        elif hdu.name == "BINID":
            assert hdu.data.shape == (5, *made.cube.covered.shape)
        else:
            assert hdu.data.shape == (NUM_WAVES, *made.cube.covered.shape)
            assert hdu.data.dtype == (">i2" if "MASK" in hdu.name else ">f4")
        if hdu.name in CUBES:
            assert hdu.header["BUNIT"].strip("()^{-2}") == "1E-17 erg/s/cm^2/ang/spaxel".strip("()^{-2}")


@pytest.mark.parametrize(
    ("form", "low", "high"),
    [
        *((form, *band) for form in FORMS for band in [(3800, 4300), (4300, 5000), (5000, 6500), (6500, 7300)]),
        ("dr17", 7700, 10200),
    ],
)
def test_no_continuum_is_left_in_line_free_bands(made: Simulated, form: str, low: float, high: float) -> None:
    planes, stars, free = made.planes, made.starlight(form), made.line_free(low, high)
    good = ((planes.mask == 0) & stars.fitted)[free]
    assert good.any(axis=0).sum() > 300
    rest, ivar = (planes.flux - stars.flux)[free], planes.ivar[free]
    scaled = (rest * np.sqrt(ivar))[good]
    assert 1.4826 * np.median(np.abs(scaled)) == pytest.approx(1, abs=0.04)
    assert abs(np.median(scaled)) < 0.06
    # Mean over the band in each spaxel: the starlight itself is many sigma there.
    weight = np.where(good, ivar, 0).sum(axis=0)
    band, light = (
        np.where(good, values * ivar, 0).sum(axis=0)[weight > 0] / np.sqrt(weight[weight > 0])
        for values in (rest, stars.flux[free])
    )
    assert np.median(light) > 20
    assert np.std(band) < 1.1
    assert abs(band.mean()) < 0.5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["Hdel-4102", "Hgam-4341", "Hb-4862", "OIII-5008", "Ha-6564"])
def test_lines_keep_their_flux(made: Simulated, form: str, name: str) -> None:
    """Sidebands alone would leave half of the flux of a weak Balmer line to the absorption below it."""
    wave = WAVE[PLANES]
    centre = LINES_BY_NAME[name].rest_wave * (1 + made.galaxy.z)
    low, high = {"Ha-6564": (-400, 400), "OIII-5008": (-700, 300)}.get(name, (-700, 700))  # [N II], and He I 5017
    velocity = (wave / centre - 1) * SPEED_OF_LIGHT_KMS
    near = (velocity > low) & (velocity < high)
    width = np.gradient(wave)[near][:, None, None]
    stars, ivar = made.starlight(form), made.planes.ivar[near]
    good = ((made.planes.mask == 0) & stars.fitted)[near].all(axis=0)
    flux = ((made.planes.flux - stars.flux)[near] * width).sum(axis=0)
    noise = np.sqrt((width**2 / np.where(ivar > 0, ivar, np.inf)).sum(axis=0))
    truth = made.maps.line_flux[LINE_NAMES.index(name)] * galactic_transmission(made.galaxy)[PLANES][near].mean()
    bright = good & (truth > 10 * noise)
    assert bright.sum() > 20
    assert np.median(flux[bright] / truth[bright]) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("form", FORMS)
def test_starlight_is_the_true_one_with_a_small_error(made: Simulated, form: str) -> None:
    """About the error of 9 or 15 free parameters in 4,500 pixels, and that of the stars' velocity."""
    stars = made.starlight(form)
    truth = np.zeros((len(PLANES), *made.cube.covered.shape), dtype=np.float32)
    truth[:, made.cube.covered] = (made.maps.sampling.weights @ star_spectra(made.galaxy, made.maps)[:, PLANES]).T
    # The light of the foreground star is not the galaxy's, but the fit cannot know.
    y, x = np.indices(made.cube.covered.shape) - made.cube.covered.shape[0] // 2
    near = np.hypot(0.5 * x - STAR.star_arcsec[0], 0.5 * y - STAR.star_arcsec[1]) < 7  # type: ignore[index]
    good = (made.planes.mask == 0) & stars.fitted & ~near & (WAVE[PLANES] < 7000)[:, None, None]
    error = ((stars.flux - truth) * np.sqrt(made.planes.ivar))[good]
    assert 0.02 < np.sqrt((error**2).mean()) < 0.15
    assert abs(error.mean()) < 0.02


@pytest.mark.parametrize("form", FORMS)
def test_spaxels_without_a_model_are_those_that_the_maps_mask(made: Simulated, form: str) -> None:
    fitted = made.starlight(form).fitted[WAVE[PLANES] < 7000].any(axis=0)
    path = next((made.root / DAPTYPES[form]).rglob("*-MAPS-*"))  # type: ignore[index]
    with fits.open(fits_bytes(str(path))) as maps:
        mask = maps["STELLAR_VEL_MASK"].data
    np.testing.assert_array_equal(fitted, mask & 1 << DAPPIXMASK["DONOTUSE"] == 0)
    for name in ("NOCOV", "FORESTAR", "NOVALUE"):
        assert (mask & 1 << DAPPIXMASK[name] != 0).any(), name


def test_masks_say_what_was_ignored_and_where_no_model_is(made: Simulated) -> None:
    hdus = made.hdus("dr17")
    mask, model, lines = (hdus[name].data for name in ("MODEL_MASK", "MODEL", "EMLINE"))
    bins = hdus["BINID"].data
    inside = bins[3] >= 0
    assert np.array_equal(bins[3], bins[1])
    assert np.array_equal(bins[3], bins[0])
    assert not bins[[2, 4]].any()
    assert (mask[:, ~inside] & BIT["FITIGNORED"] != 0).all()
    assert not model[:, ~inside].any()
    assert (mask[-6:, inside] & BIT["NOMODEL"] != 0).all()
    outside_range = mask & BIT["NOMODEL"] != 0
    assert not model[outside_range].any()
    assert not lines[outside_range].any()
    # Pixels that the fit has rejected, such as sky residuals, do have a model.
    rejected = (mask[:-6, inside] & BIT["FITIGNORED"] != 0) & (mask[:-6, inside] & BIT["NOMODEL"] == 0)
    assert 0.001 < rejected.mean() < 0.02
    assert (model[:-6, inside][rejected] != 0).all()
    star = mask & BIT["FORESTAR"] != 0
    assert star[0].sum() > 20
    assert not star[:, inside].any()
    blue = 7400 * (1 + made.galaxy.z) > WAVE
    stellar, stellar_mask = (hdus[name].data for name in ("STELLAR", "STELLAR_MASK"))
    assert not stellar[~blue].any()
    assert (stellar_mask[~blue][:, inside] & BIT["NOMODEL"] != 0).all()
    assert np.array_equal(stellar_mask[blue], mask[blue])


def test_templates_of_dr15_end_in_the_red(made: Simulated) -> None:
    stars = made.starlight("dr15")
    beyond = WAVE[PLANES] > 7400 * (1 + made.galaxy.z)
    assert not stars.fitted[beyond].any()
    assert stars.fitted[~beyond].any(axis=0).sum() == made.starlight("dr17").fitted.any(axis=0).sum()


def test_starlight_and_lines_have_few_significant_bits(made: Simulated) -> None:
    hdus = made.hdus("dr17")
    lines, stellar = (hdus[name].data.astype(np.float32) for name in ("EMLINE", "STELLAR"))
    model = hdus["MODEL"].data.astype(np.float32)
    for values in (lines, stellar, model[lines == 0]):
        assert not (values.view(np.uint32) & ((1 << 13) - 1)).any()
    blue = 7400 * (1 + made.galaxy.z) > WAVE
    np.testing.assert_array_equal(model[blue], (stellar + lines)[blue])


def test_the_polynomial_restores_a_smooth_factor() -> None:
    x = np.linspace(-1, 1, 900)
    stars = np.stack([2 + np.sin(40 * x), 1 + 0.5 * np.cos(90 * x)]).astype(np.float32)
    factor = np.stack([1 + 0.3 * x**3 - 0.1 * x, 0.7 + 0.2 * x**8])
    ivar = np.where(np.abs(x - 0.3) < 0.1, 0, np.ones(stars.shape))
    flux = np.where(ivar > 0, stars * factor, 1e6)
    np.testing.assert_allclose(scaled_starlight(flux, ivar, stars, 8), stars * factor, rtol=1e-4)


CONFIG = {"num_galaxies": 2, "num_workers": 1, "bundle_shares": {19: 1}, "critical_fraction": 0, "repeat_fraction": 0}


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.fits*"))}


@pytest.mark.slow
def test_model_cubes_can_be_added_to_a_survey_and_change_no_other_file(tmp_path: Path) -> None:
    both = {**CONFIG, "model_cubes": True}
    simulate_survey(SimulateConfig(**CONFIG), 3, tmp_path / "a")
    before = contents(tmp_path / "a")
    assert not any("-LOGCUBE-" in name for name in before)
    simulate_survey(SimulateConfig(**both), 3, tmp_path / "a")
    after = contents(tmp_path / "a")
    assert {name: after[name] for name in before} == before
    assert sum("-LOGCUBE-" in name for name in after) == 2
    simulate_survey(SimulateConfig(**{**both, "num_workers": 2, "cubes": False}), 3, tmp_path / "b")
    other = contents(tmp_path / "b")
    assert {name for name in after if name not in other} == {name for name in after if "/stack/" in name}
    assert other == {name: after[name] for name in other}


def test_model_cubes_need_a_form() -> None:
    assert not SimulateConfig().model_cubes
    with pytest.raises(ValidationError, match="model_cubes is true and maps is empty"):
        SimulateConfig(maps=(), model_cubes=True)
