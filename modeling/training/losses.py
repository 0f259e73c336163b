"""Losses that masked samples cannot reach: neither their values nor NaN in them change the loss or any gradient.

Shapes: B batch, L lines, S samples, Y and X spaxels, D latent. Each galaxy counts the same, however many of its samples
are good: the mean over a batch is then the mean over its parts, on one process or on many.

The likelihoods also take the variance of the target, in the target's unit squared.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from modeling.network.masked import masked_mae, masked_mean, masked_residual

ErrorLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
Likelihood = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

# Heavy enough for the residuals of an imperfect model, light enough for the mean to exist (Lange et al. 1989).
STUDENT_DOF = 4.0
HUBER_SIGMA = 5.0


def masked_mse(reconstruction_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Mean squared error of each galaxy, [B], over good samples only."""
    residual_BLSYX = masked_residual(reconstruction_BLSYX, target_BLSYX, good_BLSYX)
    return masked_mean(residual_BLSYX.square(), good_BLSYX)


def gaussian_nll(
    reconstruction_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor, variance_BLSYX: Tensor
) -> Tensor:
    """Mean negative log-likelihood of a good sample under normal noise, [B] in nats, without the constant ln(2 pi)/2.

    Args:
        reconstruction_BLSYX: the model's.
        target_BLSYX: any value where not good.
        good_BLSYX: bool.
        variance_BLSYX: of the target, above 0 where good; any value elsewhere.
    """
    residual_BLSYX = masked_residual(reconstruction_BLSYX, target_BLSYX, good_BLSYX)
    variance_BLSYX = torch.where(good_BLSYX, variance_BLSYX, 1.0)
    return masked_mean(0.5 * (residual_BLSYX.square() / variance_BLSYX + variance_BLSYX.log()), good_BLSYX)


def student_t_nll(
    reconstruction_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor, variance_BLSYX: Tensor
) -> Tensor:
    """As `gaussian_nll`, under Student's t with `STUDENT_DOF` degrees of freedom and squared scale `variance_BLSYX`.

    A residual of many sigma, where the model is at fault and not the noise, weighs with its logarithm. The constants
    are left out that make the density integrate to one.
    """
    residual_BLSYX = masked_residual(reconstruction_BLSYX, target_BLSYX, good_BLSYX)
    variance_BLSYX = torch.where(good_BLSYX, variance_BLSYX, 1.0)
    tail = (STUDENT_DOF + 1) * torch.log1p(residual_BLSYX.square() / (STUDENT_DOF * variance_BLSYX))
    return masked_mean(0.5 * (tail + variance_BLSYX.log()), good_BLSYX)


def huber_chi2(
    reconstruction_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor, variance_BLSYX: Tensor
) -> Tensor:
    """Half the mean squared residual of a good sample in units of its variance, [B]; linear beyond `HUBER_SIGMA`.

    A Gaussian likelihood whose weights are given, with tails that a spectrum which no code can say does not rule
    (Huber 1964, doi:10.1214/aoms/1177703732).
    """
    sigma_BLSYX = torch.where(good_BLSYX, variance_BLSYX, 1.0).sqrt()
    residual_sigma_BLSYX = masked_residual(reconstruction_BLSYX, target_BLSYX, good_BLSYX) / sigma_BLSYX
    return masked_mean(
        functional.huber_loss(
            residual_sigma_BLSYX, torch.zeros_like(residual_sigma_BLSYX), reduction="none", delta=HUBER_SIGMA
        ),
        good_BLSYX,
    )


def kl_to_standard_normal(mean_BD: Tensor, log_variance_BD: Tensor) -> Tensor:
    """KL divergence of each latent's posterior to N(0, 1), [B, D] in nats (Kingma & Welling 2014, eq. 10)."""
    return 0.5 * (mean_BD.square() + log_variance_BD.exp() - 1 - log_variance_BD)


def free_bits_kl(kl_BD: Tensor, free_bits: float) -> Tensor:
    """The KL term of the loss, [B] in nats: what each latent costs above `free_bits` bits of its own.

    A latent that says less has no gradient, so that it is not pressed out before it has learnt anything (Kingma et al.
    2016, arXiv:1606.04934, eq. 15; taken per galaxy and not per batch, so that it does not depend on how galaxies are
    batched or shared by workers).
    """
    return kl_BD.clamp(min=free_bits * math.log(2)).sum(dim=1)


ERROR_LOSSES: dict[str, ErrorLoss] = {"mae": masked_mae, "mse": masked_mse}
LIKELIHOODS: dict[str, Likelihood] = {"gaussian": gaussian_nll, "student-t": student_t_nll}
