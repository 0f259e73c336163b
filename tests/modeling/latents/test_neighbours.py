"""Nearest neighbours: planted twins, small samples, repeat observations."""

import numpy as np
import pytest

from modeling.latents.neighbours import nearest_neighbours, standardise


def names(count: int) -> np.ndarray:
    return np.array([f"1-{i}" for i in range(count)])


def test_planted_twins_find_each_other() -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(40, 16))
    latent[20:] = latent[:20] + 0.01 * rng.normal(size=(20, 16))
    found = nearest_neighbours(standardise(latent), names(40), 3)
    np.testing.assert_array_equal(found.index[:, 0], (np.arange(40) + 20) % 40)
    assert (np.diff(found.distance, axis=1) >= 0).all()


def test_distances_are_those_of_standardised_latents() -> None:
    latent = np.random.default_rng(1).normal(size=(10, 4)) * [1, 10, 100, 1000]
    standard = (latent - latent.mean(0)) / latent.std(0)
    found = nearest_neighbours(standardise(latent), names(10), 9)
    for i in range(10):
        np.testing.assert_allclose(found.distance[i], np.linalg.norm(standard[found.index[i]] - standard[i], axis=1))


@pytest.mark.parametrize(("num_galaxies", "k"), [(0, 5), (1, 5), (2, 5), (4, 3), (6, 5), (6, 9)])
def test_never_itself_and_fewer_where_there_are_fewer(num_galaxies: int, k: int) -> None:
    latent = np.random.default_rng(2).normal(size=(num_galaxies, 3))
    found = nearest_neighbours(latent, names(num_galaxies), k)
    assert found.index.shape == found.distance.shape == (num_galaxies, max(0, min(k, num_galaxies - 1)))
    for i, row in enumerate(found.index):
        assert i not in row
        assert len(set(row)) == len(row)


def test_equal_latents_are_neighbours_of_each_other_but_not_of_themselves() -> None:
    found = nearest_neighbours(np.zeros((5, 3)), names(5), 4)
    assert [sorted(row) for row in found.index] == [[j for j in range(5) if j != i] for i in range(5)]


def test_repeat_observations_are_flagged() -> None:
    latent = np.array([[0.0], [0.1], [5.0], [9.0]])
    found = nearest_neighbours(latent, np.array(["1-1", "1-1", "1-2", "1-3"]), 2)
    assert found.same_object.tolist() == [[True, False], [True, False], [False, False], [False, False]]


def test_dead_dimensions_carry_no_weight() -> None:
    rng = np.random.default_rng(3)
    latent = rng.normal(size=(30, 4))
    noise = np.column_stack([np.full(30, 7.0), 1e-7 * rng.normal(size=30)])
    np.testing.assert_allclose(standardise(np.column_stack([latent, noise]))[:, 4:], 0)
    standard = standardise(latent)
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(standard.std(0), 1)


def test_what_cannot_be_searched_is_an_error() -> None:
    latent = np.ones((4, 2))
    latent[2, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 4 galaxies are not finite, the first in row 2"):
        standardise(latent)
    with pytest.raises(ValueError, match="shape"):
        standardise(np.ones(4))
    with pytest.raises(ValueError, match="at least 1"):
        nearest_neighbours(np.ones((4, 2)), names(4), 0)
    with pytest.raises(ValueError, match="4 latents but 3"):
        nearest_neighbours(np.ones((4, 2)), names(3), 1)


def test_beyond_the_limit_nearly_the_same_neighbours_are_found_and_never_the_galaxy_itself() -> None:
    rng = np.random.default_rng(0)
    latent = np.repeat(rng.normal(size=(300, 6)), 2, axis=0)  # each galaxy has a twin in the same place
    names = np.arange(600).astype(str)
    exact, graph = (nearest_neighbours(latent, names, 4, exact_limit=limit) for limit in (600, 599))
    assert graph.index.shape == (600, 4)
    assert not (graph.index == np.arange(600)[:, None]).any()
    assert np.isclose(graph.distance, exact.distance, atol=1e-4).mean() > 0.99


def test_a_galaxy_with_many_equals_is_not_its_own_neighbour_beyond_the_limit() -> None:
    found = nearest_neighbours(np.zeros((50, 3)), names(50), 4, exact_limit=10)
    assert found.index.shape == (50, 4)
    assert not (found.index == np.arange(50)[:, None]).any()
    np.testing.assert_array_equal(found.distance, 0)
