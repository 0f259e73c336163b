"""Bootstrap over objects."""

from collections.abc import Iterator

import numpy as np


def bootstrap_weights(objects: np.ndarray, num_bootstrap: int, seed: int) -> Iterator[np.ndarray]:
    """Weights [galaxy] of each resample: how often a galaxy is drawn, with all observations of its object together.

    Args:
        objects: [galaxy] identifier of the object.
        num_bootstrap: number of resamples.
        seed: of the draws.
    """
    _, index = np.unique(objects.astype(str), return_inverse=True)
    num_objects = int(index.max()) + 1
    rng = np.random.default_rng(seed)
    for _ in range(num_bootstrap):
        yield np.bincount(rng.integers(num_objects, size=num_objects), minlength=num_objects)[index]
