"""Trainings that start with the weights of another model (`train.start_from`).

The driver copies the model to the storage of the checkpoints, which every worker reads. Each model records the objects
that it has seen, those of its own start included: a cross-fitted model must not start from one that has seen the
galaxies left out.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cubeprep.config import MistakeError
from cubeprep.storage import is_remote, read_file, write_file
from cubeprep.store import WindowStore
from modeling.network.checkpoint import CheckpointError, load_model, weights_digest
from modeling.network.make import make_network
from modeling.network.normalisation import WindowNetwork
from modeling.network.transfer import freeze_all_but_last, take_weights
from modeling.training.config import StartConfig, TrainingJob
from modeling.training.folds import left_out_of

FOLDER = "starts"
FILES = ("model.safetensors", "model.json")
DIGITS = 10  # of an object's digest: a chance match of a survey's 10,000 objects with as many is one in 10,000


def publish(directory: Path, storage: str, *, reference: str, run_id: str = "") -> StartConfig:
    """Copies a model to where all workers of a training can read it.

    Args:
        directory: of the model.
        storage: of checkpoints, a folder or URL.
        reference: names the model, such as `models:/cubescout/3`.
        run_id: of the MLflow run that made it.

    Raises:
        CheckpointError: the directory holds no model.
        OSError: the copy cannot be written.
    """
    digest = weights_digest(load_model(directory)[0])
    root = storage.rstrip("/") if is_remote(storage) else str(Path(storage).absolute())
    path = f"{root}/{FOLDER}/{digest[:16]}"
    for name in FILES:
        write_file(f"{path}/{name}", (directory / name).read_bytes())
    return StartConfig(path=path, weights_sha256=digest, reference=reference, run_id=run_id)


def initial_network(job: TrainingJob, store: WindowStore) -> tuple[WindowNetwork, dict[str, Any]]:
    """Network at the start of a training, and the metadata of the model that it starts from; empty without one.

    Raises:
        ValueError: the network cannot be built, or the start does not fit it.
        OSError: the start cannot be read.
    """
    if (job.train.start_from is None) != (job.start is None):
        raise ValueError(f"train.start_from is {job.train.start_from}, but the job starts from {job.start}")
    model = make_network(job.model, store.shape, store.line_names, seed=job.seed)
    if job.start is None:
        return model, {}
    start, metadata = _read(job.start)
    try:
        take_weights(model, start, store.line_names, metadata.get("line_names", store.line_names))
    except ValueError as error:
        raise MistakeError(f"train.start_from: {job.start.reference} does not fit this training. {error}") from error
    if job.train.freeze == "all-but-last":
        freeze_all_but_last(model)
    return model, metadata


def _read(start: StartConfig) -> tuple[WindowNetwork, dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="cubescout-start-") as scratch:
        for name in FILES:
            (Path(scratch) / name).write_bytes(read_file(f"{start.path}/{name}"))
        model, metadata = load_model(Path(scratch))
    found = weights_digest(model)
    if found != start.weights_sha256:
        raise CheckpointError(f"{start.path}: sha256 of its weights is {found}, expected {start.weights_sha256}")
    return model, metadata


def objects_seen(job: TrainingJob, store: WindowStore, start: Mapping[str, Any]) -> str:
    """Digests of the objects that a training and its start see, for the metadata of its model.

    Args:
        job: the training.
        store: its galaxies.
        start: metadata of the model that it starts from; empty for none.
    """
    left_out = left_out_of(job)
    read = {"train", "validation"} & set(store.splits)
    seen = {digest for name, digest in _digests(store, read) if left_out is None or not left_out(name)}
    return " ".join(sorted(seen | set(start.get("objects_seen", "").split())))


def seen_before(start: Mapping[str, Any], store: WindowStore) -> list[str]:
    """Objects of a store, by mangaid, that a model has seen.

    Models of earlier versions record no objects, only their store.

    Args:
        start: metadata of the model.
        store: the galaxies.
    """
    if start.get("store_identity") == store.identity and "objects_seen" not in start:
        return sorted({name for name, _ in _digests(store, store.splits)})
    known = set(start.get("objects_seen", "").split())
    return sorted({name for name, digest in _digests(store, store.splits) if digest in known})


def _digests(store: WindowStore, splits: Iterable[str]) -> list[tuple[str, str]]:
    """Names of the objects of some splits, and digests that tell them from others of that name."""
    found = set()
    for split in splits:
        valid = store.coordinate(split, "valid")
        names, redshifts = (store.coordinate(split, name)[valid] for name in ("mangaid", "z"))
        found |= set(zip(map(str, names), redshifts.tolist(), strict=True))
    # The redshift too: simulated surveys, and surveys that number their objects, share names.
    return [(name, hashlib.sha256(f"{name} {z:.6f}".encode()).hexdigest()[:DIGITS]) for name, z in sorted(found)]
