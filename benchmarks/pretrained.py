"""Makes the model that comes with the package, from the simulated galaxies of a tier of the injection benchmark.

    python -m benchmarks.pretrained --tier small [--work runs/benchmark] [--model FOLDER [--fold N]]

Trains the tier's masked network on all of its clean galaxies, as observed and in augmented views, or takes a model
that was trained on them (`--model`), or on the benchmark's training sample for a fold (`--fold`), and writes
`model.safetensors`, `model.json` and `card.json` to `modeling/pretrained`, with the model's calibration on the
validation galaxies. An interrupted run resumes. The weights may take at most 6 MB.
"""

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.anomaly.dataset import prepare_data
from benchmarks.anomaly.detectors.detector import observed_shards
from benchmarks.anomaly.detectors.networks import psf_fwhm_spaxels
from benchmarks.anomaly.samples import training_store
from benchmarks.anomaly.tiers import TIERS, Run, Tier
from cubeprep.simulate.footprint import SPAXEL_ARCSEC
from cubeprep.store import WindowStore
from cubeprep.version import code_version
from modeling.network import pretrained
from modeling.network.checkpoint import load_model, save_model, weights_digest, write_json
from modeling.network.normalisation import WindowNetwork
from modeling.scoring.galaxy_scorer import Arrays, calibrate
from modeling.tracking.lineage import git_commit
from modeling.training.config import TrainingJob
from modeling.training.ray_train import train

DESCRIPTION = (
    "A masked network, trained on {num} simulated galaxies with cubes like MaNGA's; it has seen no real galaxy. "
    "Compare its scores only within one survey (docs/few.md)."
)


class PackagingError(ValueError):
    """A model that cannot come with the package."""


def sample_store(tier: Tier, work: Path, num_workers: int, fold: int | None = None) -> WindowStore:
    """Store of all clean galaxies of a tier, or of the sample on which the benchmark trains to score a fold.

    It has the splits `train`, with augmented views, and `validation`.
    """
    data = prepare_data(tier, work, num_workers)
    run = tier.network_runs[0]
    if fold is not None:
        return training_store(data, fold, run)
    no_fold = tier.num_folds  # the folds are numbered from 0: none is left out
    return training_store(data, no_fold, Run(seed=run.seed, contamination=0))


def train_model(tier: Tier, store: WindowStore, work: Path) -> Path:
    """Folder of the tier's masked network, trained on a store; resumes."""
    settings = tier.default.train.model_copy(update={"num_workers": 0, "folds": 0})
    job = TrainingJob(store=store.path, seed=tier.network_runs[0].seed, model=tier.default.model, train=settings)
    name = f"pretrained-{job.identity(store.identity)[:12]}"
    return train(job, name=name, storage=str(work / "training"), target=work / name).directory


def window_settings(tier: Tier, store: WindowStore) -> dict[str, Any]:
    """Settings of the tier's windows, by the keys of `WindowStore.window_settings`.

    The benchmark's stores are not made by `prepare` and do not record them.
    """
    windows = tier.data.windows.model_dump(mode="json")
    found = {
        key: windows.get(key.rpartition(".")[2]) if key.startswith("prepare.windows.") else value
        for key, value in store.window_settings.items()
    }
    if tier.data.bin_factor > 1:
        found |= {"prepare.windows.space": "bin", "prepare.windows.bin_factor": tier.data.bin_factor}
    return found | {"spaxel_arcsec": SPAXEL_ARCSEC * tier.data.bin_factor}


def calibration(network: WindowNetwork, tier: Tier, store: WindowStore) -> dict[str, Any]:
    """Calibration of a model on the clean validation galaxies of `sample_store`, as `GalaxyScorer.to_json`."""

    def galaxies() -> Iterator[Arrays]:
        for observed in observed_shards(store, "validation"):
            yield observed.flux, observed.ivar, observed.mask

    velocity_kms = store.coordinate("validation", "velocity_kms")
    found = calibrate(network, galaxies, velocity_kms, psf_fwhm_spaxels=psf_fwhm_spaxels(tier))
    return found.regressed().to_json()


def package(
    model: Path, tier_name: str, tier: Tier, store: WindowStore, target: Path, fold: int | None = None
) -> dict[str, Any]:
    """Writes a model and its card as the package's, and returns the card.

    Args:
        model: folder of the model.
        tier_name: of the benchmark.
        tier: whose galaxies the model was trained on.
        store: of `sample_store`.
        target: folder to write; an existing one is replaced.
        fold: that the benchmark trained the model to score, if it did.

    Raises:
        PackagingError: the model is not one of the tier's windows, or its weights take more than 6 MB.
    """
    network, metadata = load_model(model)
    if (network.num_lines, network.num_samples, network.size) != store.shape:
        raise PackagingError(f"{model}: not a model of windows of {store.shape} lines, samples and spaxels a side")
    size = (model / "model.safetensors").stat().st_size
    if size > pretrained.MAX_BYTES:
        raise PackagingError(f"{model}/model.safetensors: {size:,} bytes, expected at most {pretrained.MAX_BYTES:,}")
    settings, calibrated = window_settings(tier, store), calibration(network, tier, store)
    of_benchmark = "" if fold is None else f" --model MODEL --fold {fold}"
    shutil.rmtree(target, ignore_errors=True)
    kept = {key: metadata[key] for key in ("metrics", "objects_seen") if key in metadata}
    known = {"line_names": store.line_names, "store_identity": store.identity, "window_settings": settings}
    save_model(target, network, known | kept | {"calibration": calibrated})
    num = len({name for split in store.splits for name in store.coordinate(split, "mangaid")})
    card = {
        "description": DESCRIPTION.format(num=num),
        "simulated": True,
        "num_galaxies": num,
        "lines": store.line_names,
        "num_samples": store.shape[1],
        "size": store.shape[2],
        "spaxel_arcsec": SPAXEL_ARCSEC * tier.data.bin_factor,
        "window_settings": settings,
        "architecture": {"class": type(network).__name__, **network.arguments},
        "training": tier.default.train.model_dump(mode="json", exclude_none=True),
        "metrics": metadata.get("metrics", {}),
        "made_by": f"python -m benchmarks.pretrained --tier {tier_name}{of_benchmark}",
        "simulation": tier.data.simulate.model_dump(mode="json") | {"seed": tier.data.seed},
        "code_version": code_version(),
        "git": git_commit(),
        "weights_sha256": weights_digest(network),
        "num_bytes": size,
    }
    write_json(target / "card.json", card)
    return card


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", choices=TIERS, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark"), help="folder for data and training")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes for the data")
    parser.add_argument("--model", type=Path, help="folder of a model trained on the tier's galaxies")
    parser.add_argument("--fold", type=int, help="the benchmark trained the model to score this fold")
    options = parser.parse_args(arguments)
    if options.fold is not None and not options.model:
        parser.error("--fold says what a given model was trained on: it needs --model")
    tier = TIERS[options.tier]
    store = sample_store(tier, options.work, options.workers, options.fold)
    model = options.model or train_model(tier, store, options.work)
    card = package(model, options.tier, tier, store, pretrained.FOLDER, options.fold)
    print(f"{pretrained.FOLDER}: {card['description']}")
    for name in ("num_galaxies", "num_bytes"):
        print(f"{name}={card[name]}")


if __name__ == "__main__":
    main()
