"""Losses that masked samples cannot reach: neither their values nor NaN in them change the loss or any gradient.

Shapes: B batch, L lines, S samples, Y and X spaxels, D latent. Each galaxy counts the same, however many of its samples
are good: the mean over a batch is then the mean over its parts, on one process or on many.
"""

import torch
from torch import Tensor


def masked_mean(values_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """The mean over the good samples of each galaxy, [B]; 0 for a galaxy that has none."""
    total_B = torch.where(good_BLSYX, values_BLSYX, 0.0).flatten(1).sum(dim=1)
    return total_B / good_BLSYX.flatten(1).sum(dim=1).clamp(min=1)


def masked_mae(predicted_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Mean absolute error of each galaxy, [B]: the paper's loss and score, over good samples only."""
    difference = _difference(predicted_BLSYX, target_BLSYX, good_BLSYX)
    return masked_mean(difference.abs(), good_BLSYX)


def masked_mse(predicted_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Mean squared error of each galaxy, [B], over good samples only."""
    difference = _difference(predicted_BLSYX, target_BLSYX, good_BLSYX)
    return masked_mean(difference.square(), good_BLSYX)


def kl_to_standard_normal(mean_BD: Tensor, log_variance_BD: Tensor) -> Tensor:
    """KL divergence of each galaxy's posterior to N(0, 1), [B] in nats (Kingma & Welling 2014, eq. 10)."""
    return 0.5 * (mean_BD.square() + log_variance_BD.exp() - 1 - log_variance_BD).sum(dim=1)


def _difference(predicted_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Zero where not good, taken before any arithmetic: 0 x NaN in a backward pass would still be NaN."""
    predicted_BLSYX = torch.where(good_BLSYX, predicted_BLSYX, 0.0)
    return predicted_BLSYX - torch.where(good_BLSYX, target_BLSYX, 0.0)


RECONSTRUCTION_LOSSES = {"mae": masked_mae, "mse": masked_mse}
