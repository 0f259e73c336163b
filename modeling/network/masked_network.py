"""Network that predicts hidden lines and spaxels of a galaxy from the others, with a variance.

Hidden samples enter as zeros, like bad ones, beside the share of each line that is seen in each spaxel and the noise of
the samples seen, which also set the scale of the flux. A prediction therefore never depends on the samples it predicts.

Context comes from convolutions at the resolution of the image, dilated to see further, and from a coarser level, whose
features also give the latent of the galaxy, which is added to the features of every spaxel. A bidirectional ConvLSTM
then passes over the lines, and each line has weights of its own for its samples.

Shapes: B batch, L lines, S samples of a line, Y and X spaxels, P = Y X, C channels, H hidden, D latent, M modes; N
spaxels of any galaxies with F samples each, O = 2 S outputs of a line.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from modeling.network import block_cpu
from modeling.network.channel_norm import ChannelNorm
from modeling.network.convlstm import BidirectionalConvLSTM
from modeling.network.error_modes import whitened
from modeling.network.hiding import lattice, margin, patchwork
from modeling.network.line_groups import Groups
from modeling.network.normalisation import Normalisation, WindowNetwork, variance_of
from modeling.network.step_convolution import multiply

DILATIONS = (1, 2, 4)
NORM_GROUPS = 8
# The latent sees, and decodes to, COARSE x COARSE means of the features, and of the images.
COARSE = 4
STEP_CHANNELS = 16
# Noise of 1e10 scales: nothing is seen of a galaxy below it.
SMALLEST_IVAR = 1e-20
# Logarithms of the smallest and largest variance that is predicted, in normalised units squared.
LOG_VARIANCE = (-9.0, 4.0)


class Prediction(NamedTuple):
    """Prediction for a batch, in normalised units.

    Attributes:
        mean: [B, L, S, Y, X].
        variance: the same shape: of the flux without noise, about its mean.
        latent: [B, D], of what was seen.
        modes: [B, Y, X, M, L S], errors that the samples of a spaxel share; see `error_modes`.
    """

    mean: Tensor
    variance: Tensor
    latent: Tensor
    modes: Tensor


class Samples(NamedTuple):
    """Prediction for spaxels, in normalised units.

    Attributes:
        mean: [N, F].
        variance: the same shape: of the flux without noise, about its mean.
        modes: [N, M, F], errors that the samples of a spaxel share; see `error_modes`.
    """

    mean: Tensor
    variance: Tensor
    modes: Tensor


class Errors(NamedTuple):
    """Residuals of a prediction and their covariance, D + F F^T.

    Attributes:
        residual: [N, F] flux less prediction.
        noise: the same shape, variance of the noise; 1 where its inverse is 0.
        variance: the same shape, of noise and prediction: D.
        modes: [N, M, F], columns of F.
    """

    residual: Tensor
    noise: Tensor
    variance: Tensor
    modes: Tensor


class Pass(NamedTuple):
    """Samples that one pass hides, and those of them whose prediction is kept; both broadcast to [B, L, S, Y, X] bool.

    Of a spaxel one group of lines is kept, or all lines where `kept` has no axis of lines.
    """

    hidden: Tensor
    kept: Tensor


class KeptSpaxels(NamedTuple):
    """Results of passes in the K spaxels that they keep, each with one group of lines.

    Attributes:
        group: [K] index of the group.
        place: [K] index in P.
        features: [B, K, C], from which samples are predicted.
        scale: [B, K] of the galaxy in that pass.
        seen: [B, K] bool, whether that pass sees anything of the galaxy.
        recurrence: [B, P, L, O], of each line in the pass that keeps it; None without a recurrence.
    """

    group: Tensor
    place: Tensor
    features: Tensor
    scale: Tensor
    seen: Tensor
    recurrence: Tensor | None


class HiddenSamples(NamedTuple):
    """Predictions of all samples, each from a pass that hides it; 0 where not good, or where it sees nothing else.

    Attributes:
        mean: [B, L, S, Y, X] in the unit of the flux.
        residual_sigma: the same shape, the residuals of `errors`, whitened by the covariance of noise and prediction
            (`error_modes.whitened`).
    """

    mean: Tensor
    residual_sigma: Tensor


class MaskedPredictor(WindowNetwork):
    """Predicts hidden samples from the others; `arguments` holds those of its constructor."""

    mask_input = True  # as of `ConvLSTMAutoencoder`: it always sees which samples are good

    def __init__(
        self,
        *,
        num_lines: int,
        num_samples: int,
        size: int,
        groups: Groups,
        hidden_side: int = 5,
        latent_dim: int = 64,
        context_channels: int = 64,
        lstm_channels: int = 16,
        error_modes: int = 0,
        normalise: Normalisation = "asinh",
        sees_noise: bool = False,
    ) -> None:
        """Makes the network with PyTorch's default initial weights.

        Args:
            num_lines: emission lines of a window.
            num_samples: velocity samples of a line.
            size: spaxels per side, a multiple of 8.
            groups: indices of the lines that are hidden together, of `line_groups.line_groups`.
            hidden_side: spaxels per side of a hidden square.
            latent_dim: dimension of the latent of a galaxy.
            context_channels: channels of the convolutions, a multiple of 8.
            lstm_channels: hidden channels of each direction of the ConvLSTM over the lines; 0 for convolutions alone.
            error_modes: errors that the samples of a spaxel share; 0 for independent ones alone.
            normalise: normalisation of the flux; see the method `normalise`.
            sees_noise: whether the network sees the level of the noise, and residuals are those of the flux itself.
                False only for networks of earlier versions: they do not see it, and their residuals are normalised,
                with the variance of the noise to first order.

        Raises:
            ValueError: a size or number of channels that is no multiple of 8, a square as large as the window, or
                groups that do not hold each line once.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        _check(arguments)
        self.arguments: dict[str, Any] = arguments
        self.normalisation = normalise
        self.num_lines, self.num_samples, self.size = num_lines, num_samples, size
        self.groups, self.hidden_side = groups, hidden_side
        self.sees_noise = sees_noise
        frames = num_lines * num_samples
        self.first = nn.Conv2d(frames + num_lines + 1 + sees_noise * num_lines, context_channels, 1)
        self.place_CYX = nn.Parameter(torch.zeros(context_channels, size, size))
        self.fine = nn.Sequential(*(Block(context_channels, dilation) for dilation in DILATIONS))
        self.galaxy = Galaxy(context_channels, latent_dim)
        self.from_latent = nn.Linear(latent_dim, context_channels)
        self.further = nn.Sequential(*(Block(context_channels, dilation) for dilation in DILATIONS))
        self.to_samples = nn.Conv2d(context_channels, 2 * frames, 1)
        self.to_modes = nn.Conv2d(context_channels, error_modes * frames, 1) if error_modes else None
        self.lines = LineRecurrence(context_channels, num_lines, num_samples, lstm_channels) if lstm_channels else None
        self.to_coarse = nn.Linear(latent_dim, frames * COARSE**2)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def middle_side(self) -> int:
        """Spaxels per side of the middle of a hidden square, which is scored: about the FWHM of the PSF."""
        return self.hidden_side - 2 * margin(self.hidden_side)

    def forward(self, flux_BLSYX: Tensor, seen_BLSYX: Tensor) -> Prediction:
        """Prediction of all samples from those seen, with noise of the galaxy's scale; see `predict`."""
        normalised_BLSYX, _ = self.normalise(flux_BLSYX, seen_BLSYX)
        return self.predict(normalised_BLSYX, seen_BLSYX, torch.ones_like(flux_BLSYX))

    def predict(self, normalised_BLSYX: Tensor, seen_BLSYX: Tensor, ivar_BLSYX: Tensor) -> Prediction:
        """Prediction of all samples.

        Args:
            normalised_BLSYX: of `normalise` with the samples seen; any value where not seen.
            seen_BLSYX: bool, samples that are good and not hidden.
            ivar_BLSYX: of `scaled_ivar`; any value where not seen.
        """
        found, latent_BD = self.predict_spaxels(normalised_BLSYX, seen_BLSYX, ivar_BLSYX)
        mean_BLSYX, variance_BLSYX = (
            values.view(-1, self.size, self.size, self.num_lines, self.num_samples).permute(0, 3, 4, 1, 2)
            for values in (found.mean, found.variance)
        )
        modes_BYXMF = found.modes.unflatten(0, (-1, self.size, self.size))
        return Prediction(mean_BLSYX, variance_BLSYX, latent_BD, modes_BYXMF)

    def predict_spaxels(
        self, normalised_BLSYX: Tensor, seen_BLSYX: Tensor, ivar_BLSYX: Tensor, chosen_N: Tensor | None = None
    ) -> tuple[Samples, Tensor]:
        """Prediction of all samples of some spaxels, and the latents [B, D]; other arguments as of `predict`.

        Args:
            chosen_N: indices in B Y X; all by default.
        """
        h_BCYX, latent_BD = self._context(normalised_BLSYX, seen_BLSYX, ivar_BLSYX)
        h_NC = h_BCYX.permute(0, 2, 3, 1).flatten(0, 2)
        recurrence_NLO = None
        if self.lines is not None:
            recurrence_NLO = by_spaxel(self.lines(h_BCYX).float()).unflatten(1, (self.num_lines, -1))
        if chosen_N is not None:
            h_NC = h_NC[chosen_N]
            recurrence_NLO = None if recurrence_NLO is None else recurrence_NLO[chosen_N]
        return self._samples(h_NC, recurrence_NLO), latent_BD.float()

    def errors(self, found: Samples, normalised_NF: Tensor, ivar_NF: Tensor) -> Errors:
        """Residuals of a prediction, in units of the galaxy's scale, with their covariance.

        The noise is normal in the flux, but not in its asinh where it is as large as the scale: there its first-order
        variance varies with the noise of the sample. Predictions are converted from asinh to flux with the slope at
        the predicted mean.

        Args:
            found: of `predict_spaxels`.
            normalised_NF: of `normalise`, by spaxel.
            ivar_NF: of `scaled_ivar`, by spaxel.
        """
        if not self.sees_noise:
            noise_NF = self.first_order_variance(normalised_NF, ivar_NF)
            return Errors(normalised_NF - found.mean, noise_NF, noise_NF + found.variance, found.modes)
        noise_NF = variance_of(ivar_NF)
        residual_NF = self.to_linear(normalised_NF) - self.to_linear(found.mean)
        slope_NF = self.slope(found.mean)
        variance_NF = noise_NF + found.variance * slope_NF.square()
        return Errors(residual_NF, noise_NF, variance_NF, found.modes * slope_NF[:, None])

    def patch_passes(self) -> Iterator[Pass]:
        """Passes that hide one group of lines in each square: its other lines are seen, and the same lines around."""
        for hidden_LYX, middle_LYX in patchwork(self.groups, self.num_lines, self.size, self.hidden_side):
            yield Pass(hidden_LYX[None, :, None], middle_LYX[None, :, None])

    def square_passes(self) -> Iterator[Pass]:
        """Passes that hide a lattice of squares each: every spaxel is predicted in the middle of a hidden square."""
        for hidden_YX, middle_YX in lattice(self.size, self.hidden_side):
            yield Pass(hidden_YX[None, None, None], middle_YX[None, None, None])

    def predict_hidden(
        self, passes: Iterable[Pass], flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor
    ) -> HiddenSamples:
        """Predictions of all samples that some passes keep.

        A pass keeps a small part of its samples. Samples and their covariances are therefore computed once for all
        passes, from the features that each has in the spaxels that it keeps.

        Args:
            passes: of `patch_passes` or `square_passes`; none keeps a sample that another one keeps.
            flux_BLSYX: in any unit; any value where not good.
            ivar_BLSYX: inverse variance of the flux.
            good_BLSYX: bool.
        """
        passes = list(passes)
        groups = self.groups if passes[0].kept.shape[1] > 1 else [list(range(self.num_lines))]
        spaxels = self._kept_spaxels(passes, groups, flux_BLSYX, ivar_BLSYX, good_BLSYX)
        flux_BPLS, ivar_BPLS, good_BPLS = (
            values.flatten(3).permute(0, 3, 1, 2) for values in (flux_BLSYX, ivar_BLSYX, good_BLSYX)
        )
        mean_BPLS, sigma_BPLS = (torch.zeros_like(flux_BPLS, memory_format=torch.contiguous_format) for _ in range(2))
        for group, lines in enumerate(groups):
            chosen_K = torch.nonzero(spaxels.group == group)[:, 0]
            part = slice(None), spaxels.place[chosen_K][:, None], torch.tensor(lines, device=chosen_K.device)
            shape = len(flux_BLSYX), len(chosen_K), len(lines), self.num_samples
            recurrence_NLO = None if spaxels.recurrence is None else spaxels.recurrence[part].flatten(0, 1)
            found = self._samples(spaxels.features[:, chosen_K].flatten(0, 1), recurrence_NLO, lines)
            flux_NF, ivar_NF, good_NF = (
                values[part].flatten(2).flatten(0, 1) for values in (flux_BPLS, ivar_BPLS, good_BPLS)
            )
            # Without anything seen there is no scale, and so no prediction.
            good_NF = good_NF & spaxels.seen[:, chosen_K].flatten()[:, None]
            scale_N1 = spaxels.scale[:, chosen_K].flatten()[:, None]
            target_NF = self.from_linear(torch.where(good_NF, flux_NF, 0.0) / scale_N1)
            errors = self.errors(found, target_NF, ivar_NF * scale_N1.square())
            mean_BPLS[part] = torch.where(good_NF, self.to_linear(found.mean) * scale_N1, 0.0).view(shape)
            sigma_BPLS[part] = whitened(errors.residual, errors.variance, errors.modes, good_NF).view(shape)
        return HiddenSamples(
            *(values.permute(0, 2, 3, 1).reshape(good_BLSYX.shape) for values in (mean_BPLS, sigma_BPLS))
        )

    def reconstruct(
        self,
        normalised_BLSYX: Tensor,
        good_BLSYX: Tensor,
        ivar_BLSYX: Tensor,
        latent_BD: Tensor | None = None,
    ) -> Tensor:
        """Prediction of each line of a patch from the others, [B, L, S, Y, X] in normalised units; 0 where not good.

        Arguments as of `WindowNetwork.reconstruct`; the latent is not used.
        """
        linear_BLSYX = self.to_linear(normalised_BLSYX)
        found = self.predict_hidden(self.patch_passes(), linear_BLSYX, ivar_BLSYX, good_BLSYX)
        return torch.asinh(found.mean) if self.normalisation == "asinh" else found.mean

    def encode(self, normalised_BLSYX: Tensor, good_BLSYX: Tensor, ivar_BLSYX: Tensor) -> Tensor:
        """Latent of galaxies of which nothing is hidden, [B, D]; arguments as of `predict`."""
        latent_BD: Tensor = self.galaxy(self._features(normalised_BLSYX, good_BLSYX, ivar_BLSYX))[1]
        return latent_BD

    def coarse_means(self, latent_BD: Tensor) -> Tensor:
        """Means of the images in COARSE x COARSE cells from latents, [B, L, S, COARSE, COARSE], normalised units."""
        return self.to_coarse(latent_BD).unflatten(1, (self.num_lines, self.num_samples, COARSE, COARSE))

    def _kept_spaxels(
        self, passes: list[Pass], groups: Groups, flux_BLSYX: Tensor, ivar_BLSYX: Tensor, good_BLSYX: Tensor
    ) -> KeptSpaxels:
        device = good_BLSYX.device
        covered_P = good_BLSYX.flatten(3).flatten(0, 2).any(dim=0).cpu()
        first_lines = [lines[0] for lines in groups]
        group_parts, place_parts, features, scales, seen = [], [], [], [], []
        recurrence_BLOYX: Tensor | None = None
        for hidden, kept in passes:
            seen_BLSYX = good_BLSYX & ~hidden.to(device)
            normalised_BLSYX, scale_B = self.normalise(flux_BLSYX, seen_BLSYX)
            h_BCYX, _ = self._context(normalised_BLSYX, seen_BLSYX, self.scaled_ivar(ivar_BLSYX, scale_B))
            if self.lines is not None:
                of_pass_BLOYX = self.lines(h_BCYX).float()
                others_BLOYX = torch.zeros_like(of_pass_BLOYX) if recurrence_BLOYX is None else recurrence_BLOYX
                recurrence_BLOYX = torch.where(kept.to(device), of_pass_BLOYX, others_BLOYX)
            group_K, place_K = torch.nonzero(kept[0, first_lines, 0].flatten(1) & covered_P, as_tuple=True)
            group_parts.append(group_K)
            place_parts.append(place_K)
            features.append(h_BCYX.permute(0, 2, 3, 1).flatten(1, 2)[:, place_K.to(device)])
            scales.append(scale_B[:, None].expand(-1, len(place_K)))
            seen.append(seen_BLSYX.flatten(1).any(dim=1)[:, None].expand(-1, len(place_K)))
        return KeptSpaxels(
            torch.cat(group_parts).to(device),
            torch.cat(place_parts).to(device),
            torch.cat(features, dim=1),
            torch.cat(scales, dim=1),
            torch.cat(seen, dim=1),
            None if recurrence_BLOYX is None else recurrence_BLOYX.flatten(3).permute(0, 3, 1, 2),
        )

    def _samples(self, h_NC: Tensor, recurrence_NLO: Tensor | None, lines: list[int] | None = None) -> Samples:
        """Prediction of the samples of some lines, all by default, from the features of spaxels."""
        # In float32 whatever precision autocast gave: the logarithm of a variance needs it.
        out_NLO = self._of_lines(self.to_samples, 2 * self.num_samples, lines, h_NC)[:, 0]
        if recurrence_NLO is not None:
            out_NLO = out_NLO + recurrence_NLO
        mean_NLS, log_variance_NLS = out_NLO.chunk(2, dim=2)
        mean_NF, variance_NF = mean_NLS.flatten(1), log_variance_NLS.clamp(*LOG_VARIANCE).exp().flatten(1)
        if self.to_modes is None:
            return Samples(mean_NF, variance_NF, mean_NF.new_zeros(len(mean_NF), 0, mean_NF.shape[1]))
        return Samples(mean_NF, variance_NF, self._of_lines(self.to_modes, self.num_samples, lines, h_NC).flatten(2))

    def _of_lines(self, layer: nn.Conv2d, outputs: int, lines: list[int] | None, h_NC: Tensor) -> Tensor:
        """Outputs of a convolution of single spaxels, [N, -1, L, outputs] in float32; of some lines, all by default."""
        assert layer.bias is not None
        weight = layer.weight.view(-1, self.num_lines, outputs, layer.in_channels)
        bias = layer.bias.view(-1, self.num_lines, outputs)
        if lines is not None:
            weight, bias = weight[:, lines], bias[:, lines]
        out_NF = functional.linear(h_NC, weight.flatten(0, 2), bias.flatten())
        return out_NF.float().unflatten(1, bias.shape)

    def _context(self, normalised_BLSYX: Tensor, seen_BLSYX: Tensor, ivar_BLSYX: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, C, Y, X] from which samples are predicted, and the latents; arguments as of `predict`."""
        h_BCYX = self._features(normalised_BLSYX, seen_BLSYX, ivar_BLSYX)
        coarse_BCYX, latent_BD = self.galaxy(h_BCYX)
        h_BCYX = h_BCYX + coarse_BCYX + self.from_latent(latent_BD)[:, :, None, None]
        return functional.gelu(self.further(h_BCYX)), latent_BD

    def _features(self, normalised_BLSYX: Tensor, seen_BLSYX: Tensor, ivar_BLSYX: Tensor) -> Tensor:
        # Selected, not multiplied: 0 x NaN is NaN.
        x_BLSYX = torch.where(seen_BLSYX, normalised_BLSYX, 0.0)
        share_BLYX = seen_BLSYX.to(x_BLSYX.dtype).mean(dim=2)
        covered_BLYX = share_BLYX.amax(dim=1, keepdim=True)
        noise_BLYX = [_noise_level(ivar_BLSYX, seen_BLSYX)] if self.sees_noise else []
        x_BCYX = torch.cat([x_BLSYX.flatten(1, 2), share_BLYX, covered_BLYX, *noise_BLYX], dim=1)
        x_BCYX = x_BCYX.contiguous(memory_format=torch.channels_last)
        h_BCYX: Tensor = self.fine(self.first(x_BCYX) + self.place_CYX)
        return h_BCYX


class Block(nn.Module):
    """Residual block: a dilated convolution of 3 x 3 spaxels and one of a single spaxel."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.wide = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.narrow = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCYX: Tensor) -> Tensor:
        """Images of the same shape."""
        if block_cpu.fits(x_BCYX):
            return block_cpu.residual_block(x_BCYX, *self._for_kernel())
        h_BCYX = functional.gelu(self.wide(functional.gelu(self.norm(x_BCYX))))
        shaped_BCYX: Tensor = x_BCYX + self.narrow(h_BCYX)
        return shaped_BCYX

    def _for_kernel(self) -> tuple[block_cpu.Weights, block_cpu.Shape]:
        norm, wide, narrow = self.norm, self.wide, self.narrow
        assert wide.bias is not None
        assert narrow.bias is not None
        weights = block_cpu.Weights(norm.weight, norm.bias, wide.weight, wide.bias, narrow.weight, narrow.bias)
        return weights, block_cpu.Shape(self.norm.num_groups, self.wide.dilation[0], self.norm.eps)


class Galaxy(nn.Module):
    """The whole galaxy: features at a quarter of the resolution, and the latent."""

    def __init__(self, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.shrink = nn.ModuleList(nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(2))
        self.block = Block(channels)
        self.back = nn.Conv2d(channels, channels, 1)
        self.to_latent = nn.Linear(channels * COARSE**2, latent_dim)

    def forward(self, x_BCYX: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the coarse level at the resolution of the image, and the latent [B, D]."""
        h_BCYX = x_BCYX
        for convolution in self.shrink:
            h_BCYX = convolution(functional.gelu(h_BCYX))
        h_BCYX = self.block(h_BCYX)
        latent_BD = functional.elu(self.to_latent(functional.adaptive_avg_pool2d(h_BCYX, COARSE).flatten(1)))
        wide_BCYX = functional.interpolate(self.back(h_BCYX), size=x_BCYX.shape[-2:], mode="bilinear")
        return wide_BCYX, latent_BD


class LineRecurrence(nn.Module):
    """Bidirectional ConvLSTM over the lines at the resolution of the image, with each line's own weights around it."""

    def __init__(self, channels: int, num_lines: int, num_samples: int, lstm_channels: int) -> None:
        super().__init__()
        self.num_lines = num_lines
        self.to_steps = nn.Conv2d(channels, num_lines * STEP_CHANNELS, 1)
        self.recurrent = BidirectionalConvLSTM(STEP_CHANNELS, lstm_channels)
        self.norm = ChannelNorm(2 * lstm_channels)
        widths = num_lines * 2 * lstm_channels, num_lines * 2 * num_samples
        self.to_samples = nn.Conv2d(*widths, 1, groups=num_lines)
        # At first the convolutions alone predict.
        nn.init.zeros_(self.to_samples.weight)

    def forward(self, h_BCYX: Tensor) -> Tensor:
        """Additions to the mean and the logarithm of the variance of each line, [B, L, 2 S, Y, X]."""
        x_LBCYX = self.to_steps(h_BCYX).unflatten(1, (self.num_lines, STEP_CHANNELS)).transpose(0, 1)
        h_LBHYX = self.recurrent(x_LBCYX.contiguous())
        h_NHYX = self.norm(h_LBHYX.flatten(0, 1))
        h_BHYX = h_NHYX.unflatten(0, h_LBHYX.shape[:2]).transpose(0, 1).flatten(1, 2)
        return multiply(h_BHYX, self.to_samples).unflatten(1, (self.num_lines, -1))


def by_spaxel(values_BLSYX: Tensor) -> Tensor:
    """Samples of each spaxel in a row, [B Y X, L S]."""
    return values_BLSYX.flatten(1, 2).movedim(1, 3).flatten(0, 2)


def _noise_level(ivar_BLSYX: Tensor, seen_BLSYX: Tensor) -> Tensor:
    """Mean logarithm of the noise of the samples seen of each line, [B, L, Y, X]; 0 where none is.

    Hidden samples are left out, since their noise would reveal their brightness.
    """
    level_BLSYX = torch.where(seen_BLSYX, -0.5 * ivar_BLSYX.clamp(min=SMALLEST_IVAR).log(), 0.0)
    return level_BLSYX.sum(dim=2) / seen_BLSYX.sum(dim=2).clamp(min=1)


def _check(arguments: dict[str, Any]) -> None:
    mistakes = [
        f"{name} is {arguments[name]}, expected a multiple of {multiple}"
        for name, multiple in (("size", 8), ("context_channels", NORM_GROUPS))
        if arguments[name] < multiple or arguments[name] % multiple
    ]
    if arguments["hidden_side"] >= arguments["size"]:
        mistakes.append(f"hidden_side is {arguments['hidden_side']}, expected less than size, {arguments['size']}")
    if sorted(line for group in arguments["groups"] for line in group) != list(range(arguments["num_lines"])):
        mistakes.append(f"groups is {arguments['groups']}, expected each of {arguments['num_lines']} lines once")
    if mistakes:
        raise ValueError("; ".join(mistakes))
