"""Training objective: model and loss as one module, with the metrics of an evaluation.

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
    """Keys of `config.TrainConfig` that the objective reads."""

    @property
    def loss(self) -> str:
        """Key of `losses.ERROR_LOSSES` or `losses.LIKELIHOODS`."""

    @property
    def error_floor(self) -> float:
        """Model error that is added in quadrature to the error of each sample in a likelihood, normalised units."""

    @property
    def kl_weight(self) -> float:
        """Weight of the KL divergence of a variational model, per nat."""

    @property
    def free_bits(self) -> float:
        """Bits of each latent that cost nothing."""


class Objective(nn.Module):
    """Loss as a function of windows. One module, so that a wrapper such as DDP sees one forward pass.

    Attributes:
        model: the autoencoder.
        config: loss and weights.
        kl_scale: share of the KL weight that the warm-up has reached, 0 to 1.
    """

    def __init__(self, model: ConvLSTMAutoencoder, config: ObjectiveConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.kl_scale = 1.0

    def prepared(
        self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor, *, step_seed: int, device: torch.device
    ) -> tuple[Tensor, ...]:
        """Arguments of `forward` on a device; `step_seed` is unused, since nothing is drawn."""
        return tuple(values.to(device, non_blocking=True) for values in (flux_BLSYX, ivar_BLSYX, good_BLSYX))

    def forward(self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor) -> dict[str, Tensor]:
        """Loss of each galaxy and its parts, each [B]; the KL term after warm-up and free bits.

        Args:
            flux_BLSYX: in the unit of the store; any value where not good.
            ivar_BLSYX: inverse variance of the flux; 0 where not good.
            good_BLSYX: bool.
        """
        target_BLSYX, scale_B = self.model.normalise(flux_BLSYX, good_BLSYX)
        output = self.model.autoencode(target_BLSYX, good_BLSYX)
        loss_B = self._reconstruction_loss(output, target_BLSYX, ivar_BLSYX, good_BLSYX, scale_B)
        if output.mean is None or output.log_variance is None:
            return {"loss": loss_B}
        kl_BD = kl_to_standard_normal(output.mean.float(), output.log_variance.float())
        kl_loss_B = self.kl_scale * self.config.kl_weight * free_bits_kl(kl_BD, self.config.free_bits)
        # `kl` is reported without warm-up and free bits, so that epochs compare.
        return {"loss": loss_B + kl_loss_B, "reconstruction": loss_B, "kl": kl_BD.sum(dim=1)}

    @torch.no_grad()
    def evaluate(self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor) -> dict[str, Tensor]:
        """Loss with the whole KL divergence, and the metrics of `metric_sizes`; NaN where a galaxy has no good sample.

        `chi2` [B] is the mean squared residual of a good sample in units of its variance, `mae` [B, L] the mean
        absolute residual of each line in normalised units, `kl_of_latent` [B, D] in nats. `nll` [B] is the mean
        negative log-likelihood of a good sample in nats, under Student's t with the error of its flux and without terms
        of the data alone: models of any loss and any normalisation compare by it.

        Args:
            flux_BLSYX: in the unit of the store; any value where not good.
            ivar_BLSYX: inverse variance of the flux; 0 where not good.
            good_BLSYX: bool.
        """
        target_BLSYX, scale_B = self.model.normalise(flux_BLSYX, good_BLSYX)
        output = self.model.autoencode(target_BLSYX, good_BLSYX)
        loss_B = self._reconstruction_loss(output, target_BLSYX, ivar_BLSYX, good_BLSYX, scale_B)
        # float32, whatever precision autocast gave the output: squares of residuals in sigma lose too much in bfloat16.
        reconstruction_BLSYX = output.reconstruction.float()
        variance_BLSYX = self.model.normalised_variance(target_BLSYX, ivar_BLSYX, scale_B)
        chi2_B = masked_mean((reconstruction_BLSYX - target_BLSYX).square() / variance_BLSYX, good_BLSYX)
        by_line = [values.flatten(0, 1) for values in (reconstruction_BLSYX, target_BLSYX, good_BLSYX)]
        has_good_BL = good_BLSYX.flatten(2).any(dim=2)
        # Flux in units of its own error, with unit variance: no normalisation, and ln(variance) of the data drops out.
        error_BLSYX = ivar_BLSYX.clamp(min=1e-30).rsqrt()
        reconstructed_flux_BLSYX = self.model.denormalise(reconstruction_BLSYX, scale_B)
        nll_B = student_t_nll(
            reconstructed_flux_BLSYX / error_BLSYX, flux_BLSYX / error_BLSYX, good_BLSYX, torch.ones_like(error_BLSYX)
        )
        # A galaxy or line without good samples has a mean of 0: NaN keeps it out of the means over galaxies.
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
        """Number of columns of each metric of `evaluate`."""
        sizes = {"loss": 1, "nll": 1, "chi2": 1, "mae": self.model.num_lines}
        if self.model.variational:
            sizes |= {"reconstruction": 1, "kl": 1, "kl_of_latent": int(self.model.arguments["latent_dim"])}
        return sizes

    def _reconstruction_loss(
        self, output: Output, target_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor, scale_B: Tensor
    ) -> Tensor:
        # The configured loss trains the latent; the spaxel codes have a loss of their own.
        reconstruction_BLSYX, name = output.from_latent.float(), self.config.loss
        of_spaxels_B = self._spaxel_loss(output, target_BLSYX, ivar_BLSYX, good_BLSYX, scale_B)
        if name in ERROR_LOSSES:
            return ERROR_LOSSES[name](reconstruction_BLSYX, target_BLSYX, good_BLSYX) + of_spaxels_B
        variance_BLSYX = self.model.normalised_variance(target_BLSYX, ivar_BLSYX, scale_B) + self.config.error_floor**2
        return LIKELIHOODS[name](reconstruction_BLSYX, target_BLSYX, good_BLSYX, variance_BLSYX) + of_spaxels_B

    def _spaxel_loss(
        self, output: Output, target_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor, scale_B: Tensor
    ) -> Tensor:
        """Huber's chi2 of the spectra of spaxels, [B]; 0 for a model without codes.

        The spectra are in units of the local amplitude, and so is `error_floor`: bright and faint spaxels count alike
        once the noise is below it.
        """
        if self.model.spaxels is None:
            return torch.zeros_like(scale_B)
        spectra_BLSYX, variance_BLSYX, amplitude_BLSYX = self._spectra(target_BLSYX, ivar_BLSYX, good_BLSYX, scale_B)
        reconstruction_BLSYX = self.model.to_linear(output.reconstruction.float()) / amplitude_BLSYX
        return huber_chi2(reconstruction_BLSYX, spectra_BLSYX, good_BLSYX, variance_BLSYX + self.config.error_floor**2)

    def start_from(self, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor) -> None:
        """Starts spaxel codes from the principal components of some galaxies; arguments as of `forward`."""
        if self.model.spaxels is not None:
            target_BLSYX, scale_B = self.model.normalise(flux_BLSYX, good_BLSYX)
            spectra_BLSYX, variance_BLSYX, _ = self._spectra(target_BLSYX, ivar_BLSYX, good_BLSYX, scale_B)
            self.model.spaxels.start_from(spectra_BLSYX, good_BLSYX, variance_BLSYX)

    def _spectra(
        self, target_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor, scale_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Flux over the local amplitude, its variance, and that amplitude in units of the galaxy's scale."""
        # Linear, not asinh: a code represents the shape of a spectrum, which does not depend on brightness.
        linear_BLSYX = self.model.to_linear(target_BLSYX)
        amplitude_BLSYX = local_amplitude(linear_BLSYX, good_BLSYX)[:, None, None]
        weight_BLSYX = ivar_BLSYX * (scale_B[:, None, None, None, None] * amplitude_BLSYX).square()
        return linear_BLSYX / amplitude_BLSYX, 1 / weight_BLSYX.clamp(min=1e-12), amplitude_BLSYX
