"""Distances of `error_modes` on a CPU in single precision, by the kernel of `error_modes_cpu.c`.

PyTorch's batched products of such small matrices take five times as long. Shapes as in `error_modes`.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from modeling.network.compile_c import library

SOURCE = "network/error_modes_cpu.c"
MOST_MODES = 16

# The members of `Spaxels` in the C file, in its order.
_NUMBERS = ("spaxels", "samples", "modes", "threads")
_FORWARD = ("residual", "variance", "shapes", "tested", "distance", "determinant", "weights", "covariance")
_BACKWARD = ("grad_distance", "grad_determinant", "grad_residual", "grad_variance", "grad_shapes")


class _Spaxels(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_long) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _FORWARD + _BACKWARD),
    ]


def fits(residual_NF: Tensor, variance_NF: Tensor, modes_NMF: Tensor) -> bool:
    """Whether the kernel runs: on a CPU in single precision, where it can be compiled, for a few modes."""
    tensors = residual_NF, variance_NF, modes_NMF
    if any(values.device.type != "cpu" or values.dtype != torch.float32 for values in tensors):
        return False
    if not 0 < modes_NMF.shape[1] <= MOST_MODES or torch.compiler.is_compiling():
        return False
    return library(SOURCE) is not None


def squared_distance(
    residual_NF: Tensor, variance_NF: Tensor, modes_NMF: Tensor, tested_NF: Tensor
) -> tuple[Tensor, Tensor]:
    """`error_modes.squared_distance` of tensors that `fits`.

    Raises:
        MemoryError: there is no memory for a spaxel.
    """
    distance_N, determinant_N = _SquaredDistance.apply(
        residual_NF.contiguous(), variance_NF.contiguous(), modes_NMF.contiguous(), tested_NF.contiguous()
    )
    return distance_N, determinant_N


class _SquaredDistance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, residual_NF: Tensor, variance_NF: Tensor, modes_NMF: Tensor, tested_NF: Tensor
    ) -> tuple[Tensor, Tensor]:
        num_modes = modes_NMF.shape[1]
        arrays = {
            "residual": residual_NF,
            "variance": variance_NF,
            "shapes": modes_NMF,
            "tested": tested_NF,
            "distance": residual_NF.new_empty(len(residual_NF)),
            "determinant": residual_NF.new_empty(len(residual_NF)),
            "weights": residual_NF.new_empty(len(residual_NF), num_modes),
            "covariance": residual_NF.new_empty(len(residual_NF), num_modes, num_modes),
        }
        _call("error_modes_forward", arrays)
        kept = {name: array for name, array in arrays.items() if name not in ("distance", "determinant")}
        ctx.names = list(kept)
        ctx.save_for_backward(*kept.values())
        return arrays["distance"], arrays["determinant"]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_distance_N: Tensor, grad_determinant_N: Tensor) -> tuple[Tensor | None, ...]:
        arrays = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        grads = {f"grad_{name}": torch.empty_like(arrays[name]) for name in ("residual", "variance", "shapes")}
        upstream = {"grad_distance": grad_distance_N, "grad_determinant": grad_determinant_N}
        _call("error_modes_backward", arrays | grads | {name: grad.contiguous() for name, grad in upstream.items()})
        return *grads.values(), None


def _call(name: str, arrays: dict[str, Tensor]) -> None:
    kernels = library(SOURCE)
    assert kernels is not None
    num_spaxels, num_modes, num_samples = arrays["shapes"].shape
    numbers = (num_spaxels, num_samples, num_modes, max(1, min(torch.get_num_threads(), num_spaxels)))
    pointers = {key: array.data_ptr() for key, array in arrays.items()}
    if getattr(kernels, name)(ctypes.byref(_Spaxels(*numbers, **pointers))):
        raise MemoryError(f"{name}: no memory for a spaxel in each of {numbers[-1]} threads")
