"""Times a training step of ConvLSTM layers: ours against a plain loop in PyTorch and Keras' ConvLSTM2D.

A step is the forward pass, the mean of squares, and the backward pass to the weights and the input. All contenders have
the same input and weights, and must agree on the loss and the gradient of the input. Each runs in its own process and
they take turns, so that other load affects all of them alike. Figures are ratios of medians over the rounds. The rate
assumes a direct convolution; Winograd needs a quarter of its multiplications. `cpu_share_of_peak` is the rate of the
multiplications that the kernel makes over that of a large matrix product on the same threads.

    python -m benchmarks.convlstm [--rounds 7] [--device cuda] [--keras-python PATH] [--cases line paper]
        [--more] [--bf16] [--threads 1 --clock cpu]

Keras with TensorFlow needs its own environment. It takes part if `--keras-python` names the Python of one that has it:
`python -m venv KERAS && KERAS/bin/pip install keras==3.15.1 tensorflow-cpu==2.21.0`. On a busy machine, measure
processor time on one thread. On a GPU our layer runs as CUDA graphs, in bf16 if the GPU supports it (untested, for lack
of a GPU).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.convlstm_cases import CASES, CLOCKS, Case

ROOT = Path(__file__).parent.parent
# Ratios by the names of the figures: numerator and denominator.
GOALS = {
    "cpu_vs_naive": ("naive", "ours"),
    "cpu_fp32_vs_naive": ("naive", "ours-fp32"),
    "cpu_vs_keras": ("keras", "ours"),
    "gpu_vs_naive": ("naive", "ours-graphs"),
}
TITLES = {
    "naive": "naive loop, fp32",
    "naive-memory": "naive loop, fp32, freed memory kept",
    "naive-bf16": "naive loop, bf16",
    "ours": "ours, default precision",
    "ours-fp32": "ours, fp32",
    "ours-operations": "ours without the kernel, fp32",
    "ours-graphs": "ours, CUDA graphs, default precision",
    "keras": "Keras ConvLSTM2D, fp32",
}


@dataclass
class Contender:
    """A process that performs one training step on request."""

    kind: str
    process: subprocess.Popen[str]
    check: dict[str, float]
    seconds: list[float]

    def step(self) -> None:
        """Performs one step and records its seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(float(self.process.stdout.readline()))


@contextmanager
def contender(kind: str, case: Case, options: argparse.Namespace) -> Iterator[Contender]:
    """Starts a contender and waits until its first step is done."""
    command = [sys.executable, "-m", "benchmarks.convlstm_torch", kind, options.device]
    if kind == "keras":
        command = [str(options.keras_python), "-m", "benchmarks.convlstm_keras"]
    command += [options.clock, str(options.threads), case.to_json()]
    with subprocess.Popen(
        command,
        env=os.environ | ({"CUBESCOUT_NATIVE": "0"} if kind == "ours-operations" else {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if kind == "keras" else None,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{kind} did not start: {' '.join(command)}")
        yield Contender(kind, process, json.loads(line), [])
        assert process.stdin is not None
        process.stdin.close()


def check_agreement(case: Case, contenders: list[Contender]) -> None:
    """Raises an error if results differ; with a stride, Keras is offset by half a pixel and not compared."""
    for one in contenders[1:]:
        tolerance = 0.05 if one.kind not in ("ours-fp32", "ours-operations", "naive-memory", "keras") else 1e-3
        for name, expected in contenders[0].check.items():
            strided = one.kind == "keras" and case.stride > 1
            if not strided and abs(one.check[name] / expected - 1) > tolerance:
                raise RuntimeError(f"{case.name}: {name} of {one.kind} is {one.check[name]}, of naive {expected}")


def measure(case: Case, kinds: list[str], options: argparse.Namespace) -> dict[str, float]:
    """Median seconds per step of each contender; prints the table."""
    with ExitStack() as stack:
        contenders = [stack.enter_context(contender(kind, case, options)) for kind in kinds]
        check_agreement(case, contenders)
        for _ in range(options.rounds):
            for one in contenders:
                one.step()
    table = Table(f"{case.name}, {options.device}", "median ms", "least ms", "times naive", "direct GFLOP/s")
    medians = {one.kind: statistics.median(one.seconds) for one in contenders}
    for one in contenders:
        cells = [1e3 * medians[one.kind], 1e3 * min(one.seconds), medians["naive"] / medians[one.kind]]
        table.add_row(
            TITLES[one.kind], *(f"{a:.4g}" for a in cells), f"{case.products() / medians[one.kind] / 1e9:.0f}"
        )
    Console().print(table)
    return medians


def figures_of(case: Case, medians: dict[str, float], device: str) -> dict[str, float]:
    """Named ratios for the contenders that took part."""
    kind = "gpu" if device == "cuda" else "cpu"
    pairs = {name: pair for name, pair in GOALS.items() if name.startswith(kind) and set(pair) <= set(medians)}
    return {f"{name}_{case.name}".replace("-", "_"): medians[a] / medians[b] for name, (a, b) in pairs.items()}


def gemm_gflops(options: argparse.Namespace, size: int = 2048) -> float:
    """Best rate of a product of large matrices on the same threads: the upper limit of all convolutions."""
    torch.set_num_threads(options.threads)
    a, clock, seconds = torch.ones(size, size), CLOCKS[options.clock], []
    for _ in range(5):
        start = clock()
        a @ a
        seconds.append(clock() - start)
    return 2 * size**3 / min(seconds) / 1e9


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--keras-python", type=Path, help="Python with keras and tensorflow")
    parser.add_argument("--cases", nargs="+", choices=[c.name for c in CASES], default=[c.name for c in CASES])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--more", action="store_true", help="also measure which part of the gain is the kernel's")
    parser.add_argument("--bf16", action="store_true", help="also time the naive loop in bf16: minutes without AVX512")
    options = parser.parse_args()
    kinds = ["naive", "ours", "ours-fp32" if options.device == "cpu" else "ours-graphs"]
    kinds += ["naive-memory", "ours-operations"] if options.more and options.device == "cpu" else []
    kinds += ["naive-bf16"] if options.bf16 else []
    if options.keras_python and options.device == "cpu":
        kinds.append("keras")
    else:
        print("no Keras: it needs the CPU and --keras-python")
    peak = gemm_gflops(options)
    print(f"sgemm_gflops={peak:.0f}")
    figures = {}
    for case in (c for c in CASES if c.name in options.cases):
        medians = measure(case, kinds, options)
        figures |= figures_of(case, medians, options.device)
        if options.device == "cpu":
            rate = case.kernel_products() / medians["ours-fp32"] / 1e9
            figures[f"cpu_share_of_peak_{case.name}".replace("-", "_")] = rate / peak
    for name in GOALS:
        ratios = [ratio for key, ratio in figures.items() if key in (f"{name}_line", f"{name}_paper")]
        figures |= {name: min(ratios)} if ratios else {}
    for key, value in figures.items():
        print(f"{key}={value:.2f}")


if __name__ == "__main__":
    main()
