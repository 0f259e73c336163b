"""The window store, a sharded Zarr v3 store: the interface between extraction and modeling.

Layout, format version 2 (also a table in `docs/architecture.md`):

    PATH/zarr.json               attribute `cubescout`: format version, identity, resolved config, code version
    PATH/{train,validation,test} one group per split; arrays `flux`, `ivar`, `mask` [row, line, sample, y, x] and
                                 `continuum`, `continuum_ivar` [galaxy, line, y, x] and `stars` [galaxy, y, x], unless
                                 the continuum was left in; coordinates per row (plateifu, mangaid, z, view, valid),
                                 line and sample
    PATH/records/SPLIT-N.json    outcome for each galaxy of shard N; written after the shard, so it marks it as done
    PATH/galaxies.parquet        one row per galaxy, rejected ones included
    PATH/rejected.csv            rejected galaxies with reasons
    PATH/summary.json            counts; written last: a store without it is unfinished

A row is one view of one galaxy. The views of a galaxy are consecutive rows of the same shard. A rejected galaxy keeps
its rows, fully masked, with `valid` false. Format 1 has no continuum; stores of it can be read, not resumed.
"""

import glob
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import zarr
from fsspec.implementations.local import LocalFileSystem

from cubeprep.csvtext import csv_text
from cubeprep.files import PARTIAL, remove_partials
from cubeprep.layout import CONTINUUM, METADATA, READABLE_VERSIONS, encode_rows, store_objects
from cubeprep.layout import FORMAT_VERSION as FORMAT_VERSION
from cubeprep.layout import SplitPlan as SplitPlan
from cubeprep.layout import StorePlan as StorePlan
from cubeprep.masks import good_samples
from cubeprep.storage import StorageError, filesystem, read_file, remove_file, storage_errors, write_file, zarr_store
from cubeprep.store_arrays import StoreArrays
from cubeprep.store_files import (
    NEW_STORE,
    RECORD,
    SUMMARY,
    check_attributes,
    parquet_bytes,
    parse_json,
    parse_table,
    record_name,
)
from cubeprep.store_files import NEW_TABLES as NEW_TABLES
from cubeprep.store_files import NoStoreError as NoStoreError
from cubeprep.store_files import OtherStoreError as OtherStoreError
from cubeprep.store_files import StoreError as StoreError
from cubeprep.survey import survey_facts
from cubeprep.version import code_version
from cubeprep.windows import Continuum

SPLITS = ("train", "validation", "test")
CONNECTIONS = 16
ELSEWHERE = "Choose another workspace or another path (prepare.store)"
OTHER_GALAXIES = "of other galaxies or files, and takes no new ones"
ROWS_PER_GROUP = 1024  # of galaxies.parquet, whose writer holds one group
TABLE_COLUMNS = ("plateifu", "mangaid", "z", "status", "code", "reason")
FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom spaxel)"


@dataclass(frozen=True)
class Windows:
    """Rows of a store: windows around emission lines, one view of one galaxy per row.

    Attributes:
        flux: [row, line, sample, y, x] float32 in the array's `units`, `FLUX_UNIT` for spectra; NaN where masked.
        ivar: inverse variance of `flux`, the same shape; 0 where masked.
        mask: uint8 bits of `masks.WINDOW_MASK_BITS`, the same shape; 0 is good.
        plateifu: [row] identifier of the observation.
        view: [row] 0 for the galaxy as observed, 1 and above for augmented views.
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
        """Mask [row, line, sample, y, x] of the usable samples; see `masks.good_samples`."""
        return good_samples(self.flux, self.ivar, self.mask)

    @property
    def observed(self) -> "Windows":
        """Rows of view 0, the galaxies as observed."""
        return self.select(self.view == 0)

    def select(self, rows: np.ndarray) -> "Windows":
        """Rows selected by a boolean or index array."""
        return Windows(self.flux[rows], self.ivar[rows], self.mask[rows], self.plateifu[rows], self.view[rows])


class WindowStore:
    """A window store at a local path or an fsspec URL such as `s3://bucket/windows.zarr`."""

    def __init__(self, path: str, group: zarr.Group) -> None:
        self.path = path
        self._observed: dict[str, tuple[str, int]] = {}
        self.attrs: Any = group.attrs["cubescout"]
        self._arrays = StoreArrays(path, group)

    @classmethod
    def create_or_resume(cls, path: str, plan: StorePlan) -> "WindowStore":
        """The store at `path`, open for writing; its metadata are created unless a store of the same identity exists.

        Raises:
            OtherStoreError: the path holds a store of another identity or format, or something else.
            StorageError: the service fails.
        """
        with storage_errors(path, writing=True):
            return cls._create_or_resume(path, plan)

    @classmethod
    def _create_or_resume(cls, path: str, plan: StorePlan) -> "WindowStore":
        fs, root = filesystem(path)
        if fs.exists(f"{root}/zarr.json"):
            store = cls._open(path, mode="r+")
            if store.attrs["format_version"] != FORMAT_VERSION:
                raise OtherStoreError(
                    f"{path} holds a store of format {store.attrs['format_version']}, which can be read but not "
                    f"resumed. {ELSEWHERE}, or delete this store."
                )
            if store.identity != plan.identity:
                changed = "; ".join(_differences(store.attrs["config"], plan.config))
                why = f"made from another configuration. It differs in: {changed}" if changed else OTHER_GALAXIES
                raise OtherStoreError(f"{path} holds a store {why}. {ELSEWHERE}, or delete this store.")
            if not store.attrs["created"]:
                cls._create(path, plan)
            return cls._open(path, mode="r+")
        if fs.exists(root) and not all(name.endswith(PARTIAL) for name in fs.ls(root, detail=False)):
            raise OtherStoreError(f"{path} exists and is not a window store. {ELSEWHERE}.")
        cls._create(path, plan)
        return cls._open(path, mode="r+")

    @classmethod
    def open_unfinished(cls, path: str) -> "WindowStore":
        """The store at `path`, finished or not, open for writing shards.

        Raises:
            StoreError: there is none, or its format is another version's.
        """
        return cls._open(path, mode="r+")

    @classmethod
    def open(cls, path: str) -> "WindowStore":
        """The finished store at `path`, open for reading.

        Raises:
            StoreError: there is none, it is not finished, or its format is another version's.
        """
        store = cls._open(path, mode="r")
        if not store.finished:
            raise StoreError(f"{path} is not finished. Run `cubescout prepare` again to resume it.")
        return store

    @classmethod
    def _open(cls, path: str, mode: Literal["r", "r+"]) -> "WindowStore":
        try:
            with storage_errors(path):
                group = zarr.open_group(zarr_store(path), mode=mode, zarr_format=3)
        except StorageError:
            raise
        except FileNotFoundError as error:
            raise NoStoreError(f"{path}: no window store here. `cubescout prepare` creates one.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # of Zarr, for metadata that are none
            raise StoreError(f"{path}/zarr.json: damaged ({error}). {NEW_STORE}") from error
        attrs: Any = group.attrs.get("cubescout")
        found = attrs.get("format_version") if isinstance(attrs, dict) else None
        if found not in READABLE_VERSIONS:
            known = " and ".join(map(str, READABLE_VERSIONS))
            raise StoreError(f"{path} has store format {found}; this version of Cubescout reads formats {known}.")
        check_attributes(attrs, path)
        return cls(path, group)

    @staticmethod
    def _create(path: str, plan: StorePlan) -> None:
        """Writes all metadata and coordinates; `created` is set last, so an interrupted creation is repeated."""
        objects = store_objects(plan, code_version())
        whole = objects.pop(METADATA)
        write_file(f"{path}/{METADATA}", store_objects(plan, code_version(), created=False)[METADATA])
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(write_file, (f"{path}/{name}" for name in objects), objects.values()))
        write_file(f"{path}/{METADATA}", whole)

    @property
    def identity(self) -> str:
        """Digest of the configuration, inputs and format from which the store is made."""
        return str(self.attrs["identity"])

    @property
    def line_names(self) -> list[str]:
        """Names of the lines, such as `Ha-6564`, in the order of the line axis."""
        return list(self.attrs["line_names"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of lines, samples per line, and side of the windows in spaxels."""
        return len(self.line_names), self.attrs["num_samples"], self.attrs["size"]

    @property
    def has_continuum(self) -> bool:
        """Whether the store keeps the continuum at each line."""
        return bool(self.attrs.get("continuum", False))

    @property
    def window_settings(self) -> dict[str, Any]:
        """Settings of `prepare` that decide what a sample of a window means, by key, the unit of the flux, and the side
        of a spaxel, arcsec.

        A model is of use only for windows made with the same ones. None stands for a setting that the store leaves out,
        and for a size that is known of single cubes alone.
        """
        prepare = self.attrs["config"].get("prepare", {})
        windows = prepare.get("windows", {})
        names = ["continuum", "sampling", "step_dex", "half_width_kms", "space"]
        # A setting of one way to fit a cube into the window has no meaning for the others.
        names += {"bin": ["bin_factor"], "scale-to-re": ["extent_re"]}.get(windows.get("space"), [])
        settings = {f"prepare.windows.{name}": windows.get(name) for name in names}
        settings["prepare.velocity.correct"] = prepare.get("velocity", {}).get("correct", False)
        size = survey_facts(self.attrs).spaxel_arcsec
        return settings | {"flux_unit": self.attrs["flux_unit"], "spaxel_arcsec": size and round(size, 6)}

    @property
    def splits(self) -> list[str]:
        """Names of the splits that hold galaxies."""
        return list(self.attrs["splits"])

    @property
    def finished(self) -> bool:
        """Whether all shards and the summary have been written."""
        fs, root = filesystem(self.path)
        return bool(fs.exists(f"{root}/summary.json"))

    def coordinate(self, split: str, name: str) -> np.ndarray:
        """Coordinate of a split: `plateifu`, `mangaid`, `z`, `view` or `valid` [row], `line` or `rest_wave` [line], or
        `velocity_kms` [sample].

        Raises:
            StoreError: it is damaged or missing.
        """
        return self._arrays.coordinate(split, name)

    def num_shards(self, split: str) -> int:
        """Number of shards of a split; a shard is one object per array."""
        flux = self._arrays.open(split, "flux")
        return -(-flux.shape[0] // self._arrays.rows_per_shard(split))

    def num_rows(self, split: str) -> int:
        """Number of valid rows of a split, those of galaxies that were not rejected."""
        return int(self.coordinate(split, "valid").sum())

    def read_shard(self, split: str, shard: int) -> Windows:
        """Valid rows of one shard, read with one request per array."""
        step = self._arrays.rows_per_shard(split)
        rows = slice(shard * step, (shard + 1) * step)
        windows = self._read(split, rows)
        valid = self._arrays.coordinate(split, "valid", rows).astype(bool)
        return windows if valid.all() else windows.select(valid)

    def read_galaxy(self, plateifu: str) -> Windows:
        """The galaxy as observed (view 0), one row.

        Raises:
            KeyError: the store holds no such galaxy, or it was rejected.
        """
        if not self._observed:
            self._observed = self._observed_rows()
        if plateifu not in self._observed:
            raise KeyError(f"{plateifu}: not among the accepted galaxies of {self.path}")
        split, row = self._observed[plateifu]
        return self._read(split, slice(row, row + 1))

    def _observed_rows(self) -> dict[str, tuple[str, int]]:
        """Split and row of view 0 of each accepted galaxy, by plateifu."""
        found: dict[str, tuple[str, int]] = {}
        for split in self.splits:
            names = self.coordinate(split, "plateifu")
            rows = np.flatnonzero(self.coordinate(split, "valid") & (self.coordinate(split, "view") == 0))
            found |= {str(names[row]): (split, int(row)) for row in rows}
        return found

    def iter_galaxies(self) -> Iterator[tuple[str, Windows]]:
        """Yields all galaxies as observed (view 0), one shard at a time, as pairs of split and windows."""
        for split in self.splits:
            for shard in range(self.num_shards(split)):
                observed = self.read_shard(split, shard).observed
                if len(observed):
                    yield split, observed

    def _read(self, split: str, rows: slice) -> Windows:
        flux, ivar, mask = (self._arrays.rows(split, name, rows) for name in ("flux", "ivar", "mask"))
        plateifu, view = (self._arrays.coordinate(split, name, rows) for name in ("plateifu", "view"))
        return Windows(flux, ivar, mask, plateifu, view)

    def write_shard(self, split: str, shard: int, windows: Windows) -> None:
        """Writes one complete shard. Each shard belongs to one task: writing part of one would erase its other rows.

        Raises:
            ValueError: `windows` has another number of rows than the shard.
            OSError: the shard cannot be written.
        """
        step = self._arrays.rows_per_shard(split)
        total = self._arrays.open(split, "flux").shape[0]
        rows = slice(shard * step, min((shard + 1) * step, total))
        if len(windows) != rows.stop - rows.start:
            raise ValueError(f"shard {split}/{shard} has {rows.stop - rows.start} rows, {len(windows)} were given")
        for name in ("flux", "ivar", "mask"):
            self._write(split, name, rows, getattr(windows, name))

    def write_continuum(self, split: str, shard: int, continua: Sequence[Continuum]) -> None:
        """Writes the continua of the galaxies of one complete shard.

        Raises:
            OSError: they cannot be written.
        """
        start = shard * self.attrs["splits"][split]["galaxies_per_shard"]
        rows = slice(start, start + len(continua))
        stacked = (np.stack([getattr(each, name) for each in continua]) for name in ("flux", "ivar", "stars"))
        for name, values in zip(CONTINUUM, stacked, strict=True):
            self._write(split, name, rows, values.astype(self._arrays.open(split, name).dtype))

    def read_continuum(self, split: str, shard: int) -> list[Continuum]:
        """Continua of the valid galaxies of one shard, in the order of their rows.

        Raises:
            StoreError: the store has none, or the shard is damaged or missing.
        """
        if not self.has_continuum:
            raise StoreError(f"{self.path} holds no continuum: it has store format 1, or the continuum was left in.")
        views = self.attrs["splits"][split]["num_views"]
        step = self.attrs["splits"][split]["galaxies_per_shard"]
        galaxies = slice(shard * step, (shard + 1) * step)
        flux, ivar, stars = (self._arrays.rows(split, name, galaxies) for name in CONTINUUM)
        valid = self.coordinate(split, "valid")[::views][galaxies]
        return [Continuum(flux[i], ivar[i], stars[i] > 0) for i in np.flatnonzero(valid)]

    def write_record(self, split: str, shard: int, record: list[dict[str, Any]]) -> None:
        """Marks a shard as done and records the outcome for each of its galaxies."""
        self.write_file(record_name(split, shard), json.dumps(record).encode())

    def reopen(self, shards: Sequence[tuple[str, int]]) -> None:
        """Marks a finished store as unfinished and the given (split, shard) pairs as not done."""
        for name in ("summary.json", *(record_name(split, shard) for split, shard in shards)):
            remove_file(f"{self.path}/{name}")

    def read_records(self) -> dict[tuple[str, int], list[dict[str, Any]]]:
        """Records of the shards that are done, by split and shard."""
        return {key: record for records in self.iter_records(CONNECTIONS) for key, record in records.items()}

    def iter_records(self, number: int, only: str = "*") -> Iterator[dict[tuple[str, int], list[dict[str, Any]]]]:
        """Yields the records of the shards that are done, by split and shard, `number` at a time.

        Args:
            number: most records at a time.
            only: a split; default: all.

        Raises:
            StoreError: one of them is damaged.
        """
        fs, root = filesystem(self.path)
        again = "Delete it and summary.json, and run `cubescout prepare` again."
        # A path may hold brackets, which are no pattern.
        found = sorted(fs.glob(f"{glob.escape(root)}/records/{only}-*.json"))
        for start in range(0, len(found), number):
            names = found[start : start + number]
            contents = fs.cat(list(map(glob.escape, names)))
            parts = {name: Path(name).stem.rpartition("-") for name in names}
            yield {
                (split, int(shard)): parse_json(contents[name], RECORD, name, again)
                for name, (split, _, shard) in parts.items()
            }

    def finish(self, galaxies: pd.DataFrame | Iterable[pd.DataFrame], summary: Mapping[str, Any]) -> None:
        """Writes the tables, which rows are valid, and last the summary; removes leftovers of killed writers.

        Args:
            galaxies: one row per galaxy, with at least plateifu, mangaid, z, status (`accepted` or `rejected`), code
                and reason; whole, or groups of rows with the same columns and types, of which one is held at a time.
            summary: counts, as JSON values.
        """
        fs, root = filesystem(self.path)
        if isinstance(fs, LocalFileSystem):
            remove_partials(Path(root))
        accepted: set[str] = set()
        rejected: list[pd.DataFrame] = []

        def groups() -> Iterator[pd.DataFrame]:
            for group in [galaxies] if isinstance(galaxies, pd.DataFrame) else galaxies:
                usable = group["status"] == "accepted"
                accepted.update(group.loc[usable, "plateifu"])
                rejected.append(group.loc[~usable, ["plateifu", "mangaid", "z", "code", "reason"]])
                yield group

        self.write_file("galaxies.parquet", parquet_bytes(groups(), ROWS_PER_GROUP))
        self.write_file("rejected.csv", csv_text(pd.concat(rejected, ignore_index=True)).encode())
        for split in self.splits:
            plateifu = self.coordinate(split, "plateifu")
            valid = np.array([name in accepted for name in plateifu], dtype=bool)
            self._write(split, "valid", slice(0, len(valid)), valid)
        self._observed = {}
        self.write_file("summary.json", json.dumps(dict(summary), indent=1).encode())

    def galaxies(self) -> pd.DataFrame:
        """Table with one row per galaxy: identifiers, position, split, status, reason, source file and its checksum.

        Raises:
            StoreError: it is damaged or missing.
        """
        return parse_table(self._read_made("galaxies.parquet"), TABLE_COLUMNS, f"{self.path}/galaxies.parquet")

    def summary(self) -> dict[str, Any]:
        """Counts of a finished store.

        Raises:
            StoreError: the file with them is damaged.
        """
        again = "Delete it and run `cubescout prepare` again."
        found: dict[str, Any] = parse_json(self.read_file("summary.json"), SUMMARY, f"{self.path}/summary.json", again)
        return found

    def _read_made(self, name: str) -> bytes:
        try:
            return self.read_file(name)
        except FileNotFoundError as error:
            raise StoreError(f"{self.path}/{name}: missing. {NEW_TABLES}") from error

    def read_file(self, name: str) -> bytes:
        """Content of a file of the store other than its arrays."""
        return read_file(f"{self.path}/{name}")

    def write_file(self, name: str, content: bytes) -> None:
        """Writes a file of the store other than its arrays, completely or not at all."""
        write_file(f"{self.path}/{name}", content)

    def _write(self, split: str, name: str, rows: slice, values: np.ndarray) -> None:
        """Writes the objects that hold the given rows of an array; the objects must hold no other rows."""
        for key, content in encode_rows(self._arrays.open(split, name), rows, values).items():
            self.write_file(f"{split}/{name}/{key}", content)


def _differences(stored: Any, wanted: Any, where: str = "") -> list[str]:
    """Keys in which two configurations differ, each with both values."""
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        keys = [*stored, *(key for key in wanted if key not in stored)]
        nested = (_differences(stored.get(key), wanted.get(key), f"{where}.{key}".strip(".")) for key in keys)
        return [difference for differences in nested for difference in differences]
    return [] if stored == wanted else [f"{where} (stored {stored!r}, now {wanted!r})"]
