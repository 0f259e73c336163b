"""Time to find the neighbours of a galaxy, and recall of the true ones.

The synthetic latents have 64 dimensions and a structure like ours: clusters of unequal size and spread, and variances
that decrease from one direction to the next. Up to 100,000 latents the search is exact; beyond that it uses a graph,
which is written and read again before it is timed. Recall is measured against an exhaustive search.

    python -m benchmarks.search [--sizes 10000 1000000] [--queries 1000]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from modeling.latents.latent_index import LatentIndex
from modeling.latents.neighbours import standardise

NUM_DIMENSIONS = 64
NUM_CLUSTERS = 60
K = 10


def make_latents(num: int, seed: int = 0) -> np.ndarray:
    """Standardised latents, [num, 64] float32."""
    rng = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(1 + np.arange(NUM_DIMENSIONS))
    centres = 1.5 * rng.normal(size=(NUM_CLUSTERS, NUM_DIMENSIONS)) * spectrum
    cluster = rng.choice(NUM_CLUSTERS, num, p=rng.dirichlet(np.full(NUM_CLUSTERS, 0.7)))
    spread = rng.lognormal(0, 0.3, NUM_CLUSTERS)[cluster, None]
    latent = centres[cluster] + rng.normal(size=(num, NUM_DIMENSIONS)) * spectrum * spread
    mixed = latent @ np.linalg.qr(rng.normal(size=(NUM_DIMENSIONS, NUM_DIMENSIONS)))[0]
    return standardise(mixed + 0.05 * rng.normal(size=mixed.shape)).astype(np.float32)


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """Result of an action, and its seconds."""
    began = time.perf_counter()
    return action(), time.perf_counter() - began


def measure(num: int, num_queries: int, folder: Path) -> dict[str, float]:
    """Figures of one size."""
    latent = make_latents(num)
    path = folder / f"{num}.index"
    _, build_s = timed(lambda: LatentIndex.load_or_build(path, latent))
    index, open_s = timed(lambda: LatentIndex.load_or_build(path, latent))
    rows = np.random.default_rng(1).choice(num, num_queries, replace=False)
    index.query(latent[rows[:5]], K)
    found = [timed(lambda row=row: index.query(latent[row], K)[0][0]) for row in rows]
    exact = LatentIndex(latent)
    shared = [
        len(np.intersect1d(exact.query(latent[row], K)[0], rows_found))
        for row, (rows_found, _) in zip(rows, found, strict=True)
    ]
    milliseconds = np.array([1000 * seconds for _, seconds in found])
    return {
        "exact": index.exact,
        "build_s": build_s,
        "open_s": open_s,
        "mib": path.stat().st_size / 2**20 if path.exists() else 0.0,
        "p50_ms": float(np.quantile(milliseconds, 0.5)),
        "p95_ms": float(np.quantile(milliseconds, 0.95)),
        "recall": float(np.mean(shared)) / K,
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = {num: measure(num, options.queries, Path(name)) for num in options.sizes}
    table = Table("latents", "search", "built in s", "opened in s", "file MiB", "p50 ms", "p95 ms", "recall at 10")
    for num, row in results.items():
        figures = [row["build_s"], row["open_s"], row["mib"], row["p50_ms"], row["p95_ms"]]
        kind = "exact" if row["exact"] else "graph"
        table.add_row(f"{num:,}", kind, *(f"{figure:.2f}" for figure in figures), f"{row['recall']:.4f}")
    Console(width=120).print(table)
    print(f"load_average={os.getloadavg()[0]:.1f}")
    for num, row in results.items():
        print(f"p95_ms_1e{round(np.log10(num))}={row['p95_ms']:.2f}")
    print(f"recall_at_10={min(row['recall'] for row in results.values()):.4f}")


if __name__ == "__main__":
    main()
