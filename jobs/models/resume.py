"""Finds the training that `cubescout train CONFIG --resume RUN` resumes."""

import re
from typing import TYPE_CHECKING

from cubeprep.config import ConfigError
from cubeprep.redact import redact
from jobs.config import ProjectConfig

if TYPE_CHECKING:
    from modeling.training.config import TrainingJob


def find_training(config: ProjectConfig, job: "TrainingJob", name: str, resume: str) -> str:
    """Id of the MLflow run of a training that can be resumed.

    Args:
        config: the project.
        job: the training job of this configuration.
        name: name of the training of this configuration on its store.
        resume: name of a training, or id of its MLflow run.

    Raises:
        ConfigError: there is no such training, its configuration differs, or it has left no checkpoint.
    """
    from modeling.tracking.runs import find_run, make_client
    from modeling.training.ray_train import has_checkpoint

    where = (config.tracking_uri, config.tracking.experiment)
    wanted = {"job": "train", "mlflow.runName": resume}
    run_id = None
    if re.fullmatch(r"[\w-]+", resume):  # it becomes part of a query
        run_id = find_run(*where, wanted) or find_run(*where, {"job": "train"}, run_id=resume)
    if run_id is None:
        place = f"experiment {config.tracking.experiment} of {redact(config.tracking_uri)}"
        raise ConfigError(
            "--resume", [f"{resume} is neither a training's name nor the id of its MLflow run in {place}"]
        )
    run = make_client(config.tracking_uri).get_run(run_id)
    if run.info.run_name != name:
        differing = _differing(config, run.data.params) or [
            "the window store differs, or the model that it starts from"
        ]
        raise ConfigError("--resume", [f"{run.info.run_name} is another training: {text}" for text in differing])
    if not has_checkpoint(job, name=name, storage=config.checkpoints_path):
        raise ConfigError("--resume", [f"{name} has left no checkpoint in {config.checkpoints_path}"])
    return run_id


def _differing(config: ProjectConfig, params: dict[str, str]) -> list[str]:
    """Keys that determine the weights and differ from the run, as far as MLflow records them."""
    from modeling.tracking.runs import flatten
    from modeling.training.config import NOT_PART_OF_IDENTITY

    here = flatten(config.model_dump(mode="json", include={"seed", "model", "train"}))
    keys = [key for key in here if key.removeprefix("train.") not in NOT_PART_OF_IDENTITY and key in params]
    return [f"{key} was {params[key]}, here it is {here[key]}" for key in keys if params[key] != str(here[key])]
