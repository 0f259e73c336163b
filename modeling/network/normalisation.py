"""Base of the networks: the shape of their windows, and flux normalised to a range similar for all galaxies.

Shapes: B batch, L lines, S samples of a line, Y and X spaxels.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

Normalisation = Literal["none", "scale", "asinh"]

# Of the spaxels' mean absolute flux: high enough to measure the galaxy, not the sky; low enough to ignore a hot spaxel.
SCALE_QUANTILE = 0.9
# sinh(20) is 2e8 scales: no galaxy is so bright, and float32 still holds its square.
MAX_ASINH = 20.0


class WindowNetwork(nn.Module):
    """Network that takes windows.

    Attributes:
        arguments: of the constructor.
        normalisation: of the flux; see `normalise`.
        num_lines: emission lines of a window.
        num_samples: velocity samples of a line.
        size: spaxels per side.
        variational: whether the latent is drawn from a normal distribution.
    """

    arguments: dict[str, Any]
    normalisation: Normalisation
    num_lines: int
    num_samples: int
    size: int
    variational: bool = False

    def encode(self, normalised_BLSYX: Tensor, good_BLSYX: Tensor, ivar_BLSYX: Tensor) -> Tensor:
        """Latent of galaxies, [B, D]; arguments as of `reconstruct`."""
        raise NotImplementedError

    def reconstruct(
        self,
        normalised_BLSYX: Tensor,
        good_BLSYX: Tensor,
        ivar_BLSYX: Tensor,
        latent_BD: Tensor | None = None,
    ) -> Tensor:
        """Reconstruction [B, L, S, Y, X] in normalised units, in evaluation.

        Args:
            normalised_BLSYX: of `normalise`.
            good_BLSYX: bool.
            ivar_BLSYX: of `scaled_ivar`; only a masked network uses it.
            latent_BD: of `encode`, if it is known already.
        """
        raise NotImplementedError

    def normalise(
        self, flux_BLSYX: Tensor, good_BLSYX: Tensor, seen_BLSYX: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Normalises flux, so that galaxies of all brightnesses have a similar range.

        `none` leaves the flux; `scale` divides by the galaxy's scale, `asinh` also takes asinh, which is linear below
        the scale and logarithmic above. The scale is the 90th percentile over spaxels of the mean absolute flux of a
        spaxel's good samples; 1 where that is zero or there are none.

        Args:
            flux_BLSYX: in any unit; bad samples, NaN included, have no influence.
            good_BLSYX: bool.
            seen_BLSYX: bool, good samples that the scale is measured from; all of them by default.

        Returns:
            The normalised flux, 0 at bad samples, and scale_B in the unit of the flux.
        """
        # Masked before any arithmetic: NaN would survive a multiplication by 0, here and in the backward pass.
        flux_BLSYX = torch.where(good_BLSYX, flux_BLSYX, 0.0)
        if self.normalisation == "none":
            return flux_BLSYX, flux_BLSYX.new_ones(len(flux_BLSYX))
        if seen_BLSYX is None:
            scale_B = flux_scale(flux_BLSYX, good_BLSYX)
        else:
            scale_B = flux_scale(torch.where(seen_BLSYX, flux_BLSYX, 0.0), seen_BLSYX)
        return self.from_linear(flux_BLSYX / scale_B[:, None, None, None, None]), scale_B

    def denormalise(self, normalised_BLSYX: Tensor, scale_B: Tensor) -> Tensor:
        """Flux [B, L, S, Y, X] in its own unit: the inverse of `normalise`."""
        return self.to_linear(normalised_BLSYX) * scale_B[:, None, None, None, None]

    def normalised_variance(self, normalised_BLSYX: Tensor, ivar_BLSYX: Tensor, scale_B: Tensor) -> Tensor:
        """Variance of the normalised flux to first order: that of the flux times the squared slope of `normalise`.

        Args:
            normalised_BLSYX: of `normalise`.
            ivar_BLSYX: inverse variance of the flux, 0 where not good; the result is 1 there.
            scale_B: of `normalise`.
        """
        return self.first_order_variance(normalised_BLSYX, self.scaled_ivar(ivar_BLSYX, scale_B))

    def first_order_variance(self, normalised: Tensor, scaled_ivar: Tensor) -> Tensor:
        """`normalised_variance` from the inverse variance of `scaled_ivar`; arguments of any one shape."""
        return variance_of(scaled_ivar * self.slope(normalised).square())

    def scaled_ivar(self, ivar_BLSYX: Tensor, scale_B: Tensor) -> Tensor:
        """Inverse variance of flux in units of each galaxy's scale."""
        return ivar_BLSYX * scale_B[:, None, None, None, None].square()

    def slope(self, normalised_BLSYX: Tensor) -> Tensor:
        """Derivative of the flux, in units of the galaxy's scale, by its normalised value."""
        if self.normalisation == "asinh":
            return torch.cosh(normalised_BLSYX.clamp(-MAX_ASINH, MAX_ASINH))
        return torch.ones_like(normalised_BLSYX)

    def from_linear(self, scaled_BLSYX: Tensor) -> Tensor:
        """Normalised flux from flux in units of the galaxy's scale."""
        return asinh(scaled_BLSYX) if self.normalisation == "asinh" else scaled_BLSYX

    def to_linear(self, normalised_BLSYX: Tensor) -> Tensor:
        """Flux [B, L, S, Y, X] in units of the galaxy's scale, with the asinh of `normalise` undone."""
        if self.normalisation == "asinh":
            return torch.sinh(normalised_BLSYX.clamp(-MAX_ASINH, MAX_ASINH))
        return normalised_BLSYX


def asinh(x: Tensor) -> Tensor:
    """asinh to float32's rounding below 1e19, with a CPU's vector instructions, which PyTorch's has not."""
    size = x.abs()
    # Divided before it is multiplied: a square beyond float32 must not become infinity over infinity.
    return torch.copysign(torch.log1p(size + size * (size / (1 + (1 + size * size).sqrt()))), x)


def variance_of(ivar: Tensor) -> Tensor:
    """Variance of any shape from its inverse; 1 where that is 0."""
    # Clamped, since torch.where evaluates both sides.
    return torch.where(ivar > 0, 1 / ivar.clamp(min=1e-30), 1.0)


def flux_scale(flux_BLSYX: Tensor, good_BLSYX: Tensor) -> Tensor:
    """Brightness of each galaxy, scale_B > 0 in the unit of the flux; `flux_BLSYX` must be 0 where not good."""
    count_BYX = good_BLSYX.sum(dim=(1, 2))
    mean_BYX = flux_BLSYX.abs().sum(dim=(1, 2)) / count_BYX.clamp(min=1)
    # Uncovered spaxels are left out: as zeros they would lower the quantile of a small bundle.
    mean_BYX = torch.where(count_BYX > 0, mean_BYX, torch.nan)
    scale_B = torch.nanquantile(mean_BYX.float().flatten(1), SCALE_QUANTILE, dim=1)
    return torch.where(scale_B > 0, scale_B, 1.0).detach()
