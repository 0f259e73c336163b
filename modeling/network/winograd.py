"""Weights of Winograd's transform F(4 x 4, 3 x 3), whose other parts are in `winograd.h`."""

from functools import cache

import torch
from torch import Tensor

LANES = 8  # floats of a vector register (AVX2)
PANEL = 16  # columns of the weights that lie together: two vectors


def in_panels(weight_KG: Tensor) -> Tensor:
    """Weights with `PANEL` columns side by side, [G / PANEL, K, PANEL]."""
    return weight_KG.unflatten(1, (-1, PANEL)).transpose(0, 1).contiguous()


def to_panels(weight_PKG: Tensor) -> Tensor:
    """Weights [36, K, G] with `PANEL` columns side by side, [36, G / PANEL, K, PANEL]."""
    return weight_PKG.unflatten(2, (-1, PANEL)).transpose(1, 2).contiguous()


def one_dimension() -> Tensor:
    """Matrix [6, 3], in double precision, that transforms 3 weights in one dimension; see `transform`."""
    # The points 0, +-sqrt(1/2), +-sqrt(2), infinity lose a quarter of what the usual 0, +-1, +-2 do (docs/convlstm.md).
    # In float64, rounded once at the end.
    points = torch.tensor([0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)], dtype=torch.float64)
    distances = points[:, None] - points + torch.eye(5, dtype=torch.float64)
    finite = points[:, None] ** torch.arange(3) / distances.prod(1, keepdim=True)
    return torch.cat([finite, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)])


@cache
@torch.inference_mode(mode=False)  # what is kept serves trainings, too
def transform(stride: int) -> Tensor:
    """Matrices [phases, 36, 9] that transform 3 x 3 weights to 36 points.

    In one dimension, the value at point p is the weights' polynomial w0 + w1 p + w2 p^2 over the product of p's
    distances from the other points (Lavin & Gray 2016, arXiv:1509.09308). With stride 2, pixels 2 y + 1 of the input
    are multiplied by w0 for the pixel of the state after them and by w2 for their own, pixels 2 y by w1: each phase has
    its own weights, and the order of phases is the kernel's.
    """
    seen = one_dimension()
    if stride == 1:
        return torch.kron(seen, seen)[None].float()
    even = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.float64)
    odd = torch.tensor([[1, 0, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.float64)
    phases = [(even, even), (even, odd), (odd, odd), (odd, even)]
    return torch.stack([torch.kron(seen @ y, seen @ x) for y, x in phases]).float()
