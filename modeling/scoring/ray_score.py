"""Scores the shards of a store on a Ray cluster: one task per shard, the models sent once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cubeprep.redact import redact_process
from modeling.ray_session import ray_session
from modeling.scoring.survey_scorer import ModelEnsemble, ShardScores, Task

# Tasks submitted per worker, running and queued: results are taken as they come, so the driver holds few of them.
WAITING_PER_WORKER = 2
MAX_RETRIES = 3


def run_with_ray(
    num_workers: int, *, gpus: float = 0.0
) -> Callable[
    [Callable[[ModelEnsemble, Task], ShardScores], ModelEnsemble, Sequence[Task]], Iterator[tuple[Task, ShardScores]]
]:
    """A `survey_scorer.RunTasks` that keeps `num_workers` tasks running; a task whose worker dies is run again.

    Args:
        num_workers: tasks at once.
        gpus: GPUs of each task, such as 0.5.
    """

    def run(
        function: Callable[[ModelEnsemble, Task], ShardScores], ensemble: ModelEnsemble, tasks: Sequence[Task]
    ) -> Iterator[tuple[Task, ShardScores]]:
        if not tasks:
            return
        with ray_session():
            import ray  # only here: it reads the session's settings when it is imported

            shared = ray.put(ensemble)
            remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_RETRIES)(_one_thread)
            waiting = list(reversed(tasks))
            running: dict[Any, Task] = {}
            while waiting or running:
                while waiting and len(running) < WAITING_PER_WORKER * num_workers:
                    task = waiting.pop()
                    running[remote.remote(function, shared, task)] = task
                ready, _ = ray.wait(list(running), num_returns=1)
                yield running.pop(ready[0]), ray.get(ready[0])

    return run


def _one_thread(
    function: Callable[[ModelEnsemble, Task], ShardScores], ensemble: ModelEnsemble, task: Task
) -> ShardScores:
    import torch

    redact_process()
    torch.set_num_threads(1)  # the task reserves one CPU
    return function(ensemble, task)
