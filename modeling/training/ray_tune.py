"""Hyperparameter search: Ray Tune runs the trials, Optuna's TPE proposes them, ASHA stops the worse ones early.

Each trial runs the same loop as `ray_train`, in one process or with workers of its own. The objective is `best_nll`:
the validation likelihood of the model that a trial would keep, whatever loss it is trained on. Trials report to the
driver alone, so that only the driver writes to the tracking database. The same name and storage resume an interrupted
search: Ray keeps its state there as a pickle, so nobody else may have write access to that storage.
"""

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cubeprep.redact import redact_process
from cubeprep.store import WindowStore
from cubeprep.words import counted
from modeling.ray_session import ray_session, run_path, storage_path
from modeling.training.config import TrainingJob, TuneConfig
from modeling.training.context import Metrics
from modeling.training.ray_records import can_resume_search, remove_half_written
from modeling.training.ray_train import Trained, check_job, choose_device, make_trainer, take_best, train_rank
from modeling.training.ray_tune_hooks import DRIVER, OBJECTIVE, TrialListener, asha, deadline, epoch_metrics, tell

# Reserved by a trial that drives workers: if it were a CPU, trials could take those of their own workers.
DRIVER_RESOURCE = "tune_driver"


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        name: of the trial.
        parameters: dotted keys and the values that were tried.
        history: metrics of each epoch that it completed.
        loss: the objective; infinite for a trial that failed or completed no epoch.
        error: reason of a failure, or None.
    """

    name: str
    parameters: dict[str, Any]
    history: list[Metrics]
    loss: float
    error: str | None


@dataclass(frozen=True)
class Tuned:
    """Finished search: the job and model of the best trial, and all trials, the best first."""

    job: TrainingJob
    trained: Trained
    trials: list[Trial]


def tune(
    job: TrainingJob,
    config: TuneConfig,
    *,
    name: str,
    storage: str,
    target: Path,
    listener: TrialListener | None = None,
) -> Tuned:
    """Searches for the hyperparameters of the highest validation likelihood, or resumes a search.

    Args:
        job: settings that all trials share; the search space overrides parts of it.
        config: trials, epochs, space.
        name: of the search, unique in the storage.
        storage: of the trials' checkpoints and the state of the search.
        target: folder on this machine for the best model; an existing one is replaced.
        listener: called in this process with each epoch of each trial.

    Raises:
        ValueError: the store, the job or the cluster cannot be used.
        RuntimeError: no trial completed an epoch.
    """
    nested = config.workers_per_trial > 1
    job = trial_job(job, {}, config)
    check_job(job)
    store = WindowStore.open(job.store)
    if "validation" not in store.splits or not store.num_rows("validation"):
        raise ValueError(f"{job.store}: a search compares trials on the validation split, which is empty here")
    # Ray's dashboard, on loopback: without it, Ray hangs as it stops a trial that has workers (ray#58515).
    with ray_session(include_dashboard=nested, resources={DRIVER_RESOURCE: config.concurrency}):
        _check_cluster(nested)
        DRIVER.listener, DRIVER.past, DRIVER.parameters = listener, {}, {}
        DRIVER.deadline = time.monotonic() + (config.time_budget_s or math.inf)
        try:
            results = list(_make_tuner(job, config, name=name, storage=storage).fit())
        finally:
            DRIVER.listener = None
        ranked = sorted(((_trial(result), result) for result in results), key=lambda pair: (pair[0].loss, pair[0].name))
        if not ranked or not math.isfinite(ranked[0][0].loss):
            raise RuntimeError(_why_nothing([trial for trial, _ in ranked], config))
        best, result = ranked[0]
        with _checkpoint(result, storage).as_directory() as directory:
            trained = take_best(Path(directory), target)
    return Tuned(trial_job(job, best.parameters, config), trained, [trial for trial, _ in ranked])


def trial_job(job: TrainingJob, parameters: Mapping[str, Any], config: TuneConfig) -> TrainingJob:
    """Job of one trial: with its parameters, and the settings that a search decides itself; validated again."""
    workers = config.workers_per_trial
    # Threads as configured, or this machine's cores divided by the workers that run at a time.
    threads = job.train.threads or max(1, (os.cpu_count() or 1) // (config.concurrency * workers))
    values = job.model_dump(mode="json")
    values["train"] |= {
        "epochs": config.epochs,
        "threads": threads,
        "num_workers": workers if workers > 1 else 0,
        "min_workers": None,
        "checkpoint_steps": None,
        "max_failures": 0,  # the search retries trials itself
    }
    for key, value in parameters.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    return TrainingJob.model_validate(values)


def run_trial(parameters: dict[str, Any], *, job: dict[str, Any], config: dict[str, Any], storage: str) -> None:
    """Entry point of each trial, in a process of its own; `storage` holds the trainings of trials with workers."""
    redact_process()
    trial = trial_job(TrainingJob.model_validate(job), parameters, TuneConfig.model_validate(config))
    if trial.train.num_workers == 0:
        train_rank(trial, TuneContext(choose_device(trial)))
        return
    import ray.tune
    from ray.tune.integration.ray_train import TuneReportCallback

    name = f"{ray.tune.get_context().get_trial_id()}-workers"
    make_trainer(trial, name=name, storage=storage, callbacks=[TuneReportCallback()]).fit()


class TuneContext:
    """Context of one process that reports to Ray Tune."""

    rank = 0
    world_size = 1

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def sum(self, values: list[float]) -> list[float]:
        """The values themselves."""
        return values

    def report(self, metrics: Metrics | None, checkpoint: Path | None) -> None:
        """Reports an epoch to Ray Tune, which may end the trial here."""
        import ray.tune

        assert metrics is not None, "trials have no checkpoints within epochs"
        ray.tune.report(metrics, checkpoint=ray.tune.Checkpoint.from_directory(checkpoint) if checkpoint else None)

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        """Directory of the last checkpoint of this trial; None at its start."""
        import ray.tune

        checkpoint = ray.tune.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with checkpoint.as_directory() as directory:
            yield Path(directory)


def _check_cluster(nested: bool) -> None:
    import ray

    if nested and ray.cluster_resources().get(DRIVER_RESOURCE, 0) < 1:
        raise ValueError(
            f"tune.workers_per_trial is above 1, and the cluster has none of the resource {DRIVER_RESOURCE}: start its "
            f"head with --resources='{{\"{DRIVER_RESOURCE}\": 8}}', as cluster.yaml does"
        )


def _make_tuner(job: TrainingJob, config: TuneConfig, *, name: str, storage: str) -> Any:
    """Tuner of a new search, or of the one that the storage holds."""
    from functools import partial

    # Often enough that little is repeated after a crash; Ctrl-C should end the command, not the search alone.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "2")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    import ray.tune

    path = run_path(storage, name)
    nested = config.workers_per_trial > 1
    trainable = partial(run_trial, job=job.model_dump(mode="json"), config=config.model_dump(mode="json"), storage=path)
    if nested:
        resources = {DRIVER_RESOURCE: 1}
    else:
        resources = {"CPU": job.train.threads or 1, "GPU": 1 if choose_device(job) == "cuda" else 0}
    trainable = ray.tune.with_resources(trainable, resources)
    remove_half_written(storage, name)
    if can_resume_search(storage, name):
        tuner = ray.tune.Tuner.restore(path, trainable=trainable, resume_unfinished=True)
        for result in tuner.get_results():
            frame = result.metrics_dataframe
            DRIVER.past[Path(result.path).name] = [] if frame is None else frame.to_dict("records")
        return tuner
    return ray.tune.Tuner(
        trainable,
        param_space={key: _domain(domain) for key, domain in config.space.items()},
        tune_config=_tune_config(job, config),
        run_config=ray.tune.RunConfig(
            name=name,
            storage_path=storage_path(storage),
            verbose=0,
            callbacks=[tell()],
            stop=deadline(),
            failure_config=ray.tune.FailureConfig(max_failures=config.max_retries),
            checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=1),
        ),
    )


def _tune_config(job: TrainingJob, config: TuneConfig) -> Any:
    """Ray Tune's configuration: how trials are proposed and compared."""
    import optuna
    import ray.tune
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return ray.tune.TuneConfig(
        metric=OBJECTIVE,
        mode="min",
        search_alg=OptunaSearch(seed=job.seed),
        scheduler=asha(config.epochs, config.grace_epochs),
        num_samples=config.num_trials,
        max_concurrent_trials=config.concurrency,
        # A new process takes seconds to import PyTorch.
        reuse_actors=config.workers_per_trial == 1,
        trial_dirname_creator=_trial_id,
    )


def _trial_id(trial: Any) -> str:
    return str(trial.trial_id)


def _domain(domain: Mapping[str, list[Any]]) -> Any:
    """Ray's search domain of one entry of `TuneConfig.space`."""
    import ray.tune

    kind, values = next(iter(domain.items()))
    make = getattr(ray.tune, kind)
    return make(values) if kind == "choice" else make(*values)


def _trial(result: Any) -> Trial:
    frame = result.metrics_dataframe
    reported = [] if frame is None else [epoch_metrics(row) for row in frame.to_dict("records")]
    # A trial that was resumed may have reported an epoch twice: the later report counts.
    history = list({metrics["epoch"]: metrics for metrics in reported}.values())
    error = None if result.error is None else (str(result.error).strip().splitlines() or ["unknown"])[-1]
    loss = history[-1].get(OBJECTIVE, math.nan) if history and error is None else math.nan
    name = Path(result.path).name
    return Trial(name, DRIVER.parameters[name], history, loss if math.isfinite(loss) else math.inf, error)


def _checkpoint(result: Any, storage: str) -> Any:
    """Last checkpoint of a trial, its own or that of its workers."""
    if result.checkpoint is not None:
        return result.checkpoint
    import pyarrow.fs
    import ray.train
    from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY

    filesystem, _ = pyarrow.fs.FileSystem.from_uri(storage_path(storage))
    return ray.train.Checkpoint(result.metrics[CHECKPOINT_PATH_KEY], filesystem=filesystem)


def _why_nothing(trials: list[Trial], config: TuneConfig) -> str:
    failed = [trial for trial in trials if trial.error]
    if failed:
        return (
            f"{len(failed)} of {counted(len(trials), 'trial')} failed and none was good; the first: {failed[0].error}"
        )
    return f"no trial came to the end of an epoch within tune.time_budget_s: {config.time_budget_s}"
