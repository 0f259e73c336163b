"""One of two processes that train without Ray, and share each batch as Ray's workers do; for forks of `tests.forks`."""

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
    """Trains together with the other rank; the folder, which exists, gets the checkpoint `last`."""
    place = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
    train_rank(job, Rank(rank, folder))
    torch.distributed.destroy_process_group()
