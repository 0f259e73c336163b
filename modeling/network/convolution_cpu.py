"""3 x 3 convolutions on a CPU in single precision, by the kernel of `convolution_cpu.c`.

With Winograd's transform they need a quarter of the products of PyTorch's.

Shapes: B batch, C channels in, O out, Y and X pixels; P = 36 points of the transform.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from modeling.network.compile_c import library
from modeling.network.winograd import PANEL, from_points, points_in_panels

TILE = 4  # pixels per side of a tile
POINTS = 36
SMALLEST = 8  # pixels per side of an image
SKEW = 16  # floats between the planes of two points, as in the C file

# The members of `Layer` in the C file, in its order.
_NUMBERS = ("batch", "height", "width", "inputs", "outputs", "dilation", "threads", "tiles_y", "tiles_x")
_FORWARD = ("x", "weight", "weight_t", "bias", "out", "seen")
_BACKWARD = ("grad_out", "grad_points", "grad_x", "grad_weight")


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_long) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _FORWARD + _BACKWARD),
    ]


def convolve(x_BCYX: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Images [B, O, Y, X] of a convolution of 3 x 3 pixels whose border of zeros is as wide as its dilation.

    On a CPU in single precision by the kernel, else, and where it cannot be compiled, by PyTorch.

    Raises:
        MemoryError: there is no memory for the images of a thread.
    """
    if not _fits(x_BCYX, convolution):
        images_BOYX: Tensor = convolution(x_BCYX)
        return images_BOYX
    assert convolution.bias is not None
    out_BYXO: Tensor = _Convolution.apply(
        x_BCYX.permute(0, 2, 3, 1).contiguous(),
        convolution.weight,
        convolution.bias,
        convolution.dilation[0],
        torch.is_grad_enabled(),
    )
    return out_BYXO.permute(0, 3, 1, 2)


def _fits(x_BCYX: Tensor, convolution: nn.Conv2d) -> bool:
    if x_BCYX.device.type != "cpu" or x_BCYX.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    # Smaller images are fewer tiles than the transform of the weights is worth.
    if min(x_BCYX.shape[2:]) < SMALLEST or torch.compiler.is_compiling():
        return False
    if convolution.in_channels % PANEL or convolution.out_channels % PANEL:
        return False
    return library("network/convolution_cpu.c") is not None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BYXC: Tensor, weight_OC33: Tensor, bias_O: Tensor, dilation: int, keep: bool) -> Tensor:
        numbers = _numbers(x_BYXC, len(bias_O), dilation)
        out_BYXO = x_BYXC.new_empty(*x_BYXC.shape[:3], len(bias_O))
        panels = points_in_panels(weight_OC33.transpose(0, 1))
        arrays = {"x": x_BYXC, "weight": panels, "bias": bias_O, "out": out_BYXO}
        if keep:
            arrays["seen"] = _at_points(x_BYXC, numbers, "inputs")
            ctx.numbers = numbers
            ctx.save_for_backward(arrays["seen"], weight_OC33)
        _call("convolution_forward", numbers, arrays)
        return out_BYXO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BYXO: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        seen, weight_OC33 = ctx.saved_tensors
        num_out, num_in = weight_OC33.shape[:2]
        grad_BYXO = grad_BYXO.contiguous()
        arrays = {
            "seen": seen,
            "grad_out": grad_BYXO,
            "grad_points": _at_points(grad_BYXO, ctx.numbers, "outputs"),
            "grad_weight": seen.new_empty(POINTS, num_in, num_out),
        }
        if ctx.needs_input_grad[0]:
            arrays["weight_t"] = points_in_panels(weight_OC33)
            arrays["grad_x"] = grad_BYXO.new_zeros(*grad_BYXO.shape[:3], num_in)
        _call("convolution_backward", ctx.numbers, arrays)
        grad_CO33 = from_points(arrays["grad_weight"])
        return arrays.get("grad_x"), grad_CO33.transpose(0, 1), grad_BYXO.sum((0, 1, 2)), None, None


def _numbers(x_BYXC: Tensor, num_outputs: int, dilation: int) -> dict[str, int]:
    batch, height, width, inputs = x_BYXC.shape
    return {
        "batch": batch,
        "height": height,
        "width": width,
        "inputs": inputs,
        "outputs": num_outputs,
        "dilation": dilation,
        "threads": max(1, min(torch.get_num_threads(), batch)),
        "tiles_y": -(-height // (dilation * TILE)),
        "tiles_x": -(-width // (dilation * TILE)),
    }


def _at_points(like: Tensor, numbers: dict[str, int], channels: str) -> Tensor:
    """Memory for the values of all tiles at the points."""
    num_tiles = numbers["batch"] * numbers["dilation"] ** 2 * numbers["tiles_y"] * numbers["tiles_x"]
    return like.new_empty(POINTS, num_tiles * numbers[channels] + SKEW)


def _call(name: str, numbers: dict[str, int], arrays: dict[str, Tensor]) -> None:
    kernels = library("network/convolution_cpu.c")
    assert kernels is not None
    assert all(array.is_contiguous() and array.dtype == torch.float32 for array in arrays.values())
    pointers = {key: array.data_ptr() for key, array in arrays.items()}
    if getattr(kernels, name)(ctypes.byref(_Layer(**numbers, **pointers))):
        raise MemoryError(f"{name}: no memory for the images of {numbers['threads']} threads")
