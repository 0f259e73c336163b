"""Labels: the file only grows, whatever happens, and the last word counts."""

import fcntl
import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from modeling.labels import labels
from modeling.labels.labels import Label, LabelError, append, catalog_version, current, read


def add(path: Path, *pairs: tuple[str, str], author: str = "ann") -> None:
    append(path, [Label(plateifu=plateifu, label=label, author=author) for plateifu, label in pairs])


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "labels.jsonl"
    when = datetime(2026, 11, 25, 3, tzinfo=UTC)
    said = Label(plateifu="8000-1", label="blueberry", author="ann", time_utc=when, catalog="abc", note="δ, \n2 lines")
    assert append(path, [said]) == 1
    (row,) = read(path).to_dict("records")
    assert row == said.model_dump() | {"time_utc": pd.Timestamp(when)}


def test_there_are_no_labels_where_there_is_no_file(tmp_path: Path) -> None:
    history = read(tmp_path / "labels.jsonl")
    assert list(history) == labels.COLUMNS
    assert current(history).empty


def test_the_last_word_counts_and_the_history_stays(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    add(path, ("8000-1", "blueberry"), ("8000-2", "merger"))
    before = path.read_bytes()
    add(path, ("8000-1", "artefact"), ("8000-2", ""), author="bob")
    assert path.read_bytes().startswith(before)
    assert current(read(path)).to_dict() == {"8000-1": "artefact"}
    assert list(read(path)["author"]) == ["ann", "ann", "bob", "bob"]


@pytest.mark.parametrize("length", [1, 100_000])
def test_what_a_crash_left_is_not_read_and_not_kept(tmp_path: Path, length: int) -> None:
    path = tmp_path / "labels.jsonl"
    add(path, ("8000-1", "blueberry"))
    whole = path.read_bytes()
    path.write_bytes(whole + b"{" * length)
    assert list(read(path)["plateifu"]) == ["8000-1"]
    add(path, ("8000-2", "merger"))
    assert path.read_bytes().startswith(whole)
    assert list(read(path)["plateifu"]) == ["8000-1", "8000-2"]


def test_a_line_that_is_no_label_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    add(path, ("8000-1", "blueberry"))
    with path.open("a") as file:
        file.write('{"plateifu": "8000-2", "label": "x", "autor": "bob"}\n')
    with pytest.raises(LabelError, match=r"labels\.jsonl, line 2: .*autor"):
        read(path)


@pytest.mark.parametrize("wrong", [{"plateifu": " "}, {"author": ""}, {"time_utc": datetime(2026, 1, 1)}])  # noqa: DTZ001
def test_a_label_needs_a_galaxy_an_author_and_a_time_zone(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Label.model_validate({"plateifu": "8000-1", "label": "x"} | wrong)


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.jsonl"
    add(path, ("8000-1", "blueberry"))
    whole = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(labels.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        add(path, ("8000-2", "merger"))
    assert path.read_bytes() == whole


def test_others_wait_until_a_label_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, fsync, refused = tmp_path / "labels.jsonl", os.fsync, []

    def from_elsewhere(descriptor: int) -> None:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                refused.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(labels.os, "fsync", from_elsewhere)
    add(path, ("8000-1", "blueberry"))
    assert len(refused) == 1


def _many(path: Path, author: str) -> None:
    for i in range(50):
        add(path, (f"8000-{i}", "x" * 50), author=author)


@pytest.mark.slow
def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_many, args=(path, name)) for name in ("ann", "bob")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert read(path).groupby("author").size().to_dict() == {"ann": 50, "bob": 50}


def test_a_catalogs_version_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    assert catalog_version(path) == ""
    path.write_bytes(b"one")
    first = catalog_version(path)
    path.write_bytes(b"two")
    assert len(first) == 12
    assert catalog_version(path) != first


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\r\n"])
def test_a_note_may_hold_what_some_take_for_the_end_of_a_line(tmp_path: Path, end: str) -> None:
    path = tmp_path / "labels.jsonl"
    append(path, [Label(plateifu="8000-1", label="blueberry", author="ann", note=f"one{end}two")])
    add(path, ("8000-2", "merger"))
    assert read(path)["note"].tolist() == [f"one{end}two", ""]


def test_a_line_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    add(path, ("8000-1", "blueberry"))
    path.write_bytes(path.read_bytes() + b"\xff\n")
    with pytest.raises(LabelError, match="line 2"):
        read(path)
