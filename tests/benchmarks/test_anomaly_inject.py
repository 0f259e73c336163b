"""Injections: their strength, their truth, and that they go through the extraction of real files."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.anomaly.all_families import load_families
from benchmarks.anomaly.families import Changed, Moved
from benchmarks.anomaly.inject import MASK_SHARE, inject, sample_snr2, truth_mask
from benchmarks.anomaly.real import real_sources
from benchmarks.anomaly.scene import CubeArm, Host, Injected, binned
from benchmarks.anomaly.simulated import make_source, plan
from cubeprep.prepare_config import GalaxyConfig
from cubeprep.shard import read_windows
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.cube import observe
from cubeprep.simulate.drp import write_logcube
from cubeprep.simulate.drpall import write_drpall
from cubeprep.simulate.maps import galaxy_maps
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.windows import WindowConfig

CONFIG = SimulateConfig(num_galaxies=2, bundle_shares={19: 1}, class_shares={"star_forming": 1}, repeat_fraction=0)
WINDOWS = WindowConfig(size=16, sampling="conserve", continuum="sidebands")
SEED = 3
FAMILIES = load_families()
ADDING = [name for name, family in FAMILIES.items() if family.kind != "N" and name != "wrong_redshift"]
CAPPED = ("dead_fibre", "half_spaxel_shift")


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(make_source(plan(CONFIG, SEED)[0], CONFIG, SEED, 16, 2), WINDOWS)


def test_the_nucleus_of_a_binned_galaxy_is_at_the_middle_of_the_offsets(host: Host) -> None:
    """Simulated galaxies and MaNGA's cubes have it at spaxel n // 2, a corner of a block of four."""
    y, x = np.mgrid[:32, :32] - 16
    image = np.exp(-0.5 * (y**2 + x**2) / 3**2).astype(np.float32)[None]
    fine = CubeArm(np.array([6000.0]), image, np.ones_like(image), np.zeros(image.shape, bool), 0.5)
    coarse = binned(fine, 16, 2).flux[0]
    assert [(coarse * offset).sum() / coarse.sum() for offset in host.offsets] == pytest.approx([0, 0], abs=1e-3)
    assert host.offsets[0][7, 0] == -0.75


def drawn(host: Host, name: str, level: int = 2):
    return FAMILIES[name].draw(host, level, np.random.default_rng(7))


def test_every_family_of_the_protocol_is_there():
    kinds = {kind: [f.name for f in FAMILIES.values() if f.kind == kind] for kind in "ACN"}
    assert [len(names) for names in kinds.values()] == [6, 5, 5]
    assert all(family.draw.__doc__ and family.__doc__ for family in FAMILIES.values())


@pytest.mark.slow
def test_memory_gives_the_windows_of_the_file(tmp_path):
    item = plan(CONFIG, SEED)[0]
    maps = galaxy_maps(item.galaxy, item.target.psf_fwhm_arcsec, np.random.default_rng([SEED, 1, item.source]))
    cube = observe(item.galaxy, maps, 1.0, CONFIG.mantissa_bits, np.random.default_rng([SEED, 2, item.index]))
    write_logcube(tmp_path / item.target.cube_path, item.target, item.galaxy, cube)
    write_drpall(tmp_path / "drpall.fits", [item.target], [item.galaxy])
    survey = SurveyConfig(root=str(tmp_path))
    reader = make_reader(survey)
    config = WINDOWS.model_copy(update={"size": 32})
    target = select_targets(survey, reader)[0]
    file = read_windows(reader, target, target.z, GalaxyConfig(windows=config))[0].windows
    memory = Host(make_source(item, CONFIG, SEED, 32), config).clean
    np.testing.assert_array_equal(memory.mask, file.mask)
    np.testing.assert_allclose(memory.flux, file.flux, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(memory.ivar, file.ivar, rtol=1e-4)


def test_the_scene_is_the_cube_without_its_noise(host):
    good = host.clean.mask == 0
    chi2 = ((host.clean.flux - host.scene.flux) ** 2 * host.clean.ivar)[good].mean()
    assert chi2 == pytest.approx(1, abs=0.05)


def test_binning_a_file_and_binning_spectra_agree():
    item = plan(CONFIG, SEED)[0]
    fine, coarse = (make_source(item, CONFIG, SEED, size, factor).arms[0] for size, factor in ((32, 1), (16, 2)))
    again = binned(fine, 16, 2)
    np.testing.assert_array_equal(again.bad, coarse.bad)
    good = ~coarse.bad
    np.testing.assert_allclose(again.flux[good], coarse.flux[good], rtol=1e-3, atol=1e-5)
    covariance = again.ivar[good] / coarse.ivar[good]  # which a file does not tell
    assert 1 < covariance.min() < covariance.max() < 4


@pytest.mark.parametrize("name", ADDING)
def test_light_has_the_signal_to_noise_that_was_asked_for(host, name):
    found = inject(host, drawn(host, name), 100)
    good = host.clean.mask == 0
    assert np.sqrt((found.delta[good] ** 2 * host.clean.ivar[good]).sum(dtype=float)) == pytest.approx(
        found.snr, rel=1e-4
    )
    if name in CAPPED and not found.reached:
        assert found.snr < 100
    else:
        assert found.snr == pytest.approx(100, rel=1e-3)
    # The filter that knows everything finds it at that signal-to-noise; the twin holds nothing but noise.
    assert found.oracle - found.oracle_clean == pytest.approx(found.snr, rel=1e-3)
    assert abs(found.oracle_clean) < 8  # sidebands correlate the noise of a window's samples


@pytest.mark.parametrize("name", ["broad_halpha", "dead_fibre", "half_spaxel_shift"])
def test_the_windows_are_those_of_the_changed_cube(host, name):
    light = drawn(host, name)
    found = inject(host, light, 50)
    strength = found.snr / np.sqrt(sample_snr2(host.cut_light(light.light), host.clean).sum())
    arm, scene = host.source.arms[0], host.source.scene[0]
    changed = replace(arm, flux=arm.flux + strength * light.light(arm.wave, scene.flux))
    np.testing.assert_allclose(host.windows((changed,)).flux, found.windows.flux, rtol=1e-3, atol=2e-4)


@pytest.fixture(scope="module")
def starless(host) -> Host:
    """The same galaxy in windows without its stars."""
    return replace(host, config=WINDOWS.model_copy(update={"continuum": "stars"}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["broad_halpha", "blueberry", "dead_fibre"])
def test_light_is_added_before_the_stars_are_fitted(starless, name):
    light = drawn(starless, name)
    found = inject(starless, light, 300)
    assert found.snr == pytest.approx(300, rel=0.2) or name in CAPPED
    assert found.oracle - found.oracle_clean == pytest.approx(found.snr, rel=0.05)
    arm, scene = starless.source.arms[0], starless.source.scene[0]
    spectrum = light.light(arm.wave, scene.flux)
    # Of the light alone the windows take the strength; the changed cube is then cut like any other.
    change = (found.windows.flux - starless.clean.flux)[(found.windows.mask == 0) & (starless.clean.mask == 0)]
    alone = starless.cut_light(light.light)[(found.windows.mask == 0) & (starless.clean.mask == 0)]
    strength = float(change @ alone / (alone @ alone))
    changed = starless.windows((replace(arm, flux=arm.flux + np.where(arm.bad, 0, strength * spectrum)),))
    both = (changed.mask == 0) & (found.windows.mask == 0)
    again = (changed.flux - found.windows.flux)[both]
    assert np.sqrt((again**2 * found.windows.ivar[both]).sum()) < 0.2 * found.snr


def test_the_truth_mask_holds_its_share_and_no_masked_sample(host):
    found = inject(host, drawn(host, "offnuclear_agn"), 100)
    mask = truth_mask(found.snr2)
    assert found.snr2[mask].sum() == pytest.approx(MASK_SHARE * found.snr2.sum(), rel=0.01)
    assert not (mask & (host.clean.mask != 0)).any()
    oiii = host.config.line_names.index("OIII-5008")
    assert found.snr2.sum(axis=(1, 2, 3)).argmax() == oiii


def test_a_wrong_redshift_is_an_extraction_at_that_redshift(host):
    moved = drawn(host, "wrong_redshift")
    assert isinstance(moved, Moved)
    found = inject(host, Moved([moved.redshifts[-1]]), 100)
    expected = host.windows(host.source.arms, moved.redshifts[-1])
    np.testing.assert_array_equal(found.windows.flux, expected.flux)
    weak, strong = (inject(host, moved, snr).snr for snr in (1, 1e6))
    assert weak < strong


def test_brighter_is_brighter_at_the_same_signal_to_noise(host):
    found = inject(host, drawn(host, "flux_scale", 0), np.nan).windows
    good = host.clean.mask == 0
    np.testing.assert_allclose(found.flux[good], 0.3 * host.clean.flux[good], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.ivar[good], host.clean.ivar[good] / 0.09, rtol=1e-3)


@pytest.mark.parametrize(("name", "noise"), [("known_noise", 5.0), ("dimming", 1.0)])
def test_noise_that_was_added_is_known(host, name, noise):
    found = inject(host, drawn(host, name, 4), np.nan).windows
    good = host.clean.mask == 0
    left = 0.3 if name == "dimming" else 1.0
    residual = (found.flux - left * host.scene.flux)[good]
    assert (residual**2 * found.ivar[good]).mean() == pytest.approx(1, abs=0.05)
    assert np.median(host.clean.ivar[good] / found.ivar[good]) == pytest.approx(noise, rel=0.02)


def test_turning_turns_the_windows(host):
    found = inject(host, drawn(host, "rotation_flip"), np.nan).windows
    clean = host.clean
    turns = [np.rot90(flipped, n, axes=(-2, -1)) for flipped in (clean.flux, clean.flux[..., ::-1]) for n in range(4)]
    same = [np.allclose(found.flux, turned, equal_nan=True, rtol=1e-4, atol=1e-6) for turned in turns]
    assert sum(same[1:]) == 1
    assert not same[0]


def test_a_smaller_bundle_has_the_same_spectra_where_it_has_any(host):
    found = inject(host, drawn(host, "bundle_size", 4), np.nan).windows
    good, before = found.mask == 0, host.clean.mask == 0
    assert 0.1 < good.sum() / before.sum() < 0.6
    np.testing.assert_array_equal(found.flux[good], host.clean.flux[good])


def test_nothing_is_called_reached_that_was_not():
    source = make_source(plan(CONFIG, SEED)[1], CONFIG, SEED, 16, 2)
    host = Host(source, WINDOWS)
    found = inject(host, drawn(host, "half_spaxel_shift"), 1e5)
    assert not found.reached
    assert found.snr < 1e4
    assert isinstance(drawn(host, "dimming"), Changed)


def test_any_readers_arm_can_be_changed(host):
    arm = Injected(host.source.arms[0], lambda wave, planes: planes)
    index = np.array([10, 2000])
    np.testing.assert_array_equal(arm.read(index, 16).flux, host.source.arms[0].read(index, 16).flux)
    np.testing.assert_array_equal(arm.wave, host.source.arms[0].wave)


@pytest.mark.slow
@pytest.mark.realdata
def test_real_cubes_take_injections(real_data, tmp_path):
    sources = real_sources(real_data, tmp_path, 16, 2)
    host = Host(next(iter(sources)), WINDOWS.model_copy(update={"min_lines": 1}))
    found = inject(host, drawn(host, "blueberry"), 200)
    assert found.snr == pytest.approx(200, rel=1e-3)
    good = host.clean.mask == 0
    np.testing.assert_array_equal(found.windows.mask, host.clean.mask)
    np.testing.assert_allclose((found.windows.flux - host.clean.flux)[good], found.delta[good], atol=1e-3)
