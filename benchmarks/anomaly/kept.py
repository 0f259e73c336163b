"""Scores of the paper's networks that are kept in the repository, since their training takes hours.

`--paper` trains them and writes such a file; a run without it shows the file's scores if they belong to the same data.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.anomaly.evaluate import Entry
from benchmarks.anomaly.tiers import Run
from cubeprep.files import replacing

FOLDER = Path(__file__).parents[1] / "results"
GROUP = "paper"


def kept_path(tier: str, folder: Path = FOLDER) -> Path:
    """Path of the kept scores of a tier."""
    return folder / f"paper-{tier}.npz"


def write_kept(path: Path, entries: Sequence[Entry], digest: str) -> None:
    """Writes the paper's entries, without variants, and the sha256 of the data that they belong to."""
    about: list[dict[str, Any]] = []
    scores: list[np.ndarray] = []
    for entry in entries:
        for run, score in entry.scores.items() if entry.group == GROUP and not entry.variant else ():
            row = {"detector": entry.detector, "run": run.model_dump(), "seconds": entry.seconds}
            about.append(row | {"located": entry.located.get(run, {}), "training": entry.training})
            scores.append(score.astype(np.float32))
    text = json.dumps({"data_sha256": digest, "entries": about})
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, about=np.array(text), scores=np.stack(scores))


def read_kept(path: Path, digest: str) -> list[Entry]:
    """Entries of a file of `write_kept`; none if there is no file or it is of other data, which is said."""
    if not path.exists():
        print(f"{path}: not there, so that there are no rows of the paper's networks; --paper makes it")
        return []
    with np.load(path) as found:
        about, scores = json.loads(str(found["about"])), found["scores"].astype(np.float64)
    if about["data_sha256"] != digest:
        print(
            f"{path}: not shown, since its scores are of data with sha256 {about['data_sha256'][:16]} and these are "
            f"{digest[:16]}; --paper makes it again"
        )
        return []
    entries: dict[str, Entry] = {}
    for row, score in zip(about["entries"], scores, strict=True):
        entry = Entry(row["detector"], "", GROUP, seconds=row["seconds"], training=row["training"])
        entry = entries.setdefault(row["detector"], entry)
        run = Run.model_validate(row["run"])
        entry.scores[run], entry.located[run] = score, row["located"]
    return list(entries.values())
