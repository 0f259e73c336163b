import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from modeling.losses import RECONSTRUCTION_LOSSES, kl_to_standard_normal, masked_mae


@pytest.mark.parametrize("name", RECONSTRUCTION_LOSSES)
def test_bad_samples_have_no_value_and_no_gradient(name: str) -> None:
    torch.manual_seed(0)
    predicted = torch.randn(3, 2, 4, 5, 5)
    target = torch.randn_like(predicted)
    good = torch.rand(predicted.shape) > 0.3
    expected = RECONSTRUCTION_LOSSES[name](predicted, target, good)
    spoilt_target = torch.where(good, target, torch.nan).requires_grad_()
    spoilt = torch.where(good, predicted, torch.inf).requires_grad_()
    loss = RECONSTRUCTION_LOSSES[name](spoilt, spoilt_target, good)
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    loss.sum().backward()
    for gradient in (spoilt.grad, spoilt_target.grad):
        assert (gradient[~good] == 0).all()
        assert (gradient[good] != 0).all()
        assert torch.isfinite(gradient).all()


def test_mae_is_the_mean_over_good_samples_of_each_galaxy() -> None:
    predicted = torch.zeros(2, 1, 1, 2, 2)
    target = torch.tensor([[1.0, 2.0, 3.0, 100.0], [4.0, 100.0, 100.0, 100.0]]).view(2, 1, 1, 2, 2)
    good = target < 50
    assert masked_mae(predicted, target, good).tolist() == [2.0, 4.0]


def test_a_galaxy_without_good_samples_costs_nothing() -> None:
    predicted = torch.ones(1, 1, 1, 2, 2, requires_grad=True)
    loss = masked_mae(predicted, torch.full_like(predicted, math.nan), torch.zeros(predicted.shape, dtype=torch.bool))
    loss.sum().backward()
    assert loss.item() == 0
    assert (predicted.grad == 0).all()


def test_kl_equals_that_of_torch() -> None:
    mean, log_variance = torch.randn(4, 7), torch.randn(4, 7)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0, 1)).sum(dim=1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)
