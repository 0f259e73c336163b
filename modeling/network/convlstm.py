"""Convolutional LSTM over an ordered sequence of images, written for speed on one device.

Shapes: T steps, B batch, C channels in, H hidden channels, Y and X spaxels. With `*` a convolution and `.` the
elementwise product, one step is (Shi et al. 2015, arXiv:1506.04214; the terms in V, the peepholes, are optional, since
Keras has none):

    i_t = sigmoid(Wi * x_t + Ui * h_{t-1} + Vi . c_{t-1} + bi)        input gate
    f_t = sigmoid(Wf * x_t + Uf * h_{t-1} + Vf . c_{t-1} + bf)        forget gate
    g_t = tanh(Wg * x_t + Ug * h_{t-1} + bg)                          candidate
    c_t = f_t . c_{t-1} + i_t . g_t
    o_t = sigmoid(Wo * x_t + Uo * h_{t-1} + Vo . c_t + bo)            output gate
    h_t = o_t . tanh(c_t)

with h_0 = c_0 = 0 unless a state is given.

On a CPU, in single precision, with 3 x 3 kernels, strides 1 and 2 and a C compiler at hand, all steps are one call of
`convlstm_cpu`; on an NVIDIA GPU, with Triton, one launch of `convlstm_gpu`. Everything else runs on PyTorch's
operations: there the terms in x, which do not depend on the recurrence, come from one convolution for all steps.
`docs/convlstm.md` has the figures.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from modeling.network import convlstm_cpu, convlstm_gpu

State = tuple[Tensor, Tensor]

_kernel_allowed = ContextVar("kernel_allowed", default=True)


@contextmanager
def pytorch_only() -> Iterator[None]:
    """Context in which layers run on PyTorch's operations alone, which tools that count or trace them can see."""
    token = _kernel_allowed.set(False)
    try:
        yield
    finally:
        _kernel_allowed.reset(token)


class ConvLSTM(nn.Module):
    """One ConvLSTM layer; a stride above 1 shrinks the images in the convolution of the input."""

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        peephole_size: tuple[int, int] | None = None,
        reverse: bool = False,
        checkpoint_steps: int | None = None,
    ) -> None:
        """Makes the layer.

        Args:
            in_channels: channels of each input image.
            hidden_channels: channels of the state, and of the output.
            kernel_size: side of both kernels, odd.
            stride: of the input's convolution; images of Y x X become Y / stride x X / stride, rounded up.
            peephole_size: (Y, X) of the state, for peepholes, which start at zero; None for none.
            reverse: from the last step to the first; the output keeps the order of the input.
            checkpoint_steps: number of steps of which only the last state is kept for the backward pass, which repeats
                them: less memory for about a third more time. None keeps all.

        Raises:
            ValueError: the kernel's side is even, which would shift the image; or a number is not positive.
        """
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}, expected an odd number")
        if checkpoint_steps is not None and checkpoint_steps < 1:
            raise ValueError(f"checkpoint_steps is {checkpoint_steps}, expected at least 1, or None")
        padding = kernel_size // 2
        self.hidden_channels = hidden_channels
        self.reverse, self.checkpoint_steps = reverse, checkpoint_steps
        self.of_input = nn.Conv2d(in_channels, 4 * hidden_channels, kernel_size, stride=stride, padding=padding)
        self.of_state = nn.Conv2d(hidden_channels, 4 * hidden_channels, kernel_size, padding=padding, bias=False)
        # Of the gates i, f, o. The candidate g has none.
        self.peephole_3HYX = nn.Parameter(torch.zeros(3, hidden_channels, *peephole_size)) if peephole_size else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the forget gate's bias to 1, so that a new layer keeps its cell (Jozefowicz et al. 2015)."""
        bias = self.of_input.bias
        assert bias is not None
        with torch.no_grad():
            bias.zero_()
            bias[self.hidden_channels : 2 * self.hidden_channels] = 1.0

    def forward(self, x_TBCYX: Tensor) -> Tensor:
        """Hidden states h_TBHYX after each step, from a state of zeros."""
        return self.run(x_TBCYX)[0]

    def run(self, x_TBCYX: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Hidden states of all steps and the final state, from a given state, or zeros if None.

        Args:
            x_TBCYX: the sequence of images.
            state: h_BHYX and c_BHYX before the first step.

        Returns:
            h_TBHYX, the hidden state after each step, and (h_BHYX, c_BHYX) after the last one.

        Raises:
            ValueError: the sequence has no steps, or its images do not fit the peepholes.
        """
        self._check(x_TBCYX)
        span = self.checkpoint_steps
        if span is None or not torch.is_grad_enabled():
            return self._run(x_TBCYX, state)
        outputs = []
        for part_TBCYX in self._in_order(x_TBCYX.split(span)):
            h_TBHYX, state = checkpoint(self._run, part_TBCYX, state, use_reentrant=False)
            outputs.append(h_TBHYX)
        assert state is not None
        return torch.cat(self._in_order(outputs)), state

    def _run(self, x_TBCYX: Tensor, state: State | None) -> tuple[Tensor, State]:
        kind = self._fits_gpu(x_TBCYX)
        if kind is None and not self._fits_kernel(x_TBCYX):
            return self._run_steps(x_TBCYX, state)
        bias = self.of_input.bias
        assert bias is not None
        weights = convlstm_cpu.Weights(self.of_input.weight, self.of_state.weight, bias, self.peephole_3HYX)
        stride = self.of_input.stride[0]
        if kind is None:
            if self.of_input.kernel_size == (1, 1):  # more products, but all steps in one call
                of_input, of_state = (functional.pad(a, (1, 1, 1, 1)) for a in (weights.of_input, weights.of_state))
                weights = weights._replace(of_input=of_input, of_state=of_state)
            found = convlstm_cpu.convlstm(x_TBCYX, weights, state, stride=stride, reverse=self.reverse)
        else:
            found = convlstm_gpu.convlstm(x_TBCYX, weights, state, kind=kind, stride=stride, reverse=self.reverse)
        h_TBHYX, cell_BHYX = found
        return h_TBHYX, (h_TBHYX[0 if self.reverse else -1], cell_BHYX)

    def _run_steps(self, x_TBCYX: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Result of `_run` from PyTorch's operations, step by step."""
        num_steps, num_batch = x_TBCYX.shape[:2]
        gates_NGYX = self.of_input(x_TBCYX.flatten(0, 1))
        outputs = []
        # unbind, since the backward pass of x[t] in a loop writes the whole sequence once per step.
        for gates_BGYX in self._in_order(gates_NGYX.unflatten(0, (num_steps, num_batch)).unbind(0)):
            state = self._step(gates_BGYX, state)
            outputs.append(state[0])
        assert state is not None
        return torch.stack(self._in_order(outputs)), state

    def _step(self, gates_BGYX: Tensor, state: State | None) -> State:
        """State after one step; None, a state of zeros, skips the convolution and the forget gate."""
        peephole = self.peephole_3HYX
        if state is None:
            i, _, o, g = gates_BGYX.chunk(4, dim=1)
            cell_BHYX = torch.sigmoid(i) * torch.tanh(g)
        else:
            i, f, o, g = (gates_BGYX + self.of_state(state[0])).chunk(4, dim=1)
            if peephole is not None:
                i, f = i + peephole[0] * state[1], f + peephole[1] * state[1]
            cell_BHYX = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        # The cell is a sum over all steps: in half precision it would lose the small contributions.
        cell_BHYX = cell_BHYX.to(torch.promote_types(cell_BHYX.dtype, torch.float32))
        if peephole is not None:
            o = o + peephole[2] * cell_BHYX
        return torch.sigmoid(o) * torch.tanh(cell_BHYX), cell_BHYX

    def _in_order(self, steps: Sequence[Tensor]) -> list[Tensor]:
        return list(reversed(steps)) if self.reverse else list(steps)

    def _check(self, x_TBCYX: Tensor) -> None:
        if len(x_TBCYX) == 0:
            raise ValueError("the sequence has no steps")
        if self.peephole_3HYX is not None:
            stride = self.of_input.stride[0]
            size, expected = [-(-n // stride) for n in x_TBCYX.shape[-2:]], list(self.peephole_3HYX.shape[-2:])
            if size != expected:
                raise ValueError(f"peepholes are for states of {expected} pixels, these images make {size}")

    def _fits_gpu(self, x_TBCYX: Tensor) -> torch.dtype | None:
        """Type of the products in which `convlstm_gpu` runs this input; None if it does not."""
        if x_TBCYX.device.type != "cuda" or torch.compiler.is_compiling() or not _kernel_allowed.get():
            return None
        kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x_TBCYX.dtype
        layer = convlstm_gpu.describe(
            x_TBCYX,
            kind,
            hidden=self.hidden_channels,
            kernel_size=self.of_input.kernel_size[0],
            stride=self.of_input.stride[0],
            peepholes=self.peephole_3HYX is not None,
        )
        return None if convlstm_gpu.why_not(layer) else kind

    def _fits_kernel(self, x_TBCYX: Tensor) -> bool:
        """Whether `convlstm_cpu` can run this input, and should: not under autocast on a processor with bf16 units."""
        if x_TBCYX.device.type != "cpu" or torch.compiler.is_compiling() or not _kernel_allowed.get():
            return False
        kernel_size, stride = self.of_input.kernel_size, self.of_input.stride
        if not ((kernel_size == (3, 3) and stride in ((1, 1), (2, 2))) or kernel_size == stride == (1, 1)):
            return False
        if torch.is_autocast_enabled("cpu"):
            single = default_precision(x_TBCYX.device) == torch.float32
        else:
            single = all(a.dtype == torch.float32 for a in (x_TBCYX, *self.parameters()))
        return single and convlstm_cpu.available()


class BidirectionalConvLSTM(nn.Module):
    """Two layers, one from the first step to the last and one back: each output depends on all steps."""

    def __init__(self, in_channels: int, hidden_channels: int, **options: Any) -> None:
        """Makes both; the output has 2 H channels, and `options` are those of `ConvLSTM` but for `reverse`."""
        super().__init__()
        self.onward = ConvLSTM(in_channels, hidden_channels, **options)
        self.returning = ConvLSTM(in_channels, hidden_channels, reverse=True, **options)

    def forward(self, x_TBCYX: Tensor) -> Tensor:
        """The hidden states of both directions after each step, [T, B, 2 H, Y, X]."""
        return torch.cat([self.onward(x_TBCYX), self.returning(x_TBCYX)], dim=2)


def stack(
    in_channels: int, hidden_channels: Sequence[int], *, bidirectional: bool = False, **options: Any
) -> nn.Sequential:
    """Stack of layers, one for each entry of `hidden_channels`; `options` are those of `ConvLSTM` and go to all."""
    kind, directions = (BidirectionalConvLSTM, 2) if bidirectional else (ConvLSTM, 1)
    widths = [in_channels, *(directions * width for width in hidden_channels)]
    return nn.Sequential(*(kind(a, b // directions, **options) for a, b in pairwise(widths)))


def default_precision(device: torch.device | str) -> torch.dtype:
    """Precision to train a ConvLSTM in: bfloat16 where the device has matrix units for it, else float32.

    A CPU must have AMX: without it, products in bf16 are no faster than in float32 or are emulated (on AVX2 fourteen
    times slower), while the float32 kernel needs a quarter of the products.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has_amx = device.type == "cpu" and getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    return torch.bfloat16 if has_amx else torch.float32
