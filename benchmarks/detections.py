"""Detections against labels: what p-values find once unusual galaxies of the validation split are labelled.

Mock surveys are those of `benchmarks.discovery`, of both folds: all families of anomalies and artefacts have the same
share. A fifth of the galaxies are the validation split, with which p-values compare. Somebody labels its first galaxies
by score, and the anomalies among them no longer calibrate. Detections are galaxies outside that split with a q-value of
at most 0.1.

    python -m benchmarks.anomaly --tier survey --work runs/benchmark
    python -m benchmarks.detections --tier survey --work runs/benchmark [--repeats 50]
"""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.anomaly.dataset import prepare_data
from benchmarks.anomaly.tiers import TIERS
from benchmarks.discovery import Scored, mock_survey, read_scored
from modeling.scoring.calibration import q_values
from modeling.scoring.ensemble import p_values

SHARES = (0.005, 0.01, 0.02)  # of each family
NUM_LABELS = (0, 10, 20, 50)
VALIDATION_SHARE = 0.2
FDR = 0.1


class Found(NamedTuple):
    """Detections of one survey.

    Attributes:
        detections: their number.
        wrong: those without an anomaly.
        fdp: the false-discovery proportion: their share, 0 without detections.
        power: share of the anomalies outside the validation split that are detected.
    """

    detections: float
    wrong: float
    fdp: float
    power: float


class Means(NamedTuple):
    """Means over surveys.

    Attributes:
        any: share of the surveys with detections.
        detections: their number.
        fdr: mean false-discovery proportion, what the nominal rate bounds.
        wrong: share of all detections of all surveys without an anomaly.
        power: mean power.
    """

    any: float
    detections: float
    fdr: float
    wrong: float
    power: float

    @classmethod
    def of(cls, found: list[Found]) -> "Means":
        """Means over the detections of some surveys."""
        detections, wrong, fdp, power = np.array(found).T
        share = wrong.sum() / max(detections.sum(), 1)
        return cls(*map(float, ((detections > 0).mean(), detections.mean(), fdp.mean(), share, power.mean())))


def detect(survey: Scored, validation: np.ndarray, num_labels: int) -> Found:
    """Detections once the first galaxies of the validation split, [galaxy] bool, have labels."""
    anomaly = survey.kind == "A"
    split = np.flatnonzero(validation)
    labelled = split[np.argsort(-survey.score[split])][:num_labels]
    calibrating = validation.copy()
    calibrating[labelled[anomaly[labelled]]] = False
    p = p_values(survey.score, np.zeros(len(survey.score), dtype=int), calibrating)
    detected = (q_values(p, int(calibrating.sum())) <= FDR) & ~validation
    number, right = detected.sum(), (detected & anomaly).sum()
    wrong = number - right
    return Found(number, wrong, wrong / max(number, 1), right / max((anomaly & ~validation).sum(), 1))


def in_words(mean: Means) -> str:
    """A cell of the table."""
    return (
        f"{mean.any:.0%}; {mean.detections:.1f}; {mean.fdr:.3f}, {mean.wrong:.3f}; {mean.power:.2f}"
        if mean.any
        else "none"
    )


def joined(folds: list[Scored]) -> Scored:
    """Galaxies of all folds, whose scores are standardised fold by fold."""
    return Scored(*(np.concatenate([getattr(fold, field) for fold in folds]) for field in Scored.__dataclass_fields__))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Prints the detections; returns the figures that it prints at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", choices=TIERS, default="small")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--repeats", type=int, default=50, help="mock surveys of each share")
    options = parser.parse_args(arguments)
    # Both folds in one survey: the more galaxies, the smaller the least p-value.
    pool = joined(read_scored(prepare_data(TIERS[options.tier], options.work, os.cpu_count() or 1)))
    headings = [f"{number} labels" for number in NUM_LABELS]
    title = "surveys with detections; detections; their false discovery rate, over surveys and over detections; power"
    table = Table("share of anomalies", *headings, title=title)
    figures: dict[str, float] = {}
    for share in SHARES:
        found: dict[int, list[Found]] = {number: [] for number in NUM_LABELS}
        anomalies = []
        for repeat in range(options.repeats):
            rng = np.random.default_rng(repeat)
            survey = mock_survey(pool, rng, share)
            anomalies.append((survey.kind == "A").mean())
            validation = rng.random(len(survey.score)) < VALIDATION_SHARE
            for number, some in found.items():
                some.append(detect(survey, validation, number))
        means = {number: Means.of(some) for number, some in found.items()}
        table.add_row(f"{np.mean(anomalies):.1%}", *map(in_words, means.values()))
        for number, mean in means.items():
            label = f"{number}_labels_{np.mean(anomalies):.3f}"
            figures |= {f"{name}_{label}": value for name, value in mean._asdict().items()}
    Console().print(table)
    for name, value in figures.items():
        print(f"{name}={value:.3f}")
    return figures


if __name__ == "__main__":
    main()
