"""kill -9 of the driver or of a worker at random moments: a rerun ends in the same bytes as an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from cubeprep.store import StoreError, WindowStore
from tests.cubeprep.test_prepare import contents
from tests.logcube import write_survey

NUM_KILLS = 25
REDSHIFTS = {f"8000-{i}": 0.02 + 0.004 * i for i in range(10)}
SCRIPT = """
import sys
from cubeprep.cluster import DaskConfig
from cubeprep.prepare import PrepareConfig, prepare
from cubeprep.survey import SurveyConfig
from cubeprep.windows import WindowConfig

if __name__ == "__main__":
    root, store = sys.argv[1:]
    config = PrepareConfig(windows=WindowConfig(size=8), galaxies_per_shard=1, dask=DaskConfig(num_workers=2))
    prepare(config, SurveyConfig(root=root), store, seed=3)
"""


def start(script: Path, root: Path, store: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(script), str(root), str(store)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill_one(driver: subprocess.Popen[bytes], rng: np.random.Generator) -> bool:
    """Kills the driver or one of its workers; says whether something was alive to be killed."""
    try:
        processes = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
        chosen = processes[int(rng.integers(len(processes)))]
        os.kill(chosen.pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    return driver.poll() is None or chosen.pid == driver.pid


def opens(store: Path) -> bool:
    """Whether readers take the store for finished; a driver may be killed after that, as it shuts down."""
    try:
        WindowStore.open(str(store))
    except StoreError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_at_random_moments_leave_the_same_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = write_survey(tmp_path / "survey", REDSHIFTS, size=9)
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    began = time.monotonic()
    assert start(script, root, tmp_path / "whole").wait() == 0
    duration = time.monotonic() - began
    wanted = contents(tmp_path / "whole")
    kills, stores, unfinished = 0, 0, 0
    while kills < NUM_KILLS:
        store = tmp_path / f"cut-{stores}"
        stores += 1
        finished = False
        while not finished:
            driver = start(script, root, store)
            if kills < NUM_KILLS:
                time.sleep(rng.uniform(0.3, duration))
                kills += kill_one(driver, rng)
            finished = driver.wait(timeout=120) == 0
            unfinished += not finished
            if not finished and store.exists():
                assert not opens(store) or contents(store) == wanted, "what opens is whole"
        assert contents(store) == wanted
    assert unfinished >= 5, "the driver was killed often enough for the test to mean something"
