"""What a training minimises, and what it measures beside: model and loss as one module.

Shapes: B batch, L lines, S samples, Y and X spaxels, D latent.
"""

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from modeling.network.autoencoder import ConvLSTMAutoencoder, Output
from modeling.network.masked import masked_mae, masked_mean
from modeling.network.spaxel_code import local_amplitude
from modeling.training.losses import (
    ERROR_LOSSES,
    LIKELIHOODS,
    free_bits_kl,
    huber_chi2,
    kl_to_standard_normal,
    student_t_nll,
)


class ObjectiveConfig(Protocol):
    """What the objective reads of `config.TrainConfig`."""

    @property
    def loss(self) -> str:
        """A key of `losses.ERROR_LOSSES` or `losses.LIKELIHOODS`."""

    @property
    def error_floor(self) -> float:
        """Added in quadrature to the error of each sample in a likelihood, in normalised units."""

    @property
    def kl_weight(self) -> float:
        """Of the KL divergence of a variational model, per nat."""

    @property
    def free_bits(self) -> float:
        """Of each latent, which cost nothing."""


class Objective(nn.Module):
    """The loss as a function of windows. One module, so that a wrapper such as DDP sees one forward pass.

    `kl_scale`, from 0 to 1, is the share of the KL weight that the warm-up has reached.
    """

    def __init__(self, model: ConvLSTMAutoencoder, config: ObjectiveConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.kl_scale = 1.0

    def forward(self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor) -> dict[str, Tensor]:
        """The loss of each galaxy and its parts, each [B]; the KL term as warm-up and free bits leave it."""
        target_BLSYX, scale_B = self.model.normalise(flux_BLSYX, good_BLSYX)
        output = self.model.autoencode(target_BLSYX, good_BLSYX)
        loss_B = self._reconstruction_loss(output, target_BLSYX, ivar_BLSYX, good_BLSYX, scale_B)
        if output.mean is None or output.log_variance is None:
            return {"loss": loss_B}
        kl_BD = kl_to_standard_normal(output.mean.float(), output.log_variance.float())
        kl_loss_B = self.kl_scale * self.config.kl_weight * free_bits_kl(kl_BD, self.config.free_bits)
        return {"loss": loss_B + kl_loss_B, "reconstruction": loss_B, "kl": kl_BD.sum(dim=1)}

    @torch.no_grad()
    def evaluate(self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor) -> dict[str, Tensor]:
        """The loss with the whole KL divergence, and what `metric_sizes` names; NaN where a galaxy has no good sample.

        `chi2` [B] is the mean squared residual of a good sample in units of its variance, `mae` [B, L] the mean
        absolute residual of each line in normalised units, `kl_of_latent` [B, D] in nats. `nll` [B] is of a good sample
        in nats, under Student's t with the error of its flux, less what depends on the data alone: models of any loss
        and any normalisation compare by it.
        """
        target_BLSYX, scale_B = self.model.normalise(flux_BLSYX, good_BLSYX)
        output = self.model.autoencode(target_BLSYX, good_BLSYX)
        loss_B = self._reconstruction_loss(output, target_BLSYX, ivar_BLSYX, good_BLSYX, scale_B)
        reconstruction_BLSYX = output.reconstruction.float()
        variance_BLSYX = self.model.normalised_variance(target_BLSYX, ivar_BLSYX, scale_B)
        chi2_B = masked_mean((reconstruction_BLSYX - target_BLSYX).square() / variance_BLSYX, good_BLSYX)
        by_line = [values.flatten(0, 1) for values in (reconstruction_BLSYX, target_BLSYX, good_BLSYX)]
        has_good_BL = good_BLSYX.flatten(2).any(dim=2)
        error_BLSYX = ivar_BLSYX.clamp(min=1e-30).rsqrt()
        expected_BLSYX = self.model.denormalise(reconstruction_BLSYX, scale_B)
        nll_B = student_t_nll(
            expected_BLSYX / error_BLSYX, flux_BLSYX / error_BLSYX, good_BLSYX, torch.ones_like(error_BLSYX)
        )
        measured = {
            "loss": loss_B,
            "nll": nll_B.masked_fill(~has_good_BL.any(dim=1), math.nan),
            "chi2": chi2_B.masked_fill(~has_good_BL.any(dim=1), math.nan),
            "mae": masked_mae(*by_line).view(has_good_BL.shape).masked_fill(~has_good_BL, math.nan),
        }
        if output.mean is None or output.log_variance is None:
            return measured
        kl_BD = kl_to_standard_normal(output.mean.float(), output.log_variance.float())
        kl_B = kl_BD.sum(dim=1)
        loss_B = loss_B + self.config.kl_weight * kl_B
        return measured | {"loss": loss_B, "reconstruction": measured["loss"], "kl": kl_B, "kl_of_latent": kl_BD}

    def metric_sizes(self) -> dict[str, int]:
        """The columns of each of `evaluate`'s metrics."""
        sizes = {"loss": 1, "nll": 1, "chi2": 1, "mae": self.model.num_lines}
        if self.model.variational:
            sizes |= {"reconstruction": 1, "kl": 1, "kl_of_latent": int(self.model.arguments["latent_dim"])}
        return sizes

    def _reconstruction_loss(
        self, output: Output, target_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor, scale_B: Tensor
    ) -> Tensor:
        reconstruction_BLSYX, name = output.from_latent.float(), self.config.loss
        of_spaxels_B = self._spaxel_loss(output, target_BLSYX, ivar_BLSYX, good_BLSYX, scale_B)
        if name in ERROR_LOSSES:
            return ERROR_LOSSES[name](reconstruction_BLSYX, target_BLSYX, good_BLSYX) + of_spaxels_B
        variance_BLSYX = self.model.normalised_variance(target_BLSYX, ivar_BLSYX, scale_B) + self.config.error_floor**2
        return LIKELIHOODS[name](reconstruction_BLSYX, target_BLSYX, good_BLSYX, variance_BLSYX) + of_spaxels_B

    def _spaxel_loss(
        self, output: Output, target_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor, scale_B: Tensor
    ) -> Tensor:
        """chi2 of spaxels' spectra, its floor a share of the local amplitude; 0 for a model without codes."""
        if self.model.spaxels is None:
            return torch.zeros_like(scale_B)
        spectra_BLSYX, variance_BLSYX, amplitude_BLSYX = self._spectra(target_BLSYX, ivar_BLSYX, good_BLSYX, scale_B)
        reconstruction_BLSYX = self.model.to_linear(output.reconstruction.float()) / amplitude_BLSYX
        return huber_chi2(reconstruction_BLSYX, spectra_BLSYX, good_BLSYX, variance_BLSYX + self.config.error_floor**2)

    def start_from(self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor) -> None:
        """Gives a model with codes of spaxels initial weights that some galaxies suggest."""
        if self.model.spaxels is not None:
            target_BLSYX, scale_B = self.model.normalise(flux_BLSYX, good_BLSYX)
            spectra_BLSYX, variance_BLSYX, _ = self._spectra(target_BLSYX, ivar_BLSYX, good_BLSYX, scale_B)
            self.model.spaxels.start_from(spectra_BLSYX, good_BLSYX, variance_BLSYX)

    def _spectra(
        self, target_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor, scale_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Flux over the local amplitude, its variance, and that amplitude in units of the galaxy's scale."""
        linear_BLSYX = self.model.to_linear(target_BLSYX)
        amplitude_BLSYX = local_amplitude(linear_BLSYX, good_BLSYX)[:, None, None]
        weight_BLSYX = ivar_BLSYX * (scale_B[:, None, None, None, None] * amplitude_BLSYX).square()
        return linear_BLSYX / amplitude_BLSYX, 1 / weight_BLSYX.clamp(min=1e-12), amplitude_BLSYX
