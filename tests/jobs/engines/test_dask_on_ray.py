"""prepare on Dask in actors of a Ray cluster of two nodes."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from cubeprep.prepare import prepare
from cubeprep.survey import SurveyConfig
from jobs.config import ProjectConfig
from jobs.engines.dask_on_ray import DaskOnRayConfig, dask_on_ray
from jobs.prepare import run
from tests.cubeprep.test_prepare import CONFIG, contents
from tests.logcube import write_survey
from tests.ray_head import BARE_HEAD, started_by
from tests.ray_workers import forked_workers

REDSHIFTS = {f"8000-{i}": 0.02 + 0.004 * i for i in range(8)}
START = """
from jobs.engines.dask_on_ray import DaskOnRayConfig, dask_on_ray
with dask_on_ray(DaskOnRayConfig(num_workers=1)) as address:
    print(address)
"""
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """Two nodes of one CPU each on this machine, closed to those without the token."""
    # Left in the environment, as `ray_session` does: Ray reads the token once in the life of a process.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with pytest.MonkeyPatch.context() as patch, forked_workers():
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 100 << 20}
        cluster = Cluster(initialize_head=True, head_node_args=node | BARE_HEAD)
        cluster.add_node(**node)
        patch.setenv("RAY_ADDRESS", cluster.address)
        try:
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> SurveyConfig:
    return SurveyConfig(root=str(write_survey(tmp_path_factory.mktemp("survey"), REDSHIFTS, size=9)))


def project(survey: SurveyConfig, workspace: Path) -> ProjectConfig:
    dask = {"scheduler": "ray"}
    config = CONFIG.model_dump() | {"galaxies_per_shard": 1, "dask": dask}
    return ProjectConfig.model_validate({"workspace": workspace, "seed": 3, "survey": survey, "prepare": config})


def worker_actors(cluster: Any) -> list[psutil.Process]:
    """Dask's workers on this cluster alone: others may use this machine too."""
    found = []
    for process in [process for node in cluster.list_all_nodes() for process in started_by(node)]:
        with suppress(psutil.NoSuchProcess):
            if process.name().startswith("ray::WorkerAct") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill_a_worker(cluster: Any, store: Path) -> None:
    """Once the first shard is done."""
    deadline = time.monotonic() + 150
    while not any(store.glob("records/*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker_actors(cluster)[0].kill()


def test_the_same_bytes_as_on_this_machine_where_a_worker_is_killed(
    ray_cluster: Any, survey: SurveyConfig, tmp_path: Path
) -> None:
    prepare(CONFIG.model_copy(update={"galaxies_per_shard": 1}), survey, str(tmp_path / "local"), seed=3)
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_a_worker, ray_cluster, tmp_path / "cut" / "windows.zarr")
        assert run(project(survey, tmp_path / "cut")) == 0
        killed.result()
    assert contents(tmp_path / "cut" / "windows.zarr") == contents(tmp_path / "local")


def test_a_dead_worker_is_replaced_and_nobody_without_the_keys_gets_in(ray_cluster: Any) -> None:
    from distributed import Client
    from distributed.security import Security

    with dask_on_ray(DaskOnRayConfig(num_workers=1)) as address:
        assert address.startswith("tls://")
        with Client(address) as client:
            assert client.submit(abs, -2).result(timeout=60) == 2
            worker_actors(ray_cluster)[0].kill()  # the only one there is
            assert client.submit(abs, -3).result(timeout=100) == 3
        with pytest.raises(OSError, match="TLS certificate does not match"):
            Client(address, security=Security.temporary(), timeout=3)
    deadline = time.monotonic() + 60  # Ray kills actors without waiting for their end
    while worker_actors(ray_cluster):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_without_a_cluster_a_ray_of_its_own_is_started() -> None:
    """In a new process, whose Ray has not read its token yet."""
    hidden = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    started = subprocess.run(
        [sys.executable, "-c", START], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert started.returncode == 0, started.stderr
    assert started.stdout.startswith("tls://")
