"""Resolves and checks the model that a training starts from (`train.start_from`)."""

from typing import TYPE_CHECKING

from cubeprep.config import ConfigError, MistakeError
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.progress import console
from jobs.models.opening import differing_windows

if TYPE_CHECKING:
    from cubeprep.store import WindowStore
    from modeling.training.config import TrainingJob

NUM_NAMED = 3


def with_start(
    config: ProjectConfig, job: "TrainingJob", store: "WindowStore", *, force: bool = False
) -> "TrainingJob":
    """The job with the model that it starts from, copied to the storage of checkpoints; unchanged without one.

    Raises:
        MistakeError: there is no such model; or it was trained on other windows, or has seen galaxies that
            cross-fitting leaves out, and `force` is not set.
    """
    if job.train.start_from is None:
        return job
    from modeling.network.checkpoint import load_model
    from modeling.network.pretrained import PRETRAINED, read_card
    from modeling.tracking.models import resolve_model
    from modeling.training.config import TrainingJob
    from modeling.training.start import publish, seen_before

    found = resolve_model(config.tracking_uri, job.train.start_from)
    _, metadata = load_model(found.directory)
    differing = differing_windows(metadata.get("window_settings"), store)
    if differing and not force:
        raise MistakeError(
            f"train.start_from: {found.reference} was trained on other windows than those of {store.path}, where "
            f"{'; '.join(differing)}. Start from a model of such windows, or use `cubescout train --force`."
        )
    _check_seen(found.reference, seen_before(metadata, store), folds=job.train.folds, force=force)
    start = publish(found.directory, config.checkpoints_path, reference=found.reference, run_id=found.run_id)
    console.print(f"Starts from {start.reference} (weights {start.weights_sha256[:12]})", markup=False)
    if found.reference == PRETRAINED:
        console.print(read_card()["description"], markup=False)
    return TrainingJob.model_validate(job.model_dump(mode="json") | {"start": start.model_dump()})


def check_space(config: ProjectConfig) -> None:
    """Checks that a search does not vary the network that a model to start from has fixed.

    Raises:
        ConfigError: it does.
    """
    searched = [key for key in config.tune.space if key.startswith("model.")]
    if config.train.start_from is not None and searched:
        mistake = f"{', '.join(searched)}: train.start_from fixes the network, so only keys of train can be searched"
        raise ConfigError("tune.space", [mistake])


def start_tags(job: "TrainingJob") -> dict[str, str]:
    """Tags of a run and of a registered model that name the model that a training started from; none without one."""
    if job.start is None:
        return {}
    kept = {"start_from": job.start.reference, "start_sha256": job.start.weights_sha256, "start_run": job.start.run_id}
    return {key: value for key, value in kept.items() if value}


def _check_seen(reference: str, seen: list[str], *, folds: int, force: bool) -> None:
    if not seen:
        return
    named = ", ".join(seen[:NUM_NAMED]) + (" ..." if len(seen) > NUM_NAMED else "")
    text = f"{reference} has seen {counted(len(seen), 'object')} of this store ({named})"
    if folds and not force:
        raise MistakeError(
            f"train.start_from: {text}: with train.folds, {folds}, no model would be one that never saw them. Start "
            "from a model of other galaxies, set train.folds=0, or use `cubescout train --force`."
        )
    console.print(f"Note: {text}; their scores, and p-values that rest on them, are too low.", markup=False)
