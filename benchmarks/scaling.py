"""Scaling of the training to two workers, and the cost of starting a job, by phase.

Two workers of Ray Train, one thread each, train the default model on batches of one size in three ways that take turns:
one worker on the whole batch, both with DDP on half of it each, and both independently on half of it each. The first
two give `ddp_efficiency_2`: samples per second of both divided by twice those of one. The third shows the same without
any communication. Step times are taken inside the workers, after a warm-up; figures are medians over the turns.

    python -m benchmarks.scaling [--batch-size 16] [--steps 3] [--rounds 5]
"""

import argparse
import importlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def train_worker(options: dict[str, Any]) -> None:
    """Runs one of two workers; rank 0 writes phases and step times as JSON."""
    marks = {"entered": time.time()}
    import torch
    import torch.distributed as dist

    from cubeprep.store import WindowStore
    from modeling.network.autoencoder import make_model
    from modeling.network.config import ModelConfig
    from modeling.training.config import TrainConfig
    from modeling.training.fit import make_optimizer
    from modeling.training.loader import Loader, RankShare
    from modeling.training.objective import Objective
    from modeling.training.ray_train import RayContext

    context = RayContext()
    torch.set_num_threads(1)
    marks["imported"] = time.time()
    store = WindowStore.open(options["store"])
    marks["opened"] = time.time()

    def make(*, ddp: bool) -> Any:
        model = make_model(ModelConfig().arguments(store.shape), seed=0)
        objective = Objective(model, TrainConfig())
        wrapped = context.wrap(objective) if ddp else objective
        return wrapped, make_optimizer(model, TrainConfig())

    size = options["batch_size"]
    whole = next(Loader(store, "train", batch_size=size).training(0))
    half = next(Loader(store, "train", batch_size=size, share=RankShare(context.rank, 2)).training(0))
    ways = {"one": (*make(ddp=False), whole), "ddp": (*make(ddp=True), half), "apart": (*make(ddp=False), half)}

    def step(way: str) -> None:
        objective, optimizer, batch = ways[way]
        optimizer.zero_grad(set_to_none=True)
        objective(batch["flux"], batch["ivar"], batch["good"])["loss"].mean().backward()
        optimizer.step()

    step("ddp")
    marks["stepped"] = time.time()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(options["rounds"] + 1):
        for way in ways:
            dist.barrier()
            began = time.perf_counter()
            if way != "one" or context.rank == 0:
                for _ in range(options["steps"]):
                    step(way)
            dist.barrier()
            if number:  # the first round warms up
                seconds[way].append((time.perf_counter() - began) / options["steps"])
    if context.rank == 0:
        Path(options["output"]).write_text(json.dumps({"marks": marks, "seconds": seconds}))


def measure(store: str, options: argparse.Namespace, folder: Path) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Seconds of each phase of the start, and of each step by way and turn."""
    began = time.time()
    from modeling.ray_session import ray_session

    importlib.import_module("modeling.training.ray_train")  # as a driver does
    imported = time.time()
    with ray_session(num_cpus=2):
        import ray.train
        from ray.train.torch import TorchTrainer

        started = time.time()
        output = folder / "result.json"
        config = {"store": store, "output": str(output), "batch_size": options.batch_size}
        config |= {"steps": options.steps, "rounds": options.rounds}
        TorchTrainer(
            train_worker,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
            run_config=ray.train.RunConfig(name="scaling", storage_path=str(folder / "storage")),
        ).fit()
    result = json.loads(output.read_text())
    marks = result["marks"]
    phases = {
        "imports of the driver": imported - began,
        "Ray": started - imported,
        "worker group, with PyTorch and gloo": marks["entered"] - started,
        "imports of a worker": marks["imported"] - marks["entered"],
        "store": marks["opened"] - marks["imported"],
        "first step, with its batch": marks["stepped"] - marks["opened"],
    }
    return phases, result["seconds"]


def main() -> None:
    """Runs the benchmark."""
    from tests.synthetic import synthetic_store

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3, help="steps per turn")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = synthetic_store(Path(name) / "w.zarr", num_train=options.batch_size + 1, num_validation=0, num_views=1)
        phases, seconds = measure(store.path, options, Path(name))
    start = Table("phase of the start", "seconds")
    for phase, took in phases.items():
        start.add_row(phase, f"{took:.2f}")
    steps = Table("step of the whole batch", "seconds")
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    for way, label in {"one": "one worker", "ddp": "two workers with DDP", "apart": "two workers, independent"}.items():
        steps.add_row(label, f"{medians[way]:.3f}")
    console = Console()
    console.print(start)
    console.print(steps)
    print(f"load={os.getloadavg()[0]:.1f}")
    print(f"startup_seconds={sum(phases.values()):.1f}")
    print(f"ddp_efficiency_2={efficiency(seconds, 'ddp'):.3f}")
    print(f"apart_efficiency_2={efficiency(seconds, 'apart'):.3f}")


def efficiency(seconds: dict[str, list[float]], way: str) -> float:
    """Median over turns of one worker's time divided by twice that of two."""
    return statistics.median(one / (2 * two) for one, two in zip(seconds["one"], seconds[way], strict=True))


if __name__ == "__main__":
    main()
