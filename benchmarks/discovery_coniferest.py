"""The loop of labels with coniferest's forests, in a Python that has coniferest and NumPy; see `benchmarks.discovery`.

Reads `surveys.npz` in a folder and writes `answers.json` there.
"""

import json
import sys
from pathlib import Path

import numpy as np
from coniferest.aadforest import AADForest
from coniferest.coniferest import Coniferest
from coniferest.label import Label
from coniferest.pineforest import PineForest

FORESTS = {"PineForest": PineForest, "AAD": AADForest}


def answers(forest: Coniferest, features: np.ndarray, wanted: np.ndarray, num_labels: int, batch: int) -> list[bool]:
    """Whether each galaxy that the forest asks for is wanted, in its order.

    With a `batch` of 1 these are the steps of coniferest's `Session`, which cannot ask for more at a time.
    """
    labels: dict[int, int] = {}
    forest.fit(features)
    while len(labels) < min(num_labels, len(features)):
        known = np.fromiter(labels.values(), dtype=int, count=len(labels))
        forest.fit_known(features, features[list(labels)], known)
        order = np.argsort(forest.score_samples(features), kind="stable")  # the most unusual have the lowest
        for row in order[~np.isin(order, list(labels))][: min(batch, num_labels - len(labels))]:
            labels[int(row)] = Label.ANOMALY if wanted[row] else Label.REGULAR
    return [label == Label.ANOMALY for label in labels.values()]


def main(folder: Path) -> None:
    """Answers of all forests for all surveys and families."""
    with np.load(folder / "surveys.npz") as file:
        num_labels, batches = int(file["num_labels"]), file["batches"].tolist()
        surveys = [
            (file[f"features-{i}"], file[f"wanted-{i}"]) for i in range(sum("features" in n for n in file.files))
        ]
    found: dict[str, list[list[bool]]] = {}
    for number, (features, families) in enumerate(surveys):
        for name, forest in FORESTS.items():
            for batch in batches:
                for wanted in families:
                    model = forest(random_seed=number, n_jobs=1)
                    asked = answers(model, features.astype(np.float64), wanted, num_labels, batch)
                    found.setdefault(f"{name}, {batch} at a time", []).append(asked)
        print(f"coniferest: survey {number + 1} of {len(surveys)}", flush=True)
    (folder / "answers.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
