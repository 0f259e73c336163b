"""ConvLSTM layers on a GPU, with kernels of 3 x 3 or of one pixel, as differentiable functions of tensors.

Shapes: T steps, B batch, C channels in, H hidden channels, Y and X spaxels, G = 4 H gates. Arrays are channels last.
Around the kernel, the convolution of the input for all steps is one call, and the gradient of the weights, too.
"""

import functools
import logging
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional, grad

from modeling.network import convlstm_cluster
from modeling.network.convlstm_cluster import ClusterPlan
from modeling.network.convlstm_cpu import Weights
from modeling.network.triton_support import has_triton, power_of_two

logger = logging.getLogger(__name__)

State = tuple[Tensor, Tensor]

# Shared memory that the largest program takes; an A100 has 163 KiB, an H100 227 KiB.
SHARED_BYTES = 160 * 1024
# The largest states whose weights and neighbours fit into it: hidden channels, and pixels x channels of a program.
LARGEST = {torch.bfloat16: (32, 4096), torch.float32: (16, 1024)}
# Columns of the neighbours in one product: a row of 64 numbers in bfloat16 is the longest that is swizzled as one.
DEPTH = 64
# Pixels x channels above which a program of a whole image is slower than several that wait for each other at each step,
# and down to which smaller ones of those are faster: measured on an H200.
STATES_ALONE = 1024
STATES_OF_BAND = 512
STATES_PER_WARP = 512
# Of a program whose pixels have no neighbours.
PIXELS_ALONE = 64
# Bits of a value that was not written yet: a NaN that no operation of a GPU returns.
UNWRITTEN = -1
# Products in bfloat16, which `FAST` marks too.
CAPABILITY = (8, 0)
# Whether `convlstm_cluster` takes the layers that it can.
USE_CLUSTERS = os.environ.get("CUBESCOUT_CLUSTERS") != "0"


class Layer(NamedTuple):
    """Properties that decide how a layer runs; shapes are those of the state."""

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

    @property
    def taps(self) -> int:
        """Neighbours of one product."""
        return max(1, DEPTH // self.wide)

    def waits(self, alone: bool) -> bool:
        """Whether programs wait for the values of others; not if pixels have no neighbours (`alone`)."""
        return self.bands > 1 and not alone

    @classmethod
    def of(cls, layer: Layer, multiprocessors: int, largest: int | None = None) -> "Plan | None":
        """Plan for a layer, or None if it does not fit.

        Args:
            layer: the layer.
            multiprocessors: of the device; programs that wait for each other must all run at once, one on each.
            largest: pixels of a program; by default as many as fit.
        """
        most_hidden, states = LARGEST[layer.kind]
        wide = power_of_two(max(16, layer.hidden))
        if layer.kernel_size == 1:
            return cls._alone(layer, wide, largest) if layer.hidden <= most_hidden else None
        most = min(largest or states, states // wide)
        rows = min(layer.height, most // layer.width)
        if layer.hidden > most_hidden or not rows:
            return None
        bands = -(-layer.height // rows)
        # With half of the multiprocessors idle, programs of half the size.
        while 2 * bands * layer.batch <= multiprocessors and rows > 1:
            if rows * layer.width * wide <= (STATES_ALONE if bands == 1 else STATES_OF_BAND):
                break
            rows = -(-rows // 2)
            bands = -(-layer.height // rows)
        if bands > multiprocessors:
            return None
        pixels = power_of_two(max(16, rows * layer.width))
        warps = min(8, max(4, pixels * wide // STATES_PER_WARP))
        return cls(rows, bands, pixels, wide, warps, layer.batch if bands == 1 else multiprocessors // bands)

    @classmethod
    def _alone(cls, layer: Layer, wide: int, largest: int | None) -> "Plan":
        """Plan for pixels without neighbours: all of a batch are rows of one image, and no program waits."""
        pixels = largest or PIXELS_ALONE
        return cls(pixels, -(-layer.batch * layer.height * layer.width // pixels), pixels, wide, 4, 1)


@functools.cache
def why_not(layer: Layer) -> str:
    """Why a layer runs on PyTorch's operations, in words; empty if it does not. Each choice is logged once."""
    reason = _why_not(layer)
    text = f"ConvLSTM of {layer.hidden} channels at {layer.height} x {layer.width} pixels in {layer.kind}"
    way = f"runs on PyTorch's operations: {reason}" if reason else "runs in one kernel for all steps"
    if not reason and isinstance(_plan(layer), ClusterPlan):
        way += ", on clusters"
    logger.info("%s, batch %d: %s", text, layer.batch, way)
    return reason


def _why_not(layer: Layer) -> str:
    if layer.kernel_size not in (1, 3):
        return f"its kernel has {layer.kernel_size} x {layer.kernel_size} pixels, not 1 or 3 x 3"
    if layer.kind not in LARGEST:
        return "kernels are for float32 and bfloat16"
    if layer.kernel_size == 1 and layer.peepholes:
        return "its kernel has one pixel, and it has peepholes"
    if not has_triton():
        return "Triton is not installed"
    properties = torch.cuda.get_device_properties(layer.device)
    shared = getattr(properties, "shared_memory_per_block_optin", 0)
    if torch.version.cuda is None or (properties.major, properties.minor) < CAPABILITY or shared < SHARED_BYTES:
        return "the kernel needs an NVIDIA GPU of compute capability 8.0 with 160 KiB of shared memory"
    if _plan(layer) is None:
        return "its state does not fit on a multiprocessor"
    return _failure(layer)


def _failure(layer: Layer, plan: Plan | ClusterPlan | None = None) -> str:
    """Error of the kernel in a trial of two steps, in words; empty if it runs, and is then compiled."""
    shape = layer.batch, 1, layer.height, layer.width

    def make(*shape: int) -> Tensor:
        # Not random: the trial must not change the draws of a training.
        return torch.full(shape, 0.1, device=layer.device, requires_grad=True)

    with torch.inference_mode(False), torch.enable_grad():
        side = layer.kernel_size
        of_input, of_state = (make(4 * layer.hidden, channels, side, side) for channels in (1, layer.hidden))
        peephole = make(3, layer.hidden, *shape[2:]) if layer.peepholes else None
        weights = Weights(of_input, of_state, make(4 * layer.hidden), peephole)
        try:
            out_TBHYX, _ = convlstm(make(2, *shape), weights, None, kind=layer.kind, plan=plan)
            out_TBHYX.float().sum().backward()
            finite = bool(out_TBHYX.isfinite().all()) and bool(of_state.grad.isfinite().all())  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001 - whatever it is, PyTorch's operations can do it
            return f"the kernel failed: {type(error).__name__}: {error}".splitlines()[0]
    return "" if finite else "the kernel gives results that are not finite"


@functools.cache
def _plan(layer: Layer) -> Plan | ClusterPlan | None:
    """Plan for a layer on its device; on a CPU, where Triton's interpreter runs it, as if that had 132 processors."""
    if layer.device.type != "cuda":
        return Plan.of(layer, 132)
    properties = torch.cuda.get_device_properties(layer.device)
    if USE_CLUSTERS and (properties.major, properties.minor) >= convlstm_cluster.CAPABILITY:
        plan = cluster_plan(layer, properties.multi_processor_count)
        if plan and not (reason := _failure(layer, plan)):
            return plan
        if plan:
            logger.warning("a ConvLSTM of %d channels does not run on clusters: %s", layer.hidden, reason)
    return Plan.of(layer, properties.multi_processor_count)


def cluster_plan(layer: Layer, multiprocessors: int) -> ClusterPlan | None:
    """Plan of `convlstm_cluster` for a layer; None if it has none."""
    if layer.kernel_size != 3 or layer.peepholes or layer.kind != torch.bfloat16:
        return None
    return ClusterPlan.of(layer.hidden, layer.height, layer.width, layer.batch, multiprocessors)


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
    plan: Plan | ClusterPlan | None = None,
) -> tuple[Tensor, Tensor]:
    """Hidden states of a layer over all steps.

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
    num_hidden, side = weights.of_state.shape[1], weights.of_state.shape[-1]
    layer = describe(x_TBCYX, kind, hidden=num_hidden, kernel_size=side, stride=stride, peepholes=False)
    plan = plan or _plan(layer)
    assert plan is not None
    with torch.autocast(x_TBCYX.device.type, enabled=False):
        x_NCYX = x_TBCYX.flatten(0, 1).to(kind).contiguous(memory_format=torch.channels_last)
        of_input, bias, of_state = weights.of_input.to(kind), weights.bias.to(kind), weights.of_state
        if isinstance(plan, ClusterPlan):
            of_input, bias, of_state = map(convlstm_cluster.side_by_side, (of_input, bias, of_state))
        gates_NGYX = functional.conv2d(x_NCYX, of_input, bias, stride, padding=side // 2)
        gates_TBYXG = gates_NGYX.permute(0, 2, 3, 1).contiguous().unflatten(0, (num_steps, num_batch))
        hidden, cell = (a.permute(0, 2, 3, 1) for a in state) if state else (None, None)
        out_TBYXH, cell_BYXH = _ConvLSTM.apply(
            gates_TBYXG, of_state, weights.peephole, hidden, cell, plan, reverse, torch.is_grad_enabled()
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
        plan: Plan | ClusterPlan,
        reverse: bool,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        steps, *shape = gates_TBYXG.shape
        shape[-1] //= 4
        start, alone = -1 if reverse else 0, weight.shape[-1] == 1
        # One step more than the output, for the state before the first.
        hidden = shared(gates_TBYXG.new_empty(steps + 1, *shape), isinstance(plan, Plan) and plan.waits(alone))
        # The cells of all steps serve the backward pass alone.
        cells = gates_TBYXG.new_empty(steps + 1 if keep else 1, *shape, dtype=torch.float32)
        for array, value in ((hidden, hidden_BYXH), (cells, cell_BYXH)):
            array[start].zero_() if value is None else array[start].copy_(value)
        peephole = None if peephole_3HYX is None else peephole_3HYX.float().permute(0, 2, 3, 1).contiguous()
        packed = None
        # `gates` is ours: its values are replaced by those after activation, which the backward pass needs.
        if isinstance(plan, ClusterPlan):
            convlstm_cluster.forward(plan, gates_TBYXG, hidden, cells, weight, reverse=reverse, keep=keep)
        else:
            packed = pack(weight.detach(), plan, gates_TBYXG.dtype)
            arrays = (gates_TBYXG, hidden, cells, packed, cells if peephole is None else peephole)
            _launch("forward", arrays, plan, ALONE=alone, REVERSE=reverse, KEEP=keep, PEEPHOLE=peephole is not None)
        if keep:
            ctx.save_for_backward(gates_TBYXG, hidden, cells, weight, packed, peephole)
            ctx.plan, ctx.reverse = plan, reverse
        return (hidden[:-1] if reverse else hidden[1:]), cells[0 if reverse else -1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TBYXH: Tensor, grad_cell_BYXH: Tensor) -> tuple[Tensor | None, ...]:
        gates, hidden, cells, weight, packed, peephole = ctx.saved_tensors
        num_batch, height, width = gates.shape[1:4]
        # A new array, not `gates`: a graph that is retained may be run backwards again.
        grad_gates = torch.empty_like(gates)
        grad_cell = grad_cell_BYXH.clone(memory_format=torch.contiguous_format)
        arrays = (gates, cells, grad_TBYXH.contiguous(), grad_cell, grad_gates)
        if isinstance(ctx.plan, ClusterPlan):
            convlstm_cluster.backward(ctx.plan, *arrays, weight, reverse=ctx.reverse)
        else:
            alone = weight.shape[-1] == 1
            parts = hidden.new_empty(2, 0 if alone else num_batch, 9, height, width, hidden.shape[-1])
            shared(parts, ctx.plan.waits(alone))
            rest = (parts, packed, cells if peephole is None else peephole)
            flags = {"ALONE": alone, "REVERSE": ctx.reverse, "PEEPHOLE": peephole is not None}
            _launch("backward", (*arrays, *rest), ctx.plan, **flags)
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
            padding = weight.shape[-1] // 2
            grad_hidden = grad.conv2d_input(shape, weight.to(hidden.dtype), first_BGYX, padding=padding)
            grad_hidden = grad_hidden.permute(0, 2, 3, 1)
        return grad_gates, grad_weight, grad_peephole, grad_hidden, of_cell, None, None, None


def shared(values: Tensor, waits: bool) -> Tensor:
    """Memory through which programs pass values on; if they wait for them, it is filled with UNWRITTEN."""
    if waits:
        values.view(torch.int16 if values.itemsize == 2 else torch.int32).fill_(UNWRITTEN)
    return values


def _grad_weight(before_NHYX: Tensor, grad_NGYX: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the state's weights: of one convolution of all steps."""
    if weight.shape[-1] == 1:
        before_NH, grad_NG = (a.permute(0, 2, 3, 1).flatten(0, 2) for a in (before_NHYX, grad_NGYX))
        return (grad_NG.T @ before_NH)[:, :, None, None].to(weight.dtype)
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


def pack(weight: Tensor, plan: Plan, kind: torch.dtype) -> Tensor:
    """Weights of the state as the kernels read them, [neighbour, WIDE, 4, WIDE]; zeros where they only fill it."""
    num_hidden, num_taps = weight.shape[1], weight[0, 0].numel()
    num_padded = 1 if num_taps == 1 else -(-num_taps // plan.taps) * plan.taps
    packed = weight.new_zeros(num_padded, plan.wide, 4, plan.wide, dtype=kind)
    by_gate = weight.reshape(4, num_hidden, num_hidden, num_taps)
    packed[:num_taps, :num_hidden, :, :num_hidden] = by_gate.permute(3, 2, 0, 1)
    return packed


def _launch(name: str, arrays: tuple[Tensor, ...], plan: Plan, *, ALONE: bool, **constants: bool) -> None:
    """Runs a kernel for all images, as many at once as the plan says; the first array is that of the gates."""
    from modeling.network import convlstm_triton

    steps, batch, height, width, num_gates = arrays[0].shape
    fast = arrays[0].dtype == torch.bfloat16
    constants |= {"FAST": fast, "PRECISION": "tf32" if fast else "tf32x3"}  # type: ignore[dict-item]
    if ALONE:
        batch, height, width = 1, batch * height * width, 1
    waits = plan.waits(ALONE)
    options = {"num_warps": plan.warps} | ({"launch_cooperative_grid": True} if waits else {})
    with torch.cuda.device_of(arrays[0]):
        for first in range(0, batch, plan.images):
            grid = (min(plan.images, batch - first), plan.bands)
            getattr(convlstm_triton, name)[grid](
                *arrays,
                first,
                steps,
                batch,
                height,
                width,
                plan.rows,
                H=num_gates // 4,
                WIDE=plan.wide,
                TAPS=1 if ALONE else plan.taps,
                PIXELS=plan.pixels,
                BANDS=plan.bands if waits else 1,
                ALONE=ALONE,
                **constants,
                **options,
            )
