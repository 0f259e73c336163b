"""Plans a survey, and writes it with one process a core."""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cubeprep.simulate.config import GalaxyClass, SimulateConfig
from cubeprep.simulate.cube import observe
from cubeprep.simulate.drp import Target, write_drpall, write_logcube
from cubeprep.simulate.galaxy import UNUSUAL_KINDS, Galaxy, Unusual, draw_galaxy
from cubeprep.simulate.maps import galaxy_maps, nuclear_bpt
from cubeprep.simulate.ratios import bpt_class

# Raise it whenever the same config and seed give other files.
FORMAT_VERSION = 1

IDENTITY_FILE = "simulate.json"
_FIRST_PLATE = 8001
_BUNDLES_PER_PLATE = 17

# Independent streams of random numbers: what is drawn in one never moves what is drawn in another.
_PLAN, _GALAXY, _STRUCTURE, _OBSERVATION = range(4)

T = TypeVar("T")


@dataclass(frozen=True)
class Observation:
    """One cube to make.

    Attributes:
        index: of the observation.
        source: of the galaxy; smaller than `index` if this repeats an earlier observation.
        target: what the survey calls it.
        galaxy: what is observed.
    """

    index: int
    source: int
    target: Target
    galaxy: Galaxy


def simulate_survey(
    config: SimulateConfig, seed: int, root: Path, on_done: Callable[[int, int], None] | None = None
) -> Path:
    """Writes a survey as MaNGA files below `root`; galaxies that are already there are not made again.

    Args:
        config: what to simulate.
        seed: of all random numbers. Config and seed fix every byte, however many processes write.
        root: of the survey. It gets `drpall.fits`, `PLATE/stack/manga-PLATE-IFU-LOGCUBE.fits.gz`, the truth as
            `truth.parquet`, and `simulate.json` with the config that made it.
        on_done: called with the number of cubes that are ready, and of all, after each.

    Returns:
        The path of `drpall.fits`.

    Raises:
        ValueError: `root` holds a survey of another config or seed.
        OSError: a file cannot be written.
    """
    _claim(root, config, seed)
    plan = plan_survey(config, seed)
    truth: list[dict[str, Any]] = [{} for _ in plan]
    for done, (index, row) in enumerate(_run(config, seed, root, plan), start=1):
        truth[index] = row
        if on_done:
            on_done(done, len(plan))
    write_drpall(root / "drpall.fits", [item.target for item in plan], [item.galaxy for item in plan])
    part = root / "truth.parquet.part"
    pq.write_table(pa.Table.from_pylist(truth), part)
    part.replace(root / "truth.parquet")
    return root / "drpall.fits"


def plan_survey(config: SimulateConfig, seed: int) -> list[Observation]:
    """Which galaxies are observed, how often, and by which bundle: classes and bundles in exact shares."""
    rng = _generator(seed, _PLAN, 0)
    num_repeats = round(config.repeat_fraction * config.num_galaxies)
    num_sources = config.num_galaxies - num_repeats
    classes: list[GalaxyClass] = _shuffled_shares(config.class_shares, num_sources, rng)
    bundles = _shuffled_shares(config.bundle_shares, num_sources, rng)
    unusual: list[Unusual] = [""] * num_sources
    kinds = list(UNUSUAL_KINDS)
    for order, index in enumerate(rng.permutation(num_sources)[: round(config.unusual_fraction * num_sources)]):
        unusual[index] = kinds[order % len(kinds)]
        classes[index] = UNUSUAL_KINDS[unusual[index]]
    galaxies = [
        draw_galaxy(classes[i], unusual[i], bundles[i], config.redshift_range, _generator(seed, _GALAXY, i))
        for i in range(num_sources)
    ]
    repeats = rng.permutation(num_sources)[:num_repeats].tolist()
    targets = _name_targets([*range(num_sources), *repeats], galaxies, seed)
    return [
        Observation(index, source, target, galaxies[source])
        for index, (source, target) in enumerate(zip([*range(num_sources), *repeats], targets, strict=True))
    ]


def make_observation(config: SimulateConfig, seed: int, root: Path, item: Observation) -> dict[str, Any]:
    """Makes one cube unless it is there, and returns its row of the truth table."""
    galaxy, target = item.galaxy, item.target
    maps = galaxy_maps(galaxy, target.psf_fwhm_arcsec, _generator(seed, _STRUCTURE, item.source))
    path = root / target.cube_path
    if not path.exists():
        rng = _generator(seed, _OBSERVATION, item.index)
        write_logcube(path, target, galaxy, observe(galaxy, maps, config.depth, config.mantissa_bits, rng))
    bpt = nuclear_bpt(galaxy, maps)
    return {
        "plateifu": target.plateifu,
        "mangaid": target.mangaid,
        "psf_fwhm_arcsec": target.psf_fwhm_arcsec,
        **asdict(galaxy),
        **{f"nuclear_{name}": float(value) for name, value in vars(bpt).items()},
        "nuclear_bpt_class": bpt_class(float(bpt.nii_ha), float(bpt.oiii_hb), float(bpt.sii_ha)),
    }


def _run(
    config: SimulateConfig, seed: int, root: Path, plan: list[Observation]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Indices of the plan with their rows of the truth table, as they get ready."""
    num_workers = min(config.num_workers or os.cpu_count() or 1, len(plan))
    if num_workers == 1:
        yield from ((item.index, make_observation(config, seed, root, item)) for item in plan)
        return
    # spawn: a fork of a process that has threads (dask, torch) may hang.
    context = multiprocessing.get_context("spawn")
    values = config.model_dump(mode="json")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        futures = {pool.submit(_work, values, seed, str(root), item): item.index for item in plan}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _work(values: dict[str, Any], seed: int, root: str, item: Observation) -> dict[str, Any]:
    return make_observation(SimulateConfig.model_validate(values), seed, Path(root), item)


def _claim(root: Path, config: SimulateConfig, seed: int) -> None:
    """Marks `root` as the place of this survey.

    Raises:
        ValueError: it is another's.
    """
    identity = {
        "format": FORMAT_VERSION,
        "seed": seed,
        "simulate": config.model_dump(mode="json", exclude={"num_workers"}),
    }
    identity["sha256"] = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    path = root / IDENTITY_FILE
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path}: not JSON ({error}); remove {root} to simulate anew") from error
        if found.get("sha256") != identity["sha256"]:
            raise ValueError(
                f"{root} holds a simulated survey that differs in {_differences(found, identity)}; "
                "remove it, or simulate into another folder"
            )
        return
    root.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(identity, indent=1) + "\n")
    part.replace(path)


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Names what differs between two identities, with both values."""
    a, b = ({**identity, **identity.get("simulate", {})} for identity in (found, wanted))
    names = [name for name in b if name not in ("simulate", "sha256") and a.get(name) != b[name]]
    return ", ".join(f"{name} ({a.get(name)}, now {b[name]})" for name in names) or "its digest"


def _generator(seed: int, stream: int, index: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, index)))


def _shuffled_shares(shares: dict[T, float], count: int, rng: np.random.Generator) -> list[T]:
    """`count` values in proportion to their shares, those with the largest remainder rounded up, in random order."""
    values = list(shares)
    exact = np.array([shares[value] for value in values], dtype=np.float64)
    exact *= count / exact.sum()
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: count - counts.sum()]] += 1
    return [values[index] for index in rng.permutation(np.repeat(np.arange(len(values)), counts))]


def _name_targets(sources: list[int], galaxies: list[Galaxy], seed: int) -> list[Target]:
    """Plates of 17 bundles, numbered within the plate and bundle size; every observation has its own seeing."""
    used: dict[tuple[int, int], int] = {}
    targets = []
    for index, source in enumerate(sources):
        plate = _FIRST_PLATE + index // _BUNDLES_PER_PLATE
        num_fibres = galaxies[source].num_fibres
        slot = used[plate, num_fibres] = used.get((plate, num_fibres), 0) + 1
        seeing = float(np.clip(2.54 + 0.06 * _generator(seed, _OBSERVATION, index).standard_normal(), 2.35, 2.8))
        targets.append(Target(plate, f"{num_fibres}{slot:02d}", f"1-{100001 + source}", seeing))
    return targets
