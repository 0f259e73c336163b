"""From a survey to a window store: plan the rows, extract each shard, finish with tables and a summary.

Everything about a store but the pixels is known before the first cube is read, so that shards are independent of each
other: a task reads the galaxies of one shard, writes that shard whole, and then its record. A rerun does only the
shards that have no record.
"""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from cubeprep.augment import AugmentConfig, augment, view_rng
from cubeprep.cluster import DaskConfig, run_tasks
from cubeprep.config import Config
from cubeprep.cube import Rejected, Target
from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.store import FORMAT_VERSION, SPLITS, SplitPlan, StorePlan, Windows, WindowStore
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.windows import LineWindows, WindowConfig, check_grid, extract_windows

logger = logging.getLogger(__name__)


class SplitConfig(Config):
    """Shares of the galaxies; a galaxy's repeat observations (same mangaid) share its split."""

    validation: float = Field(0.15, ge=0, lt=1)
    test: float = Field(0.15, ge=0, lt=1)

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> "SplitConfig":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        return self


class PrepareConfig(Config):
    """How windows are cut, augmented, split and stored."""

    store: str | None = Field(None, description="Local path or s3:// URL; default: windows.zarr in the workspace")
    windows: WindowConfig = WindowConfig()
    augment: AugmentConfig = AugmentConfig()
    split: SplitConfig = SplitConfig()
    galaxies_per_shard: int = Field(8, ge=1)
    dask: DaskConfig = DaskConfig()


class ShardTask(NamedTuple):
    """All that one worker needs to make one shard."""

    store_path: str
    split: str
    shard: int
    targets: list[Target]
    num_views: int
    survey: dict[str, Any]
    windows: dict[str, Any]
    augment: dict[str, Any]
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of one galaxy.

    Attributes:
        code, reason: why it was set aside; empty if it was not.
        covered: share of the samples that are good.
        median_snr: median of |flux| sqrt(ivar) over good samples.
        source_bytes: size of its files.
    """

    plateifu: str
    code: str = ""
    reason: str = ""
    covered: float = 0.0
    median_snr: float = float("nan")
    source_bytes: int = 0


OnShard = Callable[[int, int, int], None]


def prepare(
    config: PrepareConfig, survey: SurveyConfig, store_path: str, *, seed: int, on_shard: OnShard | None = None
) -> dict[str, Any]:
    """Makes a window store, or goes on with one; returns its summary.

    Args:
        config: windows, augmentation, split, engine.
        survey: the survey's files; `root` must be set.
        store_path: where the store goes.
        seed: decides split and augmentation.
        on_shard: called with (shards done, shards in all, galaxies set aside so far).

    Raises:
        ValueError: no galaxies, or a configuration that does not fit the survey.
        StoreError: another store is at `store_path`.
    """
    reader = make_reader(survey)
    _check_reader(reader, config.windows, survey)
    targets = select_targets(survey, reader)
    usable = [target for target in targets if not target.rejected]
    plan = plan_store(usable, config, survey, reader.flux_unit, seed=seed)
    store = WindowStore.create_or_resume(store_path, plan)
    if store.finished:
        logger.info("%s is finished already", store_path)
        return store.summary()
    by_name = {target.plateifu: target for target in usable}
    done = store.read_records()
    tasks = [
        ShardTask(
            store_path,
            name,
            shard,
            [by_name[split.plateifu[i]] for i in split.galaxies(shard)],
            split.num_views,
            survey.model_dump(mode="json"),
            config.windows.model_dump(mode="json"),
            config.augment.model_dump(mode="json"),
            seed,
        )
        for name, split in plan.splits.items()
        for shard in range(split.num_shards)
        if (name, shard) not in done
    ]
    _run(tasks, config.dask, num_done=len(done), on_shard=on_shard)
    return finish(store, targets, plan)


def _run(tasks: list[ShardTask], config: DaskConfig, *, num_done: int, on_shard: OnShard | None) -> None:
    num_rejected = 0
    for count, outcomes in enumerate(run_tasks(make_shard, tasks, config), start=1):
        num_rejected += sum(bool(outcome.code) for outcome in outcomes)
        if on_shard:
            on_shard(num_done + count, num_done + len(tasks), num_rejected)


def plan_store(
    targets: Sequence[Target], config: PrepareConfig, survey: SurveyConfig, flux_unit: str, *, seed: int
) -> StorePlan:
    """The rows of a store and its identity: a digest of configuration, galaxies and format version.

    Raises:
        ValueError: no galaxy is left.
    """
    if not targets:
        raise ValueError(f"{survey.root}: the selection leaves no galaxy; see survey.z_min, z_max and galaxies")
    split_of = assign_splits([target.mangaid for target in targets], config.split, seed)
    splits = {}
    for name in SPLITS:
        members = [target for target in targets if split_of[target.mangaid] == name]
        if members:
            splits[name] = SplitPlan(
                [target.plateifu for target in members],
                [target.mangaid for target in members],
                [target.z for target in members],
                config.augment.num_views if name == "train" else 1,
                min(config.galaxies_per_shard, len(members)),
            )
    resolved = {
        "seed": seed,
        "survey": survey.model_dump(mode="json"),
        "prepare": config.model_dump(mode="json", exclude={"store", "dask"}),
    }
    inputs = [[t.plateifu, t.mangaid, t.z, *(path.rsplit("/", 1)[-1] for path in t.paths)] for t in targets]
    identity = hashlib.sha256(json.dumps([FORMAT_VERSION, resolved, inputs], sort_keys=True).encode()).hexdigest()
    lines = config.windows.line_list
    return StorePlan(
        [line.name for line in lines],
        [line.rest_wave for line in lines],
        config.windows.velocity_kms,
        config.windows.size,
        flux_unit,
        splits,
        identity,
        resolved,
    )


def assign_splits(mangaids: Sequence[str], config: SplitConfig, seed: int) -> dict[str, str]:
    """The split of each object: objects are ordered by a digest of seed and mangaid and cut by share."""
    objects = sorted(set(mangaids), key=lambda mangaid: hashlib.sha256(f"{seed}/{mangaid}".encode()).digest())
    num_validation = round(config.validation * len(objects))
    num_test = min(round(config.test * len(objects)), len(objects) - num_validation - 1)
    names = ["validation"] * num_validation + ["test"] * max(num_test, 0)
    names += ["train"] * (len(objects) - len(names))
    return dict(zip(objects, names, strict=True))


def make_shard(task: ShardTask) -> list[Outcome]:
    """Extracts the galaxies of one shard and writes it, with its record; runs in a worker."""
    survey = SurveyConfig.model_validate(task.survey)
    windows = WindowConfig.model_validate(task.windows)
    views = AugmentConfig.model_validate(task.augment)
    reader = make_reader(survey)
    rows: list[LineWindows] = []
    outcomes = []
    for target in task.targets:
        outcome, observed = extract_galaxy(reader, target, windows)
        outcomes.append(outcome)
        rows.append(observed)
        for view in range(1, task.num_views):
            rng = view_rng(task.seed, target.plateifu, view)
            rows.append(LineWindows(*augment(observed.flux, observed.ivar, observed.mask, views, rng)))
    flux, ivar, mask = (np.stack([getattr(row, name) for row in rows]) for name in ("flux", "ivar", "mask"))
    names = np.repeat([target.plateifu for target in task.targets], task.num_views)
    view_index = np.tile(np.arange(task.num_views), len(task.targets))
    store = WindowStore.open_unfinished(task.store_path)
    store.write_shard(task.split, task.shard, Windows(flux, ivar, mask, names, view_index))
    store.write_record(task.split, task.shard, [asdict(outcome) for outcome in outcomes])
    return outcomes


def extract_galaxy(reader: Any, target: Target, config: WindowConfig) -> tuple[Outcome, LineWindows]:
    """The windows of one galaxy and what became of it; all masked if it had to be set aside."""
    try:
        windows = read_windows(reader, target, config)
    except Rejected as rejected:
        return Outcome(target.plateifu, rejected.code, rejected.reason), _nothing(config)
    except Exception as error:  # noqa: BLE001 - whatever a file does to its reader, the survey goes on
        where = target.paths[0] if target.paths else target.plateifu
        reason = f"{where}: {type(error).__name__}: {error}"
        return Outcome(target.plateifu, "unreadable", reason), _nothing(config)
    good = windows.mask == 0
    snr = np.abs(windows.flux[good]) * np.sqrt(windows.ivar[good])
    source_bytes = sum(os.path.getsize(path) for path in target.paths if "://" not in path)  # noqa: PTH202
    return Outcome(target.plateifu, "", "", float(good.mean()), float(np.median(snr)), source_bytes), windows


def read_windows(reader: Any, target: Target, config: WindowConfig) -> LineWindows:
    """Reads one galaxy with its survey's reader.

    Raises:
        Rejected: its files cannot be used, its lines are out of range, or nothing of it is good.
    """
    if hasattr(reader, "read_maps"):
        maps = reader.read_maps(target, config.line_names, config.size)
        flux, ivar, mask = (values[:, None] for values in (maps.flux, maps.ivar, maps.mask))
        windows = LineWindows(np.where(mask == 0, flux, np.nan), ivar, mask)
    else:
        arms = reader.open(target)
        for arm in arms:
            check_grid(arm.wave, config)
        windows = extract_windows(arms, target.z, config, source=target.paths[0])
    if not (windows.mask == 0).any():
        raise Rejected(*_why_nothing(windows.mask, target.paths[0]))
    return windows


def finish(store: WindowStore, targets: Sequence[Target], plan: StorePlan) -> dict[str, Any]:
    """Writes the tables and the summary of a store whose shards are all done; returns the summary."""
    outcomes = {row["plateifu"]: row for record in store.read_records().values() for row in record}
    split_of = {name: split for split, members in plan.splits.items() for name in members.plateifu}
    table = pd.DataFrame([_galaxy_row(target, outcomes, split_of) for target in targets])
    rejected = table[table["status"] == "rejected"]
    summary = {
        "identity": store.identity,
        "galaxies": len(table),
        "accepted": len(table) - len(rejected),
        "rejected": len(rejected),
        "reasons": dict(sorted(Counter(rejected["code"]).items())),
        "splits": {name: int((table[table["status"] == "accepted"]["split"] == name).sum()) for name in plan.splits},
    }
    store.finish(table, summary)
    return summary


def _galaxy_row(target: Target, outcomes: Mapping[str, Any], split_of: Mapping[str, str]) -> dict[str, Any]:
    outcome = outcomes.get(target.plateifu, asdict(Outcome(target.plateifu)))
    code, reason = target.rejected or (outcome["code"], outcome["reason"])
    return {
        "plateifu": target.plateifu,
        "mangaid": target.mangaid,
        "z": target.z,
        "ra_deg": target.ra_deg,
        "dec_deg": target.dec_deg,
        "split": split_of.get(target.plateifu, ""),
        "status": "rejected" if code else "accepted",
        "code": code,
        "reason": reason,
        "covered": outcome["covered"],
        "median_snr": outcome["median_snr"],
        "source": ";".join(target.paths),
        "source_bytes": outcome["source_bytes"],
    }


def _check_reader(reader: Any, config: WindowConfig, survey: SurveyConfig) -> None:
    if config.sampling == "nearest" and reader.grid == "linear":
        raise ValueError(
            f"prepare.windows.sampling = nearest: {survey.reader} has a linear wavelength grid; set it to conserve"
        )
    if hasattr(reader, "read_maps") and config.num_samples != 1:
        raise ValueError(
            f"prepare.windows.num_samples = {config.num_samples}: {survey.reader} has one sample a line; set it to 1"
        )


def _nothing(config: WindowConfig) -> LineWindows:
    shape = (len(config.line_list), config.num_samples, config.size, config.size)
    mask = np.full(shape, WINDOW_MASK_BITS["REJECTED"], dtype=np.uint8)
    return LineWindows(np.full(shape, np.nan, dtype=np.float32), np.zeros(shape, dtype=np.float32), mask)


def _why_nothing(mask: np.ndarray, path: str) -> tuple[str, str]:
    shares = {name: float((mask & bit > 0).mean()) for name, bit in WINDOW_MASK_BITS.items()}
    shown = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share > 0)
    code = "all_nan" if shares["NONFINITE"] > shares["SURVEY"] else "all_masked"
    return code, f"{path}: no good sample in any window ({shown})"
