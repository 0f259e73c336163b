"""Latents and reconstructions of galaxies, for scores, pages and the registered model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from cubeprep.masks import good_samples
from modeling.network.autoencoder import ConvLSTMAutoencoder
from modeling.network.hiding import turned
from modeling.network.masked import masked_mae
from modeling.network.normalisation import WindowNetwork


@contextmanager
def inference() -> Iterator[None]:
    """Context, or decorator, of all inference: without gradients, and in float32.

    On a GPU PyTorch convolves in TF32 by default, which is no faster here and changes scores: by 1e-3 of their range,
    and the ranks of two galaxies in 64.
    """
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@dataclass(frozen=True)
class Inference:
    """Latents and reconstructions of N galaxies; L lines, S samples, Y and X spaxels, D latent.

    Attributes:
        latent: [N, D] float32.
        reconstruction: [N, L, S, Y, X] float32 in the unit of the flux; never NaN, also where the input is masked.
        normalised: the same shape, the model's input: normalised flux, 0 where masked.
        normalised_reconstruction: the same shape, the reconstruction in those units.
        scale: [N] float32, the flux that is 1 in normalised units.
        mae: [N] float32, mean absolute error over the good samples, in normalised units.
    """

    latent: np.ndarray
    reconstruction: np.ndarray
    normalised: np.ndarray
    normalised_reconstruction: np.ndarray
    scale: np.ndarray
    mae: np.ndarray

    def __len__(self) -> int:
        return len(self.latent)


def infer(
    model: WindowNetwork,
    flux: np.ndarray,
    ivar: np.ndarray,
    mask: np.ndarray,
    *,
    batch_size: int = 16,
    device: str = "cpu",
) -> Inference:
    """Latents and reconstructions of windows; those of a masked network are predictions of hidden lines.

    Args:
        model: as `checkpoint.load_model` returns it; it is put into evaluation mode.
        flux: [N, L, S, Y, X], flux units; NaN, or any value, where masked.
        ivar: the same shape, inverse variance of `flux`; 0 for a bad sample, as in the store.
        mask: the same shape; 0 is good.
        batch_size: galaxies at a time; results do not depend on it beyond rounding.
        device: such as `cpu` or `cuda`.

    Raises:
        ValueError: the windows do not have the shape that the model was built for.
    """
    _check_shapes(model, flux, ivar, mask)
    model = model.to(device).eval()
    parts = [
        _infer_batch(model, *(array[start : start + batch_size] for array in (flux, ivar, mask)), device=device)
        for start in range(0, len(flux), batch_size)
    ]
    if not parts:
        empty = np.zeros((0, *flux.shape[1:]), np.float32)
        none = np.zeros(0, np.float32)
        return Inference(np.zeros((0, model.arguments["latent_dim"]), np.float32), empty, empty, empty, none, none)
    return Inference(*(np.concatenate([part[i] for part in parts]) for i in range(len(parts[0]))))


@inference()
def encode(
    model: WindowNetwork,
    flux: np.ndarray,
    ivar: np.ndarray,
    mask: np.ndarray,
    *,
    batch_size: int = 16,
    device: str = "cpu",
) -> np.ndarray:
    """Latents alone, [N, D] float32; arguments and errors as of `infer`."""
    _check_shapes(model, flux, ivar, mask)
    model = model.to(device).eval()
    latent = np.empty((len(flux), model.arguments["latent_dim"]), np.float32)
    for start in range(0, len(latent), batch_size):
        some = slice(start, start + batch_size)
        given = _normalised(model, flux[some], ivar[some], mask[some], device=device)
        latent[some] = model.encode(given.flux, given.good, given.ivar).float().cpu().numpy()
    return latent


@inference()
def reconstruct(
    model: WindowNetwork,
    flux: np.ndarray,
    ivar: np.ndarray,
    mask: np.ndarray,
    *,
    from_latent: bool = False,
    batch_size: int = 16,
    device: str = "cpu",
) -> np.ndarray:
    """Reconstructions alone, [N, L, S, Y, X] in the unit of the flux, in less time than `infer` takes.

    With `from_latent` they come from the latent of the whole galaxy. Orientation on the sky is arbitrary: each galaxy
    is then encoded and decoded in its four rotations and their mirror images, and the result is their mean, which
    rotates with the galaxy. The other arguments, and the error raised, are those of `infer`.

    Raises:
        ValueError: also if a reconstruction from the latent is asked of a masked network, which has none.
    """
    _check_shapes(model, flux, ivar, mask)
    if from_latent and not isinstance(model, ConvLSTMAutoencoder):
        raise ValueError(f"{type(model).__name__} has no reconstruction from the latent")
    model = model.to(device).eval()
    reconstruction = np.empty(flux.shape, np.float32)
    for start in range(0, len(reconstruction), batch_size):
        some = slice(start, start + batch_size)
        given = _normalised(model, flux[some], ivar[some], mask[some], device=device)
        if from_latent and isinstance(model, ConvLSTMAutoencoder):
            normalised_BLSYX = _mean_of_views(model, given.flux, given.good)
        else:
            normalised_BLSYX = model.reconstruct(given.flux, given.good, given.ivar)
        reconstruction[some] = model.denormalise(normalised_BLSYX, given.scale).float().cpu().numpy()
    return reconstruction


def _mean_of_views(
    model: ConvLSTMAutoencoder, normalised_BLSYX: torch.Tensor, good_BLSYX: torch.Tensor
) -> torch.Tensor:
    views = (
        turned(model.decode(model.encode(turned(normalised_BLSYX, k), turned(good_BLSYX, k))), k, back=True)
        for k in range(8)
    )
    return torch.stack(list(views)).mean(dim=0)


class _Normalised(NamedTuple):
    """Windows as a network takes them: good samples, normalised flux, and inverse variance in units of the scale."""

    good: torch.Tensor
    flux: torch.Tensor
    ivar: torch.Tensor
    scale: torch.Tensor


def _normalised(
    model: WindowNetwork, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, *, device: str
) -> _Normalised:
    # One rule of good samples for model, residuals and scores: the model sees exactly the samples that are scored.
    good_BLSYX = torch.from_numpy(good_samples(flux, ivar, mask)).to(device)
    flux_BLSYX, ivar_BLSYX = (
        torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device) for values in (flux, ivar)
    )
    normalised_BLSYX, scale_B = model.normalise(flux_BLSYX, good_BLSYX)
    return _Normalised(good_BLSYX, normalised_BLSYX, model.scaled_ivar(ivar_BLSYX, scale_B), scale_B)


@inference()
def _infer_batch(
    model: WindowNetwork, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, *, device: str
) -> list[np.ndarray]:
    good_BLSYX, normalised_BLSYX, ivar_BLSYX, scale_B = _normalised(model, flux, ivar, mask, device=device)
    latent_BD = model.encode(normalised_BLSYX, good_BLSYX, ivar_BLSYX)
    reconstruction_BLSYX = model.reconstruct(normalised_BLSYX, good_BLSYX, ivar_BLSYX, latent_BD)
    mae_B = masked_mae(reconstruction_BLSYX, normalised_BLSYX, good_BLSYX)
    flux_BLSYX = model.denormalise(reconstruction_BLSYX, scale_B)
    tensors = (latent_BD, flux_BLSYX, normalised_BLSYX, reconstruction_BLSYX, scale_B, mae_B)
    return [np.ascontiguousarray(tensor.float().cpu().numpy()) for tensor in tensors]


def _check_shapes(model: WindowNetwork, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray) -> None:
    expected = (model.num_lines, model.num_samples, model.size, model.size)
    if flux.ndim != 5 or flux.shape[1:] != expected:
        raise ValueError(
            f"the windows are {flux.shape}, but the model takes [galaxies, lines, samples, y, x] of "
            f"{' x '.join(str(length) for length in expected)}"
        )
    if not flux.shape == ivar.shape == mask.shape:
        raise ValueError(f"flux, ivar and mask differ in shape: {flux.shape}, {ivar.shape}, {mask.shape}")
