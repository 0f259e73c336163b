"""Runs tasks in single-threaded processes: small tensors gain nothing from more threads."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

MANY = 20


def run_all(
    function: Callable[[Task], Result], tasks: Sequence[Task], num_workers: int, *, progress: bool = True
) -> Iterator[tuple[Task, Result]]:
    """Yields tasks with their results in order of completion; with one worker they run in this process.

    Args:
        function: run once per task; importable by name.
        tasks: arguments of the function; picklable if there are several workers.
        num_workers: number of processes.
        progress: whether to print a line after each tenth of many tasks.
    """
    for done, found in enumerate(_run_all(function, tasks, num_workers), start=1):
        if progress and len(tasks) >= MANY and 10 * done // len(tasks) > 10 * (done - 1) // len(tasks):
            print(f"{function.__name__}: {done} of {len(tasks)}", flush=True)
        yield found


def _run_all(
    function: Callable[[Task], Result], tasks: Sequence[Task], num_workers: int
) -> Iterator[tuple[Task, Result]]:
    if num_workers <= 1 or len(tasks) <= 1:
        yield from ((task, function(task)) for task in tasks)
        return
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ |= ONE_THREAD  # the libraries read it when the workers import them
    try:
        # Spawned, since a forked copy of a process with threads may hang.
        with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(function, task): task for task in tasks}
            for future in as_completed(futures):
                yield futures[future], future.result()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
