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
from coniferest.session import Session

FORESTS = {"PineForest": PineForest, "AAD": AADForest}


def answers(forest: Coniferest, features: np.ndarray, wanted: np.ndarray, num_labels: int) -> list[bool]:
    """Whether each galaxy that the forest asks for is wanted, in its order."""
    found: list[bool] = []

    def decide(row: int, _: np.ndarray, session: Session) -> Label:
        found.append(bool(wanted[row]))
        if len(found) == num_labels:
            session.terminate()
        return Label.ANOMALY if wanted[row] else Label.REGULAR

    Session(features, np.arange(len(features)), decision_callback=decide, model=forest).run()
    return found


def main(folder: Path) -> None:
    """Answers of all forests for all surveys and families."""
    with np.load(folder / "surveys.npz") as file:
        num_labels = int(file["num_labels"])
        surveys = [
            (file[f"features-{i}"], file[f"wanted-{i}"]) for i in range(sum("features" in n for n in file.files))
        ]
    found: dict[str, list[list[bool]]] = {name: [] for name in FORESTS}
    for number, (features, families) in enumerate(surveys):
        for name, forest in FORESTS.items():
            for wanted in families:
                model = forest(random_seed=number, n_jobs=1)
                found[name].append(answers(model, features.astype(np.float64), wanted, num_labels))
        print(f"coniferest: survey {number + 1} of {len(surveys)}", flush=True)
    (folder / "answers.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
