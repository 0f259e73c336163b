"""Regions: a latent of what lies in a rectangle, wherever that is, and of nothing else."""

from typing import Any

import numpy as np
import pytest
import torch

from modeling.latents.regions import Region, region_latents, tiles, usable_regions
from modeling.network.autoencoder import make_model

SHAPE = (3, 4, 16)


@pytest.fixture(scope="module")
def model() -> object:
    num_lines, num_samples, size = SHAPE
    small = {"latent_dim": 6, "step_channels": 2, "lstm_channels": 2, "decoder_channels": 2}
    return make_model({"num_lines": num_lines, "num_samples": num_samples, "size": size, **small}, seed=0)


def windows(num_galaxies: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    num_lines, num_samples, size = SHAPE
    flux = np.random.default_rng(0).normal(5, 1, (num_galaxies, num_lines, num_samples, size, size)).astype("f4")
    return flux, np.ones_like(flux), np.zeros(flux.shape, np.uint8)


def test_the_same_light_elsewhere_has_the_same_latent(model: object) -> None:
    flux, ivar, mask = windows()
    flux[..., 9:13, 8:14] = flux[..., 1:5, 2:8]
    here, there, other = Region(2, 8, 1, 5), Region(8, 14, 9, 13), Region(0, 6, 10, 14)
    latent = region_latents(model, flux, ivar, mask, [(0, here), (0, there), (0, other)])
    np.testing.assert_allclose(latent[0], latent[1], rtol=1e-5)
    assert np.abs(latent[0] - latent[2]).max() > 1e-3


def test_nothing_outside_the_region_and_nothing_masked_counts(model: object) -> None:
    flux, ivar, mask = windows()
    region = Region(2, 8, 1, 5)
    mask[0, 0, :, 2, 3] = 1
    before = region_latents(model, flux, ivar, mask, [(0, region)])
    changed = np.full_like(flux, np.nan)
    changed[..., 1:5, 2:8] = flux[..., 1:5, 2:8]
    changed[0, 0, :, 2, 3] = 1e9
    np.testing.assert_array_equal(region_latents(model, changed, ivar, mask, [(0, region)]), before)


def test_a_region_does_not_depend_on_brightness_or_batch(model: object) -> None:
    flux, ivar, mask = windows(2)
    flux[1] = 8 * flux[0]  # a power of two, which rounds nothing
    wanted = [(galaxy, region) for galaxy in (0, 1) for region in tiles(16, (5, 4))]
    latent = region_latents(model, flux, ivar, mask, wanted, batch_size=7)
    np.testing.assert_allclose(latent[: len(wanted) // 2], latent[len(wanted) // 2 :], rtol=1e-4)
    assert region_latents(model, flux, ivar, mask, []).shape == (0, 6)


def test_regions_with_few_good_samples_are_left_out() -> None:
    flux, ivar, mask = windows(2)
    mask[0, ..., :8, :] = 1
    ivar[1, ..., 8:, 8:] = 0
    found = list(usable_regions(flux, ivar, mask, tiles(16, (8, 8))))
    assert [(galaxy, str(region)) for galaxy, region in found] == [
        (0, "0:8,8:16"),
        (0, "8:16,8:16"),
        (1, "0:8,0:8"),
        (1, "8:16,0:8"),
        (1, "0:8,8:16"),
    ]


@pytest.mark.parametrize(("shape", "num"), [((8, 8), 4), ((5, 4), 12), ((16, 16), 1), ((1, 16), 16), ((9, 3), 5)])
def test_tiles_do_not_overlap_and_lie_in_the_middle(shape: tuple[int, int], num: int) -> None:
    covered = np.zeros((16, 16), int)
    regions = tiles(16, shape)
    for region in regions:
        assert region.shape == shape
        covered[region.y0 : region.y1, region.x0 : region.x1] += 1
    assert len(regions) == num
    assert covered.max() == 1
    ys, xs = np.nonzero(covered)
    for found in (ys, xs):
        assert abs(found.min() - (15 - found.max())) <= 1


@pytest.mark.parametrize("text", ["", "1:2", "1:2,3:4,5:6", "4:4,0:2", "0:17,0:2", "0:2,3:1", "-1:2,0:2", "a:b,c:d"])
def test_what_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected x0:x1,y0:y1 with 0 <= x0 < x1 <= 16"):
        Region.parse(text, 16)


def test_a_region_reads_what_it_writes() -> None:
    assert Region.parse(" 2:8, 1:5", 16) == Region(2, 8, 1, 5)
    assert str(Region(2, 8, 1, 5)) == "2:8,1:5"


def test_latents_are_computed_in_float32_on_a_gpu_too(model: Any) -> None:
    """PyTorch convolves in TF32 there, unless it is told not to."""
    allowed: list[bool] = []
    parts = list(model.children())
    hooks = [p.register_forward_pre_hook(lambda *_: allowed.append(torch.backends.cudnn.allow_tf32)) for p in parts]
    region_latents(model, *windows(), [(0, Region(2, 8, 1, 5))])
    for hook in hooks:
        hook.remove()
    assert allowed
    assert not any(allowed)
