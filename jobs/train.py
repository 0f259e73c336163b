"""Trains a ConvLSTM autoencoder on a window store.

Runs `train.num_workers` workers of Ray Train, on a Ray of its own or on the cluster of RAY_ADDRESS; with 0 it trains in
this process, without Ray. Each epoch leaves a checkpoint in `train.storage` (a directory or s3://, by default in the
workspace): the same configuration, run again, goes on where it stopped. The best epoch is tracked in MLflow and
registered as `tracking.model_name` with the alias `candidate`; it becomes `champion` if there is none, or if its
validation loss on the same store is lower.

With `train.folds` it then trains further models, each of which leaves out `train.left_out` of the folds into which
galaxies fall by mangaid: so `score` has models that never saw a galaxy. They are registered with the main model.

With --resume RUN it goes on in the same MLflow run, or fails if there is nothing to go on with. RUN is the training's
name (`train-` and 12 digits, as in MLflow and in the storage) or the id of its MLflow run. All that decides the weights
must be as it was; workers, threads and places may change.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeprep.config import to_yaml
from jobs.cli import EXIT_OK, command
from jobs.config import ProjectConfig
from jobs.progress import console, progress_bar
from jobs.resume import find_training

if TYPE_CHECKING:
    from cubeprep.store import WindowStore
    from modeling.config import TrainingJob
    from modeling.context import Metrics
    from modeling.ray_train import Trained
    from modeling.tracking import RegisteredVersion, TrackedRun


def run(config: ProjectConfig, *, resume: str | None = None) -> int:
    """Trains, tracks and registers; returns the exit code."""
    from cubeprep.store import WindowStore
    from jobs.training_plots import plot_training
    from modeling.crossfit import check_folds
    from modeling.lineage import prepare_run, system_metrics
    from modeling.ray_train import train
    from modeling.tracking import start_run

    job = training_job(config)
    check_folds(job)
    store = WindowStore.open(job.store)
    identity = store.identity
    name = f"train-{job.identity(identity)[:12]}"
    known = find_training(config, job, name, resume) if resume else None
    tags = {"job": "train", "model_kind": config.model.kind}
    where = config.tracking_uri, config.tracking.experiment
    parent = prepare_run(*where, identity)
    with start_run(*where, name, tags, parent=parent, resume=known) as tracked, system_metrics(tracked):
        if known is None:
            log_training(tracked, config, store)
        target = config.workspace / "models" / name
        with progress_bar("Training", unit="steps") as bar:
            listener = _Listener(tracked, bar, job.train.epochs)
            trained = train(job, name=name, storage=storage(config), target=target, listener=listener)
        listener.catch_up(trained)
        tracked.log_file(plot_training(trained.history, target / "training.png"))
        _train_folds(config, job, tracked, target)
        version = register(tracked, config, job, trained, identity)
    report(config, trained, version)
    return EXIT_OK


class _Listener:
    """Shows a training as it goes and notes its metrics, those of a fold as `fold_K/NAME`."""

    def __init__(self, tracked: "TrackedRun", bar: Callable[..., Any], epochs: int, fold: int | None = None) -> None:
        self._tracked, self._bar, self._epochs = tracked, bar, epochs
        self._prefix = "" if fold is None else f"fold_{fold}/"
        self._logged = tracked.logged_steps(f"{self._prefix}lr")

    def __call__(self, event: str, metrics: "Metrics") -> None:
        if event == "epoch":
            log_epochs(self._tracked, [metrics], self._logged, self._prefix)
            return
        steps = int(metrics["num_steps"])
        done = int(metrics["epoch"]) * steps + int(metrics["step"]) + 1
        self._bar(done, steps * self._epochs, f"epoch {metrics['epoch'] + 1:.0f}, loss {metrics['loss']:.4f}")

    def catch_up(self, trained: "Trained") -> None:
        """Notes what was trained before this run."""
        log_epochs(self._tracked, trained.history, self._logged, self._prefix)


def _train_folds(config: ProjectConfig, job: "TrainingJob", tracked: "TrackedRun", target: Path) -> None:
    """Trains the models of folds, if there are to be any, into the main model's directory."""
    from modeling.crossfit import folds_of, train_fold

    with folds_of(job, target) as fold_jobs:
        for fold, fold_job in enumerate(fold_jobs):
            with progress_bar(f"Training fold {fold}", unit="steps") as bar:
                listener = _Listener(tracked, bar, job.train.epochs, fold)
                trained = train_fold(fold_job, storage=storage(config), target=target, listener=listener)
            listener.catch_up(trained)


def training_job(config: ProjectConfig) -> "TrainingJob":
    """The part of a project that a worker needs; a local store by its absolute path, since workers run elsewhere."""
    from modeling.config import TrainingJob

    path = config.store_path
    store = path if "://" in path else str(Path(path).absolute())
    return TrainingJob(store=store, seed=config.seed, model=config.model, train=config.train)


def storage(config: ProjectConfig) -> str:
    """Where checkpoints go."""
    return config.train.storage or str(config.workspace / "training")


def log_training(tracked: "TrackedRun", config: ProjectConfig, store: "WindowStore") -> None:
    """Notes what a training or a search starts from with its run."""
    from modeling.lineage import log_inputs

    sections = {"seed", "model", "train", "tune", "tracking", "prepare"}
    values = config.model_dump(mode="json", include=sections)
    log_inputs(tracked, to_yaml(config), values, store, "training")


def log_epochs(tracked: "TrackedRun", epochs: "list[Metrics]", logged: set[int], prefix: str = "") -> None:
    """Notes the metrics of epochs, once each."""
    for metrics in epochs:
        epoch = int(metrics["epoch"])
        if epoch not in logged:
            tracked.log_metrics({prefix + key: value for key, value in metrics.items() if key != "epoch"}, epoch)
            logged.add(epoch)


def register(
    tracked: "TrackedRun", config: ProjectConfig, job: "TrainingJob", trained: "Trained", identity: str
) -> "RegisteredVersion":
    """Registers the best model of a training."""
    from cubeprep.config import digest
    from modeling.checkpoint import load_model
    from modeling.lineage import git_commit
    from modeling.summary import measure_cost, model_card
    from modeling.tracking import register_model

    loss, measure = trained.selection_loss(job)
    model, _ = load_model(trained.directory)
    cost = measure_cost(model)
    console.print(f"The model has {cost}")
    training = job.train.model_dump(mode="json", exclude_none=True)
    card = model_card(model, cost, metrics=trained.best, training=training, store=identity)
    return register_model(
        tracked,
        trained.directory,
        model_name=config.tracking.model_name,
        store_identity=identity,
        loss=loss,
        comparable=measure,
        card=card,
        tags={
            "preset": config.preset,
            "git": git_commit(),
            "model_kind": job.model.kind,
            "steps": job.model.steps,
            "config_sha256": digest(job.model, job.train),
        },
    )


def report(config: ProjectConfig, trained: "Trained", version: "RegisteredVersion") -> None:
    """Says what was made and where."""
    first, best = trained.history[0], trained.best
    which = "validation_loss" if "validation_loss" in best else "train_loss"
    console.print(
        f"{len(trained.history)} epochs: {which.replace('_', ' ')} {first[which]:.4f} -> {best[which]:.4f} "
        f"(best in epoch {best['epoch'] + 1:.0f}); model in {trained.directory}"
    )
    console.print(f"Registered {version.name} version {version.version} as {', '.join(version.aliases)}")


if __name__ == "__main__":
    command("train")()
