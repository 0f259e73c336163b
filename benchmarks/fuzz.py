"""Damaged files in a survey: is only the file's own galaxy lost, and is the damage detected?

Surveys of equal galaxies, as real and simulated files of each reader, cut to a few spaxels. Of most galaxies one file
is damaged (bits, blocks, ends, lost bytes, cards of headers), and `prepare` runs on all of them. Counted by file:

- crashes: the process died, or took longer than a minute of processor time;
- tracebacks: an exception that is not one line for the user;
- galaxies lost: intact galaxies that are missing or differ from those of an undamaged survey;
- silent differences: the damaged galaxy is accepted with good samples that differ, neither flagged nor remarked, though
  its file contradicts itself: gzip's CRC, CHECKSUM, DATASUM, or the standard as checked by astropy.

Damage to a file that stays consistent cannot be detected: a bit of an uncompressed value, another redshift. Such files
are counted separately, with their largest and median change in sigmas of the sample.

    python -m benchmarks.fuzz [--minutes 10] [--cases 2000] [--seed 0] [--real ../shared/data] [--only SOURCE]
"""

import argparse
import contextlib
import gzip
import io
import logging
import multiprocessing
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits
from rich.console import Console
from rich.table import Table

from benchmarks.fuzz_files import BASE, NUM_GALAXIES, NUM_INTACT, Source, damage, make_sources, read_source
from cubeprep.cluster import DaskConfig
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.split import SplitConfig
from cubeprep.store import Windows, WindowStore
from cubeprep.survey import SurveyConfig

SECONDS, HANGS_S = 60.0, 1200.0
Result = tuple[str, str, "Verdict"]  # source, seed of the case, verdict
FAULTS = ("crash", "traceback", "lost", "silent")
OUTCOMES = (*FAULTS, "undetectable", "flagged", "masked", "set aside", "harmless")


class Verdict(NamedTuple):
    """Result of one case.

    Attributes:
        outcome: one of `OUTCOMES`.
        kind: kind of damage.
        detail: message, if there is one.
        sigmas: largest change of a good sample in its sigmas; 0 where nothing changed.
    """

    outcome: str
    kind: str
    detail: str = ""
    sigmas: float = 0.0


def run_survey(folder: str, seeds: Sequence[str]) -> list[Verdict]:
    """Damages one victim of a source for each seed and prepares the survey; the same seed gives the same damage."""
    source = read_source(Path(folder))
    with tempfile.TemporaryDirectory(prefix="cubescout-fuzz-") as scratch:
        root, damaged = Path(scratch) / "survey", list[tuple[str, str, Path]]()
        root.mkdir()
        for galaxy in (*source.victims[: len(seeds)], *source.intact):
            for form in source.forms:
                (root / form.format(galaxy)).symlink_to(Path(folder) / form.format(BASE))
        for galaxy, seed in zip(source.victims, seeds, strict=False):
            rng = random.Random(seed)
            form = rng.choice(source.forms)
            kind, content = damage((Path(folder) / form.format(BASE)).read_bytes(), rng)
            path = root / form.format(galaxy)
            path.unlink()
            path.write_bytes(content)
            damaged.append((galaxy, kind, path))
        try:
            with _time_limit():
                store = prepared(source, root, Path(folder), f"{scratch}/s.zarr")
        except Exception as error:  # noqa: BLE001 - exceptions are counted
            if len(seeds) > 1:
                return [run_survey(folder, [seed])[0] for seed in seeds]
            return [Verdict(_failure(error), damaged[0][1], traceback.format_exc())]
        return judged(source, store, folder, damaged)


def _failure(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "crash"
    return "lost" if isinstance(error, ValueError | OSError) else "traceback"


def prepared(source: Source, root: Path, folder: Path, path: str) -> WindowStore:
    """The store of a survey, made in this process."""
    values = dict(source.survey)
    if "table" in values:
        values["table"] = str(folder / values["table"])
    config = PrepareConfig.model_validate(
        {
            "windows": source.windows,
            "split": SplitConfig(validation=0, test=0),
            "augment": {"num_views": 1},
            "dask": DaskConfig(num_workers=0),
            "galaxies_per_shard": 16,
        }
    )
    prepare(config, SurveyConfig(root=str(root), **values), path, seed=0)
    return WindowStore.open(path)


def judged(source: Source, store: WindowStore, folder: str, damaged: Sequence[tuple[str, str, Path]]) -> list[Verdict]:
    """Verdicts on the damaged galaxies of a store; all are `lost` if an intact one was lost."""
    table, (wanted, usual) = store.galaxies().set_index("plateifu"), reference(folder)
    for name in source.intact:
        accepted = name in table.index and table.loc[name, "status"] == "accepted"
        if not accepted or not equal(store.read_galaxy(name), wanted):
            return [Verdict("lost", kind, f"{name} is missing, rejected or differs") for _, kind, _ in damaged]
    return [_judged(store, table, (wanted, usual), *one) for one in damaged]


def _judged(
    store: WindowStore, table: pd.DataFrame, intact: tuple[Windows, str], galaxy: str, kind: str, path: Path
) -> Verdict:
    wanted, usual = intact
    if galaxy not in table.index:
        return Verdict("silent", kind, "the galaxy is not in the table")
    row = table.loc[galaxy]
    if row["status"] != "accepted":
        return Verdict("set aside", kind, f"{row['code']}: {row['reason']}")
    found = store.read_galaxy(galaxy)
    if equal(found, wanted):
        return Verdict("harmless", kind)
    sigmas = change(found, wanted)
    if doubts_of(row) != usual:
        return Verdict("flagged", kind, doubts_of(row), sigmas)
    if sigmas == 0:
        return Verdict("masked", kind)
    return Verdict("silent" if contradicts_itself(path) else "undetectable", kind, "", sigmas)


@cache
def reference(folder: str) -> tuple[Windows, str]:
    """Windows of a galaxy in a survey without damage, and the remarks on it."""
    source = read_source(Path(folder))
    with tempfile.TemporaryDirectory(prefix="cubescout-fuzz-") as scratch:
        for form in source.forms:
            (Path(scratch) / form.format(source.intact[0])).symlink_to(Path(folder) / form.format(BASE))
        store = prepared(source, Path(scratch), Path(folder), f"{scratch}/s.zarr")
        row = store.galaxies().set_index("plateifu").loc[source.intact[0]]
        if row["status"] != "accepted":
            raise ValueError(f"{source.name}: the intact galaxy is rejected: {row['reason']}")
        return store.read_galaxy(source.intact[0]), doubts_of(row)


def doubts_of(row: pd.Series) -> str:
    """Remarks of `prepare` on an accepted galaxy."""
    return "; ".join(filter(None, [row["implausible"], row["remarks"], "displaced" * bool(row["z_flag"])]))


def equal(one: Windows, other: Windows) -> bool:
    """Whether two windows hold the same samples."""
    pairs = ((one.flux, other.flux), (one.ivar, other.ivar), (one.mask, other.mask))
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


def change(one: Windows, other: Windows) -> float:
    """Largest change of a sample that is good in the first: of its flux in sigmas, or of ln(ivar) / 2."""
    both, new = one.good & other.good, one.good & ~other.good
    with np.errstate(over="ignore", invalid="ignore"):
        flux = np.abs(one.flux - other.flux)[both].astype(np.float64) * np.sqrt(other.ivar[both])
        noise = np.abs(np.log(one.ivar[both].astype(np.float64) / other.ivar[both])) / 2
        unmasked = np.abs(one.flux[new].astype(np.float64)) * np.sqrt(one.ivar[new])
    return float(max(values.max(initial=0.0) for values in (flux, noise, unmasked)))


def contradicts_itself(path: Path) -> bool:
    """Whether a file shows that it is damaged: by gzip's CRC, its own checksums, or astropy's check of the standard."""
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(content), disable_image_compression=True) as hdus:
                for hdu in hdus:
                    hdu.verify("exception")
                    if hdu.verify_datasum() == 0 or hdu.verify_checksum() == 0:
                        return True
    except Exception:  # noqa: BLE001 - any exception means that astropy has detected it
        return True
    return False


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raises TimeoutError after `SECONDS` of this process on a processor, or `HANGS_S` by the clock."""

    def stop(*_: Any) -> None:
        raise TimeoutError

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, SECONDS), signal.ITIMER_REAL: (signal.SIGALRM, HANGS_S)}
    for timer, (number, seconds) in timers.items():
        signal.signal(number, stop)
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)


def _quiet() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def run(folder: Path, sources: Sequence[Source], *, seed: int, cases: int, minutes: float) -> list[Result]:
    """Verdicts of the cases, with source and seed of each; a dead process is a crash and is replaced."""
    ends = time.monotonic() + 60 * minutes
    size = NUM_GALAXIES - NUM_INTACT
    starts = list(range(0, cases, size))
    todo = [
        (sources[i % len(sources)].name, [f"{seed}-{case}" for case in range(start, min(start + size, cases))])
        for i, start in enumerate(starts)
    ]
    results: list[Result] = []
    while todo and time.monotonic() < ends:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_quiet) as pool:
            futures = [pool.submit(run_survey, str(folder / name), seeds) for name, seeds in todo]
            while todo and time.monotonic() < ends:
                name, seeds = todo.pop(0)
                try:
                    verdicts = futures.pop(0).result()
                except BrokenProcessPool:  # one of those under way died: they are repeated case by case
                    workers = os.cpu_count() or 1
                    suspects, todo = [(name, seeds), *todo[: workers - 1]], todo[workers - 1 :]
                    results += [(name, case, _alone(folder / name, case)) for name, seeds in suspects for case in seeds]
                    break
                results += [(name, case, verdict) for case, verdict in zip(seeds, verdicts, strict=True)]
            pool.shutdown(cancel_futures=True)
    return results


def _alone(folder: Path, case: str) -> Verdict:
    """Verdict of one case in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_quiet) as pool:
        try:
            return pool.submit(run_survey, str(folder), [case]).result()[0]
        except BrokenProcessPool:
            return Verdict("crash", "?", "the process died")


def print_results(results: Sequence[Result]) -> None:
    """Table of outcomes by source, faults in full, and the counts."""
    console = Console(width=140)
    table = Table("source", "files", *OUTCOMES)
    for name in dict.fromkeys(source for source, _, _ in results):
        counts = Counter(verdict.outcome for source, _, verdict in results if source == name)
        table.add_row(name, str(counts.total()), *(str(counts[outcome]) for outcome in OUTCOMES))
    console.print(table)
    for name, case, verdict in results:
        if verdict.outcome in FAULTS:
            size = f"{verdict.kind}, {verdict.sigmas:.3g} sigma"
            print(f"{verdict.outcome}: --only {name} --case {case} ({size}) {verdict.detail}")
    counts = Counter(verdict.outcome for _, _, verdict in results)
    print(f"files={len(results)}")
    for outcome, label in zip(FAULTS, ("crashes", "tracebacks", "galaxies_lost", "silent_differences"), strict=True):
        print(f"{label}={counts[outcome]}")
    for outcome in OUTCOMES[len(FAULTS) :]:
        print(f"{outcome.replace(' ', '_')}={counts[outcome]}")
    sigmas = [verdict.sigmas for _, _, verdict in results if verdict.outcome == "undetectable"]
    if sigmas:
        print(f"undetectable_median_sigma={statistics.median(sigmas):.3g}")
        print(f"undetectable_below_1_sigma={sum(value < 1 for value in sigmas)}")
        print(f"undetectable_largest_sigma={max(sigmas):.3g}")


def main() -> int:
    """Runs the cases and prints the table; returns 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", help="one source")
    parser.add_argument("--case", help="one case of that source, in this process")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cubescout-fuzz-") as scratch:
        sources = make_sources(Path(scratch), chosen.real if chosen.real.is_dir() else None)
        sources = [source for source in sources if chosen.only in (None, source.name)]
        if chosen.case:
            _quiet()
            print(run_survey(f"{scratch}/{sources[0].name}", [chosen.case])[0])
            return 0
        results = run(Path(scratch), sources, seed=chosen.seed, cases=chosen.cases, minutes=chosen.minutes)
    print_results(results)
    return int(any(verdict.outcome in FAULTS for _, _, verdict in results))


if __name__ == "__main__":
    sys.exit(main())
