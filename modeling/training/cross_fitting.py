"""Trains the models of folds beside a main model, one after the other, with the main model's configuration."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from cubeprep.config import MistakeError
from cubeprep.store import WindowStore
from cubeprep.words import counted
from modeling.ray_session import ray_session
from modeling.training.config import TrainingJob
from modeling.training.context import Listener
from modeling.training.folds import FOLDER, fold_of, mark_folds
from modeling.training.loader import names_per_shard
from modeling.training.ray_train import Trained, check_job, finished_checkpoint, train

NUM_NAMED = 10  # empty folds in a message


def fold_jobs(job: TrainingJob) -> list[TrainingJob]:
    """Jobs of the folds, one each."""
    # Each with a seed of its own: the spread of the models then includes that of training.
    values = job.model_dump(mode="json")
    return [
        TrainingJob.model_validate(values | {"fold": fold, "seed": job.seed + 1 + fold})
        for fold in range(job.train.folds)
    ]


def check_folds(job: TrainingJob) -> None:
    """Checks all folds before the first is trained, so that a late one cannot fail for want of galaxies.

    Raises:
        MistakeError: a fold is empty; the message says which, and what to set.
        ValueError: as `check_job`.
    """
    if not job.train.folds:
        return
    store = WindowStore.open(job.store)
    objects = {mangaid for shard in names_per_shard(store, "train", "mangaid") for mangaid in shard}
    if empty := empty_folds(objects, job.train.folds):
        named = ", ".join(map(str, empty[:NUM_NAMED])) + (" ..." if len(empty) > NUM_NAMED else "")
        fewer = range(job.train.folds - 1, job.train.left_out, -1)
        possible = next((f"{num}, or 0" for num in fewer if not empty_folds(objects, num)), "0")
        raise MistakeError(
            f"{store.path}: train.folds is {job.train.folds}, and of {counted(len(objects), 'object')} to train on "
            f"none falls into fold {named}: a hash of its name decides. Set train.folds={possible} (no cross-fitting)."
        )
    for fold_job in fold_jobs(job):
        check_job(fold_job)


def empty_folds(objects: Iterable[str], num_folds: int) -> list[int]:
    """Folds into which none of the objects, by mangaid, falls."""
    return sorted(set(range(num_folds)) - {fold_of(mangaid, num_folds) for mangaid in objects})


@contextmanager
def folds_of(job: TrainingJob, target: Path, *, storage: str) -> Iterator[list[TrainingJob]]:
    """Jobs of all folds, for `train_fold`, within one Ray session for all of them if they train with Ray.

    Args:
        job: of the main model.
        target: directory of the main model, where the number of folds is recorded.
        storage: of checkpoints, as for `train`.
    """
    if not job.train.folds:
        yield []
        return
    mark_folds(target, job.train.folds, job.train.left_out)
    jobs = fold_jobs(job)
    finished = all(finished_checkpoint(each, name=_name(each), storage=storage) for each in jobs)
    with ray_session() if job.train.num_workers and not finished else nullcontext():
        yield jobs


def train_fold(job: TrainingJob, *, storage: str, target: Path, listener: Listener | None = None) -> Trained:
    """Trains the model of one fold, or resumes its training; a finished one is not trained again.

    Args:
        job: of `fold_jobs`.
        storage: of checkpoints, as for `train`.
        target: directory of the main model, to which the model is copied as `folds/K`.
        listener: as for `train`.

    Raises:
        ValueError: see `train`.
        RuntimeError: workers failed for another reason.
    """
    return train(job, name=_name(job), storage=storage, target=target / FOLDER / str(job.fold), listener=listener)


def _name(job: TrainingJob) -> str:
    return f"train-{job.identity(WindowStore.open(job.store).identity)[:12]}"
