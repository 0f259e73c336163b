"""Noise, covariance, masks and quality of simulated cubes."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeprep.masks import DRP3PIXMASK, bits_value
from cubeprep.simulate.cube import Cube
from cubeprep.simulate.defects import BADFLUX, CRITICAL, MANYDEAD, Defects, draw_defects
from cubeprep.simulate.footprint import CUBE_SIZE, LOW_COVERAGE, sampling
from cubeprep.simulate.instrument import NUM_WAVES, WAVE, sky_line_excess
from tests.cubeprep.simulated import make_cube, make_galaxy

# Fully covered spaxels of the real bundles, shared/data/manga/hexagon_masks.fits.
REAL_HEXAGON_COUNTS = {19: 475, 37: 891, 61: 1438, 91: 2100, 127: 2897}


@pytest.fixture(scope="module")
def pair() -> tuple[Cube, Cube]:
    galaxy = make_galaxy("composite")
    return make_cube(galaxy, 11), make_cube(galaxy, 12)


def normalised_difference(one: Cube, other: Cube) -> tuple[np.ndarray, np.ndarray]:
    """Differences of two observations in units of their noise, and where both are usable; [spaxel, wavelength]."""
    usable = (one.mask | other.mask) == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        return (one.flux - other.flux) / np.sqrt(1 / one.ivar + 1 / other.ivar), usable


def bits(*names: str) -> int:
    return bits_value(names, DRP3PIXMASK)


def test_ivar_knows_the_noise(pair):
    chi, usable = normalised_difference(*pair)
    assert abs(chi[usable].mean()) < 0.01
    # In every part of the spectrum, and for the brightest and the faintest spaxels.
    for waves in np.array_split(np.arange(NUM_WAVES), 8):
        assert chi[:, waves][usable[:, waves]].std() == pytest.approx(1, abs=0.03)
    order = np.argsort(pair[0].flux.mean(axis=1))
    for spaxels in np.array_split(order[usable[order].any(axis=1)], 4):
        assert chi[spaxels][usable[spaxels]].std() == pytest.approx(1, abs=0.04)


def test_noise_of_neighbours_is_correlated_as_in_manga(pair):
    """Westfall+2019 (doi:10.3847/1538-3881/ab44a2): rho = exp(-(d / 1.92 spaxels)^2 / 2)."""
    chi, usable = normalised_difference(*pair)
    covered = pair[0].covered
    image = np.full((*covered.shape, NUM_WAVES), np.nan)
    image[covered] = np.where(usable, chi, np.nan)
    for distance in range(1, 7):
        for a, b in ((image[distance:], image[:-distance]), (image[:, distance:], image[:, :-distance])):
            rho = np.nanmean(a * b)
            assert rho == pytest.approx(np.exp(-0.5 * (distance / 1.92) ** 2), abs=0.04), distance


def test_depth_divides_the_noise():
    shallow, deep = (make_cube(make_galaxy(), 3, depth) for depth in (1.0, 4.0))
    seen = shallow.ivar > 0
    np.testing.assert_allclose(deep.ivar[seen] / shallow.ivar[seen], 16, rtol=2e-3)


def test_dropped_bits_are_far_below_the_noise():
    all_bits, few = (make_cube(make_galaxy("seyfert"), 4, bits=bits) for bits in (23, 10))
    np.testing.assert_allclose(few.ivar, all_bits.ivar, rtol=6e-4)
    assert (np.abs(few.flux - all_bits.flux) * np.sqrt(all_bits.ivar)).mean() < 0.01


def test_sky_lines_are_noisy(pair):
    sigma = 1 / np.sqrt(np.maximum(np.median(pair[0].ivar, axis=0), 1e-9))
    green = np.abs(WAVE - 5579) < 1.5
    beside = (np.abs(WAVE - 5579) > 15) & (np.abs(WAVE - 5579) < 60)
    assert sigma[green].max() > 4 * np.median(sigma[beside])


@pytest.mark.parametrize("num_fibres", sorted(CUBE_SIZE))
def test_hexagons_are_as_large_as_the_real_ones(num_fibres):
    depth = sampling(num_fibres).depth
    full = (depth >= LOW_COVERAGE).sum()
    assert full == pytest.approx(REAL_HEXAGON_COUNTS[num_fibres], rel=0.02)
    assert 0.53 < (depth > 0).mean() < 0.65


@pytest.mark.realdata
@pytest.mark.parametrize("num_fibres", sorted(CUBE_SIZE))
def test_hexagons_have_the_shape_of_the_real_ones(num_fibres, real_data: Path):
    real = fits.getdata(real_data / "manga" / "hexagon_masks.fits")[sorted(CUBE_SIZE).index(num_fibres)] > 0
    ours = sampling(num_fibres).depth >= LOW_COVERAGE
    centre = np.argwhere(real).mean(axis=0).round().astype(int)
    half = CUBE_SIZE[num_fibres] // 2
    padded = np.pad(real, 10)
    start = centre + 10 - half
    real = padded[start[0] : start[0] + 2 * half, start[1] : start[1] + 2 * half]
    assert (real & ours).sum() / (real | ours).sum() > 0.93


# Masks and quality.


def test_weights_are_means():
    seen = sampling(19)
    np.testing.assert_allclose(seen.weights.sum(axis=1), 1, rtol=1e-5)
    assert seen.gridded(np.ones(len(seen.fibre)))[seen.covered] == pytest.approx(1)


def test_masks_differ_with_wavelength(pair):
    mask = pair[0].mask
    # The red end is missing everywhere, the rim in part of the spectrum.
    assert (mask[:, -6:] == bits("NOCOV", "LOWCOV", "DONOTUSE")).all()
    rim = (mask[:, :-6] & 1 > 0).mean(axis=1)
    assert ((rim > 0.1) & (rim < 0.9)).sum() > 10
    share = (mask[:, :-6] != 0).mean(axis=1)
    inside = share < 0.01
    assert inside.sum() > 400
    # Some pixels of well-covered spaxels are lost too, few as in the real spectra (2e-4), and less ivar where some
    # exposures of a spaxel are.
    steps = np.diff(np.log(pair[0].ivar[inside, 1000:1500]), axis=1)
    assert (np.abs(steps) > 0.2).any()
    assert 0 <= (mask[inside][:, :-6] != 0).mean() < 1e-3


def test_foreground_stars_are_masked_at_all_wavelengths():
    defects = Defects(star_arcsec=(2.0, 3.0), star_brightness=2.0)
    with_star, without = (make_cube(make_galaxy(), 5, defects=d) for d in (defects, None))
    flagged = with_star.mask & bits("FORESTAR") == bits("FORESTAR")
    assert (flagged.all(axis=1) == flagged.any(axis=1)).all()
    y, x = np.argwhere(with_star.covered)[flagged[:, 0]].mean(axis=0)
    assert (x - 17, y - 17) == pytest.approx((4.0, 6.0), abs=0.5)
    assert (with_star.mask[flagged] & bits("DONOTUSE")).all()
    brighter = with_star.flux.mean(axis=1) - without.flux.mean(axis=1)
    assert brighter[flagged[:, 0]].max() > 0.8
    assert np.abs(np.median(brighter[~flagged[:, 0]])) < 0.01


def test_dead_fibres_leave_holes_of_the_size_of_a_fibre():
    whole, broken = (make_cube(make_galaxy(), 6, defects=Defects(dead_fibres=dead)) for dead in ((), (9,)))
    flagged = (broken.mask & bits("DEADFIBER") == bits("DEADFIBER")).any(axis=1)
    assert 10 < flagged.sum() < 60
    assert np.median(broken.ivar[flagged, 2000]) < 0.7 * np.median(whole.ivar[flagged, 2000])


def test_bad_observations_have_what_drp3qual_says():
    galaxy = make_galaxy("liner")
    good = make_cube(galaxy, 7)
    for critical in (draw_defects(19, critical=True, rng=np.random.default_rng(seed)) for seed in range(8)):
        assert critical.flags(CRITICAL)
        assert critical.flags(MANYDEAD) == (len(critical.dead_fibres) >= 3)
        assert critical.flags(BADFLUX) == (critical.blue_loss > 0)
    dim = make_cube(galaxy, 7, defects=Defects(blue_loss=0.4))
    bright = good.flux[:, 1000] > 0.05
    ratio = [np.median(dim.flux[bright, k : k + 50] / good.flux[bright, k : k + 50]) for k in (200, 3000)]
    assert ratio[0] < 0.75 < 0.95 < ratio[1]
    sky = make_cube(galaxy, 7, defects=Defects(sky_residual=1.5)).flux - good.flux
    lines = sky_line_excess() > 1
    lines[-6:] = False
    assert sky[:, lines].mean() > 5 * abs(sky[:, ~lines].mean())


def test_most_observations_are_good():
    drawn = [draw_defects(37, critical=False, rng=np.random.default_rng(seed)) for seed in range(400)]
    assert 0.01 < np.mean([d.quality > 0 for d in drawn]) < 0.08
    assert 0.04 < np.mean([d.star_arcsec is not None for d in drawn]) < 0.12
    assert 0.04 < np.mean([bool(d.dead_fibres) for d in drawn]) < 0.12
