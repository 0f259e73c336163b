"""Launches of the CUDA kernel `convlstm_cluster.cu`: ConvLSTM layers on clusters of multiprocessors, in bfloat16.

Shapes as in `convlstm_gpu`. Kernels are compiled for one shape each by NVRTC, which comes with PyTorch for CUDA; that
takes less than a second. Clusters need an NVIDIA GPU of compute capability 9.0 (H100, H200) or above.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_suffix(".cu")
CAPABILITY = (9, 0)
HIDDEN = (16, 32)
# Blocks of an image; larger clusters need not fit on a device.
BANDS = (1, 2, 4, 8)
MOST_WARPS = 8
# Share of the multiprocessors that clusters of eight can fill: multiprocessors come in groups of up to 18, so 16
# clusters do not fit on the 132 of an H200. Beyond it, two blocks must share a multiprocessor, with half of the warps
# each.
CROWDED = 7 / 8
# Tiles of a warp that its registers hold, by hidden channels.
MOST_TILES = {16: 4, 32: 2}
# Bytes of shared memory: of a block's two barriers, and of a block on an H100.
BARRIERS = 16
MOST_BYTES = 227 * 1024


@dataclass(frozen=True)
class ClusterPlan:
    """Blocks and warps of a launch, for which the kernel is compiled.

    Attributes:
        hidden: channels of the state.
        height: of an image in pixels.
        width: of an image in pixels.
        rows: of an image that one block takes.
        bands: blocks of an image, which are a cluster.
        tiles: of 16 pixels that one warp takes.
    """

    hidden: int
    height: int
    width: int
    rows: int
    bands: int
    tiles: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * (self.hidden // 8) * math.ceil(math.ceil(self.rows * self.width / 16) / self.tiles)

    def bytes(self, name: str) -> int:
        """Shared memory of a block of the kernel `forward` or `backward`."""
        pixels = (self.rows + 2) * (self.width + 2)
        if name == "forward":
            return BARRIERS + 2 * pixels * (2 * self.hidden + 16)
        return BARRIERS + 2 * pixels * (8 * self.hidden + 16) + self.threads * self.tiles * self.hidden // 8 * 16

    def fits(self) -> bool:
        """Whether a block has enough registers and shared memory."""
        few = self.tiles <= MOST_TILES[self.hidden] and self.threads <= 32 * MOST_WARPS
        return few and max(self.bytes("forward"), self.bytes("backward")) <= MOST_BYTES

    @classmethod
    def of(cls, hidden: int, height: int, width: int, batch: int, multiprocessors: int) -> "ClusterPlan | None":
        """Plan for a batch of images, or None if there is none: as many bands as there are multiprocessors for."""
        if hidden not in HIDDEN:
            return None
        plans: list[ClusterPlan] = []
        for bands in BANDS:
            rows = math.ceil(height / bands)
            crowded = bands == 8 and CROWDED * multiprocessors < bands * batch <= multiprocessors
            groups = (MOST_WARPS // 2 if crowded else MOST_WARPS) // (hidden // 8)
            tiles = math.ceil(math.ceil(rows * width / 16) / groups)
            plan = cls(hidden, height, width, rows, bands, tiles)
            # Bands of less than a product's 16 pixels would idle.
            idle = bands > 1 and (2 * rows * width <= 16 or bands * batch > multiprocessors)
            if plan.fits() and not (plans and idle):
                plans.append(plan)
        return plans[-1] if plans else None

    def defines(self, *, reverse: bool, keep: bool) -> dict[str, int]:
        """Values for the preprocessor."""
        names = {"HIDDEN": self.hidden, "HEIGHT": self.height, "WIDTH": self.width, "ROWS": self.rows}
        return names | {"BANDS": self.bands, "REPEAT": self.tiles, "REVERSE": int(reverse), "KEEP": int(keep)}


def side_by_side(by_gate: Tensor) -> Tensor:
    """Rows [4 H, ...] of the four gates in the kernel's order: those of a channel are neighbours."""
    return by_gate.unflatten(0, (4, -1)).transpose(0, 1).flatten(0, 1)


def pack(weight_GHkk: Tensor, *, backward: bool) -> Tensor:
    """Weights of the state in the order in which lanes of a warp hold them as right factors of products.

    Lane n * 4 + j holds column n of each factor [16, 8], rows 2 j, 2 j + 1, 2 j + 8 and 2 j + 9. The rows of the
    weights are `side_by_side`.
    """
    parts, chunks = weight_GHkk.shape[1] // 8, weight_GHkk.shape[1] // 16
    if backward:
        # Rows are the gates of the eight channels of a part, columns channels of the state.
        by_lane = weight_GHkk.reshape(parts, 2, 2, 4, 2, parts, 8, 9).permute(0, 7, 1, 6, 3, 5, 2, 4)
    else:
        # Rows are channels of the neighbours, columns one gate of the eight channels of a part.
        by_lane = weight_GHkk.reshape(parts, 8, 4, chunks, 2, 4, 2, 9).permute(0, 7, 3, 1, 5, 2, 4, 6)
    return by_lane.detach().to(torch.bfloat16).contiguous()


def forward(
    plan: ClusterPlan,
    gates_TBYXG: Tensor,
    hidden_TBYXH: Tensor,
    cells_TBYXH: Tensor,
    weight_GHkk: Tensor,
    *,
    reverse: bool,
    keep: bool,
) -> None:
    """Hidden states of all steps, as `convlstm_triton.forward`; `hidden` and `cells` have a step more than `gates`.

    Gates, in the last dimension, and the weights are `side_by_side`.
    """
    arrays = (gates_TBYXG, hidden_TBYXH, cells_TBYXH, pack(weight_GHkk, backward=False))
    launch("forward", plan, arrays, gates_TBYXG.shape[:2], reverse=reverse, keep=keep)


def backward(
    plan: ClusterPlan,
    gates_TBYXG: Tensor,
    cells_TBYXH: Tensor,
    grad_hidden_TBYXH: Tensor,
    grad_cell_BYXH: Tensor,
    grad_gates_TBYXG: Tensor,
    weight_GHkk: Tensor,
    *,
    reverse: bool,
) -> None:
    """Gradients of the gates before their activation, and of the first cell in place of that of the last."""
    arrays = (gates_TBYXG, cells_TBYXH, grad_hidden_TBYXH, grad_cell_BYXH, grad_gates_TBYXG)
    launch(
        "backward", plan, (*arrays, pack(weight_GHkk, backward=True)), gates_TBYXG.shape[:2], reverse=reverse, keep=True
    )


def launch(
    name: str, plan: ClusterPlan, arrays: tuple[Tensor, ...], sizes: tuple[int, ...], *, reverse: bool, keep: bool
) -> None:
    """Runs a kernel on the current stream; the arrays, and the numbers of steps and images, are its arguments."""
    steps, batch = sizes
    with torch.cuda.device(arrays[0].device):
        kernel = _compiled(name, plan, torch.cuda.current_device(), reverse, keep)
        kernel((plan.bands * batch, 1, 1), (plan.threads, 1, 1), [*arrays, steps, batch], plan.bytes(name))


@functools.cache
def _compiled(name: str, plan: ClusterPlan, device: int, reverse: bool, keep: bool) -> Any:
    """Kernel for a plan on the current device, whose number is `device`."""
    defines = [f"-D{key}={value}" for key, value in plan.defines(reverse=reverse, keep=keep).items()]
    kernel = torch.cuda._compile_kernel(SOURCE.read_text(), name, nvcc_options=defines)
    kernel.set_shared_memory_config(plan.bytes(name))
    return kernel
