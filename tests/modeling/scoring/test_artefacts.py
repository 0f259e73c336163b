import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.scoring import artefacts

LINES, SAMPLES, SIZE = 3, 15, 20
VELOCITY = (np.arange(SAMPLES) - SAMPLES // 2) * 69.0
PSF_FWHM = 5.0  # spaxels
FALL = artefacts.point_fall(PSF_FWHM)
SIGMA = 0.05


def spot(y: float, x: float, fwhm: float) -> np.ndarray:
    yy, xx = np.mgrid[:SIZE, :SIZE]
    return np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) * (2.3548 / fwhm) ** 2)


def lines_at(*centres_kms: float) -> np.ndarray:
    """A galaxy [1, L, S, Y, X] whose lines lie at these velocities."""
    profiles = [np.exp(-0.5 * ((VELOCITY - centre) / 100) ** 2) for centre in centres_kms]
    return np.stack(profiles)[None, :, :, None, None] * spot(9.5, 9.5, 8)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, SIGMA, (1, LINES, SAMPLES, SIZE, SIZE)).astype(np.float32)


def all_good() -> np.ndarray:
    return np.ones((1, LINES, SAMPLES, SIZE, SIZE), dtype=bool)


def spikes_of(flux: np.ndarray, good: np.ndarray | None = None) -> np.ndarray:
    """Spikes in flux of which the model says nothing."""
    good = all_good() if good is None else good
    flux = np.where(good, flux, 0)
    return artefacts.spikes(flux / SIGMA, flux, np.full(flux.shape, SIGMA**2), good, FALL)


def test_light_beside_a_point_source_by_hand() -> None:
    assert pytest.approx(spot(9, 10, PSF_FWHM)[9, 9], rel=1e-4) == FALL
    assert pytest.approx(2 ** (-4 / PSF_FWHM**2), rel=1e-4) == FALL  # half at half the width
    assert artefacts.point_fall(0) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), y=st.integers(0, SIZE - 1), x=st.integers(0, SIZE - 1), height=st.floats(1.5, 50))
def test_what_is_narrower_than_the_psf_is_a_spike_and_a_point_source_is_not(
    seed: int, y: int, x: int, height: float
) -> None:
    hit, source = noise(seed), noise(seed)
    hit[0, 1, 7] += height * spot(y, x, 1)
    source[0, 1, 6:9] += height * spot(y, x, PSF_FWHM)
    assert not spikes_of(noise(seed)).any()
    assert not spikes_of(source).any()
    found = spikes_of(hit)
    assert found[0, 1, 7, y, x]
    assert not found[0, [0, 2]].any()
    far = np.hypot(*(np.mgrid[:SIZE, :SIZE] - np.array([y, x])[:, None, None])) > 3
    assert not found[..., far].any()


@pytest.mark.parametrize("held", [-1e6, 1e6])
def test_values_that_are_not_good_make_no_spike_and_hide_none(held: float) -> None:
    good, flux = all_good(), noise()
    flux[0, 1, 7] += 5 * spot(9, 9, 1)
    good[0, 1, 7, 9, 10], good[0, 2, 3, 4, 4] = False, False
    expected = spikes_of(flux, good)
    assert expected[0, 1, 7, 9, 9]
    flux[~good] = held
    np.testing.assert_array_equal(spikes_of(flux, good), expected)


def test_a_peak_without_neighbours_is_not_flagged() -> None:
    good, flux = all_good(), noise()
    flux[0, 1, 7] += 5 * spot(9, 9, 1)
    good[0, 1, 7, 8:11, 8:11] = False
    good[0, 1, 7, 9, 9] = True
    assert not spikes_of(flux, good).any()


@pytest.mark.parametrize("right", [11, SIZE], ids=["hole", "open to the edge"])
@pytest.mark.parametrize("centre", [(9, 9), (9.4, 8.8), (8, 10)])
def test_a_source_in_a_dead_fibre_is_no_spike_and_a_hit_beside_it_is(right: int, centre: tuple[float, float]) -> None:
    good, source = all_good(), noise()
    good[..., 7:12, 8:right] = False
    source[0, 1, 6:9] += 50 * spot(*centre, PSF_FWHM)
    assert not spikes_of(source, good).any()
    hit = noise()
    hit[0, 1, 7] += 5 * spot(9, 7, 1)
    assert spikes_of(hit, good)[0, 1, 7, 9, 7]


def test_a_peak_beside_noisy_neighbours_may_be_a_point_source() -> None:
    flux, variance = np.zeros(all_good().shape), np.full(all_good().shape, SIGMA**2)
    flux[0, 1, 7, 9, 9] = 1
    assert artefacts.spikes(flux / SIGMA, flux, variance, all_good(), FALL)[0, 1, 7, 9, 9]
    variance[0, 1, 7, [8, 10, 9, 9], [9, 9, 8, 10]] = 0.5**2  # the PSF puts 0.64 there: within three sigma of 0
    assert not artefacts.spikes(flux / SIGMA, flux, variance, all_good(), FALL).any()


def test_a_stripe_over_all_spaxels_is_the_sky() -> None:
    residual_sigma = noise() / SIGMA
    residual_sigma[0, 2, 11] += 1.5
    found = artefacts.sky_samples(residual_sigma, all_good(), np.ones((1, SIZE, SIZE)))
    assert np.argwhere(found).tolist() == [[0, 2, 11]]
    found = artefacts.sky_samples(-residual_sigma, all_good(), np.ones((1, SIZE, SIZE)))
    assert np.argwhere(found).tolist() == [[0, 2, 11]]


def test_a_compact_residual_and_one_of_bright_spaxels_are_not_the_sky() -> None:
    bright = spot(9.5, 9.5, 8)
    for image in (40 * spot(4, 4, PSF_FWHM), 10 * bright):
        residual_sigma = noise() / SIGMA
        residual_sigma[0, 2, 11] += image
        assert not artefacts.sky_samples(residual_sigma, all_good(), bright[None]).any()


def test_a_galaxy_without_good_samples_has_no_sky_and_no_edge() -> None:
    residual_sigma, good = np.zeros((1, LINES, SAMPLES, SIZE, SIZE), np.float32), ~all_good()
    assert not artefacts.sky_samples(residual_sigma, good, np.ones((1, SIZE, SIZE))).any()
    assert not artefacts.edge_spaxels(residual_sigma, good).any()


def test_a_map_of_one_sample_has_no_sky() -> None:
    residual_sigma = 20 * np.ones((1, LINES, 1, SIZE, SIZE), np.float32)
    assert not artefacts.sky_samples(residual_sigma, residual_sigma > 0, np.ones((1, SIZE, SIZE))).any()


def disc(radius: float = 8) -> np.ndarray:
    """[Y, X] bool, about the centre: by default a bundle that does not reach the window's sides."""
    return np.asarray(np.hypot(*(np.mgrid[:SIZE, :SIZE] - 9.5)) < radius)


def test_an_excess_in_the_outermost_spaxels_alone_is_the_edge() -> None:
    good = all_good() & disc()
    residual_sigma = np.where(good, noise() / SIGMA, 0)
    assert not artefacts.edge_spaxels(residual_sigma, good).any()
    rim = artefacts.edge_spaxels(np.where(good & ~disc(7), residual_sigma * 6, residual_sigma), good)
    assert rim.any()
    assert not (rim[0] & (disc(6) | ~disc())).any()
    inner = np.where(good & disc(4), residual_sigma * 6, residual_sigma)
    assert not artefacts.edge_spaxels(inner, good).any()


def test_coverage_counts_within_covered_spaxels() -> None:
    good = np.concatenate([all_good() & disc()] * 3)
    good[1, :, :8] = False
    good[2] = False
    assert artefacts.poorly_covered(good).tolist() == [False, True, False]


@settings(max_examples=25, deadline=None)
@given(velocity=st.floats(-150, 150))
def test_displacement_is_measured_to_a_few_kilometres_per_second(velocity: float) -> None:
    flux, good = lines_at(velocity, velocity, velocity), all_good()
    found = artefacts.displacement_kms(flux, np.full(flux.shape, 1e-6), good, VELOCITY)
    assert found[0] == pytest.approx(velocity, abs=3)


def test_lines_that_disagree_or_are_alone_have_no_displacement() -> None:
    flux, good = np.concatenate([lines_at(100, -100, 0), lines_at(100, 100, 0), lines_at(100, 0, 0)]), all_good()
    flux[0, 2], flux[2, 1:] = 0, 0
    found = artefacts.displacement_kms(flux, np.full(flux.shape, 1e-6), np.repeat(good, 3, 0), VELOCITY)
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == pytest.approx(100, abs=3)


def test_lines_with_a_gap_in_their_profile_have_no_displacement() -> None:
    flux, good = lines_at(0, 0, 0), all_good()
    good[0, :2, SAMPLES // 2 + 1] = False  # in two of three, which alone would agree on another velocity
    flux[~good] = 0
    assert np.isnan(artefacts.displacement_kms(flux, np.full(flux.shape, 1e-6), good, VELOCITY)[0])
    flux, good = lines_at(0, 0, 0), all_good()
    good[0, 0, SAMPLES // 2 + 1] = False
    flux[~good] = 0
    assert artefacts.displacement_kms(flux, np.full(flux.shape, 1e-6), good, VELOCITY)[0] == pytest.approx(0, abs=3)


def test_faint_lines_have_no_displacement() -> None:
    flux = noise()
    assert np.isnan(artefacts.displacement_kms(flux, np.full(flux.shape, SIGMA**2), all_good(), VELOCITY)[0])


def test_line_offsets_are_robust() -> None:
    velocity = np.random.default_rng(0).normal(7, 12, 500)
    velocity[:25], velocity[25:30] = 900, np.nan
    line_offsets = artefacts.LineOffsets.of(velocity)
    assert line_offsets.velocity_kms == pytest.approx(7, abs=2)
    assert line_offsets.velocity_spread_kms == pytest.approx(12, rel=0.15)


def test_who_is_displaced() -> None:
    line_offsets = artefacts.LineOffsets(10.0, 8.0)
    velocity = np.array([10.0, 49.0, 51.0, -31.0, np.nan, 400.0])
    assert artefacts.displaced(velocity, line_offsets, 0.0).tolist() == [False, False, True, True, False, True]
    assert artefacts.displaced(velocity, line_offsets, 100.0).tolist() == [False] * 5 + [True]
    assert not artefacts.displaced(velocity, artefacts.LineOffsets.of(np.array([np.nan])), 0.0).any()
