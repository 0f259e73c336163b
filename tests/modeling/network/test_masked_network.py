from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modeling.network.checkpoint import load_model, save_model
from modeling.network.config import ModelConfig
from modeling.network.inference import encode, infer, reconstruct
from modeling.network.make import make_network
from modeling.network.masked_network import MaskedPredictor, by_spaxel

NAMES = ["Hb-4862", "OIII-5008", "Ha-6564", "NII-6585"]
SHAPE = (4, 5, 16)


def network(lstm_channels: int = 3, **values: Any) -> MaskedPredictor:
    config = ModelConfig(kind="masked", latent_dim=6, context_channels=8, lstm_channels=lstm_channels, **values)
    made = make_network(config, SHAPE, NAMES, seed=0)
    assert isinstance(made, MaskedPredictor)
    if made.lines is not None:  # zero in a new network, so that the recurrence would not count
        torch.nn.init.normal_(made.lines.to_samples.weight, std=0.1)
    return made.eval()


def windows(num: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    good = torch.rand(num, 4, 5, 16, 16) > 0.1
    return torch.randn(good.shape) + 2, good


def hidden_part(good: Tensor) -> Tensor:
    """Hydrogen of the first galaxy, and a square of the second."""
    hidden = torch.zeros_like(good)
    hidden[0, [0, 2]] = True
    hidden[1, ..., 4:9, 6:11] = True
    return hidden


@pytest.mark.parametrize(("lstm_channels", "error_modes"), [(0, 2), (3, 0)])
@pytest.mark.parametrize("value", [torch.nan, 1e6])
def test_hidden_and_bad_samples_change_no_prediction(lstm_channels: int, error_modes: int, value: float) -> None:
    model, (flux, good) = network(lstm_channels, error_modes=error_modes), windows()
    seen = good & ~hidden_part(good)
    expected = model(flux, seen)
    found = model(torch.where(seen, flux, value), seen)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(model(torch.where(good, flux, 0.5), seen & (flux > 0)).mean, expected.mean)


@pytest.mark.parametrize("error_modes", [0, 2])
@pytest.mark.parametrize("passes", ["patch_passes", "square_passes"])
def test_a_sample_is_predicted_without_it(passes: str, error_modes: int) -> None:
    model, (flux, good) = network(error_modes=error_modes), windows()
    ivar = torch.full_like(flux, 100.0)
    before = model.predict_hidden(getattr(model, passes)(), flux, ivar, good)
    changed = flux.clone()
    changed[0, 2, 3, 5, 7] = 1e4
    after = model.predict_hidden(getattr(model, passes)(), changed, ivar, good)
    assert good[0, 2, 3, 5, 7]
    torch.testing.assert_close(after.mean[0, 2, 3, 5, 7], before.mean[0, 2, 3, 5, 7])
    assert after.residual_sigma[0, 2, 3, 5, 7] > before.residual_sigma[0, 2, 3, 5, 7] + 1
    # But it counts in the prediction of others, and not in other galaxies.
    assert not torch.allclose(after.mean[0], before.mean[0])
    torch.testing.assert_close(after.mean[1], before.mean[1])
    for found in before:
        assert (found[~good] == 0).all()
        assert (found[good] != 0).all()


@pytest.mark.parametrize("passes", ["patch_passes", "square_passes"])
@pytest.mark.parametrize("lstm_channels", [0, 3])
def test_each_sample_has_the_prediction_of_the_pass_that_keeps_it(passes: str, lstm_channels: int) -> None:
    model, (flux, good) = network(lstm_channels), windows()
    good[..., :3, :] = False  # spaxels that no galaxy covers
    ivar = torch.full_like(flux, 100.0)
    expected = torch.zeros_like(flux)
    for hidden, kept in getattr(model, passes)():
        seen = good & ~hidden
        normalised, scale = model.normalise(flux, seen)
        mean = model.denormalise(model.predict(normalised, seen, model.scaled_ivar(ivar, scale)).mean, scale)
        expected = torch.where(good & kept, mean, expected)
    found = model.predict_hidden(getattr(model, passes)(), flux, ivar, good)
    torch.testing.assert_close(found.mean, expected, rtol=1e-4, atol=1e-5)


def test_residuals_are_in_units_of_noise_and_predicted_variance() -> None:
    model, (flux, good) = network(normalise="none"), windows()
    passes = [next(iter(model.patch_passes()))]
    found = model.predict(flux, good & ~passes[0].hidden, torch.full_like(flux, 4.0))
    by_hand = (flux - found.mean) / (found.variance + 0.25).sqrt()
    sigma = model.predict_hidden(passes, flux, torch.full_like(flux, 4.0), good).residual_sigma
    chosen = good & passes[0].kept
    torch.testing.assert_close(sigma[chosen], by_hand[chosen])
    assert (sigma[~chosen] == 0).all()


def test_residuals_are_whitened_by_the_errors_that_samples_of_a_spaxel_share() -> None:
    model, (flux, good) = network(normalise="none", error_modes=2), windows()
    passes = [next(iter(model.square_passes()))]
    found = model.predict(flux, good & ~passes[0].hidden, torch.full_like(flux, 4.0))
    kept = (good & passes[0].kept)[0, ..., 1, 10]
    assert kept.sum() > 2
    modes = found.modes[0, 1, 10].unflatten(1, (4, 5))[:, kept].double()
    covariance = torch.diag((found.variance[0, ..., 1, 10] + 0.25)[kept].double()) + modes.T @ modes
    residual = (flux - found.mean)[0, ..., 1, 10][kept].double()
    sigma = model.predict_hidden(passes, flux, torch.full_like(flux, 4.0), good).residual_sigma[0, ..., 1, 10]
    distance = residual @ torch.linalg.solve(covariance, residual)
    assert sigma.square().sum().item() == pytest.approx(distance.item(), rel=1e-4)
    assert (sigma[~kept] == 0).all()


def test_noise_is_that_of_the_flux_and_the_errors_of_the_network_follow_its_slope() -> None:
    model, (flux, good) = network(error_modes=1), windows()
    flux, ivar, scale = 5 * flux, torch.full_like(flux, 0.04), torch.tensor([2.0, 3.0])
    units = scale[:, None, None, None, None]
    normalised, scaled = torch.asinh(flux / units), model.scaled_ivar(ivar, scale)
    found = model.predict(normalised, good, scaled)
    chosen = torch.tensor([0, 256 + 4 * 16 + 5])
    samples, _ = model.predict_spaxels(normalised, good, scaled, chosen)
    errors = model.errors(samples, *(by_spaxel(values)[chosen] for values in (normalised, scaled)))

    def at(values: Tensor) -> Tensor:
        return torch.stack([values[0, ..., 0, 0], values[1, ..., 4, 5]]).flatten(1)

    slope = torch.cosh(at(found.mean))
    torch.testing.assert_close(errors.residual, at(flux / units - torch.sinh(found.mean)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(errors.noise, at((25 / units.square()).expand_as(flux)))
    torch.testing.assert_close(errors.variance, errors.noise + at(found.variance) * slope.square())
    torch.testing.assert_close(errors.modes[1, 0], found.modes[1, 4, 5, 0] * slope[1])


def test_the_network_sees_the_noise_of_what_it_sees_and_of_nothing_else() -> None:
    model, (flux, good) = network(), windows()
    seen, ivar = good & ~hidden_part(good), torch.full_like(flux, 4.0)
    expected = model.predict(flux, seen, ivar)
    for value in (torch.nan, 0.0, 1e6):
        found = model.predict(flux, seen, torch.where(seen, ivar, value))
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one, other)
    assert not torch.allclose(model.predict(flux, seen, 100 * ivar).mean, expected.mean)


def test_a_network_of_an_earlier_version_does_not_see_the_noise() -> None:
    model = network()
    old = MaskedPredictor(**(model.arguments | {"sees_noise": False})).eval()
    flux, good = windows()
    ivar, seen = torch.full_like(flux, 4.0), good & ~hidden_part(good)
    found = old.predict(flux, seen, ivar)
    assert torch.equal(found.mean, old.predict(flux, seen, 100 * ivar).mean)
    # Its residuals are those of asinh, with the noise to first order.
    samples, _ = old.predict_spaxels(flux, seen, ivar)
    errors = old.errors(samples, by_spaxel(flux), by_spaxel(ivar))
    torch.testing.assert_close(errors.residual, by_spaxel(flux - found.mean))
    torch.testing.assert_close(errors.noise, by_spaxel(0.25 / torch.cosh(flux).square()))


def test_flux_in_another_unit_gives_the_same_prediction() -> None:
    model, (flux, good) = network(), windows()
    for one, other in zip(model(flux, good), model(1000 * flux, good), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_inference_gives_latents_and_predictions_from_other_lines() -> None:
    model, (flux, good) = network(), windows(3)
    arrays = flux.numpy(), np.full(flux.shape, 4.0, np.float32), (~good).numpy().astype(np.uint8)
    found = infer(model, *arrays, batch_size=2)
    np.testing.assert_allclose(found.latent, encode(model, *arrays), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.reconstruction, reconstruct(model, *arrays), rtol=1e-5, atol=1e-5)
    hidden = model.predict_hidden(model.patch_passes(), flux, torch.full_like(flux, 4.0), good)
    np.testing.assert_allclose(found.reconstruction, hidden.mean.detach(), rtol=1e-3, atol=1e-4)
    assert np.isfinite(found.mae).all()
    with pytest.raises(ValueError, match="MaskedPredictor has no reconstruction from the latent"):
        reconstruct(model, *arrays, from_latent=True)


def test_a_saved_network_is_the_same_when_it_is_read(tmp_path: Path) -> None:
    model, (flux, good) = network(), windows()
    save_model(tmp_path, model, {"line_names": NAMES})
    again, metadata = load_model(tmp_path)
    assert isinstance(again, MaskedPredictor)
    assert again.arguments == model.arguments
    assert again.groups == [[0, 2], [1], [3]]
    assert metadata["line_names"] == NAMES
    for one, other in zip(model(flux, good), again(flux, good), strict=True):
        assert torch.equal(one, other)


def test_a_seed_determines_the_weights_and_nothing_else() -> None:
    state = torch.get_rng_state()
    config = ModelConfig(kind="masked", context_channels=8)
    one, same, other = (make_network(config, SHAPE, NAMES, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [model.state_dict()["first.weight"] for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_windows_that_it_cannot_take_are_named() -> None:
    config = ModelConfig(kind="masked")
    with pytest.raises(ValueError, match="size is 12, expected a multiple of 8"):
        make_network(config, (4, 5, 12), NAMES, seed=0)
    with pytest.raises(ValueError, match="hidden_side is 8, expected less than size, 8"):
        make_network(config.model_copy(update={"hidden_side": 8}), (4, 5, 8), NAMES, seed=0)
    with pytest.raises(ValueError, match=r"groups is \[\[0\], \[0\]\], expected each of 2 lines once"):
        MaskedPredictor(num_lines=2, num_samples=3, size=8, groups=[[0], [0]])
    with pytest.raises(ValueError, match="lstm_channels is 0: an autoencoder needs at least 1"):
        ModelConfig(lstm_channels=0)
