"""Training on batches from a store against training on the same batches from memory.

The step is forward, backward and update of the default model. The store is on local disk, and on S3 (JuiceFS' gateway
on this machine, which competes for the same cores). Nothing is kept in memory between epochs.

There are two settings: the step leaves one core to the loader, or the step uses all cores. In the second the loader
competes with the step; `loader_processor_share` gives the loader's processor time relative to that of the steps.

    python -m benchmarks.loader [--rows 64] [--repeats 3]
"""

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.gateway import uploaded
from cubeprep.store import WindowStore
from modeling.network.autoencoder import make_model
from modeling.network.config import ModelConfig
from modeling.training.config import TrainConfig
from modeling.training.fit import make_optimizer
from modeling.training.loader import Batch, Loader
from modeling.training.objective import Objective

BATCH_SIZE = 8


def make_trainer(store: WindowStore) -> Callable[[Iterable[Batch]], float]:
    """Function that trains on batches and returns the seconds it took."""
    config = TrainConfig()
    model = make_model(ModelConfig().arguments(store.shape), seed=0)
    objective, optimizer = Objective(model, config), make_optimizer(model, config)

    def train(batches: Iterable[Batch]) -> float:
        began = time.perf_counter()
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            objective(batch["flux"], batch["ivar"], batch["good"])["loss"].mean().backward()
            optimizer.step()
        return time.perf_counter() - began

    return train


def measure(local: WindowStore, remote: WindowStore, repeats: int) -> dict[str, float]:
    """Median seconds of an epoch from each source, taken in turns."""
    loaders = make_loaders(local, remote)
    in_memory = list(loaders["local disk"].training(0))
    train = make_trainer(local)
    train(in_memory[:2])
    seconds: dict[str, list[float]] = {"memory": [], **{name: [] for name in loaders}}
    for _ in range(repeats):
        seconds["memory"].append(train(in_memory))
        for name, loader in loaders.items():
            seconds[name].append(train(loader.training(0)))
    return {name: statistics.median(times) for name, times in seconds.items()}


def make_loaders(local: WindowStore, remote: WindowStore) -> dict[str, Loader]:
    """A loader of each store."""
    stores = {"local disk": local, "S3": remote}
    return {name: Loader(store, "train", batch_size=BATCH_SIZE, cache_mib=0) for name, store in stores.items()}


def processor_shares(local: WindowStore, remote: WindowStore) -> dict[str, float]:
    """Processor time of an epoch's batches alone, relative to that of its steps."""
    loaders = make_loaders(local, remote)
    in_memory = list(loaders["local disk"].training(0))
    train = make_trainer(local)
    train(in_memory[:2])

    def processor_seconds(action: Callable[[], object]) -> float:
        began = time.process_time()
        action()
        return time.process_time() - began

    steps = processor_seconds(lambda: train(in_memory))
    return {
        name: processor_seconds(lambda x=loader: deque(x.training(0), 0)) / steps for name, loader in loaders.items()
    }


def main() -> None:
    """Runs the benchmark."""
    from tests.synthetic import synthetic_store

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64, help="galaxies, each in four views")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    num_cores = torch.get_num_threads()
    settings = {"": max(1, num_cores - 1), "_all_cores": num_cores}
    figures = {}
    table = Table("batches from", "threads of the step", "seconds per epoch", "galaxies/s")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store.zarr"
        # One more, since the last galaxy of a synthetic store is rejected.
        store = synthetic_store(path, num_train=options.rows + 1, num_views=4, num_validation=0, galaxies_per_shard=8)
        with uploaded(path, Path(name) / "juicefs") as url:
            remote = WindowStore.open(url)
            for setting, threads in settings.items():
                torch.set_num_threads(threads)
                seconds = measure(store, remote, options.repeats)
                for source, took in seconds.items():
                    table.add_row(source, str(threads), f"{took:.2f}", f"{4 * options.rows / took:.1f}")
                figures[f"loader_vs_memory{setting}"] = seconds["memory"] / seconds["local disk"]
                figures[f"s3_loader_vs_memory{setting}"] = seconds["memory"] / seconds["S3"]
            shares = processor_shares(store, remote)
    Console().print(table)
    figures |= {"loader_processor_share": shares["local disk"], "s3_loader_processor_share": shares["S3"]}
    for key, value in figures.items():
        print(f"{key}={value:.3f}")


if __name__ == "__main__":
    main()
