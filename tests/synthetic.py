"""Small stores of synthetic galaxies, written with the store's own functions, for tests that need no FITS."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.lines import PAPER_LINES
from cubeprep.store import FLUX_UNIT, SplitPlan, StorePlan, Windows, WindowStore


def synthetic_windows(rng: np.random.Generator, num_rows: int, shape: tuple[int, int, int]) -> Windows:
    """Rotating discs: Gaussian lines whose velocity changes over x; corners outside, a few samples masked."""
    num_lines, num_samples, size = shape
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = np.hypot(x, y) / size
    sample = np.arange(num_samples) - (num_samples - 1) / 2
    brightness = rng.lognormal(0.0, 0.5, (num_rows, num_lines, 1, 1, 1)).astype(np.float32)
    spin = rng.uniform(-3, 3, (num_rows, 1, 1, 1, 1))
    profile = np.exp(-0.5 * ((sample[:, None, None] - spin * x / size) / 1.2) ** 2)
    sigma = 0.05
    flux = brightness * profile * np.exp(-radius / 0.25) + rng.normal(
        0, sigma, (num_rows, num_lines, num_samples, size, size)
    )
    mask = np.zeros(flux.shape, dtype=np.uint8)
    mask[..., radius > 0.55] = 4
    mask[rng.random(flux.shape) < 0.01] |= 1
    flux = np.where(mask > 0, np.nan, flux).astype(np.float32)
    ivar = np.where(mask > 0, 0, 1 / sigma**2).astype(np.float32)
    names = np.array([f"1-{row}" for row in range(num_rows)])
    return Windows(flux, ivar, mask, names, np.zeros(num_rows, dtype=np.int32))


def synthetic_store(
    path: Path,
    *,
    num_train: int = 12,
    num_validation: int = 4,
    num_views: int = 2,
    shape: tuple[int, int, int] = (19, 10, 32),
    galaxies_per_shard: int = 4,
    seed: int = 0,
    repeats: Mapping[int, int] | None = None,
    survey_facts: Mapping[str, Any] | None = None,
) -> WindowStore:
    """A finished store with splits train and validation; the last galaxy of train was set aside.

    In each split, galaxy `i` of `repeats` is another observation of galaxy `repeats[i]`. The store
    records `survey_facts`; by default none, as those of earlier versions.
    """
    rng = np.random.default_rng(seed)
    num_lines, num_samples, size = shape
    counts = {"train": (num_train, num_views), "validation": (num_validation, 1)}
    splits = {
        name: SplitPlan(
            plateifu=[f"{1000 + len(name)}-{1900 + i}" for i in range(count)],
            mangaid=[f"1-{len(name)}{(repeats or {}).get(i, i)}" for i in range(count)],
            z=list(rng.uniform(0.01, 0.08, count)),
            num_views=views,
            galaxies_per_shard=galaxies_per_shard,
        )
        for name, (count, views) in counts.items()
    }
    plan = StorePlan(
        line_names=[line.name for line in PAPER_LINES[:num_lines]],
        rest_wave=[line.rest_wave for line in PAPER_LINES[:num_lines]],
        velocity_kms=(np.arange(num_samples) - (num_samples - 1) / 2) * 69.0,
        size=size,
        flux_unit=FLUX_UNIT,
        splits=splits,
        identity=f"synthetic-{seed}",
        config={"seed": seed},
        survey_facts=survey_facts or {},
    )
    store = WindowStore.create_or_resume(str(path), plan)
    table = []
    for name, split in splits.items():
        for shard in range(split.num_shards):
            galaxies = split.galaxies(shard)
            store.write_shard(name, shard, synthetic_windows(rng, len(galaxies) * split.num_views, shape))
            store.write_record(name, shard, [])
        table += [
            {
                "plateifu": plateifu,
                "mangaid": split.mangaid[i],
                "z": split.z[i],
                "z_used": split.z[i] + 1e-3,
                "split": name,
                "status": "accepted",
                "code": "",
                "reason": "",
            }
            for i, plateifu in enumerate(split.plateifu)
        ]
    table[num_train - 1] |= {"status": "rejected", "code": "unreadable", "reason": "made so"}
    store.finish(pd.DataFrame(table), {"accepted": len(table) - 1, "rejected": 1})
    return store
