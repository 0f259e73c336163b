"""Finds against labels: `cubescout rerank` beside the score alone, chance, and coniferest's PineForest and AAD.

Mock surveys are drawn from the galaxies that `benchmarks.anomaly` has scored. In each, the twins of 1% are replaced by
copies of the family that is sought, and as many by copies of every other family of anomalies and artefacts, at all
amplitudes. The labels are right: the family sought is a find, all others are rejected.

All methods that learn get the same features, those of `rerank`, and ask for five labels at a time, or for one.
coniferest (https://coniferest.snad.space) runs in its own Python. Results are a table and `finds.png`, finds
against labels, in the work folder.

    python -m benchmarks.anomaly --tier survey --work runs/benchmark
    python -m benchmarks.discovery --tier survey --work runs/benchmark [--coniferest-python PYTHON] [--repeats 10]
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.anomaly.dataset import Data, prepare_data
from benchmarks.anomaly.evaluate import standardised
from benchmarks.anomaly.execute import result_path
from benchmarks.anomaly.tiers import TIERS
from modeling.labels.rerank import Reranker, ask_next, features_of
from modeling.latents.neighbours import standardise
from modeling.scoring.galaxy_scorer import SIGNIFICANCES

DETECTOR = "Cubescout"
BATCH = 5
OURS, ONE = f"cubescout rerank, {BATCH} at a time", "cubescout rerank, 1 at a time"
WITHOUT, ALL = f"rerank without lines and hypotheses, {BATCH} at a time", "as many as there are"
PREVALENCE = 0.01
NUM_LABELS = (10, 25, 50, 100)
# Panels of the figure: methods with one label at a time, then with several. Okabe & Ito's colours and line styles.
ALWAYS = {"score alone": ("#000000", ":"), "chance": ("#999999", "-"), ALL: ("#999999", ":")}
PANELS = (
    ALWAYS | {ONE: ("#D55E00", "-"), "PineForest, 1 at a time": ("#0072B2", "--"),
              "AAD, 1 at a time": ("#009E73", "-.")},
    ALWAYS | {OURS: ("#D55E00", "-"), f"PineForest, {BATCH} at a time": ("#0072B2", "--"),
              f"AAD, {BATCH} at a time": ("#009E73", "-."), WITHOUT: ("#CC79A7", "-")},
)  # fmt: skip
PEER = Path(__file__).with_name("discovery_coniferest.py")


@dataclass(frozen=True)
class Scored:
    """Scored galaxies of one fold, those of a split of the benchmark.

    Attributes:
        score: [row] combined score.
        scores: [row, score] its parts.
        latent: [row, dimension] standardised.
        by_line: [row, line] excess of each line.
        hypothesis: [row] names.
        family, kind, twin: [row] of the injection; a clean galaxy has no family and kind.
    """

    score: np.ndarray
    scores: np.ndarray
    latent: np.ndarray
    by_line: np.ndarray
    hypothesis: np.ndarray
    family: np.ndarray
    kind: np.ndarray
    twin: np.ndarray

    def of(self, rows: np.ndarray) -> "Scored":
        """Some of the galaxies."""
        return Scored(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def features(self) -> np.ndarray:
        """Features [row, feature] that `rerank` learns from."""
        return features_of(self.latent, self.scores, self.by_line, self.hypothesis)

    def families(self, kinds: str) -> list[str]:
        """Names of the families of these kinds."""
        return sorted(set(self.family[np.isin(self.kind, list(kinds))]))


def read_scored(data: Data) -> list[Scored]:
    """Galaxies of each fold with the scores of our network's first run.

    Raises:
        FileNotFoundError: a fold has not been scored.
    """
    found = []
    for fold in range(data.tier.num_folds):
        path = result_path(data, DETECTOR, data.tier.network_runs[0], fold)
        if not path.exists():
            raise FileNotFoundError(f"{path}: run `python -m benchmarks.anomaly` of this tier and work folder first")
        rows = data.rows[data.rows["fold"] == fold]
        with np.load(path) as file:
            scores = [file[f"variant:{name.replace('_', ' ')}"] for name in SIGNIFICANCES]
            arrays = {name: file[name] for name in ("score", "latents", "lines", "hypotheses")}
        names = [rows[name].to_numpy(dtype=str) for name in ("family", "kind", "twin")]
        score = standardised(arrays["score"], rows)
        latent = standardise(arrays["latents"])
        found.append(Scored(score, np.stack(scores, axis=1), latent, arrays["lines"], arrays["hypotheses"], *names))
    return found


def mock_survey(pool: Scored, rng: np.random.Generator, prevalence: float = PREVALENCE) -> Scored:
    """Each galaxy once: clean, or as a copy of some family, each of which has a share of `prevalence`."""
    clean = np.flatnonzero(pool.kind == "")
    number = max(round(prevalence * len(clean)), 1)
    taken: dict[str, int] = {}
    for family in pool.families("AC"):
        copies = rng.permutation(np.flatnonzero(pool.family == family))
        free = [row for row in copies if pool.twin[row] not in taken]
        taken |= {pool.twin[row]: int(row) for row in free[:number]}
    return pool.of(np.array([taken.get(pool.twin[row], row) for row in clean]))


def finds_of_rerank(survey: Scored, wanted: np.ndarray, *, batch: int = BATCH, reasons: bool = True) -> list[bool]:
    """Answers in the order in which `rerank` asks, some at a time, with or without lines and hypotheses."""
    labels: dict[int, bool] = {}
    known = (survey.by_line, survey.hypothesis) if reasons else ()
    reranker = Reranker(survey.latent, survey.score, survey.scores, *known)
    while len(labels) < NUM_LABELS[-1]:
        asked = ask_next(reranker, labels, np.arange(len(wanted)), batch)
        if not asked.size:
            raise ValueError(f"{len(wanted)} galaxies are too few for {NUM_LABELS[-1]} labels: take a larger tier")
        labels |= {int(row): bool(wanted[row]) for row in asked}
    return list(labels.values())


def finds_of_coniferest(
    python: str, surveys: list[tuple[Scored, list[np.ndarray]]], folder: Path
) -> dict[str, list[list[bool]]]:
    """Answers in the order in which coniferest's methods ask, by method, for each survey and family in turn."""
    arrays = {f"features-{i}": survey.features for i, (survey, _) in enumerate(surveys)}
    arrays |= {f"wanted-{i}": np.array(wanted) for i, (_, wanted) in enumerate(surveys)}
    arrays |= {"num_labels": np.array(NUM_LABELS[-1]), "batches": np.array([1, BATCH])}
    np.savez(folder / "surveys.npz", **arrays)  # type: ignore[arg-type]
    # Only its own packages, not those of this Python's path.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, str(PEER), str(folder)], check=True, env=environment)
    found: dict[str, list[list[bool]]] = json.loads((folder / "answers.json").read_text())
    return found


def curves(answers: list[list[bool]], num_surveys: int) -> np.ndarray:
    """Finds [survey, label] up to each label, mean over families, of answers by survey and family in turn."""
    return np.cumsum(answers, axis=1).reshape(num_surveys, -1, NUM_LABELS[-1]).mean(axis=1)


def orders(survey: Scored, wanted: list[np.ndarray], rng: np.random.Generator) -> Iterator[tuple[str, list[bool]]]:
    """Yields the answers of the methods that are ours or need no learning, family by family."""
    static = np.argsort(-survey.score)
    for family in wanted:
        yield "chance", family[rng.permutation(len(family))[: NUM_LABELS[-1]]].tolist()
        yield "score alone", family[static[: NUM_LABELS[-1]]].tolist()
        yield OURS, finds_of_rerank(survey, family)
        yield ONE, finds_of_rerank(survey, family, batch=1)
        yield WITHOUT, finds_of_rerank(survey, family, reasons=False)
        yield ALL, sorted(family.tolist(), reverse=True)[: NUM_LABELS[-1]]


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Prints the finds of all methods; returns the figures that it prints at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", choices=TIERS, default="small")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--repeats", type=int, default=10, help="mock surveys of each fold")
    parser.add_argument("--coniferest-python", help="Python that has coniferest")
    options = parser.parse_args(arguments)
    data = prepare_data(TIERS[options.tier], options.work, os.cpu_count() or 1)
    pools = read_scored(data)
    surveys: list[tuple[Scored, list[np.ndarray]]] = []
    answers: dict[str, list[list[bool]]] = {}
    for repeat in range(options.repeats):
        for fold, pool in enumerate(pools):
            rng = np.random.default_rng([repeat, fold])
            survey = mock_survey(pool, rng)
            wanted = [survey.family == family for family in survey.families("A")]
            surveys.append((survey, wanted))
            for name, answer in orders(survey, wanted, rng):
                answers.setdefault(name, []).append(answer)
    if options.coniferest_python:
        with tempfile.TemporaryDirectory() as folder:
            answers |= finds_of_coniferest(options.coniferest_python, surveys, Path(folder))
    finds = {name: curves(values, len(surveys)) for name, values in answers.items()}
    plot(finds, options.work / "finds.png")
    return report(finds)


def plot(finds: dict[str, np.ndarray], path: Path) -> None:
    """Plots finds [survey, label] against labels: means, and bands of the spread over surveys."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 4.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    labels = np.arange(1, NUM_LABELS[-1] + 1)
    for ax, panel in zip(axes, PANELS, strict=True):
        for name, (colour, dashes) in panel.items():
            if name in finds:
                mean, spread = finds[name].mean(axis=0), finds[name].std(axis=0)
                ax.plot(labels, mean, color=colour, linestyle=dashes, linewidth=2, label=name)
                ax.fill_between(labels, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
        ax.set(xlim=(0, NUM_LABELS[-1]), ylim=(0, None), xlabel="labels given")
        ax.grid(color="#eeeeee")
        ax.legend(fontsize=8, loc="lower right", framealpha=0.9)
    axes[0].set_ylabel("galaxies found of the family that is sought")
    figure.savefig(path, dpi=150)


def report(finds: dict[str, np.ndarray]) -> dict[str, float]:
    """Prints mean finds [survey, label] of each method with their spread over surveys; returns figures.

    These are ratios of ours to each method; methods that ask for one label at a time are compared with ours at one.
    """
    finds = {name: values[:, np.array(NUM_LABELS) - 1] for name, values in finds.items()}
    table = Table("finds, mean over families, and spread over surveys", *(f"{number} labels" for number in NUM_LABELS))
    for name, values in finds.items():
        mean, spread = values.mean(axis=0), values.std(axis=0)
        table.add_row(name, *(f"{value:.1f} +- {sigma:.1f}" for value, sigma in zip(mean, spread, strict=True)))
    Console().print(table)
    figures: dict[str, float] = {}
    for name in (name for name in finds if name not in (OURS, ONE)):
        ours = ONE if name.endswith(", 1 at a time") else OURS
        ratio = finds[ours].mean(axis=0) / np.maximum(finds[name].mean(axis=0), 1e-9)
        label = "all" if name == ALL else name.replace(" ", "_").replace(",", "")
        figures |= {f"finds_{n}_vs_{label}": float(r) for n, r in zip(NUM_LABELS, ratio, strict=True)}
    for name, value in figures.items():
        print(f"{name}={value:.2f}")
    return figures


if __name__ == "__main__":
    main()
