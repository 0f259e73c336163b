"""Checkpoints of one process: the last one that is whole, whatever happens to the next."""

import shutil
from pathlib import Path

import pytest

from modeling.training import context as module
from modeling.training.context import LocalContext


def checkpoint(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "training.json").write_text(content)
    return folder


def kept(directory: Path) -> str | None:
    with LocalContext(directory).resume() as found:
        return None if found is None else (found / "training.json").read_text()


def test_the_last_checkpoint_is_resumed(tmp_path: Path) -> None:
    assert kept(tmp_path / "run") is None
    context = LocalContext(tmp_path / "run")
    for epoch in range(3):
        context.report({"epoch": epoch}, checkpoint(tmp_path / str(epoch), f"{epoch}"))
        assert kept(tmp_path / "run") == f"{epoch}"
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = LocalContext(tmp_path / "run")
    context.report({"epoch": 0}, checkpoint(tmp_path / "0", "first"))

    def half(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "training.json").write_text("sec")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.shutil, "copytree", half)
        with pytest.raises(OSError, match="No space left"):
            context.report({"epoch": 1}, checkpoint(tmp_path / "1", "second"))
    assert kept(tmp_path / "run") == "first"
    context.report({"epoch": 1}, tmp_path / "1")
    assert kept(tmp_path / "run") == "second"


def test_a_crash_between_the_renames_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    context, rename = LocalContext(tmp_path / "run"), Path.rename
    context.report({"epoch": 0}, checkpoint(tmp_path / "0", "first"))

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "last.new":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            context.report({"epoch": 1}, checkpoint(tmp_path / "1", "second"))
    assert kept(tmp_path / "run") == "first"
    with monkeypatch.context() as patched:
        patched.setattr(module.shutil, "copytree", full)
        with pytest.raises(OSError, match="No space left"):
            context.report({"epoch": 1}, tmp_path / "1")
    assert kept(tmp_path / "run") == "first"
    context.report({"epoch": 1}, tmp_path / "1")
    assert kept(tmp_path / "run") == "second"
    shutil.rmtree(tmp_path / "run" / "last")
    assert kept(tmp_path / "run") is None
