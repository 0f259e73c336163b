"""Search of hyperparameters: Ray Tune runs the trials, Optuna's TPE proposes them, ASHA stops the worse ones early.

Each trial is one process that runs the same loop as `ray_train`; the objective is `best_loss`, the lowest validation
loss of the trial so far. Trials report to the driver alone, so that nothing else writes to the tracking database.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modeling.config import TrainingJob, TuneConfig
from modeling.context import Metrics
from modeling.ray_train import Trained, check_job, choose_device, ray_session, run_job, storage_path, take_best

OBJECTIVE = "best_loss"

# Hears of (trial name, its parameters, an epoch's metrics) in the driver.
TrialListener = Callable[[str, dict[str, Any], Metrics], None]


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        name: of the trial.
        parameters: dotted keys and the values that were tried.
        history: metrics of each epoch that it got to run.
        loss: the objective; infinite for a trial that failed.
        error: why it failed, or None.
    """

    name: str
    parameters: dict[str, Any]
    history: list[Metrics]
    loss: float
    error: str | None


@dataclass(frozen=True)
class Tuned:
    """A finished search: the job and model of the best trial, and all trials, the best first."""

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
    """Searches for the hyperparameters with the lowest validation loss.

    Args:
        job: what all trials share; the search space overrides parts of it.
        config: trials, epochs, space.
        name: of the search, unique in the storage.
        storage: where the trials' checkpoints go.
        target: where the best model is put on this machine; anything there is replaced.
        listener: called in this process with each epoch of each trial.

    Raises:
        ValueError: the store or the job do not do.
        RuntimeError: every trial failed.
    """
    job = trial_job(job, {}, epochs=config.epochs, threads=_threads(job, config))
    check_job(job)
    with ray_session():
        results = _search(job, config, name=name, storage=storage, listener=listener)
        trials = sorted((_trial(result) for result in results), key=lambda trial: trial.loss)
        if not math.isfinite(trials[0].loss):
            raise RuntimeError(f"all {len(trials)} trials failed; the first: {trials[0].error}")
        best = results.get_best_result(metric=OBJECTIVE, mode="min", scope="last")
        with best.checkpoint.as_directory() as directory:
            trained = take_best(Path(directory), target)
    return Tuned(trial_job(job, trials[0].parameters), trained, trials)


def trial_job(job: TrainingJob, parameters: Mapping[str, Any], **train: Any) -> TrainingJob:
    """A job with dotted keys overridden, validated again; further arguments are keys of its `train` section."""
    values = job.model_dump(mode="json")
    values["train"] |= {"num_workers": 0, "checkpoint_steps": None, **train}
    for key, value in parameters.items():
        section, _, field = key.partition(".")
        values[section][field] = value
    return TrainingJob.model_validate(values)


def run_trial(parameters: dict[str, Any], *, job: dict[str, Any]) -> None:
    """What each trial runs, in a process of its own."""
    trial = trial_job(TrainingJob.model_validate(job), parameters)
    run_job(trial, TuneContext(choose_device(trial)))


class TuneContext:
    """One process that reports to Ray Tune."""

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
        """Hands an epoch to Ray Tune, which may end the trial here."""
        import ray.tune

        assert metrics is not None, "trials have no checkpoints within epochs"
        ray.tune.report(metrics, checkpoint=ray.tune.Checkpoint.from_directory(checkpoint) if checkpoint else None)

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        """The last checkpoint of this trial."""
        import ray.tune

        checkpoint = ray.tune.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with checkpoint.as_directory() as directory:
            yield Path(directory)


def _search(job: TrainingJob, config: TuneConfig, *, name: str, storage: str, listener: TrialListener | None) -> Any:
    """Runs the trials; returns Ray's result grid."""
    from functools import partial

    import optuna
    import ray.tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    resources = {"CPU": job.train.threads or 1, "GPU": 1 if choose_device(job) == "cuda" else 0}
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(partial(run_trial, job=job.model_dump(mode="json")), resources),
        param_space={key: _domain(domain) for key, domain in config.space.items()},
        tune_config=ray.tune.TuneConfig(
            metric=OBJECTIVE,
            mode="min",
            search_alg=OptunaSearch(seed=job.seed),
            scheduler=ASHAScheduler(max_t=config.epochs, grace_period=min(config.grace_epochs, config.epochs)),
            num_samples=config.num_trials,
            max_concurrent_trials=config.concurrency,
            reuse_actors=True,  # a new process takes seconds to import PyTorch
        ),
        run_config=ray.tune.RunConfig(
            name=name,
            storage_path=storage_path(storage),
            verbose=0,
            callbacks=[_callback(listener)] if listener else [],
            checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=1),
        ),
    )
    return tuner.fit()


def _domain(domain: Mapping[str, list[Any]]) -> Any:
    """Ray's search domain of one entry of `TuneConfig.space`."""
    import ray.tune

    kind, values = next(iter(domain.items()))
    make = getattr(ray.tune, kind)
    return make(values) if kind == "choice" else make(*values)


def _callback(listener: TrialListener) -> Any:
    from ray.tune import Callback

    class Tell(Callback):
        """Passes results on."""

        def __init__(self, listener: TrialListener | None) -> None:
            self.listener = listener

        def __getstate__(self) -> dict[str, Any]:
            # Tune pickles its callbacks with the state of the search, and a listener holds bars and databases.
            return {"listener": None}

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            if self.listener is not None:
                self.listener(trial.trial_id, dict(trial.config), _metrics(result))

    return Tell(listener)


def _trial(result: Any) -> Trial:
    frame = result.metrics_dataframe
    history = [] if frame is None else [_metrics(row) for row in frame.to_dict("records")]
    loss = history[-1][OBJECTIVE] if history and result.error is None else math.inf
    error = None if result.error is None else (str(result.error).strip().splitlines() or ["unknown"])[-1]
    return Trial(Path(result.path).name[:60], dict(result.config), history, loss, error)


def _metrics(result: Mapping[str, Any]) -> Metrics:
    """Our own metrics among the many that Ray adds."""
    ours = ("epoch", "lr", OBJECTIVE, "best_epoch")
    return {
        key: float(value)
        for key, value in result.items()
        if (key in ours or key.startswith(("train_", "validation_"))) and isinstance(value, int | float)
    }


def _threads(job: TrainingJob, config: TuneConfig) -> int:
    """Threads of each trial: as the job says, or this machine's cores divided by the trials at a time."""
    return job.train.threads or max(1, (os.cpu_count() or 1) // config.concurrency)
