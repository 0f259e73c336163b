"""Locks by which one process at a time writes to a folder."""

import os
import socket
from pathlib import Path

import pytest

from cubeprep.locks import InUseError, only_writer
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.survey import SurveyConfig
from cubeprep.windows import WindowConfig
from tests.holders import holding
from tests.logcube import write_survey


def test_a_second_process_is_told_who_writes_until_that_one_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "windows.zarr"
    with holding(folder) as holder:
        with pytest.raises(InUseError) as caught, only_writer(str(folder)):
            pytest.fail("two processes write")
        who = f"process {holder.pid} on {socket.gethostname()}"
        assert str(caught.value) == f"{folder}: {who} is writing here; wait until it has ended, or stop it"
        with only_writer(str(tmp_path / "new" / "other.zarr")):
            pass
        holder.kill()
        os.kill(holder.child, 0)  # it lives on, as the workers of a driver may when that is killed
        with only_writer(str(folder)):
            holds = (folder.parent / ".windows.zarr.lock").read_text()
            assert holds == f"process {os.getpid()} on {socket.gethostname()}"
    assert not folder.exists()


def test_urls_and_folders_where_nothing_can_be_written_are_not_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in ("s3://bucket/windows.zarr", str(tmp_path / "file" / "windows.zarr")):
        with only_writer(path):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_in_place_of_a_lock_is_not_written_through(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("somebody's")
    (tmp_path / ".w.zarr.lock").symlink_to(other)
    with only_writer(str(tmp_path / "w.zarr")):
        pass
    assert other.read_text() == "somebody's"


def test_prepare_is_refused_while_another_one_writes_the_store(tmp_path: Path) -> None:
    survey = SurveyConfig(root=str(write_survey(tmp_path / "survey", {"1-1": 0.03}, size=4)))
    config = PrepareConfig(windows=WindowConfig(size=8), dask={"num_workers": 0})
    store = tmp_path / "windows.zarr"
    with holding(store), pytest.raises(InUseError, match=r"windows\.zarr: process"):
        prepare(config, survey, str(store), seed=0)
    assert not store.exists()
    assert prepare(config, survey, str(store), seed=0)["galaxies"] == 1
