"""Losses over good samples alone: masked values, NaN included, change neither the loss nor any gradient.

Shapes: B batch, L lines, S samples, Y and X spaxels, D latent; N spaxels with F samples of all lines, M modes. Each
galaxy has the same weight, however many of its samples are good, so the mean over a batch is the mean over its parts,
in one process or in many.

The likelihoods also take the variance of the target, in the target's unit squared.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from modeling.network.error_modes import squared_distance
from modeling.network.masked import masked_mae, masked_mean, masked_residual

ErrorLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
Likelihood = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

# Tails heavy enough for the residuals of an imperfect model, light enough for the mean to exist (Lange, Little & Taylor
# 1989, JASA 84, 881).
STUDENT_DOF = 4.0
# Of all samples of a spaxel together, whose variances the tails then scale together. With STUDENT_DOF, variances of a
# hundred samples that are twice too large would cost 0.3 nats, so they would not be learned; with these it is 3.
JOINT_DOF = 30.0
# What `student_t_nll` leaves out beside ln(2 pi)/2.
STUDENT_CONSTANT = (
    math.lgamma(0.5 * STUDENT_DOF) - math.lgamma(0.5 * (STUDENT_DOF + 1)) + 0.5 * math.log(0.5 * STUDENT_DOF)
)
# Beyond this a residual is the model's failure, not noise, and its gradient no longer grows.
HUBER_SIGMA = 5.0


def masked_mse(reconstruction_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Mean squared error of each galaxy, [B], over good samples only; the arguments are those of `gaussian_nll`."""
    residual_BLSYX = masked_residual(reconstruction_BLSYX, target_BLSYX, good_BLSYX)
    return masked_mean(residual_BLSYX.square(), good_BLSYX)


def gaussian_nll(
    reconstruction_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor, variance_BLSYX: Tensor
) -> Tensor:
    """Mean negative log-likelihood of a good sample under normal noise, [B] in nats, without the constant ln(2 pi)/2.

    Args:
        reconstruction_BLSYX: in the unit of the target.
        target_BLSYX: any value where not good.
        good_BLSYX: bool.
        variance_BLSYX: of the target, above 0 where good; any value elsewhere.
    """
    residual_BLSYX = masked_residual(reconstruction_BLSYX, target_BLSYX, good_BLSYX)
    # 1 before the division and the logarithm, whose gradients at 0 are infinite: 0 x inf in the backward pass is NaN.
    variance_BLSYX = torch.where(good_BLSYX, variance_BLSYX, 1.0)
    return masked_mean(0.5 * (residual_BLSYX.square() / variance_BLSYX + variance_BLSYX.log()), good_BLSYX)


def student_t_nll(
    reconstruction_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor, variance_BLSYX: Tensor
) -> Tensor:
    """Mean negative log-likelihood of a good sample under Student's t, [B] in nats, without the normalising constants.

    The distribution has `STUDENT_DOF` degrees of freedom and the squared scale `variance_BLSYX`. A residual of many
    sigma, which the model causes and not the noise, counts with its logarithm. Arguments as of `gaussian_nll`.
    """
    residual_BLSYX = masked_residual(reconstruction_BLSYX, target_BLSYX, good_BLSYX)
    variance_BLSYX = torch.where(good_BLSYX, variance_BLSYX, 1.0)
    tail = (STUDENT_DOF + 1) * torch.log1p(residual_BLSYX.square() / (STUDENT_DOF * variance_BLSYX))
    return masked_mean(0.5 * (tail + variance_BLSYX.log()), good_BLSYX)


def joint_nll(loss: str, residual_NF: Tensor, variance_NF: Tensor, modes_NMF: Tensor, tested_NF: Tensor) -> Tensor:
    """Negative log-likelihood of the tested samples of each spaxel together, [N] in nats, without ln(2 pi)/2 for each.

    Args:
        loss: `gaussian`, or `student-t`: multivariate, with `JOINT_DOF` degrees of freedom.
        residual_NF: any value where not tested.
        variance_NF: independent variances, of noise and prediction; above 0 where tested.
        modes_NMF: errors that the samples share; see `modeling.network.error_modes`.
        tested_NF: bool.
    """
    distance_N, log_determinant_N = squared_distance(residual_NF, variance_NF, modes_NMF, tested_NF)
    if loss == "gaussian":
        return 0.5 * (distance_N + log_determinant_N)
    count_N = tested_NF.sum(dim=1)
    half_N = 0.5 * (JOINT_DOF + count_N)
    constant_N = torch.lgamma(half_N) - math.lgamma(0.5 * JOINT_DOF) - 0.5 * count_N * math.log(0.5 * JOINT_DOF)
    return 0.5 * log_determinant_N + half_N * torch.log1p(distance_N / JOINT_DOF) - constant_N


def huber_chi2(
    reconstruction_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor, variance_BLSYX: Tensor
) -> Tensor:
    """Half the mean squared residual of a good sample in units of its variance, [B]; linear beyond `HUBER_SIGMA`.

    A Gaussian likelihood with given variances, whose linear tails keep a spectrum that no code can represent from
    dominating the loss (Huber 1964, doi:10.1214/aoms/1177703732). Arguments as of `gaussian_nll`.
    """
    # 1 before the root, whose gradient at 0 is infinite.
    sigma_BLSYX = torch.where(good_BLSYX, variance_BLSYX, 1.0).sqrt()
    residual_sigma_BLSYX = masked_residual(reconstruction_BLSYX, target_BLSYX, good_BLSYX) / sigma_BLSYX
    return masked_mean(
        functional.huber_loss(
            residual_sigma_BLSYX, torch.zeros_like(residual_sigma_BLSYX), reduction="none", delta=HUBER_SIGMA
        ),
        good_BLSYX,
    )


def kl_to_standard_normal(mean_BD: Tensor, log_variance_BD: Tensor) -> Tensor:
    """KL divergence of each latent's posterior from N(0, 1), [B, D] in nats.

    Source: Kingma & Welling 2014, arXiv:1312.6114, eq. 10.
    """
    return 0.5 * (mean_BD.square() + log_variance_BD.exp() - 1 - log_variance_BD)


def free_bits_kl(kl_BD: Tensor, free_bits: float) -> Tensor:
    """KL term of the loss, [B] in nats: the sum over latents of their divergence, at least `free_bits` bits each.

    A latent that carries less has no gradient, so it is not driven to the prior before it has learned anything (Kingma
    et al. 2016, arXiv:1606.04934, eq. 15; here per galaxy and not per batch, so that the loss does not depend on how
    galaxies are batched or distributed over workers).

    Args:
        kl_BD: of `kl_to_standard_normal`.
        free_bits: bits of each latent that cost nothing more.
    """
    return kl_BD.clamp(min=free_bits * math.log(2)).sum(dim=1)


ERROR_LOSSES: dict[str, ErrorLoss] = {"mae": masked_mae, "mse": masked_mse}
LIKELIHOODS: dict[str, Likelihood] = {"gaussian": gaussian_nll, "student-t": student_t_nll}
