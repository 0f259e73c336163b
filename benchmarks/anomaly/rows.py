"""Rows of the data: the injection that each galaxy gets, and the truth and measurements kept for it."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.anomaly.all_families import load_families
from benchmarks.anomaly.families import Family
from benchmarks.anomaly.inject import Injection, inject, truth_mask
from benchmarks.anomaly.scene import Host
from benchmarks.anomaly.simulated import plan
from benchmarks.anomaly.tiers import DataConfig
from cubeprep.augment import view_rng


def plan_rows(data: DataConfig, num_folds: int) -> pd.DataFrame:
    """Table of all rows: galaxies and their injections, which cycle through families and amplitudes."""
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
                # The amplitude also advances with the family; otherwise the copies of a galaxy would share it.
                name, level = names[turn % len(names)], (turn // len(names) + turn % len(names)) % num_levels
                wanted = np.nan if kind == "N" else data.amplitudes[level]
                full = f"{twin}+{name}-{level}"
                rows.append(
                    {"name": full, "twin": twin, "family": name, "kind": kind, "level": level, "wanted": wanted, **same}
                )
    return pd.DataFrame(rows).sort_values("fold", kind="stable", ignore_index=True)


def assign_folds(mangaids: Sequence[str], num_folds: int, seed: int) -> dict[str, tuple[int, int]]:
    """Fold and half of the fold of each object, by mangaid; repeat observations and copies stay together."""
    objects = sorted(set(mangaids), key=lambda name: hashlib.sha256(f"{seed}/fold/{name}".encode()).digest())
    return {name: (i % num_folds, i // num_folds % 2) for i, name in enumerate(objects)}


def injected(host: Host, row: dict[str, Any], families: dict[str, Family], seed: int) -> Injection:
    """Injection that a row of the plan describes; rows of the same family and level differ by their `draw`."""
    if not row["family"]:
        nothing = np.zeros_like(host.clean.flux)
        return Injection(host.clean, nothing, np.nan, reached=True, oracle=np.nan, oracle_clean=np.nan)
    rng = view_rng(seed, f"{row['twin']}/{row['family']}/{row.get('draw', 0)}", row["level"])
    return inject(host, families[row["family"]].draw(host, row["level"], rng), row["wanted"])


def truth(found: Injection) -> dict[str, np.ndarray]:
    """Truth of an injection in the form in which it is stored; see `dataset.Data.truth`."""
    snr2 = found.snr2
    return {
        "line_snr2": snr2.sum(axis=(1, 2, 3)).astype(np.float32),
        "spaxel_snr2": snr2.sum(axis=(0, 1)).astype(np.float32),
        "covered": (found.windows.mask == 0).any(axis=(0, 1)),
        "mask": np.packbits(truth_mask(snr2)),
    }


def measured(host: Host, found: Injection) -> dict[str, Any]:
    """Measured columns of a row; see `dataset.Data`."""
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
