"""Computes all measures of each detector from its scores, averaged over seeds, with confidence intervals.

Scores of models of different folds are on different scales, so those of each fold are shifted and scaled by the median
and spread of its clean galaxies. No galaxy sets its own threshold: the two halves of the objects set each other's.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.anomaly.all_detectors import load_detectors
from benchmarks.anomaly.dataset import Data
from benchmarks.anomaly.execute import Task
from benchmarks.anomaly.inject import truth_mask
from benchmarks.anomaly.metrics import (
    amplitude_at_recall,
    auroc,
    average_precision,
    false_discovery_proportion,
    line_family,
    names_line,
    partial_auroc,
    points_at,
    pro_area,
    recall_at,
    share_at,
    threshold_at,
)
from benchmarks.anomaly.real import wins
from benchmarks.anomaly.tiers import Run, Tier
from modeling.scoring.calibration import conformal_p_values, q_values
from modeling.scoring.residual_sums import spearman

FALSE_POSITIVE_RATE = 0.01
NOMINAL_FDR = 0.10
NUM_SPLITS = 100
NUM_POOLS = 50
POOL_POSITIVES = 50
# Localisation is evaluated for injections of this amplitude level and above.
LOCATED_FROM_LEVEL = 2
ORACLE = "oracle matched filter"
CURVES = {"auroc": auroc, "pauroc": partial_auroc, "auprc": average_precision}


@dataclass
class Entry:
    """One score of one detector.

    Attributes:
        detector, variant: names of detector and variant; the detector's own score has no variant.
        group: group of the detector.
        scores: [row] standardised scores of each run.
        located: mean AUPRO, pointing-game and line accuracy of each run.
        real: fraction of the injections into real cubes that score above their clean twin, by amplitude, for each run.
        hypotheses: [row] names of the hypotheses of each run, if the detector has any.
        seconds: CPU seconds to train and score all folds, mean over runs.
        training: the detector's summary of its training in each fold.
    """

    detector: str
    variant: str
    group: str
    scores: dict[Run, np.ndarray] = field(default_factory=dict)
    located: dict[Run, dict[str, float]] = field(default_factory=dict)
    real: dict[Run, pd.Series] = field(default_factory=dict)
    hypotheses: dict[Run, np.ndarray] = field(default_factory=dict)
    seconds: float = float("nan")
    training: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name in the tables."""
        return f"{self.detector}: {self.variant}" if self.variant else self.detector

    def at(self, contamination: float) -> dict[Run, np.ndarray]:
        """Scores of the runs at one contamination."""
        return {run: scores for run, scores in self.scores.items() if run.contamination == contamination}


def load_entries(data: Data, tasks: Sequence[Task]) -> list[Entry]:
    """Entries with the standardised scores of all tasks, and that of the oracle."""
    by_run: dict[tuple[str, Run], list[Task]] = defaultdict(list)
    for task in tasks:
        by_run[task.detector, task.run].append(task)
    truths = [data.truth(fold) for fold in range(data.tier.num_folds)]
    real = data.real()
    entries: dict[str, Entry] = {}
    seconds: dict[str, list[float]] = defaultdict(list)
    for (name, run), parts in by_run.items():
        results = [dict(np.load(task.path)) for task in sorted(parts, key=lambda task: task.fold)]
        variants = {key.removeprefix("variant:"): key for key in results[-1] if key.startswith("variant:")}
        for variant, key in {"": "score", **variants}.items():
            entry = Entry(name, variant, load_detectors()[name].group)
            entry = entries.setdefault(entry.name, entry)
            entry.scores[run] = standardised(np.concatenate([result[key] for result in results]), data.rows)
        if real is not None:
            entries[name].real[run] = wins(results[0]["variant:real"], real[1])
        if "hypotheses" in results[0]:
            entries[name].hypotheses[run] = np.concatenate([result["hypotheses"] for result in results])
        entries[name].located[run] = located(data, results, truths)
        entries[name].training += [str(result["training"]) for result in results if str(result["training"])]
        seconds[name].append(sum(float(result["fit_seconds"] + result["score_seconds"]) for result in results))
    for name, values in seconds.items():
        entries[name].seconds = float(np.mean(values))
    return [*entries.values(), oracle_entry(data)]


def standardised(score: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
    """Scores [row] of all folds on a common scale; NaN (no score) becomes the lowest score.

    Both halves of a fold share one scale, that of all its clean galaxies; otherwise a threshold from one would not hold
    for the other.
    """
    score = np.where(np.isfinite(score), score, np.nanmin(score[np.isfinite(score)], initial=0.0))
    found = np.empty(len(score))
    clean, fold = (rows["family"] == "").to_numpy(), rows["fold"].to_numpy()
    for k in np.unique(fold):
        calibration, mine = score[clean & (fold == k)], fold == k
        centre = np.median(calibration)
        spread = np.median(np.abs(calibration - centre))
        found[mine] = (score[mine] - centre) / (spread if spread > 0 else 1.0)
    return found


def oracle_entry(data: Data) -> Entry:
    """Upper bound: a matched filter that knows the injected signal and the noise-free galaxy."""
    rows = data.rows
    score = rows["oracle"].to_numpy(dtype=float).copy()
    copies = rows[rows["kind"] == "A"].drop_duplicates("twin").set_index("twin")["oracle_clean"]
    clean = (rows["family"] == "").to_numpy()
    score[clean] = copies.reindex(rows["name"][clean]).fillna(0).to_numpy()
    runs = {Run(seed=0, contamination=data.tier.headline): np.nan_to_num(score)}
    return Entry(ORACLE, "", "bound", runs)


def located(data: Data, results: Sequence[Mapping[str, np.ndarray]], truths: Sequence[Any]) -> dict[str, float]:
    """Mean localisation measures of a detector for families A: spaxels (AUPRO, pointing game) and line."""
    families = [line_family(name) for name in data.tier.data.windows.line_names]
    level = min(LOCATED_FROM_LEVEL, len(data.tier.data.amplitudes) - 1)
    found: dict[str, list[float]] = defaultdict(list)
    for fold, (result, truth) in enumerate(zip(results, truths, strict=True)):
        rows = data.rows[data.rows["fold"] == fold]
        for i in np.flatnonzero((rows["kind"] == "A") & (rows["level"] >= level)):
            if "spaxels" in result:
                mask, covered = truth_mask(truth["spaxel_snr2"][i]), truth["covered"][i]
                found["aupro"].append(pro_area(result["spaxels"][i], mask, covered))
                found["pointing_game"].append(points_at(result["spaxels"][i], mask, covered))
            if "lines" in result:
                found["top1_line"].append(names_line(result["lines"][i], truth["line_snr2"][i], families))
    return {name: float(np.nanmean(values)) for name, values in found.items()}


def measure(score: np.ndarray, data: Data) -> dict[str, float]:
    """All measures of one run that depend only on the scores."""
    rows, amplitudes = data.rows, data.tier.data.amplitudes
    clean, is_a, is_c, is_n = ((rows["kind"] == kind).to_numpy() for kind in ("", "A", "C", "N"))
    compared = clean | is_a
    found = {name: float(curve(score[compared], is_a[compared])) for name, curve in CURVES.items()}
    fires = score > thresholds(score, rows)
    recalls = recall_by_amplitude(fires, data)
    found |= {f"recall_{amplitude:g}": recall for amplitude, recall in zip(amplitudes, recalls, strict=True)}
    found |= {"amplitude_50": amplitude_at_recall(amplitudes, recalls)}
    found |= {"fires_clean": float(fires[clean].mean()), "fires_n": float(fires[is_n].mean())}
    found |= pooled(score, clean, is_a, is_c)
    found["fdr_at_10"], found["power_at_10"] = empirical_fdr(score, rows)
    nuisances = {"flux": "flux", "snr": "median_snr", "size": "size"}
    for name, column in nuisances.items():
        value = spearman(score[clean], rows.loc[clean, column].to_numpy(dtype=float))
        found[f"spearman_{name}"] = float("nan") if value is None else value
    return found


def thresholds(score: np.ndarray, rows: pd.DataFrame, rate: float = FALSE_POSITIVE_RATE) -> np.ndarray:
    """Threshold [row] of each row, exceeded by a fraction `rate` of the clean galaxies of the other half."""
    clean, half = (rows["family"] == "").to_numpy(), rows["half"].to_numpy()
    limits = np.array([threshold_at(score[clean & (half != h)], rate) for h in (0, 1)])
    return limits[half]


def recall_by_amplitude(fires: np.ndarray, data: Data, family: str | None = None) -> list[float]:
    """Fraction of the injections of families A, or of one family, above the threshold, at each amplitude."""
    rows = data.rows
    chosen = (rows["kind"] == "A") if family is None else (rows["family"] == family)
    levels = range(len(data.tier.data.amplitudes))
    return [float(fires[chosen & (rows["level"] == level)].mean()) for level in levels]


def pooled(score: np.ndarray, clean: np.ndarray, is_a: np.ndarray, is_c: np.ndarray) -> dict[str, float]:
    """Recall in the top 50 and 100 of mock surveys with 50 anomalies, and artefacts in the top 100 of others.

    The latter hold equal numbers of anomalies and artefacts. Values are means over random draws of the injections; all
    clean galaxies are part of every draw.
    """
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = defaultdict(list)
    a, c = np.flatnonzero(is_a), np.flatnonzero(is_c)
    for _ in range(NUM_POOLS):
        drawn = np.concatenate([np.flatnonzero(clean), rng.choice(a, min(POOL_POSITIVES, len(a)), replace=False)])
        for k in (50, 100):
            found[f"recall_at_{k}"].append(recall_at(score[drawn], is_a[drawn], k))
        count = min(len(a), len(c))
        both = [rng.choice(some, count, replace=False) for some in (a, c)]
        drawn = np.concatenate([np.flatnonzero(clean), *both])
        found["artefact_share_top100"].append(share_at(score[drawn], is_c[drawn], 100))
    return {name: float(np.mean(values)) for name, values in found.items()}


def empirical_fdr(score: np.ndarray, rows: pd.DataFrame) -> tuple[float, float]:
    """False-discovery proportion and power at a nominal false discovery rate of 10%: means over 100 random splits.

    Each split uses half of the objects for calibration. The other half forms a survey in which a tenth of the galaxies
    hold an anomaly.
    """
    rng = np.random.default_rng(0)
    clean, is_a = (rows["family"] == "").to_numpy(), (rows["kind"] == "A").to_numpy()
    objects, number = np.unique(rows["mangaid"].to_numpy(), return_inverse=True)
    proportions, powers = [], []
    for _ in range(NUM_SPLITS):
        calibrating = np.isin(number, rng.choice(len(objects), len(objects) // 2, replace=False))
        null = np.flatnonzero(clean & ~calibrating)
        others = np.flatnonzero(is_a & ~calibrating)
        positives = rng.choice(others, max(min(len(null) // 9, len(others)), 1), replace=False)
        reference = score[clean & calibrating]
        p = conformal_p_values(score[np.concatenate([null, positives])], reference)
        truth = np.arange(len(p)) >= len(null)
        discovered = q_values(p, len(reference)) <= NOMINAL_FDR
        proportions.append(false_discovery_proportion(discovered, truth))
        powers.append(discovered[truth].mean())
    return float(np.mean(proportions)), float(np.mean(powers))


def averaged(entry: Entry, data: Data, contamination: float) -> dict[str, float]:
    """Measures of an entry at one contamination, averaged over seeds."""
    runs = entry.at(contamination)
    parts = [measure(score, data) | entry.located.get(run, {}) for run, score in runs.items()]
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}


class Bootstrap:
    """Bootstrap over objects, with the same resamples for every detector, so that differences are paired."""

    def __init__(self, data: Data, tier: Tier, seed: int = 0) -> None:
        compared = data.rows["kind"].isin(["", "A"]).to_numpy()
        self._compared, self._positive = compared, (data.rows["kind"] == "A").to_numpy()[compared]
        objects, self._index = np.unique(data.rows["mangaid"].to_numpy()[compared], return_inverse=True)
        rng = np.random.default_rng(seed)
        self._counts = rng.multinomial(len(objects), np.full(len(objects), 1 / len(objects)), size=tier.num_bootstrap)

    def pauroc(self, entry: Entry, contamination: float) -> np.ndarray:
        """Partial AUROC [resample], averaged over seeds."""
        runs = [score[self._compared] for score in entry.at(contamination).values()]
        parts = [
            np.mean([partial_auroc(score, self._positive, weight=counts[:, self._index]) for score in runs], axis=0)
            for counts in np.array_split(self._counts, max(len(self._counts) // 50, 1))
        ]
        return np.concatenate(parts)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Limits of the central 95% of the values."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
