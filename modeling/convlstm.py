"""Convolutional LSTM over an ordered sequence of images, written for speed on one device.

Shapes: T steps, B batch, C channels in, H hidden channels, Y and X spaxels. With `*` a convolution and `.` the product
of elements, one step is (Shi et al. 2015, arXiv:1506.04214, without the peephole terms, as in Keras):

    i_t = sigmoid(Wi * x_t + Ui * h_{t-1} + bi)        input gate
    f_t = sigmoid(Wf * x_t + Uf * h_{t-1} + bf)        forget gate
    o_t = sigmoid(Wo * x_t + Uo * h_{t-1} + bo)        output gate
    g_t = tanh(Wg * x_t + Ug * h_{t-1} + bg)           candidate
    c_t = f_t . c_{t-1} + i_t . g_t
    h_t = o_t . tanh(c_t)

with h_0 = c_0 = 0. The terms in x do not depend on the recurrence, so that one convolution makes them for all steps.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvLSTM(nn.Module):
    """One ConvLSTM layer; a stride above 1 shrinks the images in the convolution of the input."""

    def __init__(self, in_channels: int, hidden_channels: int, *, kernel_size: int = 3, stride: int = 1) -> None:
        """Makes the layer.

        Args:
            in_channels: channels of each input image.
            hidden_channels: channels of the state, and of the output.
            kernel_size: side of both kernels, odd.
            stride: of the input's convolution; images of Y x X become Y / stride x X / stride.

        Raises:
            ValueError: the kernel's side is even, which would move the image.
        """
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}, expected an odd number")
        padding = kernel_size // 2
        self.hidden_channels = hidden_channels
        self.of_input = nn.Conv2d(in_channels, 4 * hidden_channels, kernel_size, stride=stride, padding=padding)
        self.of_state = nn.Conv2d(hidden_channels, 4 * hidden_channels, kernel_size, padding=padding, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the forget gate's bias to 1, so that a new layer remembers (Jozefowicz et al. 2015)."""
        bias = self.of_input.bias
        assert bias is not None
        with torch.no_grad():
            bias.zero_()
            bias[self.hidden_channels : 2 * self.hidden_channels] = 1.0

    def forward(self, x_TBCYX: Tensor) -> Tensor:
        """Runs over all steps from a state of zeros.

        Returns:
            h_TBHYX, the hidden state after each step.
        """
        num_steps, num_batch = x_TBCYX.shape[:2]
        gates_NGYX = self.of_input(x_TBCYX.flatten(0, 1))
        # unbind, for x[t] in the loop has a backward that writes the whole sequence once per step.
        steps = gates_NGYX.unflatten(0, (num_steps, num_batch)).unbind(0)
        hidden_BHYX, cell_BHYX = self._first(steps[0])
        outputs = [hidden_BHYX]
        for gates_BGYX in steps[1:]:
            i, f, o, g = (gates_BGYX + self.of_state(hidden_BHYX)).chunk(4, dim=1)
            cell_BHYX = torch.sigmoid(f) * cell_BHYX + torch.sigmoid(i) * torch.tanh(g)
            hidden_BHYX = torch.sigmoid(o) * torch.tanh(cell_BHYX)
            outputs.append(hidden_BHYX)
        return torch.stack(outputs)

    @staticmethod
    def _first(gates_BGYX: Tensor) -> tuple[Tensor, Tensor]:
        """The first step: its state is zero, so there is nothing to convolve or to forget."""
        i, _, o, g = gates_BGYX.chunk(4, dim=1)
        cell_BHYX = torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell_BHYX), cell_BHYX


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, as Keras' `LayerNormalization` does on images."""

    def __init__(self, num_channels: int, *, num_groups: int = 1) -> None:
        """Makes the layer; with `num_groups`, each run of `num_channels` channels is normalised by itself."""
        super().__init__()
        self.num_channels = num_channels
        self.weight = nn.Parameter(torch.ones(num_groups, num_channels))
        self.bias = nn.Parameter(torch.zeros(num_groups, num_channels))

    def forward(self, x_BCYX: Tensor) -> Tensor:
        """Normalises; the shape stays."""
        x_BYXGC = x_BCYX.permute(0, 2, 3, 1).unflatten(-1, self.weight.shape)
        x_BYXGC = functional.layer_norm(x_BYXGC, (self.num_channels,)) * self.weight + self.bias
        return x_BYXGC.flatten(-2).permute(0, 3, 1, 2)
