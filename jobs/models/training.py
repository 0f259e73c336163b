"""Turns a configuration into a training job, and records a training in MLflow; for `train` and `tune`."""

from pathlib import Path
from typing import TYPE_CHECKING

from cubeprep.config import to_yaml
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.command import following_command
from jobs.console.progress import console
from jobs.models.starting import start_tags

if TYPE_CHECKING:
    from cubeprep.store import WindowStore
    from modeling.tracking.models import RegisteredVersion
    from modeling.tracking.runs import TrackedRun
    from modeling.training.config import TrainingJob
    from modeling.training.context import Metrics
    from modeling.training.ray_train import Trained


def training_job(config: ProjectConfig) -> "TrainingJob":
    """Training job of a project; a local store gets its absolute path, since workers run in other folders."""
    from modeling.training.config import TrainingJob

    path = config.store_path
    store = path if "://" in path else str(Path(path).absolute())
    return TrainingJob(store=store, seed=config.seed, model=config.model, train=config.train)


def log_training(tracked: "TrackedRun", config: ProjectConfig, store: "WindowStore") -> None:
    """Logs the inputs of a training or a search to its run, unless it has them from before an interruption."""
    from modeling.tracking.lineage import log_inputs

    if tracked.has_store():
        return
    sections = {"seed", "model", "train", "tune", "tracking", "prepare"}
    values = config.model_dump(mode="json", include=sections)
    log_inputs(tracked, to_yaml(config), values, store, "training")


def log_epochs(tracked: "TrackedRun", epochs: "list[Metrics]", logged: set[int], prefix: str = "") -> None:
    """Logs the metrics of epochs, once each."""
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
    from modeling.network.checkpoint import load_model
    from modeling.tracking.lineage import git_commit
    from modeling.tracking.models import register_model
    from modeling.training.model_card import measure_cost, model_card

    loss, measure = trained.selection_loss(job)
    model, _ = load_model(trained.directory)
    cost = measure_cost(model)
    console.print(f"The model has {cost}")
    training = job.train.model_dump(mode="json", exclude_none=True)
    card = model_card(model, cost, metrics=trained.best, training=training, store=identity, start=job.start)
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
            **start_tags(job),
        },
    )


def report(config: ProjectConfig, trained: "Trained", version: "RegisteredVersion") -> None:
    """Prints the result of a training and where it is."""
    first, best = trained.history[0], trained.best
    which = "validation_loss" if "validation_loss" in best else "train_loss"
    console.print(
        f"{counted(len(trained.history), 'epoch')}: {which.replace('_', ' ')} {first[which]:.4f} -> {best[which]:.4f} "
        f"(best in epoch {best['epoch'] + 1:.0f}); model in {trained.directory}"
    )
    console.print(f"Registered {version.name} version {version.version} as {', '.join(version.aliases)}")
    if "champion" not in version.aliases:
        compare = f"`cubescout promote {version.name}@{version.aliases[0]} CONFIG` compares them"
        console.print(f"The champion, which `score` uses, is another version; {compare}", markup=False)
    if following := following_command("train", "score") or following_command("tune", "score"):
        pretrained = config.score.model == "pretrained"
        chosen = f" --set score.model=models:/{version.name}@champion" if pretrained else ""
        console.print(f"Next: {following}{chosen}", markup=False, soft_wrap=True)
