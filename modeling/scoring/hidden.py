"""Residuals of a masked network: each sample against predictions that did not see it.

A galaxy is predicted twice: the lines of a group in a patch from the patch's other lines and the same lines around it,
and all lines of a square from the spaxels around it. Light that is unusual for the other lines shows in the first,
light that is unusual for its place in the galaxy in the second. The network predicts its own variance, to which that of
the noise is added.

Shapes: N galaxies, L lines, S samples, Y and X spaxels.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from cubeprep.masks import good_samples
from modeling.network.inference import inference
from modeling.network.masked_network import MaskedPredictor
from modeling.scoring.significance import Residuals

BATCH = 16


@dataclass(frozen=True)
class HiddenResiduals(Residuals):
    """Residuals of a masked network; `residual` is that of the patches.

    Attributes:
        from_patches: [N, L, S, Y, X] in sigma, of a group of lines from all other samples seen; 0 where not good.
        from_squares: the same shape, of all lines from the spaxels around a square.
    """

    from_patches: np.ndarray
    from_squares: np.ndarray

    @classmethod
    def predicted(
        cls, model: MaskedPredictor, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, device: str
    ) -> "HiddenResiduals":
        """Residuals of windows [N, L, S, Y, X]; masked values are never read."""
        good = good_samples(flux, ivar, mask)
        mean, from_patches, from_squares = (np.zeros(flux.shape, np.float32) for _ in range(3))
        model = model.to(device).eval()
        for start in range(0, len(flux), BATCH):
            some = slice(start, start + BATCH)
            arrays = (np.asarray(values[some], np.float32) for values in (flux, ivar))
            batch = [
                *(torch.from_numpy(values).to(device) for values in arrays),
                torch.from_numpy(good[some]).to(device),
            ]
            with inference():
                of_patches = model.predict_hidden(model.patch_passes(), *batch)
                of_squares = model.predict_hidden(model.square_passes(), *batch)
            mean[some] = of_patches.mean.cpu().numpy()
            from_patches[some] = of_patches.residual_sigma.cpu().numpy()
            from_squares[some] = of_squares.residual_sigma.cpu().numpy()
        plain = Residuals.of(flux, ivar, mask, mean)
        return cls(plain.flux, plain.residual, plain.variance, plain.amplitude, plain.good, from_patches, from_squares)

    @property
    def reconstruction(self) -> np.ndarray:
        """Flux [N, L, S, Y, X] predicted for the patches; 0 where not good."""
        return self.flux - self.residual

    def without(self, bad: np.ndarray) -> "HiddenResiduals":
        """Residuals with further samples masked; `bad` broadcasts to [N, L, S, Y, X] bool."""
        kept = super().without(bad)
        assert isinstance(kept, HiddenResiduals)
        return replace(
            kept,
            from_patches=np.where(kept.good, self.from_patches, 0),
            from_squares=np.where(kept.good, self.from_squares, 0),
        )

    def residual_sigma(self, error: np.ndarray) -> np.ndarray:
        """Residuals `from_patches`; their variance is the network's, and `error` is not used."""
        return self.from_patches
