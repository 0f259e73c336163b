"""Makes the network of a configuration."""

from collections.abc import Sequence

import torch

from modeling.network.autoencoder import make_model
from modeling.network.config import ModelConfig
from modeling.network.masked_network import MaskedPredictor
from modeling.network.normalisation import WindowNetwork


def make_network(
    config: ModelConfig, shape: tuple[int, int, int], line_names: Sequence[str] = (), *, seed: int
) -> WindowNetwork:
    """Network with initial weights that `seed` determines; the global random state is left unchanged.

    Args:
        config: kind and sizes.
        shape: lines, samples and spaxels a side of the windows.
        line_names: [line].
        seed: of the weights.

    Raises:
        ValueError: the network cannot be built for such windows.
    """
    arguments = config.arguments(shape, line_names)
    if config.kind != "masked":
        return make_model(arguments, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MaskedPredictor(**arguments)
