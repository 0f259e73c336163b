"""Registered models in MLflow: logging, registration and lookup."""

import hashlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cubeprep.version import code_version
from cubeprep.words import closest, suggestion
from modeling.tracking.database import sqlite_path
from modeling.tracking.runs import (
    NoModelError,
    RequestError,
    TrackedRun,
    TrackingError,
    make_client,
    request_errors,
    without_credentials,
)

CANDIDATE = "candidate"


CHAMPION = "champion"


@dataclass(frozen=True)
class RegisteredVersion:
    """Registered version of a model or catalog.

    Attributes:
        name: in the registry.
        version: counted from 1 by MLflow, as text.
        aliases: that were set on it.
    """

    name: str
    version: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class ResolvedModel:
    """Model on this machine.

    Attributes:
        directory: a checkpoint for `checkpoint.load_model`.
        version: in the registry; None for a plain directory.
        tags: of that version, such as `store_identity`.
        reference: that names it for good, such as `models:/cubescout/3`: an alias may move to another version.
        run_id: of the run that made it; empty for a plain directory.
    """

    directory: Path
    version: str | None
    tags: dict[str, str]
    reference: str
    run_id: str = ""


def register_model(
    run: TrackedRun,
    checkpoint: Path,
    *,
    model_name: str,
    store_identity: str,
    loss: float,
    comparable: str,
    card: str = "",
    tags: Mapping[str, Any] | None = None,
) -> RegisteredVersion:
    """Logs a checkpoint as a pyfunc model and registers it as `candidate`.

    It also becomes `champion` if there is none, or if its loss is lower than the champion's on the same store with the
    same measure. Weights that are already registered for the same store keep their version.

    Args:
        run: the run that made the model.
        checkpoint: a model directory.
        model_name: in the registry.
        store_identity: of the store that the loss was measured on.
        loss: on the validation split, lower is better.
        comparable: name of the measure, such as `mae/asinh`: losses of other measures are not compared.
        card: Markdown that describes the model, of `model_card.model_card`.
        tags: further tags of the version.

    Raises:
        CheckpointError: the directory holds no model.
        TrackingError: a request to the registry fails.
    """
    all_tags = {
        "store_identity": store_identity,
        "validation_loss": repr(float(loss)),
        "loss_measure": comparable,
        "code_version": code_version(),
        "weights_sha256": checkpoint_digest(checkpoint),
        **(tags or {}),
    }
    client = run.client
    ensure_registered(client, model_name)
    version = _same_weights(client, model_name, all_tags)
    if version is None:
        plain_tags = {key: without_credentials(str(value)) for key, value in all_tags.items()}
        source = _log_pyfunc(run, checkpoint)
        version = client.create_model_version(
            model_name, source, run.run_id, tags=plain_tags, description=without_credentials(card)
        ).version
    aliases = [CANDIDATE]
    if _beats_champion(client, model_name, all_tags):
        aliases.append(CHAMPION)
    for alias in aliases:
        client.set_registered_model_alias(model_name, alias, version)
    return RegisteredVersion(model_name, str(version), tuple(aliases))


def resolve_model(uri: str, name_or_path: str) -> ResolvedModel:
    """Model of `models:/NAME@ALIAS` or `models:/NAME/VERSION` in the registry, `pretrained`, or that of a directory.

    Raises:
        NoModelError: there is no such model.
        CheckpointError: this version comes without a pretrained model.
    """
    from modeling.network.pretrained import PRETRAINED, pretrained_folder

    if name_or_path == PRETRAINED:
        return ResolvedModel(pretrained_folder(), None, {}, PRETRAINED)
    if not name_or_path.startswith("models:/"):
        directory = Path(name_or_path)
        if not (directory / "model.json").is_file():
            hint = suggestion(closest(name_or_path, [PRETRAINED]))
            raise NoModelError(f"{name_or_path}: no model directory, and not of the form models:/NAME@ALIAS{hint}")
        return ResolvedModel(directory, None, {}, str(directory.absolute()))
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise NoModelError(f"{name_or_path}: there is no registry at {without_credentials(uri)} (tracking.uri)")
    client = make_client(uri)
    version = find_version(client, name_or_path)
    directory = download(client, version)
    checkpoints = sorted(directory.glob("artifacts/*/model.json"))
    if len(checkpoints) != 1:
        raise NoModelError(f"{name_or_path}: version {version.version} is no Cubescout model")
    reference = f"models:/{version.name}/{version.version}"
    return ResolvedModel(
        checkpoints[0].parent, str(version.version), dict(version.tags), reference, str(version.run_id)
    )


def find_version(client: Any, reference: str) -> Any:
    """Registry entry of `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        NoModelError: the reference has another form, or the registry no such entry.
        TrackingError: the registry cannot be asked.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", reference)
    if match is None:
        raise NoModelError(f"{reference}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias, number = match.groups()
    try:
        if alias:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, number)
    except RequestError as error:
        if not error.is_absence:
            raise
        where = without_credentials(str(client.tracking_uri))
        hint = "`cubescout train` registers models, `cubescout classify` classes."
        raise NoModelError(f"{reference}: not in the registry {where}. {hint}") from error


def find_alias(client: Any, name: str, alias: str) -> Any:
    """Registry entry with an alias; None where no version has it.

    Raises:
        TrackingError: the registry cannot be asked.
    """
    try:
        return client.get_model_version_by_alias(name, alias)
    except RequestError as error:
        if not error.is_absence:
            raise
        return None


def _log_pyfunc(run: TrackedRun, checkpoint: Path) -> str:
    """Saves the pyfunc with the checkpoint inside it to the run's artifacts; returns its URI."""
    import mlflow.pyfunc

    from modeling.network.checkpoint import load_model
    from modeling.tracking.example import write_example
    from modeling.training.folds import FOLDER

    model, _ = load_model(checkpoint)
    with tempfile.TemporaryDirectory(prefix="cubescout-pyfunc-") as scratch:
        source, target = Path(scratch) / "checkpoint", Path(scratch) / "model"
        source.mkdir()
        for name in ("model.json", "model.safetensors"):
            shutil.copy2(checkpoint / name, source / name)
        if (checkpoint / FOLDER).is_dir():
            shutil.copytree(checkpoint / FOLDER, source / FOLDER)
        with warnings.catch_warnings():
            # MLflow warns that it has no input example to infer a signature from; the signature is given.
            warnings.simplefilter("ignore", UserWarning)
            mlflow.pyfunc.save_model(
                target,
                python_model=str(Path(__file__).with_name("pyfunc.py")),
                artifacts={"checkpoint": str(source)},
                signature=_signature(model.arguments),
                pip_requirements=[_requirement()],
            )
        write_example(model, target)
        run.client.log_artifacts(run.run_id, str(target), "model")
    return f"{run.client.get_run(run.run_id).info.artifact_uri}/model"


def _requirement() -> str:
    version = code_version()
    return f"cubescout=={version}" if version[:1].isdigit() else "cubescout"


def _signature(arguments: Mapping[str, Any]) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    size = arguments["size"]
    window = (-1, arguments["num_lines"], arguments["num_samples"], size, size)
    inputs = [("flux", np.float32), ("ivar", np.float32), ("mask", np.uint8)]
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(dtype), window, name) for name, dtype in inputs]),
        outputs=Schema(
            [
                TensorSpec(np.dtype(np.float32), (-1,), "score"),
                TensorSpec(np.dtype(np.float32), (-1, arguments["latent_dim"]), "latent"),
            ]
        ),
    )


def ensure_registered(client: Any, name: str) -> None:
    """Creates the name of a registered model or catalog, if it is new.

    Raises:
        TrackingError: it can be neither created nor found.
    """
    try:
        client.create_registered_model(name)
    except RequestError as refused:
        try:
            client.get_registered_model(name)
        except RequestError:
            raise refused from None  # the reason that it does not exist


def checkpoint_digest(checkpoint: Path) -> str:
    """sha256 of the weights of a checkpoint's model and, where there are any, of those of its folds.

    Raises:
        CheckpointError: the directory holds no model.
    """
    from modeling.network.checkpoint import load_model, weights_digest
    from modeling.training.folds import load_folds

    models = [load_model(checkpoint)[0], *load_folds(checkpoint).models]
    return hashlib.sha256(" ".join(map(weights_digest, models)).encode()).hexdigest()


def _same_weights(client: Any, name: str, tags: Mapping[str, str]) -> str | None:
    """Version that already holds these weights, as when a finished training is run again; None for new weights."""
    for version in client.search_model_versions(f"name = '{name}'"):
        if all(version.tags.get(key) == tags[key] for key in ("weights_sha256", "store_identity")):
            return str(version.version)
    return None


def _beats_champion(client: Any, name: str, tags: Mapping[str, str]) -> bool:
    found = find_alias(client, name, CHAMPION)
    if found is None:
        return True
    champion = found.tags
    if any(champion.get(key) != tags[key] for key in ("store_identity", "loss_measure")):
        return False
    return float(tags["validation_loss"]) < float(champion.get("validation_loss", "inf"))


def download(client: Any, version: Any) -> Path:
    """Directory on this machine with the files of a version, which lasts as long as this process.

    Local artifacts are used in place.
    """
    import mlflow.artifacts
    from mlflow.utils.uri import is_local_uri

    uri = client.get_model_version_download_uri(version.name, version.version)
    try:
        with request_errors(client.tracking_uri, "download artifacts"):
            target = None if is_local_uri(uri) else tempfile.mkdtemp(dir=_downloads().name)
            found = mlflow.artifacts.download_artifacts(uri, dst_path=target, tracking_uri=client.tracking_uri)
            return Path(found)
    except (RequestError, OSError) as error:
        raise TrackingError(f"version {version.version} of {version.name}: its files are not at {uri}") from error


@cache
def _downloads() -> tempfile.TemporaryDirectory[str]:
    """Folder of all downloads of this process, removed at its end."""
    return tempfile.TemporaryDirectory(prefix="cubescout-models-")
