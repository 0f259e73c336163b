"""A code of a few numbers for the spectrum of each spaxel: where a galaxy shines is told apart from what its gas does.

A latent of a whole galaxy cannot say where each clump lies and how the disc turns, so that what it leaves over is
mostly shape, and follows brightness. Here a ConvLSTM with kernels of one spaxel reads the lines of each spaxel as a
sequence and keeps `code` numbers of them; each line's own weights turn these back into its samples. Brightness is not
in the code: spectra are divided by the root mean square of the spaxel and its neighbours, which is multiplied back.
Clumps, discs and dead fibres then cost nothing, and a spectrum that few numbers cannot say is left over at its spaxel.

Shapes: B batch, L lines, S samples, Y and X spaxels, C channels, H hidden, K code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from modeling.network.convlstm import ChannelNorm, ConvLSTM

STEP_CHANNELS = 16
HIDDEN_CHANNELS = 24
DECODER_CHANNELS = 16


def local_amplitude(flux_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Root mean square of the good samples of each spaxel and its eight neighbours, [B, Y, X]; 1 where there are none.

    Args:
        flux_BLSYX: any unit, which is that of the result; 0 where not good.
        good_BLSYX: bool.
    """
    power_BYX, count_BYX = flux_BLSYX.square().sum(dim=(1, 2)), good_BLSYX.sum(dim=(1, 2)).to(flux_BLSYX.dtype)
    sums_B2YX = functional.avg_pool2d(torch.stack([power_BYX, count_BYX], dim=1), 3, stride=1, padding=1)
    power_BYX, count_BYX = sums_B2YX.unbind(dim=1)
    amplitude_BYX = (power_BYX / torch.where(count_BYX > 0, count_BYX, 1.0)).sqrt()
    return torch.where(amplitude_BYX > 0, amplitude_BYX, 1.0)


class SpaxelCoder(nn.Module):
    """Spectra of spaxels to codes and back."""

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
        """Sets the linear parts to the principal components of some spectra, and the others to little.

        Training then starts where a linear model would end, whatever the galaxies' number.

        Args:
            spectra_BLSYX: as `forward` takes them.
            good_BLSYX: bool.
            variance_BLSYX: of the spectra; noisier spaxels count less.
        """
        share = 1 / (1 + variance_BLSYX.clamp(min=0).mean(dim=(1, 2)))
        use_BYX = good_BLSYX.all(dim=2).all(dim=1)
        spectra_NF = spectra_BLSYX.flatten(1, 2).movedim(1, -1)[use_BYX].double()
        num_code, num_features = self.linear_code.weight.shape[0], spectra_NF.shape[1]
        if len(spectra_NF) <= num_code:
            return
        weight_N = share[use_BYX].double()[:, None]
        mean_F = (weight_N * spectra_NF).sum(0) / weight_N.sum()
        centred_NF = spectra_NF - mean_F
        _, vectors_FF = torch.linalg.eigh((weight_N * centred_NF).T @ centred_NF)
        # A code may hold more numbers than a spectrum has samples: those beyond say nothing at first.
        basis_FK = functional.pad(vectors_FF.flip(1)[:, :num_code], (0, max(num_code - num_features, 0)))
        spread_K = (centred_NF @ basis_FK).std(dim=0).clamp(min=1e-6)
        inverse_KLS = (basis_FK / spread_K).T.reshape(num_code, self.num_lines, self.num_samples)
        self.linear_code.weight.zero_()
        weight_KLS = self.linear_code.weight.view(num_code, self.num_lines, self.num_samples + 1)
        weight_KLS[:, :, : self.num_samples] = inverse_KLS
        self.linear_samples.weight.copy_((basis_FK * spread_K)[:, :, None, None])
        for bias, values in ((self.to_code.bias, -(mean_F @ basis_FK) / spread_K), (self.linear_samples.bias, mean_F)):
            assert bias is not None
            bias.copy_(values)
        for layer in (self.to_code, self.to_samples):
            layer.weight.mul_(0.1)
        assert self.to_samples.bias is not None
        self.to_samples.bias.zero_()

    def forward(self, spectra_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
        """The spectra [B, L, S, Y, X] that the codes say, in units of `local_amplitude`.

        Args:
            spectra_BLSYX: flux over `local_amplitude`; 0 where not good.
            good_BLSYX: bool.
        """
        code_BKYX = self.encode(spectra_BLSYX, good_BLSYX)
        bent_BCYX = self.to_samples(functional.elu(self.widen(code_BKYX)))
        samples_BCYX: Tensor = bent_BCYX + self.linear_samples(code_BKYX)
        return samples_BCYX.unflatten(1, (self.num_lines, self.num_samples))

    def encode(self, spectra_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
        """The code of each spaxel, [B, K, Y, X]."""
        num_batch = len(spectra_BLSYX)
        share_BLYX = good_BLSYX.to(spectra_BLSYX.dtype).mean(dim=2, keepdim=True)
        x_BLCYX = torch.cat([spectra_BLSYX, share_BLYX], dim=2)
        x_NCYX = self.first(x_BLCYX.transpose(0, 1).flatten(0, 1))
        x_NCYX = x_NCYX + self.offset_LC.repeat_interleave(num_batch, dim=0)[:, :, None, None]
        x_LBCYX = self.first_norm(functional.relu(x_NCYX)).unflatten(0, (self.num_lines, num_batch))
        last_BHYX = self.recurrent(x_LBCYX)[-1]
        code_BKYX: Tensor = self.to_code(self.norm(last_BHYX)) + self.linear_code(x_BLCYX.flatten(1, 2))
        return code_BKYX
