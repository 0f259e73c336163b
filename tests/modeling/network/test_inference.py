from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from modeling.network.autoencoder import ConvLSTMAutoencoder, make_model
from modeling.network.inference import encode, infer, reconstruct
from tests.synthetic import synthetic_windows

SHAPE = (3, 4, 16)


@pytest.fixture(scope="module")
def model() -> ConvLSTMAutoencoder:
    return make_model({"num_lines": 3, "num_samples": 4, "size": 16, "latent_dim": 5}, seed=0)


def test_shapes_and_units(model: ConvLSTMAutoencoder) -> None:
    windows = synthetic_windows(np.random.default_rng(0), 5, SHAPE)
    result = infer(model, windows.flux, windows.ivar, windows.mask, batch_size=2)
    assert len(result) == 5
    assert result.latent.shape == (5, 5)
    for array in (result.reconstruction, result.normalised, result.normalised_reconstruction):
        assert array.shape == windows.flux.shape
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    scale = result.scale[:, None, None, None, None]
    np.testing.assert_allclose(result.reconstruction, np.sinh(result.normalised_reconstruction) * scale, rtol=1e-4)
    good = windows.mask == 0
    np.testing.assert_allclose((np.sinh(result.normalised) * scale)[good], windows.flux[good], rtol=1e-4, atol=1e-5)
    error = np.abs(result.normalised_reconstruction - result.normalised)
    expected = [error[i][good[i]].mean() for i in range(5)]
    np.testing.assert_allclose(result.mae, expected, rtol=1e-5)


def test_batches_and_masked_values_do_not_matter(model: ConvLSTMAutoencoder) -> None:
    windows = synthetic_windows(np.random.default_rng(0), 5, SHAPE)
    one = infer(model, windows.flux, windows.ivar, windows.mask, batch_size=1)
    spoilt = np.where(windows.mask > 0, 1e30, windows.flux)
    all_at_once = infer(model, spoilt, windows.ivar, windows.mask)
    np.testing.assert_allclose(one.latent, all_at_once.latent, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.mae, all_at_once.mae, rtol=1e-5)


def test_a_variational_model_gives_the_same_twice() -> None:
    model = make_model({"num_lines": 3, "num_samples": 4, "size": 16, "variational": True}, seed=0).train()
    windows = synthetic_windows(np.random.default_rng(0), 2, SHAPE)
    torch.manual_seed(0)
    first, second = (infer(model, windows.flux, windows.ivar, windows.mask) for _ in range(2))
    np.testing.assert_array_equal(first.reconstruction, second.reconstruction)


@pytest.mark.parametrize("arguments", [{}, {"variational": True}, {"spaxel_code": 2}])
def test_reconstructions_alone_are_those_of_all(arguments: dict[str, Any]) -> None:
    model = make_model({"num_lines": 3, "num_samples": 4, "size": 16, "latent_dim": 5, **arguments}, seed=0)
    windows = synthetic_windows(np.random.default_rng(1), 3, SHAPE)
    arrays = windows.flux, windows.ivar, windows.mask
    np.testing.assert_allclose(
        reconstruct(model, *arrays, batch_size=2), infer(model, *arrays).reconstruction, rtol=1e-4, atol=1e-5
    )
    assert reconstruct(model, *(array[:0] for array in arrays)).shape == (0, 3, 4, 16, 16)


def test_no_galaxies_give_empty_arrays(model: ConvLSTMAutoencoder) -> None:
    empty = np.zeros((0, 3, 4, 16, 16), np.float32)
    result = infer(model, empty, empty, empty.astype(np.uint8))
    assert result.latent.shape == (0, 5)
    assert result.mae.shape == (0,)


def test_windows_of_another_shape_are_named(model: ConvLSTMAutoencoder) -> None:
    flux = np.zeros((2, 3, 10, 16, 16), np.float32)
    with pytest.raises(ValueError, match=r"\(2, 3, 10, 16, 16\).*3 x 4 x 16 x 16"):
        infer(model, flux, flux, flux)


@pytest.mark.parametrize("function", [infer, encode, reconstruct])
def test_nothing_is_convolved_in_tf32_and_the_setting_is_restored(
    function: Callable[..., object], model: ConvLSTMAutoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, seen, normalise = synthetic_windows(np.random.default_rng(0), 1, SHAPE), [], model.normalise

    def recorded(*arguments: torch.Tensor) -> object:
        seen.append(torch.backends.cudnn.allow_tf32)
        return normalise(*arguments)

    monkeypatch.setattr(model, "normalise", recorded)
    before = torch.backends.cudnn.allow_tf32
    function(model, windows.flux, windows.ivar, windows.mask)
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before
