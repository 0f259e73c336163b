"""Files that are written whole or not at all, also by several processes at once."""

import os
from pathlib import Path

import pytest

from cubeprep import files
from cubeprep.files import PARTIAL, remove_partials, replacing


def test_processes_that_write_one_file_at_once_do_not_share_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    with replacing(path) as mine:
        mine.write_text("mine, whole")
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "getpid", lambda: -1)
            with replacing(path) as theirs:
                theirs.write_text("theirs")
        assert path.read_text() == "theirs"
    assert path.read_text() == "mine, whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "x.json"
    other.write_text("somebody's")
    path.with_name(f".x.json.{os.getpid()}{PARTIAL}").symlink_to(other)
    with replacing(path) as partial:
        partial.write_text("ours")
    assert (other.read_text(), path.read_text(), path.is_symlink()) == ("somebody's", "ours", False)


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".file.123.partial").write_text("half")
    (tmp_path / "file").write_text("whole")
    remove_partials(tmp_path)
    assert [item for item in tmp_path.rglob("*") if item.is_file()] == [tmp_path / "file"]
