"""What a model costs, and the card that goes with it wherever it is registered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from modeling.network.autoencoder import ConvLSTMAutoencoder
from modeling.network.convlstm import pytorch_only

CARD = """# ConvLSTM {kind} of emission-line windows

Takes windows of {windows} with inverse variance and mask; gives their reconstruction and {latent_dim} latents.
{cost}.

Trained without labels on the window store `{store}`.

Use: to rank galaxies of a survey prepared in the same way by what the model cannot explain, and to find their
neighbours. Not for: measuring line fluxes, or windows of other lines, samples or flux units. Galaxies of the training
split are scored by a model that has seen them. Noise, masks and brightness are in its residuals too.
"""


@dataclass(frozen=True)
class Cost:
    """What one galaxy costs.

    Attributes:
        num_parameters: weights that are trained.
        forward_gflop: 1e9 floating-point operations of the convolutions and products of a forward pass, a
            multiplication and an addition counted as two. A training step takes about three times as many.
        saved_mib: memory that a forward pass in training keeps for its backward pass.
    """

    num_parameters: int
    forward_gflop: float
    saved_mib: float

    def __str__(self) -> str:
        return (
            f"{self.num_parameters:,} parameters; per galaxy {self.forward_gflop:.2f} GFLOP forward, "
            f"{self.saved_mib:.0f} MiB kept for the backward pass"
        )


def measure_cost(model: ConvLSTMAutoencoder) -> Cost:
    """Runs the model over an empty galaxy, and counts."""
    shape = (1, model.num_lines, model.num_samples, model.size, model.size)
    flux_BLSYX = torch.zeros(shape, device=next(model.parameters()).device)
    good_BLSYX = torch.ones_like(flux_BLSYX, dtype=torch.bool)
    with torch.random.fork_rng():
        with FlopCounterMode(display=False) as counter, torch.no_grad(), pytorch_only():
            model(flux_BLSYX, good_BLSYX)
        saved_bytes = _saved_bytes(model, flux_BLSYX, good_BLSYX)
    num_parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Cost(num_parameters, counter.get_total_flops() / 1e9, saved_bytes / 2**20)


def _saved_bytes(model: ConvLSTMAutoencoder, *inputs: torch.Tensor) -> int:
    """The memory that a forward pass keeps for its backward pass, weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(*inputs)  # held, so that no address is used twice
    del output
    return sum(kept.values())


def model_card(
    model: ConvLSTMAutoencoder, cost: Cost, *, metrics: Mapping[str, float], training: Mapping[str, Any], store: str
) -> str:
    """Markdown that tells somebody who finds the model what it is, what it was made from and what it cannot do.

    Args:
        model: the model.
        cost: of `measure_cost`.
        metrics: of the epoch that the weights are from.
        training: keys and values of the training's configuration.
        store: identity of the window store it was trained on.
    """
    kind = "variational autoencoder" if model.variational else "autoencoder"
    text = CARD.format(
        kind=kind,
        windows=f"{model.num_lines} lines x {model.num_samples} samples x {model.size} x {model.size} spaxels",
        latent_dim=model.arguments["latent_dim"],
        cost=cost,
        store=store,
    )

    def table(values: Mapping[str, Any], first: str) -> list[str]:
        return [f"| {first} | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in values.items()), ""]

    shown = {name: f"{value:.5g}" for name, value in metrics.items() if "/" not in name}
    by_line = {name.split("/")[1]: f"{value:.4g}" for name, value in metrics.items() if "/" in name}
    lines = [
        text,
        *table(shown, "metric, best epoch"),
        *(table(by_line, "line: mean absolute error, validation") if by_line else []),
        *table(model.arguments, "architecture"),
        *table(training, "training"),
    ]
    return "\n".join(lines)
