"""Hooks of a search into Ray Tune: its scheduler, a callback and a stopper.

Ray pickles these three, with their classes, as part of the state of the search, so they look up `DRIVER` in the process
that they run in.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modeling.training.context import Metrics

OBJECTIVE = "best_nll"

# Called in the driver with (trial name, its parameters, an epoch's metrics).
TrialListener = Callable[[str, dict[str, Any], Metrics], None]


@dataclass
class _Driver:
    """State of the process that drives a search; not part of the state of the search, which Ray pickles.

    Attributes:
        listener: called with each epoch.
        deadline: time of `time.monotonic` at which all trials stop.
        past: reports of trials before an interruption, for ASHA to compare with.
        parameters: of each trial, which Ray's results lack for a trial that reported nothing.
    """

    listener: TrialListener | None = None
    deadline: float = math.inf
    past: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)


DRIVER = _Driver()


def asha(epochs: int, grace_epochs: int) -> Any:
    """Scheduler that stops the worse trials early."""
    from ray.tune.schedulers import ASHAScheduler

    class Asha(ASHAScheduler):
        """ASHA that counts epochs from a trial's start; after an interruption it replays earlier reports first."""

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            from modeling.training.ray_tune_hooks import DRIVER

            super().on_trial_add(tune_controller, trial)
            DRIVER.parameters[trial.trial_id] = dict(trial.config)
            for result in DRIVER.past.get(trial.trial_id, ()):
                self.on_trial_result(tune_controller, trial, result)

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            result = result | {"num_epochs": result["epoch"] + 1}
            return str(super().on_trial_result(tune_controller, trial, result))

    return Asha(time_attr="num_epochs", max_t=epochs, grace_period=min(grace_epochs, epochs))


def tell() -> Any:
    """Callback that passes epochs to the driver's listener."""
    from ray.tune import Callback

    class Tell(Callback):
        """Passes results to the driver's listener."""

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            from modeling.training.ray_tune_hooks import DRIVER, epoch_metrics

            if DRIVER.listener is not None:
                DRIVER.listener(trial.trial_id, dict(trial.config), epoch_metrics(result))

    return Tell()


def deadline() -> Any:
    """Stopper of a search whose time budget is spent."""
    from ray.tune import Stopper

    class Deadline(Stopper):
        """Stops all trials when the time budget is spent, or when Ray has no node left: Tune would wait for ever."""

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            import time

            import ray

            from modeling.ray_session import RaySessionError
            from modeling.training.ray_tune_hooks import DRIVER

            nodes = ray.nodes()
            if nodes and not any(node["Alive"] for node in nodes):
                raise RaySessionError("Ray lost its last node; run the same command to resume")
            return time.monotonic() > DRIVER.deadline

    return Deadline()


def epoch_metrics(result: Mapping[str, Any]) -> Metrics:
    """Metrics of the training loop, without the many that Ray adds."""
    ours = ("epoch", "lr", "best_loss", "best_epoch", OBJECTIVE)
    return {
        key: float(value)
        for key, value in result.items()
        if (key in ours or key.startswith(("train_", "validation_"))) and isinstance(value, int | float)
    }
