import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeprep.augment import AugmentConfig, augment, broadened, shifted, view_rng
from cubeprep.masks import WINDOW_MASK_BITS as BITS

QUIET = AugmentConfig(noise=0)


def windows(seed: int = 0, size: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    flux = rng.normal(size=(2, 3, size, size)).astype(np.float32)
    mask = (rng.random(flux.shape) < 0.1).astype(np.uint8)
    return np.where(mask > 0, np.nan, flux).astype(np.float32), np.where(mask > 0, 0, 4.0).astype(np.float32), mask


def test_a_view_depends_on_seed_galaxy_and_number_alone() -> None:
    config = AugmentConfig()
    first, second = (augment(*windows(), config, view_rng(7, "8135-1902", 2)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    for other in (view_rng(8, "8135-1902", 2), view_rng(7, "8135-1901", 2), view_rng(7, "8135-1902", 3)):
        assert not np.array_equal(augment(*windows(), config, other)[0], first[0], equal_nan=True)


def test_views_reach_every_flip_and_turn() -> None:
    config = AugmentConfig(noise=0, max_shift=0)
    flux, ivar, mask = windows()
    seen = {augment(flux, ivar, mask, config, view_rng(0, "g", view))[0].tobytes() for view in range(100)}
    assert len(seen) == 8


@settings(max_examples=30, deadline=None)
@given(view=st.integers(1, 1000), max_shift=st.integers(0, 7))
def test_good_samples_only_move(view: int, max_shift: int) -> None:
    config = QUIET.model_copy(update={"max_shift": max_shift})
    flux, ivar, mask = windows()
    new_flux, new_ivar, new_mask = augment(flux, ivar, mask, config, view_rng(1, "g", view))
    assert np.array_equal(np.isnan(new_flux), new_mask > 0)
    assert np.array_equal(new_ivar == 0, new_mask > 0)
    assert set(new_flux[new_mask == 0]) <= set(flux[mask == 0])
    if max_shift == 0:
        assert (new_mask > 0).sum() == (mask > 0).sum()


def test_noise_has_the_width_asked_for_and_lowers_ivar() -> None:
    flux, ivar, mask = windows(size=64)
    config = AugmentConfig(noise=0.5, max_shift=0, flip=False, rotate=False)
    new_flux, new_ivar, _ = augment(flux, ivar, mask, config, view_rng(0, "g", 1))
    added = (new_flux - flux)[mask == 0]
    assert added.std() == pytest.approx(0.5 * 0.5, rel=0.02)
    np.testing.assert_allclose(new_ivar[mask == 0], 4 / 1.25, rtol=1e-6)
    assert (new_ivar[mask > 0] == 0).all()


def test_shift_fills_from_outside() -> None:
    values = np.arange(16).reshape(4, 4)
    assert shifted(values, 1, -2, 99).tolist() == [[99] * 4, [2, 3, 99, 99], [6, 7, 99, 99], [10, 11, 99, 99]]
    assert (shifted(values, 4, 0, BITS["OUTSIDE"]) == BITS["OUTSIDE"]).all()


STILL = {"noise": 0, "max_shift": 0, "flip": False, "rotate": False}


def test_dimming_takes_flux_and_leaves_the_noise() -> None:
    rng = np.random.default_rng(0)
    signal, sigma = 5.0, 0.5
    flux = (signal + rng.normal(0, sigma, (2, 3, 64, 64))).astype(np.float32)
    ivar = np.full_like(flux, 1 / sigma**2)
    mask = np.zeros(flux.shape, dtype=np.uint8)
    config = AugmentConfig(max_dimming=0.8, **STILL)
    new_flux, new_ivar, _ = augment(flux, ivar, mask, config, view_rng(0, "g", 3))
    assert 0.2 * signal <= new_flux.mean() < 0.99 * signal
    assert new_flux.std() == pytest.approx(sigma, rel=0.02)
    np.testing.assert_allclose(new_ivar, ivar, rtol=1e-5)


def test_psf_broadening_conserves_flux_and_knows_its_noise() -> None:
    flux = np.zeros((1, 1, 33, 33), dtype=np.float32)
    flux[..., 16, 16] = 100
    ivar, good = np.full_like(flux, 4.0), np.ones(flux.shape, dtype=bool)
    new_flux, _ = broadened(flux, ivar, good, 2.0)
    assert new_flux.sum() == pytest.approx(100, rel=1e-3)
    x = np.arange(33) - 16
    assert (new_flux[0, 0].sum(axis=0) * x**2).sum() / 100 == pytest.approx(4.0, rel=0.01)
    noise = np.random.default_rng(0).normal(0, 0.5, (400, 1, 33, 33))
    smooth, ivar = broadened(noise, np.full(noise.shape, 4.0), np.ones(noise.shape, dtype=bool), 1.5)
    assert (smooth[..., 16, 16].var() * ivar[0, 0, 16, 16]) == pytest.approx(1, abs=0.2)


def test_psf_broadening_leaks_nothing_from_masked_samples() -> None:
    flux, ivar, mask = windows(size=16)
    config = AugmentConfig(max_psf_sigma=2.0, **STILL)
    want = augment(flux, ivar, mask, config, view_rng(0, "g", 1))
    got = augment(np.where(mask > 0, 1e30, flux).astype(np.float32), ivar, mask, config, view_rng(0, "g", 1))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.array_equal(np.isnan(got[0]), mask > 0)
    assert np.nanstd(got[0]) < np.nanstd(flux)
