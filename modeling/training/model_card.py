"""Cost of a model, and the model card that is registered with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from cubeprep.words import counted
from modeling.network.convlstm import pytorch_only
from modeling.network.masked_network import MaskedPredictor
from modeling.network.normalisation import WindowNetwork
from modeling.training.config import StartConfig

CARD = """# {kind} of emission-line windows

Takes windows of {windows} with inverse variance and mask; gives {gives} and {latent_dim} latents.
{cost}.

Trained without labels on the window store `{store}`{start}.

Use: to rank galaxies of a survey prepared in the same way by what the model cannot explain, and to find their
neighbours. Not for: measuring line fluxes, or windows of other lines, samples or flux units. Galaxies of the training
split are scored by a model that has seen them. Noise, masks and brightness are in its residuals too.
"""


@dataclass(frozen=True)
class Cost:
    """Computational cost of one galaxy.

    Attributes:
        num_parameters: weights that are trained.
        forward_gflop: 1e9 floating-point operations of the convolutions and matrix products of a forward pass, a
            multiplication and an addition counted as two. A training step takes about three times as many.
        saved_mib: memory in MiB that a forward pass in training keeps for its backward pass.
    """

    num_parameters: int
    forward_gflop: float
    saved_mib: float

    def __str__(self) -> str:
        return (
            f"{self.num_parameters:,} parameters; per galaxy {self.forward_gflop:.2f} GFLOP forward, "
            f"{self.saved_mib:.0f} MiB kept for the backward pass"
        )


def measure_cost(model: WindowNetwork) -> Cost:
    """Cost of a model, counted while it runs on an empty galaxy."""
    shape = (1, model.num_lines, model.num_samples, model.size, model.size)
    flux_BLSYX = torch.zeros(shape, device=next(model.parameters()).device)
    good_BLSYX = torch.ones_like(flux_BLSYX, dtype=torch.bool)
    # A variational model draws random numbers: the caller's random state is left as it was.
    with torch.random.fork_rng():
        # Without the kernel in C, whose operations PyTorch does not see.
        with FlopCounterMode(display=False) as counter, torch.no_grad(), pytorch_only():
            model(flux_BLSYX, good_BLSYX)
        saved_bytes = _saved_bytes(model, flux_BLSYX, good_BLSYX)
    num_parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Cost(num_parameters, counter.get_total_flops() / 1e9, saved_bytes / 2**20)


def _saved_bytes(model: WindowNetwork, *inputs: torch.Tensor) -> int:
    """Bytes that a forward pass keeps for its backward pass, without the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(*inputs)  # kept alive, so that no address is reused and counted once
    del output
    return sum(kept.values())


def model_card(
    model: WindowNetwork,
    cost: Cost,
    *,
    metrics: Mapping[str, float],
    training: Mapping[str, Any],
    store: str,
    start: StartConfig | None = None,
) -> str:
    """Markdown that describes a model: architecture, training data and configuration, metrics and limits of use.

    Args:
        model: the model.
        cost: of `measure_cost`.
        metrics: of the epoch that the weights come from.
        training: keys and values of the training's configuration.
        store: identity of the window store that it was trained on.
        start: the model whose weights it started from, if there was one.
    """
    started = start and f", starting from the weights of `{start.reference}` (sha256 `{start.weights_sha256[:12]}`)"
    kind, gives = f"ConvLSTM {'variational ' if model.variational else ''}autoencoder", "their reconstruction"
    if isinstance(model, MaskedPredictor):
        kind, gives = "Masked network", "each line as predicted from the others"
    text = CARD.format(
        kind=kind,
        gives=gives,
        windows=f"{counted(model.num_lines, 'line')} x {counted(model.num_samples, 'sample')} x {model.size} x "
        f"{model.size} spaxels",
        latent_dim=model.arguments["latent_dim"],
        cost=cost,
        store=store,
        start=started or "",
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
