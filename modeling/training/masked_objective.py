"""Training objective of a masked network: the likelihood of its hidden samples.

Each step hides other lines and spaxels (`modeling.network.hiding`) and turns the galaxies, since orientation on the sky
is arbitrary. As for the autoencoders, each galaxy has the same weight: its loss is the mean over its hidden good
samples, so the mean over a batch is the mean over its parts, in one process or in many.

Shapes: B batch, L lines, S samples, Y and X spaxels; N spaxels of any galaxies with F samples of all lines.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from modeling.network.autoencoder import ConvLSTMAutoencoder
from modeling.network.hiding import draw_hidden, group_of_lines, hidden_lines, margin, turn_each, turns
from modeling.network.masked import masked_mean
from modeling.network.masked_network import COARSE, Errors, MaskedPredictor, by_spaxel
from modeling.network.normalisation import WindowNetwork
from modeling.training.losses import LIKELIHOODS, STUDENT_CONSTANT, joint_nll
from modeling.training.objective import Objective, ObjectiveConfig

# Weight of the squared error of the coarse means that the latent decodes to, normalised units, against nats.
LATENT_WEIGHT = 1.0
# Positions of the lattice that an evaluation hides; each costs a pass.
EVALUATED = (0, 4)


class Spaxels(NamedTuple):
    """Some spaxels of a batch.

    Attributes:
        chosen: [N] indices in B Y X; None for all.
        shape: B, Y X.
    """

    chosen: Tensor | None
    shape: tuple[int, int]

    def of(self, values_BLSYX: Tensor) -> Tensor:
        """Their samples, [N, F]."""
        return self.among(by_spaxel(values_BLSYX))

    def among(self, values_NF: Tensor) -> Tensor:
        """Their rows among those of all spaxels."""
        return values_NF if self.chosen is None else values_NF[self.chosen]

    def in_galaxies(self, values: Tensor) -> Tensor:
        """Their values [N, ...] among all spaxels, [B, Y X, ...]; 0 for others."""
        if self.chosen is not None:
            others = values.new_zeros(math.prod(self.shape), *values.shape[1:])
            values = others.index_copy(0, self.chosen, values)
        return values.unflatten(0, self.shape)


class HiddenLosses(NamedTuple):
    """Losses of a batch with hidden samples, and their ingredients.

    Attributes:
        nll, latent: [B] of the hidden samples, and of the latent.
        spaxels: those with hidden good samples, or all.
        tested: [N, F] bool, hidden good samples.
        off: [N, F] prediction less flux in normalised units.
        errors: of the spaxels.
    """

    nll: Tensor
    latent: Tensor
    spaxels: Spaxels
    tested: Tensor
    off: Tensor
    errors: Errors

    @property
    def chi2(self) -> Tensor:
        """Squared residual over the noise, [N, F]; 0 where not tested."""
        return torch.where(self.tested, self.errors.residual.square() / self.errors.noise, 0.0)

    @property
    def error(self) -> Tensor:
        """Absolute error in normalised units, [N, F]; 0 where not tested."""
        return torch.where(self.tested, self.off.abs(), 0.0)


class MaskedObjective(nn.Module):
    """Loss as a function of windows, as `Objective`, of a masked network.

    Attributes:
        model: the network.
        config: name of the likelihood.
        kl_scale: as of `Objective`; not used.
    """

    def __init__(self, model: MaskedPredictor, config: ObjectiveConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.kl_scale = 1.0
        # No buffers: a wrapper would send them to the other ranks in each step.
        self._turns = turns(model.size)
        self._of_line_L = group_of_lines(model.groups, model.num_lines)

    def forward(
        self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor, hidden_BLYX: Tensor
    ) -> dict[str, Tensor]:
        """Loss of each galaxy and its parts, each [B]; the arguments are those that `prepared` returns.

        `nll` is the mean negative log-likelihood of a hidden good sample in nats, and `latent` the squared error of the
        coarse means that the latent decodes to.
        """
        found = self._losses(flux_BLSYX, ivar_BLSYX, good_BLSYX, hidden_BLYX[:, :, None])
        return {"loss": found.nll + LATENT_WEIGHT * found.latent, "nll": found.nll, "latent": found.latent}

    def prepared(
        self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor, *, step_seed: int, device: torch.device
    ) -> tuple[Tensor, ...]:
        """Arguments of `forward` on a device: galaxies turned at random, and the hidden part of each.

        Args:
            flux_BLSYX: in the unit of the store; any value where not good.
            ivar_BLSYX: inverse variance of the flux; 0 where not good.
            good_BLSYX: bool.
            step_seed: of the draws of this step.
            device: of the result.
        """
        # Drawn before the move: on a GPU each number would have to be waited for.
        views_B, group_BYX = (
            torch.from_numpy(drawn).to(device, non_blocking=True)
            for drawn in self._draws(flux_BLSYX, good_BLSYX, step_seed)
        )
        self._turns, self._of_line_L = self._turns.to(device), self._of_line_L.to(device)
        place_BP = self._turns[views_B]
        flux_BLSYX, ivar_BLSYX, good_BLSYX = (
            turn_each(values.to(device, non_blocking=True), place_BP) for values in (flux_BLSYX, ivar_BLSYX, good_BLSYX)
        )
        edge = margin(self.model.hidden_side)
        hidden_BLYX = hidden_lines(self._of_line_L, len(self.model.groups), group_BYX, edge)
        return torch.where(good_BLSYX, flux_BLSYX, 0.0), ivar_BLSYX, good_BLSYX, hidden_BLYX

    def _draws(self, flux_BLSYX: Tensor, good_BLSYX: Tensor, step_seed: int) -> tuple[np.ndarray, np.ndarray]:
        """View of each galaxy, [B], and its hidden part, [B, Y, X] as of `draw_hidden`.

        They depend on neither its place in the batch nor the rank, so the number of workers changes no gradient.
        """
        model, generator = self.model, torch.Generator()
        views, groups = [], []
        for digest in _digests(flux_BLSYX, good_BLSYX):
            generator.manual_seed(hash((step_seed, digest)) % 2**63)
            views.append(int(torch.randint(8, (), generator=generator)))
            groups.append(draw_hidden(len(model.groups), model.size, model.hidden_side, generator))
        return np.array(views), np.stack(groups).astype(np.int16)

    @torch.no_grad()
    def evaluate(self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor) -> dict[str, Tensor]:
        """Loss and the metrics of `metric_sizes`; NaN where a galaxy has no good sample.

        The hidden parts are the same for every galaxy and epoch: two lattices of squares, and all patchworks. `nll` is
        that of `forward`, in the unit of `Objective.evaluate`: the density of the flux over its error. `chi2` and `mae`
        are those of the hidden samples.
        """
        parts: list[dict[str, Tensor]] = []
        errors: list[Tensor] = []
        squares = list(self.model.square_passes())
        chosen = [squares[index] for index in EVALUATED]
        for index, part in enumerate([*chosen, *self.model.patch_passes()]):
            hidden_BLSYX, kept_BLSYX = (each.to(good_BLSYX.device).expand_as(good_BLSYX) for each in part)
            found = self._losses(flux_BLSYX, ivar_BLSYX, good_BLSYX, hidden_BLSYX)
            chi2_B = _mean_by_galaxy(found.chi2.sum(dim=1), found.tested, found.spaxels)
            parts.append({"nll": found.nll, "latent": found.latent, "chi2": chi2_B})
            if index >= len(chosen):  # a patchwork: together they keep each sample once
                error_BPF = found.spaxels.in_galaxies(found.error * found.spaxels.of(kept_BLSYX))
                errors.append(error_BPF.sum(dim=1).unflatten(1, (self.model.num_lines, -1)).sum(dim=2))
        count_BL = good_BLSYX.sum(dim=(2, 3, 4))
        measured = {name: torch.stack([part[name] for part in parts]).mean(dim=0) for name in parts[0]}
        measured["loss"] = measured["nll"] + LATENT_WEIGHT * measured["latent"]
        nothing_B = count_BL.sum(dim=1) == 0
        measured = {name: values.masked_fill(nothing_B, math.nan) for name, values in measured.items()}
        return measured | {"mae": torch.stack(errors).sum(dim=0) / count_BL}

    def metric_sizes(self) -> dict[str, int]:
        """Number of columns of each metric of `evaluate`."""
        return {"nll": 1, "latent": 1, "chi2": 1, "loss": 1, "mae": self.model.num_lines}

    def start_from(self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor) -> None:
        """Does nothing: a masked network starts from random weights."""

    def _losses(self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor, hidden_BLSYX: Tensor) -> HiddenLosses:
        seen_BLSYX = good_BLSYX & ~hidden_BLSYX
        # The scale of the samples seen: that of all would reveal the brightness of the hidden ones.
        target_BLSYX, scale_B = self.model.normalise(flux_BLSYX, good_BLSYX, seen_BLSYX)
        scaled_BLSYX = self.model.scaled_ivar(ivar_BLSYX, scale_B)
        tested_NF = by_spaxel(good_BLSYX & hidden_BLSYX)
        chosen_N = _with_tests(tested_NF)
        spaxels = Spaxels(chosen_N, (len(good_BLSYX), len(tested_NF) // len(good_BLSYX)))
        samples, latent_BD = self.model.predict_spaxels(target_BLSYX, seen_BLSYX, scaled_BLSYX, chosen_N)
        target_NF, tested_NF = spaxels.of(target_BLSYX), spaxels.among(tested_NF)
        errors = self.model.errors(samples, target_NF, spaxels.of(scaled_BLSYX))
        # In units of the noise, whatever the scale: a term of the data alone, without a gradient.
        log_noise_N = torch.where(tested_NF, 0.5 * errors.noise.log(), 0.0).sum(dim=1)
        nll_B = _mean_by_galaxy(self._nll(errors, tested_NF) - log_noise_N, tested_NF, spaxels)
        return HiddenLosses(
            nll_B,
            self._latent_loss(latent_BD, target_BLSYX, good_BLSYX),
            spaxels,
            tested_NF,
            samples.mean - target_NF,
            errors,
        )

    def _nll(self, errors: Errors, tested_NF: Tensor) -> Tensor:
        """Negative log-likelihood of the tested samples of each spaxel, [N] in nats."""
        if self.model.to_modes is None:
            nothing_NF = torch.zeros_like(errors.residual)
            mean_N = LIKELIHOODS[self.config.loss](nothing_NF, errors.residual, tested_NF, errors.variance)
            # As `joint_nll`, up to ln(2 pi)/2 alone: likelihoods of networks and losses then compare.
            constant = STUDENT_CONSTANT if self.config.loss == "student-t" else 0.0
            return (mean_N + constant) * tested_NF.sum(dim=1)
        # Products of bfloat16 would lose the small difference of two large sums.
        with torch.autocast(tested_NF.device.type, enabled=False):
            return joint_nll(self.config.loss, errors.residual, errors.variance, errors.modes, tested_NF)

    def _latent_loss(self, latent_BD: Tensor, target_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
        share_BFYX = functional.adaptive_avg_pool2d(good_BLSYX.flatten(1, 2).float(), COARSE)
        means_BFYX = functional.adaptive_avg_pool2d(target_BLSYX.flatten(1, 2), COARSE) / share_BFYX.clamp(min=1e-6)
        residual_BFYX = self.model.coarse_means(latent_BD).flatten(1, 2) - means_BFYX
        return masked_mean(residual_BFYX.square(), share_BFYX > 0)


def _with_tests(tested_NF: Tensor) -> Tensor | None:
    """Indices of the spaxels with tested samples; None, for all, on a GPU: a graph of a step needs fixed shapes."""
    return torch.nonzero(tested_NF.any(dim=1))[:, 0] if tested_NF.device.type == "cpu" else None


def _mean_by_galaxy(sum_N: Tensor, tested_NF: Tensor, spaxels: Spaxels) -> Tensor:
    """Mean over the tested samples of each galaxy, [B], from the sum over those of each spaxel; 0 without any."""
    sum_BP, count_BP = spaxels.in_galaxies(sum_N), spaxels.in_galaxies(tested_NF.sum(dim=1))
    return sum_BP.sum(dim=1) / count_BP.sum(dim=1).clamp(min=1)


def _digests(flux_BLSYX: Tensor, good_BLSYX: Tensor) -> list[int]:
    """Number that identifies each galaxy, from its good flux at the middle sample of each line."""
    # One sample a line, since the whole batch takes longer to read than a GPU to train on it.
    middle = flux_BLSYX.shape[2] // 2
    flux_BF, good_BF = (values[:, :, middle].flatten(1).cpu().numpy() for values in (flux_BLSYX, good_BLSYX))
    # A sum of integers is the same in any order.
    bits_BF = flux_BF.astype(np.float32, copy=False).view(np.int32)
    return (bits_BF * good_BF).sum(axis=1, dtype=np.int64).tolist()


def make_objective(model: WindowNetwork, config: ObjectiveConfig) -> Objective | MaskedObjective:
    """Objective of a network."""
    if isinstance(model, MaskedPredictor):
        return MaskedObjective(model, config)
    assert isinstance(model, ConvLSTMAutoencoder)
    return Objective(model, config)
