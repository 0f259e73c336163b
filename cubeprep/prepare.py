"""Preparation of a window store from a survey: plan the rows, write each shard, finish with tables and a summary.

The layout of a store is fixed before the first cube is read, so that shards are independent of each other: a task reads
the galaxies of one shard, writes that shard whole, and then its record. A rerun makes only the shards without a record.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cubeprep.checksum import ChecksumKind, file_checksum
from cubeprep.cluster import DaskConfig, local_workers, run_tasks
from cubeprep.config import ConfigError, MistakeError
from cubeprep.cube import Target
from cubeprep.galaxy_table import RECORDS_AT_ONCE, GalaxyTable
from cubeprep.locks import only_writer
from cubeprep.memory import free_memory
from cubeprep.prepare_config import GalaxyConfig, PrepareConfig
from cubeprep.redact import redact
from cubeprep.shard import ShardTask, make_shard
from cubeprep.split import assign_splits
from cubeprep.store import ELSEWHERE, FORMAT_VERSION, SPLITS, OtherStoreError, SplitPlan, StorePlan, WindowStore
from cubeprep.survey import SurveyConfig, SurveyFacts, facts_of_files, make_reader, select_targets
from cubeprep.words import counted

logger = logging.getLogger(__name__)

OnShard = Callable[[int, int, int], None]


def prepare(
    config: PrepareConfig, survey: SurveyConfig, store_path: str, *, seed: int, on_shard: OnShard | None = None
) -> dict[str, Any]:
    """Makes a window store, or resumes making one; returns its summary.

    Args:
        config: windows, augmentation, split and Dask.
        survey: files of the survey; `root` must be set.
        store_path: path or URL of the store.
        seed: seed of the split and the augmentation.
        on_shard: called after each shard with the shards done, the shards in total, and the galaxies rejected so far.

    Raises:
        ConfigError: the survey cannot have the configured windows, or they would not fit in memory.
        MistakeError: no galaxy is found or selected; the message has an example of each reason.
        StoreError: there is another store at `store_path`, one of files with other contents, or a finished one whose
            table is damaged.
        InUseError: another process makes a store there.
    """
    with_models = config.windows.continuum == "dap"
    if not (config.velocity.correct or with_models):
        survey = survey.model_copy(update={"maps_root": None})
    reader = make_reader(survey)
    _check_reader(reader, config, survey)
    if with_models:
        reader.with_models = True
    targets = select_targets(survey, reader)
    if not config.velocity.correct:  # files that are found beside the model cubes, but not needed
        targets = [replace(target, maps=None) for target in targets]
    usable = [target for target in targets if not target.rejected]
    if not usable:
        raise MistakeError(_why_none(survey, targets))
    plan = plan_store(usable, config, survey, facts_of_files(survey, reader), seed=seed)
    _check_memory(plan, config)
    with only_writer(store_path):
        store = WindowStore.create_or_resume(store_path, plan)
        if config.retry_rejected:
            forget_rejected(store)
        _check_files(store, usable, config.checksum)
        if store.finished:
            logger.info("%s is finished already", store_path)
            store.galaxies()  # raises if the table has been damaged since
            return store.summary()
        done = {key for records in store.iter_records(RECORDS_AT_ONCE) for key in records}
        tasks = _tasks(config, survey, store_path, plan, usable, seed=seed)
        _run(
            [task for task in tasks if (task.split, task.shard) not in done],
            config.dask,
            num_done=len(done),
            on_shard=on_shard,
        )
        return finish(store, targets, plan.splits)


def _check_files(store: WindowStore, targets: Sequence[Target], kind: ChecksumKind) -> None:
    """Checks that the first galaxy of a store was read from today's files: another release has the same names.

    Raises:
        OtherStoreError: a file of that galaxy has another checksum.
    """
    rows = (row for records in store.iter_records(1) for record in records.values() for row in record)
    first = next((row for row in rows if not row["code"]), None)
    if first is None:
        return
    target = next(target for target in targets if target.plateifu == first["plateifu"])
    for path, before in zip(target.files, first["source_checksum"].split(";"), strict=False):
        try:
            found = file_checksum(path, kind)
        except FileNotFoundError:  # named in a list of files; a finished store needs them no longer
            continue
        # Checksums of other kinds, such as a service's tag of a file that is on disk now, say nothing.
        if found != before and found.partition(":")[0] == before.partition(":")[0]:
            was = f"read from {first['source']}" if first.get("source") else "made"
            raise OtherStoreError(
                f"{store.path}: {target.plateifu} was {was}, and {redact(path)} has other contents: {found}, expected "
                f"{before}. {ELSEWHERE}, or delete this store."
            )


def _tasks(
    config: PrepareConfig,
    survey: SurveyConfig,
    store_path: str,
    plan: StorePlan,
    targets: Sequence[Target],
    *,
    seed: int,
) -> Iterator[ShardTask]:
    """Yields the tasks of all shards; those of one run share its configuration."""
    galaxy = GalaxyConfig(**{name: getattr(config, name) for name in GalaxyConfig.model_fields}).model_dump(mode="json")
    selection = survey.model_dump(mode="json")
    by_name = {target.plateifu: target for target in targets}
    for name, split in plan.splits.items():
        for shard in range(split.num_shards):
            members = [by_name[split.plateifu[i]] for i in split.galaxies(shard)]
            yield ShardTask(store_path, plan.identity, name, shard, members, split.num_views, selection, galaxy, seed)


def _run(tasks: list[ShardTask], config: DaskConfig, *, num_done: int, on_shard: OnShard | None) -> None:
    num_rejected = 0
    for count, outcomes in enumerate(run_tasks(make_shard, tasks, config), start=1):
        num_rejected += sum(bool(outcome.code) for outcome in outcomes)
        if on_shard:
            on_shard(num_done + count, num_done + len(tasks), num_rejected)


def plan_store(
    targets: Sequence[Target], config: PrepareConfig, survey: SurveyConfig, facts: SurveyFacts, *, seed: int
) -> StorePlan:
    """Plan of a store: its rows, and its identity, a digest of configuration, galaxies and format version.

    Args:
        targets: accepted galaxies, in the order of the rows, at least one.
        config: windows, augmentation and split.
        survey: configuration of the survey.
        facts: facts of the survey.
        seed: seed of the split.
    """
    split_of = assign_splits([target.mangaid for target in targets], config.split, seed)
    splits = {}
    for name in SPLITS:
        members = [target for target in targets if split_of[target.mangaid] == name]
        if members:
            splits[name] = SplitPlan(
                [target.plateifu for target in members],
                [target.mangaid for target in members],
                [target.z for target in members],
                config.augment.stored_views if name == "train" else 1,
                min(config.galaxies_per_shard, len(members)),
            )
    resolved = {
        "seed": seed,
        "survey": survey.model_dump(mode="json", exclude={"root", "table", "maps_root"}),
        "prepare": config.model_dump(mode="json", exclude={"store", "dask", "retry_rejected", "verify"}),
    }
    scaled = config.windows.space == "scale-to-re"
    inputs = [
        [t.plateifu, t.mangaid, t.z, *(path.rsplit("/", 1)[-1] for path in t.files), *([t.re_arcsec] if scaled else [])]
        for t in targets
    ]
    identity = hashlib.sha256(json.dumps([FORMAT_VERSION, resolved, inputs], sort_keys=True).encode()).hexdigest()
    lines = config.windows.line_list
    return StorePlan(
        [line.name for line in lines],
        [line.rest_wave for line in lines],
        config.windows.velocity_kms,
        config.windows.size,
        facts.flux_unit,
        splits,
        identity,
        resolved,
        facts.to_json(),
        config.windows.continuum != "none",
    )


def finish(store: WindowStore, targets: Sequence[Target], splits: Mapping[str, SplitPlan]) -> dict[str, Any]:
    """Writes the tables and the summary of a store whose shards are all written; returns the summary.

    Args:
        store: the store.
        targets: all targets of the survey, rejected ones included.
        splits: plan of each split, by name.
    """
    table = GalaxyTable(store, targets, splits)
    if flagged := sorted(table.implausible):
        shown = ", ".join(flagged[:3]) + (" ..." if len(flagged) > 3 else "")
        logger.warning(
            "implausible values in %d galaxies (%s); see `implausible` in galaxies.parquet", len(flagged), shown
        )
    store.finish(table.groups(), table.summary)
    return table.summary


def forget_rejected(store: WindowStore) -> None:
    """Reopens the shards with a rejected galaxy, so that the next run makes them again."""
    shards = [key for key, record in store.read_records().items() if any(row["code"] for row in record)]
    if shards:
        store.reopen(shards)


def _why_none(survey: SurveyConfig, targets: Sequence[Target]) -> str:
    """Message of a survey of which no target is left, with the first one rejected for each reason."""
    reasons: dict[str, list[str]] = {}
    for code, text in (target.rejected for target in targets if target.rejected):
        reasons.setdefault(code, []).append(text)
    examples = "; ".join(f"{len(texts)} {code}, such as {texts[0]}" for code, texts in reasons.items())
    return f"{survey.root}: none of {counted(len(targets), 'galaxy')} can be used: {examples}"


def _check_memory(plan: StorePlan, config: PrepareConfig) -> None:
    """Refuses windows if the workers of this machine cannot hold a shard each."""
    if config.dask.scheduler:
        return
    row_bytes = 9 * len(plan.line_names) * len(plan.velocity_kms) * plan.size**2  # flux, inverse variance and mask
    rows = max(split.num_views * split.galaxies_per_shard for split in plan.splits.values())
    tasks = sum(split.num_shards for split in plan.splits.values())
    workers = max(1, local_workers(config.dask, tasks))
    needed, free = 2 * rows * row_bytes * workers, free_memory()  # the rows are copied into the arrays of the shard
    if needed > free:
        mistake = (
            f"windows.size: windows of {plan.size} spaxels a side take {needed / 1e9:.1f} GB, {counted(rows, 'row')} a "
            f"shard in {counted(workers, 'worker')}; {free / 1e9:.1f} GB of memory are free: choose a smaller "
            "windows.size, galaxies_per_shard, augment.num_views or dask.num_workers"
        )
        raise ConfigError("prepare", [mistake])


def _check_reader(reader: Any, config: PrepareConfig, survey: SurveyConfig) -> None:
    mistakes, windows = [], config.windows
    if windows.sampling == "nearest" and reader.grid == "linear":
        mistakes.append(f"windows.sampling: {survey.reader} has a linear wavelength grid; set it to conserve")
    if reader.grid == "maps" and windows.num_samples != 1:
        mistakes.append(f"windows.num_samples: {survey.reader} has one sample a line; set it to 1")
    if windows.subtracts_stars and reader.grid == "maps":
        mistakes.append(f"windows.continuum: {survey.reader} has no spectra to fit stars to; set it to none")
    elif windows.continuum == "dap" and not hasattr(reader, "starlight"):
        mistakes.append(f"windows.continuum: {survey.reader} has no model cubes, manga-logcube has; set it to stars")
    elif windows.continuum == "dap" and not survey.maps_root:
        mistakes.append("windows.continuum: dap needs survey.maps_root, the folder with the DAP's model cubes")
    if config.velocity.correct and not hasattr(reader, "velocity"):
        mistakes.append(f"velocity.correct: {survey.reader} has no velocity fields, manga-logcube has")
    elif config.velocity.correct and not survey.maps_root:
        mistakes.append("velocity.correct: survey.maps_root must name the folder with the DAP's MAPS")
    if mistakes:
        raise ConfigError("prepare", mistakes)
