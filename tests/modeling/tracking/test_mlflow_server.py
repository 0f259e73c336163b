"""Against a real MLflow server: SQLite behind it, artifacts on S3 that only it can reach, and basic authentication."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modeling.network.autoencoder import make_model
from modeling.network.checkpoint import load_model, save_model
from modeling.network.inference import infer
from modeling.tracking.catalog_registry import CATALOG_ARTIFACT, register_catalog
from modeling.tracking.lineage import log_environment, log_store, prepare_run
from modeling.tracking.models import _downloads, register_model, resolve_model
from modeling.tracking.runs import TrackingError, make_client, start_run
from tests.s3 import PASSWORD, USER, JuiceFS, free_port, wait_for
from tests.synthetic import synthetic_store, synthetic_windows

pytestmark = [pytest.mark.slow, pytest.mark.s3]
ADMIN, SECRET = "astronomer", secrets.token_urlsafe(16)
SHAPE = (2, 3, 8)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    storage = JuiceFS(tmp_path_factory.mktemp("s3"))
    storage.start()
    ini = folder / "auth.ini"
    ini.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\nadmin_username = {ADMIN}\n"
        "auth_cache_ttl_seconds = 60\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = os.environ | {
        "MLFLOW_AUTH_CONFIG_PATH": str(ini),
        "MLFLOW_AUTH_ADMIN_PASSWORD": SECRET,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(16),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{storage.port}",
        "AWS_ACCESS_KEY_ID": USER,
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", f"s3://{storage.bucket}/artifacts"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(port, process, seconds=120)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its worker is a process of its own
            process.wait()
            storage.close()


@pytest.fixture
def signed_in(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    return server


def test_from_store_to_catalog_through_a_server(signed_in: str, tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "w.zarr", num_train=3, num_validation=1, shape=SHAPE)
    with start_run(signed_in, "tests", "prepare", {"job": "prepare"}) as prepared:
        log_environment(prepared)
        log_store(prepared, store, "prepare")
    parent = prepare_run(signed_in, "tests", store.identity)
    assert parent == prepared.run_id
    model = make_model({"num_lines": 2, "num_samples": 3, "size": 8, "latent_dim": 4}, 0)
    save_model(tmp_path / "m", model, {"line_names": store.line_names})
    with start_run(signed_in, "tests", "train", parent=parent) as trained:
        trained.log_metrics({"train_loss": 0.5}, 0)
        log_store(trained, store, "training")
        register_model(
            trained, tmp_path / "m", model_name="m", store_identity=store.identity, loss=0.5, comparable="mae"
        )
    resolved = resolve_model(signed_in, "models:/m@champion")
    loaded, _ = load_model(resolved.directory)
    assert resolved.directory.is_relative_to(_downloads().name)  # removed when this process ends
    windows = synthetic_windows(np.random.default_rng(0), 2, SHAPE)
    arrays = windows.flux, windows.ivar, windows.mask
    np.testing.assert_array_equal(infer(loaded, *arrays).latent, infer(model, *arrays).latent)
    catalog = tmp_path / "catalog.parquet"
    catalog.write_bytes(b"rows")
    register_catalog(signed_in, "tests", catalog, catalog_name="c", store=store, model="models:/m/1")

    client = make_client(signed_in)
    scored = client.get_run(client.get_model_version("c", "1").run_id)
    assert scored.data.tags["mlflow.parentRunId"] == trained.run_id
    assert client.get_run(trained.run_id).data.tags["mlflow.parentRunId"] == prepared.run_id
    (used,) = scored.inputs.dataset_inputs
    assert used.dataset.name == "w.zarr"
    assert store.identity.startswith(used.dataset.digest)
    assert scored.info.artifact_uri.startswith("mlflow-artifacts:")
    assert [item.path for item in client.list_artifacts(scored.info.run_id, CATALOG_ARTIFACT)] == [
        f"{CATALOG_ARTIFACT}/catalog.parquet"
    ]


@pytest.mark.parametrize("password", ["wrong-secret", ""])
def test_a_user_who_is_not_signed_in_gets_an_error_without_secrets(
    server: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if password:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_USERNAME") as refused, start_run(server, "tests", "run"):
        pass
    assert "wrong-secret" not in str(refused.value)
    assert server in str(refused.value)
