"""The training loop: one for a single process and for many, told apart by the context alone.

A training is a function of its config and seed: a run that is interrupted and goes on from its last checkpoint, at the
end of an epoch or within one, has the weights of an undisturbed one.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from modeling.network.autoencoder import ConvLSTMAutoencoder
from modeling.network.checkpoint import load_optimizer, load_weights, save_model, save_optimizer, write_json
from modeling.training.context import Context, Listener, Metrics, scratch_directory
from modeling.training.metrics import RunningMeans
from modeling.training.objective import Objective, ObjectiveConfig

Batch = dict[str, Tensor]

# Nats that a latent must carry, on average over galaxies, to count as in use (Burda et al. 2015, arXiv:1509.00519).
ACTIVE_NATS = 0.01


class FitConfig(ObjectiveConfig, Protocol):
    """What the loop reads of `config.TrainConfig`."""

    @property
    def epochs(self) -> int:
        """Passes over the training data."""

    @property
    def optimizer(self) -> str:
        """`adamw` or `adagrad`."""

    @property
    def lr(self) -> float:
        """The learning rate at the start."""

    @property
    def schedule(self) -> str:
        """`constant` or `cosine`, which ends at 0."""

    @property
    def weight_decay(self) -> float:
        """As the optimizer takes it."""

    @property
    def grad_clip(self) -> float | None:
        """The greatest norm of a gradient, or None."""

    @property
    def kl_warmup_epochs(self) -> float:
        """Over which that weight grows from 0."""

    @property
    def checkpoint_steps(self) -> int | None:
        """Steps from one checkpoint to the next within an epoch; None for none but at its end."""

    @property
    def bf16(self) -> bool:
        """Whether to run the model in bfloat16 where that is safe."""


class DivergedError(ValueError):
    """A training whose loss is no longer a number."""


@dataclass(frozen=True)
class Batches:
    """Where the loop's data come from.

    Attributes:
        training: gives the batches of (epoch, first step, streams), as `data.Loader.training` does: dicts with `flux`,
            `ivar` and `good` [B, L, S, Y, X], and `weight`, where the mean loss of a batch is not to count as 1.
        num_training: how many those are, the same on all ranks.
        validation: gives the validation batches of this rank; None where there is no such split.
        streams: that a new training begins with, of `data.epoch_order`; by default as many as there are ranks.
        first: gives some training galaxies, the same on all ranks, that suggest initial weights; None for none.
    """

    training: Callable[[int, int, int], Iterable[Batch]]
    num_training: int
    validation: Callable[[], Iterable[Batch]] | None
    streams: int | None = None
    first: Callable[[], Batch] | None = None


def fit(
    model: ConvLSTMAutoencoder,
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
        model: with the initial weights; it is trained in place and holds the last weights in the end.
        batches: training and validation data.
        config: epochs, optimizer and the like.
        context: this process among others, device, reports, checkpoints.
        seed: of the draws of a variational model.
        metadata: JSON that goes into each saved model.
        listener: called after each step and each epoch of this rank.

    Returns:
        The metrics of the last epoch: `train_loss`, `validation_loss`, `best_loss`, `best_epoch`, parts of the loss;
        of the validation data also `validation_nll` (`Objective.evaluate`) with the best model's `best_nll`,
        `validation_chi2` (mean squared residual per good sample in units of its variance),
        `validation_mae/LINE` (mean absolute error, normalised units) and, of a variational model,
        `validation_active_latents` (those that say more than `ACTIVE_NATS`).

    Raises:
        DivergedError: a loss is not finite; the checkpoint of the epoch before stays.
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
    """The state of one training on one rank; `step` counts within the epoch."""

    def __init__(
        self,
        model: ConvLSTMAutoencoder,
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
        self.streams = 1  # of a new training; one that goes on keeps those that it began with
        self.means = RunningMeans()
        self.best: Metrics = {"best_loss": math.inf}
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[Metrics] = []
        self.objective = Objective(self.model, config)
        # Wrapped once the weights are those to start from: a wrapper may copy them to the other ranks.
        self.wrapped: nn.Module | None = None

    def restore(self, first: Callable[[], Batch] | None) -> Metrics:
        """Takes up the context's last checkpoint; returns the metrics of the last whole epoch."""
        with self.context.resume() as directory:
            if directory is not None:
                self._load(directory)
            elif first is not None:
                batch = first()
                self.objective.start_from(*(batch[name].to(self.context.device) for name in ("flux", "ivar", "good")))
        self.wrapped = self.context.wrap(self.objective)
        return dict(self.history[-1]) if self.history else {}

    def _load(self, directory: Path) -> None:
        state = json.loads((directory / "training.json").read_text())
        self.history, self.best, self.step = state["history"], state["best"], state["step"]
        self.streams = state.get("streams", self.streams)
        self.epoch = len(self.history)
        if self.context.rank == 0:  # which speaks for all: the sums are those of all ranks
            self.means = RunningMeans.from_json(state["means"])
        if self.history:
            load_weights(self.model, directory / "best")
            self.best_weights = _copy(self.model)
        load_weights(self.model, directory)
        load_optimizer(directory / "optimizer.safetensors", self.optimizer)

    def lr(self, step: int) -> float:
        """The learning rate of a step, counted over all epochs."""
        if self.config.schedule == "constant":
            return self.config.lr
        return self.config.lr * 0.5 * (1 + math.cos(math.pi * step / (self.steps_per_epoch * self.config.epochs)))

    def train_epoch(self, batches: Iterable[Batch], tell: Listener) -> Metrics:
        """The rest of one pass over the training data."""
        for batch in batches:
            loss = self._train_step(batch)
            self.step += 1
            place = {"epoch": self.epoch, "step": self.step - 1, "num_steps": self.steps_per_epoch}
            tell("step", place | {"loss": loss})
            every = self.config.checkpoint_steps
            if every and self.step % every == 0 and self.step < self.steps_per_epoch:
                self._checkpoint_within_epoch()
        return self.means.reduce(self.context).by_name("train")

    def _train_step(self, batch: Batch) -> float:
        assert self.wrapped is not None
        self.wrapped.train()
        total_step = self.epoch * self.steps_per_epoch + self.step
        # The draws of a step depend on nothing that came before, so that a training may go on from any.
        torch.manual_seed(hash((self.seed, total_step, self.context.rank)) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(total_step)
        warmup_steps = self.config.kl_warmup_epochs * self.steps_per_epoch
        self.objective.kl_scale = min(1.0, (total_step + 1) / warmup_steps) if warmup_steps else 1.0
        self.optimizer.zero_grad(set_to_none=True)
        losses_B = self._run(self.wrapped, batch)
        weight = float(batch.get("weight", 1.0))
        loss = losses_B["loss"].mean() * weight
        if not torch.isfinite(loss):
            place = f"epoch {self.epoch}, step {self.step}"
            raise DivergedError(f"the loss became {loss.item()} in {place}: lower train.lr or clip gradients")
        loss.backward()
        if self.config.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        self.means.add(losses_B if weight else {name: torch.full_like(x_B, math.nan) for name, x_B in losses_B.items()})
        return losses_B["loss"].mean().item()

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> Metrics:
        """What the model makes of the validation data, each galaxy once over all ranks."""
        self.model.eval()
        names = self.metadata.get("line_names") or [str(line) for line in range(self.model.num_lines)]
        # Empty columns first: a rank may hold no galaxy, and must still send sums of the same shape.
        means = RunningMeans.empty(self.objective.metric_sizes())
        for batch in batches:
            # Unwrapped: ranks may hold different numbers of batches, and nothing is to be synchronised.
            means.add(self._run(self.objective.evaluate, batch))
        means = means.reduce(self.context)
        metrics = means.by_name("validation", columns={"mae": names})
        if "kl_of_latent" in means.totals:
            told = means.values("kl_of_latent")
            metrics["validation_active_latents"] = float((told > ACTIVE_NATS).sum())
        return metrics

    def _run(self, function: Callable[..., dict[str, Tensor]], batch: Batch) -> dict[str, Tensor]:
        tensors = [batch[name].to(self.context.device, non_blocking=True) for name in ("flux", "ivar", "good")]
        with torch.autocast(self.context.device.type, torch.bfloat16, enabled=self.config.bf16):
            return function(*tensors)

    def finish_epoch(self, metrics: Metrics) -> None:
        """Compares with the best epoch, writes a checkpoint and reports."""
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
    """The optimizer that the config names.

    Raises:
        ValueError: it names none.
    """
    if config.optimizer == "adagrad":
        # Keras starts the accumulator at 0.1, and the paper's learning rate belongs to that.
        return torch.optim.Adagrad(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay, initial_accumulator_value=0.1
        )
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    raise ValueError(f"optimizer is {config.optimizer!r}, expected 'adagrad' or 'adamw'")


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
