"""kill -9 of the driver or of a worker at random moments: a rerun ends in the same bytes as an undisturbed run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import psutil
import pytest

from cubeprep.store import StoreError, WindowStore
from tests import forks
from tests.cubeprep import run_prepare
from tests.cubeprep.test_prepare import contents
from tests.logcube import write_survey
from tests.s3 import free_port

NUM_KILLS = 15
REDSHIFTS = {f"8000-{i}": 0.02 + 0.004 * i for i in range(10)}


def start(root: Path, store: Path) -> ForkServerProcess:
    return forks.start(run_prepare.run, str(root), str(store))


def finish(process: ForkServerProcess) -> bool:
    """Waits for the end, and says whether it went well."""
    process.join(120)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode == 0


def kill_one(driver: ForkServerProcess, rng: np.random.Generator) -> bool:
    """Kills the driver or one of its workers; says whether something was alive to be killed."""
    if not driver.is_alive():
        return False
    try:
        process = psutil.Process(driver.pid)
        # The workers are its siblings: what is older may be one of an earlier driver, about to notice its end.
        processes = [each for each in process.parent().children() if each.create_time() >= process.create_time()]
        if not processes:  # the driver has just ended
            return False
        chosen = processes[int(rng.integers(len(processes)))]
        chosen.kill()
    except psutil.NoSuchProcess:
        return False
    if chosen.pid == driver.pid:
        driver.join()
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


@dataclass(frozen=True)
class Run:
    """One that nothing disturbed: how long it took, and the digests of its files."""

    seconds: float
    contents: dict[str, str]


@pytest.fixture(scope="module")
def undisturbed(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("undisturbed")
    # Before the first one the server that forks them starts; kills would be spread over that time too.
    assert finish(start(survey, folder / "first"))
    store = folder / "whole"
    began = time.monotonic()
    assert finish(start(survey, store))
    return Run(time.monotonic() - began, contents(store))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_at_random_moments_leave_the_same_store(survey: Path, undisturbed: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kills, stores, unfinished = 0, 0, 0
    while kills < NUM_KILLS:
        store = tmp_path / f"cut-{stores}"
        stores += 1
        finished = False
        while not finished:
            driver = start(survey, store)
            while kills < NUM_KILLS and driver.is_alive():
                time.sleep(rng.uniform(0.1, undisturbed.seconds))
                kills += kill_one(driver, rng)
            finished = finish(driver)
            unfinished += not finished
            if not finished and store.exists():
                assert not opens(store) or contents(store) == undisturbed.contents, "what opens is whole"
        assert contents(store) == undisturbed.contents
    assert unfinished >= 3, "the driver was killed often enough for the test to mean something"


@contextmanager
def external_cluster() -> Iterator[tuple[str, ForkServerProcess]]:
    """A scheduler and a worker in processes of their own: the scheduler's address and process."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    where = ("--host", "127.0.0.1", "--port", str(port), "--dashboard-address", "127.0.0.1:0")
    options = ("--no-nanny", "--nthreads", "1", "--death-timeout", "60", "--no-dashboard")
    scheduler = forks.start(run_prepare.dask_command, "scheduler", *where)
    worker = forks.start(run_prepare.dask_command, "worker", address, *options)
    try:
        yield address, scheduler
    finally:
        for process in (scheduler, worker):
            process.terminate()
            process.join(60)
            assert process.exitcode is not None, "it hangs"


def wait_for_record(store: Path) -> None:
    for _ in range(1000):
        if any(store.glob("records/*.json")):
            return
        time.sleep(0.05)
    raise RuntimeError(f"no record in {store}")


@pytest.mark.slow
def test_a_scheduler_that_is_killed_ends_the_run_and_a_rerun_ends_in_the_same_store(
    survey: Path, undisturbed: Run, tmp_path: Path
) -> None:
    arguments = str(survey), str(tmp_path / "cut")
    with external_cluster() as (address, scheduler):
        driver = forks.start(run_prepare.run, *arguments, address, output=tmp_path)
        wait_for_record(tmp_path / "cut")
        scheduler.kill()
        assert not finish(driver)
    assert f"ClusterError: Dask on {address}" in (tmp_path / "stderr").read_text()
    assert not opens(tmp_path / "cut")
    done = set((tmp_path / "cut" / "records").glob("*.json"))
    assert 0 < len(done) < len(REDSHIFTS)
    with external_cluster() as (address, _):
        assert finish(forks.start(run_prepare.run, *arguments, address))
    assert contents(tmp_path / "cut") == undisturbed.contents
