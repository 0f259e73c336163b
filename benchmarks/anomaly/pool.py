"""Runs tasks in single-threaded processes: small tensors gain nothing from more threads."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run_all(
    function: Callable[[Task], Result], tasks: Sequence[Task], num_workers: int
) -> Iterator[tuple[Task, Result]]:
    """Yields tasks with their results as they finish; a single worker is this process.

    Args:
        function: importable by name.
        tasks: picklable where there are several workers.
        num_workers: processes.
    """
    if num_workers <= 1 or len(tasks) <= 1:
        yield from ((task, function(task)) for task in tasks)
        return
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ |= ONE_THREAD  # read by the libraries as the workers import them
    try:
        # spawn: a fork of a process that has threads may hang.
        with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(function, task): task for task in tasks}
            for future in as_completed(futures):
                yield futures[future], future.result()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
