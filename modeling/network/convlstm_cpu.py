"""ConvLSTM layer of `convlstm_cpu.c` as a differentiable function of tensors.

Shapes: T steps, B batch, C channels in, H hidden channels, Y and X spaxels; P = 36 points of Winograd's transform,
K values (the hidden channels, then the channels in, four times as many with stride 2), G columns (4 gates x H). The
kernel takes H in vectors of 8, so H is padded with zero weights, whose states stay zero.
"""

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from modeling.network.compile_c import library
from modeling.network.winograd import LANES, PANEL, to_panels, transform

# Tiles of 4 x 4 pixels processed at once: their data fit into half a megabyte of cache.
BLOCK = 24

# The members of `Layer` in the C file, in its order.
_SIZES = ("steps", "batch", "height", "width", "input_height", "input_width", "inputs", "hidden")
_OPTIONS = ("stride", "reverse", "threads", "block")
_FORWARD = ("x", "weight", "weight_t", "bias", "peep", "hidden0", "cell0", "out", "cell", "cells", "gates")
_BACKWARD = ("grad_out", "grad_cell", "grad_x", "grad_weight", "grad_bias", "grad_peep", "grad_hidden0")


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_long) for name in _SIZES + _OPTIONS),
        *((name, ctypes.c_void_p) for name in _FORWARD + _BACKWARD),
    ]


class Weights(NamedTuple):
    """Weights of a layer.

    Attributes:
        of_input: [4 H, C, 3, 3], rows in the order of the gates i, f, o, g.
        of_state: [4 H, H, 3, 3].
        bias: [4 H].
        peephole: [3, H, Y, X] of the gates i, f, o, or None.
    """

    of_input: Tensor
    of_state: Tensor
    bias: Tensor
    peephole: Tensor | None


def available() -> bool:
    """Whether this machine can run the kernel; the first call compiles it."""
    return library("network/convlstm_cpu.c") is not None


def convlstm(
    x_TBCYX: Tensor, weights: Weights, state: tuple[Tensor, Tensor] | None, *, stride: int = 1, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Hidden states of a layer over all steps, in single precision even under autocast.

    Args:
        x_TBCYX: the input; with stride 2 its sides are about twice those of the state.
        weights: of the layer.
        state: hidden_BHYX and cell_BHYX before the first step; zeros if None.
        stride: 1 or 2.
        reverse: from the last step to the first.

    Returns:
        h_TBHYX after each step, channels last in memory, and cell_BHYX after the last one.

    Raises:
        MemoryError: there is no memory for the images of a thread.
    """
    num_hidden = weights.of_state.shape[1]
    hidden_BHYX, cell_BHYX = state or (None, None)
    with torch.autocast("cpu", enabled=False):
        out, cell = _ConvLSTM.apply(
            x_TBCYX.float().permute(0, 1, 3, 4, 2).contiguous(),
            _to_points(weights.of_input, weights.of_state, stride),
            _to_columns(weights.bias).contiguous(),
            *(None if a is None else _channels_last(a) for a in (weights.peephole, hidden_BHYX, cell_BHYX)),
            {"stride": stride, "reverse": int(reverse)},
            torch.is_grad_enabled(),
        )
    if out.shape[-1] > num_hidden:
        out, cell = out[..., :num_hidden], cell[..., :num_hidden]
    return out.permute(0, 1, 4, 2, 3), cell.permute(0, 3, 1, 2)


class _ConvLSTM(torch.autograd.Function):
    """Forward and backward calls of the kernel; all arrays are in its layouts."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_PKG: Tensor,
        bias_G: Tensor,
        peep: Tensor | None,
        hidden0: Tensor | None,
        cell0: Tensor | None,
        options: dict[str, int],
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        numbers = _numbers(x, len(bias_G) // 4, **options)
        shape = [numbers[name] for name in ("steps", "batch", "height", "width", "hidden")]
        arrays = {"x": x, "bias": bias_G, "peep": peep, "hidden0": hidden0, "out": x.new_empty(shape)}
        # The cells and gates of all steps serve the backward pass alone, and are most of the memory.
        if keep:
            arrays |= {"cells": x.new_empty(shape), "gates": x.new_empty([*shape[:-1], 4 * shape[-1]])}
        cell = x.new_zeros(shape[1:]) if cell0 is None else cell0.clone()
        _call("convlstm_forward", numbers, arrays | {"cell": cell, "weight": to_panels(weight_PKG)})
        if keep:
            ctx.numbers, ctx.names = numbers, [*arrays, "cell0"]
            ctx.save_for_backward(weight_PKG, *arrays.values(), cell0)
        out = arrays["out"]
        assert out is not None
        return out, cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, grad_cell: Tensor) -> tuple[Tensor | None, ...]:
        weight_PKG, *saved = ctx.saved_tensors
        arrays = dict(zip(ctx.names, saved, strict=True))
        num_points, num_values, num_columns = weight_PKG.shape
        arrays["weight_t"] = functional.pad(weight_PKG.transpose(1, 2), (0, -num_values % LANES)).contiguous()
        arrays["grad_out"] = grad_out.contiguous()
        threads = ctx.numbers["threads"]
        # A copy of the weights' gradients for each thread, summed below: no locks, and the same sum every time.
        grads = {
            "grad_x": torch.empty_like(arrays["x"]) if ctx.needs_input_grad[0] else None,
            "grad_weight": weight_PKG.new_zeros(threads, num_points, num_columns // PANEL, num_values, PANEL),
            "grad_bias": weight_PKG.new_zeros(threads, num_columns),
            "grad_peep": None if arrays["peep"] is None else weight_PKG.new_zeros(threads, *arrays["peep"].shape),
            "grad_hidden0": None if arrays["hidden0"] is None else torch.empty_like(arrays["hidden0"]),
            "grad_cell": grad_cell.clone(memory_format=torch.contiguous_format),
        }
        _call("convlstm_backward", ctx.numbers, arrays | grads)
        return (
            grads["grad_x"],
            grads["grad_weight"].sum(0).transpose(1, 2).flatten(2),
            grads["grad_bias"].sum(0),
            None if grads["grad_peep"] is None else grads["grad_peep"].sum(0),
            grads["grad_hidden0"],
            None if arrays["cell0"] is None else grads["grad_cell"],
            None,
            None,
        )


def _numbers(x_TBYXC: Tensor, num_hidden: int, stride: int, reverse: int) -> dict[str, int]:
    steps, batch, input_height, input_width, inputs = x_TBYXC.shape
    return {
        "steps": steps,
        "batch": batch,
        "height": -(-input_height // stride),
        "width": -(-input_width // stride),
        "input_height": input_height,
        "input_width": input_width,
        "inputs": inputs,
        "hidden": num_hidden,
        "stride": stride,
        "reverse": reverse,
        "threads": max(1, min(torch.get_num_threads(), batch)),
        "block": BLOCK,
    }


def _call(name: str, numbers: dict[str, int], arrays: dict[str, Tensor | None]) -> None:
    kernels = library("network/convlstm_cpu.c")
    assert kernels is not None
    assert all(a is None or (a.is_contiguous() and a.dtype == torch.float32) for a in arrays.values())
    pointers = {key: array.data_ptr() for key, array in arrays.items() if array is not None}
    if getattr(kernels, name)(ctypes.byref(_Layer(**numbers, **pointers))):
        raise MemoryError(f"{name}: no memory for the images of {numbers['threads']} threads")


def _channels_last(a: Tensor) -> Tensor:
    """Array [..., H, Y, X] as [..., Y, X, H padded]."""
    return functional.pad(a.float().movedim(-3, -1), (0, -a.shape[-3] % LANES)).contiguous()


def _to_columns(a: Tensor) -> Tensor:
    """Rows [4 H, ...] in the kernel's order: 8 channels of each gate, then the next 8.

    So the four gates of 8 channels are adjacent vectors when the kernel applies them.
    """
    gates = a.float().unflatten(0, (4, -1))
    if missing := -gates.shape[1] % LANES:
        gates = torch.cat([gates, gates.new_zeros(4, missing, *gates.shape[2:])], dim=1)
    return gates.unflatten(1, (-1, LANES)).transpose(0, 1).flatten(0, 2)


def _to_points(of_input: Tensor, of_state: Tensor, stride: int) -> Tensor:
    """Weights of all values at all points, weight_PKG."""
    state, inputs = (_to_columns(a).flatten(2) for a in (of_state, of_input))
    state = functional.pad(state, (0, 0, 0, -state.shape[1] % LANES))
    state = torch.einsum("pw,ghw->phg", transform(1)[0], state)
    inputs = torch.einsum("fpw,gcw->pfcg", transform(stride), inputs)
    return torch.cat([state, inputs.flatten(1, 2)], dim=1).contiguous()
