"""The simplest network that predicts hidden samples: plain convolutions, one variance for each sample.

The masked network of `cubescout` must justify its additions to this: patchworks, the likelihood of the flux, shared
errors and a latent. Both have equally many training steps and channels.

Shapes: B galaxies, L lines, S samples of a line, Y and X spaxels, C channels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.anomaly.detectors.detector import Detector, Scored, observed_shards, register, shards
from benchmarks.anomaly.detectors.features import good_flux, normalised
from benchmarks.anomaly.detectors.triaged import VALIDATION, Triaged
from cubeprep.store import Windows, WindowStore
from modeling.network.hiding import lattice, turned
from modeling.network.line_groups import Groups, line_groups
from modeling.scoring.calibration import regressed
from modeling.scoring.galaxy_scorer import nuisances
from modeling.scoring.residual_sums import line_sums, median_snr

DILATIONS = (1, 2, 4, 1, 2, 4)
NORM_GROUPS = 8
# Of asinh of the flux: samples far below their noise carry no information.
LARGEST_VARIANCE = 1e4
LOG_VARIANCE = (-9.0, 4.0)
DEGREES_OF_FREEDOM = 5
BATCH = 16
LR, WEIGHT_DECAY, GRAD_CLIP = 2e-3, 1e-3, 1.0
# In training a galaxy hides some squares or some groups of lines, each in half of the draws.
SQUARES, MOST_SQUARES, MOST_GROUPS = 0.5, 5, 2
REGION_SIDE = 3
# A region, or a line in it, with fewer samples is scaled as if it had as many.
LEAST_OF_REGION, LEAST_OF_LINE = 50, 10


class Galaxies(NamedTuple):
    """asinh of normalised flux, the variance of its noise, and whether it is good, 1 or 0: each [B, L, S, Y, X]."""

    value: Tensor
    noise: Tensor
    good: Tensor

    @classmethod
    def of(cls, windows: Windows) -> "Galaxies":
        """Galaxies of windows."""
        flux, ivar, good = good_flux(windows)
        features, scale = normalised(windows)
        value = features.reshape(flux.shape)
        # asinh has the slope 1 / sqrt(1 + x^2), and sinh(value) is x.
        slope = 1 / (np.sqrt(1 + np.sinh(value) ** 2) * scale[:, None, None, None, None])
        noise = slope**2 / np.where(ivar > 0, ivar, np.inf)
        noise = np.where(good, np.minimum(noise, LARGEST_VARIANCE), LARGEST_VARIANCE)
        return cls(*(torch.from_numpy(values.astype(np.float32)) for values in (value, noise, good)))

    def take(self, index: Tensor, view: int) -> "Galaxies":
        """Some of the galaxies, turned."""
        return Galaxies(*(turned(values[index], view) for values in self))


class Block(nn.Module):
    """Residual block."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.near = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, Y, X] to the same."""
        return x + self.mix(functional.gelu(self.near(functional.gelu(self.norm(x)))))


class PlainNetwork(nn.Module):
    """Mean and variance of asinh of the flux from the samples seen; one mean of features represents the galaxy."""

    def __init__(self, lines: int, samples: int, size: int, channels: int) -> None:
        super().__init__()
        self.samples = samples
        self.first = nn.Conv2d(lines * samples + lines + 1, channels, 1)
        self.place = nn.Parameter(torch.zeros(channels, size, size))
        self.blocks = nn.ModuleList(Block(channels, dilation) for dilation in DILATIONS)
        self.whole = nn.Linear(channels, channels)
        self.last = nn.Conv2d(channels, 2 * lines * samples, 1)

    def forward(self, galaxies: Galaxies, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [B, L, S, Y, X]; `seen` is 1 or 0, and broadcasts to [B, L, Y, X]."""
        shown = galaxies.good * seen[:, :, None]
        share = shown.mean(2)
        image = torch.cat([(galaxies.value * shown).flatten(1, 2), share, share.amax(1, keepdim=True)], 1)
        features = self.first(image) + self.place
        for number, block in enumerate(self.blocks):
            features = block(features)
            if number == len(self.blocks) // 2 - 1:
                features = features + self.whole(features.mean((2, 3)))[:, :, None, None]
        mean, log_variance = self.last(features).unflatten(1, (2, -1, self.samples)).unbind(1)
        return mean, log_variance.clamp(*LOG_VARIANCE).exp()


def draw_seen(num: int, groups: Groups, shape: tuple[int, ...], side: int, rng: np.random.Generator) -> Tensor:
    """Visible lines and spaxels [B, L, Y, X] of galaxies of windows [L, S, Y, X] in a step of training, 1 or 0."""
    lines, _, size = shape
    seen = np.ones((num, lines, size, size), np.float32)
    for one in seen:
        if rng.random() < SQUARES:
            for y, x in rng.integers(-(side // 2), size - side // 2, (rng.integers(2, MOST_SQUARES + 1), 2)):
                one[:, max(y, 0) : y + side, max(x, 0) : x + side] = 0
        else:
            most = min(MOST_GROUPS, len(groups) - 1)
            for group in rng.permutation(len(groups))[: rng.integers(1, most + 1)]:
                one[groups[group]] = 0
    return torch.from_numpy(seen)


def peaks(squares: Tensor, good: Tensor) -> np.ndarray:
    """Logarithms [B, 2] of the highest excess of chi2 of any region, and of any line in a region.

    Args:
        squares: [B, L, S, Y, X] squared residuals over the variance of noise and prediction.
        good: the same shape, 1 or 0.
    """
    excess, count = (_region_sums(values.sum(2)) for values in ((squares - 1) * good, good))  # [B, L, Y, X]
    whole, number = excess.sum(1), count.sum(1)
    region = (whole / (2 * number.clamp(min=LEAST_OF_REGION)).sqrt()).amax((1, 2))
    line = (excess / (2 * count.clamp(min=LEAST_OF_LINE)).sqrt()).amax((1, 2, 3))
    return np.log1p(torch.stack([region, line], 1).clamp(min=0).double().numpy())


def _region_sums(images: Tensor) -> Tensor:
    """Sums over the region around each spaxel."""
    return functional.avg_pool2d(images, REGION_SIDE, 1, REGION_SIDE // 2) * REGION_SIDE**2


class PlainMasked(Detector):
    """Mean of the peaks of hidden squares and of hidden groups of lines, standardised on brightness, S/N and size.

    Variants are the two peaks, and the highest regions.
    """

    name = "plain masked network"
    group = "network"
    alone = True

    def fit(self, store: WindowStore, split: str) -> None:
        """Trains on galaxies as observed, then calibrates the scores on these and on the validation galaxies."""
        budget = self.tier.default
        self.groups, self.side = line_groups(store.line_names), budget.model.hidden_side
        parts = [Galaxies.of(windows) for windows in observed_shards(store, split)]
        galaxies = Galaxies(*(torch.cat(values) for values in zip(*parts, strict=True)))
        # The masked network sees each galaxy in several views.
        epochs = budget.train.epochs * self.tier.augment.num_views
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run.seed)
            self.model = PlainNetwork(*store.shape, budget.model.context_channels)
            self._train(galaxies, epochs, store.shape)
        found = [self._peaks(windows) for windows in self._calibration(store, split)]
        scores, known = (np.concatenate(values) for values in zip(*found, strict=True))
        self.regressions = {name: regressed(score, known) for name, score in zip(NAMES, scores.T, strict=True)}

    def _train(self, galaxies: Galaxies, epochs: int, shape: tuple[int, ...]) -> None:
        """Maximises the Student-t likelihood of hidden samples, whose noise is known."""
        rng = np.random.default_rng(self.run.seed)
        batch = min(BATCH, len(galaxies.value))
        steps = len(galaxies.value) // batch * epochs
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
        for index in _batches(len(galaxies.value), batch, epochs):
            some = galaxies.take(index, int(rng.integers(8)))
            seen = draw_seen(batch, self.groups, shape, self.side, rng)
            mean, variance = self.model(some, seen)
            total = variance + some.noise
            squares = (some.value - mean) ** 2 / total
            tails = (DEGREES_OF_FREEDOM + 1) / 2 * torch.log1p(squares / DEGREES_OF_FREEDOM)
            hidden = some.good * (1 - seen[:, :, None])
            loss = ((total.log() / 2 + tails) * hidden).sum() / hidden.sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), GRAD_CLIP)
            optimizer.step()
            schedule.step()

    def score_windows(self, windows: Windows) -> Scored:
        """Mean of the two standardised peaks of lines in a region; spaxels and lines are not shown."""
        found, known = self._peaks(windows)
        scores = {
            name: self.regressions[name].transform(score, known) for name, score in zip(NAMES, found.T, strict=True)
        }
        return Scored((scores["peak of squares"] + scores["peak of groups"]) / 2, variants=scores)

    def _calibration(self, store: WindowStore, split: str) -> Iterator[Windows]:
        yield from shards(store, VALIDATION)
        yield from observed_shards(store, split)

    @torch.no_grad()
    def _peaks(self, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """Scores [B, name] of NAMES before they are standardised, and the nuisances [B, nuisance]."""
        galaxies = Galaxies.of(windows)
        lines, _, size, _ = galaxies.value.shape[1:]
        of_squares, of_groups = torch.zeros_like(galaxies.value), torch.zeros_like(galaxies.value)
        for hidden, middle in lattice(size, self.side):
            squares = self._squares(galaxies, (~hidden).float().expand(1, lines, size, size))
            of_squares = torch.where(middle, squares, of_squares)
        for group in self.groups:
            seen = torch.ones(1, lines, size, size)
            seen[:, group] = 0
            of_groups[:, group] = self._squares(galaxies, seen)[:, group]
        found = np.concatenate([peaks(squares, galaxies.good) for squares in (of_squares, of_groups)], axis=1)
        arrays = windows.flux, windows.ivar, windows.mask
        sums = line_sums(*arrays, np.zeros_like(windows.flux))
        return found, nuisances(sums, median_snr(*arrays), windows.good)

    def _squares(self, galaxies: Galaxies, seen: Tensor) -> Tensor:
        """Squared residuals over their variance, [B, L, S, Y, X]."""
        mean, variance = self.model(galaxies, seen)
        return (galaxies.value - mean) ** 2 / (variance + galaxies.noise)


def _batches(num: int, batch: int, epochs: int) -> Iterator[Tensor]:
    """Indices of galaxies in random order, all of each epoch but an incomplete batch."""
    for _ in range(epochs):
        yield from (index for index in torch.randperm(num).split(batch) if len(index) == batch)


NAMES = ("region of squares", "peak of squares", "region of groups", "peak of groups")


@register
class TriagedPlainMasked(Triaged):
    """`PlainMasked` before and after the triage."""

    inner, name, alone, group = PlainMasked, PlainMasked.name, True, "network"
