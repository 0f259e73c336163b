"""Forks begin as a new process would, and end as one."""

import os
import sys
import time
from pathlib import Path

import pytest

from tests import forks
from tests.watch import SESSION, started_in

pytestmark = pytest.mark.slow  # the server of forks takes five seconds to start


def tell(code: int) -> None:
    print(os.environ.get("OF_THIS_TEST"), Path.cwd(), "torch" in sys.modules, flush=True)  # noqa: T201
    os.write(2, b"past sys.stderr\n")
    if code:
        sys.exit(code)
    raise KeyError("lost")


def test_a_fork_has_environment_folder_output_and_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THIS_TEST", "set late")
    monkeypatch.chdir(tmp_path)
    done = forks.run(tell, 7)
    assert (done.returncode, done.stdout, done.stderr) == (7, f"set late {tmp_path} True\n", "past sys.stderr\n")
    done = forks.run(tell, 0)
    assert done.returncode == 1
    assert done.stderr.endswith("KeyError: 'lost'\n")


def test_a_fork_that_is_left_behind_is_seen() -> None:
    process = forks.start(time.sleep, 100)
    try:
        assert process.pid in [each.pid for each in started_in(os.environ[SESSION])]
    finally:
        process.kill()
        process.join()
    assert process.pid not in [each.pid for each in started_in(os.environ[SESSION])]
