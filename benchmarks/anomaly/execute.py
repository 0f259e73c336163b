"""Trains and scores detectors; each combination of detector, run and fold is a task whose result is stored."""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.anomaly.all_detectors import load_detectors
from benchmarks.anomaly.dataset import Data, code_digest, digest_of, identity
from benchmarks.anomaly.detectors.detector import Scored
from benchmarks.anomaly.pool import run_all
from benchmarks.anomaly.samples import CachedStore, cached, training_store
from benchmarks.anomaly.tiers import Run
from cubeprep.files import replacing
from cubeprep.store import WindowStore

SCORE_CODE = (
    *(f"modeling/{room}/**/*.py" for room in ("network", "training", "latents", "scoring")),
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
    missing = [task for task in tasks if not task.path.exists()]
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
    began = time.monotonic()
    for number, (task, seconds) in enumerate(run_all(run_task, missing, num_workers, progress=False), start=1):
        label = f"{task.detector}, fold {task.fold}, {task.run.contamination:.0%} contaminated, seed {task.run.seed}"
        minutes = (time.monotonic() - began) / 60
        print(f"[{number}/{len(missing)}] {label}: {seconds:.1f} CPU s; {minutes:.0f} min so far", flush=True)
    return tasks


def make_sample(sampling: Sampling) -> None:
    """Makes one training sample."""
    training_store(sampling.data, sampling.fold, sampling.run)


def run_task(task: Task) -> float:
    """CPU seconds for training a detector and scoring the fold; writes the result."""
    detector = load_detectors()[task.detector](task.data.tier, task.run)
    sample = _training(training_store(task.data, task.fold, task.run).path)
    began = time.process_time()
    detector.fit(sample, "train")
    fitted = time.process_time()
    found = detector.score(_scoring(task.data.store(task.fold)))
    ended = time.process_time()
    real = task.data.real() if task.fold == 0 else None
    if real is not None:
        found.variants["real"] = detector.score_real(*real)
    save(task.path, found, fitted - began, ended - fitted, detector.training)
    return ended - began


def result_path(data: Data, name: str, run: Run, fold: int) -> Path:
    """Path of a result, named after a digest of everything that determines it."""
    tier = data.tier.model_dump(mode="json", exclude=NOT_OF_A_TASK)
    digest = digest_of([identity(data.tier), tier, code_digest(SCORE_CODE), name, run.model_dump(), fold])
    return data.folder / "scores" / f"{digest[:16]}.npz"


def save(path: Path, found: Scored, fit_seconds: float, score_seconds: float, training: str = "") -> None:
    """Writes a result, completely or not at all."""
    arrays: dict[str, Any] = {"score": found.score, "fit_seconds": fit_seconds, "score_seconds": score_seconds}
    arrays["training"] = training
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
