import importlib.util

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from modeling.network import channel_norm
from modeling.network.channel_norm import ChannelNorm

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def drawn(num_channels: int, num_groups: int) -> ChannelNorm:
    torch.manual_seed(0)
    norm = ChannelNorm(num_channels, num_groups=num_groups)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


def assert_like(norm: ChannelNorm, x: Tensor, expected: Tensor, out: Tensor) -> None:
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(expected)
    leaves = [x, norm.weight, norm.bias]
    found, wanted = (torch.autograd.grad(values, leaves, upstream) for values in (out, expected))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@needs_triton
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("num_channels", "num_groups"), [(16, 1), (5, 3)])
def test_the_kernels_equal_pytorch(
    num_channels: int, num_groups: int, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_norm, "TILE", 64)  # several programs, the last with rows of its own to leave out
    monkeypatch.setattr(channel_norm, "MOST_PROGRAMS", 6)
    norm = drawn(num_channels, num_groups)
    x = (torch.randn(2, num_groups * num_channels, 3, 7) * 7 + 3).to(memory_format=layout).requires_grad_()
    expected = norm(x)
    monkeypatch.setattr(channel_norm, "fits", lambda *arguments: True)
    assert_like(norm, x, expected, norm(x))


@needs_triton
def test_a_trial_tells_whether_the_kernels_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cpu = torch.device("cpu")
    trial = channel_norm._failure.__wrapped__
    before = torch.random.get_rng_state()
    with torch.inference_mode():
        assert trial(cpu) == ""
    assert torch.equal(torch.random.get_rng_state(), before)

    def broken(*arguments: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify it")

    monkeypatch.setattr(channel_norm, "normalise", broken)
    assert trial(cpu) == "RuntimeError: Failed to find C compiler."
    assert "without its kernel: RuntimeError: Failed to find C compiler." in caplog.text


@needs_triton
@pytest.mark.parametrize("kernels", [False, True])
def test_images_of_steps_have_weights_of_their_own(kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    norm, x = drawn(4, 3), torch.randn(3, 2, 5, 6, 4, requires_grad=True)
    parts = zip(x, norm.weight, norm.bias, strict=True)
    expected = torch.stack([functional.layer_norm(*part[:1], (4,), *part[1:]) for part in parts])
    monkeypatch.setattr(channel_norm, "fits", lambda *arguments: kernels)
    assert_like(norm, x, expected, norm.of_steps(x))


@needs_triton
def test_in_autocast_the_result_has_its_type_and_sums_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    norm, x = drawn(16, 1), torch.randn(2, 16, 4, 4) + 300
    expected = norm(x)
    monkeypatch.setattr(channel_norm, "fits", lambda *arguments: True)
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=1e-2, atol=1e-2)
