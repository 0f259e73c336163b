"""Our networks, as `cubescout train` and `cubescout score` have them, and the paper's with its own training."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from benchmarks.anomaly.detectors import Detector, Scored, register
from benchmarks.anomaly.detectors.features import scored_residuals
from benchmarks.anomaly.tiers import TrainingBudget
from cubeprep.store import Windows, WindowStore
from modeling.autoencoder import make_model
from modeling.checkpoint import load_model
from modeling.config import ScoreConfig
from modeling.context import LocalContext
from modeling.data import Batch, Loader
from modeling.fit import Batches, fit
from modeling.inference import infer
from modeling.score import RankBy


class Network(Detector):
    """Trains with `modeling.fit`, keeps the epoch of the lowest validation loss, scores with `modeling.score`."""

    rank_by: RankBy

    def budget(self) -> TrainingBudget:
        """The tier's budget for it."""
        raise NotImplementedError

    def order(self, num_lines: int) -> np.ndarray:
        """The order in which the network sees the lines."""
        return np.arange(num_lines)

    def fit(self, store: WindowStore, split: str) -> None:
        """Trains."""
        config = self.budget()
        self.lines = self.order(store.shape[0])
        loaders = {name: Loader(store, name, batch_size=config.train.batch_size, seed=self.run.seed) for name in
                   (split, "validation")}  # fmt: skip
        batches = Batches(
            lambda epoch, first_step, _: self._permuted(loaders[split].training(epoch, first_step)),
            loaders[split].num_batches(),
            lambda: self._permuted(loaders["validation"].evaluation()),
        )
        model = make_model(config.model.arguments(store.shape), self.run.seed)
        with tempfile.TemporaryDirectory(prefix="cubescout-benchmark-") as folder:
            fit(model, batches, config.train, LocalContext(Path(folder)), seed=self.run.seed)
            self.model, _ = load_model(Path(folder) / "last" / "best")

    def score_windows(self, windows: Windows) -> Scored:
        """The score that ranks catalogs; the others of `modeling.score` are variants."""
        arrays = (values[:, self.lines] for values in (windows.flux, windows.ivar, windows.mask))
        expected = np.empty_like(windows.flux)
        expected[:, self.lines] = infer(self.model, *arrays).reconstruction
        return scored_residuals(windows, expected, self.rank_by)

    def _permuted(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        order = torch.from_numpy(self.lines)
        return ({name: values[:, order] for name, values in batch.items()} for batch in batches)


@register
class Cubescout(Network):
    """The default model with the default score."""

    name = "Cubescout"
    group = "ours"
    cost = "network_runs"
    rank_by: RankBy = ScoreConfig().rank_by

    def budget(self) -> TrainingBudget:
        """The tier's default budget."""
        return self.tier.default


@register
class PermutedLines(Network):
    """The same with the lines in a random order: does the recurrence use the order of wavelengths?"""

    name = "Cubescout, lines permuted"
    group = "network"
    cost = "slow_runs"
    rank_by = Cubescout.rank_by

    def budget(self) -> TrainingBudget:
        """The tier's default budget."""
        return self.tier.default

    def order(self, num_lines: int) -> np.ndarray:
        """Another order for each seed."""
        return np.random.default_rng([self.run.seed, num_lines]).permutation(num_lines)


@register
class PaperAe(Network):
    """The autoencoder of arXiv:2602.18426 with its score."""

    name = "paper AE"
    group = "paper"
    cost = "slow_runs"
    rank_by: RankBy = "mae"

    def budget(self) -> TrainingBudget:
        """The tier's budget for the paper's autoencoder."""
        return self.tier.paper_ae


@register
class PaperVae(Network):
    """The variational autoencoder of arXiv:2602.18426 with its score."""

    name = "paper VAE"
    group = "paper"
    cost = "slow_runs"
    rank_by: RankBy = "mae"

    def budget(self) -> TrainingBudget:
        """The tier's budget for the paper's variational autoencoder."""
        return self.tier.paper_vae
