"""Fine-tunes a network on a few galaxies, as `train.start_from` does for a survey of few."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cubeprep.augment import AugmentConfig, augment, view_rng
from cubeprep.masks import good_samples
from cubeprep.store import Windows
from modeling.network.checkpoint import load_model
from modeling.network.normalisation import WindowNetwork
from modeling.training.config import TrainConfig
from modeling.training.context import LocalContext
from modeling.training.fit import Batches, fit
from modeling.training.loader import Batch

# The learning rate is that of docs/few.md. Each epoch has new views, so a handful of galaxies is seen in hundreds.
EPOCHS = 20
LR = 3e-4
NUM_VIEWS = 8


def fine_tuned(
    model: WindowNetwork, galaxies: Windows, config: TrainConfig, views: AugmentConfig, seed: int
) -> WindowNetwork:
    """A copy of a network, trained further on some galaxies; its last epoch, since no galaxies are left to validate on.

    Args:
        model: the network, which stays as it is.
        galaxies: rows to train on, lines in the network's order.
        config: of the training; its epochs and learning rate are replaced.
        views: augmentation.
        seed: of views, order and what the network hides.
    """
    config = config.model_copy(update={"epochs": EPOCHS, "lr": LR})
    num_steps = -(-len(galaxies) * NUM_VIEWS // config.batch_size)

    def training(epoch: int, first_step: int, streams: int) -> Iterator[Batch]:
        rng = np.random.default_rng([seed, epoch])
        made = [
            augment(galaxies.flux[row], galaxies.ivar[row], galaxies.mask[row], views, view_rng(seed, name, view))
            for row, name in enumerate(map(str, galaxies.plateifu))
            for view in range(epoch * NUM_VIEWS, (epoch + 1) * NUM_VIEWS)
        ]
        for step in np.array_split(rng.permutation(len(made)), num_steps)[first_step:]:
            flux, ivar, mask = (np.stack(parts) for parts in zip(*(made[i] for i in step), strict=True))
            good = good_samples(flux, ivar, mask)
            flux, ivar = (np.where(good, values, 0).astype(np.float32) for values in (flux, ivar))
            yield {name: torch.from_numpy(values) for name, values in (("flux", flux), ("ivar", ivar), ("good", good))}

    with tempfile.TemporaryDirectory(prefix="cubescout-benchmark-") as folder:
        context = LocalContext(Path(folder))
        fit(copy.deepcopy(model), Batches(training, num_steps, None), config, context, seed=seed)
        return load_model(Path(folder) / "last")[0]
