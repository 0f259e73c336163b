"""Three decoders from a latent to one image per step. Weights shared by all steps need an input that differs by step.

Shapes: B batch, T steps, C channels of an image, Y and X spaxels, D latent, E embedding, N = T x B.
All end at `size` in three doublings; the last layer is linear.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from modeling.network.channel_norm import ChannelNorm
from modeling.network.convlstm import ConvLSTM
from modeling.network.step_convolution import convolve_transposed

DecoderKind = Literal["own", "embedding", "convlstm"]

EMBEDDING_DIM = 32  # of a step, in the decoders with shared weights


class OwnDecoder(nn.Module):
    """Transposed convolutions with weights of their own for each step, as in the paper."""

    def __init__(self, *, num_steps: int, out_channels: int, channels: int, size: int, latent_dim: int) -> None:
        super().__init__()
        self.seed_size = size // 8
        self.seed_channels = 2 * channels
        self.to_seed = nn.Linear(latent_dim, self.seed_channels * self.seed_size**2)
        # Every group would see the same repeated seed, so one dense convolution of the seed equals the grouped one.
        self.first = nn.ConvTranspose2d(self.seed_channels, num_steps * channels, 4, stride=2, padding=1)
        self.first_norm = ChannelNorm(channels, num_groups=num_steps)
        self.second = nn.ConvTranspose2d(
            num_steps * channels, num_steps * channels, 4, stride=2, padding=1, groups=num_steps
        )
        self.second_norm = ChannelNorm(channels, num_groups=num_steps)
        self.last = nn.ConvTranspose2d(
            num_steps * channels, num_steps * out_channels, 4, stride=2, padding=1, groups=num_steps
        )

    def forward(self, latent_BD: Tensor) -> Tensor:
        """Images [B, T x C, Y, X] of latents [B, D]."""
        seed_BC = functional.relu(self.to_seed(latent_BD))
        seed_BCYX = seed_BC.unflatten(1, (self.seed_channels, self.seed_size, self.seed_size))
        seed_BCYX = seed_BCYX.contiguous(memory_format=torch.channels_last)
        x_BCYX = self.first_norm(functional.relu(self.first(seed_BCYX)))
        if x_BCYX.device.type == "cuda":
            return self._products(x_BCYX)
        x_BCYX = self.second_norm(functional.relu(self.second(x_BCYX)))
        images_BCYX: Tensor = self.last(x_BCYX)
        return images_BCYX

    def _products(self, x_BCYX: Tensor) -> Tensor:
        """Images from those after the first norm, with all steps in one product of matrices."""
        num_steps = self.second.groups

        def of(layer: nn.ConvTranspose2d, x_TBYXC: Tensor) -> Tensor:
            assert layer.bias is not None
            weight_TCO44 = layer.weight.unflatten(0, (num_steps, -1))
            return convolve_transposed(x_TBYXC, weight_TCO44, layer.bias.unflatten(0, (num_steps, -1)))

        x_TBYXC = x_BCYX.unflatten(1, (num_steps, -1)).permute(1, 0, 3, 4, 2)
        x_TBYXC = self.second_norm.of_steps(functional.relu(of(self.second, x_TBYXC)))
        return of(self.last, x_TBYXC).permute(1, 0, 4, 2, 3).flatten(1, 2)


class SharedUpsampling(nn.Module):
    """Three transposed convolutions for all steps; a step's embedding scales and shifts the channels of its images."""

    def __init__(self, *, in_channels: int, channels: int, out_channels: int) -> None:
        super().__init__()
        widths = [in_channels, channels, channels]
        self.layers = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(ChannelNorm(channels) for _ in self.layers)
        self.to_affine = nn.ModuleList(nn.Linear(EMBEDDING_DIM, 2 * channels) for _ in self.layers)
        self.last = nn.ConvTranspose2d(channels, out_channels, 4, stride=2, padding=1)

    def forward(self, x_TBCYX: Tensor, embedding_TE: Tensor) -> Tensor:
        """Images [B, T x C, Y, X], eight times as large a side."""
        num_steps, num_batch = x_TBCYX.shape[:2]
        x_NCYX = x_TBCYX.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        for layer, norm, to_affine in zip(self.layers, self.norms, self.to_affine, strict=True):
            affine_NC = to_affine(embedding_TE).repeat_interleave(num_batch, dim=0)
            scale_NC, shift_NC = affine_NC[:, :, None, None].chunk(2, dim=1)
            # 1 + scale, so that a new layer passes its images nearly unchanged.
            x_NCYX = functional.relu(norm(layer(x_NCYX)) * (1 + scale_NC) + shift_NC)
        images_TBCYX = self.last(x_NCYX).unflatten(0, (num_steps, num_batch))
        return images_TBCYX.transpose(0, 1).flatten(1, 2)


class EmbeddingDecoder(nn.Module):
    """Decoder with weights shared by all steps, which a learned embedding per step distinguishes."""

    def __init__(self, *, num_steps: int, out_channels: int, channels: int, size: int, latent_dim: int) -> None:
        super().__init__()
        self.seed_size = size // 8
        self.seed_channels = 2 * channels
        self.embedding_TE = nn.Parameter(torch.randn(num_steps, EMBEDDING_DIM))
        self.of_step = nn.Linear(EMBEDDING_DIM, self.seed_channels)
        self.to_seed = nn.Linear(latent_dim, self.seed_channels * self.seed_size**2)
        self.upsampling = SharedUpsampling(in_channels=self.seed_channels, channels=channels, out_channels=out_channels)

    def seeds(self, latent_BD: Tensor) -> Tensor:
        """Latent of each galaxy as an image, with its channels scaled by each step, [T, B, C, Y, X]."""
        seed_BCYX = self.to_seed(latent_BD).unflatten(1, (self.seed_channels, self.seed_size, self.seed_size))
        gain_TC = 1 + self.of_step(self.embedding_TE)
        return seed_BCYX * gain_TC[:, None, :, None, None]

    def forward(self, latent_BD: Tensor) -> Tensor:
        """Images [B, T x C, Y, X] of latents [B, D]."""
        return self.upsampling(functional.relu(self.seeds(latent_BD)), self.embedding_TE)


class ConvLSTMDecoder(EmbeddingDecoder):
    """`EmbeddingDecoder` with a ConvLSTM over the steps: the image of a step depends on those before."""

    def __init__(self, *, num_steps: int, out_channels: int, channels: int, size: int, latent_dim: int) -> None:
        super().__init__(
            num_steps=num_steps, out_channels=out_channels, channels=channels, size=size, latent_dim=latent_dim
        )
        self.recurrent = ConvLSTM(self.seed_channels, self.seed_channels)

    def forward(self, latent_BD: Tensor) -> Tensor:
        """Images [B, T x C, Y, X] of latents [B, D]."""
        return self.upsampling(self.recurrent(functional.relu(self.seeds(latent_BD))), self.embedding_TE)


DECODERS = {"own": OwnDecoder, "embedding": EmbeddingDecoder, "convlstm": ConvLSTMDecoder}
