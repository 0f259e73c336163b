"""Fine-tunes a network on a few galaxies, as `train.start_from` does for a small survey."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cubeprep.augment import AugmentConfig, augment, view_rng
from cubeprep.store import Windows
from modeling.network.checkpoint import load_model
from modeling.network.normalisation import WindowNetwork
from modeling.training.config import TrainConfig
from modeling.training.context import LocalContext
from modeling.training.fit import Batches, fit
from modeling.training.loader import Batch, tensors_of

# The learning rate is that of docs/few.md. Each epoch has new views, so a few galaxies are seen in hundreds of them.
EPOCHS = 20
LR = 3e-4
NUM_VIEWS = 8


def fine_tuned(
    model: WindowNetwork, galaxies: Windows, config: TrainConfig, views: AugmentConfig, seed: int
) -> WindowNetwork:
    """A copy of a network, trained further on some galaxies; its last epoch, since no galaxies are left to validate on.

    Args:
        model: the network, which is not changed.
        galaxies: rows to train on, lines in the network's order.
        config: of the training; its epochs and learning rate are replaced.
        views: augmentation.
        seed: of views, order and hidden samples.
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
            yield tensors_of(*(np.stack(parts) for parts in zip(*(made[i] for i in step), strict=True)))

    with tempfile.TemporaryDirectory(prefix="cubescout-benchmark-") as folder:
        batches = Batches(training, num_steps, None)
        fit(copy.deepcopy(model), batches, config, LocalContext(Path(folder)), seed=seed)
        return load_model(Path(folder) / "last")[0]
