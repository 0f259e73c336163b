"""Anomalies that no choice was made with: does the score detect kinds that nobody anticipated?

    python -m benchmarks.anomaly.unseen --tier survey --work runs/benchmark [--galaxies 240] [--network FOLDER]

The families below are not those of the benchmark. Galaxies of one fold, injected with three of them each, are scored by
detectors that were trained on the other fold, beside the fold's galaxies as observed. A choice made in view of these
results must be tested on other families. `--network` uses a trained network instead of training one.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.anomaly.all_detectors import load_detectors
from benchmarks.anomaly.dataset import Data, prepare_data
from benchmarks.anomaly.detectors.detector import Detector, shards
from benchmarks.anomaly.detectors.networks import Cubescout
from benchmarks.anomaly.families import Added, Family, Kind
from benchmarks.anomaly.inject import inject
from benchmarks.anomaly.light import Component, added, gas, own_gas, somewhere, spot
from benchmarks.anomaly.metrics import partial_auroc
from benchmarks.anomaly.pool import run_all
from benchmarks.anomaly.samples import training_store
from benchmarks.anomaly.scene import Host
from benchmarks.anomaly.simulated import make_source, plan
from benchmarks.anomaly.tiers import TIERS, DataConfig, Run
from cubeprep.augment import view_rng
from cubeprep.store import Windows, WindowStore
from modeling.network.checkpoint import load_model
from modeling.resampling import bootstrap_weights

COPIES = 3
NUM_BOOTSTRAP = 400
# Extinction of a dust lane at 5500 Angstrom, magnitudes; it falls with wavelength.
MOST_DUST = 3.0


class NitrogenRich:
    """A region with [N II] alone in excess, as around Wolf-Rayet stars."""

    name = "nitrogen_rich"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        image = spot(host, *somewhere(host, rng, 0, 0.6), host.source.psf_sigma * rng.uniform(1, 2))
        fluxes = {"NII-6585": 1.0, "NII-6549": 0.327}
        return added(host, Component(fluxes, rng.uniform(-100, 100), rng.uniform(40, 100), image))


class ShockedRing:
    """A ring of shocked gas: strong [O I], [N II] and [S II], broad lines."""

    name = "shocked_ring"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        fluxes = gas(rng.uniform(1, 2), rng.uniform(0.8, 1.5), rng.uniform(0.8, 1.4), rng.uniform(0.3, 0.5))
        radius = np.hypot(*host.offsets) - rng.uniform(0.3, 0.6) * reach(host)
        image = np.exp(-0.5 * (radius / host.source.psf_sigma) ** 2)
        return added(host, Component(fluxes, rng.uniform(-50, 50), rng.uniform(150, 250), image / image.sum()))


class DustLane:
    """A straight lane of dust, which dims lines and continuum, more so in the blue."""

    name = "dust_lane"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        dy, dx = host.offsets
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3) * reach(host)
        lane = np.exp(-0.5 * ((dy * np.cos(angle) + dx * np.sin(angle) - offset) / host.source.psf_sigma) ** 2)

        def light(wave: np.ndarray, scene: np.ndarray) -> np.ndarray:
            magnitudes = MOST_DUST * 5500.0 / wave[:, None, None] * lane
            return np.asarray(scene * (10 ** (-0.4 * magnitudes) - 1))

        return Added(light, 1.0)


class CounterRotatingCore:
    """An inner galaxy that rotates the other way: its spectra are those of the opposite side."""

    name = "counter_rotating_core"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        core = np.exp(-0.5 * (np.hypot(*host.offsets) / (0.35 * reach(host))) ** 4)

        def light(wave: np.ndarray, scene: np.ndarray) -> np.ndarray:
            turned = scene[:, ::-1, ::-1]
            brightness, of_turned = np.median(scene, axis=0), np.median(turned, axis=0)
            return np.asarray(core * (turned * np.clip(brightness / np.maximum(of_turned, 1e-6), 0.2, 5) - scene))

        return Added(light, 1.0)


class Companion:
    """A companion with the same line ratios, displaced by 200 to 400 km/s."""

    name = "companion"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        image = spot(host, *somewhere(host, rng, 0.5, 0.9), host.source.psf_sigma * rng.uniform(1.2, 2))
        velocity = rng.choice([-1, 1]) * rng.uniform(200, 400)
        return added(host, Component(own_gas(host), velocity, rng.uniform(40, 80), image))


class IonisationCone:
    """Two cones of highly ionised gas on opposite sides, moving apart."""

    name = "ionisation_cone"
    kind: Kind = "A"

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Added:
        """Change to the galaxy; see `Family.draw`."""
        fluxes = gas(
            rng.uniform(8, 13), rng.uniform(0.5, 1), rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.2),
            HeII_4687=0.25, NeIII_3869=0.8,
        )  # fmt: skip
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.6) * reach(host)
        velocity, parts = rng.uniform(50, 250), []
        for side in (-1, 1):
            sigma = host.source.psf_sigma * rng.uniform(1.2, 2)
            image = spot(host, side * radius * np.sin(angle), side * radius * np.cos(angle), sigma)
            parts.append(Component(fluxes, side * velocity, rng.uniform(80, 150), image))
        return added(host, *parts)


UNSEEN: tuple[Family, ...] = (
    NitrogenRich(),
    ShockedRing(),
    DustLane(),
    CounterRotatingCore(),
    Companion(),
    IonisationCone(),
)


def reach(host: Host) -> float:
    """Distance of the outermost covered spaxel from the middle, spaxels."""
    return float(np.hypot(*host.offsets)[host.covered].max(initial=1.0))


class Task(NamedTuple):
    """A galaxy to inject into."""

    data: DataConfig
    galaxy: int
    number: int


class Injected(NamedTuple):
    """Windows of a galaxy's injected copies, and their rows."""

    windows: Windows
    rows: pd.DataFrame


def inject_galaxy(task: Task) -> Injected:
    """Injects the families whose turn it is; amplitudes advance with the family, too."""
    data, item = task.data, plan(task.data.simulate, task.data.seed)[task.galaxy]
    host = Host(make_source(item, data.simulate, data.seed, data.windows.size, data.bin_factor), data.windows)
    rows, windows = [], []
    for turn in range(COPIES * task.number, COPIES * (task.number + 1)):
        family, level = UNSEEN[turn % len(UNSEEN)], (turn // len(UNSEEN) + turn % len(UNSEEN)) % len(data.amplitudes)
        rng = view_rng(data.seed, f"{item.target.plateifu}/{family.name}/0", level)
        found = inject(host, family.draw(host, level, rng), data.amplitudes[level])
        name = f"{item.target.plateifu}+{family.name}-{level}"
        row = {"name": name, "twin": item.target.plateifu, "family": family.name}
        rows.append(row | {"snr": found.snr, "reached": found.reached})
        windows.append(found.windows)
    arrays = (np.stack([getattr(part, name) for part in windows]) for name in ("flux", "ivar", "mask"))
    names = np.array([row["name"] for row in rows])
    return Injected(Windows(*arrays, names, np.zeros(len(names), dtype=int)), pd.DataFrame(rows))


def observed(data: Data, fold: int) -> Iterator[Windows]:
    """Galaxies of a fold as observed, shard by shard."""
    clean = set(data.rows.loc[data.rows["family"] == "", "name"])
    for windows in shards(WindowStore.open(data.store(fold)), "test"):
        yield windows.select(np.flatnonzero([str(name) in clean for name in windows.plateifu]))


def trained(detector: type[Detector], data: Data, fold: int, run: Run, network: Path | None) -> Detector:
    """Detector trained on the other folds, or with a trained network, calibrated on them."""
    made, store = detector(data.tier, run), training_store(data, fold, run)
    if network and isinstance(made, Cubescout):
        made.model, _ = load_model(network)
        made.lines = made.order(store.shape[0])
        made.calibrate(store, "train")
    else:
        made.fit(store, "train")
    return made


def compare(rows: pd.DataFrame, clean: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """pAUROC of each detector for each family and for all, with 95% intervals, and excess of the first over the others.

    Args:
        rows: of injections, with a column of scores for each detector.
        clean: the same of galaxies as observed, with their mangaid: objects are resampled.
        names: of the detectors.
    """
    galaxies = pd.Index(clean["name"])
    drawn = np.array(list(bootstrap_weights(clean["mangaid"].to_numpy(), NUM_BOOTSTRAP, 0)))
    found = []
    for family in ("all", *sorted(set(rows["family"]))):
        mine = rows if family == "all" else rows[rows["family"] == family]
        positive = np.repeat([False, True], [len(clean), len(mine)])
        weight = np.hstack([drawn, drawn[:, galaxies.get_indexer(mine["twin"])]])
        row: dict[str, object] = {"family": family, "number": len(mine), "reached": mine["reached"].mean()}
        score = {name: np.concatenate([clean[name], mine[name]]) for name in names}
        resampled = {name: partial_auroc(score[name], positive, weight=weight) for name in names}
        for name in names:
            row[name] = f"{partial_auroc(score[name], positive):.3f} ({interval(resampled[name])})"
        row |= {f"less {name}": interval(resampled[names[0]] - resampled[name]) for name in names[1:]}
        found.append(row)
    return pd.DataFrame(found)


def interval(values: np.ndarray) -> str:
    """Central 95% of resampled values, as text."""
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{low:.3f} to {high:.3f}"


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Runs the comparison; returns its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", choices=TIERS, default="survey")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark"), help="folder of the benchmark's data")
    parser.add_argument("--fold", type=int, default=1, help="fold whose galaxies are injected")
    parser.add_argument("--galaxies", type=int, default=240, help="number of galaxies that are injected")
    parser.add_argument("--network", type=Path, help="folder of a trained network of the other folds")
    parser.add_argument("--detectors", nargs="+", default=["Cubescout", "PCA-512"], choices=load_detectors())
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    tier = TIERS[options.tier]
    data = prepare_data(tier, options.work, options.workers)
    of_fold = data.rows[(data.rows["fold"] == options.fold) & (data.rows["family"] == "")]
    chosen = enumerate(of_fold["galaxy"].head(options.galaxies))
    tasks = [Task(tier.data, int(galaxy), number) for number, galaxy in chosen]
    made = {task.number: part for task, part in run_all(inject_galaxy, tasks, options.workers)}
    parts = [made[task.number] for task in tasks]
    rows = pd.concat([part.rows for part in parts], ignore_index=True)
    clean = of_fold[["name", "mangaid"]].reset_index(drop=True)
    run = next(run for run in tier.runs if run.contamination == tier.headline)
    for name in options.detectors:
        detector = trained(load_detectors()[name], data, options.fold, run, options.network)
        rows[name] = np.concatenate([detector.score_windows(part.windows).score for part in parts])
        clean[name] = np.concatenate([detector.score_windows(part).score for part in observed(data, options.fold)])
    table = compare(rows, clean, options.detectors)
    shown = Table(*table.columns, title=f"{len(clean)} galaxies as observed, {len(rows)} injections; pAUROC, 95%")
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row))
    Console(width=160).print(shown)
    return table


if __name__ == "__main__":
    main()
