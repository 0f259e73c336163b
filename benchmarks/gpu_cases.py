"""Cases of `benchmarks.gpu`: models of presets and their layers; needs torch and numpy alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from modeling.network.autoencoder import ConvLSTMAutoencoder, make_model
from modeling.network.convlstm import ConvLSTM
from modeling.network.masked_network import MaskedPredictor
from modeling.network.normalisation import WindowNetwork
from modeling.training.context import LocalContext
from modeling.training.fit import _Trainer


@dataclass(frozen=True)
class Train:
    """Keys of `train` that the loop reads, with the defaults of `TrainConfig`."""

    loss: str = "mae"
    optimizer: str = "adamw"
    lr: float = 5e-3
    schedule: str = "cosine"
    grad_clip: float | None = 1.0
    batch_size: int = 8
    epochs: int = 1
    weight_decay: float = 0.0
    error_floor: float = 0.05
    kl_weight: float = 1e-4
    kl_warmup_epochs: float = 0.0
    free_bits: float = 0.0
    checkpoint_steps: int | None = None
    bf16: bool | str = "auto"
    cuda_graphs: bool = True


@dataclass(frozen=True)
class Preset:
    """A shipped configuration, whose YAML this machine may be unable to read.

    Attributes:
        model: arguments of the network.
        train: of the loop.
        shape: lines, samples and spaxels a side of the windows.
    """

    model: dict[str, Any]
    train: Train
    shape: tuple[int, int, int] = (19, 10, 32)

    def network(self) -> WindowNetwork:
        """The network with random weights."""
        lines, samples, size = self.shape
        windows: dict[str, Any] = {"num_lines": lines, "num_samples": samples, "size": size}
        if "groups" in self.model:
            return MaskedPredictor(**windows | self.model)
        return make_model(windows | self.model, seed=0)

    def trainer(self, device: str, num_steps: int, **changes: object) -> _Trainer:
        """The training loop, at its start."""
        context, train = LocalContext(None, device), replace(self.train, **changes)  # type: ignore[arg-type]
        trainer = _Trainer(self.network(), train, context, num_steps, seed=0, metadata={})
        trainer.restore(None)
        return trainer

    def batches(self, number: int, *, pinned: bool) -> list[dict[str, Tensor]]:
        """Batches of noise about a disc, with bad samples."""
        made, generator = [], torch.Generator().manual_seed(0)
        shape = (self.train.batch_size, *self.shape, self.shape[2])
        for _ in range(number):
            good = torch.rand(shape, generator=generator) > 0.05
            flux = torch.where(good, torch.randn(shape, generator=generator) + 1.0, 0.0)
            batch = {"flux": flux, "ivar": good.float(), "good": good}
            made.append({name: tensor.pin_memory() for name, tensor in batch.items()} if pinned else batch)
        return made

    def layers(self) -> Iterator[tuple[str, ConvLSTM, tuple[int, int, int, int, int]]]:
        """Name, ConvLSTM and [T, B, C, Y, X] of the input of each recurrent layer."""
        network = self.network()
        if not isinstance(network, ConvLSTMAutoencoder):
            return
        size = self.shape[2]
        for number, layer in enumerate(network.encoder.recurrent, 1):
            assert isinstance(layer, ConvLSTM)
            shape = (network.num_steps, self.train.batch_size, layer.of_input.in_channels, size, size)
            size //= 2
            yield f"layer {number}: {layer.hidden_channels} x {size} x {size}", layer, shape


# As in jobs/configs; a test compares them. `masked` is the shipped `line`, and `line` its autoencoder
# (`model.kind: ae`, see docs/masked.md), which has the recurrence that is measured here.
PRESETS = {
    "line": Preset(
        model={"latent_dim": 128, "steps": "line", "step_channels": 32, "lstm_channels": 32, "spaxel_code": 8},
        train=Train(loss="student-t", batch_size=16),
    ),
    "paper": Preset(
        model={
            "latent_dim": 512,
            "steps": "sample",
            "normalise": "none",
            "mask_input": False,
            "shortcut": False,
            "own_step_weights": True,
        },
        train=Train(optimizer="adagrad", lr=0.01, schedule="constant", grad_clip=None, batch_size=16),
    ),
    "masked": Preset(
        model={
            "groups": [[0, 2, 4, 5, 6, 8, 15], [1, 3], [7], [9, 10], [11], [12, 13], [14, 16], [17, 18]],
            "latent_dim": 128,
            "context_channels": 96,
            "lstm_channels": 0,
            "error_modes": 4,
            "hidden_side": 9,
            "sees_noise": True,
        },
        train=Train(loss="student-t", lr=2e-3, weight_decay=1e-3, batch_size=16),
    ),
}
# A few pixels and lines, for a run without a GPU.
SMALL = {
    name: replace(
        preset,
        shape=(3, 2, 8),
        model=preset.model | {"latent_dim": 4} | small,
        train=replace(preset.train, batch_size=2),
    )
    for name, preset, small in (
        *(
            (name, PRESETS[name], {"step_channels": 4, "lstm_channels": 4, "decoder_channels": 4})
            for name in ("line", "paper")
        ),
        ("masked", PRESETS["masked"], {"groups": [[0], [1, 2]], "context_channels": 8, "hidden_side": 5}),
    )
}
