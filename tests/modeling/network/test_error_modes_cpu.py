import pytest
import torch
from torch import Tensor

from modeling.network import error_modes_cpu
from modeling.network.compile_c import library
from modeling.network.error_modes import squared_distance

pytestmark = [
    pytest.mark.usefixtures("three_threads"),
    pytest.mark.skipif(library(error_modes_cpu.SOURCE) is None, reason="no C compiler"),
]


def spaxels(samples: int, modes: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    tested = torch.rand(7, samples, generator=generator) > 0.3
    tested[2] = False
    variance = torch.rand(7, samples, generator=generator) + 1e-3
    residual, shapes = torch.randn(7, samples, generator=generator), torch.randn(7, modes, samples, generator=generator)
    return [residual, variance, shapes], tested


def with_gradients(arrays: list[Tensor], tested: Tensor) -> list[Tensor]:
    leaves = [values.clone().requires_grad_() for values in arrays]
    distance, determinant = squared_distance(*leaves, tested)
    weights = torch.linspace(1, 2, len(distance), dtype=distance.dtype)
    upstream = (distance * weights).sum() - (determinant * weights**2).sum()
    return [distance.detach(), determinant.detach(), *torch.autograd.grad(upstream, leaves)]


@pytest.mark.parametrize("samples", [5, 8, 190])
@pytest.mark.parametrize("modes", [1, 4])
def test_distances_and_gradients_are_those_in_double_precision(
    samples: int, modes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, tested = spaxels(samples, modes)
    expected = with_gradients([values.double() for values in arrays], tested)
    # With operations alone a failure of this test would not be the kernel's.
    calls: list[str] = []
    original = error_modes_cpu._call
    monkeypatch.setattr(error_modes_cpu, "_call", lambda name, a: calls.append(name) or original(name, a))
    for ours, theirs in zip(with_gradients(arrays, tested), expected, strict=True):
        assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()
    assert calls == ["error_modes_forward", "error_modes_backward"]


def test_what_is_not_tested_is_never_used() -> None:
    arrays, tested = spaxels(20, 3)
    expected = with_gradients([torch.where(chosen(values, tested), values, 1.0) for values in arrays], tested)
    others = (torch.nan, 0.0, torch.inf)
    spoilt = [torch.where(chosen(values, tested), values, other) for values, other in zip(arrays, others, strict=True)]
    for ours, theirs in zip(with_gradients(spoilt, tested), expected, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.isfinite(ours).all()


def chosen(values: Tensor, tested: Tensor) -> Tensor:
    return tested if values.ndim == 2 else tested[:, None].expand_as(values)
