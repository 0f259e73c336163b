"""The galaxies that are simulated: lines, dust, motion, stars, classes."""

from dataclasses import replace

import numpy as np
import pytest

from cubeprep.lines import LINES_BY_NAME, SPEED_OF_LIGHT_KMS
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.cube import galactic_transmission, star_spectra, true_spectra
from cubeprep.simulate.footprint import LOW_COVERAGE, sampling
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.instrument import NUM_WAVES, WAVE
from cubeprep.simulate.maps import GalaxyMaps, aperture, nuclear_bpt
from cubeprep.simulate.ratios import LINE_NAMES, bpt_class
from cubeprep.simulate.spectrum import add_line, extinction
from cubeprep.simulate.survey import plan_survey
from tests.cubeprep.simulated import make_galaxy, make_maps


def gridded(maps: GalaxyMaps, spectra: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Spectra [spaxel, wavelength] of the spaxels in a mask, from those of exposures."""
    return (maps.sampling.weights @ spectra)[where[maps.sampling.covered]].astype(np.float64)


def line_spectra(galaxy: Galaxy, maps: GalaxyMaps, where: np.ndarray) -> np.ndarray:
    """Emission lines alone, corrected for the Milky Way."""
    lines = true_spectra(galaxy, maps) - star_spectra(galaxy, maps)
    return gridded(maps, lines / galactic_transmission(galaxy), where)


def moments(spectra: np.ndarray, name: str, galaxy: Galaxy) -> tuple[np.ndarray, np.ndarray]:
    """Flux and mean wavelength within +-700 km/s of a line."""
    wave = LINES_BY_NAME[name].rest_wave * (1 + galaxy.z)
    near = np.abs(WAVE / wave - 1) < 700 / SPEED_OF_LIGHT_KMS
    width = WAVE[near] * np.log(10) * 1e-4
    flux = (spectra[:, near] * width).sum(axis=1)
    return flux, (spectra[:, near] * width * WAVE[near]).sum(axis=1) / flux


@pytest.mark.parametrize(
    ("weak", "strong", "ratio"),
    [("OIII-4960", "OIII-5008", 0.340), ("OI-6365", "OI-6302", 0.328), ("NII-6549", "NII-6585", 0.327)],
)
def test_doublets_keep_their_ratio(weak, strong, ratio):
    galaxy = make_galaxy("seyfert", ebv=0.0)
    maps = make_maps(galaxy)
    flux = dict(zip(LINE_NAMES, maps.line_flux.sum(axis=(1, 2)), strict=True))
    assert flux[weak] / flux[strong] == pytest.approx(ratio, rel=1e-6)
    if weak != "NII-6549":  # blended with Halpha
        spectra = line_spectra(galaxy, maps, aperture(19, 3.0))
        measured = moments(spectra, weak, galaxy)[0].sum() / moments(spectra, strong, galaxy)[0].sum()
        assert measured == pytest.approx(ratio, rel=0.03)


def test_balmer_lines_follow_case_b_and_dust():
    where = aperture(19, 3.0)
    fluxes = {}
    for ebv in (0.0, 0.5):
        galaxy = make_galaxy("star_forming", ebv=ebv)
        spectra = line_spectra(galaxy, make_maps(galaxy), where).sum(axis=0, keepdims=True)
        hdel, hgam, hb = (moments(spectra, name, galaxy)[0][0] for name in ("Hdel-4102", "Hgam-4341", "Hb-4862"))
        fluxes[ebv] = (hgam / hb, hdel / hb)
    assert fluxes[0.0] == pytest.approx((0.468, 0.259), rel=0.02)
    # At most as red as the centre's E(B-V) makes them.
    for dusty, free, name in zip(fluxes[0.5], fluxes[0.0], ("Hgam-4341", "Hdel-4102"), strict=True):
        excess = extinction(LINES_BY_NAME[name].rest_wave) - extinction(LINES_BY_NAME["Hb-4862"].rest_wave)
        assert 10 ** (-0.4 * 0.5 * excess) * free < dusty < 0.99 * free


def test_extinction_is_cardelli():
    # Table 3 of Cardelli, Clayton & Mathis 1989, R_V = 3.1: V, R, I, J.
    np.testing.assert_allclose(
        extinction(np.array([1e4 / 1.82, 7000, 9000, 12500])) / 3.1, [1, 0.751, 0.479, 0.282], atol=0.003
    )


@pytest.mark.parametrize("z", [0.01, 0.15])
def test_velocities_are_relative_to_the_galaxys_redshift(z):
    spectra, velocity = np.zeros((3, NUM_WAVES), np.float32), np.array([-250.0, 0.0, 250.0])
    add_line(spectra, 5008.24, np.full(3, 10.0), z, velocity, np.full(3, 60.0))
    width = WAVE * np.log(10) * 1e-4
    wave = (spectra * width * WAVE).sum(axis=1) / (spectra * width).sum(axis=1)
    found = (wave / (5008.24 * (1 + z)) - 1) * SPEED_OF_LIGHT_KMS
    np.testing.assert_allclose(found, velocity, atol=1)


def test_lines_lie_at_the_redshift_and_rotation():
    galaxy = make_galaxy(pa_deg=30.0, inclination_deg=60.0, axis_ratio=0.53, v_max_kms=200.0)
    maps = make_maps(galaxy)
    covered = sampling(19).depth >= LOW_COVERAGE
    flux, wave = moments(line_spectra(galaxy, maps, covered), "Hb-4862", galaxy)
    velocity = (wave / (LINES_BY_NAME["Hb-4862"].rest_wave * (1 + galaxy.z)) - 1) * SPEED_OF_LIGHT_KMS
    bright = flux > 0.01 * flux.max()
    # North through east is up through left: at 30 degrees the receding side lies up and to the left.
    y, x = (np.argwhere(covered) - 17).T
    towards = y * np.cos(np.radians(30)) - x * np.sin(np.radians(30))
    assert velocity[bright & (towards > 6)].min() > 20
    assert velocity[bright & (towards < -6)].max() < -20
    assert 100 < np.abs(velocity[bright]).max() < 200 * np.sin(np.radians(60))


def test_stars_move_with_the_disc_and_lag_the_gas():
    galaxy = make_galaxy(inclination_deg=60.0, axis_ratio=0.53, v_max_kms=200.0)
    maps = make_maps(galaxy)
    bulge, disc = maps.stars
    gas = maps.gas[0].velocity_kms
    assert np.corrcoef(disc.velocity_kms, gas)[0, 1] > 0.97
    assert np.ptp(bulge.velocity_kms) < np.ptp(disc.velocity_kms) < np.ptp(gas)
    assert disc.sigma_kms < bulge.sigma_kms


@pytest.mark.slow
@pytest.mark.parametrize("galaxy_class", ["star_forming", "composite", "seyfert", "liner"])
def test_nuclei_lie_in_their_bpt_region(galaxy_class):
    for seed in range(25):
        galaxy = make_galaxy(galaxy_class, seed=seed)
        bpt = nuclear_bpt(galaxy, make_maps(galaxy))
        assert bpt_class(bpt.nii_ha, bpt.oiii_hb, bpt.sii_ha) == galaxy_class, (seed, bpt)


def test_metals_fall_and_ratios_rise_outwards():
    galaxy = make_galaxy(num_fibres=61, log_mass=10.5, oh=8.5, oh_gradient=-0.1)
    flux = dict(zip(LINE_NAMES, make_maps(galaxy).line_flux, strict=True))
    inner, outer = aperture(61, 1.5), (sampling(61).depth >= LOW_COVERAGE) & ~aperture(61, 1.2 * galaxy.re_arcsec)
    for line, balmer, factor in (
        ("OIII-5008", "Hb-4862", 1.3),
        ("SII-6718", "Ha-6564", 1.15),
        ("OI-6302", "Ha-6564", 1.2),
    ):
        ratio = flux[line] / np.where(flux[balmer] > 0, flux[balmer], np.inf)
        assert np.median(ratio[outer]) > factor * np.median(ratio[inner]), line


def test_passive_galaxies_have_next_to_no_lines():
    passive, forming = (make_maps(make_galaxy(name)) for name in ("passive", "star_forming"))
    ha = LINE_NAMES.index("Ha-6564")
    ew = [maps.line_flux[ha].sum() / maps.starlight.sum() for maps in (passive, forming)]
    assert ew[0] < 1.0
    assert ew[1] > 8.0


def test_stars_have_breaks_absorption_and_metals():
    """Ranges of D4000n (Balogh+1999) and Mg b, and deep Balmer lines in young stars: Kauffmann+2003, Gallazzi+2005."""
    values = {}
    for name in ("passive", "star_forming"):
        galaxy = make_galaxy(name, z=0.03, log_mass=10.9, ebv_galactic=0.0, log_star_metals=0.1)
        maps = make_maps(galaxy)
        spectrum = gridded(maps, star_spectra(galaxy, maps), aperture(19, 1.5)).mean(axis=0)
        rest = WAVE / 1.03

        def mean(low, high, spectrum=spectrum, rest=rest):
            return spectrum[(low < rest) & (rest < high)].mean()

        d4000 = mean(4001, 4101) / mean(3851, 3951)
        mgb = 1 - mean(5162, 5194) / ((mean(5144, 5163) + mean(5193, 5208)) / 2)
        hdelta = 1 - mean(4092, 4113) / ((mean(4043, 4081) + mean(4130, 4162)) / 2)
        values[name] = d4000, mgb * 32.5, hdelta * 21
    assert 1.6 < values["passive"][0] < 2.2
    assert 1.1 < values["star_forming"][0] < 1.6
    assert 2.5 < values["passive"][1] < 6.0
    assert values["star_forming"][1] < values["passive"][1]
    assert values["star_forming"][2] > values["passive"][2] + 1.0


def test_unusual_galaxies_have_what_the_truth_says():
    broad = make_galaxy("seyfert", "broad_line", z=0.03)
    near = aperture(19, 1.0)
    wing = np.abs(WAVE / (LINES_BY_NAME["Ha-6564"].rest_wave * 1.03 * (1 - 1800 / SPEED_OF_LIGHT_KMS)) - 1) < 1e-3
    with_wing, without = (
        gridded(maps, true_spectra(g, maps), near).sum(axis=0)[wing].mean()
        for g, maps in ((g, make_maps(g)) for g in (broad, replace(broad, broad_fwhm_kms=0.0)))
    )
    assert with_wing > 1.3 * without

    maps = make_maps(make_galaxy("star_forming", "blueberry"))
    assert maps.line_flux[LINE_NAMES.index("OIII-5008")].sum() > 300 * maps.starlight.sum()

    galaxy = make_galaxy("star_forming", "offnuclear_agn", pa_deg=90.0)
    heii = make_maps(galaxy).line_flux[LINE_NAMES.index("HeII-4687")]
    y, x = np.unravel_index(heii.argmax(), heii.shape)
    assert (abs(y - 17) <= 1, -11 < x - 17 < -6) == (True, True)


def test_mass_goes_with_size_metals_rotation_and_dispersion():
    plan = plan_survey(SimulateConfig(num_galaxies=300, repeat_fraction=0, unusual_fraction=0), 2)
    galaxies = [item.galaxy for item in plan]
    late = [g for g in galaxies if g.galaxy_class == "star_forming"]

    def correlation(values, of=late):
        return np.corrcoef([g.log_mass for g in of], values)[0, 1]

    assert correlation([np.log10(g.re_arcsec * g.z) for g in late]) > 0.4
    assert correlation([g.oh for g in late]) > 0.5
    assert correlation([np.log10(g.v_max_kms) for g in late]) > 0.9
    assert correlation([g.ebv for g in late]) > 0.3
    assert correlation([np.log10(g.ha_ew) for g in late]) < -0.2
    assert correlation([np.log10(g.sigma_star_kms) for g in galaxies], galaxies) > 0.8
    # The dispersion of a nucleus' gas is its own, and goes with the bulge's.
    seyferts = [make_galaxy("seyfert", seed=seed) for seed in range(60)]
    sigma = np.log10([g.agn_sigma_kms for g in seyferts])
    assert 0.08 < sigma.std() < 0.25
    assert np.corrcoef(sigma, np.log10([g.sigma_star_kms for g in seyferts]))[0, 1] > 0.2


@pytest.mark.parametrize("num_fibres", [19, 127])
def test_nothing_moves_faster_than_the_disc(num_fibres):
    """Also far out, where next to nothing shines."""
    for name, seed in (("seyfert", 4), ("passive", 5), ("star_forming", 6)):
        galaxy = make_galaxy(name, seed=seed, num_fibres=num_fibres, re_arcsec=2.0)
        maps = make_maps(galaxy)
        for part in (*maps.stars, *maps.gas):
            assert np.abs(part.velocity_kms).max() <= galaxy.v_max_kms
