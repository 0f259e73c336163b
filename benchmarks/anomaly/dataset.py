"""The benchmark's data: window stores of clean galaxies and injected copies, the truth, and training samples.

Below a folder whose name says what decides its bytes:

    fold-K.zarr            a `WindowStore`; split `test` holds the galaxies of fold K and their injected copies
    truth/fold-K-N.npz     of each row of shard N: the exact mask, (S/N)^2 per line and per spaxel, covered spaxels
    train-K-C-S.zarr       what models for fold K learn from: splits `train` and `validation`, contaminated by C, seed S

A rerun makes only what is missing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.anomaly.families import load_families
from benchmarks.anomaly.inject import Injection, inject, truth_mask
from benchmarks.anomaly.pool import run_all
from benchmarks.anomaly.scene import Host
from benchmarks.anomaly.simulated import make_source, plan
from benchmarks.anomaly.tiers import DataConfig, Tier
from cubeprep.augment import view_rng
from cubeprep.store import FLUX_UNIT, SplitPlan, StorePlan, Windows, WindowStore
from cubeprep.windows import WindowConfig

ROOT = Path(__file__).parents[2]
DATA_CODE = ("cubeprep/**/*.py", *(f"benchmarks/anomaly/{name}.py" for name in (
    "scene", "simulated", "families", "anomalies", "artefacts", "nuisances", "inject", "dataset",
)))  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Data on disk.

    Attributes:
        folder: see the module.
        tier: what it was made for.
        rows: one a row of all stores, in order, with `fold`: name, twin, mangaid, family (empty: clean), kind, level,
            wanted and measured `snr`, `reached`, `oracle`, `oracle_clean`, and the nuisances flux, median_snr, size.
    """

    folder: Path
    tier: Tier
    rows: pd.DataFrame

    def store(self, fold: int) -> str:
        """Path of the galaxies of a fold and their copies."""
        return str(self.folder / f"fold-{fold}.zarr")

    def truth(self, fold: int) -> dict[str, np.ndarray]:
        """Of a fold: `line_snr2` [row, line], `spaxel_snr2`, `covered` [row, y, x], exact `mask` [row, ...]."""
        parts = [np.load(path) for path in sorted((self.folder / "truth").glob(f"fold-{fold}-*.npz"))]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].files}
        windows = self.tier.data.windows
        shape = (len(windows.line_list), windows.num_samples, windows.size, windows.size)
        bits = np.unpackbits(found["mask"], axis=1, count=int(np.prod(shape)))
        return found | {"mask": bits.reshape(-1, *shape).astype(bool)}


class ShardTask(NamedTuple):
    """All that one worker needs for one shard of a fold."""

    folder: str
    data: dict[str, Any]
    fold: int
    shard: int
    rows: list[dict[str, Any]]


def prepare_data(tier: Tier, work: Path, num_workers: int) -> Data:
    """Makes the stores of all folds, or goes on where an earlier run stopped."""
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
    return Data(folder, tier, _finish(folder, tier, rows))


def identity(tier: Tier) -> str:
    """Digest of configuration and code, so that no data of other code are taken up."""
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
    """sha256 of every pixel and every truth on disk, file by file."""
    found = hashlib.sha256()
    chunks = [path for path in folder.glob("fold-*.zarr/test/*/c/**/*") if path.is_file()]
    for path in sorted([*chunks, *(folder / "truth").glob("*.npz")]):
        found.update(str(path.relative_to(folder)).encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def plan_rows(data: DataConfig, num_folds: int) -> pd.DataFrame:
    """Which galaxy gets which injection at which amplitude: families in turn, then amplitudes; folds by object."""
    families, num_levels = load_families(), len(data.amplitudes)
    observations = plan(data.simulate, data.seed)
    fold_of = assign_folds([item.target.mangaid for item in observations], num_folds, data.seed)
    rows: list[dict[str, Any]] = []
    for number, item in enumerate(observations):
        fold, half = fold_of[item.target.mangaid]
        same = {"galaxy": number, "mangaid": item.target.mangaid, "z": item.galaxy.z, "fold": fold, "half": half}
        twin = item.target.plateifu
        rows.append({"name": twin, "twin": twin, "family": "", "kind": "", "level": -1, "wanted": np.nan, **same})
        for kind, copies in data.copies.items():
            names = [family.name for family in families.values() if family.kind == kind]
            for turn in range(number * copies, (number + 1) * copies):
                name, level = names[turn % len(names)], turn // len(names) % num_levels
                wanted = np.nan if kind == "N" else data.amplitudes[level]
                full = f"{twin}+{name}-{level}"
                rows.append(
                    {"name": full, "twin": twin, "family": name, "kind": kind, "level": level, "wanted": wanted, **same}
                )
    return pd.DataFrame(rows).sort_values("fold", kind="stable", ignore_index=True)


def assign_folds(mangaids: Sequence[str], num_folds: int, seed: int) -> dict[str, tuple[int, int]]:
    """Fold, and half of the fold, of each object: repeat observations and copies stay together."""
    objects = sorted(set(mangaids), key=lambda name: hashlib.sha256(f"{seed}/fold/{name}".encode()).digest())
    return {name: (i % num_folds, i // num_folds % 2) for i, name in enumerate(objects)}


def make_shard(task: ShardTask) -> None:
    """Makes one shard of a fold, its truth, then its record."""
    data = DataConfig.model_validate(task.data)
    observations, families = plan(data.simulate, data.seed), load_families()
    windows, truths, measured = [], [], []
    host = None
    for row in task.rows:
        if host is None or host.source.plateifu != row["twin"]:
            item = observations[row["galaxy"]]
            source = make_source(item, data.simulate, data.seed, data.windows.size, data.bin_factor)
            host = Host(source, data.windows)
        found = _injected(host, row, families, data.seed)
        windows.append(found.windows)
        truths.append(_truth(found))
        measured.append(_measured(host, found) | row)
    arrays = (np.stack([getattr(part, name) for part in windows]) for name in ("flux", "ivar", "mask"))
    names = np.array([row["name"] for row in task.rows])
    store = WindowStore.open_unfinished(f"{task.folder}/fold-{task.fold}.zarr")
    store.write_shard("test", task.shard, Windows(*arrays, names, np.zeros(len(names), dtype=int)))
    path = Path(task.folder) / "truth" / f"fold-{task.fold}-{task.shard:05d}.npz"
    np.savez(path, **{name: np.stack([truth[name] for truth in truths]) for name in truths[0]})
    store.write_record("test", task.shard, measured)


def _injected(host: Host, row: dict[str, Any], families: dict[str, Any], seed: int) -> Injection:
    if not row["family"]:
        nothing = np.zeros_like(host.clean.flux)
        return Injection(host.clean, nothing, np.nan, reached=True, oracle=np.nan, oracle_clean=np.nan)
    rng = view_rng(seed, f"{row['twin']}/{row['family']}", row["level"])
    return inject(host, families[row["family"]].draw(host, row["level"], rng), row["wanted"])


def _truth(found: Injection) -> dict[str, np.ndarray]:
    snr2 = found.snr2
    return {
        "line_snr2": snr2.sum(axis=(1, 2, 3)).astype(np.float32),
        "spaxel_snr2": snr2.sum(axis=(0, 1)).astype(np.float32),
        "covered": (found.windows.mask == 0).any(axis=(0, 1)),
        "mask": np.packbits(truth_mask(snr2)),
    }


def _measured(host: Host, found: Injection) -> dict[str, Any]:
    good = found.windows.mask == 0
    flux, ivar = found.windows.flux[good], found.windows.ivar[good]
    return {
        "snr": found.snr,
        "reached": found.reached,
        "oracle": found.oracle,
        "oracle_clean": found.oracle_clean,
        "flux": float(flux.sum(dtype=np.float64)),
        "median_snr": float(np.median(flux * np.sqrt(ivar))) if good.any() else np.nan,
        "size": int(good.any(axis=(0, 1)).sum()),
        "re_arcsec": host.source.re_arcsec,
    }


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
    """The metadata of one of the benchmark's stores."""
    lines = windows.line_list
    names, waves = [line.name for line in lines], [line.rest_wave for line in lines]
    config = {"benchmark": tier.data.model_dump(mode="json")}
    return StorePlan(names, waves, windows.velocity_kms, windows.size, FLUX_UNIT, splits, name, config)


def _finish(folder: Path, tier: Tier, rows: pd.DataFrame) -> pd.DataFrame:
    """The measured rows of all folds; stores that are whole get their tables."""
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
