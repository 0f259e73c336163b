"""Maps of latents: seeded, and defined for any number of galaxies."""

import numpy as np
import pytest

from modeling.latents.neighbours import nearest_neighbours
from modeling.latents.umap_map import MIN_UMAP, Embedding, embed

pytestmark = pytest.mark.slow  # UMAP is compiled for ten seconds


def two_groups(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(40, 8))
    latent[20:, 0] += 30
    return latent


def mapped(latent: np.ndarray, num_dimensions: int, *, num_neighbours: int = 15, seed: int = 0) -> Embedding:
    # More than UMAP takes, as a catalog may list.
    neighbours = nearest_neighbours(latent, np.arange(len(latent)), 20)
    return embed(latent, num_dimensions, neighbours, num_neighbours=num_neighbours, seed=seed)


@pytest.mark.parametrize("num_dimensions", [2, 3])
def test_umap_is_the_same_for_a_seed_and_another_for_another(num_dimensions: int) -> None:
    latent = two_groups()
    first, again, other = (mapped(latent, num_dimensions, seed=seed).coordinates for seed in (1, 1, 2))
    assert first.shape == (40, num_dimensions)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_umap_keeps_groups_apart() -> None:
    found = mapped(two_groups(), 2, num_neighbours=10)
    assert found.method == "umap"
    left, right = found.coordinates[:20], found.coordinates[20:]
    within = max(np.linalg.norm(side - side.mean(0), axis=1).max() for side in (left, right))
    between = np.linalg.norm(left.mean(0) - right.mean(0))
    assert between > within


@pytest.mark.parametrize("num_galaxies", [0, 1, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("num_dimensions", [2, 3])
def test_small_samples_have_a_map_that_says_how_it_was_made(num_galaxies: int, num_dimensions: int) -> None:
    latent = np.random.default_rng(1).normal(size=(num_galaxies, 6))
    found = mapped(latent, num_dimensions)
    assert found.coordinates.shape == (num_galaxies, num_dimensions)
    assert np.isfinite(found.coordinates).all()
    expected = "none" if num_galaxies < 2 else "pca" if num_galaxies < MIN_UMAP else "umap"
    assert found.method == expected


def test_pca_of_few_galaxies_keeps_their_distances() -> None:
    latent = np.random.default_rng(2).normal(size=(4, 6))
    found = mapped(latent, 3).coordinates
    for i in range(4):
        expected = np.linalg.norm(latent - latent[i], axis=1)
        np.testing.assert_allclose(np.linalg.norm(found - found[i], axis=1), expected, atol=1e-10)


def test_equal_latents_lie_at_zero() -> None:
    found = mapped(np.ones((30, 4)), 2)
    assert found.method == "none"
    assert not found.coordinates.any()


def test_fewer_latent_dimensions_than_the_map_has() -> None:
    found = mapped(np.random.default_rng(3).normal(size=(12, 1)), 3)
    assert found.coordinates.shape == (12, 3)
    assert np.isfinite(found.coordinates).all()
