"""Nearest neighbours among latents: exact up to 100,000 of them, beyond from a graph (HNSW, by usearch).

The graph is kept in a file, with the digests of the file and of its latents beside it: a file that was changed, or
belongs to other latents, is rebuilt. Source of the method: Malkov & Yashunin 2018, arXiv:1603.09320.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import numpy as np

from cubeprep.files import replacing

EXACT_LIMIT = 100_000
# On a million clustered latents of 64 numbers: 0.998 of the true neighbours, in milliseconds (benchmarks/search.py).
CONNECTIVITY = 16
EXPANSION_ADD = 128
EXPANSION_SEARCH = 256
# The expanded square |a|^2 - 2ab + |b|^2 is fast but cancels for near twins: this many more candidates are measured
# exactly.
SPARE_CANDIDATES = 16
INDEX_FORMAT = 1


class LatentIndex:
    """Searchable latents, as they are given: the caller standardises them.

    Attributes:
        latent: [galaxy, dimension] float32.
    """

    def __init__(self, latent: np.ndarray, graph: Any = None) -> None:
        """Index of latents [galaxy, dimension], searched through `graph` if one is given, else exactly.

        Raises:
            ValueError: the latents are not a table, or not all finite.
        """
        self.latent = np.ascontiguousarray(latent, dtype=np.float32)
        if self.latent.ndim != 2 or not np.isfinite(self.latent).all():
            raise ValueError(f"expected finite latents [galaxy, dimension], found the shape {self.latent.shape}")
        self._graph = graph
        self._square = np.einsum("ij,ij->i", self.latent, self.latent)

    @property
    def exact(self) -> bool:
        """Whether all latents are compared; through a graph nearly all neighbours are the true ones."""
        return self._graph is None

    @classmethod
    def build(cls, latent: np.ndarray, *, exact_limit: int = EXACT_LIMIT, threads: int = 0) -> Self:
        """Index of latents [galaxy, dimension], with a graph for more than `exact_limit` of them.

        The graph is built by `threads`, 0 for one per CPU; only one thread builds the same graph each time.
        """
        if len(latent) <= exact_limit:
            return cls(latent)
        graph = _empty_graph(latent.shape[1])
        graph.add(np.arange(len(latent)), np.ascontiguousarray(latent, dtype=np.float32), threads=threads)
        return cls(latent, graph)

    @classmethod
    def load_or_build(cls, path: Path, latent: np.ndarray, *, exact_limit: int = EXACT_LIMIT, threads: int = 0) -> Self:
        """Index of these latents, read from its file or built (see `build`) and written; an exact one needs no file."""
        if len(latent) <= exact_limit:
            return cls(latent)
        latent = np.ascontiguousarray(latent, dtype=np.float32)
        described = _describe(latent)
        if (graph := _load(path, described)) is not None:
            return cls(latent, graph)
        index = cls.build(latent, exact_limit=exact_limit, threads=threads)
        _save(path, index._graph, described)
        return index

    def query(self, latent: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Nearest latents to each query.

        Args:
            latent: [query, dimension], standardised as those of the index.
            k: number of neighbours; fewer where the index holds fewer.

        Returns:
            Rows of the index, nearest first, and Euclidean distances: [query, k] int64 and float64.

        Raises:
            ValueError: k is below 1, or the queries have another dimension than the index.
        """
        latent = np.atleast_2d(np.asarray(latent, dtype=np.float32))
        if k < 1 or latent.shape[1] != self.latent.shape[1]:
            raise ValueError(
                f"expected k >= 1 and queries of {self.latent.shape[1]} numbers, found k {k} and {latent.shape[1]}"
            )
        k = min(k, len(self.latent))
        candidates = min(k + SPARE_CANDIDATES, len(self.latent))
        nearest = [self._nearest(one, k, candidates) for one in latent]
        shape = (len(latent), k)
        return (
            np.array([rows for rows, _ in nearest], dtype=np.int64).reshape(shape),
            np.array([distances for _, distances in nearest], dtype=np.float64).reshape(shape),
        )

    def _nearest(self, query: np.ndarray, k: int, candidates: int) -> tuple[np.ndarray, np.ndarray]:
        if self.exact:
            # Not by BLAS: for so little work its threads cost more than they gain, most of all on a busy machine.
            # The query's own square is left out: it is the same for all and does not change their order.
            square = self._square - 2 * np.einsum("ij,j->i", self.latent, query)
            rows = np.argpartition(square, candidates - 1)[:candidates]
        else:
            rows = self._graph.search(query, candidates).keys.astype(np.int64)
        # float64, and subtracted before squaring: exact for near twins too.
        distance = np.linalg.norm(self.latent[rows].astype(np.float64) - query, axis=1)
        # By row where distances are equal, so that the answer does not depend on how candidates were selected.
        order = np.lexsort((rows, distance))[:k]
        return rows[order], distance[order]


def _empty_graph(num_dimensions: int) -> Any:
    from usearch.index import Index

    return Index(
        ndim=num_dimensions,
        metric="l2sq",
        dtype="f32",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )


def _describe(latent: np.ndarray) -> dict[str, Any]:
    """Description of the latents and settings that a graph's file must have been built from."""
    settings = [INDEX_FORMAT, CONNECTIVITY, EXPANSION_ADD]
    return {"settings": settings, "shape": list(latent.shape), "latents": hashlib.sha256(latent.tobytes()).hexdigest()}


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _load(path: Path, described: dict[str, Any]) -> Any:
    """Graph of a file; None unless the file is intact and of these latents."""
    try:
        kept = json.loads(_sidecar(path).read_text())
        with path.open("rb") as file:
            if kept != described | {"graph": hashlib.file_digest(file, "sha256").hexdigest()}:
                return None
    except (FileNotFoundError, ValueError):
        return None
    graph = _empty_graph(described["shape"][1])
    graph.load(str(path))
    return graph


def _save(path: Path, graph: Any, described: dict[str, Any]) -> None:
    """Writes a graph and then its description; a graph without one is never read."""
    with replacing(path) as partial:
        graph.save(str(partial))
        with partial.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        _sidecar(path).unlink(missing_ok=True)
    with replacing(_sidecar(path)) as partial:
        partial.write_text(json.dumps(described | {"graph": found}))
