"""Processor time of scoring, and the share of it taken by the forward passes that a score needs.

Clean galaxies of the survey tier's kind (16 x 16 spaxels, 19 lines) are scored as `cubescout score` does, hypotheses
included, with the masked network of `line` and with the autoencoder, each on one thread and trained for a few epochs on
other galaxies. A masked network needs its hidden patches and squares and one encoding; an autoencoder one
reconstruction, and its latent's in eight orientations. Passes that are repeated without artefacts count as scoring.

    python -m benchmarks.score [--galaxies 96] [--epochs 10] [--repeats 3] [--work runs/benchmark]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.anomaly.dataset import prepare_data
from benchmarks.anomaly.detectors.detector import SCORED_SPLIT, shards
from benchmarks.anomaly.detectors.networks import Autoencoder, Cubescout
from benchmarks.anomaly.samples import training_store
from benchmarks.anomaly.tiers import TIERS, Run, Tier, TrainingBudget
from cubeprep.masks import good_samples
from cubeprep.store import Windows, WindowStore
from modeling.network.inference import encode, infer, reconstruct
from modeling.network.masked_network import MaskedPredictor
from modeling.network.normalisation import WindowNetwork
from modeling.scoring.hypotheses.shard import hypotheses

NETWORKS = {"masked": Cubescout, "autoencoder": Autoencoder}
RUN = Run(seed=0, contamination=0)


def make_tier(num_galaxies: int, epochs: int) -> Tier:
    """Survey tier of fewer galaxies without injections, and of short training."""
    survey = TIERS["survey"]
    simulate = survey.data.simulate.model_copy(update={"num_galaxies": num_galaxies})

    def shorter(budget: TrainingBudget) -> TrainingBudget:
        return budget.model_copy(update={"train": budget.train.model_copy(update={"epochs": epochs})})

    return survey.model_copy(
        update={
            "data": survey.data.model_copy(update={"simulate": simulate, "copies": {}, "galaxies_per_shard": 16}),
            "default": shorter(survey.default),
            "autoencoder": shorter(survey.autoencoder),
        }
    )


def forward(model: WindowNetwork, windows: Windows) -> None:
    """Forward passes that the scores of some galaxies need."""
    arrays = windows.flux, windows.ivar, windows.mask
    if isinstance(model, MaskedPredictor):
        encode(model, *arrays)
        tensors = (
            torch.from_numpy(windows.flux),
            torch.from_numpy(windows.ivar),
            torch.from_numpy(good_samples(*arrays)),
        )
        with torch.inference_mode():
            model.predict_hidden(model.patch_passes(), *tensors)
            model.predict_hidden(model.square_passes(), *tensors)
    else:
        infer(model, *arrays)
        reconstruct(model, *arrays, from_latent=True)


def processor_seconds(action: Callable[[], object], repeats: int) -> float:
    """Median processor seconds of an action."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        action()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def measure(detector: Cubescout, galaxies: list[Windows], repeats: int) -> dict[str, float]:
    """Processor milliseconds a galaxy of the forward passes, of the scores and of the hypotheses; share with a code."""
    scorer, number = detector.scorer, sum(map(len, galaxies))
    arrays = [(each.flux, each.ivar, each.mask) for each in galaxies]
    scores = [scorer.score(*each) for each in arrays]

    def explain() -> None:
        for each, scored in zip(arrays, scores, strict=True):
            hypotheses(detector.survey, each, scored.by_spaxel, np.zeros(len(scored.code)))

    actions = {
        "forward": lambda: [forward(detector.model, each) for each in galaxies],
        "scores": lambda: [scorer.score(*each) for each in arrays],
        "hypotheses": explain,
    }
    found = {name: 1000 * processor_seconds(action, repeats) / number for name, action in actions.items()}
    coded = sum(int((each.code != "").sum()) for each in scores)
    return found | {"coded": coded / number}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=96, help="half of them are scored, half train the networks")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark"), help="folder for the galaxies")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tier = make_tier(options.galaxies, options.epochs)
    data = prepare_data(tier, options.work, 1)
    galaxies = list(shards(WindowStore.open(data.store(0)), SCORED_SPLIT))
    table = Table("network", "forward passes, ms", "scores, ms", "hypotheses, ms", "galaxies with a reason code")
    figures = {}
    for name, make in NETWORKS.items():
        detector = make(tier, RUN)
        detector.fit(training_store(data, 0, RUN), "train")
        found = measure(detector, galaxies, options.repeats)
        parts = [found[part] for part in ("forward", "scores", "hypotheses")]
        table.add_row(name, *(f"{value:.1f}" for value in parts), f"{found['coded']:.0%}")
        figures[f"score_vs_forward_{name}"] = parts[0] / (parts[1] + parts[2])
        figures[f"hypotheses_ms_{name}"] = parts[2]
    Console().print(table)
    for key, value in (
        {"score_vs_forward": min(figures[f"score_vs_forward_{name}"] for name in NETWORKS)} | figures
    ).items():
        print(f"{key}={value:.3f}")


if __name__ == "__main__":
    main()
