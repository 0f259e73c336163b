"""Catalogs in MLflow's registry, beside the models that scored them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cubeprep.store import WindowStore
from cubeprep.version import code_version
from modeling.tracking.lineage import log_environment, log_store
from modeling.tracking.models import RegisteredVersion, ensure_registered, find_version
from modeling.tracking.runs import TrackingError, make_client, start_run, without_credentials

# The alias `latest` is reserved by MLflow: `models:/NAME/latest` is the newest version.
CURRENT = "current"
PAGE_ARTIFACT = "page"
CATALOG_ARTIFACT = "catalog"


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
    missing = [str(path) for path in (catalog, *extra_artifacts) if not path.is_file()]
    if missing:
        raise TrackingError(f"cannot register {', '.join(missing)}: no such file")
    provenance, parent = provenance or {}, _run_of_model(uri, model)
    with start_run(uri, experiment, "catalog", {"job": "score", **provenance}, parent=parent) as run:
        log_environment(run)
        if store is not None:
            log_store(run, store, "scoring")
        for path in (catalog, *extra_artifacts):
            run.log_file(path, CATALOG_ARTIFACT)
        client = run.client
        ensure_registered(client, catalog_name)
        tags = {"code_version": code_version(), **provenance}
        source = f"{client.get_run(run.run_id).info.artifact_uri}/{CATALOG_ARTIFACT}"
        version = client.create_model_version(
            catalog_name, source, run.run_id, tags={key: without_credentials(str(v)) for key, v in tags.items()}
        ).version
        client.set_registered_model_alias(catalog_name, CURRENT, version)
    return RegisteredVersion(catalog_name, str(version), (CURRENT,))


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
    from mlflow.exceptions import MlflowException

    client = make_client(uri)
    try:
        version = client.get_model_version_by_alias(catalog_name, CURRENT)
    except MlflowException:
        return ""
    if version.tags.get("created_utc") != created_utc:
        return ""
    client.log_artifact(version.run_id, str(path), PAGE_ARTIFACT)
    return str(version.run_id)
