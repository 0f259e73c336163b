"""Catalogs, and heads learned from labels, in MLflow's registry, beside the models that they were made with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cubeprep.store import WindowStore
from cubeprep.version import code_version
from modeling.tracking.lineage import log_environment, log_store
from modeling.tracking.models import RegisteredVersion, download, ensure_registered, find_alias, find_version
from modeling.tracking.runs import NoModelError, TrackedRun, TrackingError, make_client, start_run, without_credentials

# The alias `latest` is reserved by MLflow: `models:/NAME/latest` is the newest version.
CURRENT = "current"
PAGE_ARTIFACT = "page"
CATALOG_ARTIFACT = "catalog"
CLASSES_ARTIFACT = "classes"


def register_catalog(
    uri: str,
    experiment: str,
    catalog: Path,
    *,
    catalog_name: str,
    extra_artifacts: Sequence[Path] = (),
    provenance: Mapping[str, Any] | None = None,
    store: WindowStore | None = None,
    model: str = "",
) -> RegisteredVersion:
    """Logs a catalog in a run of its own and registers it, with the alias `current`.

    Args:
        uri: MLflow's backend.
        experiment: of the run.
        catalog: the Parquet file.
        catalog_name: in the registry.
        extra_artifacts: files to log beside it.
        provenance: tags such as store identity and model version.
        store: that was scored.
        model: that scored it; the run that made the model becomes the parent.

    Raises:
        TrackingError: one of the files does not exist.
    """
    files = (catalog, *extra_artifacts)
    _check_files(files)
    provenance, parent = provenance or {}, _run_of_model(uri, model)
    with start_run(uri, experiment, "catalog", {"job": "score", **provenance}, parent=parent) as run:
        if store is not None:
            log_store(run, store, "scoring")
        return _register_files(run, files, CATALOG_ARTIFACT, catalog_name, provenance)


def register_classes(
    uri: str,
    experiment: str,
    heads: Path,
    *,
    name: str,
    extra_artifacts: Sequence[Path] = (),
    metrics: Mapping[str, float],
    provenance: Mapping[str, Any],
    model: str = "",
) -> RegisteredVersion:
    """Logs heads learned from labels in a run of its own and registers them, with the alias `current`.

    Args:
        uri: MLflow's backend.
        experiment: of the run.
        heads: file of `modeling.labels.head_file`.
        name: in the registry.
        extra_artifacts: files to log beside it.
        metrics: of galaxies that the heads have not seen.
        provenance: tags such as digest of model and labels.
        model: whose latents the heads take; the run that made it becomes the parent, if it is in this registry.
    """
    files = (heads, *extra_artifacts)
    _check_files(files)
    try:
        parent = _run_of_model(uri, model)
    except NoModelError:
        parent = None  # of another registry
    with start_run(uri, experiment, "classes", {"job": "classify", **provenance}, parent=parent) as run:
        run.log_metrics(metrics, 0)
        return _register_files(run, files, CLASSES_ARTIFACT, name, provenance)


def download_registered(uri: str, reference: str, file_name: str) -> Path:
    """A file of `models:/NAME@ALIAS` or `models:/NAME/VERSION`, on this machine.

    Raises:
        TrackingError: there is no such version, or it has no such file.
    """
    client = make_client(uri)
    version = find_version(client, reference)
    path = download(client, version) / file_name
    if not path.is_file():
        raise TrackingError(f"{reference}: version {version.version} holds no {file_name}")
    return path


def _check_files(paths: Sequence[Path]) -> None:
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise TrackingError(f"cannot register {', '.join(missing)}: no such file")


def _register_files(
    run: TrackedRun, paths: Sequence[Path], folder: str, name: str, provenance: Mapping[str, Any]
) -> RegisteredVersion:
    """Logs files to a run and registers their folder, with the alias `current`."""
    log_environment(run)
    for path in paths:
        run.log_file(path, folder)
    client = run.client
    ensure_registered(client, name)
    tags = {"code_version": code_version(), **provenance}
    source = f"{client.get_run(run.run_id).info.artifact_uri}/{folder}"
    version = client.create_model_version(
        name, source, run.run_id, tags={key: without_credentials(str(v)) for key, v in tags.items()}
    ).version
    client.set_registered_model_alias(name, CURRENT, version)
    return RegisteredVersion(name, str(version), (CURRENT,))


def _run_of_model(uri: str, model: str) -> str | None:
    """Id of the run that made `models:/NAME/VERSION`; None for a plain folder."""
    return str(find_version(make_client(uri), model).run_id) if model.startswith("models:/") else None


def keep_beside_catalog(uri: str, catalog_name: str, created_utc: str, path: Path) -> str:
    """Logs a file to the run of the registered catalog; returns the run's id, empty if it is another catalog's.

    Args:
        uri: MLflow's backend.
        catalog_name: in the registry.
        created_utc: of the catalog's provenance, which identifies it.
        path: the file.
    """
    client = make_client(uri)
    version = find_alias(client, catalog_name, CURRENT)
    if version is None or version.tags.get("created_utc") != created_utc:
        return ""
    client.log_artifact(version.run_id, str(path), PAGE_ARTIFACT)
    return str(version.run_id)
