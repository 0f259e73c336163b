"""Which galaxies are alike: nearest neighbours of standardised latents, exact."""

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors

# A latent dimension that varies this much less than the liveliest one carries rounding noise, or a VAE has switched it
# off: to stretch it to unit variance would give noise the weight of a signal.
DEAD_FRACTION = 1e-3


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of each galaxy, nearest first; k is at most the number of the other galaxies.

    Attributes:
        index: [galaxy, k] int64 row of each neighbour; never the galaxy itself.
        distance: [galaxy, k] Euclidean distance in standardised latents.
        same_object: [galaxy, k] bool, whether the neighbour is another observation of the same object.
    """

    index: np.ndarray
    distance: np.ndarray
    same_object: np.ndarray


def standardise(latent: np.ndarray) -> np.ndarray:
    """Latents with zero mean and unit variance per dimension; dimensions that are dead become 0.

    Args:
        latent: [galaxy, dimension].

    Returns:
        [galaxy, dimension] float64.

    Raises:
        ValueError: not a table, or not all finite.
    """
    latent = np.asarray(latent, dtype=np.float64)
    if latent.ndim != 2:
        raise ValueError(f"expected latents [galaxy, dimension], found the shape {latent.shape}")
    broken = np.flatnonzero(~np.isfinite(latent).all(1))
    if broken.size:
        raise ValueError(
            f"latents of {broken.size} of {len(latent)} galaxies are not finite, the first in row {broken[0]}"
        )
    if latent.size == 0:
        return latent
    centred = latent - latent.mean(0)
    spread = centred.std(0)
    alive = spread > DEAD_FRACTION * spread.max()
    return np.divide(centred, spread, out=np.zeros_like(centred), where=alive)


def nearest_neighbours(latent: np.ndarray, mangaid: np.ndarray, k: int) -> Neighbours:
    """The k nearest other galaxies of each galaxy.

    Repeat observations of one object (the same mangaid) may be each other's neighbours: they are a check on the
    latents, and `same_object` tells them from true twins.

    Args:
        latent: [galaxy, dimension] standardised latents.
        mangaid: [galaxy] identifier of the object.
        k: neighbours wanted; fewer where there are fewer galaxies.

    Raises:
        ValueError: k is below 1, or the lengths differ.
    """
    if k < 1:
        raise ValueError(f"neighbours wanted: {k}, expected at least 1")
    if len(latent) != len(mangaid):
        raise ValueError(f"{len(latent)} latents but {len(mangaid)} identifiers")
    num_galaxies = len(latent)
    k = min(k, num_galaxies - 1)
    if k < 1:
        empty = np.empty((num_galaxies, 0))
        return Neighbours(empty.astype(np.int64), empty, empty.astype(bool))
    # Without an argument kneighbors leaves each row out of its own neighbours, also where rows are equal. Brute force
    # is exact, and in hundreds of dimensions trees are no faster.
    distance, index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(latent).kneighbors()
    mangaid = np.asarray(mangaid)
    return Neighbours(index.astype(np.int64), distance, mangaid[index] == mangaid[:, None])
