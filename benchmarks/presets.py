"""The paper's model and ours, trained on one simulated store: learning curves, unexplained signal per line, pictures.

Both see the same windows for the same number of epochs; everything else is as in the presets `paper` and `line`. Their
losses are not comparable, so both are measured by the fraction of the signal of validation galaxies that they do not
explain, per line: (chi2 - 1) divided by the mean of flux^2 ivar, see `modeling.scoring.residual_sums`.

    python -m benchmarks.presets [--galaxies 48] [--epochs 10] [--work runs/presets]
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

from cubeprep.prepare import prepare
from cubeprep.simulate.survey import simulate_survey
from cubeprep.store import Windows, WindowStore
from cubeprep.survey import SurveyConfig
from jobs.config import load_project
from modeling.network.checkpoint import load_model
from modeling.network.inference import reconstruct
from modeling.scoring.residual_sums import line_sums
from modeling.training.config import TrainingJob
from modeling.training.ray_train import train

PRESETS = ("paper", "line")
SHOWN = ("Hb-4862", "OIII-5008", "OI-6302", "Ha-6564", "NII-6585", "SII-6718")


@dataclass(frozen=True)
class Trained:
    """Result of one preset.

    Attributes:
        loss: [epoch] of the validation split, in the preset's own measure.
        seconds: processor time per epoch.
        parameters: number of parameters of the model.
        unexplained: [line] fraction of the signal not explained, all validation galaxies together.
        reconstruction: [galaxy, line, sample, y, x].
    """

    loss: np.ndarray
    seconds: float
    parameters: int
    unexplained: np.ndarray
    reconstruction: np.ndarray


def make_store(work: Path, galaxies: int) -> WindowStore:
    """Store of a simulated survey with the windows of `line` and two views; an existing one is kept."""
    demo, config = load_project("demo"), load_project("line").prepare
    root = work / "survey"
    simulate_survey(demo.simulate.model_copy(update={"num_galaxies": galaxies}), demo.seed, root, lambda *_: None)
    views = config.augment.model_copy(update={"num_views": 2})
    config = config.model_copy(update={"augment": views})
    prepare(config, SurveyConfig(root=str(root)), str(work / "windows.zarr"), seed=demo.seed)
    return WindowStore.open(str(work / "windows.zarr"))


def run(preset: str, store: WindowStore, observed: Windows, epochs: int, work: Path) -> Trained:
    """Trains a preset in this process and runs its best epoch over galaxies."""
    config = load_project(preset)
    settings = config.train.model_copy(update={"epochs": epochs, "num_workers": 0, "folds": 0})
    job = TrainingJob(store=store.path, model=config.model, train=settings)
    began = time.process_time()
    trained = train(job, name=preset, storage=str(work / "training"), target=work / preset)
    seconds = (time.process_time() - began) / epochs
    model, _ = load_model(trained.directory)
    found = reconstruct(model, observed.flux, observed.ivar, observed.mask)
    sums = line_sums(observed.flux, observed.ivar, observed.mask, found)
    left, signal = (sums.chi2 - sums.num_good).sum(0), sums.snr2.sum(0)
    size = sum(parameter.numel() for parameter in model.parameters())
    losses = np.array([metrics["validation_loss"] for metrics in trained.history])
    return Trained(losses, seconds, size, left / np.maximum(signal, 1e-30), found)


def draw_curves(trained: dict[str, Trained], line_names: list[str], path: Path) -> None:
    """Draws losses by epoch relative to the first, and the unexplained signal of each line."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=(1, 2), layout="constrained")
    place = np.arange(len(line_names))
    for i, (name, found) in enumerate(trained.items()):
        left.plot(np.arange(1, len(found.loss) + 1), found.loss / found.loss[0], marker="o", ms=3, label=name)
        right.bar(place + 0.4 * i - 0.2, np.maximum(found.unexplained, 1e-3), 0.38, label=name)
    left.set(xlabel="epoch", ylabel="validation loss relative to epoch 1", title="Training")
    right.set(yscale="log", ylabel="unexplained fraction of the signal", title="Validation galaxies")
    right.set_xticks(place, line_names, rotation=60, ha="right", fontsize=8)
    right.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_lines(trained: dict[str, Trained], observed: Windows, store: WindowStore, path: Path) -> None:
    """Draws line maps of the brightest galaxy, observed and reconstructed, and spectra of its brightest spaxel."""
    good = observed.mask == 0
    flux = np.where(good, observed.flux, 0)
    galaxy = int(np.argmax(np.abs(flux).sum((1, 2, 3, 4))))
    cubes = {"observed": flux[galaxy]} | {name: found.reconstruction[galaxy] for name, found in trained.items()}
    velocity_kms = store.coordinate(store.splits[0], "velocity_kms")
    image = flux[galaxy].sum((0, 1))
    y, x = np.unravel_index(image.argmax(), image.shape)
    figure, axes = plt.subplots(len(cubes) + 1, len(SHOWN), figsize=(12, 8.2), layout="constrained")
    for column, name in zip(axes.T, SHOWN, strict=True):
        line = store.line_names.index(name)
        low, high = np.percentile(cubes["observed"][line].sum(0), (1, 99.5))
        for axis, (label, cube) in zip(column, cubes.items(), strict=False):
            axis.imshow(cube[line].sum(0), origin="lower", vmin=low, vmax=high, cmap="viridis")
            axis.set(xticks=[], yticks=[])
            axis.set_title(name if label == "observed" else "", fontsize=10)
            column[-1].plot(velocity_kms, cube[line, :, y, x], label=label, drawstyle="steps-mid", lw=1.2)
        column[-1].set_xlabel("km/s", fontsize=8)
        column[-1].tick_params(labelsize=7)
    for axis, label in zip(axes[:, 0], [*cubes, "brightest spaxel"], strict=True):
        axis.set_ylabel(label)
    axes[-1, 0].legend(frameon=False, fontsize=7)
    figure.suptitle(f"{observed.plateifu[galaxy]}, a validation galaxy", fontsize=10)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--work", type=Path, default=Path("runs/presets"))
    options = parser.parse_args()
    store = make_store(options.work, options.galaxies)
    observed = store.read_shard("validation", 0)
    trained = {name: run(name, store, observed, options.epochs, options.work) for name in PRESETS}
    draw_curves(trained, store.line_names, options.work / "curves.png")
    draw_lines(trained, observed, store, options.work / "lines.png")
    table = Table("preset", "parameters", "processor s per epoch", "first loss", "last loss", "unexplained, median")
    for name, found in trained.items():
        left = f"{np.median(found.unexplained):.3f}"
        losses = (f"{found.loss[0]:.4f}", f"{found.loss[-1]:.4f}")
        table.add_row(name, f"{found.parameters:,}", f"{found.seconds:.1f}", *losses, left)
    Console().print(table)
    print(f"Pictures: {options.work / 'curves.png'}, {options.work / 'lines.png'}")
    paper, line = (trained[name] for name in PRESETS)
    print(f"unexplained_paper={np.median(paper.unexplained):.4f}")
    print(f"unexplained_line={np.median(line.unexplained):.4f}")
    print(f"processor_time_paper_vs_line={paper.seconds / line.seconds:.2f}")


if __name__ == "__main__":
    main()
