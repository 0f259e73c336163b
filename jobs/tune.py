"""Searches hyperparameters with Ray Tune.

Optuna proposes `tune.num_trials` trials from `tune.space`, with keys of the sections model and train, such as

\b
    tune:
      space:
        train.lr: {loguniform: [3e-4, 3e-3]}
        model.latent_dim: {choice: [32, 64, 128]}

ASHA stops the worse trials after `tune.grace_epochs`; the others run for `tune.epochs`. `tune.concurrency` trials share
the machine or the cluster, each with `tune.workers_per_trial` workers. The objective is the likelihood of the
validation split, whose galaxies are as observed, so losses and normalisations may be searched too. A trial that fails
is retried `tune.max_retries` times, then counts as failed with its reason. A search that was interrupted, or that has
used up its `tune.time_budget_s`, resumes when it is run again.

The trials are written to `tune/NAME` in the workspace as a table, a plot of parallel coordinates and the best
configuration (best.yaml, without passwords in its URLs), and to MLflow as one run with a child run each. The best model
is registered as `candidate`, and as `champion` if it is better. With --retrain (or `tune.retrain`) a model is trained
with the best values for all of `train.epochs` and registered instead.
"""

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeprep.config import to_yaml
from cubeprep.redact import redact
from cubeprep.storage import write_file
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, command
from jobs.console.progress import console, progress_bar
from jobs.models.starting import check_space, with_start
from jobs.models.training import log_epochs, log_training, register, report, training_job
from jobs.reports.tune_report import plot_parallel, print_table, trials_table, write_table
from jobs.train import run as train

if TYPE_CHECKING:
    from modeling.tracking.runs import TrackedRun
    from modeling.training.context import Metrics
    from modeling.training.ray_tune import Trial, Tuned

logger = logging.getLogger(__name__)


def run(config: ProjectConfig, *, retrain: bool = False) -> int:
    """Searches, tracks and registers; returns the exit code.

    Raises:
        InUseError: another process runs this search.
    """
    from cubeprep.config import digest
    from cubeprep.locks import only_writer
    from cubeprep.store import WindowStore
    from modeling.tracking.lineage import prepare_run, system_metrics
    from modeling.tracking.runs import TrackingError, find_run, start_run
    from modeling.training.cross_fitting import check_folds
    from modeling.training.ray_tune import tune

    check_space(config)
    store = WindowStore.open(config.store_path)
    job = with_start(config, training_job(config), store)
    retrain |= config.tune.retrain
    if retrain:
        check_folds(job)
    identity = store.identity
    same = job.model_copy(update={"store": identity}), config.tune.search_identity()
    name = f"tune-{digest(*same)[:12]}"
    folder = config.workspace / "tune" / name
    where = (config.tracking_uri, config.tracking.experiment)
    known = find_run(*where, {"job": "tune", "mlflow.runName": name})
    parent = prepare_run(*where, identity)
    with (
        only_writer(config.folder_of(name)),
        start_run(*where, name, {"job": "tune"}, parent=parent, resume=known) as tracked,
        system_metrics(tracked),
    ):
        log_training(tracked, config, store)
        children = _Children(config, tracked)
        with progress_bar("Searching", unit="epochs") as bar:
            total = config.tune.num_trials * config.tune.epochs

            def listen(trial: str, parameters: dict[str, object], metrics: "Metrics") -> None:
                try:
                    children.log(trial, parameters, [metrics])
                except TrackingError as error:  # `finish` tries again
                    logger.warning("an epoch of trial %s is not logged, the search goes on: %s", trial, error)
                note = f"trial {len(children.runs)}, {children.best():.4f} at best"
                bar(children.num_epochs, total, note, milestone=True)

            target = config.workspace / "models" / name
            tuned = tune(job, config.tune, name=name, storage=config.checkpoints_path, target=target, listener=listen)
        children.finish(tuned.trials)
        best = best_config(config, tuned)
        leave_report(tracked, config, tuned, best, folder)
        version = None if retrain else register(tracked, config, tuned.job, tuned.trained, identity)
    console.print(f"Trials, plot and the configuration with the best values, best.yaml, are in {folder}")
    if version is None:
        console.print("Training with the best values:")
        return train(best)
    report(config, tuned.trained, version)
    return EXIT_OK


def best_config(config: ProjectConfig, tuned: "Tuned") -> ProjectConfig:
    """Project configuration with the values of the best trial."""
    values = config.model_dump(mode="json")
    for key, value in tuned.trials[0].parameters.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    return ProjectConfig.model_validate(values)


def leave_report(
    tracked: "TrackedRun", config: ProjectConfig, tuned: "Tuned", best: ProjectConfig, folder: Path
) -> None:
    """Writes table, plot and best configuration, without passwords, to the terminal, the workspace and MLflow."""
    table = trials_table(tuned.trials, config.tune.epochs)
    print_table(table)
    files = [*write_table(table, folder), plot_parallel(table, folder / "parallel.png"), folder / "best.yaml"]
    write_file(str(files[-1]), redact(to_yaml(best)).encode())
    for path in files:
        tracked.log_file(path, "search")


class _Children:
    """Child runs of a search, one per trial, including those from before an interruption."""

    def __init__(self, config: ProjectConfig, parent: "TrackedRun") -> None:
        self._where = (config.tracking_uri, config.tracking.experiment)
        self._parent = parent
        self.runs: dict[str, TrackedRun] = {}
        self._logged: dict[str, set[int]] = {}
        self._losses: dict[str, float] = {}

    @property
    def num_epochs(self) -> int:
        """Epochs of all trials so far."""
        return sum(len(epochs) for epochs in self._logged.values())

    def best(self) -> float:
        """Lowest objective so far."""
        return min(self._losses.values(), default=float("nan"))

    def log(self, trial: str, parameters: dict[str, Any], epochs: "list[Metrics]") -> None:
        """Logs the epochs of a trial, once each."""
        from modeling.training.ray_tune_hooks import OBJECTIVE

        if trial not in self.runs:
            self._open(trial, parameters)
        log_epochs(self.runs[trial], epochs, self._logged[trial])
        for metrics in epochs:
            self._losses[trial] = metrics.get(OBJECTIVE, math.inf)

    def _open(self, trial: str, parameters: dict[str, Any]) -> None:
        from modeling.tracking.runs import find_run, open_run

        mine = {"mlflow.parentRunId": self._parent.run_id, "mlflow.runName": trial}
        known = find_run(*self._where, mine)
        run = open_run(*self._where, trial, {"job": "trial"}, parent=self._parent.run_id, resume=known)
        run.log_config("", parameters)
        self.runs[trial] = run
        self._logged[trial] = run.logged_steps("lr")

    def finish(self, trials: "list[Trial]") -> None:
        """Logs epochs not yet reported, and the outcome of each trial."""
        for trial in trials:
            self.log(trial.name, trial.parameters, trial.history)
            self.runs[trial.name].set_tags({"error": trial.error or ""})
            self.runs[trial.name].finish("FAILED" if trial.error else "FINISHED")


if __name__ == "__main__":
    command("tune")()
