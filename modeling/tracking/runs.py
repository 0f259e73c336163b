"""MLflow runs. Only the modules of this package use MLflow.

Everything goes through clients made for a given URI, and no global tracking state is changed, so that a driver can log
several runs side by side.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from cubeprep.config import MistakeError
from cubeprep.redact import redact
from cubeprep.storage import REMOTE_ERRORS
from cubeprep.version import code_version
from modeling.tracking.database import DatabaseError, artifact_location, prepare_database, sqlite_path

# MLflow's codes for an entry that does not exist; the second is that of an alias that is not set.
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
# Packages whose exceptions MLflow passes on from the storage of its artifacts.
ARTIFACT_ERRORS = (*REMOTE_ERRORS, "boto3")
MAX_MESSAGE = 1000  # characters; a proxy in front of a server answers with whole pages


class TrackingError(ValueError):
    """Missing model, version or tracking database, or one that cannot be used."""


class NoModelError(TrackingError, MistakeError):
    """There is no model of a name that a command gives."""


class RequestError(TrackingError):
    """A request that MLflow, or the storage of its artifacts, refused or did not answer.

    Attributes:
        code: MLflow's error code, such as `PERMISSION_DENIED`; empty for an error of the storage.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_absence(self) -> bool:
        """Whether the entry does not exist; other failures do not show whether it does."""
        return self.code in ABSENT


class TrackedRun:
    """One MLflow run."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client = client
        self.run_id = run_id

    def log_config(self, resolved_yaml: str, values: Mapping[str, Any]) -> None:
        """Logs the resolved configuration as `config.yaml`, and its values as parameters with dotted names."""
        from mlflow.entities import Param

        self.client.log_text(self.run_id, without_credentials(resolved_yaml), "config.yaml")
        params = [Param(key, without_credentials(str(value))[:500]) for key, value in flatten(values).items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(self.run_id, params=params[start : start + 100])

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs the metrics of one epoch; values that are not finite are left out."""
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
        """Steps at which a metric was logged."""
        return {int(entry.step) for entry in self.client.get_metric_history(self.run_id, metric)}

    def has_store(self) -> bool:
        """Whether a store was logged, which is the last of a run's inputs."""
        return bool(self.client.get_run(self.run_id).inputs.dataset_inputs)

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
        with suppress(TrackingError):  # if the server has failed, the first error is the one to report
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
    """Opens a run, which the caller must end.

    Args:
        uri: MLflow's backend, such as `sqlite:////path/mlflow.db` or a server's address.
        experiment: created if it does not exist.
        name: of the run.
        tags: in addition to the code version, which is always set.
        parent: id of the parent run.
        resume: id of an existing run to resume instead of a new one.
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


def find_run(
    uri: str, experiment: str, tags: Mapping[str, str], run_id: str | None = None, *, finished: bool = False
) -> str | None:
    """Id of the newest run with these tags, and with this id if one is given; None where there is none.

    With `finished`, runs do not count that failed, were killed or still run.
    """
    client = make_client(uri)
    found = client.get_experiment_by_name(experiment)
    wanted = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
    wanted += [f"attributes.run_id = '{run_id}'"] if run_id else []
    wanted += ["attributes.status = 'FINISHED'"] if finished else []
    runs = client.search_runs([found.experiment_id], " and ".join(wanted), max_results=1) if found else []
    return str(runs[0].info.run_id) if runs else None


def make_client(uri: str) -> Any:
    """Client for a backend; a SQLite database is first created, or its schema upgraded.

    Its methods are those of `MlflowClient`, but raise `RequestError` instead of MLflow's exceptions.

    Raises:
        TrackingError: this is no URI, its SQLite file is no MLflow database, or its server refuses access.
    """
    mlflow = quiet_mlflow()
    if "://" not in uri and not uri.startswith("databricks"):
        raise TrackingError(
            f"tracking.uri is {redact(uri)!r}, expected a URI such as sqlite:///mlflow.db or http://host:5000"
        )
    path = sqlite_path(uri)
    if path is not None:
        try:
            prepare_database(path)
        except DatabaseError as error:
            raise TrackingError(str(error)) from error
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    if uri.startswith(("http://", "https://")):
        _ask_to_be_let_in(client, uri)
    return _Client(client, uri)


class _Client:
    """MLflow's client with its exceptions converted by `request_errors`."""

    def __init__(self, client: Any, uri: str) -> None:
        self._client = client
        self._uri = uri

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        @wraps(found)
        def request(*args: Any, **options: Any) -> Any:
            with request_errors(self._uri, name.replace("_", " ")):
                return found(*args, **options)

        return request


@contextmanager
def request_errors(uri: str, request: str) -> Iterator[None]:
    """Converts exceptions of MLflow and of its artifacts' storage into `RequestError`s without credentials.

    Args:
        uri: MLflow's backend.
        request: for the message, such as `create run`.

    Raises:
        RequestError: the request failed.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except Exception as error:
        if not isinstance(error, MlflowException) and type(error).__module__.partition(".")[0] not in ARTIFACT_ERRORS:
            raise
        cause = redact(" ".join(str(error).split()))[:MAX_MESSAGE]
        message = f"{without_credentials(uri)} (tracking.uri): cannot {request}: {cause}"
        raise RequestError(message, getattr(error, "error_code", "")) from error


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one flat mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def without_credentials(text: str) -> str:
    """Text in which URLs have lost passwords and signatures."""
    return redact(text)


def quiet_mlflow() -> Any:
    """MLflow without telemetry, progress bars and log messages; it reads some of these settings at import."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)
    import mlflow

    # After the import, which sets log levels of its own.
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
                f"{without_credentials(uri)} (tracking.uri): {type(error).__name__}: {redact(str(error))}"
            ) from None
        raise TrackingError(
            f"{without_credentials(uri)} (tracking.uri) refuses access: MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, are not set or wrong"
        ) from None


def _experiment_id(client: Any, uri: str, name: str) -> str:
    """Id of an experiment; with SQLite its artifacts are kept beside the database, not in the working directory."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    path = sqlite_path(uri)
    location = artifact_location(path, name) if path else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except RequestError:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)  # another process has created it meanwhile
