import math
from typing import Any

import pytest
import torch
from torch import Tensor

from modeling.network.autoencoder import ConvLSTMAutoencoder, make_model
from modeling.training.config import TrainConfig
from modeling.training.objective import Objective

SHAPE: dict[str, Any] = {"num_lines": 3, "num_samples": 4, "size": 8}


def model(**arguments: Any) -> ConvLSTMAutoencoder:
    return make_model(
        SHAPE | {"latent_dim": 5, "step_channels": 4, "lstm_channels": 4, "decoder_channels": 4} | arguments, seed=0
    )


def batch(sigma: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    good = torch.rand(2, 3, 4, 8, 8) > 0.2
    flux = torch.where(good, torch.randn(good.shape) + 2, torch.nan)
    return flux, torch.where(good, sigma**-2, 0.0), good


@pytest.mark.parametrize("normalise", ["none", "scale", "asinh"])
def test_normalised_variance_is_that_of_normalised_noise(normalise: str) -> None:
    torch.manual_seed(0)
    network = model(normalise=normalise)
    flux = (torch.randn(1, 3, 4, 8, 8) * 3 + 5).expand(4000, -1, -1, -1, -1)
    good = torch.ones_like(flux, dtype=torch.bool)
    sigma = 0.02
    clean, scale = network.normalise(flux[:1], good[:1])
    expected = network.normalised_variance(clean, torch.full_like(clean, sigma**-2), scale)
    noisy = (flux + sigma * torch.randn(flux.shape)) / scale.item()
    noisy = torch.asinh(noisy) if normalise == "asinh" else noisy
    torch.testing.assert_close(noisy.var(dim=0), expected[0], rtol=0.15, atol=0)


def test_likelihood_is_that_of_the_noise_and_the_model_error() -> None:
    flux, ivar, good = batch()
    network = model(normalise="none")
    for floor in (0.0, 0.3):
        objective = Objective(network, TrainConfig(loss="gaussian", error_floor=floor))
        residual = network(flux, good).reconstruction - flux
        variance = 0.1**2 + floor**2
        each = 0.5 * (residual**2 / variance + math.log(variance))
        expected = [row[keep].mean().item() for row, keep in zip(each, good, strict=True)]
        assert objective(flux, ivar, good)["loss"].tolist() == pytest.approx(expected, rel=1e-4)


def test_kl_warm_up_and_free_bits_enter_the_training_loss_alone() -> None:
    network = model(variational=True)
    objective = Objective(network, TrainConfig(kl_weight=0.5, free_bits=1000.0))
    objective.kl_scale = 0.25
    flux, ivar, good = batch()
    losses = objective(flux, ivar, good)
    free = 1000 * math.log(2) * 5
    torch.testing.assert_close(losses["loss"] - losses["reconstruction"], torch.full((2,), 0.25 * 0.5 * free))
    network.eval()
    measured = objective.evaluate(flux, ivar, good)
    torch.testing.assert_close(measured["loss"], measured["reconstruction"] + 0.5 * measured["kl"])
    torch.testing.assert_close(measured["kl"], measured["kl_of_latent"].sum(dim=1))


@pytest.mark.parametrize("normalise", ["scale", "asinh"])
def test_the_loss_of_spaxel_codes_does_not_depend_on_the_unit(normalise: str) -> None:
    objective, (flux, ivar, good) = Objective(model(spaxel_code=2, normalise=normalise), TrainConfig()), batch()
    once, in_other_unit = (objective(k * flux, ivar / k**2, good)["loss"] for k in (1, 1000))
    torch.testing.assert_close(in_other_unit, once, rtol=1e-3, atol=0)


@pytest.mark.parametrize("variational", [False, True])
def test_measures_have_meaning(variational: bool) -> None:
    network = model(variational=variational, normalise="none").eval()
    objective = Objective(network, TrainConfig())
    flux, ivar, good = batch()
    good[0, 1] = False
    good[1] = False
    measured = objective.evaluate(flux, ivar, good)
    assert {name: values[0].numel() for name, values in measured.items()} == objective.metric_sizes()
    residual = (network(flux, good).reconstruction - flux)[0]
    keep = good[0]
    assert measured["chi2"][0].item() == pytest.approx((residual[keep] ** 2 / 0.01).mean().item(), rel=1e-4)
    assert measured["mae"][0, 2].item() == pytest.approx(residual[2][keep[2]].abs().mean().item(), rel=1e-5)
    assert measured["mae"].isnan().tolist() == [[False, True, False], [True, True, True]]
    assert measured["chi2"].isnan().tolist() == [False, True]
