"""Sections `train` and `tune` of the configuration, and the job that training workers receive."""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from cubeprep.config import Config
from modeling.network.config import ModelConfig

MOST_FOLDS = 1000


class TrainConfig(Config):
    """One training run.

    The paper's values: `epochs: 30`, `batch_size: 16`, `optimizer: adagrad`, `lr: 0.01`, `schedule: constant`,
    `grad_clip: null`.
    """

    epochs: int = Field(20, ge=1, description="Passes over the training data")
    batch_size: int = Field(8, ge=1, description="Rows per batch, over all workers")
    optimizer: Literal["adamw", "adagrad"] = Field("adamw", description="Optimizer; the paper's is adagrad")
    lr: float = Field(5e-3, gt=0, description="Learning rate at the start")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="Learning rate: cosine to 0, or constant")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of the optimizer")
    grad_clip: float | None = Field(1.0, gt=0, description="Maximum norm of the gradient; null for no clipping")
    loss: Literal["mae", "mse", "gaussian", "student-t"] = Field(
        "mae", description="Loss; gaussian and student-t are likelihoods that use the inverse variance"
    )
    error_floor: float = Field(
        0.05,
        ge=0,
        description="Error of an autoencoder in a likelihood, added in quadrature to the noise, normalised units; a "
        "masked network predicts its own",
    )
    kl_weight: float = Field(
        1e-4, ge=0, description="Weight of a VAE's KL divergence, per nat, relative to the mean error per sample"
    )
    kl_warmup_epochs: float = Field(0.0, ge=0, description="Epochs over which `kl_weight` grows from 0")
    free_bits: float = Field(0.0, ge=0, description="Bits of each VAE latent that are not penalised")
    bf16: bool | Literal["auto"] = Field(
        "auto", description="Whether to run the model in bfloat16 where that is safe; auto: on GPUs that have it"
    )
    cuda_graphs: bool = Field(
        True, description="Whether a GPU replays each step from a recording, where the training has one worker"
    )
    num_workers: int = Field(1, ge=0, description="Workers of Ray Train; 0 trains in this process, without Ray")
    min_workers: int | None = Field(
        None, ge=1, description="Workers to continue with while nodes are missing; default: wait for all"
    )
    max_failures: int = Field(3, ge=0, description="Restarts after lost workers or nodes before a training fails")
    threads: int | None = Field(None, ge=1, description="CPU threads per worker; default: cores divided by workers")
    use_gpu: bool | Literal["auto"] = Field("auto", description="One GPU per worker; auto: if there is one")
    storage: str | None = Field(
        None, description="Folder or s3:// URL of checkpoints; default: training in the workspace"
    )
    checkpoint_steps: int | None = Field(
        None, ge=1, description="Steps between checkpoints within an epoch; default: only at the end of each epoch"
    )
    shuffle_rows: int = Field(256, ge=1, description="Rows in the shuffle buffer")
    cache_mib: int = Field(1024, ge=0, description="Windows that each worker keeps in memory between epochs, MiB")
    folds: int = Field(
        0,
        ge=0,
        le=MOST_FOLDS,
        description="Cross-fitting: number of further models, each of which leaves some galaxies out; 0 for none",
    )
    left_out: int = Field(
        1, ge=1, description="Folds that each of these models leaves out; with 2, two models never saw a given galaxy"
    )
    start_from: str | None = Field(
        None,
        min_length=1,
        description="Model whose weights the training starts from: models:/NAME@ALIAS, models:/NAME/VERSION, its "
        "folder, or `pretrained`; default: random weights",
    )
    freeze: Literal["none", "all-but-last"] = Field(
        "none", description="Weights of start_from that stay as they are: none, or all but those of the last layers"
    )

    @model_validator(mode="after")
    def _each_fold_leaves_some_to_train(self) -> "TrainConfig":
        if self.folds and self.folds <= self.left_out:
            raise ValueError(
                f"folds is {self.folds} and left_out {self.left_out}: a model that leaves out all folds has nothing to "
                "train on; folds must be more than left_out, or 0"
            )
        return self

    @model_validator(mode="after")
    def _frozen_weights_have_been_trained(self) -> "TrainConfig":
        if self.freeze != "none" and self.start_from is None:
            raise ValueError(f"freeze is {self.freeze}, but without start_from the weights are random: set start_from")
        return self


# Losses that use the variance of the target.
LIKELIHOODS = ("student-t", "gaussian")

# Keys of `train` that decide where, how and how many trainings run, but not their results.
NOT_PART_OF_IDENTITY = {
    "num_workers",
    "min_workers",
    "max_failures",
    "threads",
    "use_gpu",
    "cuda_graphs",
    "storage",
    "cache_mib",
    "checkpoint_steps",
    "folds",
    "left_out",
}


def loss_mistake(model: ModelConfig, train: TrainConfig) -> str:
    """Why a network cannot be trained with a loss; empty if it can."""
    if model.kind != "masked" or train.loss in LIKELIHOODS:
        return ""
    wanted = " or ".join(LIKELIHOODS)
    return f"train.loss: {train.loss}; model.kind masked predicts a variance too, which takes {wanted}"


class StartConfig(Config):
    """Model whose weights a training starts from, where every worker can read it."""

    path: str = Field(description="Folder or URL of the model")
    weights_sha256: str = Field(description="Digest of its weights, which is part of the training's identity")
    reference: str = Field(description="Its name, such as models:/cubescout/3")
    run_id: str = Field("", description="MLflow run that made it, if it was registered")


class TrainingJob(Config):
    """All that a training worker receives; sent between processes as JSON."""

    store: str = Field(description="Path or URL of the window store")
    seed: int = Field(0, description="Seed of initial weights, shuffling and random draws")
    model: ModelConfig = Field(ModelConfig(), description="Network and its normalisation")
    train: TrainConfig = Field(TrainConfig(), description="How the network is trained")
    fold: int | None = Field(
        None, ge=0, description="Index of a cross-fitting model; the main model (null) sees all galaxies"
    )
    start: StartConfig | None = Field(None, description="Model of train.start_from, as found by the driver")

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> "TrainingJob":
        if self.fold is not None and self.fold >= self.train.folds:
            raise ValueError(f"fold is {self.fold}, but train.folds is {self.train.folds}")
        return self

    @model_validator(mode="after")
    def _loss_fits_the_network(self) -> "TrainingJob":
        if mistake := loss_mistake(self.model, self.train):
            raise ValueError(mistake)
        return self

    def identity(self, store_identity: str) -> str:
        """Digest of everything that decides the weights; paths and resources do not."""
        # A name may come to stand for another model: the weights themselves decide.
        unused = NOT_PART_OF_IDENTITY | {"start_from"} | (set() if self.start else {"freeze"})
        exclude: dict[str, Any] = {"store": True, "fold": True, "start": True, "train": unused}
        exclude["model"] = self.model.unused - {"kind"}
        decisive = self.model_dump(mode="json", exclude=exclude)
        if self.start is not None:
            decisive["start"] = self.start.weights_sha256
        # `auto` depends on the device, which is no part of the identity.
        decisive["train"]["bf16"] = self.train.bf16 is True
        if self.fold is not None:
            decisive["fold"] = [self.fold, self.train.folds, self.train.left_out]
        text = json.dumps([store_identity, decisive], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


Space = dict[str, dict[str, list[Any]]]

NOT_SEARCHABLE = dict.fromkeys(
    ["train.epochs", "train.start_from", *(f"train.{key}" for key in sorted(NOT_PART_OF_IDENTITY))],
    "it changes how long, where or from which model a trial runs",
) | {"model.hidden_side": "likelihoods of squares of different sizes do not compare"}


class TuneConfig(Config):
    """A hyperparameter search with Optuna's TPE; ASHA stops the worse trials early."""

    num_trials: int = Field(8, ge=1, description="Trials of the whole search")
    concurrency: int = Field(2, ge=1, description="Trials that run at once")
    workers_per_trial: int = Field(
        1, ge=1, description="Workers of each trial; 1 trains in one process, more train together with Ray Train"
    )
    time_budget_s: float | None = Field(
        None, gt=0, description="Time limit of each run of the command, seconds; a rerun has as much again"
    )
    max_retries: int = Field(
        1, ge=0, description="Retries of a trial that fails, from its last checkpoint, before it counts as failed"
    )
    retrain: bool = Field(
        False, description="Then train with the best values, as `train` does, and register that model"
    )
    epochs: int = Field(4, ge=1, description="Epochs of a trial that is not stopped early")
    grace_epochs: int = Field(1, ge=1, description="Epochs before a trial may be stopped")
    space: Space = Field(
        {"train.lr": {"loguniform": [1e-3, 1e-2]}, "model.latent_dim": {"choice": [32, 64, 128]}},
        min_length=1,
        description="Search space: keys of model and train, each with choice, uniform, loguniform or randint",
    )

    def search_identity(self) -> "TuneConfig":
        """The settings that identify a search; the time budget and a training afterwards do not."""
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
    """Mistakes in one entry of a search space."""
    section, _, name = key.partition(".")
    if section not in SECTIONS or name not in SECTIONS[section].model_fields:
        return [f"{key} is not a key of the sections model or train"]
    if key in NOT_SEARCHABLE:
        return [f"{key} cannot be searched: {NOT_SEARCHABLE[key]}"]
    if len(domain) != 1 or next(iter(domain)) not in DOMAINS:
        return [f"{key}: expected one of {', '.join(DOMAINS)}, found {', '.join(domain) or 'nothing'}"]
    kind, values = next(iter(domain.items()))
    # YAML gives 1e-3 as a string; the field's own type makes it a number.
    try:
        parsed = [getattr(SECTIONS[section].model_validate({name: value}), name) for value in values]
    except ValidationError as error:
        return [f"{key}: {item['msg']} (found {item['input']!r})" for item in error.errors()]
    if kind != "choice" and not all(isinstance(value, int | float) and not isinstance(value, bool) for value in parsed):
        return [f"{key}: {kind} takes numbers, found {values}; use choice"]
    if kind == "loguniform" and min(parsed, default=1) <= 0:
        return [f"{key}: loguniform takes bounds above 0, found {values}"]
    if not parsed or (kind != "choice" and not (len(parsed) == 2 and parsed[0] < parsed[1])):
        return [f"{key}: {kind} takes {'values' if kind == 'choice' else 'a lower and an upper bound'}, found {values}"]
    if kind == "randint" and not all(isinstance(value, int) for value in parsed):
        return [f"{key}: randint takes whole numbers, found {values}"]
    if kind in ("uniform", "loguniform") and all(isinstance(value, int) for value in parsed):
        return [f"{key}: takes whole numbers, of which {kind} gives none; use randint or choice"]
    domain[kind] = parsed
    return []
