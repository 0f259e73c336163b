"""Similar galaxies: nearest neighbours in standardised latents, exact up to `latent_index.EXACT_LIMIT`."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.neighbors import NearestNeighbors

from modeling.latents.latent_index import EXACT_LIMIT, LatentIndex

# A latent dimension whose spread is below this fraction of the largest carries rounding noise, or a VAE has switched it
# off: scaling it to unit variance would give noise the weight of a signal.
DEAD_FRACTION = 1e-3


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours of each galaxy, nearest first; k is at most the number of other galaxies.

    Attributes:
        index: [galaxy, k] int64 row of each neighbour; never the galaxy itself.
        distance: [galaxy, k] Euclidean distance in standardised latents.
        same_object: [galaxy, k] bool, whether the neighbour is another observation of the same object.
    """

    index: np.ndarray
    distance: np.ndarray
    same_object: np.ndarray

    def nearest(self, k: int) -> "Neighbours":
        """The nearest k of these neighbours, or all of them if they are fewer."""
        return Neighbours(self.index[:, :k], self.distance[:, :k], self.same_object[:, :k])


@dataclass(frozen=True)
class LatentScaler:
    """Scaling of latents to zero mean and unit variance per dimension; dead dimensions become 0.

    Attributes:
        mean: [dimension].
        spread: [dimension] standard deviation; infinite where the dimension is dead.
    """

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, latent: np.ndarray) -> Self:
        """Scaler of latents [galaxy, dimension].

        Raises:
            ValueError: the latents are not a table, or not all finite.
        """
        latent = _checked(latent)
        if latent.size == 0:
            return cls(np.zeros(latent.shape[1]), np.full(latent.shape[1], np.inf))
        mean = latent.mean(0)
        spread = (latent - mean).std(0)
        alive = spread > DEAD_FRACTION * spread.max()
        return cls(mean, np.where(alive, spread, np.inf))

    def __call__(self, latent: np.ndarray) -> np.ndarray:
        """Latents of the same encoder, standardised: [galaxy, dimension] float64."""
        return (_checked(latent) - self.mean) / self.spread


def standardise(latent: np.ndarray) -> np.ndarray:
    """Latents with zero mean and unit variance per dimension; dead dimensions become 0.

    Args:
        latent: [galaxy, dimension].

    Returns:
        [galaxy, dimension] float64.

    Raises:
        ValueError: the latents are not a table, or not all finite.
    """
    return LatentScaler.fit(latent)(latent)


def _checked(latent: np.ndarray) -> np.ndarray:
    latent = np.asarray(latent, dtype=np.float64)
    if latent.ndim != 2:
        raise ValueError(f"expected latents [galaxy, dimension], found the shape {latent.shape}")
    broken = np.flatnonzero(~np.isfinite(latent).all(1))
    if broken.size:
        raise ValueError(
            f"latents of {broken.size} of {len(latent)} galaxies are not finite, the first in row {broken[0]}"
        )
    return latent


def nearest_neighbours(
    latent: np.ndarray, mangaid: np.ndarray, k: int, *, exact_limit: int = EXACT_LIMIT
) -> Neighbours:
    """Nearest k other galaxies of each galaxy.

    Repeat observations of one object (the same mangaid) may be each other's neighbours: they are a check on the
    latents, and `same_object` distinguishes them from true twins.

    Args:
        latent: [galaxy, dimension] standardised latents.
        mangaid: [galaxy] identifier of the object.
        k: number of neighbours; fewer where there are fewer galaxies.
        exact_limit: number of galaxies up to which all are compared with all; beyond, a graph finds nearly all
            neighbours.

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
    index, distance = nearest_others(latent, k, exact_limit=exact_limit)
    mangaid = np.asarray(mangaid)
    return Neighbours(index, distance, mangaid[index] == mangaid[:, None])


def nearest_others(latent: np.ndarray, k: int, *, exact_limit: int = EXACT_LIMIT) -> tuple[np.ndarray, np.ndarray]:
    """Nearest k other rows of each row, nearest first: rows [galaxy, k] int64 and distances; see `nearest_neighbours`.

    Args:
        latent: [galaxy, dimension], more than k of them.
        k: number of neighbours, at least 1.
        exact_limit: number of galaxies up to which all are compared with all.
    """
    if len(latent) <= exact_limit:
        # Without an argument kneighbors leaves each row out of its own neighbours, also where rows are equal. Brute
        # force is exact, and in hundreds of dimensions trees are no faster.
        distance, index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(latent).kneighbors()
        return index.astype(np.int64), distance
    searched = LatentIndex.build(latent, exact_limit=exact_limit)
    # One more, for the row itself.
    index, distance = searched.query(searched.latent, k + 1)
    other = index != np.arange(len(index))[:, None]
    other[other.all(1), -1] = False  # a row with many equals may not be among its own k + 1 nearest
    return index[other].reshape(-1, k), distance[other].reshape(-1, k)
