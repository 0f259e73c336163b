"""The CUDA kernel on clusters of multiprocessors: compiled for the CPU, where its threads run in random order."""

import ctypes
import itertools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modeling.network import convlstm_cluster, convlstm_gpu
from modeling.network.convlstm import ConvLSTM
from modeling.network.convlstm_cluster import ClusterPlan
from tests.modeling.network.test_convlstm import assert_like, shaken

H100 = 132
EMULATOR = Path(__file__).with_name("cluster_on_cpu.c")
# Of bfloat16, whose numbers have an error of 2e-3 each.
TOLERANCE = 2e-2

Edit = Callable[[str], str]


class OnCpu:
    """Stands for the launch on a GPU: compiles the kernel for a CPU and runs it."""

    def __init__(self, folder: Path, seed: int, edit: Edit = str) -> None:
        self.folder, self.seeds, self.faults, self.launches = folder, itertools.count(seed), [], 0
        (folder / "convlstm_cluster.cu").write_text(edit(convlstm_cluster.SOURCE.read_text()))

    def __call__(
        self,
        name: str,
        plan: ClusterPlan,
        arrays: tuple[Tensor, ...],
        sizes: tuple[int, int],
        reverse: bool,
        keep: bool,
    ) -> None:
        assert all(array.is_contiguous() for array in arrays)
        library = self.folder / f"{len(list(self.folder.iterdir()))}.so"
        defines = [f"-D{key}={value}" for key, value in plan.defines(reverse=reverse, keep=keep).items()]
        command = ["cc", "-O2", "-shared", "-fPIC", "-w", *defines, f"-I{self.folder}", str(EMULATOR)]
        subprocess.run([*command, "-lm", "-o", str(library)], check=True)
        pointers = (ctypes.c_void_p * len(arrays))(*(array.data_ptr() for array in arrays))
        run = ctypes.CDLL(str(library)).run
        self.faults.append(run(int(name == "backward"), pointers, *sizes, plan.bytes(name), next(self.seeds)))
        self.launches += 1


@pytest.fixture
def on_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., OnCpu]:
    """Makes layers run on the kernel with a plan for as many bands, and returns what runs it."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")

    def use(bands: int, tiles: int = 1, *, seed: int = 0, edit: Edit = str) -> OnCpu:
        launcher = OnCpu(tmp_path, seed, edit)
        monkeypatch.setattr(ConvLSTM, "_fits_gpu", lambda self, x: torch.bfloat16)
        monkeypatch.setattr(convlstm_cluster, "launch", lambda *a, **k: launcher(*a, **k))
        monkeypatch.setattr(
            convlstm_gpu,
            "_plan",
            lambda of: ClusterPlan(of.hidden, of.height, of.width, -(-of.height // bands), bands, tiles),
        )
        return launcher

    return use


@pytest.mark.parametrize(
    ("channels", "size", "bands", "tiles", "reverse"),
    [
        pytest.param((2, 16), (6, 5), 1, 1, True, id="one block"),
        pytest.param((3, 16), (5, 7), 4, 1, False, id="bands of which one is empty"),
        pytest.param((2, 32), (7, 5), 2, 2, True, id="two tiles of a warp", marks=pytest.mark.slow),
        pytest.param((2, 32), (4, 8), 4, 1, False, id="rows that both neighbours need", marks=pytest.mark.slow),
    ],
)
def test_equals_the_steps_one_by_one_forward_and_backward(
    channels: tuple[int, int],
    size: tuple[int, int],
    bands: int,
    tiles: int,
    reverse: bool,
    on_clusters: Callable[..., OnCpu],
) -> None:
    torch.manual_seed(0)
    layer, x = shaken(ConvLSTM(*channels, reverse=reverse)), torch.randn(3, 2, channels[0], *size, requires_grad=True)
    state = tuple(torch.randn(2, channels[1], *size, requires_grad=True) for _ in range(2))
    leaves = [x, *layer.parameters(), *state]
    expected, (_, last) = layer._run_steps(x, state)
    wanted = torch.autograd.grad(expected.square().sum() + last.sum(), leaves)
    launcher = on_clusters(bands, tiles)
    out, (_, cell) = layer.run(x, state)
    found = torch.autograd.grad(out.float().square().sum() + cell.sum(), leaves)
    for ours, theirs in zip((out, cell, *found), (expected, last, *wanted), strict=True):
        assert_like(ours, theirs, TOLERANCE)
    with torch.no_grad():
        unkept, (_, of_unkept) = layer.run(x, state)
    torch.testing.assert_close(unkept, out, rtol=0, atol=0)
    torch.testing.assert_close(of_unkept, cell, rtol=0, atol=0)
    assert launcher.faults == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("bands", [1, 2])
def test_the_random_order_shows_a_missing_barrier(bands: int, on_clusters: Callable[..., OnCpu]) -> None:
    torch.manual_seed(0)
    layer, x = ConvLSTM(2, 16), torch.randn(3, 1, 2, 6, 5)
    with torch.no_grad():
        on_clusters(bands)
        expected = layer(x)
        on_clusters(bands, edit=lambda text: text.replace("    wait_for_block();\n#if", "#if"))
        assert any(not layer(x).equal(expected) for _ in range(3))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param((32, 16, 16, 14), (2, 8, 1, 256), id="nearly as many blocks as multiprocessors"),
        pytest.param((32, 16, 16, 16), (2, 8, 2, 128), id="two blocks fit on a multiprocessor"),
        pytest.param((32, 8, 8, 16), (2, 4, 1, 128), id="bands of one product"),
        pytest.param((32, 4, 4, 16), (4, 1, 1, 128), id="one product"),
        pytest.param((16, 16, 16, 16), (2, 8, 1, 128), id="16 channels"),
        pytest.param((16, 16, 16, 64), (8, 2, 2, 256), id="many images"),
    ],
)
def test_blocks_cover_the_images(sizes: tuple[int, int, int, int], expected: tuple[int, int, int, int]) -> None:
    plan = ClusterPlan.of(*sizes, H100)
    assert plan is not None
    assert (plan.rows, plan.bands, plan.tiles, plan.threads) == expected


@pytest.mark.parametrize("sizes", [(24, 8, 8, 1), (8, 8, 8, 1), (32, 32, 32, 16), (16, 200, 200, 1)])
def test_a_state_that_does_not_fit_has_no_plan(sizes: tuple[int, int, int, int]) -> None:
    assert ClusterPlan.of(*sizes, H100) is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no CUDA compiler")
@pytest.mark.parametrize(
    "sizes", [(32, 16, 16, 16), (32, 16, 16, 14), (16, 16, 16, 16), (32, 19, 16, 40), (16, 32, 32, 100)]
)
def test_the_kernels_compile_for_an_h100_and_keep_all_in_registers(
    sizes: tuple[int, int, int, int], tmp_path: Path
) -> None:
    plan = ClusterPlan.of(*sizes, H100)
    assert plan is not None
    defines = [f"-D{key}={value}" for key, value in plan.defines(reverse=True, keep=True).items()]
    command = ["nvcc", "-arch=sm_90", "-cubin", "-Xptxas", "-v", *defines, str(convlstm_cluster.SOURCE)]
    done = subprocess.run([*command, "-o", str(tmp_path / "cubin")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 2, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    ("batch", "channels", "size"), [(16, 32, 16), (16, 16, 16), (16, 32, 8), (3, 16, 4), (2, 32, 11), (100, 16, 16)]
)
@pytest.mark.parametrize("reverse", [False, True])
def test_on_a_gpu(batch: int, channels: int, size: int, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.get_device_capability() < convlstm_cluster.CAPABILITY:
        pytest.skip("this GPU has no clusters")
    torch.manual_seed(0)
    layer = shaken(ConvLSTM(channels, channels, reverse=reverse))
    x = torch.randn(19, batch, channels, size, size, requires_grad=True)
    leaves = [x, *layer.parameters()]
    expected = layer._run_steps(x, None)[0]
    upstream = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, leaves, upstream)
    monkeypatch.setattr(
        convlstm_gpu,
        "_plan",
        lambda of: convlstm_gpu.cluster_plan(of, torch.cuda.get_device_properties(0).multi_processor_count),
    )
    monkeypatch.setattr(ConvLSTM, "_fits_gpu", lambda self, x: torch.bfloat16)
    layer, on_device = layer.cuda(), x.detach().cuda().requires_grad_()
    out = layer(on_device)
    found = torch.autograd.grad(out, [on_device, *layer.parameters()], upstream.to("cuda", out.dtype))
    for ours, theirs in zip((out, *found), (expected, *wanted), strict=True):
        assert float((ours.detach().float().cpu() - theirs).norm() / theirs.norm()) < TOLERANCE
