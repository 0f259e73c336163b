"""Training loop: one for a single process and for many, which differ in the context alone.

A training is a function of its configuration and seed: a run that was interrupted and resumed from its last checkpoint,
at the end of an epoch or within one, ends with the weights of an uninterrupted one.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from modeling.network.checkpoint import (
    load_optimizer,
    load_weights,
    read_training_state,
    save_model,
    save_optimizer,
    write_json,
)
from modeling.network.normalisation import WindowNetwork
from modeling.training.context import Context, Listener, Metrics, scratch_directory
from modeling.training.masked_objective import make_objective
from modeling.training.metrics import RunningMeans
from modeling.training.objective import ObjectiveConfig
from modeling.training.on_device import Losses, Step, Tensors, ahead, runs_in_half, steps_read_at_once

Batch = dict[str, Tensor]

# Nats that a latent must carry, on average over galaxies, to count as in use (Burda et al. 2015, arXiv:1509.00519).
ACTIVE_NATS = 0.01


class FitConfig(ObjectiveConfig, Protocol):
    """Keys of `config.TrainConfig` that the loop reads."""

    @property
    def epochs(self) -> int:
        """Passes over the training data."""

    @property
    def optimizer(self) -> str:
        """`adamw` or `adagrad`."""

    @property
    def lr(self) -> float:
        """Learning rate at the start."""

    @property
    def schedule(self) -> str:
        """`constant` or `cosine`, which ends at 0."""

    @property
    def weight_decay(self) -> float:
        """Weight decay, as the optimizer takes it."""

    @property
    def grad_clip(self) -> float | None:
        """Largest norm of a gradient; None for no clipping."""

    @property
    def kl_warmup_epochs(self) -> float:
        """Epochs over which `kl_weight` grows from 0."""

    @property
    def checkpoint_steps(self) -> int | None:
        """Steps from one checkpoint to the next within an epoch; None for checkpoints at its end alone."""

    @property
    def bf16(self) -> bool | Literal["auto"]:
        """Whether to run the model in bfloat16 where that is safe."""

    @property
    def cuda_graphs(self) -> bool:
        """Whether to record steps as CUDA graphs on a GPU."""


class DivergedError(ValueError):
    """Training that diverged: its loss is no longer finite."""


@dataclass(frozen=True)
class Batches:
    """Sources of the loop's data.

    Attributes:
        training: batches of (epoch, first step, streams), as `loader.Loader.training` gives them: dicts with `flux`,
            `ivar` and `good` [B, L, S, Y, X], and `weight`, where the mean loss of a batch is not to count as 1.
        num_training: number of batches of an epoch, the same on all ranks.
        validation: validation batches of this rank; None where there is no such split.
        streams: number of streams of a new training, see `loader.epoch_order`; as many as ranks by default.
        first: some training galaxies, the same on all ranks, to initialise weights from; None for none.
    """

    training: Callable[[int, int, int], Iterable[Batch]]
    num_training: int
    validation: Callable[[], Iterable[Batch]] | None
    streams: int | None = None
    first: Callable[[], Batch] | None = None


def fit(
    model: WindowNetwork,
    batches: Batches,
    config: FitConfig,
    context: Context,
    *,
    seed: int = 0,
    metadata: dict[str, Any] | None = None,
    listener: Listener | None = None,
) -> Metrics:
    """Trains a model, from the context's last checkpoint if it has one.

    Each epoch is reported with a checkpoint that holds the model, the optimizer and the best model so far (the one of
    the lowest validation loss, or of the lowest training loss where there is no validation split); with
    `checkpoint_steps` there are checkpoints within epochs too.

    Args:
        model: with the initial weights; it is trained in place and ends with the last weights.
        batches: training and validation data.
        config: epochs, optimizer and other settings.
        context: this process among others, device, reports, checkpoints.
        seed: of the draws of a variational model.
        metadata: JSON that goes into each saved model.
        listener: called after each step and each epoch of this rank.

    Returns:
        The metrics of the last epoch: `train_loss`, `validation_loss`, `best_loss`, `best_epoch`, parts of the loss;
        of the validation data also `validation_nll` (`Objective.evaluate`) with the best model's `best_nll`,
        `validation_chi2` (mean squared residual per good sample in units of its variance),
        `validation_mae/LINE` (mean absolute error, normalised units) and, for a variational model,
        `validation_active_latents` (those that carry more than `ACTIVE_NATS`).

    Raises:
        DivergedError: a loss is not finite; the last checkpoint remains.
    """
    metadata = metadata or {}
    trainer = _Trainer(model, config, context, batches.num_training, seed=seed, metadata=metadata)
    tell = listener or (lambda event, metrics: None)
    trainer.streams = batches.streams or context.world_size
    metrics = trainer.restore(batches.first)
    for epoch in range(trainer.epoch, config.epochs):
        metrics = {"epoch": float(epoch), "lr": trainer.lr(epoch * batches.num_training)}
        metrics |= trainer.train_epoch(batches.training(epoch, trainer.step, trainer.streams), tell)
        if batches.validation is not None:
            metrics |= trainer.validate(batches.validation())
        trainer.finish_epoch(metrics)
        tell("epoch", metrics)
    return metrics


class _Trainer:
    """State of one training on one rank; `step` counts within the epoch."""

    def __init__(
        self,
        model: WindowNetwork,
        config: FitConfig,
        context: Context,
        steps_per_epoch: int,
        *,
        seed: int,
        metadata: dict[str, Any],
    ) -> None:
        self.model = model.to(context.device)
        self.config = config
        self.context = context
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.metadata = metadata
        self.optimizer = make_optimizer(self.model, config)
        self.epoch, self.step = 0, 0
        self.streams = 1  # of a new training; a resumed one keeps the number that it started with
        self.means = RunningMeans()
        self.best: Metrics = {"best_loss": math.inf}
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[Metrics] = []
        self.objective = make_objective(self.model, config)
        self.half = runs_in_half(config.bf16, context.device)
        # Wrapped after the initial weights are loaded: a wrapper may copy them to the other ranks.
        self.wrapped: nn.Module | None = None
        # A graph of a wrapper would have to hold its communication.
        graph = config.cuda_graphs and context.device.type == "cuda" and context.world_size == 1
        self.graphed = Step(lambda tensors: self._backward(tensors, 1.0), list(self.model.parameters()), graph=graph)
        # Losses of steps that have not been read yet.
        self.unread: list[tuple[int, float, Losses]] = []
        self.read_every = steps_read_at_once(context.device)

    def restore(self, first: Callable[[], Batch] | None) -> Metrics:
        """Restores the context's last checkpoint; returns the metrics of the last complete epoch."""
        with self.context.resume() as directory:
            if directory is not None:
                self._load(directory)
            elif first is not None:
                batch = first()
                self.objective.start_from(*(batch[name].to(self.context.device) for name in ("flux", "ivar", "good")))
        self.wrapped = self.context.wrap(self.objective)
        return dict(self.history[-1]) if self.history else {}

    def _load(self, directory: Path) -> None:
        state = read_training_state(directory)
        self.history, self.best, self.step = state["history"], state["best"], state["step"]
        self.streams = state.get("streams", self.streams)
        self.epoch = len(self.history)
        if self.context.rank == 0:  # the saved sums are those of all ranks, so only one may hold them
            self.means = RunningMeans.from_json(state["means"])
        if self.history:
            load_weights(self.model, directory / "best")
            self.best_weights = _copy(self.model)
        load_weights(self.model, directory)
        load_optimizer(directory / "optimizer.safetensors", self.optimizer)

    def lr(self, step: int) -> float:
        """Learning rate of a step, counted over all epochs; the cosine schedule ends at 0."""
        if self.config.schedule == "constant":
            return self.config.lr
        return self.config.lr * 0.5 * (1 + math.cos(math.pi * step / (self.steps_per_epoch * self.config.epochs)))

    def train_epoch(self, batches: Iterable[Batch], tell: Listener) -> Metrics:
        """Trains on the remaining batches of an epoch; returns the means over the whole epoch."""
        for tensors, weight in ahead(self._prepared(batches), self.context.device):
            self.unread.append((self.step, weight, self._train_step(tensors, weight)))
            self.step += 1
            every = self.config.checkpoint_steps
            checkpoint = every is not None and self.step % every == 0 and self.step < self.steps_per_epoch
            if checkpoint or len(self.unread) == self.read_every:
                self._read(tell)
            if checkpoint:
                self._checkpoint_within_epoch()
        self._read(tell)
        return self.means.reduce(self.context).by_name("train")

    def _prepared(self, batches: Iterable[Batch]) -> Iterator[tuple[Tensors, float]]:
        """Batches on the device, with the objective's draws for each, and their weights."""
        for step, batch in enumerate(batches, self.epoch * self.steps_per_epoch + self.step):
            windows = batch["flux"], batch["ivar"], batch["good"]
            tensors = self.objective.prepared(*windows, step_seed=hash((self.seed, step)), device=self.context.device)
            yield tensors, float(batch.get("weight", 1.0))

    def _train_step(self, tensors: Tensors, weight: float) -> Losses:
        """Losses of one step, [B] on the device, which may still be at work on it."""
        assert self.wrapped is not None
        self.wrapped.train()
        total_step = self.epoch * self.steps_per_epoch + self.step
        # The draws of a step do not depend on earlier ones, so that a training may resume from any step.
        torch.manual_seed(hash((self.seed, total_step, self.context.rank)) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(total_step)
        warmup_steps = self.config.kl_warmup_epochs * self.steps_per_epoch
        self.objective.kl_scale = min(1.0, (total_step + 1) / warmup_steps) if warmup_steps else 1.0
        # A graph would keep the scale that it was recorded with.
        warm = self.objective.kl_scale == 1.0
        losses_B = self.graphed(tensors) if warm and weight == 1.0 else self._backward(tensors, weight)
        self.optimizer.step()
        return losses_B

    def _backward(self, tensors: Tensors, weight: float) -> Losses:
        assert self.wrapped is not None
        self.optimizer.zero_grad(set_to_none=True)
        losses_B: Losses = self._run(self.wrapped, tensors)
        (losses_B["loss"].mean() * weight).backward()
        if self.config.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        return {name: values_B.detach() for name, values_B in losses_B.items()}

    def _read(self, tell: Listener) -> None:
        """Adds the losses that have not been read to the means, and reports their steps.

        Raises:
            DivergedError: one is not finite; later steps may have been made since, but no checkpoint.
        """
        for step, weight, losses_B in self.unread:
            losses_B = {name: values_B.cpu() for name, values_B in losses_B.items()}
            loss = losses_B["loss"].mean().item()
            if not math.isfinite(loss):
                place = f"epoch {self.epoch}, step {step}"
                raise DivergedError(f"the loss became {loss} in {place}: lower train.lr or clip gradients")
            # A row without weight is there to keep the rank in step; NaN keeps it out of the means.
            nothing = {name: torch.full_like(values_B, math.nan) for name, values_B in losses_B.items()}
            self.means.add(losses_B if weight else nothing)
            tell("step", {"epoch": self.epoch, "step": step, "num_steps": self.steps_per_epoch, "loss": loss})
        self.unread = []

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> Metrics:
        """Metrics of the validation data, each galaxy counted once over all ranks."""
        self.model.eval()
        names = self.metadata.get("line_names") or [str(line) for line in range(self.model.num_lines)]
        # Columns of zeros first: a rank may hold no galaxy, and must still send sums of the same shape.
        means = RunningMeans.empty(self.objective.metric_sizes())
        for batch in batches:
            # Not the wrapped model: ranks may hold different numbers of batches, and nothing needs synchronising.
            windows = batch["flux"], batch["ivar"], batch["good"]
            tensors = tuple(values.to(self.context.device, non_blocking=True) for values in windows)
            means.add(self._run(self.objective.evaluate, tensors))
        means = means.reduce(self.context)
        metrics = means.by_name("validation", columns={"mae": names})
        if "kl_of_latent" in means.totals:
            nats = means.values("kl_of_latent")
            metrics["validation_active_latents"] = float((nats > ACTIVE_NATS).sum())
        return metrics

    def _run(self, function: Callable[..., dict[str, Tensor]], tensors: Tensors) -> dict[str, Tensor]:
        with torch.autocast(self.context.device.type, torch.bfloat16, enabled=self.half):
            return function(*tensors)

    def finish_epoch(self, metrics: Metrics) -> None:
        """Compares an epoch with the best one, writes a checkpoint and reports its metrics.

        Raises:
            DivergedError: weights are not finite, or no validation galaxy has a finite loss any more; no checkpoint is
                written.
        """
        # Means leave out what is NaN: without this check the training loss would stand in for the validation loss.
        finite = all(bool(torch.isfinite(values).all()) for values in self.model.parameters())
        if not finite or ("validation_loss" in self.best and "validation_loss" not in metrics):
            what = "the validation loss" if finite else "weights"
            raise DivergedError(
                f"{what} became NaN or infinite in epoch {self.epoch}: lower train.lr or clip gradients"
            )
        loss = metrics.get("validation_loss", metrics["train_loss"])
        if loss < self.best["best_loss"] or not self.best_weights:
            self.best = metrics | {"best_loss": loss}
            self.best_weights = _copy(self.model)
        metrics |= {"best_loss": self.best["best_loss"], "best_epoch": self.best["epoch"]}
        if "validation_nll" in self.best:
            metrics["best_nll"] = self.best["validation_nll"]
        self.history.append(metrics)
        self.epoch, self.step, self.means = self.epoch + 1, 0, RunningMeans()
        self._report(metrics)

    def _checkpoint_within_epoch(self) -> None:
        reduced = self.means.reduce(self.context)
        # The sums over ranks move to rank 0: kept on each, the end of the epoch would count them several times.
        self.means = reduced if self.context.rank == 0 else RunningMeans()
        self._report(None)

    def _report(self, metrics: Metrics | None) -> None:
        if self.context.rank != 0:
            self.context.report(metrics, None)
            return
        with scratch_directory() as directory:
            self._save(directory)
            self.context.report(metrics, directory)

    def _save(self, directory: Path) -> None:
        last = self.history[-1] if self.history else {}
        save_model(directory, self.model, self.metadata | {"metrics": last})
        if self.history:
            save_model(
                directory / "best", self.model, self.metadata | {"metrics": self.best}, weights=self.best_weights
            )
        save_optimizer(directory / "optimizer.safetensors", self.optimizer)
        state = {
            "best": self.best,
            "history": self.history,
            "step": self.step,
            "streams": self.streams,
            "means": self.means.to_json(),
        }
        write_json(directory / "training.json", state)


def make_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """Optimizer of the configuration, for all weights of a model.

    Raises:
        ValueError: there is no optimizer of that name.
    """
    if config.optimizer == "adagrad":
        # Keras starts the accumulator at 0.1, and the paper's learning rate belongs to that.
        return torch.optim.Adagrad(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay, initial_accumulator_value=0.1
        )
    if config.optimizer == "adamw":
        # One launch for all weights on a GPU, one pass over each on a CPU. PyTorch's Adagrad has that on CPUs alone.
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    raise ValueError(f"optimizer is {config.optimizer!r}, expected 'adagrad' or 'adamw'")


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
