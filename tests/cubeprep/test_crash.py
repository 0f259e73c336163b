"""kill -9 of the driver or of a worker at random moments: a rerun ends in the same bytes as an undisturbed run."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from cubeprep.store import StoreError, WindowStore
from tests.cubeprep.test_prepare import contents
from tests.logcube import write_survey
from tests.s3 import free_port

NUM_KILLS = 25
REDSHIFTS = {f"8000-{i}": 0.02 + 0.004 * i for i in range(10)}
SCRIPT = """
import sys
from cubeprep.cluster import DaskConfig
from cubeprep.prepare import PrepareConfig, prepare
from cubeprep.survey import SurveyConfig
from cubeprep.windows import WindowConfig

if __name__ == "__main__":
    root, store, *scheduler = sys.argv[1:]
    dask = DaskConfig(scheduler=scheduler[0]) if scheduler else DaskConfig(num_workers=2)
    config = PrepareConfig(windows=WindowConfig(size=8), galaxies_per_shard=1, dask=dask)
    prepare(config, SurveyConfig(root=root), store, seed=3)
"""


def start(script: Path, root: Path, store: Path, *scheduler: str) -> subprocess.Popen[bytes]:
    return spawn(str(script), str(root), str(store), *scheduler)


def spawn(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_one(driver: subprocess.Popen[bytes], rng: np.random.Generator) -> bool:
    """Kills the driver or one of its workers; says whether something was alive to be killed."""
    if driver.poll() is not None:
        return False
    try:
        processes = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
        chosen = processes[int(rng.integers(len(processes)))]
        chosen.kill()
    except psutil.NoSuchProcess:
        return False
    if chosen.pid == driver.pid:
        driver.wait()
    return True


def opens(store: Path) -> bool:
    """Whether readers take the store for finished; a driver may be killed after that, as it shuts down."""
    try:
        WindowStore.open(str(store))
    except StoreError:
        return False
    return True


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_survey(tmp_path_factory.mktemp("survey"), REDSHIFTS, size=9)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "run.py"
    path.write_text(SCRIPT)
    return path


@dataclass(frozen=True)
class Run:
    """One that nothing disturbed: how long it took, and the digests of its files."""

    seconds: float
    contents: dict[str, str]


@pytest.fixture(scope="module")
def undisturbed(survey: Path, script: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = tmp_path_factory.mktemp("undisturbed") / "whole"
    began = time.monotonic()
    assert start(script, survey, store).wait() == 0
    return Run(time.monotonic() - began, contents(store))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_at_random_moments_leave_the_same_store(
    survey: Path, script: Path, undisturbed: Run, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    kills, stores, unfinished = 0, 0, 0
    while kills < NUM_KILLS:
        store = tmp_path / f"cut-{stores}"
        stores += 1
        finished = False
        while not finished:
            driver = start(script, survey, store)
            while kills < NUM_KILLS and driver.poll() is None:
                time.sleep(rng.uniform(0.3, undisturbed.seconds))
                kills += kill_one(driver, rng)
            finished = driver.wait(timeout=120) == 0
            unfinished += not finished
            if not finished and store.exists():
                assert not opens(store) or contents(store) == undisturbed.contents, "what opens is whole"
        assert contents(store) == undisturbed.contents
    assert unfinished >= 5, "the driver was killed often enough for the test to mean something"


@contextmanager
def external_cluster() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler and a worker in processes of their own: the scheduler's address and process."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    where = ("--host", "127.0.0.1", "--port", str(port), "--dashboard-address", "127.0.0.1:0")
    scheduler = spawn("-m", "dask", "scheduler", *where)
    worker = spawn("-m", "dask", "worker", address, "--nthreads", "1", "--death-timeout", "60", "--no-dashboard")
    try:
        yield address, scheduler
    finally:
        for process in (scheduler, worker):
            process.terminate()
            process.wait(timeout=60)


def wait_for_record(store: Path) -> None:
    for _ in range(1000):
        if any(store.glob("records/*.json")):
            return
        time.sleep(0.05)
    raise RuntimeError(f"no record in {store}")


@pytest.mark.slow
def test_a_scheduler_that_is_killed_ends_the_run_and_a_rerun_ends_in_the_same_store(
    survey: Path, script: Path, undisturbed: Run, tmp_path: Path
) -> None:
    with external_cluster() as (address, scheduler):
        command = [sys.executable, str(script), str(survey), str(tmp_path / "cut"), address]
        driver = subprocess.Popen(command, stderr=subprocess.PIPE)
        wait_for_record(tmp_path / "cut")
        scheduler.kill()
        _, errors = driver.communicate(timeout=120)
    assert driver.returncode != 0
    assert f"ClusterError: Dask on {address}" in errors.decode()
    assert not opens(tmp_path / "cut")
    done = set((tmp_path / "cut" / "records").glob("*.json"))
    assert 0 < len(done) < len(REDSHIFTS)
    with external_cluster() as (address, _):
        assert start(script, survey, tmp_path / "cut", address).wait(timeout=200) == 0
    assert contents(tmp_path / "cut") == undisturbed.contents
