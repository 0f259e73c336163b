import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import gpu
from benchmarks.gpu_cases import PRESETS, SMALL, Train
from benchmarks.gpu_kernel import LayerTimes, time_layer
from benchmarks.gpu_loader import loader_vs_memory
from jobs.config import load_project
from modeling.network.convlstm_gpu import Plan
from modeling.training.config import TrainConfig

ROOT = Path(__file__).parents[2]
PLAN = Plan(rows=4, bands=1, pixels=16, wide=16, warps=4, images=2)


def run_on(out: Path | None = None, seconds: float = 1000) -> gpu.Run:
    return gpu.Run("cpu", out, gpu.time.monotonic() + seconds)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_those_that_are_shipped(name: str) -> None:
    # The settings of docs/masked.md, which train the autoencoder.
    ae = {
        "model.kind": "ae",
        "model.step_channels": 32,
        "model.lstm_channels": 32,
        "train.lr": 5e-3,
        "train.weight_decay": 0,
    }
    settings = tuple(f"{key}={value}" for key, value in ae.items()) if name == "line" else ()
    shipped, ours = load_project("line" if name == "masked" else name, settings), PRESETS[name]
    windows = shipped.prepare.windows
    assert ours.shape[1:] == (windows.num_samples, windows.size)
    network = nn.Module()
    network.arguments = shipped.model.arguments(ours.shape, windows.line_names)
    assert ours.network().arguments == network.arguments | ({} if name == "masked" else {"variational": False})
    keys = {key: getattr(shipped.train, key) for key in Train.__dataclass_fields__ if key not in ("epochs",)}
    assert {key: getattr(ours.train, key) for key in keys} == keys


def test_defaults_are_those_of_the_configuration() -> None:
    keys = [key for key in Train.__dataclass_fields__ if key != "epochs"]
    assert {key: getattr(Train(), key) for key in keys} == {key: getattr(TrainConfig(), key) for key in keys}


def test_the_limit_is_of_bytes_or_of_launches() -> None:
    times = LayerTimes(2.0, 3.0, 4_000_000_000, 1, steps=100, plan=PLAN)
    assert times.limits_ms(2.0, 5.0) == pytest.approx((2.0, 0.5))
    assert times.share(2.0, 5.0) == pytest.approx(0.5)


def test_a_section_that_fails_loses_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(run: gpu.Run) -> None:
        """It fails."""
        raise RuntimeError("out of memory\nand more")

    def works(run: gpu.Run) -> None:
        """It works."""
        run.figures["figure"] = 2.0

    monkeypatch.setattr(gpu, "SECTIONS", (fails, works))
    run = run_on(tmp_path / "gpu.md")
    assert list(gpu.measure(run)) == ["fails"]
    text = (tmp_path / "gpu.md").read_text()
    assert "failed: RuntimeError: out of memory\n" in text
    assert "figure=2" in text


def test_sections_after_the_time_are_left_out() -> None:
    run = run_on(seconds=-1)
    assert list(gpu.measure(run)) == []
    assert not run.figures


@pytest.mark.slow
def test_trainings_and_the_profile_give_figures() -> None:
    run = run_on()
    for section in (gpu.trainings, gpu.profile, gpu.against_naive, gpu.of_spaxels):
        section(run)
    assert {"samples_per_s_line", "samples_per_s_paper", "paper_hours", "gpu_vs_naive_line"} <= set(run.figures)
    assert all(value > 0 for name, value in run.figures.items() if not name.startswith("memory"))
    assert any("x " in line for line in run.lines)


def test_choices_that_are_logged_are_among_the_results() -> None:
    run = run_on()
    notes = gpu.Notes(run)
    logger = logging.getLogger("modeling.test")
    logger.addHandler(notes)
    logger.warning("steps run without a %s", "graph")
    logger.removeHandler(notes)
    assert run.lines == ["note: steps run without a graph"]


def test_our_layers_agree_with_the_plain_loop() -> None:
    run = run_on()
    gpu.agreement(run)
    assert len(run.figures) == 4
    for name, value in run.figures.items():
        assert 0 < value < (1e-4 if name.endswith("float32") else 0.05), name


@pytest.mark.slow
def test_the_loader_takes_its_batches_from_files() -> None:
    assert loader_vs_memory("cpu", SMALL["line"], 2, lambda: None) > 0


def test_the_kernel_alone_is_timed() -> None:
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("on a GPU the benchmark itself runs")
    pytest.importorskip("triton")
    _, layer, (_, *sizes) = next(iter(SMALL["line"].layers()))
    found = time_layer(run_on(), layer, (1, *sizes))
    assert isinstance(found, LayerTimes)
    assert min(found.forward_ms, found.backward_ms) > 0


@pytest.mark.slow
def test_without_a_gpu_the_benchmark_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "sees no GPU" in done.stderr


@pytest.mark.slow
def test_it_needs_nothing_but_torch_numpy_and_triton() -> None:
    code = (
        "import sys\n"
        "for name in ('zarr', 'pydantic', 'rich', 'ray', 'mlflow', 'yaml', 'safetensors', 'fsspec', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        "import benchmarks.gpu\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
