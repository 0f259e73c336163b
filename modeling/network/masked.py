"""Means and errors over good samples alone.

Masked values, NaN included, change neither a result nor any gradient. Shapes: B batch, L lines, S samples, Y and X
spaxels.
"""

import torch
from torch import Tensor


def masked_mean(values_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Mean over the good samples of each galaxy, [B]; 0 for a galaxy that has none."""
    # By galaxy and not over the batch: a galaxy with many masked samples then counts as much as any other.
    total_B = torch.where(good_BLSYX, values_BLSYX, 0.0).flatten(1).sum(dim=1)
    return total_B / good_BLSYX.flatten(1).sum(dim=1).clamp(min=1)


def masked_mae(reconstruction_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Mean absolute error of each galaxy, [B]: the paper's loss and score, over good samples only."""
    residual_BLSYX = masked_residual(reconstruction_BLSYX, target_BLSYX, good_BLSYX)
    return masked_mean(residual_BLSYX.abs(), good_BLSYX)


def masked_residual(reconstruction_BLSYX: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Residual [B, L, S, Y, X], 0 where not good."""
    # Masked before any arithmetic: in a backward pass 0 x NaN would still be NaN.
    reconstruction_BLSYX = torch.where(good_BLSYX, reconstruction_BLSYX, 0.0)
    return reconstruction_BLSYX - torch.where(good_BLSYX, target_BLSYX, 0.0)
