"""The simulated survey against real data: figures with tolerances. docs/simulation.md shows the same as plots."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.simulation_figures import (
    FluxStatistics,
    grid_ratios,
    in_grids,
    nuclear_measurements,
    simulated_nuclei,
    spaxel_ratios,
)
from cubeprep.line_ratios import kewley2001
from cubeprep.masks import DAPPIXMASK
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.cube import observe
from cubeprep.simulate.dap import write_maps
from cubeprep.simulate.ratios import bpt_class
from cubeprep.simulate.survey import plan_survey
from cubeprep.simulate.target import Target
from tests.cubeprep.simulated import LIKE_7815_3702, make_galaxy, make_maps

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

REAL_MAPS = "manga/manga-7815-3702-MAPS-HYB10-GAU-MILESHC.fits.gz"


@pytest.fixture(scope="module")
def like_7815(tmp_path_factory) -> FluxStatistics:
    """The 22-line MAPS of a simulated galaxy with the parameters of the real one."""
    galaxy = make_galaxy(seed=3, num_fibres=37, **LIKE_7815_3702)
    maps, target = make_maps(galaxy), Target(8001, "3701", "1-100001", 2.5)
    cube = observe(galaxy, maps, 1.0, 10, np.random.default_rng(4))
    path = tmp_path_factory.mktemp("real") / "maps.fits.gz"
    write_maps({"dr15": path}, target, galaxy, maps, cube)
    return FluxStatistics.of(path)


@pytest.fixture
def real_7815(real_data: Path) -> FluxStatistics:
    return FluxStatistics.of(real_data / REAL_MAPS)


@pytest.fixture(scope="module")
def nuclei() -> dict[str, np.ndarray]:
    return simulated_nuclei(num_galaxies=120, seed=1)


# Figures of single MAPS.


def test_mask_shares(like_7815, real_7815):
    for name, tolerance in (("unused", 0.06), ("uncovered", 0.10), ("unused_in_coverage", 0.12)):
        assert getattr(like_7815, name) == pytest.approx(getattr(real_7815, name), abs=tolerance), name


def test_noise_of_the_continuum(like_7815, real_7815):
    """Noise per pixel in the g band against flux density; the real galaxy had 15 exposures where most have 9."""
    for flux in (0.08, 0.15, 0.3, 0.6):
        ratio = like_7815.continuum_noise(flux) / real_7815.continuum_noise(flux)
        assert 0.85 < ratio < 1.35, flux


def test_noise_of_halpha_rises_with_flux(like_7815, real_7815):
    for flux in (3.0, 7.0, 20.0):
        assert like_7815.line_noise("Ha-6564", flux) / real_7815.line_noise("Ha-6564", flux) == pytest.approx(
            1, abs=0.35
        )
    for statistics in (like_7815, real_7815):
        assert statistics.noise_flux_correlation("Ha-6564") > 0.7


def test_signs_zeros_and_widths(like_7815, real_7815):
    assert like_7815.share_of_zeros == pytest.approx(real_7815.share_of_zeros, abs=0.04)
    assert like_7815.share_of_negative_sums == pytest.approx(real_7815.share_of_negative_sums, abs=0.04)
    assert like_7815.zeros("HeII-4687") == pytest.approx(real_7815.zeros("HeII-4687"), abs=0.12)
    assert like_7815.median_sigma("Ha-6564") == pytest.approx(real_7815.median_sigma("Ha-6564"), abs=10)
    assert like_7815.reach == pytest.approx(real_7815.reach, abs=0.25)


def test_signal_to_noise_ratios(like_7815, real_7815):
    for name in ("Ha-6564", "Hb-4862", "NII-6585", "SII-6718", "OIII-5008", "OI-6302", "OII-3727"):
        ratio = like_7815.median_snr(name) / real_7815.median_snr(name)
        assert 0.4 < ratio < 2.2, (name, ratio)


def test_distribution_of_halpha(like_7815, real_7815):
    """The spread between percentiles 16 and 84 of log flux: within 0.45 dex, one galaxy's against another's."""
    (a, b), (c, d) = (np.log10(s.percentiles("Ha-6564", (16, 84))) for s in (like_7815, real_7815))
    assert b - a == pytest.approx(d - c, abs=0.45)


def test_gradients(like_7815, real_7815):
    """Ratios at 1.5-2 half-light radii relative to those of the centre, dex; and their signs."""
    for name, tolerance in (("oiii_hb", 0.25), ("sii_ha", 0.15), ("oi_ha", 0.35), ("nii_ha", 0.12), ("ha_hb", 0.06)):
        ours, real = like_7815.gradient(name), real_7815.gradient(name)
        assert ours == pytest.approx(real, abs=tolerance), name
        assert np.sign(ours) == np.sign(real) or abs(real) < 0.03, name


# Populations.


def test_nuclei_lie_within_the_envelope_of_the_measured_ones(nuclei, real_data):
    """Nine tenths of our nuclei lie where the 4,918 measured ones are: less than 0.15 dex from five of them."""
    real = nuclear_measurements(real_data)
    distance = np.hypot(nuclei["nii_ha"][:, None] - real["nii_ha"], nuclei["oiii_hb"][:, None] - real["oiii_hb"])
    assert np.mean(np.sort(distance, axis=1)[:, 4] < 0.15) > 0.9


def test_nuclei_have_the_medians_of_the_measured_ones(nuclei, real_data):
    real = nuclear_measurements(real_data)
    forming = bpt_region(real) == "star_forming"
    ours = nuclei["class"] == "star_forming"
    for name, tolerance in (("nii_ha", 0.15), ("oiii_hb", 0.25)):
        assert np.median(nuclei[name][ours]) == pytest.approx(np.median(real[name][forming]), abs=tolerance), name
    # The star-forming sequence: [O III]/Hbeta at a given [N II]/Halpha.
    for low in (-0.8, -0.7, -0.6, -0.5):
        a, b = (
            np.median(s["oiii_hb"][k & (s["nii_ha"] > low) & (s["nii_ha"] < low + 0.1)])
            for s, k in ((nuclei, ours), (real, forming))
        )
        assert a == pytest.approx(b, abs=0.12), low


def test_equivalent_widths_are_those_of_the_classes(nuclei, real_data):
    real = nuclear_measurements(real_data)
    region, ew = bpt_region(real), real["ha_ew"]
    kinds = {
        "star_forming": region == "star_forming",
        "composite": (region == "composite") & (ew > 3),
        "liner": (region != "star_forming") & (ew > 0.5) & (ew < 3),
        "passive": ew < 0.5,
    }
    for name, chosen in kinds.items():
        ours = np.log10(np.median(nuclei["ha_ew"][nuclei["class"] == name]))
        assert ours == pytest.approx(np.log10(np.median(ew[chosen])), abs=0.25), name


def test_shares_of_classes_are_those_of_the_measured_nuclei(real_data):
    """Our defaults against the catalog, in which a tenth or so without lines are missing."""
    real = nuclear_measurements(real_data)
    region, ew = bpt_region(real), real["ha_ew"]
    shares = SimulateConfig().class_shares
    assert shares["star_forming"] == pytest.approx(np.mean(region == "star_forming"), abs=0.06)
    assert shares["composite"] == pytest.approx(np.mean((region == "composite") & (ew > 3)), abs=0.04)
    assert shares["seyfert"] == pytest.approx(np.mean((region == "agn") & (ew > 3)), abs=0.02)
    assert shares["liner"] == pytest.approx(np.mean((region != "star_forming") & (ew > 0.5) & (ew < 3)), abs=0.05)


def test_line_ratios_lie_in_the_photoionisation_grids(real_data):
    """Of spaxels with all kinds of gas, in each plane of ratios, where some model of H II regions or nuclei is near."""
    grids = grid_ratios(real_data)
    ratios = spaxel_ratios(num_galaxies=40, seed=2)
    for x, y in (("nii_ha", "oiii_hb"), ("sii_ha", "oiii_hb"), ("oi_ha", "oiii_hb"), ("oii_hb", "oiii_hb"),
                 ("neiii_hb", "oiii_hb"), ("siii_ha", "sii_ha"), ("heii_hb", "oiii_hb")):  # fmt: skip
        assert in_grids(ratios, grids, x, y) > 0.95, (x, y)


def test_redshifts_and_masses_are_those_of_the_survey(real_data):
    table = np.genfromtxt(
        (line for line in (real_data / "catalogs" / "tabla_manga_full_updated.ecsv").open() if line[0] != "#"),
        usecols=(0, 4), skip_header=1, dtype=None, encoding="utf-8",
    )  # fmt: skip
    fibres = np.array([int(row[0].split("-")[1][:-2]) for row in table])
    z = np.array([row[1] for row in table])
    config = SimulateConfig(num_galaxies=1200, redshift_range=(0.01, 0.15), repeat_fraction=0, unusual_fraction=0)
    galaxies = [item.galaxy for item in plan_survey(config, 3)]
    for num_fibres in (19, 37, 61, 91, 127):
        ours = np.array([g.z for g in galaxies if g.num_fibres == num_fibres])
        real = z[(fibres == num_fibres) & (z > 0.01) & (z < 0.15)]
        for percent in (16, 50, 84):
            ratio = np.percentile(ours, percent) / np.percentile(real, percent)
            assert 0.7 < ratio < 1.45, (num_fibres, percent, ratio)
    mass = np.percentile([g.log_mass for g in galaxies], [16, 50, 84])
    np.testing.assert_allclose(mass, [9.87, 10.66, 11.35], atol=0.3)


def bpt_region(nuclei: dict[str, np.ndarray]) -> np.ndarray:
    """Region of the [N II] diagram: star_forming, composite or agn."""
    kinds = [bpt_class(x, y, 0.0) for x, y in zip(nuclei["nii_ha"], nuclei["oiii_hb"], strict=True)]
    above = nuclei["oiii_hb"] > kewley2001(nuclei["nii_ha"])
    return np.where(above, "agn", np.array(kinds))


def test_real_spectra_have_the_noise_and_resolution_of_the_model(real_data):
    from cubeprep.simulate.instrument import WAVE, noise_model, resolution

    with fits.open(real_data / "spectra" / "MaNGA_test_spectra.fits.gz") as hdus:
        np.testing.assert_allclose(hdus["WAVE"].data, WAVE, rtol=1e-6)
        good = [0, 1, 2, 3, 4, 6, 7]
        sres = np.median(hdus["SRES"].data[good], axis=0)
        ivar, flux = (hdus[name].data[[6, 7]].astype(float) for name in ("IVAR", "FLUX"))
        bad = float((hdus["MASK"].data[good][:, :-7] != 0).mean())
    part = slice(100, 4400)
    np.testing.assert_allclose(resolution(WAVE)[part], sres[part], rtol=0.03)
    sky, per_flux = noise_model()
    model = np.sqrt(sky + per_flux * np.maximum(np.median(flux), 0))
    ratio = np.mean(ivar[:, part], axis=0) ** -0.5 / model[part]
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
    assert 0.7 < np.percentile(ratio, 5) < np.percentile(ratio, 95) < 1.5
    assert bad < 1e-3
    assert DAPPIXMASK["DONOTUSE"] == 30
