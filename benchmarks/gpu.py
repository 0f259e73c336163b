"""Measures the ConvLSTM and whole trainings on one GPU; needs torch, numpy and Triton alone, and less than 6 minutes.

    python -m benchmarks.gpu [--out benchmarks/results/gpu.md] [--seconds 300] [--only SECTION ...] [--cpu]

Each section stands alone: one that fails is reported with its error, and results are printed and written as they come.
Sections that would begin after `--seconds` are left out. Times are medians of CUDA events after a warm-up. The limit
of a layer is the larger of its bytes over the bandwidth, and its steps times a launch of a tiny kernel in a graph, both
measured first. `--cpu` runs small sizes on the CPU, where figures have no meaning, to test the benchmark.
"""

import argparse
import datetime
import itertools
import logging
import platform
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.convlstm_cases import CASES, Case
from benchmarks.convlstm_naive import naive
from benchmarks.convlstm_torch import naive_layers, our_layers
from benchmarks.gpu_cases import PRESETS, SMALL, Preset
from benchmarks.gpu_kernel import LayerTimes, sweep, time_clusters, time_layer
from benchmarks.gpu_loader import loader_vs_memory
from modeling.network.convlstm import ConvLSTM, pytorch_only

# A survey of 9,000 galaxies in four views, 30 epochs.
SURVEY_SAMPLES = 9000 * 4 * 30


@dataclass
class Run:
    """State of one run.

    Attributes:
        device: `cuda` or `cpu`.
        out: file of the results.
        end: time after which no section begins, in seconds of `time.monotonic`.
        lines: of the results so far.
        figures: by name.
    """

    device: str
    out: Path | None
    end: float
    lines: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        """Whether there is a GPU, so that figures have a meaning."""
        return self.device == "cuda"

    def say(self, text: str) -> None:
        """Prints a line and writes all lines so far."""
        print(text, flush=True)
        self.lines.append(text)
        if self.out:
            figures = [f"    {name}={value:.4g}" for name, value in self.figures.items()]
            self.out.write_text("\n".join(["# ConvLSTM and trainings on a GPU", "", *self.lines, "", *figures]) + "\n")

    def wait(self) -> None:
        """Waits for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def milliseconds(self, action: Callable[[], object], repeats: int = 10) -> float:
        """Median time of an action on the device."""
        for _ in range(3 if self.cuda else 1):
            action()
        self.wait()
        times = []
        for _ in range(repeats if self.cuda else 1):
            if self.cuda:
                start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                action()
                stop.record()
                stop.synchronize()
                times.append(start.elapsed_time(stop))
            else:
                began = time.perf_counter()
                action()
                times.append(1e3 * (time.perf_counter() - began))
        return statistics.median(times)

    def replayed(self, action: Callable[[], object]) -> Callable[[], object]:
        """The action as a CUDA graph; itself without a GPU."""
        if not self.cuda:
            return action
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                action()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            action()
        return graph.replay


def describe(run: Run) -> None:
    """Device, versions, and the two limits that later sections compare with."""
    run.say(
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, PyTorch {torch.__version__}"
    )
    if run.cuda:
        properties = torch.cuda.get_device_properties(0)
        run.say(
            f"{properties.name}, {properties.multi_processor_count} multiprocessors, "
            f"{properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, "
            f"cuDNN {torch.backends.cudnn.version()}"
        )
    else:
        run.say("On a CPU: figures have no meaning.")
    try:
        import triton

        run.say(f"Triton {triton.__version__}")
    except ImportError:
        run.say("Triton is not installed")
    from_, to = (torch.empty(2**28 if run.cuda else 2**16, device=run.device) for _ in range(2))
    run.figures["bandwidth_tb_s"] = 2 * from_.nbytes / run.milliseconds(lambda: to.copy_(from_)) / 1e9
    number, one = 200, torch.zeros(1, device=run.device)
    launches = run.replayed(lambda: [one.add_(1) for _ in range(number)])
    run.figures["launch_us"] = 1e3 * run.milliseconds(launches) / number
    size = 8192 if run.cuda else 64
    a = torch.randn(size, size, device=run.device, dtype=torch.bfloat16)
    run.figures["matmul_bf16_tflop_s"] = 2 * size**3 / run.milliseconds(lambda: a @ a) / 1e9
    run.say(", ".join(f"{name} {value:.4g}" for name, value in run.figures.items()))


def agreement(run: Run) -> None:
    """Largest differences from a plain loop in float64 on the CPU, relative to the largest value."""
    cases = [(2, 1, (2, 4), 4, 1, 3), (2, 1, (2, 4), 4, 1, 1)]
    if run.cuda:
        cases = [(3, 2, (3, 9), 10, 1, 3), (19, 4, (16, 16), 32, 2, 3), (9, 2, (10, 32), 32, 1, 3)]
        cases += [(9, 2, (16, 24), 32, 1, 1)]
    for kind in (torch.float32, torch.bfloat16):
        worst = {"forward": 0.0, "backward": 0.0}
        for steps, batch, channels, size, stride, kernel_size in cases:
            layer = ConvLSTM(*channels, stride=stride, kernel_size=kernel_size)
            found = differences(run, layer, (steps, batch, channels[0], size, size), kind)
            worst = {name: max(value, found[name]) for name, value in worst.items()}
        for name, value in worst.items():
            run.figures[f"largest_difference_{name}_{str(kind).removeprefix('torch.')}"] = value
        run.say(f"largest difference in {kind}: forward {worst['forward']:.2e}, backward {worst['backward']:.2e}")


def differences(run: Run, layer: ConvLSTM, shape: tuple[int, ...], kind: torch.dtype) -> dict[str, float]:
    """Largest differences of one layer."""
    torch.manual_seed(0)
    x = torch.randn(shape)
    weight = torch.cat([layer.of_input.weight, layer.of_state.weight], 1).detach().double().requires_grad_()
    exact = x.double().requires_grad_()
    expected = naive(exact, weight, layer.of_input.bias.double(), stride=layer.of_input.stride[0])
    upstream = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [exact, weight], upstream)
    ours, moved = layer.to(run.device), x.to(run.device).requires_grad_()
    leaves = [moved, ours.of_input.weight, ours.of_state.weight]
    # PyTorch's default for convolutions in float32, TF32, has an error of 1e-3 of its own.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        with torch.autocast(run.device, torch.bfloat16, enabled=kind == torch.bfloat16):
            out = ours(moved)
        of_x, *of_weights = torch.autograd.grad(out, leaves, upstream.to(out))
    pairs = zip((of_x, torch.cat(of_weights, 1)), wanted, strict=True)
    return {"forward": relative(out, expected), "backward": max(relative(a, b) for a, b in pairs)}


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest value."""
    return float(((ours.double().cpu() - theirs).abs().max() / theirs.abs().max()).detach())


def kernels(run: Run) -> None:
    """Times of both kernels in each layer of both presets, against the limit; layers run on clusters if they can."""
    shares = []
    for name, preset in presets(run).items():
        for title, layer, shape in preset.layers():
            number, found_shares = title.split(":")[0][-1], []
            for kind, time_kernel in (("clusters", time_clusters), ("Triton", time_layer)):
                found = time_kernel(run, layer, shape)
                if isinstance(found, str):
                    run.say(f"{name}, {title}, {kind}: no kernel: {found}")
                    continue
                share = found.share(run.figures["bandwidth_tb_s"], run.figures["launch_us"])
                found_shares.append(share)
                run.figures[f"kernel_share_{kind.lower()}_{name}_{number}"] = share
                run.say(f"{name}, {title}, {kind}: {show(found, run)}")
            if found_shares:
                shares.append(found_shares[0])
                run.figures[f"kernel_share_of_limit_{name}_{number}"] = found_shares[0]
    if shares:
        run.figures["kernel_share_of_limit"] = min(shares)


def show(found: LayerTimes, run: Run) -> str:
    """Times of a layer in words."""
    limits = found.limits_ms(run.figures["bandwidth_tb_s"], run.figures["launch_us"])
    share = found.share(run.figures["bandwidth_tb_s"], run.figures["launch_us"])
    return (
        f"forward {found.forward_ms:.3f} ms (limit {limits[0]:.3f}), backward {found.backward_ms:.3f} ms "
        f"(limit {limits[1]:.3f}), share {share:.2f}; {found.plan}"
    )


def against_naive(run: Run) -> None:
    """A training step of one layer against the plain loop, eager as it is usually run."""
    for case in CASES[:2] if run.cuda else (Case("line", 2, 1, 4, (2, 4), 1),):
        times = {
            "naive fp32": run.milliseconds(layer_step(run, case, naive_layers, half=False), 5),
            "naive bf16": run.milliseconds(layer_step(run, case, naive_layers, half=True), 5),
            "ours": run.milliseconds(layer_step(run, case, our_layers, half=True)),
            "ours, graph": run.milliseconds(run.replayed(layer_step(run, case, our_layers, half=True))),
        }
        ours = times["ours, graph"]
        run.figures[f"gpu_vs_naive_{case.name}"] = times["naive fp32"] / ours
        run.figures[f"gpu_vs_naive_bf16_{case.name}"] = times["naive bf16"] / ours
        run.say(f"{case.name}, training step: " + ", ".join(f"{name} {value:.3f} ms" for name, value in times.items()))


def of_spaxels(run: Run) -> None:
    """A training step of the spaxel coder's layer, whose kernel is one pixel, against PyTorch's operations."""
    shape = (19, 16, 16, 32, 32) if run.cuda else (2, 1, 16, 4, 4)
    layer, x = ConvLSTM(16, 24, kernel_size=1).to(run.device), torch.randn(shape, device=run.device, requires_grad=True)

    def step() -> None:
        with torch.autocast(run.device, torch.bfloat16, enabled=run.cuda):
            out = layer(x)
        torch.autograd.grad(out.float().square().mean(), [x, *layer.parameters()])

    kernel = run.milliseconds(run.replayed(step))
    with pytorch_only():
        operations = run.milliseconds(run.replayed(step))
    run.figures["spaxels_vs_operations"] = operations / kernel
    run.say(f"kernel {kernel:.3f} ms, operations {operations:.3f} ms, both as graphs")


def layer_step(run: Run, case: Case, make: Callable[..., Any], *, half: bool) -> Callable[[], None]:
    """Forward pass, mean of squares and backward pass to weights and input."""
    x = torch.from_numpy(case.sequence()).to(run.device).requires_grad_()
    forward, parameters = make(case, torch.device(run.device))

    def step() -> None:
        for leaf in (x, *parameters):
            leaf.grad = None
        with torch.autocast(run.device, torch.bfloat16, enabled=half):
            loss = forward(x).float().square().mean()
        loss.backward()

    return step


def trainings(run: Run) -> None:
    """Samples a second of whole trainings, and their memory."""
    for name, preset in presets(run).items():
        for title, changes in (("", {}), (" without graphs", {"cuda_graphs": False}), (" in fp32", {"bf16": False})):
            if run.cuda:
                torch.cuda.reset_peak_memory_stats()
            rate = samples_a_second(run, preset, **changes)
            memory = torch.cuda.max_memory_allocated() / 2**30 if run.cuda else 0.0
            run.say(f"{name}{title}: {rate:.0f} samples/s, {memory:.2f} GiB")
            if not title:
                run.figures |= {f"samples_per_s_{name}": rate, f"memory_gib_{name}": memory}
    run.figures["paper_hours"] = SURVEY_SAMPLES / run.figures["samples_per_s_paper"] / 3600
    run.say(f"9,000 galaxies x 4 views x 30 epochs with `paper`: {run.figures['paper_hours']:.2f} hours")


def samples_a_second(run: Run, preset: Preset, **changes: object) -> float:
    """Rate of the training loop on batches from page-locked memory."""
    steps = 40 if run.cuda else 2
    trainer, batches = preset.trainer(run.device, 1000, **changes), preset.batches(4, pinned=run.cuda)

    def train(number: int) -> None:
        trainer.train_epoch((batches[k % 4] for k in range(number)), lambda event, metrics: None)
        run.wait()

    train(8 if run.cuda else 1)
    began = time.perf_counter()
    train(steps)
    return steps * preset.train.batch_size / (time.perf_counter() - began)


def loader(run: Run) -> None:
    """The loader, from plain files on disk, against the same batches in memory."""
    ratio = loader_vs_memory(run.device, presets(run)["line"], 128 if run.cuda else 2, run.wait)
    run.figures["loader_vs_memory_gpu"] = ratio
    run.say(f"rate on batches of the loader over that on batches in memory: {ratio:.2f}")


def profile(run: Run) -> None:
    """The ten dearest kernels of a few training steps."""
    kind = torch.profiler.ProfilerActivity.CUDA if run.cuda else torch.profiler.ProfilerActivity.CPU
    for name, preset in presets(run).items():
        trainer, batches = preset.trainer(run.device, 100, cuda_graphs=False), preset.batches(2, pinned=run.cuda)
        trainer.train_epoch(iter(batches), lambda event, metrics: None)
        with torch.profiler.profile(activities=[kind]) as found:
            trainer.train_epoch(iter(batches), lambda event, metrics: None)
            run.wait()
        rows = [row for row in found.key_averages() if spent_ms(row, run)]
        rows.sort(key=lambda row: -spent_ms(row, run))
        total = sum(spent_ms(row, run) for row in rows)
        run.say(f"{name}, {len(batches)} steps: {total:.2f} ms; dearest kernels:")
        for row in rows[:10]:
            run.say(f"    {spent_ms(row, run):8.3f} ms {row.count:5d} x {shortened(row.key)}")


def spent_ms(row: Any, run: Run) -> float:
    """Time in a kernel itself."""
    if not run.cuda:
        return float(row.self_cpu_time_total) / 1e3
    # Not that of the launches, which the profiler lists as well.
    return float(row.self_device_time_total) / 1e3 if row.device_type == torch.autograd.DeviceType.CUDA else 0.0


def shortened(name: str) -> str:
    """Name of a kernel without common prefixes."""
    for common in ("void ", "at::native::", "(anonymous namespace)::", "at::", "c10::"):
        name = name.replace(common, "")
    return name[:150]


def plans(run: Run) -> None:
    """Other plans than the one chosen, for whoever tunes the kernel."""
    for name, preset in presets(run).items():
        for title, layer, shape in itertools.islice(preset.layers(), 1):
            for text in sweep(run, layer, shape):
                run.say(f"{name}, {title}: {text}")


class Notes(logging.Handler):
    """Adds log messages of layers and the loop to the results, such as why there is no kernel or no graph."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def emit(self, record: logging.LogRecord) -> None:
        """Adds a line to the results."""
        self.run.say(f"note: {record.getMessage()}")


def presets(run: Run) -> dict[str, Preset]:
    """The presets, or small ones without a GPU."""
    return PRESETS if run.cuda else SMALL


SECTIONS = (describe, agreement, kernels, against_naive, of_spaxels, trainings, loader, profile, plans)


def measure(run: Run, only: Sequence[str] | None = None) -> Iterator[str]:
    """Runs all sections, or some; yields the names of those that failed."""
    for section in SECTIONS:
        if only and section.__name__ not in only:
            continue
        title = (section.__doc__ or "").splitlines()[0]
        run.say(f"\n## {title}\n")
        if time.monotonic() > run.end:
            run.say("left out: the time is over")
            continue
        began = time.monotonic()
        try:
            section(run)
        except Exception as error:  # noqa: BLE001 - one section must not lose the others
            traceback.print_exc()
            run.say(f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            yield section.__name__
        run.say(f"({time.monotonic() - began:.0f} s)")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file of the results")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--only", nargs="+", choices=[section.__name__ for section in SECTIONS], help="sections to run")
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU here; --cpu tests the benchmark itself")
    run = Run("cpu" if options.cpu else "cuda", options.out, time.monotonic() + options.seconds)
    of_modeling = logging.getLogger("modeling")
    of_modeling.setLevel(logging.INFO)
    of_modeling.addHandler(Notes(run))
    failed = list(measure(run, options.only))
    run.say(f"\nSections that failed: {', '.join(failed) or 'none'}")
    for name, value in run.figures.items():
        print(f"{name}={value:.4g}")


if __name__ == "__main__":
    main()
