import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeprep.cube import Rejected
from cubeprep.extract import to_grid
from cubeprep.geometry import Placement, outside, place
from cubeprep.masks import WINDOW_MASK_BITS as BITS
from cubeprep.space import Regrid, regrid
from cubeprep.windows import LineWindows, WindowConfig


def windows(length: int, seed: int = 0) -> LineWindows:
    rng = np.random.default_rng(seed)
    flux = rng.uniform(0.5, 2, (2, 3, length, length)).astype(np.float32)
    return LineWindows(flux, np.full_like(flux, 4.0), np.zeros(flux.shape, dtype=np.uint8))


@given(length=st.integers(1, 80), size=st.integers(1, 80))
def test_cropping_and_padding_keep_the_centre(length: int, size: int) -> None:
    placement = Placement.centred(length, size)
    source, target = (np.arange(n)[part] for n, part in ((length, placement.source), (size, placement.target)))
    assert len(source) == len(target) == min(length, size)
    assert abs((source.mean() - (length - 1) / 2) - (target.mean() - (size - 1) / 2)) <= 0.5
    image = np.arange(length * length).reshape(length, length)
    assert np.array_equal(place(place(image, max(length, size)), length), image)
    assert outside((length, length), size).sum() == size**2 - min(length, size) ** 2


@settings(deadline=None, max_examples=50)
@given(length=st.integers(3, 60), size=st.integers(8, 40), margin=st.floats(1.0, 3.0))
def test_a_grid_that_holds_the_whole_image_conserves_flux_and_variance_bounds(
    length: int, size: int, margin: float
) -> None:
    grid = Regrid.centred(length, size, length / size * margin)
    image = np.random.default_rng(length).uniform(0.1, 1, (length, length))
    assert grid.apply(image).sum() == pytest.approx(image.sum(), rel=1e-9)
    assert (grid.squared().apply(image) <= grid.apply(image) + 1e-12).all()


def test_bins_are_sums_of_whole_spaxels_and_of_their_variances() -> None:
    source = windows(16)
    got = regrid(source, Regrid.centred(16, 8, 2, whole=True))
    blocks = source.flux.reshape(2, 3, 8, 2, 8, 2).sum(axis=(3, 5))
    np.testing.assert_allclose(got.flux, blocks, rtol=1e-6)
    np.testing.assert_allclose(got.ivar, 1 / (4 * 0.25), rtol=1e-6)
    odd = regrid(windows(15), Regrid.centred(15, 8, 2, whole=True))
    assert np.isfinite(odd.flux[..., 1:7, 1:7]).all(), "bins of an odd image hold whole spaxels too"


def test_masked_parts_are_made_up_for_or_mask_the_whole() -> None:
    source = windows(16)
    source.mask[..., 4, 4] = BITS["SURVEY"]  # a quarter of a bin
    source.flux[..., 4, 4] = 1e30
    source.mask[..., 8:10, 8] = BITS["SURVEY"]  # a half
    source.mask[..., 10:12, 12:14] = BITS["NONFINITE"]  # all
    source.mask[..., 10, 11] = 0
    got = regrid(source, Regrid.centred(16, 8, 2, whole=True))
    quarter = source.flux[..., [4, 5, 5], [5, 4, 5]].sum(axis=-1) * 4 / 3
    np.testing.assert_allclose(got.flux[..., 2, 2], quarter, rtol=1e-5)
    np.testing.assert_allclose(got.ivar[..., 2, 2], 0.75**2 / 0.75, rtol=1e-5)
    assert (got.mask[..., 4, 4] == 0).all()
    assert (got.mask[..., 5, 6] == BITS["NONFINITE"]).all()
    assert np.isnan(got.flux[..., 5, 6]).all()


def test_beyond_the_edge_is_outside() -> None:
    got = regrid(windows(8), Regrid.centred(8, 8, 2.0))
    assert (got.mask[..., 0, 0] == BITS["OUTSIDE"]).all()
    assert (got.mask[..., 4, 4] == 0).all()


def test_scale_to_re_shows_galaxies_at_the_same_relative_size() -> None:
    """Two discs, one twice the other in arcsec and in Re, look the same."""
    config = WindowConfig(size=16, space="scale-to-re", extent_re=4)
    images = []
    for re_spaxels in (8, 16):
        length = 4 * re_spaxels + 8
        y, x = np.mgrid[:length, :length] - (length - 1) / 2
        flux = np.exp(-np.hypot(x, y) / re_spaxels)[None, None].astype(np.float32)
        source = LineWindows(flux, np.ones_like(flux), np.zeros(flux.shape, dtype=np.uint8))
        images.append(to_grid(source, 0.5, re_spaxels * 0.5, config, "cube").flux[0, 0])
    np.testing.assert_allclose(images[1] / images[0], 4, rtol=0.03)


def test_scale_to_re_needs_a_radius() -> None:
    with pytest.raises(Rejected, match=r"no_size: cube: effective radius nan"):
        to_grid(windows(16), 0.5, float("nan"), WindowConfig(space="scale-to-re"), "cube")


def test_the_variance_of_shares_is_that_of_many_noisy_images() -> None:
    """A spaxel that is cut in three gives each part its share of flux, and the square of the share of variance."""
    rng = np.random.default_rng(3)
    grid = Regrid.centred(12, 8, 1.3)
    noise = rng.normal(0, 2.0, (4000, 12, 12)).astype(np.float32)
    source = LineWindows(
        noise[None], np.full((1, *noise.shape), 0.25, np.float32), np.zeros((1, *noise.shape), np.uint8)
    )
    got = regrid(source, grid)
    assert (got.mask == 0).all()
    measured = got.flux[0].var(axis=0)
    np.testing.assert_allclose(measured * got.ivar[0, 0], 1, atol=0.12)
    assert (measured * got.ivar[0, 0]).mean() == pytest.approx(1, abs=0.02)


@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 40))
def test_images_that_are_no_squares_keep_their_axes(height: int, width: int, size: int) -> None:
    image = np.arange(height * width).reshape(height, width) + 1
    got, beyond = place(image, size), outside((height, width), size)
    assert ((got > 0) == ~beyond).all()
    y, x = (Placement.centred(length, size) for length in (height, width))
    np.testing.assert_array_equal(got[y.target, x.target], image[y.source, x.source])
    assert (~beyond).any(axis=1).sum() == min(height, size)
    assert (~beyond).any(axis=0).sum() == min(width, size)
