import copy

import pytest
import torch
from torch import Tensor

from modeling.network import block_cpu
from modeling.network.compile_c import library
from modeling.network.masked_network import Block
from tests.modeling.network.test_convlstm import assert_like

# Of the largest value.
TOLERANCE = 5e-6

pytestmark = pytest.mark.usefixtures("three_threads")

needs_kernel = pytest.mark.skipif(library(block_cpu.SOURCE) is None, reason="no C compiler")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels that were called."""
    found: list[str] = []
    original = block_cpu._call
    monkeypatch.setattr(block_cpu, "_call", lambda name, *a: found.append(name) or original(name, *a))
    return found


def drawn(channels: int, dilation: int = 1) -> Block:
    """Block whose normalisation has weights that differ too."""
    torch.manual_seed(0)
    block = Block(channels, dilation)
    for weight in block.norm.parameters():
        torch.nn.init.normal_(weight, 0.5)
    return block


@needs_kernel
@pytest.mark.parametrize("shape", [(4, 16, 16), (2, 12, 9), (1, 8, 30)])
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("channels", [16, 96])
def test_images_and_gradients_are_those_in_double_precision(
    shape: tuple[int, int, int], dilation: int, channels: int, calls: list[str]
) -> None:
    ours = drawn(channels, dilation)
    exact = copy.deepcopy(ours).double()
    x = (2 * torch.randn(shape[0], channels, *shape[1:]) + 0.5).requires_grad_()
    x_exact = x.detach().double().requires_grad_()
    found, wanted = ours(x), exact(x_exact)
    assert_like(found, wanted, TOLERANCE)
    upstream = torch.randn_like(found)
    found.backward(upstream)
    wanted.backward(upstream.double())
    assert_like(x.grad, x_exact.grad, TOLERANCE)
    for mine, theirs in zip(ours.parameters(), exact.parameters(), strict=True):
        assert_like(mine.grad, theirs.grad, TOLERANCE)
    assert calls == ["block_forward", "block_backward"]


@needs_kernel
@pytest.mark.parametrize("size", [1e-3, 30.0])
def test_small_and_large_values_are_activated_as_in_double_precision(size: float) -> None:
    ours = drawn(16)
    with torch.no_grad():
        ours.norm.weight.fill_(size)
        ours.norm.bias.copy_(torch.linspace(-size, size, 16))
    exact = copy.deepcopy(ours).double()
    x = torch.randn(2, 16, 8, 8, requires_grad=True)
    x_exact = x.detach().double().requires_grad_()
    found, wanted = ours(x), exact(x_exact)
    assert_like(found, wanted, TOLERANCE)
    assert_like(torch.autograd.grad(found.sum(), x)[0], torch.autograd.grad(wanted.sum(), x_exact)[0], TOLERANCE)


@needs_kernel
def test_without_a_gradient_images_are_the_same(calls: list[str]) -> None:
    block = drawn(16)
    x = torch.randn(3, 16, 16, 16)
    with torch.no_grad():
        found = block(x)
    assert not found.requires_grad
    assert torch.equal(found, block(x))
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("x", "channels"),
    [
        pytest.param(torch.zeros(1, 16, 4, 16), 16, id="small images"),
        pytest.param(torch.zeros(1, 8, 16, 16), 8, id="few channels"),
        pytest.param(torch.zeros(1, 16, 16, 16, dtype=torch.float64), 16, id="double precision"),
        pytest.param(torch.zeros(1, 16, 16, 16, device="meta"), 16, id="another device"),
    ],
)
def test_others_are_left_to_pytorch(x: Tensor, channels: int, calls: list[str]) -> None:
    assert drawn(channels).to(x.device, x.dtype)(x).shape == x.shape
    assert not calls


def test_in_autocast_pytorch_convolves_in_half_precision(calls: list[str]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        drawn(16)(torch.zeros(1, 16, 16, 16))
    assert not calls


def test_without_a_compiler_pytorch_does_the_same(monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    block, x = drawn(16), torch.randn(1, 16, 16, 16)
    expected = block(x)
    monkeypatch.setattr(block_cpu, "library", lambda name: None)
    calls.clear()
    assert_like(block(x), expected, TOLERANCE)
    assert not calls
