"""The ConvLSTM as it is usually written: reference for tests and timings of ours."""

import torch
from torch import Tensor
from torch.nn import functional


def naive(
    x_TBCYX: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    peephole_3HYX: Tensor | None = None,
    stride: int = 1,
    state: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Step by step, one convolution of input and state side by side; h_TBHYX after each step.

    Args:
        x_TBCYX: the input.
        weight: [4 H, C + H, kernel, kernel], rows in the order of the gates i, f, o, g.
        bias: [4 H].
        peephole_3HYX: of the gates i, f, o.
        stride: of the input's part of the convolution; above 1 there are two convolutions.
        state: h and c before the first step; zeros if None.
    """
    num_channels, num_hidden, padding = x_TBCYX.shape[2], len(weight) // 4, weight.shape[-1] // 2
    size = [-(-n // stride) for n in x_TBCYX.shape[-2:]]
    h, c = state or (x_TBCYX.new_zeros(x_TBCYX.shape[1], num_hidden, *size),) * 2
    outputs = []
    for x in x_TBCYX.unbind(0):
        if stride == 1:
            gates = functional.conv2d(torch.cat([x, h], 1), weight, bias, padding=padding)
        else:
            of_input, of_state = weight[:, :num_channels], weight[:, num_channels:]
            gates = functional.conv2d(x, of_input, bias, stride, padding) + functional.conv2d(
                h, of_state, None, 1, padding
            )
        i, f, o, g = gates.chunk(4, 1)
        if peephole_3HYX is not None:
            i, f = i + peephole_3HYX[0] * c, f + peephole_3HYX[1] * c
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        if peephole_3HYX is not None:
            o = o + peephole_3HYX[2] * c
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)
