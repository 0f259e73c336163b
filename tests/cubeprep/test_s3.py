"""prepare against a real S3 server that refuses, fails and dies."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import s3fs

import cubeprep.remote
from cubeprep import shard as module
from cubeprep import storage
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.storage import StorageError, open_file, write_file
from cubeprep.store import StoreError, WindowStore
from cubeprep.survey import SurveyConfig
from tests.ceph import Ceph
from tests.cubeprep.test_prepare import CONFIG, REDSHIFTS
from tests.logcube import write_survey
from tests.s3 import JuiceFS, misbehaving_proxy, moto_server, point_at

pytestmark = pytest.mark.s3


Server = JuiceFS | Ceph


@pytest.fixture(scope="module", params=["juicefs", pytest.param("ceph", marks=pytest.mark.ceph)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind = JuiceFS if request.param == "juicefs" else Ceph
    server = kind(tmp_path_factory.mktemp(request.param))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> SurveyConfig:
    return SurveyConfig(root=str(write_survey(tmp_path_factory.mktemp("survey"), REDSHIFTS, size=9)))


@pytest.fixture
def remote(server: Server, local: SurveyConfig, monkeypatch: pytest.MonkeyPatch) -> SurveyConfig:
    """The same survey on the server."""
    point_at(monkeypatch, server.port)
    fs, _ = storage.filesystem("s3://survey")
    root = Path(str(local.root))
    for path in root.rglob("*.fits*"):
        target = f"survey/cubes/{path.relative_to(root)}"
        if not fs.exists(target):
            fs.put_file(str(path), target)
    return local.model_copy(update={"root": "s3://survey/cubes"})


def assert_same_galaxies(path: str, other: str) -> None:
    first, second = WindowStore.open(path), WindowStore.open(other)
    for plateifu in REDSHIFTS:
        for name in ("flux", "ivar", "mask"):
            a, b = (getattr(store.read_galaxy(plateifu), name) for store in (first, second))
            np.testing.assert_array_equal(a, b)


def test_a_survey_on_s3_becomes_the_same_store_as_a_local_one(
    local: SurveyConfig, remote: SurveyConfig, tmp_path: Path
) -> None:
    prepare(CONFIG, local, str(tmp_path / "s.zarr"), seed=3)
    summary = prepare(CONFIG, remote, "s3://survey/same.zarr", seed=3)
    assert summary["accepted"] == len(REDSHIFTS)
    assert_same_galaxies("s3://survey/same.zarr", str(tmp_path / "s.zarr"))
    checksums = WindowStore.open("s3://survey/same.zarr").galaxies()["source_checksum"]
    assert checksums.str.match(r"(etag|size):\w+").all()


def test_a_cube_is_one_request_and_a_shard_one_per_object(
    server: Server, remote: SurveyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    with misbehaving_proxy(server.port, lambda number, method, path: requests.append(f"{method} {path}")) as port:
        point_at(monkeypatch, port)
        prepare(CONFIG, remote, "s3://survey/counted.zarr", seed=3)
    cubes = Counter(request.split()[0] for request in requests if "LOGCUBE" in request)
    assert cubes == {"GET": len(REDSHIFTS), "HEAD": len(REDSHIFTS)}
    shards = Counter(request for request in requests if "/c/" in request and "train/flux" in request)
    assert set(shards.values()) == {1}, "one write and one check each"
    assert {request.split()[0] for request in shards} == {"PUT", "GET"}
    written = Counter(request for request in requests if request.startswith("PUT"))
    twice = {request.rpartition("counted.zarr/")[2] for request, count in written.items() if count > 1}
    assert twice <= {"zarr.json"} | {f"{split}/valid/c/0" for split in ("train", "validation", "test")}


def test_wrong_credentials_are_named_and_not_shown(
    server: Server, remote: SurveyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(monkeypatch, server.port, password="wrong-password-of-mine")
    with pytest.raises(StorageError, match=r"s3://survey/cubes: \w+: .*(signature|credentials|Forbidden)") as caught:
        prepare(CONFIG, remote, "s3://survey/wrong.zarr", seed=3)
    assert "wrong-password-of-mine" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named(local: SurveyConfig, remote: SurveyConfig, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"s3://nowhere/s\.zarr.*bucket does not exist"):
        prepare(CONFIG, local, "s3://nowhere/s.zarr", seed=3)
    with pytest.raises(ValueError, match=r"survey\.root: s3://nowhere/cubes does not exist"):
        prepare(CONFIG, remote.model_copy(update={"root": "s3://nowhere/cubes"}), str(tmp_path / "s"), seed=3)


def test_503_answers_are_tried_again(
    server: Server, remote: SurveyConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cubeprep.remote.BACKOFF", {"init_backoff": timedelta(seconds=0.05)})
    failed: list[str] = []

    def first_try_fails(number: int, method: str, path: str) -> int | None:
        request = f"{method} {path.partition('?')[0]}"
        if not ("LOGCUBE" in path or "flux/c" in path or "records/" in path) or request in failed:
            return None
        failed.append(request)
        return 503

    with misbehaving_proxy(server.port, first_try_fails) as port:
        point_at(monkeypatch, port)
        prepare(CONFIG, remote, "s3://survey/flaky.zarr", seed=3)
    point_at(monkeypatch, server.port)
    assert sum(request.startswith("GET") for request in failed) >= len(REDSHIFTS)
    assert sum(request.startswith("PUT") and "flux" in request for request in failed) == 4
    prepare(CONFIG, remote, "s3://survey/calm.zarr", seed=3)
    assert_same_galaxies("s3://survey/flaky.zarr", "s3://survey/calm.zarr")


def test_slow_answers_are_given_up_and_asked_for_again(
    server: Server, remote: SurveyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cubeprep.remote.SILENCE", timedelta(seconds=0.5))
    monkeypatch.setattr("cubeprep.remote.BACKOFF", {"init_backoff": timedelta(seconds=0.05)})
    delayed: list[str] = []

    def first_is_slow(number: int, method: str, path: str) -> None:
        kind = next((kind for kind in ("LOGCUBE", "flux/c", "records/") if kind in path), "")
        if kind and f"{method} {kind}" not in delayed:
            delayed.append(f"{method} {kind}")
            time.sleep(1.2)

    with misbehaving_proxy(server.port, first_is_slow) as port:
        point_at(monkeypatch, port)
        assert prepare(CONFIG, remote, "s3://survey/slow.zarr", seed=3)["accepted"] == len(REDSHIFTS)
    assert {"GET LOGCUBE", "PUT flux/c", "GET flux/c", "PUT records/"} <= set(delayed)
    point_at(monkeypatch, server.port)
    prepare(CONFIG, remote, "s3://survey/swift.zarr", seed=3)
    assert_same_galaxies("s3://survey/slow.zarr", "s3://survey/swift.zarr")


def test_a_stream_that_is_cut_goes_on_where_it_was(
    server: Server, remote: SurveyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cubeprep.remote.BACKOFF", {"init_backoff": timedelta(seconds=0.05)})
    url, whole = "s3://survey/streamed.fits.gz", np.random.default_rng(0).bytes(1_000_000)
    write_file(url, whole)
    asked: list[str] = []

    def after_some_bytes(number: int, method: str, path: str) -> int | None:
        asked.append(path)
        return len(whole) // 4 if len(asked) < 4 else None

    with misbehaving_proxy(server.port, cut=after_some_bytes) as port:
        point_at(monkeypatch, port)
        with open_file(url) as file:
            assert file.read() == whole
    assert len(asked) == 4


def test_a_stream_whose_object_is_replaced_is_an_error(
    server: Server, remote: SurveyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cubeprep.remote.BACKOFF", {"init_backoff": timedelta(seconds=0.05)})
    url = "s3://survey/replaced.fits.gz"
    write_file(url, bytes(300_000))
    with misbehaving_proxy(server.port, cut=lambda number, method, path: 100_000) as port:
        point_at(monkeypatch, port)
        with open_file(url) as file:
            file.read(1000)
            point_at(monkeypatch, server.port)
            write_file(url, bytes(300_001))
            with pytest.raises(OSError, match="the object was replaced while it was being read"):
                file.read()


def test_a_service_that_only_fails_is_an_error_and_no_galaxy_is_blamed(
    server: Server, remote: SurveyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cubeprep.remote.MAX_ATTEMPTS", 2)

    def cubes_fail(number: int, method: str, path: str) -> int | None:
        return 503 if method == "GET" and "LOGCUBE" in path else None

    with misbehaving_proxy(server.port, cubes_fail) as port:
        point_at(monkeypatch, port)
        with pytest.raises(StorageError, match=r"s3://survey/cubes/.*LOGCUBE\.fits\.gz"):
            prepare(CONFIG, remote, "s3://survey/failing.zarr", seed=3)
        with pytest.raises(StoreError, match="not finished"):
            WindowStore.open("s3://survey/failing.zarr")
    point_at(monkeypatch, server.port)
    assert prepare(CONFIG, remote, "s3://survey/failing.zarr", seed=3)["rejected"] == 0


def test_a_server_that_dies_half_way_and_comes_back_costs_nothing(
    server: Server, remote: SurveyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(CONFIG, remote, "s3://survey/undisturbed.zarr", seed=3)
    extract, calls = module.extract_galaxy, []

    def killing(*args: object) -> object:
        calls.append(args)
        if len(calls) == 3:
            server.kill()
            threading.Thread(target=lambda: (time.sleep(2), server.start())).start()
        return extract(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "extract_galaxy", killing)
    prepare(CONFIG, remote, "s3://survey/survived.zarr", seed=3)
    assert len(calls) == len(REDSHIFTS)
    assert_same_galaxies("s3://survey/survived.zarr", "s3://survey/undisturbed.zarr")


def test_a_server_that_stays_dead_is_a_clear_error_and_a_rerun_goes_on(
    server: Server, remote: SurveyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cubeprep.remote.MAX_ATTEMPTS", 2)
    point_at(monkeypatch, server.port)
    config: PrepareConfig = CONFIG
    extract, calls = module.extract_galaxy, []

    def killing(*args: object) -> object:
        calls.append(args)
        if len(calls) == 3:
            server.kill()
        return extract(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "extract_galaxy", killing)
    with pytest.raises(StorageError, match=r"s3://survey/"):
        prepare(config, remote, "s3://survey/dead.zarr", seed=3)
    server.start()
    assert prepare(config, remote, "s3://survey/dead.zarr", seed=3)["accepted"] == len(REDSHIFTS)
    assert len(calls) == 3 + len(REDSHIFTS) - 2, "the shard that was done is not made again"


def test_the_region_of_a_bucket_is_asked_for_where_none_is_set(
    local: SurveyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with moto_server() as port:
        point_at(monkeypatch, port)
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        s3fs.S3FileSystem().mkdir("far", region_name="eu-west-1")
        prepare(CONFIG, local, "s3://far/s.zarr", seed=3)
        prepare(CONFIG, local, str(tmp_path / "s.zarr"), seed=3)
        assert cubeprep.remote.bucket("far", "").config["region"] == "eu-west-1"
        assert_same_galaxies("s3://far/s.zarr", str(tmp_path / "s.zarr"))
