"""The Ray of a job: where it keeps its sockets."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modeling import ray_session as module
from modeling.ray_session import RaySessionError, short_folder

SCRIPT = """
from modeling.ray_session import ray_session
with ray_session(num_cpus=1):
    import ray
    print(ray.get(ray.remote(lambda: 42).remote()), ray._private.worker.global_worker.node.get_session_dir_path())
"""


@pytest.fixture
def long_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As batch systems give jobs."""
    folder = tmp_path / "scratch" / "slurm_jobdir" / "1355700" / ("tmp.node0016" + 40 * "x")
    folder.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return folder


def test_a_long_folder_is_replaced_by_a_private_one_for_the_time(long_folder: Path) -> None:
    with short_folder() as found:
        assert stat.S_IMODE(Path(found).stat().st_mode) == 0o700
        assert len(found) < 37
    assert not Path(found).exists()


@pytest.mark.parametrize("given", ["RAY_TMPDIR", "TMPDIR"])
def test_others_cannot_enter_the_folder_where_the_usual_one_is_short(
    given: str, long_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "")
    monkeypatch.setenv(given, "/var/tmp")
    with short_folder() as found:
        assert Path(found).parent == Path("/var/tmp")
        assert stat.S_IMODE(Path(found).stat().st_mode) == 0o700


def test_the_longest_that_will_do_is_as_ray_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.utils import validate_socket_filepath

    monkeypatch.setattr(os, "access", lambda *_: True)
    for length in range(20, 60):
        folder = "/" + "x" * (length - 1)
        if module._holds_sockets(folder):
            validate_socket_filepath(folder + module.RAY_SOCKET)
        else:
            with pytest.raises(OSError, match="AF_UNIX"):
                validate_socket_filepath(folder + module.RAY_SOCKET)


def test_where_there_is_none_it_says_what_to_set(long_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORT_FOLDERS", ("/nowhere",))
    with pytest.raises(RaySessionError, match=r"RAY_TMPDIR to a folder of at most \d+ characters.*train.num_workers=0"):
        short_folder().__enter__()


@pytest.mark.ray
@pytest.mark.slow
def test_ray_runs_where_the_folder_is_too_long(long_folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    answer, session = done.stdout.split()
    assert answer == "42"
    assert not Path(session).parent.exists()
    assert os.environ["TMPDIR"] not in session


def test_a_ray_that_does_not_start_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", late)
    with (
        pytest.raises(RaySessionError, match=r"did not start .* run the command again \(The current node timed out"),
        module.ray_session(),
    ):
        pass


def test_a_process_that_ray_lost_is_an_error_of_its_own_and_what_a_task_raised_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    with pytest.raises(RaySessionError, match=r"run the same command to resume \(ActorDied"), module.ray_session():
        raise ray.exceptions.ActorDiedError
    raised = ray.exceptions.RayTaskError("f", "traceback", ValueError("of the task")).as_instanceof_cause()
    with pytest.raises(ValueError, match="traceback") as caught, module.ray_session():
        raise raised
    assert caught.value is raised
