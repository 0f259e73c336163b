"""Links between MLflow's runs: the run that made the store, the store as a dataset, and the environment of a run.

The parent of a training's run is that of its store's `prepare`; the parent of a catalog's run is that of its model.
MLflow's page shows them as one tree.
"""

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from cubeprep.store import WindowStore
from modeling.tracking.runs import TrackedRun, find_run, without_credentials

SAMPLING_SECONDS = 10


def prepare_run(uri: str, experiment: str, store_identity: str) -> str | None:
    """Id of the run that made a store; None if it is not tracked here."""
    return find_run(uri, experiment, {"job": "prepare", "store_identity": store_identity}, finished=True)


def log_store(run: TrackedRun, store: WindowStore, context: str) -> None:
    """Logs a store as a dataset of MLflow, and in the tags `store` and `store_identity`.

    Args:
        run: that makes or uses the store.
        store: the store.
        context: of its use, such as `training`.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    run.set_tags({"store": store.path, "store_identity": store.identity})
    rows = {split: store.num_rows(split) for split in store.splits}
    dataset = Dataset(
        name=without_credentials(store.path).rstrip("/").rsplit("/", 1)[-1],
        digest=store.identity[:36],  # as many characters as MLflow keeps
        source_type="zarr",
        source=json.dumps({"uri": without_credentials(store.path)}),
        schema=json.dumps({"lines": store.line_names, "shape": store.shape}),
        profile=json.dumps({"identity": store.identity, "rows": rows}),
    )
    run.client.log_inputs(run.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])


def git_commit() -> str:
    """Commit of the checkout that this runs from, with a `+` if files differ; empty for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)  # noqa: S603
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def log_inputs(run: TrackedRun, config_yaml: str, values: Mapping[str, Any], store: WindowStore, context: str) -> None:
    """Logs configuration, environment and store of a run; see `TrackedRun.log_config` and `log_store`."""
    run.log_config(config_yaml, values)
    log_environment(run)
    log_store(run, store, context)


def log_environment(run: TrackedRun) -> None:
    """Logs Python version, machine and the versions of all packages as `environment.txt`."""
    lines = [f"# Python {platform.python_version()}, {platform.platform()}", *_packages()]
    run.client.log_text(run.run_id, "\n".join(lines) + "\n", "environment.txt")


@cache
def _packages() -> list[str]:
    """Packages and their versions, read once: two hundred files of metadata take a quarter of a second."""
    metadata = (found.metadata for found in distributions())
    return sorted({f"{each['Name']}=={each['Version']}" for each in metadata}, key=str.lower)


@contextmanager
def system_metrics(run: TrackedRun) -> Iterator[None]:
    """Logs use of processor, memory, disk, network and GPUs of this machine every ten seconds, as `system/...`."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        run.run_id, SAMPLING_SECONDS, resume_logging=True, tracking_uri=run.client.tracking_uri
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
