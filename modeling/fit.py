"""The training loop: one for a single process and for many, told apart by the context alone.

A training is a function of its config and seed: a run that is interrupted and resumed at an epoch's boundary has the
weights of an undisturbed one.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from modeling.autoencoder import ConvLSTMAutoencoder
from modeling.checkpoint import load_optimizer, load_weights, save_model, save_optimizer, write_json
from modeling.context import Context, Listener, Metrics, scratch_directory
from modeling.losses import RECONSTRUCTION_LOSSES, kl_to_standard_normal

Batch = dict[str, Tensor]


class FitConfig(Protocol):
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
    def loss(self) -> str:
        """A key of `losses.RECONSTRUCTION_LOSSES`."""

    @property
    def kl_weight(self) -> float:
        """Of the KL divergence of a variational model, per nat."""

    @property
    def bf16(self) -> bool:
        """Whether to run the model in bfloat16 where that is safe."""


class DivergedError(ValueError):
    """A training whose loss is no longer a number."""


@dataclass(frozen=True)
class Batches:
    """Where the loop's data come from.

    Attributes:
        training: gives the batches of an epoch, dicts with `flux` and `good` [B, L, S, Y, X].
        num_training: how many those are, the same on all ranks.
        validation: gives the validation batches of this rank; None where there is no such split.
    """

    training: Callable[[int], Iterable[Batch]]
    num_training: int
    validation: Callable[[], Iterable[Batch]] | None


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
    the lowest validation loss, or of the lowest training loss where there is no validation split).

    Args:
        model: with the initial weights; it is trained in place and holds the last weights in the end.
        batches: training and validation data.
        config: epochs, optimizer and the like.
        context: this process among others, device, reports, checkpoints.
        seed: of the draws of a variational model.
        metadata: JSON that goes into each saved model.
        listener: called after each step and each epoch of this rank.

    Returns:
        The metrics of the last epoch: `train_loss`, `validation_loss`, `best_loss`, `best_epoch` and parts of the loss.

    Raises:
        DivergedError: a loss is not finite; the checkpoint of the epoch before stays.
    """
    trainer = _Trainer(model, config, context, batches.num_training)
    tell = listener or (lambda event, metrics: None)
    metrics = trainer.restore()
    for epoch in range(trainer.epoch, config.epochs):
        torch.manual_seed(hash((seed, epoch, context.rank)) % 2**63)
        metrics = {"epoch": float(epoch)}
        metrics |= trainer.train_epoch(batches.training(epoch), epoch, tell)
        if batches.validation is not None:
            metrics |= trainer.validate(batches.validation())
        metrics |= {"lr": trainer.lr(epoch * batches.num_training)}
        trainer.finish_epoch(metrics, metadata or {})
        tell("epoch", metrics)
    return metrics


class _Trainer:
    """The state of one training on one rank."""

    def __init__(self, model: ConvLSTMAutoencoder, config: FitConfig, context: Context, steps_per_epoch: int) -> None:
        self.model = model.to(context.device)
        self.config = config
        self.context = context
        self.steps_per_epoch = steps_per_epoch
        self.optimizer = make_optimizer(self.model, config)
        self.epoch = 0
        self.best: Metrics = {"best_loss": math.inf}
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[Metrics] = []
        # Wrapped once the weights are those to start from: a wrapper may copy them to the other ranks.
        self.wrapped: nn.Module | None = None

    def restore(self) -> Metrics:
        """Takes up the context's last checkpoint; returns the metrics of its epoch."""
        with self.context.resume() as directory:
            metrics = self._load(directory) if directory is not None else {}
        self.wrapped = self.context.wrap(_TrainingModel(self.model, self.config))
        return metrics

    def _load(self, directory: Path) -> Metrics:
        state = json.loads((directory / "training.json").read_text())
        self.history, self.best = state["history"], state["best"]
        load_weights(self.model, directory / "best")
        self.best_weights = _copy(self.model)
        load_weights(self.model, directory)
        load_optimizer(directory / "optimizer.safetensors", self.optimizer)
        self.epoch = len(self.history)
        return dict(self.history[-1])

    def lr(self, step: int) -> float:
        """The learning rate of a step, counted over all epochs."""
        if self.config.schedule == "constant":
            return self.config.lr
        return self.config.lr * 0.5 * (1 + math.cos(math.pi * step / (self.steps_per_epoch * self.config.epochs)))

    def train_epoch(self, batches: Iterable[Batch], epoch: int, tell: Listener) -> Metrics:
        """One pass over the training data."""
        assert self.wrapped is not None
        self.wrapped.train()
        sums = _Sums()
        first_step = epoch * self.steps_per_epoch
        for step, batch in enumerate(batches):
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr(first_step + step)
            self.optimizer.zero_grad(set_to_none=True)
            losses_B = self._losses(self.wrapped, batch)
            loss = losses_B["loss"].mean()
            if not torch.isfinite(loss):
                raise DivergedError(
                    f"the loss became {loss.item()} in epoch {epoch}, step {step}: lower train.lr or clip gradients"
                )
            loss.backward()
            if self.config.grad_clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
            self.optimizer.step()
            sums.add(losses_B)
            tell("step", {"epoch": epoch, "step": step, "num_steps": self.steps_per_epoch, "loss": loss.item()})
        return sums.means("train", self.context)

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> Metrics:
        """The losses on the validation data, each galaxy once over all ranks."""
        self.model.eval()
        # Unwrapped: ranks may hold different numbers of batches, and nothing is to be synchronised.
        training_model = _TrainingModel(self.model, self.config)
        sums = _Sums()
        for batch in batches:
            sums.add(self._losses(training_model, batch))
        return sums.means("validation", self.context)

    def _losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        flux_BLSYX, good_BLSYX = (batch[name].to(self.context.device, non_blocking=True) for name in ("flux", "good"))
        with torch.autocast(self.context.device.type, torch.bfloat16, enabled=self.config.bf16):
            losses_B: dict[str, Tensor] = model(flux_BLSYX, good_BLSYX)
        return losses_B

    def finish_epoch(self, metrics: Metrics, metadata: dict[str, Any]) -> None:
        """Compares with the best epoch, writes a checkpoint and reports."""
        loss = metrics.get("validation_loss", metrics["train_loss"])
        if loss < self.best["best_loss"] or not self.best_weights:
            self.best = metrics | {"best_loss": loss}
            self.best_weights = _copy(self.model)
        metrics |= {"best_loss": self.best["best_loss"], "best_epoch": self.best["epoch"]}
        self.history.append(metrics)
        if self.context.rank != 0:
            self.context.report(metrics, None)
            return
        with scratch_directory() as directory:
            self._save(directory, metadata)
            self.context.report(metrics, directory)

    def _save(self, directory: Path, metadata: dict[str, Any]) -> None:
        save_model(directory, self.model, metadata | {"metrics": self.history[-1]})
        save_model(directory / "best", self.model, metadata | {"metrics": self.best}, weights=self.best_weights)
        save_optimizer(directory / "optimizer.safetensors", self.optimizer)
        write_json(directory / "training.json", {"best": self.best, "history": self.history})


class _TrainingModel(nn.Module):
    """Model and loss as one module, so that a wrapper sees one forward pass."""

    def __init__(self, model: ConvLSTMAutoencoder, config: FitConfig) -> None:
        super().__init__()
        self.model = model
        self.reconstruction_loss = RECONSTRUCTION_LOSSES[config.loss]
        self.kl_weight = config.kl_weight

    def forward(self, flux_BLSYX: Tensor, good_BLSYX: Tensor) -> dict[str, Tensor]:
        """The loss of each galaxy and its parts, each [B]."""
        normalised_BLSYX, _ = self.model.normalise(flux_BLSYX, good_BLSYX)
        output = self.model.autoencode(normalised_BLSYX, good_BLSYX)
        loss_B = self.reconstruction_loss(output.reconstruction.float(), normalised_BLSYX, good_BLSYX)
        if output.mean is None or output.log_variance is None:
            return {"loss": loss_B}
        kl_B = kl_to_standard_normal(output.mean.float(), output.log_variance.float())
        return {"loss": loss_B + self.kl_weight * kl_B, "reconstruction": loss_B, "kl": kl_B}


class _Sums:
    """Sums over galaxies of each part of the loss: a monoid, so that ranks can add theirs."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self.count = 0

    def add(self, losses_B: dict[str, Tensor]) -> None:
        for name, values_B in losses_B.items():
            self.totals[name] = self.totals.get(name, 0.0) + float(values_B.detach().double().sum())
        self.count += len(losses_B["loss"])

    def means(self, prefix: str, context: Context) -> Metrics:
        """Means over the galaxies of all ranks, also for a rank that saw none; empty where nobody saw any."""
        names = ("loss", "reconstruction", "kl")
        *totals, count = context.sum([*(self.totals.get(name, 0.0) for name in names), float(self.count)])
        has_parts = context.sum([float("kl" in self.totals)])[0] > 0
        shown = names if has_parts else names[:1]
        return {
            f"{prefix}_{name}": total / count
            for name, total in zip(names, totals, strict=True)
            if name in shown and count
        }


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
