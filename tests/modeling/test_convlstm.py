import pytest
import torch
from torch import Tensor
from torch.nn import functional

from modeling.convlstm import ChannelNorm, ConvLSTM


def reference(layer: ConvLSTM, x_TBCYX: Tensor) -> Tensor:
    """The equations of the module, step by step: every gate from its own slice of the weights."""
    slices = [slice(k * layer.hidden_channels, (k + 1) * layer.hidden_channels) for k in range(4)]
    stride, padding = layer.of_input.stride, layer.of_input.padding
    size_y, size_x = (-(-length // stride[0]) for length in x_TBCYX.shape[-2:])
    h = c = x_TBCYX.new_zeros(x_TBCYX.shape[1], layer.hidden_channels, size_y, size_x)
    outputs = []
    for t in range(len(x_TBCYX)):
        i, f, o, g = (
            functional.conv2d(x_TBCYX[t], layer.of_input.weight[s], layer.of_input.bias[s], stride, padding)
            + functional.conv2d(h, layer.of_state.weight[s], None, 1, layer.of_state.padding)
            for s in slices
        )
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize(("stride", "kernel_size", "size"), [(1, 3, 8), (2, 3, 8), (2, 5, 12)])
def test_equals_a_step_by_step_reference_forward_and_backward(stride: int, kernel_size: int, size: int) -> None:
    torch.manual_seed(0)
    layer = ConvLSTM(3, 5, kernel_size=kernel_size, stride=stride)
    x = torch.randn(7, 2, 3, size, size, requires_grad=True)
    weight = torch.randn(7, 2, 5, size // stride, size // stride)
    gradients = []
    outputs = []
    for run in (layer, lambda x: reference(layer, x)):
        out = run(x)
        outputs.append(out)
        gradients.append(torch.autograd.grad((out * weight).sum(), [x, *layer.parameters()]))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_step_depends_on_earlier_steps_only() -> None:
    torch.manual_seed(0)
    layer = ConvLSTM(2, 3)
    x = torch.randn(5, 1, 2, 8, 8)
    changed = x.clone()
    changed[3] += 1
    before, after = layer(x), layer(changed)
    torch.testing.assert_close(before[:3], after[:3], rtol=0, atol=0)
    assert all(not torch.allclose(before[t], after[t]) for t in (3, 4))


def test_keeps_no_state_between_calls() -> None:
    layer = ConvLSTM(2, 3)
    x = torch.randn(4, 1, 2, 8, 8)
    torch.testing.assert_close(layer(x), layer(x), rtol=0, atol=0)


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size is 4"):
        ConvLSTM(2, 3, kernel_size=4)


def test_channel_norm_normalises_each_group_of_each_pixel() -> None:
    torch.manual_seed(0)
    out = ChannelNorm(4, num_groups=3)(torch.randn(2, 12, 5, 6) * 7 + 3).unflatten(1, (3, 4))
    torch.testing.assert_close(out.mean(dim=2), torch.zeros(2, 3, 5, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(dim=2, unbiased=False), torch.ones(2, 3, 5, 6), atol=1e-3, rtol=0)
