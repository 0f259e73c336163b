"""What to train, search, score and track. The networks themselves take plain arguments and need torch alone."""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from cubeprep.config import Config
from modeling.network.config import ModelConfig


class TrainConfig(Config):
    """One training run.

    The paper's: `epochs: 30`, `batch_size: 16`, `optimizer: adagrad`, `lr: 0.01`, `schedule: constant`,
    `grad_clip: null`.
    """

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(8, ge=1)  # over all workers
    optimizer: Literal["adamw", "adagrad"] = "adamw"
    lr: float = Field(5e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(0.0, ge=0)
    grad_clip: float | None = Field(1.0, gt=0)  # norm of the gradient; null for no clipping
    loss: Literal["mae", "mse", "gaussian", "student-t"] = "mae"  # the last two: likelihoods with the inverse variance
    error_floor: float = Field(0.05, ge=0)  # of a likelihood: the model's own error, in quadrature, normalised units
    kl_weight: float = Field(1e-4, ge=0)  # of a VAE, per nat, against the mean error per sample
    kl_warmup_epochs: float = Field(0.0, ge=0)  # over which that weight grows from 0
    free_bits: float = Field(0.0, ge=0)  # of each latent of a VAE, which cost nothing
    bf16: bool = False
    num_workers: int = Field(1, ge=0)  # of Ray Train; 0 trains in this process, without Ray
    min_workers: int | None = Field(None, ge=1)  # to go on with while nodes are missing; default: waits for all
    max_failures: int = Field(3, ge=0)  # lost workers or nodes after which a training gives up
    threads: int | None = Field(None, ge=1)  # of each worker; default: this machine's cores over its workers
    use_gpu: bool | Literal["auto"] = "auto"
    storage: str | None = None  # of checkpoints, a directory or s3://; default: in the workspace
    checkpoint_steps: int | None = Field(None, ge=1)  # from one checkpoint to the next; default: at each epoch's end
    shuffle_rows: int = Field(256, ge=1)
    cache_mib: int = Field(1024, ge=0)  # windows that each worker keeps in memory over epochs
    folds: int = Field(0, ge=0)  # of cross-fitting: further models, each of which leaves some galaxies out; 0 for none
    left_out: int = Field(1, ge=1)  # folds that each of them leaves out; with 2, two models never saw a galaxy

    @model_validator(mode="after")
    def _each_fold_leaves_some_to_train(self) -> "TrainConfig":
        if self.folds and self.folds <= self.left_out:
            raise ValueError(
                f"folds is {self.folds} and left_out {self.left_out}: a model that leaves out all folds has nothing to "
                "train on; folds must be more than left_out, or 0"
            )
        return self


# Keys of `train` that say where and how trainings run and how many, and not what comes out of one.
NOT_PART_OF_IDENTITY = {
    "num_workers",
    "min_workers",
    "max_failures",
    "threads",
    "use_gpu",
    "storage",
    "cache_mib",
    "checkpoint_steps",
    "folds",
    "left_out",
}


class TrainingJob(Config):
    """All that a worker needs to know; it crosses process borders as JSON."""

    store: str
    seed: int = 0
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    fold: int | None = Field(None, ge=0)  # of cross-fitting, which of the models; the main one sees all galaxies

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> "TrainingJob":
        if self.fold is not None and self.fold >= self.train.folds:
            raise ValueError(f"fold is {self.fold}, but train.folds is {self.train.folds}")
        return self

    def identity(self, store_identity: str) -> str:
        """Digest of what decides the weights: resources and places do not."""
        decisive = self.model_dump(mode="json", exclude={"store": True, "fold": True, "train": NOT_PART_OF_IDENTITY})
        if self.fold is not None:
            decisive["fold"] = [self.fold, self.train.folds, self.train.left_out]
        text = json.dumps([store_identity, decisive], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


Space = dict[str, dict[str, list[Any]]]

# Searching these would change how long or where a trial runs.
NOT_SEARCHABLE = {"train.epochs"} | {f"train.{key}" for key in NOT_PART_OF_IDENTITY}


class TuneConfig(Config):
    """A search with Optuna's TPE and ASHA, which stops the worse trials early."""

    num_trials: int = Field(8, ge=1)
    concurrency: int = Field(2, ge=1)
    workers_per_trial: int = Field(1, ge=1)  # one is a process of its own; more train together, as of Ray Train
    time_budget_s: float | None = Field(
        None, gt=0
    )  # of one run of the command; when it runs again, it has as much again
    max_retries: int = Field(1, ge=0)  # of a trial that fails, from its last checkpoint; then it is set aside
    retrain: bool = False  # train on with the best values, as `train` would, and register that
    epochs: int = Field(4, ge=1)  # of a trial that is not stopped
    grace_epochs: int = Field(1, ge=1)  # before a trial may be stopped
    space: Space = Field(
        {"train.lr": {"loguniform": [1e-3, 1e-2]}, "model.latent_dim": {"choice": [32, 64, 128]}}, min_length=1
    )

    def search_identity(self) -> "TuneConfig":
        """All that makes it another search: with other budgets or a training after it, it is the same."""
        return self.model_copy(update={"time_budget_s": None, "retrain": False})

    @field_validator("space")
    @classmethod
    def _space_is_known(cls, space: Space) -> Space:
        mistakes = [mistake for key, domain in space.items() for mistake in _domain_mistakes(key, domain)]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return space


SECTIONS: dict[str, type[Config]] = {"model": ModelConfig, "train": TrainConfig}
DOMAINS = ("choice", "uniform", "loguniform", "randint")


def _domain_mistakes(key: str, domain: dict[str, list[Any]]) -> list[str]:
    """What is wrong with one entry of a search space."""
    section, _, name = key.partition(".")
    if section not in SECTIONS or name not in SECTIONS[section].model_fields:
        return [f"{key} is no key of the sections model or train"]
    if key in NOT_SEARCHABLE:
        return [f"{key} cannot be searched: it changes how long or where a trial runs"]
    if len(domain) != 1 or next(iter(domain)) not in DOMAINS:
        return [f"{key}: expected one of {', '.join(DOMAINS)}, found {', '.join(domain) or 'nothing'}"]
    kind, values = next(iter(domain.items()))
    # YAML gives 1e-3 as a string; the field's own type makes it a number.
    try:
        parsed = [getattr(SECTIONS[section].model_validate({name: value}), name) for value in values]
    except ValidationError as error:
        return [f"{key}: {item['msg']} (found {item['input']!r})" for item in error.errors()]
    if not parsed or (kind != "choice" and not (len(parsed) == 2 and parsed[0] < parsed[1])):
        return [f"{key}: {kind} takes {'values' if kind == 'choice' else 'a lower and an upper bound'}, found {values}"]
    if kind == "randint" and not all(isinstance(value, int) for value in parsed):
        return [f"{key}: randint takes whole numbers, found {values}"]
    domain[kind] = parsed
    return []
