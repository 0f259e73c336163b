"""Finds against labels: `cubescout rerank` beside the score alone, chance, and coniferest's PineForest and AAD.

Mock surveys are drawn from the galaxies that `benchmarks.anomaly` has scored. In each, the twins of 1% are replaced by
copies of the family that is sought, and as many by copies of every other family of anomalies and artefacts, at all
amplitudes. Whoever labels galaxies knows the family: the one sought is a find, all others are rejected.

All methods that learn get the same features: those of `rerank`. coniferest (https://coniferest.snad.space) runs in a
Python of its own, with its `Session`, which asks for one label at a time; `rerank` asks for five, and for one.

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
OURS, ONE = "cubescout rerank", "rerank, one label at a time"
WITHOUT, ALL = "rerank without lines and hypotheses", "as many as there are"
PREVALENCE = 0.01
NUM_LABELS = (10, 25, 50, 100)
BATCH = 5
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


def mock_survey(pool: Scored, rng: np.random.Generator) -> Scored:
    """Each galaxy once: clean, or as a copy of some family, with `PREVALENCE` of each family."""
    clean = np.flatnonzero(pool.kind == "")
    number = max(round(PREVALENCE * len(clean)), 1)
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
        labels |= {int(row): bool(wanted[row]) for row in asked}
    return list(labels.values())


def finds_of_coniferest(
    python: str, surveys: list[tuple[Scored, list[np.ndarray]]], folder: Path
) -> dict[str, list[list[bool]]]:
    """Answers in the order in which coniferest's methods ask, by method, for each survey and family in turn."""
    arrays = {f"features-{i}": survey.features for i, (survey, _) in enumerate(surveys)}
    arrays |= {f"wanted-{i}": np.array(wanted) for i, (_, wanted) in enumerate(surveys)}
    np.savez(folder / "surveys.npz", num_labels=NUM_LABELS[-1], **arrays)
    # Its own packages alone: not those of this Python's path.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, str(PEER), str(folder)], check=True, env=environment)
    found: dict[str, list[list[bool]]] = json.loads((folder / "answers.json").read_text())
    return found


def curves(answers: list[list[bool]]) -> np.ndarray:
    """Finds [run, number of labels] after `NUM_LABELS`."""
    return np.array([[sum(one[:number]) for number in NUM_LABELS] for one in answers])


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
    surveys, answers = [], {}
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
    return report({name: curves(values) for name, values in answers.items()}, len(surveys))


def report(finds: dict[str, np.ndarray], num_surveys: int) -> dict[str, float]:
    """Prints mean finds [run, number of labels] of each method with their spread over surveys; returns figures."""
    table = Table("finds, mean over families, and spread over surveys", *(f"{number} labels" for number in NUM_LABELS))
    for name, values in finds.items():
        by_survey = values.reshape(num_surveys, -1, len(NUM_LABELS)).mean(axis=1)
        spread = by_survey.std(axis=0)
        table.add_row(
            name, *(f"{mean:.1f} +- {one:.1f}" for mean, one in zip(by_survey.mean(axis=0), spread, strict=True))
        )
    Console().print(table)
    ours, figures = finds[OURS].mean(axis=0), {}
    for name in (name for name in finds if name != OURS):
        ratio = ours / np.maximum(finds[name].mean(axis=0), 1e-9)
        label = "all" if name == ALL else name.replace(" ", "_").replace(",", "")
        figures |= {f"finds_{n}_vs_{label}": float(r) for n, r in zip(NUM_LABELS, ratio, strict=True)}
    for name, value in figures.items():
        print(f"{name}={value:.2f}")
    return figures


if __name__ == "__main__":
    main()
