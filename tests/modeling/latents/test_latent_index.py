"""The index of latents: exact where it says so, nearly so where not, and never one of other latents."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from modeling.latents.latent_index import LatentIndex


def clustered(num_galaxies: int = 2000, num_dimensions: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, num_dimensions)) * 2
    return (centres[rng.integers(20, size=num_galaxies)] + rng.normal(size=(num_galaxies, num_dimensions))).astype("f4")


def truth(latent: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    distance, index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(latent.astype(float)).kneighbors(queries)
    return index, distance


def test_below_the_limit_neighbours_are_the_true_ones() -> None:
    latent = clustered()
    index, distance = LatentIndex.build(latent).query(latent[:50], 10)
    expected = truth(latent, latent[:50], 10)
    np.testing.assert_array_equal(index, expected[0])
    np.testing.assert_allclose(distance, expected[1], atol=1e-4)


def test_twins_far_from_the_origin_are_distinguished() -> None:
    """In float32 the expanded square of these is all rounding."""
    latent = np.full((40, 4), 1000.0, dtype="f4")
    latent[:, 0] += np.arange(40) / 100
    index, distance = LatentIndex(latent).query(latent[7], 3)
    assert index[0][0] == 7
    assert set(index[0][1:]) == {6, 8}
    np.testing.assert_allclose(distance[0], [0, 0.01, 0.01], atol=1e-4)


def test_beyond_the_limit_nearly_all_neighbours_are_found() -> None:
    latent = clustered()
    index = LatentIndex.build(latent, exact_limit=1000)
    assert not index.exact
    found, distance = index.query(latent[:200], 10)
    expected = truth(latent, latent[:200], 10)
    shared = [len(set(a) & set(b)) for a, b in zip(found, expected[0], strict=True)]
    assert np.mean(shared) >= 9.9
    assert (np.diff(distance, axis=1) >= 0).all()


def test_a_graph_is_kept_and_read_again_and_not_for_other_latents(tmp_path: Path) -> None:
    path, latent = tmp_path / "catalog.index", clustered(1500)
    first = LatentIndex.load_or_build(path, latent, exact_limit=1000)
    written = path.read_bytes()
    again = LatentIndex.load_or_build(path, latent, exact_limit=1000)
    assert path.read_bytes() == written
    np.testing.assert_array_equal(first.query(latent[:20], 5)[0], again.query(latent[:20], 5)[0])
    other = clustered(1500, seed=1)
    index, distance = LatentIndex.load_or_build(path, other, exact_limit=1000).query(other[:20], 1)
    np.testing.assert_array_equal(index[:, 0], np.arange(20))
    np.testing.assert_allclose(distance, 0, atol=1e-5)


@pytest.mark.parametrize("spoil", ["cut", "flip", "sidecar"])
def test_a_corrupt_file_is_rebuilt(tmp_path: Path, spoil: str) -> None:
    path, latent = tmp_path / "catalog.index", clustered(1500)
    LatentIndex.load_or_build(path, latent, exact_limit=1000, threads=1)
    whole = path.read_bytes()
    content = bytearray(whole)
    if spoil == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif spoil == "flip":
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    else:
        (tmp_path / "catalog.index.json").write_text("{")
    index = LatentIndex.load_or_build(path, latent, exact_limit=1000, threads=1)
    assert path.read_bytes() == whole
    np.testing.assert_array_equal(index.query(latent[:100], 1)[0][:, 0], np.arange(100))
    described = json.loads((tmp_path / "catalog.index.json").read_text())
    assert described["graph"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["catalog.index", "catalog.index.json"]


def test_an_exact_index_writes_nothing(tmp_path: Path) -> None:
    assert LatentIndex.load_or_build(tmp_path / "catalog.index", clustered(50)).exact
    assert not list(tmp_path.iterdir())


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"found the shape \(3,\)"):
        LatentIndex(np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        LatentIndex(np.full((2, 2), np.nan))
    index = LatentIndex(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="queries of 2 numbers"):
        index.query(np.zeros((1, 3)), 1)
    with pytest.raises(ValueError, match="k >= 1"):
        index.query(np.zeros((1, 2)), 0)
    assert index.query(np.zeros((1, 2)), 9)[0].shape == (1, 2)
    assert index.query(np.zeros((0, 2)), 9)[0].shape == (0, 2)
