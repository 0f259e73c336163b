"""kill -9 at random moments of prepare, train, tune and score: the same commands end in the undisturbed catalog.

`CUBESCOUT_KILLS` (50) processes are killed at moments that `CUBESCOUT_SEED` (0) decides, in each step first the kinds
that were killed least often in it, of those that are alive then. `--log-cli-level=INFO` shows each.
"""

import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

import numpy as np
import psutil
import pytest

from cubeprep import storage
from tests.chaos import Command, DaskCluster, Server, Tally, mlflow_server, ray_workers, raylet
from tests.chaos_products import Products, Workspace, assert_whole_or_absent
from tests.logcube import write_survey
from tests.s3 import JuiceFS, point_at

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(4 * 3600)]

KILLS, SEED = int(os.environ.get("CUBESCOUT_KILLS", "50")), int(os.environ.get("CUBESCOUT_SEED", "0"))
STEPS = ("prepare", "train", "tune", "score")
KILLS_PER_STEP = 3  # before a step is left alone, and the next begins
TRIES = 3  # of a step that nothing disturbs, on a machine that is too busy for Ray to start
LOOK_S = 0.5  # a victim that is not there yet is looked for again within so many seconds
DOWN_S = 10  # a killed server is started again within so many seconds
REDSHIFTS = {f"8000-{i}": 0.02 + 0.004 * i for i in range(4)}
# Who is killed where Dask runs on Ray and files and MLflow's database are on this disk, and where all are servers'.
HERE = dict.fromkeys(STEPS, ("driver", "worker", "raylet"))
THERE = dict.fromkeys(STEPS, ("driver", "worker", "raylet", "s3", "mlflow"))
THERE |= {"prepare": ("driver", "worker", "scheduler", "s3", "mlflow")}


def _too_busy(command: Command) -> bool:
    """Whether Ray gave up to start after half a minute, as it does on a machine with too much else to do."""
    return "Ray did not start on this machine" in command.output


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing disturbs: the seconds of each step, and what it leaves."""

    seconds: dict[str, float]
    products: Products


class Chaos:
    """Kills processes of one workspace after another, until as many are killed as wanted.

    Args:
        victims: names of victims by step.
        num_kills: processes to kill.
        find: the processes of a command that a victim's name means; one of them is killed.
        servers: those that are victims themselves, by name.
        undisturbed: what all comes to.
    """

    def __init__(
        self,
        victims: Mapping[str, Sequence[str]],
        num_kills: int,
        *,
        find: Mapping[str, Callable[[Command], list[psutil.Process]]],
        servers: Mapping[str, Server],
        undisturbed: Undisturbed,
    ) -> None:
        self._rng = np.random.default_rng([SEED, len(servers)])
        self._tally = Tally(victims, num_kills, self._rng)
        self._find, self._servers, self._undisturbed = find, servers, undisturbed
        self._seconds = dict(undisturbed.seconds)
        self._started: list[Command] = []

    def wreak(self, make_workspace: Callable[[int], Workspace]) -> None:
        """All kills, in as many workspaces as it takes; each ends like the undisturbed one."""
        for number in itertools.count():
            workspace = make_workspace(number)
            for step in STEPS:
                self._disturb(workspace, step)
            Products.of(workspace).assert_same(self._undisturbed.products)
            logger.info("killed so far: %s", self._tally.killed)
            if not any(self._tally.left.values()):
                return

    def _disturb(self, workspace: Workspace, step: str) -> None:
        """Runs a step, each time that a process of it is killed again, and at last to its end."""
        self._started.clear()
        try:
            for _ in range(min(KILLS_PER_STEP, self._tally.left[step])):
                if not self._run_and_kill(workspace, step):
                    break  # the step is done
            with self._telling(f"{step} after that"):
                for _ in range(TRIES):
                    self._started.append(workspace.start(step))
                    code = self._started[-1].finish()
                    if not _too_busy(self._started[-1]):
                        break
                assert code == 0, f"it ended with {code}"
                for command in self._started:
                    command.assert_nothing_is_left()
        finally:
            for command in self._started:
                command.kill_all()

    def _run_and_kill(self, workspace: Workspace, step: str) -> bool:
        """Runs a step and kills one of its processes; says whether there was one of the kind that was wanted."""
        victim, fraction = self._tally.wanted(step)
        moment = fraction * self._seconds[step]
        with self._telling(f"seed {SEED}: {victim} killed {moment:.1f} s after the start of {step}"):
            command = workspace.start(step)
            self._started.append(command)
            killed = self._kill(command, victim, moment)
            code = command.finish()
            logger.info("%s, %.1f s into %s: killed %s; exit code %d", victim, moment, step, killed or "nothing", code)
            self._tally.count(step, victim, killed=bool(killed))
            if not killed:
                self._seconds[step] = command.seconds
            assert (
                code == (-SIGKILL if killed and victim == "driver" else 0)
                or (killed and code == 1)
                or _too_busy(command)
            )
            assert code != 1 or victim == "raylet" or "cubescout: " in command.output, "it failed without a word"
            assert_whole_or_absent(workspace, self._undisturbed.products)
        return bool(killed)

    def _kill(self, command: Command, victim: str, moment: float) -> str:
        """Kills the victim, later if it is not there yet; returns what it was, nothing if the command ended first."""
        while command.runs_until(moment):
            if victim in self._servers:
                self._servers[victim].kill()
                command.runs_until(command.seconds + self._rng.uniform(0, DOWN_S))
                self._servers[victim].start()
                return victim
            found = sorted(self._find[victim](command), key=lambda process: process.pid)
            with suppress(psutil.NoSuchProcess):
                chosen = found[self._rng.integers(len(found))] if found else None
                if chosen:
                    title = " ".join(chosen.cmdline())[:60]
                    chosen.kill()
                    return title
            moment = command.seconds + self._rng.uniform(0, LOOK_S)
        return ""

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """An error in the block tells what was done, and how the log of the last command ends."""
        try:
            yield
        except BaseException as error:
            error.add_note(what)
            error.add_note(self._started[-1].output[-4000:] if self._started else "")
            raise


@pytest.fixture(scope="module", autouse=True)
def short_folder() -> Iterator[None]:
    """A temporary folder for all that killed processes leave, with a path that is short enough for Ray's sockets."""
    with (
        tempfile.TemporaryDirectory(prefix="cs", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_survey(tmp_path_factory.mktemp("survey"), REDSHIFTS, size=9)


@pytest.fixture(scope="module")
def undisturbed(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    workspace = Workspace(tmp_path_factory.mktemp("chaos") / "undisturbed", str(survey), {})
    seconds = {}
    for step in STEPS:
        command = workspace.start(step)
        code = command.finish()
        assert code == 0, command.output
        seconds[step] = command.seconds
    logger.info("undisturbed: %s", ", ".join(f"{step} {second:.0f} s" for step, second in seconds.items()))
    return Undisturbed(seconds, Products.of(workspace))


def test_with_everything_on_this_machine(survey: Path, undisturbed: Undisturbed, tmp_path: Path) -> None:
    find = {"driver": lambda command: [command.driver], "worker": ray_workers, "raylet": raylet}
    chaos = Chaos(HERE, KILLS * 2 // 5, find=find, servers={}, undisturbed=undisturbed)
    chaos.wreak(lambda number: Workspace(tmp_path / str(number), str(survey), {"prepare.dask": {"scheduler": "ray"}}))


@pytest.fixture
def servers(survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """S3 with the survey, MLflow, and Dask."""
    s3 = JuiceFS(tmp_path)
    point_at(monkeypatch, s3.port)
    all_servers: dict[str, Any] = {"s3": s3, "mlflow": mlflow_server(tmp_path), "scheduler": DaskCluster()}
    try:
        for server in all_servers.values():
            server.start()
        fs, _ = storage.filesystem(f"s3://{s3.bucket}")
        fs.put(str(survey), f"{s3.bucket}/survey", recursive=True)
        yield all_servers
    finally:
        for server in all_servers.values():
            server.close()


def test_with_servers_of_files_runs_and_tasks(
    servers: dict[str, Any], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    s3, mlflow, dask = servers["s3"], servers["mlflow"], servers["scheduler"]

    def make_workspace(number: int) -> Workspace:
        settings = {
            "prepare.dask": {"scheduler": dask.address},
            "prepare.store": f"s3://{s3.bucket}/{number}/windows.zarr",
            "train.storage": f"s3://{s3.bucket}/{number}/training",
            "tracking.uri": f"http://127.0.0.1:{mlflow.port}",
            "tracking.experiment": str(number),
            "tracking.model_name": f"model-{number}",
            "tracking.catalog_name": f"catalog-{number}",
        }
        return Workspace(tmp_path / str(number), f"s3://{s3.bucket}/survey", settings)

    find = {"driver": lambda command: [command.driver], "raylet": raylet}
    find |= {"worker": lambda command: dask.workers() if command.step == "prepare" else ray_workers(command)}
    chaos = Chaos(THERE, KILLS - KILLS * 2 // 5, find=find, servers=servers, undisturbed=undisturbed)
    chaos.wreak(make_workspace)
