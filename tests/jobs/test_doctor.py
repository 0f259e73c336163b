"""The doctor: what it finds on a machine, what it advises, its exit code, and that it keeps secrets."""

import re
import socket
import sqlite3
from collections import namedtuple
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from cubeprep.memory import free_memory
from jobs import cli
from jobs.console import checks, services
from modeling.network import triton_support
from tests.s3 import PASSWORD, USER, free_port, moto_server, point_at

CANARY = "cAnArY"
Usage = namedtuple("Usage", "total used free")


def run(workspace: Path, *settings: str) -> tuple[int, str]:
    arguments = [f"--set={text}" for text in (f"workspace={workspace}", *settings)]
    result = CliRunner().invoke(cli.main, ["doctor", *arguments])
    return result.exit_code, result.output


def line_of(output: str, what: str) -> str:
    return next(line for line in output.splitlines() if line[6:].startswith(f"{what}:"))


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with room, and without a cluster or a kernel to compile."""
    monkeypatch.setenv("CUBESCOUT_NATIVE", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(checks, "free_memory", lambda: 8e9)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: Usage(100e9, 0, 50e9))


def test_a_machine_without_faults_passes_and_nothing_is_written(tmp_path: Path) -> None:
    code, output = run(tmp_path / "workspace")
    assert code == 0, output
    assert "FAIL" not in output
    assert line_of(output, "memory") == "ok    memory: 8.0 GB free"
    for what in ("packages", "compiler", "GPU", "TMPDIR", "Ray", "survey.root", "workspace", "MLflow"):
        assert line_of(output, what)
    assert list(tmp_path.iterdir()) == []


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"prepare.store": "w.zarr", "train.storage": "t", "tracking.uri": "sqlite:///m.db"}
    code, output = run(Path("runs"), *(f"{key}={value}" for key, value in given.items()))
    assert code == 0, output
    paths = {"survey.root": "runs/survey", "workspace": "runs", "prepare.store": "w.zarr", "train.storage": "t"}
    for what, path in (paths | {"MLflow": "m.db"}).items():
        assert line_of(output, what).startswith(f"ok    {what}: {tmp_path / path}")


def test_each_fault_of_the_machine_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all, but a text that is long enough to look like one")
    versions = dict.fromkeys(("click", "torch"), "0.1")
    monkeypatch.setattr(checks, "version", lambda name: versions.get(name) or metadata.version(name))
    monkeypatch.setattr(checks, "free_memory", lambda: 1e9)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: Usage(100e9, 0, 0.5e9))
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    code, output = run(tmp_path, f"survey.root={tmp_path / 'nowhere'}", f"prepare.store={tmp_path / 'windows.zarr'}")
    assert code == 1
    failed = [line for line in output.splitlines() if line.startswith("FAIL")]
    for what in ("packages", "memory", "TMPDIR", "Ray", "survey.root", "workspace", "prepare.store", "MLflow"):
        assert line_of(output, what) in failed
        assert output.splitlines()[output.splitlines().index(line_of(output, what)) + 1].startswith("      -> ")
    assert "click 0.1 (needs >=8.1)" in line_of(output, "packages")
    assert "torch 0.1 (tested: " in line_of(output, "tested versions")
    assert "not an MLflow database" in line_of(output, "MLflow")
    assert f"{len(failed)} of these checks failed" in output


@pytest.mark.parametrize(("address", "level"), [("auto", "note"), ("local", "ok")])
def test_addresses_of_ray_without_a_host_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, level: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    code, output = run(tmp_path / "workspace")
    assert code == 0, output
    assert line_of(output, "Ray").split()[0] == level
    assert f"RAY_ADDRESS={address}" in line_of(output, "Ray")


def test_without_what_the_package_requires_nothing_is_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "requires", lambda name: [])
    assert line_of(run(tmp_path / "workspace")[1], "packages").startswith("note  packages: nothing tells")


def test_a_long_temporary_folder_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(checks.tempfile, "tempdir", None)
    code, output = run(tmp_path / "workspace")
    assert code == 0, output
    assert line_of(output, "sockets").startswith(f"note  sockets: {long} is too long")


def test_a_database_of_mlflow_is_counted_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as database:
        database.execute("create table runs (name text)")
        database.execute("insert into runs values ('a'), ('b')")
    database.close()
    before = path.read_bytes()
    code, output = run(tmp_path)
    assert code == 0, output
    assert line_of(output, "MLflow").endswith(f"{path}, 2 runs")
    assert path.read_bytes() == before


def test_the_memory_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    files = {"/proc/meminfo": "MemFree: 1 kB\nMemAvailable: 20000000 kB\n"}
    monkeypatch.setattr(Path, "read_text", lambda self: files[str(self)] if str(self) in files else _missing(self))
    assert free_memory() == 20480000000
    files |= {"/sys/fs/cgroup/memory.max": "max\n", "/sys/fs/cgroup/memory.current": "5\n"}
    assert free_memory() == 20480000000
    files["/sys/fs/cgroup/memory.max"] = "1000005\n"
    cached = "inactive_file 300\nactive_file 20\nworkingset_refault_file 9\n"
    files["/sys/fs/cgroup/memory.stat"] = f"anon 4\nfile 400\n{cached}"
    assert free_memory() == 1000320


def _missing(path: Path) -> str:
    raise FileNotFoundError(path)


def test_no_password_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        settings = [
            f"survey.root=http://user:{CANARY}@127.0.0.1:{port}/survey",
            f"tracking.uri=http://user:{CANARY}@127.0.0.1:{port}",
            f"prepare.store=s3://bucket/w.zarr?secret={CANARY}",
        ]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{CANARY}@127.0.0.1:{silent.getsockname()[1]}")
        code, output = run(tmp_path, *settings)
    assert code == 1
    assert CANARY not in output
    assert f"127.0.0.1:{port}" in line_of(output, "survey.root")
    assert f"127.0.0.1:{port}" in line_of(output, "MLflow")
    assert line_of(output, "prepare.store").startswith("FAIL")


@pytest.mark.parametrize(
    ("place", "beside"),
    [
        ("s3://mine", "s3://mine/"),
        ("s3://mine/", "s3://mine/"),
        ("s3://mine?secret=x", "s3://mine/"),
        ("s3://mine/a/w.zarr/", "s3://mine/a/w.zarr"),
    ],
)
def test_the_bucket_is_that_of_the_place_alone(place: str, beside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[str] = []
    monkeypatch.setattr(services, "_check_service", lambda *_: None)
    monkeypatch.setattr(services, "write_file", lambda path, content: probes.append(path))
    monkeypatch.setattr(services, "remove_file", probes.append)
    (finding,) = services.written("train.storage", place)
    assert finding.text == f"{place} can be written to"
    written, removed = probes
    assert written == removed
    assert re.fullmatch(re.escape(beside) + r"\.doctor-[0-9a-f]{8}", written)


@pytest.mark.s3
def test_s3_is_written_to_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    with moto_server() as port:
        point_at(monkeypatch, port)
        client = boto3.client("s3")
        client.create_bucket(Bucket="survey")
        code, output = run(tmp_path, "prepare.store=s3://survey/a/windows.zarr", "train.storage=s3://none/t")
        assert line_of(output, "prepare.store") == "ok    prepare.store: s3://survey/a/windows.zarr can be written to"
        assert client.list_objects_v2(Bucket="survey")["KeyCount"] == 0
        assert code == 1
        assert line_of(output, "train.storage").startswith("FAIL  train.storage: StorageError: s3://none/")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        assert "no credentials for S3" in line_of(run(tmp_path, "prepare.store=s3://survey/w")[1], "prepare.store")
    assert PASSWORD not in output
    assert USER not in output


@pytest.mark.parametrize(("compiler", "level"), [("/usr/bin/gcc", "ok"), (None, "note")])
def test_a_gpu_without_a_compiler_for_triton_is_noted(
    monkeypatch: pytest.MonkeyPatch, compiler: str | None, level: str
) -> None:
    found = SimpleNamespace(name="H200", total_memory=141e9, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    monkeypatch.setattr(triton_support, "has_triton", lambda: True)
    monkeypatch.setattr(checks.shutil, "which", lambda name: compiler)
    (finding,) = checks.gpu()
    assert finding.level == level
    assert finding.text.startswith("H200, 141 GB, compute capability 9.0")
