"""A training of two workers without Ray: two processes that share each batch, as Ray's workers do.

`python -m tests.modeling.training.two_ranks FOLDER < JOB` leaves the checkpoint in FOLDER. The processes are forked
from one that has imported what they need, in which no library has started a thread.
"""

import multiprocessing
import sys
from pathlib import Path

import torch

from modeling.training.config import TrainingJob
from modeling.training.context import LocalContext
from modeling.training.ray_train import RayContext, train_rank


class Rank(LocalContext):
    """One of two processes; the first keeps the checkpoint."""

    world_size = 2
    wrap, sum = RayContext.wrap, RayContext.sum  # type: ignore[assignment]

    def __init__(self, rank: int, folder: Path) -> None:
        super().__init__(None if rank else folder)
        self.rank = rank


def run(rank: int, job: TrainingJob, folder: Path) -> None:
    place = f"file://{folder.absolute()}/meeting"
    torch.distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
    train_rank(job, Rank(rank, folder))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    job, folder = TrainingJob.model_validate_json(sys.stdin.read()), Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=run, args=(rank, job, folder)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(any(process.exitcode for process in ranks))
