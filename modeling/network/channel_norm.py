"""Layer normalisation over the channels of each pixel, as Keras' `LayerNormalization` does on images.

A GPU with Triton runs the kernels of `channel_norm_triton`; there PyTorch's take ten times as long for rows of 16
channels. Other devices run PyTorch's operations.
"""

import functools
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from modeling.network.triton_support import has_triton, power_of_two

logger = logging.getLogger(__name__)

# As of `functional.layer_norm`.
EPSILON = 1e-5
# Numbers per program, and most programs of the backward pass, whose gradients of the weights are summed afterwards.
TILE = 2048
MOST_PROGRAMS = 512
# Wider rows are long enough for PyTorch's kernel.
WIDEST = 256


class ChannelNorm(nn.Module):
    """Normalisation with weights; each of `num_groups` groups of channels is normalised by itself."""

    def __init__(self, num_channels: int, *, num_groups: int = 1) -> None:
        """Makes the layer; images have `num_groups` x `num_channels` channels."""
        super().__init__()
        self.num_channels = num_channels
        self.weight = nn.Parameter(torch.ones(num_groups, num_channels))
        self.bias = nn.Parameter(torch.zeros(num_groups, num_channels))

    def forward(self, x_BCYX: Tensor) -> Tensor:
        """Normalised images of the same shape."""
        num_groups = len(self.weight)
        if fits(x_BCYX, self.num_channels):
            x_BYXC = x_BCYX.permute(0, 2, 3, 1).contiguous()
            rows_NGC = x_BYXC.view(-1, num_groups, self.num_channels)
            return normalise(rows_NGC, self.weight, self.bias).view(x_BYXC.shape).permute(0, 3, 1, 2)
        x_BYXGC = x_BCYX.permute(0, 2, 3, 1).unflatten(-1, self.weight.shape)
        x_BYXGC = functional.layer_norm(x_BYXGC, (self.num_channels,)) * self.weight + self.bias
        return x_BYXGC.flatten(-2).permute(0, 3, 1, 2)

    def of_steps(self, x_TBYXC: Tensor) -> Tensor:
        """Normalised images of steps, each of which is a group."""
        if fits(x_TBYXC, self.num_channels):
            rows_NTC = x_TBYXC.contiguous().flatten(1, 3).transpose(0, 1)
            return normalise(rows_NTC, self.weight, self.bias).transpose(0, 1).view(x_TBYXC.shape)
        shape = len(self.weight), 1, 1, 1, self.num_channels
        normalised_TBYXC = functional.layer_norm(x_TBYXC, (self.num_channels,))
        return normalised_TBYXC * self.weight.view(shape) + self.bias.view(shape)


def fits(x: Tensor, num_channels: int) -> bool:
    """Whether the kernels run: on an NVIDIA GPU with Triton, for rows that are not long."""
    if x.device.type != "cuda" or torch.version.cuda is None or torch.compiler.is_compiling():
        return False
    return num_channels <= WIDEST and has_triton() and not _failure(x.device)


@functools.cache
def _failure(device: torch.device) -> str:
    """Error of the kernels in a trial on a device, in words; empty if they run. Triton may lack a C compiler."""
    with torch.inference_mode(False), torch.enable_grad():
        # Not random: the trial must not change the draws of a training.
        rows_NGC, weight_GC = (torch.ones(*shape, device=device, requires_grad=True) for shape in ((2, 1, 4), (1, 4)))
        try:
            normalise(rows_NGC, weight_GC, torch.zeros_like(weight_GC)).float().sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except Exception as error:  # noqa: BLE001 - whatever it is, PyTorch's operations can do it
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            logger.warning("normalisation runs on PyTorch's operations, without its kernel: %s", reason)
            return reason
    return ""


def normalise(x_NGC: Tensor, weight_GC: Tensor, bias_GC: Tensor) -> Tensor:
    """Rows [N, G, C] normalised over the channels by the kernels, times weights plus biases.

    The result has the type of autocast where that is on, else of `x_NGC`.

    Args:
        x_NGC: any strides but that of the channels, which is 1; rows must not overlap.
        weight_GC: of each group.
        bias_GC: of each group.
    """
    device = x_NGC.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_NGC.dtype
    found: Tensor = _ChannelNorm.apply(x_NGC, weight_GC, bias_GC, kind)
    return found


class _ChannelNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NGC: Tensor, weight_GC: Tensor, bias_GC: Tensor, kind: torch.dtype) -> Tensor:
        from modeling.network import channel_norm_triton

        ctx.save_for_backward(x_NGC, weight_GC)
        out_NGC = torch.empty_strided(x_NGC.shape, x_NGC.stride(), dtype=kind, device=x_NGC.device)
        grid = (-(-len(x_NGC) // _rows(x_NGC)), x_NGC.shape[1])
        channel_norm_triton.forward[grid](x_NGC, weight_GC, bias_GC, out_NGC, *_layout(x_NGC), **_constants(x_NGC))
        return out_NGC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NGC: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        from modeling.network import channel_norm_triton

        x_NGC, weight_GC = ctx.saved_tensors
        grad_NGC = _as(grad_NGC, x_NGC)
        grad_x_NGC = torch.empty_strided(x_NGC.shape, x_NGC.stride(), dtype=x_NGC.dtype, device=x_NGC.device)
        num_groups = x_NGC.shape[1]
        num_programs = min(-(-len(x_NGC) // _rows(x_NGC)), max(1, MOST_PROGRAMS // num_groups))
        parts_2PGC = x_NGC.new_empty(2, num_programs, *weight_GC.shape, dtype=torch.float32)
        channel_norm_triton.backward[num_programs, num_groups](
            x_NGC, weight_GC, grad_NGC, grad_x_NGC, *parts_2PGC, *_layout(x_NGC), **_constants(x_NGC)
        )
        of_weight_GC, of_bias_GC = parts_2PGC.sum(1).to(weight_GC.dtype)
        return grad_x_NGC, of_weight_GC, of_bias_GC, None


def _as(grad_NGC: Tensor, x_NGC: Tensor) -> Tensor:
    """The gradient with the strides of the rows, with which the kernel reads both."""
    if grad_NGC.stride() == x_NGC.stride():
        return grad_NGC
    same = torch.empty_strided(x_NGC.shape, x_NGC.stride(), dtype=grad_NGC.dtype, device=grad_NGC.device)
    return same.copy_(grad_NGC)


def _wide(x_NGC: Tensor) -> int:
    return power_of_two(x_NGC.shape[-1])


def _rows(x_NGC: Tensor) -> int:
    return max(1, TILE // _wide(x_NGC))


def _layout(x_NGC: Tensor) -> tuple[int, int, int]:
    return len(x_NGC), x_NGC.stride(0), x_NGC.stride(1)


def _constants(x_NGC: Tensor) -> dict[str, int | float]:
    return {"C": x_NGC.shape[-1], "WIDE": _wide(x_NGC), "ROWS": _rows(x_NGC), "EPSILON": EPSILON}
