"""Scores of the paper's networks that are kept in the repository, since their training takes hours.

`--paper` trains them and writes such a file; a run without it shows the file's scores if they belong to the same rows.
Rows are identified by their fluxes and S/N: other galaxies differ by far more than another version's windows of the
same ones; that smaller difference is printed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.anomaly.evaluate import Entry
from benchmarks.anomaly.tiers import Run
from cubeprep.files import replacing

FOLDER = Path(__file__).parents[1] / "results"
GROUP = "paper"
MEASURED = ("flux", "median_snr")
# Largest median relative differences of a measured value by rounding of another processor, and by another version.
ROUNDED, SAME_ROWS = 1e-4, 0.1


def kept_path(tier: str, folder: Path = FOLDER) -> Path:
    """Path of the kept scores of a tier."""
    return folder / f"paper-{tier}.npz"


def write_kept(path: Path, entries: Sequence[Entry], rows: pd.DataFrame) -> None:
    """Writes the paper's entries, without variants, and the values that identify the rows of their data."""
    about: list[dict[str, Any]] = []
    scores: list[np.ndarray] = []
    for entry in entries:
        for run, score in entry.scores.items() if entry.group == GROUP and not entry.variant else ():
            row = {"detector": entry.detector, "run": run.model_dump(), "seconds": entry.seconds}
            about.append(row | {"located": entry.located.get(run, {}), "training": entry.training})
            scores.append(score.astype(np.float32))
    measured = {name: rows[name].to_numpy(dtype=np.float32) for name in MEASURED}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps({"entries": about})), scores=np.stack(scores), **measured)


def read_kept(path: Path, rows: pd.DataFrame) -> list[Entry]:
    """Entries of a file of `write_kept`; none, with a message, if there is no file or it is of other data."""
    if not path.exists():
        print(f"{path}: not there, so that there are no rows of the paper's networks; --paper makes it")
        return []
    with np.load(path) as found:
        about, scores = json.loads(str(found["about"])), found["scores"].astype(np.float64)
        measured = {name: found[name] for name in MEASURED}
    differences = {name: _difference(values, rows[name].to_numpy(dtype=float)) for name, values in measured.items()}
    if max(differences.values()) > SAME_ROWS:
        print(f"{path}: not shown, since its scores are of other data; --paper makes it again")
        return []
    notes = []
    if max(differences.values()) > ROUNDED:
        said = " and ".join(f"{name} by {value:.2%}" for name, value in differences.items())
        notes = [f"scored in another version's windows of the same rows; in the median {said} off"]
        print(f"{path}: {notes[0]}")
    entries: dict[str, Entry] = {}
    for row, score in zip(about["entries"], scores, strict=True):
        entry = Entry(row["detector"], "", GROUP, seconds=row["seconds"], training=row["training"] + notes)
        entry = entries.setdefault(row["detector"], entry)
        run = Run.model_validate(row["run"])
        entry.scores[run], entry.located[run] = score, row["located"]
    return list(entries.values())


def _difference(kept: np.ndarray, values: np.ndarray) -> float:
    """Median relative difference, infinite if the numbers of rows differ."""
    if kept.shape != values.shape:
        return float("inf")
    return float(np.nanmedian(np.abs(kept - values) / np.maximum(np.abs(values), 1e-6)))
