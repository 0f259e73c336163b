import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from modeling.network.autoencoder import make_model
from modeling.network.checkpoint import CheckpointError, load_model, save_model
from modeling.network.inference import infer
from modeling.tracking.catalog_registry import keep_beside_catalog, register_catalog, register_classes
from modeling.tracking.lineage import git_commit, log_environment, log_store, prepare_run
from modeling.tracking.models import (
    RegisteredVersion,
    ensure_registered,
    find_alias,
    find_version,
    register_model,
    resolve_model,
)
from modeling.tracking.runs import NoModelError, RequestError, TrackingError, make_client, start_run
from tests import forks
from tests.mlflow_stub import mlflow_stub
from tests.synthetic import synthetic_store, synthetic_windows

SHAPE = (2, 3, 8)
ARGUMENTS = {"num_lines": 2, "num_samples": 3, "size": 8, "latent_dim": 4}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'new folder' / 'mlflow.db'}"


def checkpoint(directory: Path, seed: int = 0) -> Path:
    save_model(directory, make_model(ARGUMENTS, seed), {"line_names": ["a", "b"]})
    return directory


def register(
    uri: str, directory: Path, loss: float, *, name: str, store: str = "s1", measure: str = "mae"
) -> RegisteredVersion:
    with start_run(uri, "tests", "run") as run:
        return register_model(run, directory, model_name=name, store_identity=store, loss=loss, comparable=measure)


def test_a_store_s_run_that_was_interrupted_is_none_of_its(uri: str, tmp_path: Path) -> None:
    """`prepare` then records the store in a run that has all of it."""
    store = synthetic_store(tmp_path / "w.zarr", num_train=3, num_validation=1, shape=SHAPE)
    for cut in (True, False):
        with suppress(KeyboardInterrupt), start_run(uri, "prepared", "prepare", {"job": "prepare"}) as run:
            log_store(run, store, "prepare")
            assert prepare_run(uri, "prepared", store.identity) is None
            if cut:
                raise KeyboardInterrupt
        assert prepare_run(uri, "prepared", store.identity) == (None if cut else run.run_id)


def test_runs_keep_config_metrics_store_environment_and_children(uri: str, tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "w.zarr", num_train=3, num_validation=1, shape=SHAPE)
    with start_run(uri, "tests", "parent", {"job": "train"}) as run:
        run.log_config("train:\n  lr: 0.1\n", {"train": {"lr": 0.1, "optimizer": "adamw"}})
        log_store(run, store, "training")
        log_environment(run)
        for epoch, loss in enumerate((0.5, 0.25)):
            run.log_metrics({"train_loss": loss, "bad": float("nan")}, epoch)
        with start_run(uri, "tests", "child", parent=run.run_id) as child:
            pass
    client = make_client(uri)
    stored = client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"train.lr": "0.1", "train.optimizer": "adamw"}
    assert stored.data.tags["store_identity"] == store.identity
    (used,) = stored.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("w.zarr", store.identity[:36])
    assert json.loads(used.dataset.profile)["rows"] == {"train": 4, "validation": 1}  # one galaxy was set aside
    assert [(m.step, m.value) for m in client.get_metric_history(run.run_id, "train_loss")] == [(0, 0.5), (1, 0.25)]
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == run.run_id
    assert [item.path for item in client.list_artifacts(run.run_id)] == ["config.yaml", "environment.txt"]
    assert (
        f"torch=={torch.__version__.split('+')[0]}"
        in Path(unquote(stored.info.artifact_uri.removeprefix("file://")), "environment.txt").read_text()
    )


def test_the_commit_is_that_of_the_checkout() -> None:
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        assert git_commit() == ""
        return
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert git_commit().rstrip("+") == head.stdout.strip()


def test_a_failed_run_is_marked(uri: str) -> None:
    with pytest.raises(ZeroDivisionError), start_run(uri, "tests", "run") as run:
        raise ZeroDivisionError
    assert make_client(uri).get_run(run.run_id).info.status == "FAILED"


def test_credentials_are_left_out(uri: str) -> None:
    with start_run(uri, "tests", "run", {"url": "http://me:secret@host/x"}) as run:
        run.log_config("uri: postgresql://me:secret@db/x\n", {"a": {"uri": "postgresql+psycopg://me:secret@db/x"}})
        run.set_tags({"store": "s3://key:secret@bucket/w.zarr"})
    client = make_client(uri)
    stored = client.get_run(run.run_id)
    config = Path(unquote(stored.info.artifact_uri.removeprefix("file://"))) / "config.yaml"
    assert "postgresql://db/x" in config.read_text()
    assert stored.data.tags["url"] == "http://host/x"
    assert "secret" not in str(stored.to_dictionary()) + config.read_text()


def test_a_model_is_registered_resolved_and_scores_as_inference_does(uri: str, tmp_path: Path) -> None:
    import mlflow

    version = register(uri, checkpoint(tmp_path / "m"), 0.5, name="scored")
    assert version == RegisteredVersion("scored", "1", ("candidate", "champion"))
    resolved = resolve_model(uri, "models:/scored@champion")
    assert resolved.version == "1"
    assert resolved.tags["store_identity"] == "s1"
    windows = synthetic_windows(np.random.default_rng(0), 3, SHAPE)
    model, metadata = load_model(resolved.directory)
    assert metadata == {"line_names": ["a", "b"]}
    expected = infer(model, windows.flux, windows.ivar, windows.mask)
    mlflow.set_tracking_uri(uri)
    loaded = mlflow.pyfunc.load_model("models:/scored@candidate")
    predicted = loaded.predict({"flux": windows.flux, "ivar": windows.ivar, "mask": windows.mask})
    np.testing.assert_array_equal(predicted["score"], expected.mae)
    np.testing.assert_array_equal(predicted["latent"], expected.latent)
    assert [spec.name for spec in loaded.metadata.signature.outputs.inputs] == ["score", "latent"]
    with pytest.raises(mlflow.exceptions.MlflowException, match="shape"):
        loaded.predict({"flux": windows.flux[:, :1], "ivar": windows.ivar, "mask": windows.mask})


@pytest.mark.slow
def test_a_process_that_has_only_the_package_makes_the_same_of_the_example(uri: str, tmp_path: Path) -> None:
    register(uri, checkpoint(tmp_path / "m"), 0.5, name="shipped")
    folder = resolve_model(uri, "models:/shipped@champion").directory.parent.parent
    code = (
        "import sys, mlflow, numpy as np\n"
        "file = np.load(sys.argv[2], allow_pickle=False)\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "windows = {name: file[name] for name in ('flux', 'ivar', 'mask')}\n"
        "found = mlflow.pyfunc.load_model('models:/shipped@champion').predict(windows)\n"
        "for name in ('score', 'latent'):\n"
        "    np.testing.assert_allclose(found[name], file[name], rtol=1e-6)\n"
        "print(*found['latent'].shape)"
    )
    command = [sys.executable, "-c", code, uri, str(folder / "example.npz")]
    (tmp_path / "empty").mkdir()
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "4"]
    assert (folder / "example.npz").stat().st_size < 100_000


def test_nothing_that_is_registered_is_a_pickle(uri: str, tmp_path: Path) -> None:
    register(uri, checkpoint(tmp_path / "m"), 0.5, name="plain")
    resolved = resolve_model(uri, "models:/plain@champion")
    files = [path for path in resolved.directory.parent.parent.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"MLmodel", "pyfunc.py", "model.json", "model.safetensors"}
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]


@pytest.mark.slow
def test_champion_goes_to_the_lower_loss_on_the_same_measure(uri: str, tmp_path: Path) -> None:
    cases: list[tuple[float, dict[str, Any], str]] = [
        (0.5, {}, "1"),
        (0.6, {}, "1"),
        (0.1, {"store": "s2"}, "1"),
        (0.1, {"measure": "mse"}, "1"),
        (0.4, {}, "5"),
    ]
    for seed, (loss, other, champion) in enumerate(cases):
        version = register(uri, checkpoint(tmp_path / str(seed), seed), loss, name="contest", **other)
        assert version.version == str(seed + 1)
        assert resolve_model(uri, "models:/contest@champion").version == champion
        assert resolve_model(uri, "models:/contest@candidate").version == version.version
    assert resolve_model(uri, "models:/contest/2").tags["validation_loss"] == "0.6"


def test_the_same_weights_keep_their_version(uri: str, tmp_path: Path) -> None:
    directory = checkpoint(tmp_path / "m")
    assert [register(uri, directory, 0.5, name="again").version for _ in range(2)] == ["1", "1"]


def test_a_directory_resolves_to_itself(uri: str, tmp_path: Path) -> None:
    resolved = resolve_model(uri, str(checkpoint(tmp_path / "m")))
    assert (resolved.directory, resolved.version, resolved.tags) == (tmp_path / "m", None, {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models:/nobody@champion", "not in the registry"),
        ("models:/nobody/7", "not in the registry"),
        ("models:/nobody", "expected models:/NAME@ALIAS"),
        ("/no/such/place", "no model directory"),
    ],
)
def test_what_is_not_there_is_named(uri: str, name: str, message: str) -> None:
    with start_run(uri, "tests", "run"):
        pass  # now there is a registry, in which it is not
    with pytest.raises(TrackingError, match=message):
        resolve_model(uri, name)


@pytest.mark.parametrize(("status", "content"), [(503, "<html>down</html>"), (403, "Permission denied")])
def test_a_registry_that_fails_does_not_lack_what_is_asked_for(status: int, content: str, tmp_path: Path) -> None:
    alias, version = "GET registered-models/alias", "GET model-versions/get"
    with mlflow_stub({alias: (status, content), version: (status, content)}) as (uri, _):
        client = make_client(uri)
        for reference in ("models:/m@champion", "models:/m/3"):
            with pytest.raises(RequestError, match=f"cannot get model version.*{status}") as failed:
                find_version(client, reference)
            assert not isinstance(failed.value, NoModelError)
        with pytest.raises(RequestError, match="cannot get model version by alias"):
            find_alias(client, "m", "champion")
        file = tmp_path / "file"
        file.write_text("a page, or heads")
        with pytest.raises(RequestError, match="cannot get model version by alias"):
            keep_beside_catalog(uri, "catalog", "2026", file)
        with pytest.raises(RequestError, match="cannot get model version"):
            register_classes(uri, "tests", file, name="c", metrics={}, provenance={}, model="models:/m/3")


def test_a_champion_that_cannot_be_asked_for_keeps_its_alias(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    def fail(*_: object) -> None:
        raise MlflowException("the database is locked")

    register(uri, checkpoint(tmp_path / "0"), 0.1, name="kept")
    with monkeypatch.context() as patch, start_run(uri, "tests", "run") as run:
        patch.setattr("mlflow.MlflowClient.get_model_version_by_alias", fail)
        with pytest.raises(RequestError, match="the database is locked"):
            register_model(
                run, checkpoint(tmp_path / "1", 1), model_name="kept", store_identity="s1", loss=0.9, comparable="mae"
            )
    assert resolve_model(uri, "models:/kept@champion").version == "1"


def test_a_user_who_may_only_read_is_told_what_is_refused() -> None:
    """Without the password in the address."""
    refused = 403, "Permission denied"
    answers = {"POST runs/create": refused, "POST registered-models/create": refused}
    with mlflow_stub(answers, user="me:secret") as (uri, requests):
        with pytest.raises(TrackingError) as failed, start_run(uri, "tests", "run"):
            pass
        with pytest.raises(TrackingError, match=r"cannot create registered model: .*Permission denied"):
            ensure_registered(make_client(uri), "m")
    where = uri.replace("me:secret@", "")
    assert str(failed.value).startswith(f"{where} (tracking.uri): cannot create run: ")
    assert str(failed.value).endswith("'Permission denied'")
    assert "secret" not in str(failed.value)
    assert "POST runs/create" in requests


def test_the_end_of_a_run_that_cannot_be_recorded_hides_no_error() -> None:
    info = {"run_id": "r", "run_uuid": "r", "experiment_id": "1", "status": "RUNNING"}
    made = {"POST runs/create": (200, {"run": {"info": info}}), "POST runs/set-tag": (200, {})}
    with (
        mlflow_stub(made | {"GET runs/get": (503, "down")}) as (uri, requests),
        pytest.raises(ZeroDivisionError),
        start_run(uri, "tests", "run"),
    ):
        raise ZeroDivisionError
    assert requests[-1] == "GET runs/get"


def test_an_experiment_that_cannot_be_created_is_named() -> None:
    absent = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}
    answers = {"GET experiments/get-by-name": (404, absent), "POST experiments/create": (403, "Permission denied")}
    with (
        mlflow_stub(answers) as (uri, _),
        pytest.raises(TrackingError, match=r"cannot create experiment: .*Permission denied"),
        start_run(uri, "mine", "run"),
    ):
        pass


def test_a_directory_without_a_model_is_not_registered(uri: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no Cubescout model"):
        register(uri, tmp_path, 0.5, name="nothing")


def test_catalogs_are_registered_with_their_provenance(uri: str, tmp_path: Path) -> None:
    for content, expected in ((b"one", "1"), (b"two", "2")):
        catalog, notes = tmp_path / "catalog.parquet", tmp_path / "notes.json"
        catalog.write_bytes(content)
        notes.write_text("{}")
        provenance = {"store_identity": "s1", "model_version": 3}
        version = register_catalog(
            uri, "tests", catalog, catalog_name="cat", extra_artifacts=[notes], provenance=provenance
        )
        assert version.version == expected
    client = make_client(uri)
    current = client.get_model_version_by_alias("cat", "current")
    assert current.version == 2
    assert current.tags["model_version"] == "3"
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=current.source, tracking_uri=uri))
    assert (folder / "catalog.parquet").read_bytes() == b"two"
    with pytest.raises(TrackingError, match=r"missing\.parquet: no such file"):
        register_catalog(uri, "tests", tmp_path / "missing.parquet", catalog_name="cat")


def test_a_foreign_file_and_a_plain_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("not a database, but long enough to be read as one" * 20)
    with pytest.raises(TrackingError, match=r"notes\.db: not an MLflow database"):
        make_client(f"sqlite:///{tmp_path / 'notes.db'}")
    with pytest.raises(TrackingError, match="expected a URI"):
        make_client(str(tmp_path / "mlruns"))


def _open(uri: str) -> str:
    with start_run(uri, "shared", "run") as run:
        return run.run_id


@pytest.mark.slow
def test_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with ProcessPoolExecutor(3, mp_context=forks.CONTEXT) as pool:
        runs = list(pool.map(_open, [uri] * 3))
    assert len(set(runs)) == 3
