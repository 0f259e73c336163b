"""Convolutions of images of many steps with weights of each step's own, as batched matrix products.

On a GPU, cuDNN launches a kernel for each group of a grouped convolution: 190 for the paper's steps. Here all steps are
one product of [pixels, 9 C] by [9 C, O], of a copy of the images that holds the nine neighbours of each pixel. On a CPU
the grouped convolution is the faster one.

Shapes: T steps, B batch, Y and X pixels, C channels in, O out.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Memory for copies with neighbours: steps are taken in parts that need no more.
MOST_BYTES = 2**28


def convolve(x_TBYXC: Tensor, weight_TOC33: Tensor, bias_TO: Tensor | None) -> Tensor:
    """Images [T, B, Y, X, O] of 3 x 3 convolutions with a border of zeros; in the type of autocast where it is on."""
    device = x_TBYXC.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_TBYXC.dtype
    out_TBYXO: Tensor = _Convolution.apply(x_TBYXC.to(kind), weight_TOC33.to(kind))
    return out_TBYXO if bias_TO is None else out_TBYXO + bias_TO.to(kind)[:, None, None, None]


def convolve_transposed(x_TBYXC: Tensor, weight_TCO44: Tensor, bias_TO: Tensor | None) -> Tensor:
    """Images [T, B, 2 Y, 2 X, O] of 4 x 4 transposed convolutions with stride 2 and padding 1.

    Each of four phases of the output is a convolution of the input with 2 x 2 of the weights, zero-padded to 3 x 3.
    """
    num_steps, num_batch, height, width, num_channels = x_TBYXC.shape
    # [T, C, O, phase of x, tap of x, phase of y, tap of y]
    by_phase = _phases(_phases(weight_TCO44).movedim(3, -1))
    weight_TPC33 = by_phase.permute(0, 5, 3, 2, 1, 6, 4).reshape(num_steps, -1, num_channels, 3, 3)
    phases = convolve(x_TBYXC, weight_TPC33, None).unflatten(-1, (2, 2, -1))
    out_TBYXO = phases.permute(0, 1, 2, 4, 3, 5, 6).reshape(num_steps, num_batch, 2 * height, 2 * width, -1)
    return out_TBYXO if bias_TO is None else out_TBYXO + bias_TO.to(out_TBYXO.dtype)[:, None, None, None]


def multiply(x_BCYX: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Images of a grouped convolution whose kernel is one pixel; each group is a step."""
    if x_BCYX.device.type != "cuda":
        images_BOYX: Tensor = convolution(x_BCYX)
        return images_BOYX
    return multiply_steps(x_BCYX, convolution)


def multiply_steps(x_BCYX: Tensor, convolution: nn.Conv2d) -> Tensor:
    """As `multiply`, with all steps in one batched product of [pixels, C] by [C, O]."""
    num_steps = convolution.groups
    x_BYXC = x_BCYX.permute(0, 2, 3, 1)
    x_TNC = x_BYXC.reshape(-1, num_steps, x_BYXC.shape[-1] // num_steps).transpose(0, 1)
    weight_TCO = convolution.weight.view(num_steps, -1, x_TNC.shape[-1]).mT
    out_NTO = torch.bmm(x_TNC, weight_TCO).transpose(0, 1)
    assert convolution.bias is not None
    out_NO = out_NTO.flatten(1) + convolution.bias.to(out_NTO.dtype)
    return out_NO.view(*x_BYXC.shape[:3], -1).permute(0, 3, 1, 2)


def _phases(weight: Tensor) -> Tensor:
    """Four taps [..., 4] as the three at -1, 0 and 1 that reach an even and an odd pixel of the output, [..., 2, 3]."""
    turned = weight.flip(-1)
    return torch.stack([functional.pad(turned[..., ::2], (0, 1)), functional.pad(turned[..., 1::2], (1, 0))], dim=-2)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TBYXC: Tensor, weight_TOC33: Tensor) -> Tensor:
        ctx.save_for_backward(x_TBYXC, weight_TOC33)
        return _products(x_TBYXC, weight_TOC33)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TBYXO: Tensor) -> tuple[Tensor | None, Tensor]:
        x_TBYXC, weight_TOC33 = ctx.saved_tensors
        grad_x_TBYXC = None
        if ctx.needs_input_grad[0]:
            # A convolution with the same weights, turned.
            grad_x_TBYXC = _products(grad_TBYXO, weight_TOC33.flip(3, 4).transpose(1, 2))
        num_steps, num_out, num_in = weight_TOC33.shape[:3]
        grad_TQO = weight_TOC33.new_empty(num_steps, 9 * num_in, num_out)
        for part in _parts(x_TBYXC):
            torch.bmm(_neighbours(x_TBYXC[part]).mT, grad_TBYXO[part].flatten(1, 3), out=grad_TQO[part])
        return grad_x_TBYXC, grad_TQO.view(num_steps, 3, 3, num_in, num_out).permute(0, 4, 3, 1, 2)


def _products(x_TBYXC: Tensor, weight_TOC33: Tensor) -> Tensor:
    num_out = weight_TOC33.shape[1]
    weight_TQO = weight_TOC33.permute(0, 3, 4, 2, 1).flatten(1, 3)
    out_TBYXO = x_TBYXC.new_empty(*x_TBYXC.shape[:-1], num_out)
    for part in _parts(x_TBYXC):
        torch.bmm(_neighbours(x_TBYXC[part]), weight_TQO[part], out=out_TBYXO[part].flatten(1, 3))
    return out_TBYXO


def _parts(x_TBYXC: Tensor) -> list[slice]:
    """Parts of the steps."""
    num_bytes = 9 * x_TBYXC[0].numel() * x_TBYXC.element_size()
    step = max(1, MOST_BYTES // num_bytes)
    return [slice(first, first + step) for first in range(0, len(x_TBYXC), step)]


def _neighbours(x_TBYXC: Tensor) -> Tensor:
    """The nine neighbours of each pixel side by side, [T, B Y X, 9 C]; zeros beyond the border."""
    padded = functional.pad(x_TBYXC, (0, 0, 1, 1, 1, 1))
    # Copied 16 bytes at a time, where the channels of a pixel are as many.
    wide = padded.shape[-1] * padded.element_size() % 16 == 0
    padded = padded.view(torch.complex128) if wide else padded
    # [T, B, Y, X, C, 3, 3], a view.
    near = padded.unfold(2, 3, 1).unfold(3, 3, 1)
    near_TPQ = near.permute(0, 1, 2, 3, 5, 6, 4).flatten(4).flatten(1, 3)
    return near_TPQ.view(x_TBYXC.dtype) if wide else near_TPQ
