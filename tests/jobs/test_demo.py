"""The demo's order of steps, and where it stops."""

from pathlib import Path
from typing import Any

import pytest

from jobs import demo
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_FAILED, EXIT_OK, EXIT_SET_ASIDE


@pytest.mark.parametrize(
    ("code", "expected", "last"), [(EXIT_SET_ASIDE, EXIT_OK, "explore"), (EXIT_FAILED, EXIT_FAILED, "prepare")]
)
def test_galaxies_set_aside_stop_nothing_and_a_failure_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: int, last: str
) -> None:
    ran: list[str] = []

    def run_command(name: str, config: Any, retrain: bool = False) -> int:
        ran.append(name)
        assert retrain == (name == "tune"), "the training takes what the search found"
        return code if name == "prepare" else EXIT_OK

    monkeypatch.setattr(demo, "run_command", run_command)
    assert demo.run(ProjectConfig(workspace=tmp_path)) == expected
    assert ran == list(demo.STEPS)[: list(demo.STEPS).index(last) + 1]
