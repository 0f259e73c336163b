"""The benchmark's data: window stores of clean galaxies and injected copies, the truth, and training samples.

Layout below a folder named after a digest of configuration and code:

    fold-K.zarr            `WindowStore` whose split `test` holds the galaxies of fold K and their injected copies
    truth/fold-K-N.npz     for each row of shard N: exact mask, (S/N)^2 per line and per spaxel, covered spaxels
    train-K-C-S.zarr       training sample for fold K: splits `train` (fraction C contaminated, seed S) and `validation`
    real-DIGEST.npz, .parquet  windows and rows of real cubes and their injected copies, by a digest of their files

A rerun creates only what is missing.
"""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.anomaly.all_families import load_families
from benchmarks.anomaly.pool import run_all
from benchmarks.anomaly.real import real_rows
from benchmarks.anomaly.rows import injected, measured, plan_rows, truth
from benchmarks.anomaly.scene import Host
from benchmarks.anomaly.simulated import make_source, plan
from benchmarks.anomaly.tiers import DataConfig, Tier
from cubeprep.store import FLUX_UNIT, SplitPlan, StorePlan, Windows, WindowStore
from cubeprep.windows import WindowConfig

ROOT = Path(__file__).parents[2]
DATA_CODE = ("cubeprep/**/*.py", "cubeprep/**/*.npz", *(f"benchmarks/anomaly/{name}.py" for name in (
    "scene", "simulated", "families", "light", "anomalies", "artefacts", "nuisances", "inject", "rows", "dataset",
    "real",
)))  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Data on disk.

    Attributes:
        folder: folder with the layout of this module.
        tier: the tier that the data belong to.
        rows: rows of all stores, in order, with `fold`, name, twin, mangaid, family (empty: clean), kind, level,
            intended (`wanted`) and measured `snr`, `reached`, `oracle`, `oracle_clean`, and the nuisances flux,
            median_snr and size.
        real_digest: of the files of the real cubes; empty without real cubes.
    """

    folder: Path
    tier: Tier
    rows: pd.DataFrame
    real_digest: str = ""

    def store(self, fold: int) -> str:
        """Path of the store with the galaxies of a fold and their copies."""
        return str(self.folder / f"fold-{fold}.zarr")

    def real(self) -> tuple[Windows, pd.DataFrame] | None:
        """Windows and rows of the real cubes; None if there are no real cubes."""
        if not self.real_digest:
            return None
        path = self.folder / f"real-{self.real_digest}"
        rows = pd.read_parquet(f"{path}.parquet")
        with np.load(f"{path}.npz") as found:
            arrays = [found[name] for name in ("flux", "ivar", "mask")]
        names = rows["name"].to_numpy(dtype=str)
        return Windows(*arrays, names, np.zeros(len(names), dtype=int)), rows

    def truth(self, fold: int) -> dict[str, np.ndarray]:
        """Truth of a fold: `line_snr2` [row, line], `spaxel_snr2` and `covered` [row, y, x], and the exact `mask`
        [row, line, sample, y, x].
        """
        parts = [np.load(path) for path in sorted((self.folder / "truth").glob(f"fold-{fold}-*.npz"))]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].files}
        windows = self.tier.data.windows
        shape = (len(windows.line_list), windows.num_samples, windows.size, windows.size)
        bits = np.unpackbits(found["mask"], axis=1, count=int(np.prod(shape)))
        return found | {"mask": bits.reshape(-1, *shape).astype(bool)}


class ShardTask(NamedTuple):
    """Everything that a worker needs to make one shard of a fold."""

    folder: str
    data: dict[str, Any]
    fold: int
    shard: int
    rows: list[dict[str, Any]]


def prepare_data(tier: Tier, work: Path, num_workers: int, real_root: Path | None = None) -> Data:
    """Data of a tier; only parts missing from earlier runs are made.

    Args:
        tier: sizes and configuration.
        work: folder below which the data are written.
        num_workers: number of processes.
        real_root: folder with real survey files; None leaves real cubes out.
    """
    folder = work / f"data-{identity(tier)[:12]}"
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    rows = plan_rows(tier.data, tier.num_folds)
    tasks: list[ShardTask] = []
    values = tier.data.model_dump(mode="json")
    for fold in range(tier.num_folds):
        mine = rows[rows["fold"] == fold]
        store = WindowStore.create_or_resume(str(folder / f"fold-{fold}.zarr"), _store_plan(tier, mine, f"fold-{fold}"))
        done = store.read_records()
        for shard, start in enumerate(range(0, len(mine), _rows_per_shard(tier.data))):
            if ("test", shard) not in done:
                part = mine.iloc[start : start + _rows_per_shard(tier.data)].to_dict("records")
                tasks.append(ShardTask(str(folder), values, fold, shard, part))
    for _ in run_all(make_shard, tasks, num_workers):
        pass
    real_digest = _make_real(tier.data, folder, real_root) if real_root else ""
    return Data(folder, tier, _finish(folder, tier, rows), real_digest)


def _make_real(data: DataConfig, folder: Path, root: Path) -> str:
    """Windows and rows of the real cubes below a folder, unless they are there; returns the digest in their names."""
    files = sorted((str(path.relative_to(root)), path.stat().st_size) for path in root.rglob("*") if path.is_file())
    digest = digest_of(files)[:12]
    path = folder / f"real-{digest}"
    if not path.with_suffix(".parquet").exists():
        with tempfile.TemporaryDirectory() as scratch:
            windows, rows = real_rows(data, root, Path(scratch))
        np.savez(path.with_suffix(".npz"), flux=windows.flux, ivar=windows.ivar, mask=windows.mask)
        rows.to_parquet(path.with_suffix(".parquet"))
    return digest


def identity(tier: Tier) -> str:
    """Digest of configuration and code; data made by other code are never reused."""
    return digest_of([tier.data.model_dump(mode="json"), tier.num_folds, code_digest(DATA_CODE)])


def digest_of(value: Any) -> str:
    """sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def code_digest(patterns: tuple[str, ...]) -> str:
    """sha256 of source files."""
    paths = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def bytes_digest(folder: Path) -> str:
    """sha256 of all pixels and truths on disk."""
    found = hashlib.sha256()
    chunks = [path for path in folder.glob("fold-*.zarr/test/*/c/**/*") if path.is_file()]
    for path in sorted([*chunks, *(folder / "truth").glob("*.npz"), *folder.glob("real.npz")]):
        found.update(str(path.relative_to(folder)).encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def make_shard(task: ShardTask) -> None:
    """Makes one shard of a fold, its truth, then its record."""
    data = DataConfig.model_validate(task.data)
    observations, families = plan(data.simulate, data.seed), load_families()
    windows, truths, records = [], [], []
    host = None
    for row in task.rows:
        if host is None or host.source.plateifu != row["twin"]:
            item = observations[row["galaxy"]]
            source = make_source(item, data.simulate, data.seed, data.windows.size, data.bin_factor)
            host = Host(source, data.windows)
        found = injected(host, row, families, data.seed)
        windows.append(found.windows)
        truths.append(truth(found))
        records.append({"plateifu": row["name"], "code": "", "reason": "", **measured(host, found), **row})
    arrays = (np.stack([getattr(part, name) for part in windows]) for name in ("flux", "ivar", "mask"))
    names = np.array([row["name"] for row in task.rows])
    store = WindowStore.open_unfinished(f"{task.folder}/fold-{task.fold}.zarr")
    store.write_shard("test", task.shard, Windows(*arrays, names, np.zeros(len(names), dtype=int)))
    path = Path(task.folder) / "truth" / f"fold-{task.fold}-{task.shard:05d}.npz"
    np.savez(path, **{name: np.stack([truth[name] for truth in truths]) for name in truths[0]})
    store.write_record("test", task.shard, records)


def _rows_per_shard(data: DataConfig) -> int:
    return data.galaxies_per_shard * (1 + sum(data.copies.values()))


def _store_plan(tier: Tier, rows: pd.DataFrame, name: str) -> StorePlan:
    split = SplitPlan(
        rows["name"].tolist(),
        rows["mangaid"].tolist(),
        rows["z"].tolist(),
        1,
        min(_rows_per_shard(tier.data), len(rows)),
    )
    return make_plan(tier.data.windows, {"test": split}, digest_of([identity(tier), name]), tier)


def make_plan(windows: WindowConfig, splits: dict[str, SplitPlan], name: str, tier: Tier) -> StorePlan:
    """Plan of one of the benchmark's stores."""
    lines = windows.line_list
    names, waves = [line.name for line in lines], [line.rest_wave for line in lines]
    config = {"benchmark": tier.data.model_dump(mode="json")}
    return StorePlan(names, waves, windows.velocity_kms, windows.size, FLUX_UNIT, splits, name, config)


def _finish(folder: Path, tier: Tier, rows: pd.DataFrame) -> pd.DataFrame:
    """Measured rows of all folds; also finishes stores whose shards are complete."""
    tables = []
    for fold in range(tier.num_folds):
        store = WindowStore.open_unfinished(str(folder / f"fold-{fold}.zarr"))
        records = store.read_records()
        table = pd.DataFrame([row for key in sorted(records) for row in records[key]])
        assert table["name"].tolist() == rows.loc[rows["fold"] == fold, "name"].tolist()
        if not store.finished:
            accepted = table[["name", "mangaid", "z"]].rename(columns={"name": "plateifu"})
            store.finish(accepted.assign(status="accepted", code="", reason=""), {"galaxies": len(table)})
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
