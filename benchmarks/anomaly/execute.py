"""Trains and scores detectors; each combination of detector, run and fold is a task whose result is stored.

Tasks of the same run and fold whose detectors train within seconds are run as one batch, which reads the data once.
"""

import hashlib
import inspect
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from benchmarks.anomaly.all_detectors import load_detectors
from benchmarks.anomaly.dataset import Data, code_digest, digest_of, identity
from benchmarks.anomaly.detectors.detector import SCORED_SPLIT, Scored, shards
from benchmarks.anomaly.pool import run_all
from benchmarks.anomaly.samples import CachedStore, cached, training_store
from benchmarks.anomaly.tiers import Run
from cubeprep.files import replacing
from cubeprep.store import WindowStore

Result = TypeVar("Result")

SCORE_CODE = (
    *(f"modeling/{room}/**/*.py" for room in ("network", "training", "latents", "scoring")),
    *(f"modeling/**/*.{suffix}" for suffix in ("c", "cu", "h")),
    *("benchmarks/anomaly/detectors/*.py", "benchmarks/anomaly/samples.py", "benchmarks/anomaly/fine_tune.py"),
)
# Keys of a tier that change no result.
NOT_OF_A_TASK = {
    *("runs", "network_runs", "slow_runs", "paper_runs", "paper_asked"),
    *("headline", "num_bootstrap", "cpu_hours"),
}


class Task(NamedTuple):
    """Training and scoring of one detector on one fold; `path` is that of the result."""

    data: Data
    detector: str
    run: Run
    fold: int
    path: Path


class Batch(NamedTuple):
    """Tasks of one run and fold, for one process."""

    tasks: tuple[Task, ...]


class Sampling(NamedTuple):
    """Training sample to make for one run and fold."""

    data: Data
    run: Run
    fold: int


def execute(data: Data, names: list[str], num_workers: int) -> list[Task]:
    """All tasks in a fixed order; those without a result are run.

    Args:
        data: data from `prepare_data`.
        names: names of the detectors.
        num_workers: number of processes.
    """
    detectors = load_detectors()
    tasks = [
        Task(data, name, run, fold, result_path(data, name, run, fold))
        for fold in range(data.tier.num_folds)
        for name in names
        for run in getattr(data.tier, detectors[name].cost)
    ]
    missing = [task for task in tasks if not is_done(task)]
    samples = {(task.run, task.fold): Sampling(data, task.run, task.fold) for task in missing}
    for _ in run_all(make_sample, list(samples.values()), num_workers):
        pass
    # By run, so that an interrupted benchmark has complete results of the first ones; within a run the slow networks
    # first, so that short tasks fill the remaining time of all workers.
    costs = ("paper_runs", "slow_runs", "network_runs", "runs")

    def priority(task: Task) -> tuple[int, int, int]:
        cost = detectors[task.detector].cost
        return getattr(data.tier, cost).index(task.run), task.fold, costs.index(cost)

    missing.sort(key=priority)
    began, done = time.monotonic(), 0
    for batch, all_seconds in run_all(run_batch, batches(missing), num_workers, progress=False):
        minutes = (time.monotonic() - began) / 60
        for task, seconds in zip(batch.tasks, all_seconds, strict=True):
            done += 1
            label = (
                f"{task.detector}, fold {task.fold}, {task.run.contamination:.0%} contaminated, seed {task.run.seed}"
            )
            print(f"[{done}/{len(missing)}] {label}: {seconds:.1f} CPU s; {minutes:.0f} min so far", flush=True)
    return tasks


def is_done(task: Task) -> bool:
    """Whether a task has a result, also on the real cubes, which the first fold's models score."""
    if not task.path.exists():
        return False
    if task.fold or not task.data.real_digest:
        return True
    with np.load(task.path) as result:
        return str(result.get("real_digest", "")) == task.data.real_digest


def make_sample(sampling: Sampling) -> None:
    """Makes one training sample."""
    training_store(sampling.data, sampling.fold, sampling.run)


def batches(tasks: Sequence[Task]) -> list[Batch]:
    """Tasks as batches, in the order of their first ones."""
    found: dict[tuple[str, Run, int], list[Task]] = {}
    for task in tasks:
        alone = load_detectors()[task.detector].alone
        found.setdefault((task.detector if alone else "", task.run, task.fold), []).append(task)
    return [Batch(tuple(some)) for some in found.values()]


def run_batch(batch: Batch) -> list[float]:
    """CPU seconds [task] for training detectors and scoring the fold; writes the results.

    Shared work is counted for the first detector that needs it.
    """
    data, _, run, fold, _ = batch.tasks[0]
    sample = _training(training_store(data, fold, run).path)
    detectors = [load_detectors()[task.detector](data.tier, run) for task in batch.tasks]
    fit_seconds = [_seconds(detector.fit, sample, "train")[1] for detector in detectors]
    parts: list[list[Scored]] = [[] for _ in detectors]
    score_seconds = [0.0] * len(detectors)
    for windows in shards(_scoring(data.store(fold)), SCORED_SPLIT):
        for number, detector in enumerate(detectors):
            scored, seconds = _seconds(detector.score_windows, windows)
            parts[number].append(scored)
            score_seconds[number] += seconds
    real = data.real() if fold == 0 else None
    for task, detector, some, fitting, scoring in zip(
        batch.tasks, detectors, parts, fit_seconds, score_seconds, strict=True
    ):
        found = Scored.joined(some)
        if real is not None:
            found.variants["real"] = detector.score_real(*real)
        save(task.path, found, fitting, scoring, detector.training, data.real_digest if fold == 0 else "")
    return [sum(pair) for pair in zip(fit_seconds, score_seconds, strict=True)]


def _seconds(function: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """Result of a function, and the CPU seconds that it took."""
    began = time.process_time()
    result = function(*arguments)
    return result, time.process_time() - began


def result_path(data: Data, name: str, run: Run, fold: int) -> Path:
    """Path of a result, named after a digest of everything that determines it."""
    tier = data.tier.model_dump(mode="json", exclude=NOT_OF_A_TASK)
    code = code_digest(SCORE_CODE), source_digest(name)
    digest = digest_of([identity(data.tier), tier, *code, name, run.model_dump(), fold])
    return data.folder / "scores" / f"{digest[:16]}.npz"


def source_digest(name: str) -> str:
    """sha256 of the module of a detector, which may lie outside the benchmark."""
    return hashlib.sha256(Path(inspect.getfile(load_detectors()[name])).read_bytes()).hexdigest()


def save(
    path: Path, found: Scored, fit_seconds: float, score_seconds: float, training: str = "", real_digest: str = ""
) -> None:
    """Writes a result, completely or not at all."""
    arrays: dict[str, Any] = {"score": found.score, "fit_seconds": fit_seconds, "score_seconds": score_seconds}
    arrays |= {"training": training, "real_digest": real_digest}
    kept = ("spaxels", "lines", "hypotheses", "latents")
    arrays |= {name: values for name in kept if (values := getattr(found, name)) is not None}
    arrays |= {f"variant:{name}": values for name, values in found.variants.items()}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


@lru_cache(maxsize=1)
def _training(path: str) -> WindowStore:
    return cached(path)


@lru_cache(maxsize=1)
def _scoring(path: str) -> CachedStore:
    return cached(path)
