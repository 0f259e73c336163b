"""Spaxel codes: a few numbers per spaxel for its spectrum, which separate the state of the gas from its distribution.

A latent of a whole galaxy cannot represent the position of each clump and the rotation of the disc, so its residuals
are mostly morphology, and depend on brightness. Here a ConvLSTM with kernels of one spaxel reads the lines of each
spaxel as a sequence and keeps `code` numbers of them; each line's own weights decode these into its samples. Brightness
is not in the code: spectra are divided by the root mean square of the spaxel and its neighbours, which is multiplied
back. Clumps, discs and dead fibres then leave no residual, and whatever a code cannot represent remains in that
spaxel's residual.

Shapes: B batch, L lines, S samples, Y and X spaxels, C channels, H hidden, K code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from modeling.network.channel_norm import ChannelNorm
from modeling.network.convlstm import ConvLSTM
from modeling.network.step_convolution import multiply

STEP_CHANNELS = 16
HIDDEN_CHANNELS = 24
DECODER_CHANNELS = 16


def local_amplitude(flux_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Root mean square of the good samples of each spaxel and its eight neighbours, [B, Y, X]; 1 where there are none.

    Args:
        flux_BLSYX: in any unit, which the result has too; 0 where not good.
        good_BLSYX: bool.
    """
    # Of squares: noise around zero has either sign. Sums and counts are pooled separately, so that masked samples do
    # not lower the mean; avg_pool2d divides both by 9, which cancels.
    power_BYX, count_BYX = flux_BLSYX.square().sum(dim=(1, 2)), good_BLSYX.sum(dim=(1, 2)).to(flux_BLSYX.dtype)
    sums_B2YX = functional.avg_pool2d(torch.stack([power_BYX, count_BYX], dim=1), 3, stride=1, padding=1)
    power_BYX, count_BYX = sums_B2YX.unbind(dim=1)
    amplitude_BYX = (power_BYX / torch.where(count_BYX > 0, count_BYX, 1.0)).sqrt()
    return torch.where(amplitude_BYX > 0, amplitude_BYX, 1.0)


class SpaxelCoder(nn.Module):
    """Encoder and decoder of the spectra of spaxels."""

    def __init__(self, *, num_lines: int, num_samples: int, code: int) -> None:
        super().__init__()
        self.num_lines, self.num_samples = num_lines, num_samples
        self.first = nn.Conv2d(num_samples + 1, STEP_CHANNELS, 1)
        self.offset_LC = nn.Parameter(0.1 * torch.randn(num_lines, STEP_CHANNELS))
        self.first_norm = ChannelNorm(STEP_CHANNELS)
        self.recurrent = ConvLSTM(STEP_CHANNELS, HIDDEN_CHANNELS, kernel_size=1)
        self.norm = ChannelNorm(HIDDEN_CHANNELS)
        self.to_code = nn.Conv2d(HIDDEN_CHANNELS, code, 1)
        self.linear_code = nn.Conv2d(num_lines * (num_samples + 1), code, 1, bias=False)
        self.widen = nn.Conv2d(code, num_lines * DECODER_CHANNELS, 1)
        self.to_samples = nn.Conv2d(num_lines * DECODER_CHANNELS, num_lines * num_samples, 1, groups=num_lines)
        self.linear_samples = nn.Conv2d(code, num_lines * num_samples, 1)

    @torch.no_grad()
    def start_from(self, spectra_BLSYX: Tensor, good_BLSYX: Tensor, variance_BLSYX: Tensor) -> None:
        """Initialises the linear parts to the principal components of some spectra, and the other weights to be small.

        Training then starts where a linear model would end, however few galaxies there are.

        Args:
            spectra_BLSYX: as `forward` takes them.
            good_BLSYX: bool.
            variance_BLSYX: of the spectra; noisier spaxels count less.
        """
        # Near 1 where the noise is far below the spectra's mean square of 1, and 1 / variance where it is far above.
        share = 1 / (1 + variance_BLSYX.clamp(min=0).mean(dim=(1, 2)))
        # Principal components need complete spectra.
        use_BYX = good_BLSYX.all(dim=2).all(dim=1)
        # float64: a covariance squares the dynamic range of the spectra.
        spectra_NF = spectra_BLSYX.flatten(1, 2).movedim(1, -1)[use_BYX].double()
        num_code, num_features = self.linear_code.weight.shape[0], spectra_NF.shape[1]
        if len(spectra_NF) <= num_code:
            return
        weight_N = share[use_BYX].double()[:, None]
        mean_F = (weight_N * spectra_NF).sum(0) / weight_N.sum()
        centred_NF = spectra_NF - mean_F
        _, vectors_FF = torch.linalg.eigh((weight_N * centred_NF).T @ centred_NF)
        # eigh sorts upwards, hence the flip. A code may hold more numbers than a spectrum has samples: the others start
        # at zero.
        basis_FK = functional.pad(vectors_FF.flip(1)[:, :num_code], (0, max(num_code - num_features, 0)))
        spread_K = (centred_NF @ basis_FK).std(dim=0).clamp(min=1e-6)
        # Codes of unit spread: each is divided by its own on the way in and multiplied on the way out.
        inverse_KLS = (basis_FK / spread_K).T.reshape(num_code, self.num_lines, self.num_samples)
        self.linear_code.weight.zero_()
        weight_KLS = self.linear_code.weight.view(num_code, self.num_lines, self.num_samples + 1)
        weight_KLS[:, :, : self.num_samples] = inverse_KLS
        self.linear_samples.weight.copy_((basis_FK * spread_K)[:, :, None, None])
        for bias, values in ((self.to_code.bias, -(mean_F @ basis_FK) / spread_K), (self.linear_samples.bias, mean_F)):
            assert bias is not None
            bias.copy_(values)
        # Small, so that the linear parts dominate at first; not zero, so that gradients reach the layers before them.
        for layer in (self.to_code, self.to_samples):
            layer.weight.mul_(0.1)
        assert self.to_samples.bias is not None
        self.to_samples.bias.zero_()

    def forward(self, spectra_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
        """Reconstruction of the spectra from their codes, [B, L, S, Y, X] in units of `local_amplitude`.

        Args:
            spectra_BLSYX: flux over `local_amplitude`; 0 where not good.
            good_BLSYX: bool.
        """
        code_BKYX = self.encode(spectra_BLSYX, good_BLSYX)
        bent_BCYX = multiply(functional.elu(self.widen(code_BKYX)), self.to_samples)
        samples_BCYX: Tensor = bent_BCYX + self.linear_samples(code_BKYX)
        return samples_BCYX.unflatten(1, (self.num_lines, self.num_samples))

    def encode(self, spectra_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
        """Code of each spaxel, [B, K, Y, X]; arguments as of `forward`."""
        num_batch = len(spectra_BLSYX)
        share_BLYX = good_BLSYX.to(spectra_BLSYX.dtype).mean(dim=2, keepdim=True)
        # The share of good samples, so that a masked line is not taken for one without flux.
        x_BLCYX = torch.cat([spectra_BLSYX, share_BLYX], dim=2)
        x_NCYX = self.first(x_BLCYX.transpose(0, 1).flatten(0, 1))
        x_NCYX = x_NCYX + self.offset_LC.repeat_interleave(num_batch, dim=0)[:, :, None, None]
        x_LBCYX = self.first_norm(functional.relu(x_NCYX)).unflatten(0, (self.num_lines, num_batch))
        # After the last line the state has seen them all.
        last_BHYX = self.recurrent(x_LBCYX)[-1]
        code_BKYX: Tensor = self.to_code(self.norm(last_BHYX)) + self.linear_code(x_BLCYX.flatten(1, 2))
        return code_BKYX
