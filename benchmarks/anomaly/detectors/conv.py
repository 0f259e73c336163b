"""A convolutional autoencoder for one line at a time, which shows the value of combining lines."""

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.anomaly.detectors.detector import Detector, Scored, mapped, register
from benchmarks.anomaly.detectors.features import denormalised, normalised, scored_residuals
from cubeprep.store import Windows, WindowStore

CHANNELS = (16, 32)
LATENT_CHANNELS = 4
BATCH = 64
LR = 2e-3


@register
class PerLineConv(Detector):
    """One Conv2D autoencoder shared by all lines; the channels of an image are the samples of its line."""

    name = "Conv2D AE per line"
    group = "network"
    alone = True

    def fit(self, store: WindowStore, split: str) -> None:
        """Trains with Adam on the mean absolute error for a fixed number of epochs."""
        _, num_samples, size = store.shape
        images = mapped(store, split, lambda windows: normalised(windows)[0])
        x_NSYX = torch.from_numpy(images.reshape(-1, num_samples, size, size))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run.seed)
            self.model = _autoencoder(num_samples)
            _train(self.model, x_NSYX, self.tier.conv_epochs)

    def score_windows(self, windows: Windows) -> Scored:
        """Unexplained fraction of the signal; the other scores are variants."""
        features, scale = normalised(windows)
        num_samples, size = windows.flux.shape[2:4]
        with torch.no_grad():
            output = self.model(torch.from_numpy(features.reshape(-1, num_samples, size, size)))
        reconstruction = denormalised(output.numpy().reshape(len(features), -1), scale, windows.flux.shape)
        return scored_residuals(windows, np.ascontiguousarray(reconstruction), "unexplained")


def _autoencoder(num_samples: int) -> nn.Module:
    first, second = CHANNELS
    return nn.Sequential(
        nn.Conv2d(num_samples, first, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(first, second, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(second, LATENT_CHANNELS, 1),
        nn.ConvTranspose2d(LATENT_CHANNELS, second, 4, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(second, first, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(first, num_samples, 3, padding=1),
    )  # fmt: skip


def _train(model: nn.Module, x_NSYX: Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    for _ in range(epochs):
        for index in torch.randperm(len(x_NSYX)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.l1_loss(model(x_NSYX[index]), x_NSYX[index]).backward()
            optimizer.step()
