import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from modeling.network import convolution_cpu
from modeling.network.compile_c import library
from modeling.network.convolution_cpu import convolve

needs_kernel = pytest.mark.skipif(library("network/convolution_cpu.c") is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Three, which share neither two images nor four evenly, whatever this machine has and the suite allows."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels that were called."""
    found: list[str] = []
    original = convolution_cpu._call
    monkeypatch.setattr(convolution_cpu, "_call", lambda name, *a: found.append(name) or original(name, *a))
    return found


def layer(inputs: int, outputs: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)


def assert_like(ours: Tensor | None, theirs: Tensor | None) -> None:
    assert ours is not None
    assert theirs is not None
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 5e-6 * theirs.abs().max()


@needs_kernel
@pytest.mark.parametrize("shape", [(4, 16, 16), (2, 12, 9), (1, 8, 30)])
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 48), (64, 32)])
def test_images_and_gradients_are_those_in_double_precision(
    shape: tuple[int, int, int], dilation: int, inputs: int, outputs: int, calls: list[str]
) -> None:
    torch.manual_seed(0)
    ours = layer(inputs, outputs, dilation)
    exact = copy.deepcopy(ours).double()
    x = torch.randn(shape[0], inputs, *shape[1:], requires_grad=True)
    x_exact = x.detach().double().requires_grad_()
    found, wanted = convolve(x, ours), exact(x_exact)
    assert_like(found, wanted)
    upstream = torch.randn_like(found)
    found.backward(upstream)
    wanted.backward(upstream.double())
    assert_like(x.grad, x_exact.grad)
    assert_like(ours.weight.grad, exact.weight.grad)
    assert_like(ours.bias.grad, exact.bias.grad)  # type: ignore[union-attr]
    assert calls == ["convolution_forward", "convolution_backward"]


@needs_kernel
def test_without_a_gradient_images_are_the_same(calls: list[str]) -> None:
    torch.manual_seed(0)
    x, convolution = torch.randn(3, 16, 16, 16), layer(16, 16)
    with torch.no_grad():
        found = convolve(x, convolution)
    assert not found.requires_grad
    assert torch.equal(found, convolve(x, convolution))
    assert len(calls) == 2


@needs_kernel
def test_an_input_without_a_gradient_leaves_that_of_the_weights() -> None:
    torch.manual_seed(0)
    x, convolution = torch.randn(3, 16, 16, 16), layer(16, 16)
    convolve(x, convolution).sum().backward()
    found = copy.deepcopy(convolution.weight.grad)
    convolution.zero_grad()
    convolution(x).sum().backward()
    assert_like(found, convolution.weight.grad)


@pytest.mark.parametrize(
    ("x", "channels"),
    [
        pytest.param(torch.zeros(1, 16, 4, 16), 16, id="small images"),
        pytest.param(torch.zeros(1, 8, 16, 16), 8, id="few channels"),
        pytest.param(torch.zeros(1, 16, 16, 16, dtype=torch.float64), 16, id="double precision"),
        pytest.param(torch.zeros(1, 16, 16, 16, device="meta"), 16, id="another device"),
    ],
)
def test_others_are_convolved_by_pytorch(x: Tensor, channels: int, calls: list[str]) -> None:
    convolution = layer(channels, 16).to(x.device, x.dtype)
    assert convolve(x, convolution).shape == (1, 16, *x.shape[2:])
    assert not calls


def test_in_autocast_pytorch_convolves_in_half_precision(calls: list[str]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = convolve(torch.zeros(1, 16, 16, 16), layer(16, 16))
    assert found.dtype == torch.bfloat16
    assert not calls


def test_without_a_compiler_pytorch_convolves(monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    monkeypatch.setattr(convolution_cpu, "library", lambda name: None)
    x, convolution = torch.randn(1, 16, 16, 16), layer(16, 16)
    assert torch.equal(convolve(x, convolution), convolution(x))
    assert not calls
