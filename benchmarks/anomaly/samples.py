"""Training samples as window stores: galaxies of the other folds, some of which hold an anomaly."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.anomaly.dataset import Data, digest_of, identity, make_plan
from benchmarks.anomaly.tiers import Run
from cubeprep.augment import augment, view_rng
from cubeprep.store import SplitPlan, Windows, WindowStore

GALAXIES_PER_SHARD = 16
# Of each of the two stores that a worker reads: two workers stay below 8 GB at the survey tier.
CACHE_BYTES = 3 * 2**28


def training_store(data: Data, fold: int, run: Run) -> WindowStore:
    """Training sample for `fold`: splits `train`, contaminated and augmented, and `validation`, clean."""
    path = data.folder / f"train-{fold}-{run.contamination:g}-{run.seed}.zarr"
    chosen = choose(data, fold, run)
    views = data.tier.augment.num_views
    splits = {
        split: SplitPlan(
            part["name"].tolist(),
            part["mangaid"].tolist(),
            part["z"].tolist(),
            views if split == "train" else 1,
            min(GALAXIES_PER_SHARD, len(part)),
        )
        for split, part in chosen.groupby("split")
    }
    name = digest_of(
        [identity(data.tier), fold, run.model_dump(), data.tier.augment.model_dump(), data.tier.validation]
    )
    store = WindowStore.create_or_resume(str(path), make_plan(data.tier.data.windows, splits, name, data.tier))
    if not store.finished:
        found = _read(data, chosen)
        for split, plan in splits.items():
            for shard in range(plan.num_shards):
                names = [plan.plateifu[i] for i in plan.galaxies(shard)]
                store.write_shard(split, shard, _views([found[name] for name in names], plan.num_views, data, run))
        table = chosen[["name", "mangaid", "z", "split"]].rename(columns={"name": "plateifu"})
        store.finish(table.assign(status="accepted", code="", reason=""), {"galaxies": len(table)})
    return WindowStore.open(str(path))


def choose(data: Data, fold: int, run: Run) -> pd.DataFrame:
    """Rows of the training sample for a fold with their `split`; they contain no object of that fold."""
    rows = data.rows[data.rows["fold"] != fold]
    clean = rows[rows["family"] == ""].copy()
    objects = clean["mangaid"].drop_duplicates().sort_values()
    rng = np.random.default_rng([run.seed, fold, round(1e6 * run.contamination)])
    num_validation = max(round(data.tier.validation * len(objects)), 1)
    validation = set(np.random.default_rng([data.tier.data.seed, fold]).permutation(objects)[:num_validation])
    clean["split"] = np.where(clean["mangaid"].isin(validation), "validation", "train")
    train = clean.index[clean["split"] == "train"]
    anomalies = rows[rows["kind"] == "A"]
    for index in rng.choice(train, size=int(np.ceil(run.contamination * len(train))), replace=False):
        copies = anomalies[anomalies["twin"] == clean.loc[index, "twin"]]
        clean.loc[index, "name"] = copies["name"].iloc[int(rng.integers(len(copies)))]
    return clean


def _read(data: Data, chosen: pd.DataFrame) -> dict[str, Windows]:
    """Windows of the chosen rows, by name."""
    wanted, found = set(chosen["name"]), {}
    for fold in chosen["fold"].unique():
        store = WindowStore.open(data.store(int(fold)))
        for shard in range(store.num_shards("test")):
            windows = store.read_shard("test", shard)
            for i in np.flatnonzero(np.isin(windows.plateifu, list(wanted))):
                found[str(windows.plateifu[i])] = windows.select(np.array([i]))
    return found


def _views(galaxies: list[Windows], num_views: int, data: Data, run: Run) -> Windows:
    flux: list[np.ndarray] = []
    ivar: list[np.ndarray] = []
    mask: list[np.ndarray] = []
    names: list[str] = []
    for row in galaxies:
        observed = row.flux[0], row.ivar[0], row.mask[0]
        for view in range(num_views):
            rng = view_rng(run.seed, str(row.plateifu[0]), view)
            made = augment(*observed, data.tier.augment, rng) if view else observed
            for values, array in zip((flux, ivar, mask), made, strict=True):
                values.append(array)
            names.append(str(row.plateifu[0]))
    views = np.tile(np.arange(num_views), len(galaxies))
    return Windows(np.stack(flux), np.stack(ivar), np.stack(mask), np.array(names), views)


def cached(path: str | Path) -> "CachedStore":
    """Finished store that caches its shards in memory."""
    opened = CachedStore.open(str(path))
    assert isinstance(opened, CachedStore)
    return opened


class CachedStore(WindowStore):
    """Store that caches up to about `CACHE_BYTES` of shards in memory, since many detectors score the same galaxies."""

    def read_shard(self, split: str, shard: int) -> Windows:
        """Valid rows of one shard, from memory if it was read before."""
        cache: dict[tuple[str, int], Windows] = self.__dict__.setdefault("_shards", {})
        if (split, shard) in cache:
            return cache[split, shard]
        windows = super().read_shard(split, shard)
        kept = sum(part.flux.nbytes + part.ivar.nbytes + part.mask.nbytes for part in cache.values())
        if kept < CACHE_BYTES:
            cache[split, shard] = windows
        return windows
