"""ConvLSTM layers on a GPU as differentiable functions of tensors: `convlstm_triton` for kernels of 3 x 3, and cuDNN's
LSTM for those of one pixel, whose pixels do not depend on each other.

Shapes: T steps, B batch, C channels in, H hidden channels, Y and X spaxels, G = 4 H gates. Arrays are channels last.
Around the kernel, the convolution of the input for all steps is one call, and the gradient of the weights, too.
"""

import functools
import importlib.util
import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional, grad

from modeling.network.convlstm_cpu import Weights

logger = logging.getLogger(__name__)

State = tuple[Tensor, Tensor]

# Shared memory that the largest program takes; an A100 has 163 KiB, an H100 227 KiB.
SHARED_BYTES = 160 * 1024
# The largest states whose weights and neighbours fit into it: hidden channels, and pixels x channels of a program.
LARGEST = {torch.bfloat16: (32, 4096), torch.float32: (16, 1024)}
# Columns of the neighbours in one product: a row of 64 numbers in bfloat16 is the longest that is swizzled as one.
DEPTH = 64
# Fewer pixels waste rows of the matrix units.
LEAST_PIXELS = 64
STATES_PER_WARP = 256
# Products in bfloat16, which `FAST` marks too.
CAPABILITY = (8, 0)


class Layer(NamedTuple):
    """What decides how a layer runs; the shapes are those of the state."""

    kernel_size: int
    stride: int
    hidden: int
    batch: int
    height: int
    width: int
    kind: torch.dtype
    peepholes: bool
    device: torch.device


@dataclass(frozen=True)
class Plan:
    """Programs of a launch.

    Attributes:
        rows: of an image that one program takes.
        bands: programs of an image.
        pixels: of a program, a power of two.
        wide: hidden channels, rounded up to a power of two.
        warps: of a program.
        images: of one launch.
    """

    rows: int
    bands: int
    pixels: int
    wide: int
    warps: int
    images: int

    @classmethod
    def of(cls, layer: Layer, multiprocessors: int, largest: int | None = None) -> "Plan | None":
        """Plan for a layer, or None if it does not fit.

        Args:
            layer: the layer.
            multiprocessors: of the device; programs that wait for each other must all run at once, one on each.
            largest: pixels of a program; by default as many as fit.
        """
        most_hidden, states = LARGEST[layer.kind]
        wide = _power_of_two(max(16, layer.hidden))
        most = min(largest or states, states // wide)
        rows = min(layer.height, most // layer.width)
        if layer.hidden > most_hidden or not rows:
            return None
        bands = -(-layer.height // rows)
        # With half of the multiprocessors idle, programs of half the size; not where an image fits into one program,
        # which then waits for nobody.
        while bands > 1 and 2 * bands * layer.batch <= multiprocessors and rows * layer.width >= 2 * LEAST_PIXELS:
            rows = -(-rows // 2)
            bands = -(-layer.height // rows)
        if bands > multiprocessors:
            return None
        pixels = _power_of_two(max(16, rows * layer.width))
        warps = min(8, max(4, pixels * wide // STATES_PER_WARP))
        return cls(rows, bands, pixels, wide, warps, layer.batch if bands == 1 else multiprocessors // bands)


@functools.cache
def why_not(layer: Layer) -> str:
    """Why a layer runs on PyTorch's operations, in words; empty if it does not. Each choice is logged once."""
    reason = _why_not(layer)
    text = f"ConvLSTM of {layer.hidden} channels at {layer.height} x {layer.width} pixels in {layer.kind}"
    way = f"runs on PyTorch's operations: {reason}" if reason else "runs in one kernel for all steps"
    logger.info("%s, batch %d: %s", text, layer.batch, way)
    return reason


def _why_not(layer: Layer) -> str:
    if layer.kernel_size not in (1, 3):
        return f"its kernel has {layer.kernel_size} x {layer.kernel_size} pixels, not 1 or 3 x 3"
    if layer.kind not in LARGEST:
        return "kernels are for float32 and bfloat16"
    if layer.kernel_size == 1:
        return _why_no_lstm(layer)
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    properties = torch.cuda.get_device_properties(layer.device)
    shared = getattr(properties, "shared_memory_per_block_optin", 0)
    if torch.version.cuda is None or (properties.major, properties.minor) < CAPABILITY or shared < SHARED_BYTES:
        return "the kernel needs an NVIDIA GPU of compute capability 8.0 with 160 KiB of shared memory"
    if _plan(layer) is None:
        return "its state does not fit on a multiprocessor"
    return _failure(layer)


def _failure(layer: Layer) -> str:
    """Error of the kernel in two steps of a layer, in words; empty if it runs, and then it is compiled."""
    shape = layer.batch, 1, layer.height, layer.width

    def make(*shape: int) -> Tensor:
        # Not random: the trial must not change the draws of a training.
        return torch.full(shape, 0.1, device=layer.device, requires_grad=True)

    with torch.inference_mode(False), torch.enable_grad():
        of_input, of_state = (make(4 * layer.hidden, channels, 3, 3) for channels in (1, layer.hidden))
        peephole = make(3, layer.hidden, *shape[2:]) if layer.peepholes else None
        weights = Weights(of_input, of_state, make(4 * layer.hidden), peephole)
        try:
            out_TBHYX, _ = convlstm(make(2, *shape), weights, None, kind=layer.kind)
            out_TBHYX.float().sum().backward()
            finite = bool(out_TBHYX.isfinite().all()) and bool(of_state.grad.isfinite().all())  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001 - whatever it is, PyTorch's operations can do it
            return f"Triton's kernel failed: {type(error).__name__}: {error}".splitlines()[0]
    return "" if finite else "Triton's kernel gives results that are not finite"


def _why_no_lstm(layer: Layer) -> str:
    if layer.peepholes or layer.stride > 1:
        return "cuDNN's LSTM has no peepholes and no strides"
    return "" if torch.backends.cudnn.is_available() else "cuDNN is missing"


@functools.cache
def _plan(layer: Layer) -> Plan | None:
    """Plan for a layer on its device; on a CPU, where Triton's interpreter runs it, as if that had 132 processors."""
    cuda = layer.device.type == "cuda"
    count = torch.cuda.get_device_properties(layer.device).multi_processor_count if cuda else 132
    return Plan.of(layer, count)


def describe(
    x_TBCYX: Tensor, kind: torch.dtype, *, hidden: int, kernel_size: int, stride: int, peepholes: bool
) -> Layer:
    """Description of a layer for an input."""
    height, width = (-(-n // stride) for n in x_TBCYX.shape[-2:])
    return Layer(kernel_size, stride, hidden, x_TBCYX.shape[1], height, width, kind, peepholes, x_TBCYX.device)


def convlstm(
    x_TBCYX: Tensor,
    weights: Weights,
    state: State | None,
    *,
    kind: torch.dtype,
    stride: int = 1,
    reverse: bool = False,
    plan: Plan | None = None,
) -> tuple[Tensor, Tensor]:
    """Hidden states of a layer of 3 x 3 kernels over all steps.

    Args:
        x_TBCYX: the input; with a stride above 1 its sides are as many times those of the state.
        weights: of the layer.
        state: hidden_BHYX and cell_BHYX before the first step; zeros if None.
        kind: type of the products, float32 or bfloat16; sums, gates and cells are in float32.
        stride: of the input's convolution.
        reverse: from the last step to the first.
        plan: of the launch; by default the one for this device.

    Returns:
        h_TBHYX after each step in `kind`, channels last in memory, and cell_BHYX after the last one in float32.
    """
    num_steps, num_batch = x_TBCYX.shape[:2]
    num_hidden = weights.of_state.shape[1]
    layer = describe(x_TBCYX, kind, hidden=num_hidden, kernel_size=3, stride=stride, peepholes=False)
    plan = plan or _plan(layer)
    assert plan is not None
    with torch.autocast(x_TBCYX.device.type, enabled=False):
        x_NCYX = x_TBCYX.flatten(0, 1).to(kind).contiguous(memory_format=torch.channels_last)
        of_input, bias = weights.of_input.to(kind), weights.bias.to(kind)
        gates_NGYX = functional.conv2d(x_NCYX, of_input, bias, stride, padding=1)
        gates_TBYXG = gates_NGYX.permute(0, 2, 3, 1).contiguous().unflatten(0, (num_steps, num_batch))
        hidden, cell = (a.permute(0, 2, 3, 1) for a in state) if state else (None, None)
        out_TBYXH, cell_BYXH = _ConvLSTM.apply(
            gates_TBYXG, weights.of_state, weights.peephole, hidden, cell, plan, reverse, torch.is_grad_enabled()
        )
    return out_TBYXH.permute(0, 1, 4, 2, 3), cell_BYXH.permute(0, 3, 1, 2)


class _ConvLSTM(torch.autograd.Function):
    """Forward and backward launches of the kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        gates_TBYXG: Tensor,
        weight: Tensor,
        peephole_3HYX: Tensor | None,
        hidden_BYXH: Tensor | None,
        cell_BYXH: Tensor | None,
        plan: Plan,
        reverse: bool,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        steps, *shape = gates_TBYXG.shape
        shape[-1] //= 4
        start = -1 if reverse else 0
        # One step more than the output, for the state before the first.
        hidden = gates_TBYXG.new_empty(steps + 1, *shape)
        # The cells of all steps serve the backward pass alone.
        cells = gates_TBYXG.new_empty(steps + 1 if keep else 1, *shape, dtype=torch.float32)
        for array, value in ((hidden, hidden_BYXH), (cells, cell_BYXH)):
            array[start].zero_() if value is None else array[start].copy_(value)
        peephole = None if peephole_3HYX is None else peephole_3HYX.float().permute(0, 2, 3, 1).contiguous()
        # `gates` is ours: its values are replaced by those after activation, which the backward pass needs.
        arrays = (gates_TBYXG, hidden, cells, weight.detach(), cells if peephole is None else peephole)
        _launch("forward", arrays, plan, gates_TBYXG, weight, REVERSE=reverse, KEEP=keep, PEEPHOLE=peephole is not None)
        if keep:
            ctx.save_for_backward(gates_TBYXG, hidden, cells, weight, peephole)
            ctx.plan, ctx.reverse = plan, reverse
        return (hidden[:-1] if reverse else hidden[1:]), cells[0 if reverse else -1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TBYXH: Tensor, grad_cell_BYXH: Tensor) -> tuple[Tensor | None, ...]:
        gates, hidden, cells, weight, peephole = ctx.saved_tensors
        _, num_batch, height, width, _ = gates.shape
        # A new array, not `gates`: a graph that is retained may be run backwards again.
        grad_gates = torch.empty_like(gates)
        grad_cell = grad_cell_BYXH.clone(memory_format=torch.contiguous_format)
        parts = hidden.new_empty(2, num_batch, 9, height, width, hidden.shape[-1])
        parts[1].zero_()
        arrays = (gates, cells, grad_TBYXH.contiguous(), grad_cell, grad_gates, parts, weight.detach())
        _launch(
            "backward",
            (*arrays, cells if peephole is None else peephole),
            ctx.plan,
            gates,
            weight,
            REVERSE=ctx.reverse,
            PEEPHOLE=peephole is not None,
        )
        of_cell = grad_cell if ctx.needs_input_grad[4] else None
        grad_NGYX = grad_gates.flatten(0, 1).permute(0, 3, 1, 2)
        before = slice(1, None) if ctx.reverse else slice(0, -1)
        after = slice(0, -1) if ctx.reverse else slice(1, None)
        grad_weight = _grad_weight(hidden[before].flatten(0, 1).permute(0, 3, 1, 2), grad_NGYX, weight)
        grad_peephole = None
        if peephole is not None:
            i, f, o, _ = grad_gates.float().chunk(4, dim=-1)
            at = ((i, before), (f, before), (o, after))
            grad_peephole = torch.stack([(a * cells[steps_of]).sum((0, 1)) for a, steps_of in at]).permute(0, 3, 1, 2)
        grad_hidden = None
        if ctx.needs_input_grad[3]:
            first_BGYX = grad_gates[-1 if ctx.reverse else 0].permute(0, 3, 1, 2)
            shape = (num_batch, hidden.shape[-1], height, width)
            grad_hidden = grad.conv2d_input(shape, weight.to(hidden.dtype), first_BGYX, padding=1).permute(0, 2, 3, 1)
        return grad_gates, grad_weight, grad_peephole, grad_hidden, of_cell, None, None, None


def _grad_weight(before_NHYX: Tensor, grad_NGYX: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the state's weights: of one convolution of all steps."""
    ones, zeros = [1, 1], [0, 0]
    found = torch.ops.aten.convolution_backward(
        grad_NGYX,
        before_NHYX,
        weight.to(before_NHYX.dtype),
        None,
        ones,
        ones,
        ones,
        False,
        zeros,
        1,
        [False, True, False],
    )
    return found[1].to(weight.dtype)


def _launch(
    name: str, arrays: tuple[Tensor, ...], plan: Plan, gates_TBYXG: Tensor, weight: Tensor, **constants: bool
) -> None:
    """Runs a kernel for all images, as many at once as the plan says."""
    from modeling.network import convlstm_triton

    steps, batch, height, width, num_gates = gates_TBYXG.shape
    fast = gates_TBYXG.dtype == torch.bfloat16
    constants |= {"FAST": fast, "PRECISION": "tf32" if fast else "tf32x3"}  # type: ignore[dict-item]
    # Zeros: programs count their steps there.
    flags = torch.zeros(batch, plan.bands, dtype=torch.int32, device=gates_TBYXG.device)
    options = {"num_warps": plan.warps} | ({"launch_cooperative_grid": True} if plan.bands > 1 else {})
    with torch.cuda.device_of(gates_TBYXG):
        for first in range(0, batch, plan.images):
            grid = (min(plan.images, batch - first), plan.bands)
            getattr(convlstm_triton, name)[grid](
                *arrays,
                flags,
                first,
                steps,
                batch,
                height,
                width,
                plan.rows,
                *weight.stride(),
                H=num_gates // 4,
                WIDE=plan.wide,
                TAPS=max(1, DEPTH // plan.wide),
                PIXELS=plan.pixels,
                BANDS=plan.bands,
                **constants,
                **options,
            )


def lstm(x_TBCYX: Tensor, weights: Weights, state: State | None, *, reverse: bool = False) -> tuple[Tensor, Tensor]:
    """Hidden states of a layer with kernels of one pixel, as an LSTM over all pixels of the batch, in float32.

    cuDNN would keep the cell in the type of the input, and a cell in bfloat16 loses small contributions.

    Arguments and result as of `convlstm`, without peepholes and strides.
    """
    _, num_batch, _, height, width = x_TBCYX.shape
    with torch.autocast(x_TBCYX.device.type, enabled=False):
        rows_TNC = x_TBCYX.float().permute(0, 1, 3, 4, 2).flatten(1, 3)
        parameters = _as_lstm(weights)
        if state is None:
            first = (rows_TNC.new_zeros(1, rows_TNC.shape[1], weights.of_state.shape[1]),) * 2
        else:
            first = tuple(a.float().permute(0, 2, 3, 1).flatten(0, 2)[None] for a in state)  # type: ignore[assignment]
        rows_TNC = rows_TNC.flip(0) if reverse else rows_TNC
        h_TNH, _, cell_1NH = torch.lstm(
            rows_TNC, first, parameters, True, 1, 0.0, torch.is_grad_enabled(), False, False
        )
        h_TNH = h_TNH.flip(0) if reverse else h_TNH
    h_TBYXH = h_TNH.unflatten(1, (num_batch, height, width))
    return h_TBYXH.permute(0, 1, 4, 2, 3), cell_1NH[0].unflatten(0, (num_batch, height, width)).permute(0, 3, 1, 2)


def _as_lstm(weights: Weights) -> list[Tensor]:
    """Parameters of an LSTM, whose gates are in the order i, f, g, o, as parts of one tensor.

    cuDNN takes them from one buffer, and else copies them there in each call, with a warning.
    """
    ordered = []
    for values in (weights.of_input.flatten(1), weights.of_state.flatten(1), weights.bias):
        i, f, o, g = values.float().chunk(4)
        ordered.append(torch.cat([i, f, g, o]))
    ordered.append(torch.zeros_like(ordered[-1]))
    buffer = torch.cat([values.flatten() for values in ordered])
    parts = buffer.split([values.numel() for values in ordered])
    return [part.view_as(values) for part, values in zip(parts, ordered, strict=True)]


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
