"""The window store: sharded Zarr v3, the one thing that extraction and modeling share.

Layout, format version 1 (`docs/architecture.md` has it as a table):

    PATH/zarr.json               attribute `cubescout`: format version, identity, resolved config, code version
    PATH/{train,validation,test} one group a split; arrays `flux`, `ivar`, `mask` [row, line, sample, y, x] and
                                 coordinates per row (plateifu, mangaid, z, view, valid), line and sample
    PATH/records/SPLIT-N.json    what became of the galaxies of shard N; written after the shard, so it says "done"
    PATH/galaxies.parquet        one row a galaxy, also those set aside
    PATH/rejected.csv            the galaxies set aside, with reasons
    PATH/summary.json            counts; written last: a store without it is not finished

A row is one view of one galaxy. The views of a galaxy are neighbours and share its split and shard. A galaxy that was
set aside keeps its rows, all masked, with `valid` false.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import zarr
from fsspec.implementations.local import LocalFileSystem

from cubeprep.files import remove_partials
from cubeprep.layout import FORMAT_VERSION as FORMAT_VERSION
from cubeprep.layout import METADATA, encode_rows, store_objects
from cubeprep.layout import SplitPlan as SplitPlan
from cubeprep.layout import StorePlan as StorePlan
from cubeprep.masks import good_samples
from cubeprep.storage import filesystem, read_file, remove_file, storage_errors, write_file, zarr_store
from cubeprep.version import code_version

SPLITS = ("train", "validation", "test")
CONNECTIONS = 16
FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom spaxel)"


class StoreError(ValueError):
    """A window store that is missing, unfinished, of another format, or made from another configuration."""


@dataclass(frozen=True)
class Windows:
    """Rows of a store: windows around emission lines, one view of one galaxy a row.

    Attributes:
        flux: [row, line, sample, y, x] float32 in the array's `units`, `FLUX_UNIT` for spectra; NaN where masked.
        ivar: the same shape, inverse variance of `flux`; 0 where masked.
        mask: the same shape, uint8 bits of `masks.WINDOW_MASK_BITS`; 0 is good.
        plateifu: [row] the observation of each row.
        view: [row] 0 for the galaxy as observed, above for augmented copies.
    """

    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray
    plateifu: np.ndarray
    view: np.ndarray

    def __len__(self) -> int:
        return len(self.flux)

    @cached_property
    def good(self) -> np.ndarray:
        """[row, line, sample, y, x] bool: see `masks.good_samples`."""
        return good_samples(self.flux, self.ivar, self.mask)

    @property
    def observed(self) -> "Windows":
        """The galaxies as observed: the rows of view 0."""
        return self.select(self.view == 0)

    def select(self, rows: np.ndarray) -> "Windows":
        """The rows of a boolean or index array."""
        return Windows(self.flux[rows], self.ivar[rows], self.mask[rows], self.plateifu[rows], self.view[rows])


class WindowStore:
    """A store on a local path or a URL that fsspec knows, such as `s3://bucket/windows.zarr`."""

    def __init__(self, path: str, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        self._arrays: dict[tuple[str, str], zarr.Array] = {}
        self._observed: dict[str, tuple[str, int]] = {}
        self.attrs: Any = group.attrs["cubescout"]

    @classmethod
    def create_or_resume(cls, path: str, plan: StorePlan) -> "WindowStore":
        """Makes the store's metadata, or opens it if a store of the same identity is there.

        Raises:
            StoreError: another store is there, or something that is no store.
        """
        with storage_errors(path, writing=True):
            return cls._create_or_resume(path, plan)

    @classmethod
    def _create_or_resume(cls, path: str, plan: StorePlan) -> "WindowStore":
        fs, root = filesystem(path)
        if fs.exists(f"{root}/zarr.json"):
            store = cls._open(path, mode="r+")
            if store.identity != plan.identity:
                changed = _differences(store.attrs["config"], plan.config) or ["the list of galaxies or their files"]
                raise StoreError(
                    f"{path} holds a store of another configuration. It differs in: {'; '.join(changed)}. "
                    "Choose another store path, or delete this one."
                )
            if not store.attrs["created"]:
                cls._create(path, plan)
            return cls._open(path, mode="r+")
        if fs.exists(root) and fs.ls(root):
            raise StoreError(f"{path} exists and is no window store. Choose another store path.")
        cls._create(path, plan)
        return cls._open(path, mode="r+")

    @classmethod
    def open_unfinished(cls, path: str) -> "WindowStore":
        """Opens a store for writing its shards."""
        return cls._open(path, mode="r+")

    @classmethod
    def open(cls, path: str) -> "WindowStore":
        """Opens a finished store for reading.

        Raises:
            StoreError: there is none, it is not finished, or its format is another version's.
        """
        store = cls._open(path, mode="r")
        if not store.finished:
            raise StoreError(f"{path} is not finished: run `cubescout prepare` again, it goes on where it stopped.")
        return store

    @classmethod
    def _open(cls, path: str, mode: Literal["r", "r+"]) -> "WindowStore":
        try:
            with storage_errors(path):
                group = zarr.open_group(zarr_store(path), mode=mode, zarr_format=3)
        except FileNotFoundError as error:
            raise StoreError(f"{path}: no window store here. `cubescout prepare` makes one.") from error
        attrs = group.attrs.get("cubescout")
        found = attrs.get("format_version") if isinstance(attrs, dict) else None
        if found != FORMAT_VERSION:
            raise StoreError(f"{path}: store format {found}, this version of Cubescout reads {FORMAT_VERSION}.")
        return cls(path, group)

    @staticmethod
    def _create(path: str, plan: StorePlan) -> None:
        """Writes all metadata and coordinates; `created` is set last, and a store without it is made again."""
        objects = store_objects(plan, code_version())
        whole = objects.pop(METADATA)
        write_file(f"{path}/{METADATA}", store_objects(plan, code_version(), created=False)[METADATA])
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(write_file, (f"{path}/{name}" for name in objects), objects.values()))
        write_file(f"{path}/{METADATA}", whole)

    @property
    def identity(self) -> str:
        """Digest of the configuration, inputs and format that the store is made from."""
        return str(self.attrs["identity"])

    @property
    def line_names(self) -> list[str]:
        """[line] such as `Ha-6564`."""
        return list(self.attrs["line_names"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Lines, samples per line, spaxels a side."""
        return len(self.line_names), self.attrs["num_samples"], self.attrs["size"]

    @property
    def splits(self) -> list[str]:
        """The splits that hold galaxies."""
        return list(self.attrs["splits"])

    @property
    def finished(self) -> bool:
        """Whether every shard is whole and the summary written."""
        fs, root = filesystem(self.path)
        return bool(fs.exists(f"{root}/summary.json"))

    def coordinate(self, split: str, name: str) -> np.ndarray:
        """A coordinate array of a split: `plateifu`, `mangaid`, `z`, `view`, `valid`, `rest_wave`, `velocity_kms`."""
        with storage_errors(self.path):
            return _plain(np.asarray(self._array(split, name)[:]))

    def num_shards(self, split: str) -> int:
        """Shards of a split; each is one object per array."""
        flux = self._array(split, "flux")
        return -(-flux.shape[0] // self._rows_per_shard(split))

    def num_rows(self, split: str) -> int:
        """Rows of a split that hold a galaxy."""
        return int(self.coordinate(split, "valid").sum())

    def read_shard(self, split: str, shard: int) -> Windows:
        """The valid rows of one shard, whole: one request per array."""
        step = self._rows_per_shard(split)
        rows = slice(shard * step, (shard + 1) * step)
        windows = self._read(split, rows)
        valid = np.asarray(self._array(split, "valid")[rows], dtype=bool)
        return windows if valid.all() else windows.select(valid)

    def read_galaxy(self, plateifu: str) -> Windows:
        """The galaxy as observed (view 0), one row.

        Raises:
            KeyError: the store holds no such galaxy, or it was set aside.
        """
        if not self._observed:
            self._observed = self._observed_rows()
        if plateifu not in self._observed:
            raise KeyError(f"{plateifu}: not among the galaxies of {self.path}")
        split, row = self._observed[plateifu]
        return self._read(split, slice(row, row + 1))

    def _observed_rows(self) -> dict[str, tuple[str, int]]:
        """Split and row of each galaxy as observed."""
        found: dict[str, tuple[str, int]] = {}
        for split in self.splits:
            names = self.coordinate(split, "plateifu")
            rows = np.flatnonzero(self.coordinate(split, "valid") & (self.coordinate(split, "view") == 0))
            found |= {str(names[row]): (split, int(row)) for row in rows}
        return found

    def iter_galaxies(self) -> Iterator[tuple[str, Windows]]:
        """Every galaxy as observed (view 0), a shard at a time: pairs of split and windows."""
        for split in self.splits:
            for shard in range(self.num_shards(split)):
                observed = self.read_shard(split, shard).observed
                if len(observed):
                    yield split, observed

    def _read(self, split: str, rows: slice) -> Windows:
        names = ("flux", "ivar", "mask", "plateifu", "view")
        with storage_errors(self.path):
            flux, ivar, mask, plateifu, view = (np.asarray(self._array(split, name)[rows]) for name in names)
        return Windows(flux, ivar, mask, _plain(plateifu), view)

    def write_shard(self, split: str, shard: int, windows: Windows) -> None:
        """Writes one whole shard. Only one task may own a shard: a part of one would lose its other rows."""
        step = self._rows_per_shard(split)
        total = self._array(split, "flux").shape[0]
        rows = slice(shard * step, min((shard + 1) * step, total))
        if len(windows) != rows.stop - rows.start:
            raise ValueError(f"shard {split}/{shard} has {rows.stop - rows.start} rows, {len(windows)} were given")
        for name in ("flux", "ivar", "mask"):
            self._write(split, name, rows, getattr(windows, name))

    def write_record(self, split: str, shard: int, record: list[dict[str, Any]]) -> None:
        """Marks a shard as done, with what became of each of its galaxies."""
        self.write_file(_record_name(split, shard), json.dumps(record).encode())

    def reopen(self, shards: Sequence[tuple[str, int]]) -> None:
        """Takes a finished store for unfinished, and these shards for not done."""
        for name in ("summary.json", *(_record_name(split, shard) for split, shard in shards)):
            remove_file(f"{self.path}/{name}")

    def read_records(self) -> dict[tuple[str, int], list[dict[str, Any]]]:
        """The records of the shards that are done, by split and shard."""
        fs, root = filesystem(self.path)
        names = sorted(fs.glob(f"{root}/records/*.json"))
        contents = fs.cat(names) if names else {}
        records = {}
        for name in names:
            split, _, shard = Path(name).stem.rpartition("-")
            records[split, int(shard)] = json.loads(contents[name])
        return records

    def finish(self, galaxies: pd.DataFrame, summary: Mapping[str, Any]) -> None:
        """Writes which rows are valid, the tables, and last the summary; removes what killed writers left behind."""
        fs, root = filesystem(self.path)
        if isinstance(fs, LocalFileSystem):
            remove_partials(Path(root))
        accepted = set(galaxies.loc[galaxies["status"] == "accepted", "plateifu"])
        for split in self.splits:
            plateifu = self.coordinate(split, "plateifu")
            valid = np.array([name in accepted for name in plateifu], dtype=bool)
            self._write(split, "valid", slice(0, len(valid)), valid)
        self._observed = {}
        table = io.BytesIO()
        galaxies.to_parquet(table, index=False)
        self.write_file("galaxies.parquet", table.getvalue())
        rejected = galaxies.loc[galaxies["status"] == "rejected", ["plateifu", "mangaid", "z", "code", "reason"]]
        self.write_file("rejected.csv", rejected.to_csv(index=False).encode())
        self.write_file("summary.json", json.dumps(dict(summary), indent=1).encode())

    def galaxies(self) -> pd.DataFrame:
        """One row a galaxy: identifiers, position, split, status, reason, source file and its checksum."""
        return pd.read_parquet(io.BytesIO(self.read_file("galaxies.parquet")))

    def summary(self) -> dict[str, Any]:
        """Counts of a finished store."""
        return dict(json.loads(self.read_file("summary.json")))

    def read_file(self, name: str) -> bytes:
        """The bytes of a file beside the arrays."""
        return read_file(f"{self.path}/{name}")

    def write_file(self, name: str, content: bytes) -> None:
        """Writes a file beside the arrays: whole or not at all."""
        write_file(f"{self.path}/{name}", content)

    def _write(self, split: str, name: str, rows: slice, values: np.ndarray) -> None:
        """Writes the objects that hold some rows of an array, of which those rows must be all that is in them."""
        for key, content in encode_rows(self._array(split, name), rows, values).items():
            self.write_file(f"{split}/{name}/{key}", content)

    def _array(self, split: str, name: str) -> zarr.Array:
        """An array, whose metadata are read once and never change."""
        if (split, name) not in self._arrays:
            array = self._group[f"{split}/{name}"]
            assert isinstance(array, zarr.Array)
            self._arrays[split, name] = array
        return self._arrays[split, name]

    def _rows_per_shard(self, split: str) -> int:
        shards = self._array(split, "flux").shards
        assert shards is not None
        return int(shards[0])


def _record_name(split: str, shard: int) -> str:
    return f"records/{split}-{shard:05d}.json"


def _plain(values: np.ndarray) -> np.ndarray:
    """Text as an array of fixed width, which every library takes; anything else as it is."""
    return np.array(values.tolist(), dtype=str) if values.dtype.kind == "T" else values


def _differences(stored: Any, wanted: Any, where: str = "") -> list[str]:
    """The keys in which two configurations differ, with both values."""
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        keys = [*stored, *(key for key in wanted if key not in stored)]
        nested = (_differences(stored.get(key), wanted.get(key), f"{where}.{key}".strip(".")) for key in keys)
        return [difference for differences in nested for difference in differences]
    return [] if stored == wanted else [f"{where} (stored {stored!r}, now {wanted!r})"]
