"""Maps of the latents in two or three dimensions, for display: UMAP, or PCA where there are too few galaxies.

A map is fitted to all galaxies at once. UMAP's `transform` of new galaxies onto an existing map is not used: it pulls
unusual galaxies, the targets of a search, towards those that the map was fitted to.
"""

import contextlib
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from modeling.latents.neighbours import Neighbours

MIN_UMAP = 5  # with fewer, a graph of neighbours adds nothing to PCA


@dataclass(frozen=True)
class Embedding:
    """Positions of galaxies on a map.

    Attributes:
        coordinates: [galaxy, dimension] float64; no unit, and distances hold locally only.
        method: `umap`; `pca` where there were too few galaxies; `none` (zeros) where all latents are equal.
    """

    coordinates: np.ndarray
    method: Literal["umap", "pca", "none"]


def embed(
    latent: np.ndarray,
    num_dimensions: int,
    neighbours: Neighbours,
    *,
    num_neighbours: int = 15,
    min_dist: float = 0.1,
    seed: int = 0,
) -> Embedding:
    """Map of latents; the same for the same seed, latents and library versions.

    Args:
        latent: [galaxy, dimension] standardised latents.
        num_dimensions: of the map.
        neighbours: of these latents, at least `num_neighbours` - 1 or as many as there are.
        num_neighbours: UMAP's `n_neighbors`, which counts the galaxy itself; fewer where there are fewer galaxies.
        min_dist: UMAP's `min_dist`, the smallest distance between points on the map.
        seed: of UMAP's random numbers.

    Source: McInnes, Healy & Melville 2018, arXiv:1802.03426.
    """
    latent = np.asarray(latent, dtype=np.float64)
    num_galaxies = len(latent)
    if num_galaxies < 2 or not np.ptp(latent, axis=0).any():
        return Embedding(np.zeros((num_galaxies, num_dimensions)), "none")
    if num_galaxies < MIN_UMAP:
        return Embedding(_pca(latent, num_dimensions), "pca")
    umap = _umap()
    k = min(num_neighbours, num_galaxies - 1)
    # The spectral start needs many more galaxies than dimensions; a start from PCA is as reproducible.
    # UMAP scales each axis of the start to the same length, so none may be constant: hence the noise.
    start = _pca(latent, num_dimensions)
    start += 1e-4 * np.abs(start).max() * np.random.default_rng(seed).normal(size=start.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="umap")
        mapper = umap.UMAP(
            n_components=num_dimensions,
            n_neighbors=k,
            min_dist=min_dist,
            init=start.astype(np.float32),
            random_state=seed,
            n_jobs=1,  # with several threads a seed does not give the same map
            precomputed_knn=_with_itself(neighbours.nearest(k - 1)),
        )
        return Embedding(np.asarray(mapper.fit_transform(latent), dtype=np.float64), "umap")


def _umap() -> Any:
    """UMAP's package with compiled functions cached on disk; otherwise each process compiles for ten seconds."""
    import umap
    from umap import umap_

    for function in (umap_.smooth_knn_dist, umap_.compute_membership_strengths):
        with contextlib.suppress(RuntimeError):  # no folder for it is writable
            function.enable_caching()
    return umap


def _with_itself(neighbours: Neighbours) -> tuple[np.ndarray, np.ndarray]:
    """Rows of neighbours and their distances as UMAP takes them: with the galaxy itself first.

    UMAP's own search compiles for ten seconds, and is not exact for more than 4,096 galaxies.
    """
    index, distance = neighbours.index.astype(np.int32), neighbours.distance
    itself = np.arange(len(index), dtype=np.int32)
    return np.column_stack([itself, index]), np.pad(distance, ((0, 0), (1, 0))).astype(np.float32)


def _pca(latent: np.ndarray, num_dimensions: int) -> np.ndarray:
    """Principal components [galaxy, num_dimensions], signs fixed, zeros beyond the rank."""
    left, values, _ = np.linalg.svd(latent - latent.mean(0), full_matrices=False)
    # An SVD leaves the sign of each component open, and libraries differ: the largest entry is made positive.
    left = left * np.where(np.take_along_axis(left, np.abs(left).argmax(0)[None], 0) < 0, -1, 1)
    components = (left * values)[:, :num_dimensions]
    return np.pad(components, ((0, 0), (0, num_dimensions - components.shape[1])))
