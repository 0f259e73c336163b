"""The watch over the suite: servers without their marker, processes left behind; and how files are shared out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.side_by_side import share_of
from tests.watch import SESSION, marker_of, started_in


@pytest.mark.parametrize(
    ("command", "marker"),
    [
        (["/venv/bin/ray", "start", "--head"], "ray"),
        (["/site/ray/core/raylet", "--port=0"], "ray"),
        (["/venv/bin/juicefs", "gateway"], "s3"),
        ([sys.executable, "-m", "moto.server"], "s3"),
        (["node", "cli.js", "run-driver"], "browser"),
        ([sys.executable, "-c", "import ray"], None),
        (["git", "-C", "/rays", "rev-parse"], None),
    ],
)
def test_the_marker_of_a_command_is_that_of_its_server(command: list[str], marker: str | None) -> None:
    assert marker_of(command) == marker


def test_a_server_without_its_marker_fails_the_test_before_it_starts() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"test_watch.*needs the marker ray"):
        subprocess.Popen(["/no/such/folder/raylet"])


@pytest.mark.s3
def test_a_server_with_its_marker_may_start() -> None:
    with pytest.raises(FileNotFoundError):
        subprocess.Popen(["/no/such/folder/juicefs"])


@pytest.mark.slow
def test_what_a_run_has_started_is_known_whoever_is_its_parent_now() -> None:
    nap = "[sys.executable, '-c', 'input()'], stdin=0, stdout=subprocess.DEVNULL"
    parent = f"import subprocess, sys; print(subprocess.Popen({nap}).pid)"
    reading, writing = os.pipe()
    environment = os.environ | {SESSION: "of this test"}
    done = subprocess.run(
        [sys.executable, "-c", parent], stdin=reading, stdout=subprocess.PIPE, env=environment, check=True, timeout=60
    )
    try:
        (orphan,) = started_in("of this test")
        assert orphan.pid == int(done.stdout)
        assert orphan not in started_in(os.environ[SESSION])
    finally:
        os.close(writing)
        os.close(reading)
    orphan.wait(timeout=20)
    assert started_in("of this test") == []


def test_files_that_start_ray_share_a_process_and_most_have_their_own(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("pytestmark = [pytest.mark.slow, pytest.mark.ray]")
    (tmp_path / "test_b.py").write_text("@pytest.mark.ray")
    (tmp_path / "test_c.py").write_text("import ray")
    shares = [share_of(f"{tmp_path}/test_{name}.py::test_x[1]") for name in "abc"]
    assert shares == ["ray", "ray", f"{tmp_path}/test_c.py"]
