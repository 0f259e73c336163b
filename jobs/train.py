"""Trains a network on a window store.

Runs `train.num_workers` workers of Ray Train, on a local Ray or on the cluster of RAY_ADDRESS; with 0 it trains in this
process, without Ray. Each epoch leaves a checkpoint in `train.storage` (a folder or s3:// URL; default: in the
workspace), and the same configuration, run again, resumes from it. The best epoch is tracked in MLflow and registered
as `tracking.model_name` with the alias `candidate`. It becomes `champion` if there is none, or if its validation loss,
of the same kind and on the same store, is lower; otherwise `cubescout promote` compares them.

With `train.folds` it then trains further models, each without `train.left_out` of the folds into which galaxies are
divided by mangaid, so that `score` has models that were not trained on a given galaxy. They are registered with the
main model.

`train.start_from` names a model whose weights the training starts from, for a survey of few galaxies: a registered one
(models:/NAME@ALIAS), a model's folder, or `pretrained`. It must be of the same kind and sizes; a masked network may be
of another size of windows, and one without recurrence of more lines. A model of windows made with other settings is
rejected, and so, with `train.folds`, is one that has seen these galaxies; --force overrides this.

--resume RUN resumes an existing MLflow run and fails if it cannot. RUN is the training's name (`train-` and 12 digits,
as in MLflow and in the storage) or the id of its MLflow run. Everything that determines the weights must be unchanged;
workers, threads and paths may differ.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, command
from jobs.console.progress import Report, console, progress_bar
from jobs.models.resume import find_training
from jobs.models.starting import start_tags, with_start
from jobs.models.training import log_epochs, log_training, register, report, training_job

if TYPE_CHECKING:
    from modeling.tracking.runs import TrackedRun
    from modeling.training.config import TrainingJob
    from modeling.training.context import Metrics
    from modeling.training.ray_train import Trained

logger = logging.getLogger(__name__)

LOSSES = ("train_loss", "validation_loss")


def run(config: ProjectConfig, *, resume: str | None = None, force: bool = False) -> int:
    """Trains, tracks and registers; returns the exit code.

    Raises:
        InUseError: another process runs this training.
    """
    from cubeprep.locks import only_writer
    from cubeprep.store import WindowStore
    from jobs.reports.training_plots import plot_training
    from modeling.tracking.lineage import prepare_run, system_metrics
    from modeling.tracking.runs import start_run
    from modeling.training.cross_fitting import check_folds
    from modeling.training.ray_train import train

    job = training_job(config)
    store = WindowStore.open(job.store)
    if "validation" not in store.splits:
        logger.warning(
            "%s has no galaxies for validation: the epoch of the lowest training loss is kept, "
            "and nothing tells whether the network overfits",
            job.store,
        )
    job = with_start(config, job, store, force=force)
    check_folds(job)
    identity = store.identity
    name = f"train-{job.identity(identity)[:12]}"
    known = find_training(config, job, name, resume) if resume else None
    tags = {"job": "train", "model_kind": config.model.kind, **start_tags(job)}
    where = config.tracking_uri, config.tracking.experiment
    parent = prepare_run(*where, identity)
    with (
        only_writer(config.folder_of(name)),
        start_run(*where, name, tags, parent=parent, resume=known) as tracked,
        system_metrics(tracked),
    ):
        log_training(tracked, config, store)
        target = config.workspace / "models" / name
        with progress_bar("Training", unit="steps") as bar:
            listener = _Listener(tracked, bar, job.train.epochs)
            trained = train(job, name=name, storage=config.checkpoints_path, target=target, listener=listener)
        if trained.earlier:
            console.print(f"{config.workspace}: the training is finished already; its model is taken", markup=False)
        listener.catch_up(trained)
        tracked.log_file(plot_training(trained.history, target / "training.png"))
        _train_folds(config, job, tracked, target)
        version = register(tracked, config, job, trained, identity)
    report(config, trained, version)
    return EXIT_OK


class _Listener:
    """Shows the progress of a training and logs its metrics, those of a fold as `fold_K/NAME`."""

    def __init__(self, tracked: "TrackedRun", bar: Report, epochs: int, fold: int | None = None) -> None:
        self._tracked, self._bar, self._epochs = tracked, bar, epochs
        self._prefix = "" if fold is None else f"fold_{fold}/"
        self._logged = tracked.logged_steps(f"{self._prefix}lr")
        self._answered = True
        self._steps = 1  # per epoch, until one is reported

    def __call__(self, event: str, metrics: "Metrics") -> None:
        if event == "epoch":
            self._log(metrics)
            self._tell_epoch(metrics)
            return
        self._steps = int(metrics["num_steps"])
        done = int(metrics["epoch"]) * self._steps + int(metrics["step"]) + 1
        self._bar(done, self._steps * self._epochs, f"epoch {metrics['epoch'] + 1:.0f}, loss {metrics['loss']:.4f}")

    def _log(self, metrics: "Metrics") -> None:
        """Logs an epoch; a server that does not answer stops no training, after which `catch_up` tries again."""
        from modeling.tracking.runs import TrackingError

        try:
            log_epochs(self._tracked, [metrics], self._logged, self._prefix)
        except TrackingError as error:
            if self._answered:
                logger.warning("epoch %d is not logged, the training goes on: %s", int(metrics["epoch"]) + 1, error)
            self._answered = False
        else:
            self._answered = True

    def _tell_epoch(self, metrics: "Metrics") -> None:
        losses = [f"{name.replace('_', ' ')} {metrics[name]:.4f}" for name in LOSSES if name in metrics]
        epoch = int(metrics["epoch"]) + 1
        note = ", ".join([f"epoch {epoch} of {self._epochs}", *losses])
        self._bar(epoch * self._steps, self._epochs * self._steps, note, milestone=True)

    def catch_up(self, trained: "Trained") -> None:
        """Logs the epochs trained before this run."""
        log_epochs(self._tracked, trained.history, self._logged, self._prefix)


def _train_folds(config: ProjectConfig, job: "TrainingJob", tracked: "TrackedRun", target: Path) -> None:
    """Trains the models of the folds, if any, into the main model's directory."""
    from modeling.training.cross_fitting import folds_of, train_fold

    with folds_of(job, target, storage=config.checkpoints_path) as fold_jobs:
        for fold, fold_job in enumerate(fold_jobs):
            with progress_bar(f"Training fold {fold}", unit="steps") as bar:
                listener = _Listener(tracked, bar, job.train.epochs, fold)
                trained = train_fold(fold_job, storage=config.checkpoints_path, target=target, listener=listener)
            listener.catch_up(trained)


if __name__ == "__main__":
    command("train")()
