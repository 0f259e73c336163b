"""Plans a simulated survey and writes it with one process per core."""

import hashlib
import json
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cubeprep.files import remove_partials, replacing
from cubeprep.simulate.config import GalaxyClass, SimulateConfig
from cubeprep.simulate.cube import observe
from cubeprep.simulate.dap import DAPTYPES, write_maps
from cubeprep.simulate.defects import draw_defects
from cubeprep.simulate.drp import write_logcube
from cubeprep.simulate.drpall import write_drpall
from cubeprep.simulate.galaxy import UNUSUAL_KINDS, Galaxy, Unusual, draw_galaxy
from cubeprep.simulate.maps import galaxy_maps, nuclear_bpt
from cubeprep.simulate.ratios import bpt_class
from cubeprep.simulate.target import Target
from cubeprep.survey import SIMULATED_SURVEY

# Increment whenever the same configuration and seed give different files.
FORMAT_VERSION = 2

IDENTITY_FILE = SIMULATED_SURVEY
_FIRST_PLATE = 8001
_BUNDLES_PER_PLATE = 17
_TRUTH_ROWS_AT_ONCE = 500
_TASKS_PER_WORKER = 4

# Independent streams of random numbers, so that additional draws in one do not change the others.
_PLAN, _GALAXY, _STRUCTURE, _OBSERVATION, _TARGET = range(5)

T = TypeVar("T")


@dataclass(frozen=True)
class Observation:
    """One cube to simulate.

    Attributes:
        index: index of the observation.
        source: index of the galaxy; smaller than `index` if this repeats an earlier observation.
        target: identifiers, seeing and defects of the observation.
        galaxy: the galaxy.
    """

    index: int
    source: int
    target: Target
    galaxy: Galaxy


class Plan(Sequence[Observation]):
    """Observations of a survey; each is drawn on access, and only a few bytes per observation stay in memory."""

    def __init__(self, config: SimulateConfig, seed: int) -> None:
        rng = _generator(seed, _PLAN, 0)
        num_repeats = round(config.repeat_fraction * config.num_galaxies)
        num_sources = config.num_galaxies - num_repeats
        self._seed, self._redshifts = seed, config.redshift_range
        self._classes: list[GalaxyClass] = _shuffled_shares(config.class_shares, num_sources, rng)
        bundles = _shuffled_shares(config.bundle_shares, num_sources, rng)
        self._unusual: list[Unusual] = [""] * num_sources
        kinds = list(UNUSUAL_KINDS)
        for order, index in enumerate(rng.permutation(num_sources)[: round(config.unusual_fraction * num_sources)]):
            self._unusual[index] = kinds[order % len(kinds)]
            self._classes[index] = UNUSUAL_KINDS[self._unusual[index]]
        self._sources = [*range(num_sources), *rng.permutation(num_sources)[:num_repeats].tolist()]
        num_critical = round(config.critical_fraction * config.num_galaxies)
        self._critical = set(rng.permutation(config.num_galaxies)[:num_critical].tolist())
        self._bundles = [bundles[source] for source in self._sources]
        self._slots = _number_in_plate(self._bundles)

    def __len__(self) -> int:
        return len(self._sources)

    @overload
    def __getitem__(self, index: int) -> Observation: ...

    @overload
    def __getitem__(self, index: slice) -> list[Observation]: ...

    def __getitem__(self, index: int | slice) -> Observation | list[Observation]:
        """Observation at a position, or list of those in a slice; drawn on each access, always the same."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        source, num_fibres = self._sources[index], self._bundles[index]
        galaxy = draw_galaxy(
            self._classes[source],
            self._unusual[source],
            num_fibres,
            self._redshifts,
            _generator(self._seed, _GALAXY, source),
        )
        rng = _generator(self._seed, _TARGET, index)
        seeing = float(np.clip(2.54 + 0.06 * rng.standard_normal(), 2.35, 2.8))
        defects = draw_defects(num_fibres, critical=index in self._critical, rng=rng)
        plate, design = _FIRST_PLATE + index // _BUNDLES_PER_PLATE, f"{num_fibres}{self._slots[index]:02d}"
        return Observation(index, source, Target(plate, design, f"1-{100001 + source}", seeing, defects), galaxy)


def simulate_survey(
    config: SimulateConfig, seed: int, root: Path, on_done: Callable[[int, int], None] | None = None
) -> Path:
    """Writes a survey as MaNGA data products below `root`; existing files are kept.

    Args:
        config: the survey to simulate.
        seed: seed of all random numbers. Configuration and seed determine every byte, whatever the number of processes.
        root: folder of the survey. It receives `drpall.fits`, `PLATE/stack/manga-PLATE-IFU-LOGCUBE.fits.gz`,
            `DAPTYPE/PLATE/IFU/manga-PLATE-IFU-MAPS-DAPTYPE.fits.gz`, with `model_cubes` also
            `...-LOGCUBE-DAPTYPE.fits.gz`, the truth as `truth.parquet`, and `simulate.json` with the configuration.
        on_done: called after each observation with the number done and the total.

    Returns:
        Path of `drpall.fits`.

    Raises:
        ValueError: `root` holds a survey of another configuration or seed.
        OSError: a file cannot be written.
    """
    _claim(root, config, seed)
    plan = plan_survey(config, seed)
    with replacing(root / "truth.parquet") as partial:
        _write_truth(partial, _run(config, seed, root, plan, on_done))
        targets, galaxies = zip(*((item.target, item.galaxy) for item in plan), strict=True)
        write_drpall(root / "drpall.fits", targets, galaxies)
    remove_partials(root)
    return root / "drpall.fits"


def plan_survey(config: SimulateConfig, seed: int) -> Plan:
    """Plan of the survey; galaxy classes and bundle sizes have exactly the configured shares."""
    return Plan(config, seed)


def make_observation(config: SimulateConfig, seed: int, root: Path, item: Observation) -> dict[str, Any]:
    """Row of the truth table for one observation, whose files are written unless they exist.

    Args:
        config: the survey to simulate.
        seed: seed of all random numbers.
        root: folder of the survey.
        item: the observation.

    Raises:
        OSError: a file cannot be written.
    """
    galaxy, target = item.galaxy, item.target
    maps = galaxy_maps(galaxy, target.psf_fwhm_arcsec, _generator(seed, _STRUCTURE, item.source))
    cube_path = root / target.cube_path
    forms = {form: root / target.maps_path(DAPTYPES[form]) for form in config.maps}
    models = {form: root / target.model_path(DAPTYPES[form]) for form in config.maps if config.model_cubes}
    forms, models = ({form: path for form, path in paths.items() if not path.exists()} for paths in (forms, models))
    if forms or models or (config.cubes and not cube_path.exists()):
        rng = _generator(seed, _OBSERVATION, item.index)
        cube = observe(galaxy, maps, config.depth, config.mantissa_bits, rng, target.defects)
        if config.cubes and not cube_path.exists():
            write_logcube(cube_path, target, galaxy, cube)
        if forms or models:
            write_maps(forms, target, galaxy, maps, cube, model_paths=models, mantissa_bits=config.mantissa_bits)
    bpt = nuclear_bpt(galaxy, maps)
    return {
        "plateifu": target.plateifu,
        "mangaid": target.mangaid,
        "psf_fwhm_arcsec": target.psf_fwhm_arcsec,
        "drp3qual": target.defects.quality,
        "dead_fibres": len(target.defects.dead_fibres),
        "foreground_star": target.defects.star_arcsec is not None,
        **asdict(galaxy),
        **{f"nuclear_{name}": float(value) for name, value in vars(bpt).items()},
        "nuclear_bpt_class": bpt_class(float(bpt.nii_ha), float(bpt.oiii_hb), float(bpt.sii_ha)),
    }


def _run(
    config: SimulateConfig,
    seed: int,
    root: Path,
    plan: Plan,
    on_done: Callable[[int, int], None] | None,
) -> Iterator[dict[str, Any]]:
    """Yields the rows of the truth table in the order of the plan; few observations are in progress at any time."""
    num_workers = min(config.num_workers or os.cpu_count() or 1, len(plan))
    rows: Iterator[dict[str, Any]] = (
        (make_observation(config, seed, root, item) for item in plan)
        if num_workers == 1
        else _run_in_processes(config, seed, root, plan, num_workers)
    )
    for done, row in enumerate(rows, start=1):
        if on_done:
            on_done(done, len(plan))
        yield row


def _run_in_processes(
    config: SimulateConfig, seed: int, root: Path, plan: Plan, num_workers: int
) -> Iterator[dict[str, Any]]:
    # Spawned, since a forked copy of a process with threads (Dask, torch) may hang.
    context = multiprocessing.get_context("spawn")
    values = config.model_dump(mode="json")
    waiting = iter(plan)
    running: deque[Future[dict[str, Any]]] = deque()
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:

        def submit(count: int) -> None:
            running.extend(pool.submit(_work, values, seed, str(root), item) for item in islice(waiting, count))

        try:
            submit(_TASKS_PER_WORKER * num_workers)
            while running:
                yield running.popleft().result()
                submit(1)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _work(values: dict[str, Any], seed: int, root: str, item: Observation) -> dict[str, Any]:
    return make_observation(SimulateConfig.model_validate(values), seed, Path(root), item)


def _write_truth(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows as Parquet, a batch at a time, so that a large table need not fit in memory."""
    rows = iter(rows)
    writer = None
    try:
        while batch := list(islice(rows, _TRUTH_ROWS_AT_ONCE)):
            table = pa.Table.from_pylist(batch)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer:
            writer.close()


def _claim(root: Path, config: SimulateConfig, seed: int) -> None:
    """Marks `root` as the folder of this survey.

    Raises:
        ValueError: it holds a survey of another configuration or seed, or its mark cannot be read.
    """
    identity = {
        "format": FORMAT_VERSION,
        "seed": seed,
        # Model cubes may be added to a survey later; its other files do not depend on them.
        "simulate": config.model_dump(mode="json", exclude={"num_workers", "model_cubes"}),
    }
    identity["sha256"] = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    path = root / IDENTITY_FILE
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path}: not JSON ({error}); remove {root} to simulate the survey again") from error
        if found.get("sha256") != identity["sha256"]:
            raise ValueError(
                f"{root} holds a simulated survey that differs in {_differences(found, identity)}; "
                "remove it, or simulate into another folder"
            )
        return
    with replacing(path) as partial:
        partial.write_text(json.dumps(identity, indent=1) + "\n")


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Keys in which two identities differ, each with both values."""
    a, b = ({**identity, **identity.get("simulate", {})} for identity in (found, wanted))
    names = [name for name in b if name not in ("simulate", "sha256") and a.get(name) != b[name]]
    return ", ".join(f"{name} ({a.get(name)}, now {b[name]})" for name in names) or "its digest"


def _generator(seed: int, stream: int, index: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, index)))


def _shuffled_shares(shares: dict[T, float], count: int, rng: np.random.Generator) -> list[T]:
    """Random order of `count` values in proportion to their shares, rounded by the largest-remainder method."""
    values = list(shares)
    exact = np.array([shares[value] for value in values], dtype=np.float64)
    exact *= count / exact.sum()
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: count - counts.sum()]] += 1
    return [values[index] for index in rng.permutation(np.repeat(np.arange(len(values)), counts))]


def _number_in_plate(bundles: list[int]) -> list[int]:
    """Number of each bundle among those of its size on the same plate, counted from 1; plates hold 17 bundles."""
    used: dict[tuple[int, int], int] = {}
    numbers = []
    for index, num_fibres in enumerate(bundles):
        key = index // _BUNDLES_PER_PLATE, num_fibres
        used[key] = used.get(key, 0) + 1
        numbers.append(used[key])
    return numbers
