"""Principal components of galaxies: rows are far fewer than features, so they come from inner products of rows."""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import eigh

# Components below this share of the largest eigenvalue are rounding errors of float32.
LEAST_SHARE = 1e-6


def principal_components(features: np.ndarray, num_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [feature] of rows [row, feature] and their first principal components [component, feature], orthonormal."""
    mean = features.mean(axis=0)
    _, components = _eigen(features - mean, min(num_components, len(features) - 1))
    return mean, components


def symmetric_components(features: np.ndarray, size: int, num_components: int) -> tuple[np.ndarray, np.ndarray]:
    """`principal_components` of the four rotations of all rows and their mirror images, without making these copies.

    The covariance of the copies commutes with rotations and mirror images, so that it falls into blocks: four in which
    a quarter turn and a reflection multiply by 1 or -1 (`_even_parts`), and a pair of equal blocks that a quarter turn
    exchanges (`_odd_part`). Each needs as many inner products as there are rows, or twice as many, not eight times.

    Args:
        features: [row, feature], the last two axes of a feature being y and x of `size` spaxels.
        size: spaxels per side.
        num_components: number of components.
    """
    images = features.reshape(len(features), -1, size, size)
    mean = images.mean(axis=0)
    mean = sum(np.rot90(view, turns, (-2, -1)) for view in (mean, mean[..., ::-1]) for turns in range(4)) / 8
    images = images - mean.astype(np.float32)
    most = min(num_components, 8 * len(features) - 1)
    found = []
    for part in _even_parts(images):
        values, components = _eigen(part.reshape(len(part), -1), min(most, len(part)))
        found.append((8 * values, components))  # of eight copies
    odd = _odd_part(images)
    values, components = _eigen(odd.reshape(len(odd), -1), min(most, len(odd)))
    other = np.rot90(components.reshape(-1, *images.shape[1:]), 1, (-2, -1)).reshape(components.shape)
    found += [(4 * values, components), (4 * values, other)]
    values = np.concatenate([part for part, _ in found])
    kept = np.argsort(-values, kind="stable")[:most]
    kept = kept[values[kept] > LEAST_SHARE * values.max()]
    return mean.ravel().astype(np.float32), np.concatenate([part for _, part in found])[kept]


def _even_parts(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the parts of images [row, ..., y, x] that a quarter turn and a reflection multiply by 1 or by -1."""
    for sign in (1, -1):
        half = (images + sign * images[..., ::-1]) / 2
        half = (half + np.rot90(half, 2, (-2, -1))) / 2
        turned = np.rot90(half, 1, (-2, -1))
        yield (half + turned) / 2
        yield (half - turned) / 2


def _odd_part(images: np.ndarray) -> np.ndarray:
    """Parts [2 row, ..., y, x] that a half turn multiplies by -1 and a reflection by 1, of images and quarter turns."""
    odd = (images - np.rot90(images, 2, (-2, -1))) / 2
    both = np.concatenate([odd, np.rot90(odd, 1, (-2, -1))])
    return (both + both[..., ::-1]) / 2


def _eigen(centred: np.ndarray, num_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [component] of the sum of squares of rows, in descending order, and orthonormal components."""
    # float64 for the eigenvectors alone: their matrix is small, and they are divided by roots of small eigenvalues.
    gram = (centred @ centred.T).astype(np.float64)
    values, vectors = eigh(gram, subset_by_index=(len(gram) - num_components, len(gram) - 1), overwrite_a=True)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > LEAST_SHARE * max(values[0], 1e-30)
    weights = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
    return values[kept], weights.T @ centred
