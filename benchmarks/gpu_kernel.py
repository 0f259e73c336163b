"""Times of the ConvLSTM's kernel alone, for `benchmarks.gpu`."""

import functools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from modeling.network import convlstm_cluster, convlstm_gpu
from modeling.network.convlstm import ConvLSTM
from modeling.network.convlstm_cluster import ClusterPlan
from modeling.network.convlstm_gpu import Plan


class Clock(Protocol):
    """Parts of `benchmarks.gpu.Run` that are used here."""

    device: str
    end: float

    @property
    def cuda(self) -> bool:
        """Whether there is a GPU."""

    def milliseconds(self, action: Callable[[], object], repeats: int = 10) -> float:
        """Median time of an action on the device."""

    def replayed(self, action: Callable[[], object]) -> Callable[[], object]:
        """The action as a CUDA graph; itself without a GPU."""


@dataclass(frozen=True)
class LayerTimes:
    """Times of one layer.

    Attributes:
        forward_ms: of the forward launch.
        backward_ms: of the backward launch.
        forward_bytes: least bytes that the forward launch moves to and from memory.
        backward_bytes: likewise.
        steps: of the sequence.
        plan: of the launches.
    """

    forward_ms: float
    backward_ms: float
    forward_bytes: int
    backward_bytes: int
    steps: int
    plan: Plan | ClusterPlan

    def limits_ms(self, bandwidth_tb_s: float, launch_us: float) -> tuple[float, float]:
        """Least times: bytes over bandwidth, or a launch for each step."""
        launches = self.steps * launch_us / 1e3
        forward, backward = (max(n / bandwidth_tb_s / 1e9, launches) for n in (self.forward_bytes, self.backward_bytes))
        return forward, backward

    def share(self, bandwidth_tb_s: float, launch_us: float) -> float:
        """Least time over the measured time."""
        return sum(self.limits_ms(bandwidth_tb_s, launch_us)) / (self.forward_ms + self.backward_ms)


def time_layer(run: Clock, layer: ConvLSTM, shape: tuple[int, ...], plan: Plan | None = None) -> LayerTimes | str:
    """Times of Triton's launches of a layer in bfloat16 (float32 on a CPU), or the reason why there are none."""
    kind = torch.bfloat16 if run.cuda else torch.float32
    stride, hidden = layer.of_input.stride[0], layer.hidden_channels
    x = torch.empty(shape, device=run.device)
    described = convlstm_gpu.describe(x, kind, hidden=hidden, kernel_size=3, stride=stride, peepholes=False)
    if run.cuda and (reason := convlstm_gpu.why_not(described)):
        return reason
    if not run.cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return "on a CPU it needs TRITON_INTERPRET=1"
    plan = plan or Plan.of(described, _multiprocessors(run))
    if plan is None or (not run.cuda and plan.bands > 1):
        return "its programs would have to run side by side"
    return _time(run, layer, (shape[0], described.batch, described.height, described.width), kind, plan)


def time_clusters(run: Clock, layer: ConvLSTM, shape: tuple[int, ...]) -> LayerTimes | str:
    """Times of the launches of a layer on clusters of multiprocessors, or the reason why there are none."""
    if not run.cuda or torch.cuda.get_device_capability() < convlstm_cluster.CAPABILITY:
        return "this device has no clusters"
    x, options = torch.empty(shape, device=run.device), {"hidden": layer.hidden_channels, "kernel_size": 3}
    described = convlstm_gpu.describe(x, torch.bfloat16, stride=layer.of_input.stride[0], peepholes=False, **options)
    plan = convlstm_gpu.cluster_plan(described, _multiprocessors(run))
    if plan is None:
        return "its state does not fit"
    return _time(run, layer, (shape[0], described.batch, plan.height, plan.width), torch.bfloat16, plan)


def _multiprocessors(run: Clock) -> int:
    return torch.cuda.get_device_properties(0).multi_processor_count if run.cuda else 132


def _time(
    run: Clock, layer: ConvLSTM, sizes: tuple[int, int, int, int], kind: torch.dtype, plan: Plan | ClusterPlan
) -> LayerTimes:
    steps, hidden, weight = sizes[0], layer.hidden_channels, layer.of_state.weight.detach().to(run.device)
    gates, states = (torch.randn(*sizes, n, device=run.device, dtype=kind) for n in (4 * hidden, hidden))
    out = torch.zeros(steps + 1, *states.shape[1:], device=run.device, dtype=kind)
    cells, grad_cell = out.float(), torch.zeros(*states.shape[1:], device=run.device)
    grad_gates = torch.empty_like(gates)
    bytes_moved = 2 * gates.nbytes + states.nbytes + cells.nbytes
    if isinstance(plan, ClusterPlan):
        of_forward = (gates, out, cells, convlstm_cluster.pack(weight, backward=False))
        of_backward = (gates, cells, states, grad_cell, grad_gates, convlstm_cluster.pack(weight, backward=True))
        launch = functools.partial(convlstm_cluster.launch, plan=plan, sizes=sizes[:2], reverse=False, keep=True)
        times = (
            _in_a_graph(run, functools.partial(launch, "forward", arrays=of_forward)),
            _in_a_graph(run, functools.partial(launch, "backward", arrays=of_backward)),
        )
        return LayerTimes(*times, bytes_moved, bytes_moved, steps, plan)
    waits = plan.waits(weight.shape[-1] == 1)
    parts = torch.empty(2, sizes[1], 9, *states.shape[2:], device=run.device, dtype=kind)
    packed = convlstm_gpu.pack(weight, plan, kind)
    constants = {"ALONE": weight.shape[-1] == 1, "REVERSE": False, "PEEPHOLE": False}

    def forward() -> None:
        convlstm_gpu.shared(out[1:], waits)
        convlstm_gpu._launch("forward", (gates, out, cells, packed, cells), plan, KEEP=True, **constants)

    def backward() -> None:
        convlstm_gpu.shared(parts, waits)
        arrays = (gates, cells, states, grad_cell, grad_gates, parts, packed, cells)
        convlstm_gpu._launch("backward", arrays, plan, **constants)

    return LayerTimes(_in_a_graph(run, forward), _in_a_graph(run, backward), bytes_moved, bytes_moved, steps, plan)


def _in_a_graph(run: Clock, action: Callable[[], object]) -> float:
    """Milliseconds of an action recorded several times in a graph, as in training: without Python's overhead."""
    repeats = 10 if run.cuda else 1
    return run.milliseconds(run.replayed(lambda: [action() for _ in range(repeats)])) / repeats


def sweep(run: Clock, layer: ConvLSTM, shape: tuple[int, ...]) -> Iterator[str]:
    """Times with other sizes of programs and numbers of warps, in words."""
    kind = torch.bfloat16 if run.cuda else torch.float32
    options = {"hidden": layer.hidden_channels, "kernel_size": 3, "stride": layer.of_input.stride[0]}
    described = convlstm_gpu.describe(torch.empty(shape, device=run.device), kind, peepholes=False, **options)
    for largest in (256, 128, 64) if run.cuda else (256,):
        plan = Plan.of(described, _multiprocessors(run), largest)
        for warps in (4, 8, 16) if run.cuda else (4,):
            if plan is None or time.monotonic() > run.end:
                continue
            try:
                found = time_layer(run, layer, shape, replace(plan, warps=warps))
            except Exception as error:  # noqa: BLE001 - such as too many registers or too much shared memory
                found = f"{type(error).__name__}: {str(error)[:80]}"
            text = found if isinstance(found, str) else f"{found.forward_ms:.3f} ms, {found.backward_ms:.3f} ms"
            yield f"{plan.pixels} pixels, {plan.bands} bands, {warps} warps: {text}"
