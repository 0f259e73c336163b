"""Our networks with the training and scores of `cubescout`, and the paper's networks with the paper's training."""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import torch

from benchmarks.anomaly.detectors.detector import Detector, Scored, observed_shards, register
from benchmarks.anomaly.detectors.features import scored_residuals
from benchmarks.anomaly.fine_tune import fine_tuned
from benchmarks.anomaly.tiers import Tier, TrainingBudget
from cubeprep.simulate.footprint import SPAXEL_ARCSEC
from cubeprep.store import Windows, WindowStore
from modeling.network.checkpoint import load_model
from modeling.network.inference import infer
from modeling.network.make import make_network
from modeling.scoring.artefacts import FWHM_PER_SIGMA, point_fall
from modeling.scoring.galaxy_scorer import SIGNIFICANCES, calibrate
from modeling.scoring.hypotheses.explain import Survey
from modeling.scoring.hypotheses.shard import hypotheses
from modeling.scoring.hypotheses.templates import Templates
from modeling.scoring.residual_sums import PlainScore, scores_from_sums
from modeling.training.context import LocalContext
from modeling.training.fit import Batches, fit
from modeling.training.loader import Batch, Loader

# FWHM of MaNGA's PSF.
PSF_FWHM_ARCSEC = 2.5


def psf_fwhm_spaxels(tier: Tier) -> float:
    """FWHM of the PSF in spaxels of a tier's windows."""
    return PSF_FWHM_ARCSEC / (SPAXEL_ARCSEC * tier.data.bin_factor)


class Network(Detector):
    """Detector based on a network, with the epoch of the lowest validation loss.

    It is trained with `modeling.training.fit` and scored with `modeling.scoring.residual_sums`.
    """

    alone = True
    rank_by: PlainScore

    def budget(self) -> TrainingBudget:
        """Budget of the tier for this network; each subclass defines it."""
        raise NotImplementedError

    def order(self, num_lines: int) -> np.ndarray:
        """Order [line] in which the network receives the lines."""
        return np.arange(num_lines)

    def fit(self, store: WindowStore, split: str) -> None:
        """Trains the network."""
        config = self.budget()
        self.lines = self.order(store.shape[0])
        loaders = {name: Loader(store, name, batch_size=config.train.batch_size, seed=self.run.seed) for name in
                   (split, "validation")}  # fmt: skip
        batches = Batches(
            lambda epoch, first_step, _: self._permuted(loaders[split].training(epoch, first_step)),
            loaders[split].num_batches(),
            lambda: self._permuted(loaders["validation"].evaluation()),
            first=lambda: next(iter(self._permuted([loaders[split].first()]))),
        )
        model = make_network(config.model, store.shape, [store.line_names[i] for i in self.lines], seed=self.run.seed)
        with tempfile.TemporaryDirectory(prefix="cubescout-benchmark-") as folder:
            metrics = fit(model, batches, config.train, LocalContext(Path(folder)), seed=self.run.seed)
            self.model, _ = load_model(Path(folder) / "last" / "best")
        self.training = (
            f"lowest validation loss {metrics['best_loss']:.4g} in epoch {metrics['best_epoch'] + 1:g} of "
            f"{config.train.epochs}, {metrics['validation_loss']:.4g} in the last"
        )

    def score_windows(self, windows: Windows) -> Scored:
        """Score `rank_by` of the residuals; the other plain scores are variants."""
        arrays = self._arrays(windows)
        reconstruction = np.empty_like(windows.flux)
        reconstruction[:, self.lines] = infer(self.model, *arrays).reconstruction
        return scored_residuals(windows, reconstruction, self.rank_by)

    def _arrays(self, windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        flux, ivar, mask = (values[:, self.lines] for values in (windows.flux, windows.ivar, windows.mask))
        return flux, ivar, mask

    def _permuted(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        order = torch.from_numpy(self.lines)
        return ({name: values[:, order] for name, values in batch.items()} for batch in batches)


@register
class Cubescout(Network):
    """Our model with the combined score of catalogs; the plain scores of its residuals are variants."""

    name = "Cubescout"
    group = "ours"
    cost = "network_runs"

    def fit(self, store: WindowStore, split: str) -> None:
        """Trains the network, then calibrates the score."""
        super().fit(store, split)
        self.calibrate(store, split)

    def calibrate(self, store: WindowStore, split: str) -> None:
        """Calibrates the score on the training galaxies as observed."""
        psf = psf_fwhm_spaxels(self.tier)
        velocity_kms = store.coordinate(split, "velocity_kms")
        waves = store.coordinate(split, "rest_wave")
        templates = Templates(tuple(store.line_names), tuple(map(float, waves)), tuple(map(float, velocity_kms)))
        self.survey = Survey(templates, psf / FWHM_PER_SIGMA, SPAXEL_ARCSEC * self.tier.data.bin_factor)
        self.scorer = calibrate(
            self.model, lambda: map(self._arrays, observed_shards(store, split)), velocity_kms, psf_fwhm_spaxels=psf
        ).regressed()

    def score_windows(self, windows: Windows) -> Scored:
        """Combined score; its components and the plain scores are variants."""
        scores = self.scorer.score(*self._arrays(windows))
        plain = scores_from_sums(scores.sums, scores.snr)
        variants = {name: getattr(plain, name) for name in get_args(PlainScore)}
        variants |= {name.replace("_", " "): scores.significance[:, i] for i, name in enumerate(SIGNIFICANCES)}
        standard = self.scorer.standardised(scores)
        variants |= {
            f"{name.replace('_', ' ')}, standardised": values
            for name, values in zip(SIGNIFICANCES, standard, strict=True)
        }
        variants["all four, standardised"] = np.mean(standard, axis=0)
        variants["nll"] = scores.nll
        back = np.argsort(self.lines)
        lines = scores.by_line[:, back].astype(np.float32)
        names = self.hypotheses(windows, scores.by_spaxel)
        latents = scores.latent.astype(np.float32)
        return Scored(self.scorer.combined(scores), scores.by_spaxel, lines, variants, names, latents)

    def hypotheses(self, windows: Windows, by_spaxel: np.ndarray) -> np.ndarray | None:
        """Names [row] of hypotheses at the spaxels that contribute most, [row, y, x]; None if they are not compared."""
        as_given = windows.flux, windows.ivar, windows.mask  # not in the order of `lines`
        return hypotheses(self.survey, as_given, by_spaxel, np.zeros(len(windows))).name

    def score_real(self, windows: Windows, rows: pd.DataFrame) -> np.ndarray:
        """Scores of real galaxies, each by the network after it was fine-tuned on the other real galaxies.

        The calibration stays that of the simulated galaxies, since the real ones are too few for one of their own. The
        PSF is that of their survey: with a wider one a point source would be a spike.
        """
        score = np.empty(len(windows))
        observed, objects = (rows["family"] == "").to_numpy(), rows["mangaid"].to_numpy()
        for name in np.unique(objects):
            mine = objects == name
            others = windows.select(observed & ~mine)
            given = Windows(*self._arrays(others), others.plateifu, others.view)
            tuned = fine_tuned(self.model, given, self.budget().train, self.tier.augment, self.run.seed)
            fall = point_fall(rows.loc[mine, "psf_fwhm_spaxels"].iloc[0])
            scorer = replace(self.scorer, model=tuned, fall=fall)
            score[mine] = scorer.combined(scorer.score(*self._arrays(windows.select(mine))))
        return score

    def budget(self) -> TrainingBudget:
        """Budget of the tier for our model."""
        return self.tier.default


@register
class Autoencoder(Cubescout):
    """Our autoencoder: the same scores from the residuals of its reconstructions."""

    name = "Cubescout, autoencoder"
    group = "network"
    cost = "slow_runs"

    def budget(self) -> TrainingBudget:
        """Budget of the tier for our autoencoder."""
        return self.tier.autoencoder

    def hypotheses(self, windows: Windows, by_spaxel: np.ndarray) -> np.ndarray | None:
        """None, since the table shows our model alone."""
        return None


@register
class PermutedLines(Autoencoder):
    """Our autoencoder with the lines in random order, to test whether its recurrence uses wavelength order."""

    name = "Cubescout, autoencoder, lines permuted"
    group = "network"
    cost = "slow_runs"

    def order(self, num_lines: int) -> np.ndarray:
        """Random order [line], different for each seed."""
        return np.random.default_rng([self.run.seed, num_lines]).permutation(num_lines)


@register
class PaperAe(Network):
    """The autoencoder of arXiv:2602.18426 with the paper's score."""

    name = "paper AE"
    group = "paper"
    cost = "paper_runs"
    rank_by: PlainScore = "mae"

    def budget(self) -> TrainingBudget:
        """Budget of the tier for the paper's autoencoder."""
        return self.tier.paper_ae


@register
class PaperVae(Network):
    """The variational autoencoder of arXiv:2602.18426 with the paper's score."""

    name = "paper VAE"
    group = "paper"
    cost = "paper_runs"
    rank_by: PlainScore = "mae"

    def budget(self) -> TrainingBudget:
        """Budget of the tier for the paper's variational autoencoder."""
        return self.tier.paper_vae
