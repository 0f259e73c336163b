import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from modeling.network import step_convolution
from modeling.network.autoencoder import OwnStepBlocks
from modeling.network.decoders import OwnDecoder
from modeling.network.step_convolution import convolve, convolve_transposed, multiply_steps


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step or two at a time, so that there are several parts."""
    monkeypatch.setattr(step_convolution, "MOST_BYTES", 10_000)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def assert_same_with_gradients(ours: Tensor, theirs: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(theirs)
    found, wanted = (torch.autograd.grad(values, leaves, upstream) for values in (ours, theirs))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("channels", "out"), [(1, 4), (3, 2), (4, 2)])
def test_each_step_is_convolved_with_its_own_weights(channels: int, out: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = drawn(5, 2, 4, 7, channels), drawn(5, out, channels, 3, 3), drawn(5, out)
    expected = [functional.conv2d(a.movedim(3, 1), b, c, padding=1) for a, b, c in zip(x, weight, bias, strict=True)]
    assert_same_with_gradients(convolve(x, weight, bias), torch.stack(expected).movedim(2, 4), leaves=[x, weight, bias])


def test_transposed_convolutions_double_the_images() -> None:
    torch.manual_seed(0)
    x, weight, bias = drawn(3, 2, 4, 5, 3), drawn(3, 3, 2, 4, 4), drawn(3, 2)
    expected = [
        functional.conv_transpose2d(a.movedim(3, 1), b, c, stride=2, padding=1)
        for a, b, c in zip(x, weight, bias, strict=True)
    ]
    assert_same_with_gradients(
        convolve_transposed(x, weight, bias), torch.stack(expected).movedim(2, 4), leaves=[x, weight, bias]
    )


def test_in_autocast_products_are_of_its_type() -> None:
    x, weight = torch.randn(2, 1, 4, 4, 3), torch.randn(2, 4, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        out = convolve(x, weight, None)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), convolve(x, weight, None), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("make", ["blocks", "decoder"])
def test_both_ways_of_a_module_give_the_same(make: str) -> None:
    torch.manual_seed(0)
    module: nn.Module
    if make == "blocks":
        module, x = OwnStepBlocks(3, 2, 4).double(), drawn(3, 2, 2, 8, 8)
        ours = module._products(x)
    else:
        module = OwnDecoder(num_steps=3, out_channels=2, channels=4, size=16, latent_dim=5).double()
        x = drawn(2, 5)
        seed = functional.relu(module.to_seed(x)).unflatten(1, (8, 2, 2))
        ours = module._products(module.first_norm(functional.relu(module.first(seed))))
    expected = module(x)
    assert_same_with_gradients(ours, expected, [x, *module.parameters()])


def test_one_pixel_of_each_step_is_multiplied_by_its_own_weights() -> None:
    torch.manual_seed(0)
    convolution, x = nn.Conv2d(3 * 4, 3 * 5, 1, groups=3).double(), drawn(2, 12, 3, 7)
    leaves = [x, *convolution.parameters()]
    assert_same_with_gradients(multiply_steps(x, convolution), convolution(x), leaves)
