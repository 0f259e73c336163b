"""The Triton kernel under Triton's interpreter in float32, and on a GPU in both precisions where there is one."""

import copy
import importlib.util
import logging

import pytest
import torch
from torch import Tensor

from modeling.network import convlstm_gpu
from modeling.network.convlstm import ConvLSTM, pytorch_only
from modeling.network.convlstm_gpu import Layer, Plan
from tests.modeling.network.test_convlstm import assert_equals_reference, assert_like, shaken

H100 = 132

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def on_kernel(patch: pytest.MonkeyPatch, **plan: int) -> None:
    """Makes layers run on the kernel, with a plan for programs of `largest` pixels and `images` of a launch."""
    patch.setattr(ConvLSTM, "_fits_gpu", lambda self, x: torch.float32)

    def of(layer: Layer) -> Plan | None:
        found = Plan.of(layer, H100, plan.get("largest"))
        if found and "images" in plan:
            return Plan(found.rows, found.bands, found.pixels, found.wide, found.warps, plan["images"])
        return found

    patch.setattr(convlstm_gpu, "_plan", of)


# Odd sides before a stride, one row, channels that are no power of two, batch 1.
SHAPES = [
    pytest.param(3, 2, (3, 5), (6, 7), 1, id="ragged"),
    pytest.param(2, 1, (2, 16), (5, 3), 1, id="one-image"),
    pytest.param(2, 2, (4, 9), (9, 7), 2, id="stride-odd"),
    pytest.param(2, 1, (4, 3), (7, 8), 3, id="stride-three"),
    pytest.param(1, 3, (2, 4), (1, 4), 1, id="one-step-one-row"),
]


@needs_triton
@pytest.mark.parametrize(("peepholes", "reverse"), [(False, False), (True, True)])
@pytest.mark.parametrize(("steps", "batch", "channels", "size", "stride"), SHAPES)
def test_equals_a_step_by_step_reference_forward_and_backward(
    steps: int,
    batch: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    stride: int,
    peepholes: bool,
    reverse: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    on_kernel(monkeypatch)
    peephole_size = (-(-size[0] // stride), -(-size[1] // stride)) if peepholes else None
    layer = ConvLSTM(*channels, stride=stride, peephole_size=peephole_size, reverse=reverse)
    assert_equals_reference(shaken(layer), torch.randn(steps, batch, channels[0], *size))


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("rows", "peepholes", "reverse"), [(1, False, False), (2, True, True)])
def test_bands_of_an_image_in_any_order_of_their_programs_equal_the_reference(
    seed: int, rows: int, peepholes: bool, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.modeling.network.interleaved import interleaved

    torch.manual_seed(0)
    on_kernel(monkeypatch, largest=6 * rows)
    layer = ConvLSTM(2, 4, peephole_size=(5, 6) if peepholes else None, reverse=reverse)
    assert Plan.of(description(layer, 5, 6), H100, 6 * rows).bands == -(-5 // rows)
    with interleaved(seed):
        assert_equals_reference(shaken(layer), torch.randn(3, 2, 2, 5, 6))


def description(layer: ConvLSTM, height: int, width: int) -> Layer:
    return Layer(3, 1, layer.hidden_channels, 2, height, width, torch.float32, False, torch.device("cpu"))


@pytest.mark.slow
@needs_triton
def test_the_random_order_shows_bands_that_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.modeling.network.interleaved import interleaved

    torch.manual_seed(0)
    on_kernel(monkeypatch, largest=6)
    # So that every value looks as if it had been written.
    monkeypatch.setattr(convlstm_gpu, "UNWRITTEN", 0)
    layer, x = ConvLSTM(2, 4), torch.randn(4, 1, 2, 5, 6)
    with pytorch_only():
        expected = layer._run_steps(x, None)[0]
    wrong = []
    for seed in range(3):
        with interleaved(seed), torch.no_grad():
            wrong.append(bool((layer(x) - expected).abs().max() > 1e-3))
    assert any(wrong)


@needs_triton
def test_a_state_carries_over_and_without_a_gradient_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = shaken(ConvLSTM(3, 5, peephole_size=(4, 5))), torch.randn(3, 2, 3, 4, 5)
    state = tuple(torch.randn(2, 5, 4, 5, requires_grad=True) for _ in range(2))
    expected, (_, last) = layer._run_steps(x, state)
    wanted = torch.autograd.grad(expected.square().sum() + last.sum(), [*state, *layer.parameters()])
    on_kernel(monkeypatch, images=1)
    with torch.no_grad():
        assert_like(layer.run(x, state)[0], expected)
    first, between = layer.run(x[:2], state)
    second, (_, cell) = layer.run(x[2:], between)
    out = torch.cat([first, second])
    assert_like(out, expected)
    assert_like(cell, last)
    found = torch.autograd.grad(out.square().sum() + cell.sum(), [*state, *layer.parameters()])
    for ours, theirs in zip(found, wanted, strict=True):
        assert_like(ours, theirs)


@needs_triton
def test_a_retained_graph_runs_backwards_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    on_kernel(monkeypatch)
    layer, x = ConvLSTM(2, 4), torch.randn(2, 1, 2, 4, 4, requires_grad=True)
    out = layer(x).square().sum()
    first, second = (torch.autograd.grad(out, [x, *layer.parameters()], retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@needs_triton
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_pixels_without_neighbours_equal_the_steps_one_by_one(
    reverse: bool, with_state: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer, x = shaken(ConvLSTM(3, 5, kernel_size=1, reverse=reverse)), torch.randn(4, 2, 3, 3, 5, requires_grad=True)
    state = tuple(torch.randn(2, 5, 3, 5, requires_grad=True) for _ in range(2)) if with_state else None
    leaves = [x, *layer.parameters(), *(state or ())]
    expected, (_, last) = layer._run_steps(x, state)
    on_kernel(monkeypatch, largest=16)  # programs of 16, 14 of 30 pixels
    out, (_, cell) = layer.run(x, state)
    assert_like(out, expected)
    assert_like(cell, last)
    found, wanted = (
        torch.autograd.grad(a.square().sum() + b.sum(), leaves) for a, b in ((out, cell), (expected, last))
    )
    for ours, theirs in zip(found, wanted, strict=True):
        assert_like(ours, theirs)


def layer_of(**changes: object) -> Layer:
    values = {"kernel_size": 3, "stride": 1, "hidden": 16, "batch": 8, "height": 16, "width": 16, "peepholes": False}
    return Layer(**values | {"kind": torch.bfloat16, "device": torch.device("cpu")} | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, (2, 8, 32), id="as many programs as there are multiprocessors"),
        pytest.param({"batch": 100}, (16, 1, 256), id="as many images"),
        pytest.param({"height": 4, "width": 4}, (4, 1, 16), id="small"),
        pytest.param({"height": 8, "width": 8}, (8, 1, 64), id="an image that need not wait"),
        pytest.param({"height": 8, "width": 8, "hidden": 32}, (2, 4, 16), id="a larger one that is faster in bands"),
        pytest.param({"height": 32, "width": 32}, (2, 16, 64), id="half of the multiprocessors would be idle"),
        pytest.param({"height": 32, "width": 32, "batch": 64}, (8, 4, 256), id="many images"),
        pytest.param({"height": 32, "width": 32, "hidden": 32}, (2, 16, 64), id="32 channels"),
        pytest.param({"height": 3, "width": 5, "hidden": 5}, (3, 1, 16), id="odd"),
        pytest.param({"kind": torch.float32}, (2, 8, 32), id="float32"),
    ],
)
def test_programs_of_a_launch_cover_the_images_and_run_at_once(
    changes: dict[str, object], expected: tuple[int, int, int]
) -> None:
    layer = layer_of(**changes)
    plan = Plan.of(layer, H100)
    assert plan is not None
    assert (plan.rows, plan.bands, plan.pixels) == expected
    assert plan.rows * plan.bands >= layer.height > plan.rows * (plan.bands - 1)
    assert plan.pixels >= plan.rows * layer.width
    assert plan.bands == 1 or plan.images * plan.bands <= H100


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden": 64},
        {"hidden": 64, "kernel_size": 1},
        {"width": 300},
        {"hidden": 17, "kind": torch.float32},
        {"height": 3000, "width": 200},
    ],
)
def test_a_state_that_does_not_fit_has_no_plan(changes: dict[str, object]) -> None:
    assert Plan.of(layer_of(**changes), H100) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kernel_size": 5}, "5 x 5"),
        ({"kind": torch.float16}, "float32 and bfloat16"),
        ({"kernel_size": 1, "peepholes": True}, "has peepholes"),
    ],
)
def test_the_reason_for_pytorchs_operations_is_logged_once(
    changes: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    convlstm_gpu.why_not.cache_clear()
    with caplog.at_level(logging.INFO, logger=convlstm_gpu.__name__):
        for _ in range(2):
            assert reason in convlstm_gpu.why_not(layer_of(**changes))
    assert len(caplog.records) == 1
    assert reason in caplog.text


@needs_triton
def test_a_kernel_that_fails_leaves_the_layer_to_pytorchs_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(batch=1, height=2, width=3, hidden=2, kind=torch.float32, peepholes=True)
    assert convlstm_gpu._failure(layer) == ""

    def fail(*arguments: object, **named: object) -> None:
        raise RuntimeError("out of resource: shared memory\nand more")

    monkeypatch.setattr(convlstm_gpu, "_launch", fail)
    assert convlstm_gpu._failure(layer) == "the kernel failed: RuntimeError: out of resource: shared memory"


def test_without_triton_layers_run_on_pytorchs_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    convlstm_gpu.why_not.cache_clear()
    monkeypatch.setattr(convlstm_gpu, "has_triton", lambda: False)
    assert "Triton is not installed" in convlstm_gpu.why_not(layer_of())
    convlstm_gpu.why_not.cache_clear()


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.detach().double().cpu() - theirs).norm() / theirs.norm())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(
    ("steps", "batch", "channels", "size", "stride", "kernel_size"),
    [
        (19, 8, (16, 16), (32, 32), 2, 3),
        (5, 3, (3, 9), (7, 10), 1, 3),
        (19, 8, (16, 16), (32, 32), 1, 3),
        (9, 2, (10, 32), (32, 32), 1, 3),
        (9, 2, (16, 24), (32, 32), 1, 1),
    ],
)
def test_on_a_gpu(
    steps: int,
    batch: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    stride: int,
    kernel_size: int,
    kind: torch.dtype,
    tolerance: float,
) -> None:
    torch.manual_seed(0)
    layer = shaken(ConvLSTM(*channels, kernel_size=kernel_size, stride=stride))
    x = torch.randn(steps, batch, channels[0], *size)
    exact, x_exact = copy.deepcopy(layer).double(), x.double().requires_grad_()
    expected = exact(x_exact)
    upstream = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [x_exact, *exact.parameters()], upstream)
    layer, x = layer.cuda(), x.cuda().requires_grad_()
    # PyTorch's default for convolutions in float32, TF32, has an error of 1e-3.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        with torch.autocast("cuda", torch.bfloat16, enabled=kind == torch.bfloat16):
            out = layer(x)
        found = torch.autograd.grad(out, [x, *layer.parameters()], upstream.to("cuda", out.dtype))
    assert relative_error(out, expected) < tolerance
    for ours, theirs in zip(found, wanted, strict=True):
        assert relative_error(ours, theirs) < tolerance
