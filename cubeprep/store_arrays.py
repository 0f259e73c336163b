"""Reading the arrays of a store: a shard or an array that is damaged or missing is a `StoreError` that names it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import zarr

from cubeprep.layout import CONTINUUM
from cubeprep.storage import StorageError, filesystem, storage_errors
from cubeprep.store_files import NEW_STORE, StoreError, record_name


class StoreArrays:
    """The arrays of a store's splits, each opened once."""

    def __init__(self, path: str, group: zarr.Group) -> None:
        self._path = path.rstrip("/")
        self._group = group
        self._attrs: Any = group.attrs["cubescout"]
        self._opened: dict[tuple[str, str], zarr.Array] = {}
        self._there: set[tuple[str, str]] = set()  # coordinates whose object was found

    def open(self, split: str, name: str) -> zarr.Array:
        """An array of a split; its metadata never change, so they are read only once.

        Raises:
            StoreError: its metadata are damaged or missing, or do not agree with those of the store.
        """
        if (split, name) not in self._opened:
            with self._reading(split, name):
                array: Any = self._group[f"{split}/{name}"]
                self._check_shape(split, name, array)
            self._opened[split, name] = array
        return self._opened[split, name]

    def rows_per_shard(self, split: str) -> int:
        """Rows in each shard of a split."""
        return _shard_length(self.open(split, "flux"))

    def coordinate(self, split: str, name: str, rows: slice = slice(None)) -> np.ndarray:
        """Values of a coordinate, all by default.

        Raises:
            StoreError: it is damaged or missing.
        """
        array = self.open(split, name)
        with self._reading(split, name):
            values = _plain(np.asarray(array[rows]))
        # As Zarr reads a missing object; asked once, since views of stores without augmentation are all 0.
        if (split, name) not in self._there and values.size and _is_all(values, array.fill_value):
            self._check_there(f"{self._path}/{split}/{name}/c/0", NEW_STORE)
            self._there.add((split, name))
        return values

    def rows(self, split: str, name: str, rows: slice) -> np.ndarray:
        """Rows [row, ...] of an array whose shards were all written, within one shard.

        Raises:
            StoreError: the shard is damaged or missing.
        """
        array = self.open(split, name)
        shard = rows.start // _shard_length(array)
        where = "/".join([self._path, split, name, "c", str(shard), *["0"] * (array.ndim - 1)])
        mend = f"To make it again, delete {record_name(split, shard)} and summary.json, and run `cubescout prepare`."
        try:
            with storage_errors(self._path):
                values = np.asarray(array[rows])
        except (RuntimeError, ValueError) as error:  # of Zstandard, and of the index's own checksum
            raise StoreError(f"{where}: damaged ({error}). {mend}") from error
        # Zarr reads a missing object as fill values. So does a shard without galaxies, which is there all the same.
        # The central spaxel is looked at first: on nearly every read it ends the search at once.
        middle = self._attrs["size"] // 2
        if values.size and all(_is_all(part, array.fill_value) for part in (values[..., middle, middle], values)):
            self._check_there(where, mend)
        return values

    def _check_there(self, where: str, mend: str) -> None:
        """Raises a `StoreError` if there is no object at a path or URL."""
        fs, path = filesystem(where)
        with storage_errors(where):
            if not fs.exists(path):
                raise StoreError(f"{where}: missing. {mend}")

    @contextmanager
    def _reading(self, split: str, name: str) -> Iterator[None]:
        """Turns the errors of Zarr that a damaged array causes into a `StoreError`, which names it."""
        try:
            with storage_errors(self._path):
                yield
        except StorageError:
            raise
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
            raise StoreError(f"{self._path}/{split}/{name}: damaged or missing ({error}). {NEW_STORE}") from error

    def _check_shape(self, split: str, name: str, array: Any) -> None:
        lines, samples, size = len(self._attrs["line_names"]), self._attrs["num_samples"], self._attrs["size"]
        galaxies = self._attrs["splits"][split]["galaxies_per_shard"]
        per_shard = self._attrs["splits"][split]["num_views"] * galaxies
        window = (lines, samples, size, size)
        expected: Any
        found: Any
        if name in ("flux", "ivar", "mask"):
            expected, found = (window, (per_shard, *window)), (array.shape[1:], array.shards)
        elif name in CONTINUUM:
            image = (size, size) if name == "stars" else (lines, size, size)
            expected, found = (image, (galaxies, *image)), (array.shape[1:], array.shards)
        elif name in ("line", "rest_wave", "velocity_kms"):
            expected, found = (samples if name == "velocity_kms" else lines,), array.shape
        else:
            expected, found = self.open(split, "flux").shape[:1], array.shape
        if expected != found:
            raise ValueError(f"its shape is {found}, expected {expected}")


def _shard_length(array: zarr.Array) -> int:
    """Rows of an array in each of its shards."""
    assert array.shards is not None
    return int(array.shards[0])


def _is_all(values: np.ndarray, fill_value: Any) -> bool:
    filled = (
        np.isnan(values)
        if isinstance(fill_value, float | np.floating) and np.isnan(fill_value)
        else values == fill_value
    )
    return bool(filled.all())


def _plain(values: np.ndarray) -> np.ndarray:
    """Array with text of fixed width, which every library accepts; arrays of other types are returned unchanged."""
    return np.array(values.tolist(), dtype=str) if values.dtype.kind == "T" else values
