import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks.convlstm_naive import naive
from modeling.network import convlstm_cpu
from modeling.network.channel_norm import ChannelNorm
from modeling.network.convlstm import BidirectionalConvLSTM, ConvLSTM, default_precision, stack
from modeling.network.winograd import transform

pytestmark = pytest.mark.usefixtures("three_threads")

needs_kernel = pytest.mark.skipif(not convlstm_cpu.available(), reason="no C compiler")


@pytest.fixture(params=[pytest.param("kernel", marks=needs_kernel), "operations"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to run a layer."""
    if request.param == "operations":
        monkeypatch.setattr(convlstm_cpu, "available", lambda: False)
    return str(request.param)


def reference(layer: nn.Module, x_TBCYX: Tensor, state: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Expected output of the layer, by `naive` in the precision of the arguments."""
    if isinstance(layer, nn.Sequential):
        for part in layer:
            x_TBCYX = reference(part, x_TBCYX)
        return x_TBCYX
    if isinstance(layer, BidirectionalConvLSTM):
        return torch.cat([reference(layer.onward, x_TBCYX), reference(layer.returning, x_TBCYX)], dim=2)
    assert isinstance(layer, ConvLSTM)
    weight = torch.cat([layer.of_input.weight, layer.of_state.weight], dim=1)
    options = {"peephole_3HYX": layer.peephole_3HYX, "stride": layer.of_input.stride[0], "state": state}
    if layer.reverse:
        return naive(x_TBCYX.flip(0), weight, layer.of_input.bias, **options).flip(0)
    return naive(x_TBCYX, weight, layer.of_input.bias, **options)


def assert_like(ours: Tensor | None, theirs: Tensor | None, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` of the largest value."""
    assert ours is not None
    assert theirs is not None
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def assert_equals_reference(layer: nn.Module, x_TBCYX: Tensor) -> None:
    """Forward and backward, the reference in double precision."""
    exact = copy.deepcopy(layer).double()
    x_TBCYX, x_exact = x_TBCYX.requires_grad_(), x_TBCYX.detach().double().requires_grad_()
    out, expected = layer(x_TBCYX), reference(exact, x_exact)
    assert_like(out, expected)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    expected.backward(upstream.double())
    assert_like(x_TBCYX.grad, x_exact.grad)
    for (name, ours), theirs in zip(layer.named_parameters(), exact.parameters(), strict=True):
        if ours.grad is None:
            assert name.endswith("of_state.weight")
            assert len(x_TBCYX) == 1
        else:
            assert_like(ours.grad, theirs.grad)


def shaken(layer: nn.Module) -> nn.Module:
    """With peepholes and biases that are not zero."""
    for name, parameter in layer.named_parameters():
        if "peephole" in name or "bias" in name:
            nn.init.normal_(parameter, std=0.3)
    return layer


# Images that do not divide into tiles of 4, are smaller than one, or have odd sides before a stride; channels that do
# not divide into vectors of 8; more tiles than the kernel treats at once; fewer images than threads.
SHAPES = [
    pytest.param(7, 2, (3, 5), (8, 8), 3, 1, id="small"),
    pytest.param(2, 3, (10, 32), (32, 32), 3, 1, id="line"),
    pytest.param(4, 2, (16, 16), (16, 16), 3, 1, id="sixteen"),
    pytest.param(3, 5, (3, 9), (7, 10), 3, 1, id="ragged"),
    pytest.param(3, 1, (1, 8), (2, 3), 3, 1, id="tiny"),
    pytest.param(1, 2, (4, 8), (8, 8), 3, 1, id="one-step"),
    pytest.param(7, 2, (3, 5), (8, 8), 3, 2, id="stride"),
    pytest.param(3, 3, (16, 16), (32, 32), 3, 2, id="stride-sixteen"),
    pytest.param(3, 2, (5, 12), (9, 11), 3, 2, id="stride-odd"),
    pytest.param(5, 3, (16, 24), (9, 12), 1, 1, id="pixel"),
    pytest.param(4, 2, (3, 4), (12, 12), 1, 2, id="pixel-stride"),
    pytest.param(4, 2, (3, 4), (12, 12), 5, 2, id="five"),
    pytest.param(4, 2, (3, 4), (12, 12), 3, 3, id="stride-three"),
]


@pytest.mark.parametrize(("peepholes", "reverse"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(("steps", "batch", "channels", "size", "kernel_size", "stride"), SHAPES)
def test_equals_a_step_by_step_reference_forward_and_backward(
    path: str,
    steps: int,
    batch: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel_size: int,
    stride: int,
    peepholes: bool,
    reverse: bool,
) -> None:
    torch.manual_seed(0)
    peephole_size = (-(-size[0] // stride), -(-size[1] // stride)) if peepholes else None
    layer = ConvLSTM(*channels, kernel_size=kernel_size, stride=stride, peephole_size=peephole_size, reverse=reverse)
    assert_equals_reference(shaken(layer), torch.randn(steps, batch, channels[0], *size))


def test_stays_equal_over_many_steps(path: str) -> None:
    torch.manual_seed(0)
    assert_equals_reference(shaken(ConvLSTM(4, 8)), torch.randn(60, 2, 4, 8, 8))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_on_one_another_equal_the_reference(path: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    layers = stack(3, [8, 6, 4], stride=2, bidirectional=bidirectional)
    assert_equals_reference(shaken(layers), torch.randn(5, 2, 3, 16, 16))


def test_any_layout_in_memory_gives_the_same(path: str) -> None:
    torch.manual_seed(0)
    layer, x = ConvLSTM(3, 8), torch.randn(4, 2, 3, 8, 8)
    last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (4, 2))
    batch_first = x.transpose(0, 1).contiguous().transpose(0, 1)
    for other in (last, batch_first):
        torch.testing.assert_close(layer(other), layer(x), rtol=0, atol=1e-6)


def test_a_state_carries_over(path: str) -> None:
    torch.manual_seed(0)
    layer = shaken(ConvLSTM(3, 5, peephole_size=(8, 8)))
    assert isinstance(layer, ConvLSTM)
    x = torch.randn(6, 2, 3, 8, 8)
    state = tuple(torch.randn(2, 5, 8, 8, requires_grad=True) for _ in range(2))
    exact = tuple(a.detach().double().requires_grad_() for a in state)
    out, (hidden, cell) = layer.run(x, state)
    expected = reference(copy.deepcopy(layer).double(), x.double(), exact)
    assert_like(out, expected)
    torch.testing.assert_close(hidden, out[-1], rtol=0, atol=0)
    first, between = layer.run(x[:2], state)
    second, last = layer.run(x[2:], between)
    assert_like(torch.cat([first, second]), out)
    assert_like(last[1], cell)
    (second * 3).sum().backward()
    (expected[2:] * 3).sum().backward()
    for ours, theirs in zip(state, exact, strict=True):
        assert_like(ours.grad, theirs.grad)


def with_bytes_saved(layer: nn.Module, x_TBCYX: Tensor) -> tuple[Tensor, int]:
    """The output, and how much autograd keeps for the backward."""
    saved: dict[int, int] = {}

    def note(a: Tensor) -> Tensor:
        saved[a.data_ptr()] = a.nbytes
        return a

    with torch.autograd.graph.saved_tensors_hooks(note, lambda a: a):
        out = layer(x_TBCYX)
    return out, sum(saved.values())


@pytest.mark.parametrize("reverse", [False, True])
def test_checkpoints_change_the_memory_and_nothing_else(path: str, reverse: bool) -> None:
    torch.manual_seed(0)
    layer = ConvLSTM(3, 8, reverse=reverse)
    x = torch.randn(7, 2, 3, 8, 8, requires_grad=True)
    results, kept = [], []
    for steps in (None, 2):
        layer.checkpoint_steps = steps
        out, num_bytes = with_bytes_saved(layer, x)
        kept.append(num_bytes)
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        assert_like(ours, theirs, 1e-6)
    assert kept[1] < 0.5 * kept[0]


def test_without_a_gradient_nothing_is_kept(path: str) -> None:
    layer, x = ConvLSTM(3, 8), torch.randn(4, 2, 3, 8, 8)
    expected = layer(x)
    with torch.no_grad():
        out = layer(x)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    assert not out.requires_grad


@needs_kernel
def test_the_kernel_runs_where_it_can_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = convlstm_cpu.convlstm
    monkeypatch.setattr(convlstm_cpu, "convlstm", lambda *a, **o: calls.append(1) or original(*a, **o))
    x = torch.randn(2, 1, 2, 8, 8)
    ConvLSTM(2, 3)(x), ConvLSTM(2, 3, stride=2)(x)
    assert len(calls) == 2
    ConvLSTM(2, 3, kernel_size=5)(x), ConvLSTM(2, 3, stride=4)(x), ConvLSTM(2, 3).double()(x.double())
    assert len(calls) == 2


def test_autocast_keeps_the_result_and_the_parameters_precision(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = ConvLSTM(3, 8), torch.randn(5, 2, 3, 8, 8)
    expected = layer(x).detach()
    for precision, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 0.03)):
        monkeypatch.setattr(
            "modeling.network.convlstm.default_precision", lambda device, precision=precision: precision
        )
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        assert_like(out.float(), expected, tolerance if path == "kernel" else 0.03)
        out.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_default_precision_is_single_without_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_amx, expected in ((False, torch.float32), (True, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has_amx=has_amx: has_amx, raising=False)
        assert default_precision("cpu") == expected


def test_runs_are_the_same_to_the_last_bit(path: str) -> None:
    torch.manual_seed(0)
    layer, x = ConvLSTM(3, 8), torch.randn(4, 3, 3, 8, 8)
    first, second = (torch.autograd.grad(layer(x).square().sum(), layer.parameters()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_graph_can_be_walked_twice(path: str) -> None:
    layer, x = ConvLSTM(3, 8), torch.randn(4, 2, 3, 8, 8)
    loss = layer(x).square().sum()
    first = torch.autograd.grad(loss, layer.parameters(), retain_graph=True)
    torch.randn(1000, 1000)
    second = torch.autograd.grad(loss, layer.parameters())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_gates_functions_are_right_over_their_whole_range(path: str) -> None:
    """With no weights, the bias alone makes the first step: h = sigmoid(b) tanh(sigmoid(b) tanh(b))."""
    biases = torch.cat([torch.linspace(-30, 30, 48), torch.linspace(-9, 9, 48), torch.logspace(-20, 0, 16)])
    layer = ConvLSTM(1, len(biases))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.of_input.bias.copy_(biases.repeat(4))
        out = layer(torch.zeros(1, 1, 1, 1, 1)).flatten()
    b = biases.double()
    expected = torch.sigmoid(b) * torch.tanh(torch.sigmoid(b) * torch.tanh(b))
    torch.testing.assert_close(out, expected.float(), rtol=1e-5, atol=1e-6 if path == "kernel" else 1e-7)


def test_not_a_number_is_not_hidden(path: str) -> None:
    layer, x = ConvLSTM(2, 8), torch.randn(3, 2, 2, 8, 8)
    x[1, 0, 0, 4, 4] = torch.nan
    out = layer(x)
    assert out[1, 0, :, 4, 4].isnan().all()
    assert out[0].isfinite().all()
    assert out[:, 1].isfinite().all()


def test_a_layer_can_be_exported() -> None:
    layer, x = ConvLSTM(2, 8), torch.randn(3, 1, 2, 8, 8)
    exported = torch.export.export(layer, (x,)).module()
    assert_like(exported(x), layer(x))


def test_names_of_the_weights_stay() -> None:
    names = ["of_input.weight", "of_input.bias", "of_state.weight"]
    assert list(ConvLSTM(2, 3).state_dict()) == names
    assert set(ConvLSTM(2, 3, peephole_size=(4, 4)).state_dict()) == {*names, "peephole_3HYX"}
    with pytest.raises(RuntimeError, match="peephole_3HYX"):
        ConvLSTM(2, 3, peephole_size=(4, 4)).load_state_dict(ConvLSTM(2, 3).state_dict())


def test_a_step_depends_on_earlier_steps_only(path: str) -> None:
    torch.manual_seed(0)
    layer = ConvLSTM(2, 3)
    x = torch.randn(5, 1, 2, 8, 8)
    changed = x.clone()
    changed[3] += 1
    before, after = layer(x), layer(changed)
    torch.testing.assert_close(before[:3], after[:3], rtol=0, atol=0)
    assert all(not torch.allclose(before[t], after[t]) for t in (3, 4))


def test_keeps_no_state_between_calls(path: str) -> None:
    layer = ConvLSTM(2, 3)
    x = torch.randn(4, 1, 2, 8, 8)
    torch.testing.assert_close(layer(x), layer(x), rtol=0, atol=0)


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size is 4"):
        ConvLSTM(2, 3, kernel_size=4)


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"states of \[4, 4\] pixels, these images make \[8, 8\]"):
        ConvLSTM(2, 3, peephole_size=(4, 4))(torch.zeros(2, 1, 2, 8, 8))
    with pytest.raises(ValueError, match="no steps"):
        ConvLSTM(2, 3)(torch.zeros(0, 1, 2, 8, 8))
    with pytest.raises(ValueError, match="checkpoint_steps is 0"):
        ConvLSTM(2, 3, checkpoint_steps=0)


def test_channel_norm_normalises_each_group_of_each_pixel() -> None:
    torch.manual_seed(0)
    out = ChannelNorm(4, num_groups=3)(torch.randn(2, 12, 5, 6) * 7 + 3).unflatten(1, (3, 4))
    torch.testing.assert_close(out.mean(dim=2), torch.zeros(2, 3, 5, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(dim=2, unbiased=False), torch.ones(2, 3, 5, 6), atol=1e-3, rtol=0)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_layer_that_was_first_used_in_inference_mode_can_be_trained(stride: int) -> None:
    transform.cache_clear()
    layer, x = ConvLSTM(4, 8, stride=stride), torch.randn(2, 1, 4, 8, 8)
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert layer.of_state.weight.grad is not None
