"""Residual blocks of a masked network on a CPU in single precision, by the kernel of `block_cpu.c`.

With Winograd's transform their convolutions need a quarter of the products of PyTorch's, and values between two layers
stay in the cache.

Shapes: B batch, C channels, Y and X pixels; 36 points of the transform.
"""

import ctypes
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from modeling.network.compile_c import library
from modeling.network.winograd import PANEL, in_panels, one_dimension

SOURCE = "network/block_cpu.c"
TILE = 4  # pixels per side of a tile
POINTS = 36
SKEW = 16  # floats between the planes of two points, as in the C file
# Smaller images have too few tiles to repay the transform of the weights.
SMALLEST = 8

# The members of `Block` in the C file, in its order.
_NUMBERS = ("batch", "height", "width", "channels", "groups", "dilation", "threads", "tiles_y", "tiles_x")
_FORWARD = (
    *("x", "scale", "shift", "wide", "wide_t", "wide_bias", "narrow", "narrow_t", "narrow_bias"),
    *("out", "moments", "middle", "seen"),
)
_BACKWARD = ("grad_out", "grad_x", "activated", "grad_points", "grad_wide", "sums")


class _Block(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_long) for name in _NUMBERS),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in _FORWARD + _BACKWARD),
    ]


class Weights(NamedTuple):
    """Weights of a block.

    Attributes:
        scale, shift: [C] of the normalisation.
        wide: [C, C, 3, 3] of the convolution of 3 x 3 pixels.
        wide_bias: [C].
        narrow: [C, C, 1, 1] of the convolution of single pixels.
        narrow_bias: [C].
    """

    scale: Tensor
    shift: Tensor
    wide: Tensor
    wide_bias: Tensor
    narrow: Tensor
    narrow_bias: Tensor


class Shape(NamedTuple):
    """Properties of a block besides its weights: normalisation groups, dilation, and the addend of variances."""

    groups: int
    dilation: int
    epsilon: float


def fits(x_BCYX: Tensor) -> bool:
    """Whether the kernel runs: on a CPU in single precision, where it can be compiled, for images of some size."""
    if x_BCYX.device.type != "cpu" or x_BCYX.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if x_BCYX.shape[1] % PANEL or min(x_BCYX.shape[2:]) < SMALLEST or torch.compiler.is_compiling():
        return False
    return library(SOURCE) is not None


def residual_block(x_BCYX: Tensor, weights: Weights, shape: Shape) -> Tensor:
    """x + narrow(gelu(wide(gelu(norm(x))))), of the shape of `x_BCYX`, which `fits`; channels last in memory.

    The border of zeros of the wide convolution is as wide as its dilation.

    Raises:
        MemoryError: there is no memory for the images of a thread.
    """
    x_BYXC = x_BCYX.permute(0, 2, 3, 1).contiguous()
    out_BYXC: Tensor = _ResidualBlock.apply(x_BYXC, shape, torch.is_grad_enabled(), *weights)
    return out_BYXC.permute(0, 3, 1, 2)


class _ResidualBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BYXC: Tensor, shape: Shape, keep: bool, *of_block: Tensor) -> Tensor:
        weights = Weights(*of_block)
        arrays = {
            "x": x_BYXC,
            "scale": weights.scale,
            "shift": weights.shift,
            "wide": _to_points(weights.wide.transpose(0, 1)),
            "wide_bias": weights.wide_bias,
            "narrow": in_panels(weights.narrow[:, :, 0, 0].mT),
            "narrow_bias": weights.narrow_bias,
            "out": torch.empty_like(x_BYXC),
        }
        kept = {}
        if keep:
            kept["moments"] = x_BYXC.new_empty(len(x_BYXC), 2, shape.groups)
            kept["middle"] = torch.empty_like(x_BYXC)
            kept["seen"] = _at_points(x_BYXC, shape)
            ctx.shape = shape
            ctx.save_for_backward(x_BYXC, *kept.values(), *weights)
        _call("block_forward", shape, arrays | kept)
        return arrays["out"]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BYXC: Tensor) -> tuple[Tensor | None, ...]:
        x_BYXC, moments, middle, seen, *of_block = ctx.saved_tensors
        weights, num_channels = Weights(*of_block), x_BYXC.shape[-1]
        arrays = {
            "x": x_BYXC,
            "scale": weights.scale,
            "shift": weights.shift,
            "wide_t": _to_points(weights.wide),
            "narrow_t": in_panels(weights.narrow[:, :, 0, 0]),
            "moments": moments,
            "middle": middle,
            "seen": seen,
            "grad_out": grad_BYXC.contiguous(),
            "grad_x": torch.empty_like(x_BYXC),
            "activated": torch.empty_like(x_BYXC),
            "grad_points": torch.empty_like(seen),
            "grad_wide": seen.new_empty(POINTS, num_channels, num_channels),
            # A copy for each thread, summed below: no locks, and the same sum every time.
            "sums": seen.new_zeros(_num_threads(x_BYXC), 4, num_channels),
        }
        _call("block_backward", ctx.shape, arrays)
        grad_scale, grad_shift, grad_wide_bias, grad_narrow_bias = arrays["sums"].sum(0)
        grad_wide = _from_points(arrays["grad_wide"]).transpose(0, 1)
        grad_narrow = arrays["grad_out"].flatten(0, 2).mT @ arrays["activated"].flatten(0, 2)
        grads = Weights(
            grad_scale, grad_shift, grad_wide, grad_wide_bias, grad_narrow[:, :, None, None], grad_narrow_bias
        )
        return arrays["grad_x"], None, None, *grads


@cache
@torch.inference_mode(mode=False)
def _matrix() -> Tensor:
    return one_dimension().float().contiguous()


def _to_points(weight_KG33: Tensor) -> Tensor:
    """Weights from K values to G columns at the points, `PANEL` columns side by side, [36, G / PANEL, K, PANEL]."""
    panels_33GKL = weight_KG33.permute(2, 3, 1, 0).unflatten(2, (-1, PANEL)).transpose(3, 4).contiguous()
    points = panels_33GKL.new_empty(POINTS, *panels_33GKL.shape[2:])
    _transform("weights_to_points", panels_33GKL, points)
    return points


def _from_points(grad_PKG: Tensor) -> Tensor:
    """Gradients of weights [K, G, 3, 3] from those at the points."""
    grad_33KG = grad_PKG.new_empty(3, 3, *grad_PKG.shape[1:])
    _transform("points_to_weights", grad_PKG, grad_33KG)
    return grad_33KG.permute(2, 3, 0, 1)


def _transform(name: str, values: Tensor, out: Tensor) -> None:
    kernels = library(SOURCE)
    assert kernels is not None
    pointers = (ctypes.c_void_p(array.data_ptr()) for array in (values, _matrix(), out))
    getattr(kernels, name)(*pointers, ctypes.c_long(max(values.numel(), out.numel()) // POINTS))


def _numbers(x_BYXC: Tensor, shape: Shape) -> dict[str, int]:
    batch, height, width, channels = x_BYXC.shape
    return {
        "batch": batch,
        "height": height,
        "width": width,
        "channels": channels,
        "groups": shape.groups,
        "dilation": shape.dilation,
        "threads": _num_threads(x_BYXC),
        "tiles_y": -(-height // (shape.dilation * TILE)),
        "tiles_x": -(-width // (shape.dilation * TILE)),
    }


def _num_threads(x_BYXC: Tensor) -> int:
    return max(1, min(torch.get_num_threads(), len(x_BYXC)))


def _at_points(x_BYXC: Tensor, shape: Shape) -> Tensor:
    """Memory for the values of all tiles at the points."""
    numbers = _numbers(x_BYXC, shape)
    num_tiles = numbers["batch"] * numbers["dilation"] ** 2 * numbers["tiles_y"] * numbers["tiles_x"]
    return x_BYXC.new_empty(POINTS, num_tiles * numbers["channels"] + SKEW)


def _call(name: str, shape: Shape, arrays: dict[str, Tensor]) -> None:
    kernels = library(SOURCE)
    assert kernels is not None
    assert all(array.is_contiguous() and array.dtype == torch.float32 for array in arrays.values())
    numbers = _numbers(arrays["x"], shape)
    pointers = {key: array.data_ptr() for key, array in arrays.items()}
    if getattr(kernels, name)(ctypes.byref(_Block(**numbers, epsilon=shape.epsilon, **pointers))):
        raise MemoryError(f"{name}: no memory for the images of {numbers['threads']} threads")
