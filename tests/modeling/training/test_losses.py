import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import multivariate_normal, multivariate_t
from torch import Tensor
from torch.distributions import Normal, StudentT, kl_divergence

from modeling.network.masked import masked_mae
from modeling.training.losses import (
    ERROR_LOSSES,
    JOINT_DOF,
    LIKELIHOODS,
    STUDENT_DOF,
    free_bits_kl,
    joint_nll,
    kl_to_standard_normal,
)


def loss_of(name: str) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Any loss, as a function of four tensors."""
    if name in LIKELIHOODS:
        return LIKELIHOODS[name]
    return lambda predicted, target, good, variance: ERROR_LOSSES[name](predicted, target, good)


@pytest.mark.parametrize("name", [*ERROR_LOSSES, *LIKELIHOODS])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0])
def test_bad_samples_have_no_value_and_no_gradient(name: str, bad: float) -> None:
    torch.manual_seed(0)
    predicted = torch.randn(3, 2, 4, 5, 5)
    target, variance = torch.randn_like(predicted), torch.rand_like(predicted) + 0.1
    good = torch.rand(predicted.shape) > 0.3
    expected = loss_of(name)(predicted, target, good, variance)
    spoilt_target = torch.where(good, target, torch.nan).requires_grad_()
    spoilt = torch.where(good, predicted, torch.inf).requires_grad_()
    loss = loss_of(name)(spoilt, spoilt_target, good, torch.where(good, variance, bad))
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


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_equal_those_of_torch_up_to_a_constant(name: str) -> None:
    torch.manual_seed(0)
    predicted, target = torch.randn(4, 1, 1, 3, 3), torch.randn(4, 1, 1, 3, 3)
    variance = torch.rand_like(target) + 0.1
    good = torch.ones_like(target, dtype=torch.bool)
    noise = Normal(predicted, variance.sqrt())
    constant = 0.5 * math.log(2 * math.pi)
    if name == "student-t":
        noise = StudentT(STUDENT_DOF, predicted, variance.sqrt())
        half = torch.tensor(STUDENT_DOF / 2)
        constant = 0.5 * math.log(math.pi * STUDENT_DOF) + float(torch.lgamma(half) - torch.lgamma(half + 0.5))
    expected = -noise.log_prob(target).flatten(1).mean(dim=1) - constant
    torch.testing.assert_close(LIKELIHOODS[name](predicted, target, good, variance), expected)


def test_kl_equals_that_of_torch() -> None:
    mean, log_variance = torch.randn(4, 7), torch.randn(4, 7)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0, 1))
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_free_bits_cost_nothing_and_have_no_gradient() -> None:
    kl = torch.tensor([[0.1, 2.0, 0.6], [0.0, 0.0, 0.0]], requires_grad=True)
    cost = free_bits_kl(kl, 1.0)
    torch.testing.assert_close(cost, torch.tensor([2.0 + 2 * math.log(2), 3 * math.log(2)]))
    cost.sum().backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0, 1, 0], [0, 0, 0]]
    torch.testing.assert_close(free_bits_kl(kl, 0.0), kl.sum(dim=1))


@pytest.mark.parametrize("loss", LIKELIHOODS)
def test_the_likelihood_of_a_spaxel_is_that_of_its_tested_samples_together(loss: str) -> None:
    torch.manual_seed(0)
    residual, variance, modes = torch.randn(3, 6), torch.rand(3, 6) + 0.1, torch.randn(3, 2, 6)
    tested = torch.rand(3, 6) > 0.3
    tested[2] = False
    found = joint_nll(loss, torch.where(tested, residual, torch.nan), variance, modes, tested)
    for i in range(2):
        kept = tested[i]
        shared = modes[i][:, kept]
        covariance = (torch.diag(variance[i][kept]) + shared.T @ shared).numpy()
        values, mean = residual[i][kept].numpy(), [0.0] * int(kept.sum())
        density = (
            multivariate_normal(mean, covariance).logpdf(values)
            if loss == "gaussian"
            else multivariate_t(mean, covariance, df=JOINT_DOF).logpdf(values)
        )
        constant = 0.5 * int(kept.sum()) * math.log(2 * math.pi)
        assert found[i].item() == pytest.approx(-density - constant, rel=1e-4)
    assert found[2].item() == 0
