"""MLflow: runs and registered models. With `catalog_registry` and `pyfunc`, all that knows of it.

Everything goes through clients that are made for a given URI, and no global tracking state is left changed, so that
a driver can log several runs side by side.
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cubeprep.store import code_version

CANDIDATE = "candidate"
CHAMPION = "champion"


class TrackingError(ValueError):
    """A model, version or tracking database that is not there."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A registered model or catalog.

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
    """A model on this machine.

    Attributes:
        directory: a checkpoint for `checkpoint.load_model`.
        version: in the registry; None for a plain directory.
        tags: of that version, such as `store_identity`.
    """

    directory: Path
    version: str | None
    tags: dict[str, str]


class TrackedRun:
    """One MLflow run."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client = client
        self.run_id = run_id

    def log_config(self, resolved_yaml: str, values: Mapping[str, Any]) -> None:
        """Keeps the resolved configuration as `config.yaml`, and its values as parameters with dotted names."""
        from mlflow.entities import Param

        self.client.log_text(self.run_id, without_credentials(resolved_yaml), "config.yaml")
        params = [Param(key, without_credentials(str(value))[:500]) for key, value in flatten(values).items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(self.run_id, params=params[start : start + 100])

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Keeps the metrics of one epoch."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        entries = [Metric(name, float(value), now, step) for name, value in metrics.items() if np.isfinite(value)]
        self.client.log_batch(self.run_id, metrics=entries)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Sets tags; credentials in URLs are left out."""
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, without_credentials(str(value))[:5000])

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Copies a file to the run's artifacts."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def logged_steps(self, metric: str) -> set[int]:
        """The steps at which a metric was noted."""
        return {int(entry.step) for entry in self.client.get_metric_history(self.run_id, metric)}

    def finish(self, status: str = "FINISHED") -> None:
        """Ends the run."""
        self.client.set_terminated(self.run_id, status)


@contextmanager
def start_run(
    uri: str,
    experiment: str,
    name: str,
    tags: Mapping[str, Any] | None = None,
    *,
    parent: str | None = None,
    resume: str | None = None,
) -> Iterator[TrackedRun]:
    """Opens a run as `open_run` does; it ends as finished, or as failed where an exception passes through."""
    tracked = open_run(uri, experiment, name, tags, parent=parent, resume=resume)
    try:
        yield tracked
    except BaseException as error:
        tracked.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    tracked.finish()


def open_run(
    uri: str,
    experiment: str,
    name: str,
    tags: Mapping[str, Any] | None = None,
    *,
    parent: str | None = None,
    resume: str | None = None,
) -> TrackedRun:
    """Opens a run that the caller is to end.

    Args:
        uri: MLflow's backend, such as `sqlite:////path/mlflow.db` or a server's address.
        experiment: made if it does not exist.
        name: of the run.
        tags: beside the code version, which is always there.
        parent: id of the run of which it is a child.
        resume: the id of a run to go on with instead.
    """
    client = make_client(uri)
    all_tags = {"code_version": code_version(), **(tags or {})}
    if parent is not None:
        all_tags["mlflow.parentRunId"] = parent
    if resume is not None:
        client.update_run(resume, status="RUNNING")
    run_id = resume or client.create_run(_experiment_id(client, uri, experiment), run_name=name).info.run_id
    tracked = TrackedRun(client, run_id)
    tracked.set_tags(all_tags)
    return tracked


def find_run(uri: str, experiment: str, tags: Mapping[str, str], run_id: str | None = None) -> str | None:
    """The newest run with these tags, and with this id where one is given; None where there is none."""
    client = make_client(uri)
    found = client.get_experiment_by_name(experiment)
    wanted = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
    wanted += [f"attributes.run_id = '{run_id}'"] if run_id else []
    runs = client.search_runs([found.experiment_id], " and ".join(wanted), max_results=1) if found else []
    return str(runs[0].info.run_id) if runs else None


def make_client(uri: str) -> Any:
    """A client for a backend; a SQLite database is made, or brought up to date, first.

    Raises:
        TrackingError: this is no URI, its SQLite file is no database of MLflow's, or its server does not let us in.
    """
    mlflow = quiet_mlflow()
    if "://" not in uri and not uri.startswith("databricks"):
        raise TrackingError(f"tracking.uri is {uri!r}, expected a URI such as sqlite:///mlflow.db or http://host:5000")
    path = sqlite_path(uri)
    if path is not None:
        _prepare_sqlite(uri, path)
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    if uri.startswith(("http://", "https://")):
        _ask_to_be_let_in(client, uri)
    return client


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
    same measure. Weights that were registered before for the same store keep their version.

    Args:
        run: the run that made the model.
        checkpoint: a model directory.
        model_name: in the registry.
        store_identity: of the store that the loss was measured on.
        loss: on the validation split, lower is better.
        comparable: names the measure, such as `mae/asinh`: losses of other measures are not compared.
        card: Markdown that describes the model: of `summary.model_card`.
        tags: more tags of the version.

    Raises:
        CheckpointError: the directory holds no model.
    """
    all_tags = {
        "store_identity": store_identity,
        "validation_loss": repr(float(loss)),
        "loss_measure": comparable,
        "code_version": code_version(),
        "weights_sha256": _weights_digest(checkpoint),
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
    """Finds a model: `models:/NAME@ALIAS` or `models:/NAME/VERSION` in the registry, or a directory.

    Raises:
        TrackingError: there is no such model.
    """
    if not name_or_path.startswith("models:/"):
        directory = Path(name_or_path)
        if not (directory / "model.json").is_file():
            raise TrackingError(f"{name_or_path}: no model directory, and not of the form models:/NAME@ALIAS")
        return ResolvedModel(directory, None, {})
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise TrackingError(f"{name_or_path}: there is no registry at {uri} (tracking.uri)")
    client = make_client(uri)
    version = find_version(client, name_or_path)
    directory = _download(client, version)
    found = sorted(directory.glob("artifacts/*/model.json"))
    if len(found) != 1:
        raise TrackingError(f"{name_or_path}: version {version.version} is no Cubescout model")
    return ResolvedModel(found[0].parent, str(version.version), dict(version.tags))


def find_version(client: Any, reference: str) -> Any:
    """The registry's entry of `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        TrackingError: there is none.
    """
    from mlflow.exceptions import MlflowException

    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", reference)
    if match is None:
        raise TrackingError(f"{reference}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias, number = match.groups()
    try:
        if alias:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, number)
    except MlflowException as error:
        where = without_credentials(str(client.tracking_uri))
        raise TrackingError(
            f"{reference}: not in the registry {where}. `cubescout train` registers a model."
        ) from error


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite URI; None for any other backend."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def without_credentials(text: str) -> str:
    """Text in which URLs have lost their `user:password@`."""
    return re.sub(r"([a-z][a-z0-9+.-]*://)[^/@\s'\"]+@", r"\1", text, flags=re.IGNORECASE)


def quiet_mlflow() -> Any:
    """MLflow without telemetry, progress bars and chatter; it reads some of these settings as it is imported."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)
    import mlflow

    # After the import, which sets levels of its own.
    for logger in ("mlflow", "mlflow.store.db.utils", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    return mlflow


def _ask_to_be_let_in(client: Any, uri: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.search_experiments(max_results=1)
    except MlflowException as error:
        if error.get_http_status_code() not in (401, 403) and "401" not in str(error):
            raise TrackingError(
                f"{without_credentials(uri)} (tracking.uri): {type(error).__name__}: {error}"
            ) from error
        raise TrackingError(
            f"{without_credentials(uri)} (tracking.uri) does not let us in: MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, are not set or wrong"
        ) from None


def _prepare_sqlite(uri: str, path: Path) -> None:
    """Makes the database or brings its tables up to date, one process at a time: several at once would fail."""
    import sqlalchemy
    from mlflow.store.db import utils

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        engine = utils.create_sqlalchemy_engine_with_retry(uri)
        try:
            if not utils._all_tables_exist(engine):
                utils._initialize_tables(engine)
            elif utils._get_schema_version(engine) != utils._get_latest_schema_revision():
                utils._upgrade_db(engine)
        except sqlalchemy.exc.DatabaseError as error:
            raise TrackingError(f"{path}: not an MLflow database ({error.__class__.__name__})") from error
        finally:
            engine.dispose()


def _experiment_id(client: Any, uri: str, name: str) -> str:
    """The experiment's id; with SQLite its artifacts lie beside the database, not where the job happens to run."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    path = sqlite_path(uri)
    location = (path.absolute().parent / "mlartifacts" / name).as_uri() if path else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        # Another process was faster.
        return str(client.get_experiment_by_name(name).experiment_id)


def _log_pyfunc(run: TrackedRun, checkpoint: Path) -> str:
    """Saves the pyfunc with the checkpoint inside it to the run's artifacts; returns its URI."""
    import mlflow.pyfunc

    from modeling import inference
    from modeling.checkpoint import load_model
    from modeling.example import write_example
    from modeling.folds import FOLDER

    model, _ = load_model(checkpoint)
    with tempfile.TemporaryDirectory(prefix="cubescout-pyfunc-") as scratch:
        source, target = Path(scratch) / "checkpoint", Path(scratch) / "model"
        source.mkdir()
        for name in ("model.json", "model.safetensors"):
            shutil.copy2(checkpoint / name, source / name)
        if (checkpoint / FOLDER).is_dir():
            shutil.copytree(checkpoint / FOLDER, source / FOLDER)
        with warnings.catch_warnings():
            # It would rather infer a signature from an example of its own.
            warnings.simplefilter("ignore", UserWarning)
            mlflow.pyfunc.save_model(
                target,
                python_model=str(Path(inference.__file__).with_name("pyfunc.py")),
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
    """Makes a registered model's or catalog's name, if it is new."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException:
        client.get_registered_model(name)


def _weights_digest(checkpoint: Path) -> str:
    """Of the main model and, where there are any, those of its folds."""
    from modeling.checkpoint import CheckpointError
    from modeling.folds import FOLDER

    try:
        found = hashlib.sha256((checkpoint / "model.safetensors").read_bytes())
        for path in sorted((checkpoint / FOLDER).glob("*/model.safetensors")):
            found.update(f"{path.parent.name} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
        return found.hexdigest()
    except OSError as error:
        raise CheckpointError(f"{checkpoint}: no Cubescout model here ({error})") from error


def _same_weights(client: Any, name: str, tags: Mapping[str, str]) -> str | None:
    """The version that holds these weights already, as when a finished training is run again."""
    for version in client.search_model_versions(f"name = '{name}'"):
        if all(version.tags.get(key) == tags[key] for key in ("weights_sha256", "store_identity")):
            return str(version.version)
    return None


def _beats_champion(client: Any, name: str, tags: Mapping[str, str]) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        champion = client.get_model_version_by_alias(name, CHAMPION).tags
    except MlflowException:
        return True
    if any(champion.get(key) != tags[key] for key in ("store_identity", "loss_measure")):
        return False
    return float(tags["validation_loss"]) < float(champion.get("validation_loss", "inf"))


def _download(client: Any, version: Any) -> Path:
    """The files of a version on this machine; local artifacts are used where they lie."""
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    uri = client.get_model_version_download_uri(version.name, version.version)
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=client.tracking_uri))
    except (MlflowException, OSError) as error:
        raise TrackingError(f"version {version.version} of {version.name}: its files are not at {uri}") from error
