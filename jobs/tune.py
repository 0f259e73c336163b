"""Searches hyperparameters with Ray Tune.

Optuna proposes `tune.num_trials` trials from `tune.space`, with keys of the sections model and train, such as

\b
    tune:
      space:
        train.lr: {loguniform: [3e-4, 3e-3]}
        model.latent_dim: {choice: [32, 64, 128]}

ASHA stops the worse trials after `tune.grace_epochs`; the others run `tune.epochs`. Each trial is one process, and
`tune.concurrency` of them share the machine. The objective is the validation loss. MLflow keeps one run for the search
with a child run for each trial; the best model is registered as `candidate`, and as `champion` if it is better.
"""

from typing import TYPE_CHECKING

from jobs.cli import EXIT_OK, command
from jobs.config import ProjectConfig
from jobs.progress import console, progress_bar
from jobs.train import log_epochs, log_inputs, register, report, storage, training_job

if TYPE_CHECKING:
    from modeling.context import Metrics
    from modeling.ray_tune import Trial, Tuned


def run(config: ProjectConfig) -> int:
    """Searches, tracks and registers; returns the exit code."""
    from cubeprep.config import digest
    from cubeprep.store import WindowStore
    from modeling.ray_tune import tune
    from modeling.tracking import start_run

    job = training_job(config)
    identity = WindowStore.open(job.store).identity
    name = f"tune-{digest(job, config.tune)[:12]}"
    with start_run(config.tracking_uri, config.tracking.experiment, name, {"job": "tune"}) as tracked:
        log_inputs(tracked, config, identity)
        with progress_bar("Searching", unit="epochs") as bar:
            seen: list[str] = []

            def listen(trial: str, parameters: dict[str, object], metrics: "Metrics") -> None:
                seen.append(trial)
                total = config.tune.num_trials * config.tune.epochs
                bar(len(seen), total, f"trial {len(set(seen))}, best loss {metrics['best_loss']:.4f}")

            tuned = tune(
                job,
                config.tune,
                name=f"{name}-{tracked.run_id[:8]}",
                storage=storage(config),
                target=config.workspace / "models" / name,
                listener=listen,
            )
        for trial in tuned.trials:
            tags = {"job": "trial", "error": trial.error or ""}
            with start_run(config.tracking_uri, config.tracking.experiment, trial.name, tags, parent=tracked) as child:
                child.log_config("", trial.parameters)
                log_epochs(child, trial.history, set())
        version = register(tracked, config, tuned.job, tuned.trained, identity)
    _print_trials(tuned)
    report(config, tuned.trained, version)
    console.print("`train` keeps to its own configuration: to train longer with the best values, set them in the YAML.")
    return EXIT_OK


def _print_trials(tuned: "Tuned") -> None:
    """The trials as a table, the best first."""
    from rich.table import Table

    keys = list(tuned.trials[0].parameters)
    table = Table(*keys, "epochs", "loss", title=f"{len(tuned.trials)} trials", title_justify="left")
    for trial in tuned.trials:
        table.add_row(*(_short(trial.parameters[key]) for key in keys), str(len(trial.history)), _outcome(trial))
    console.print(table)


def _outcome(trial: "Trial") -> str:
    return f"{trial.loss:.4f}" if trial.error is None else f"failed: {trial.error}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    command("tune")()
