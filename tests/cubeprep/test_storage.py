"""Files and shards that are written are read back; what a service spoils is written again, and then an error."""

from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from cubeprep import storage, tables
from cubeprep.prepare import prepare
from cubeprep.shard import open_store
from cubeprep.storage import StorageError, write_file
from cubeprep.store import StoreError, WindowStore
from cubeprep.survey import SurveyConfig
from tests.cubeprep.test_prepare import CONFIG, contents
from tests.cubeprep.test_store import plan
from tests.logcube import write_survey
from tests.synthetic import synthetic_windows


class Spoiler:
    """Writes objects wrong whose name holds `what`: the first `times` times each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, what: str, times: int, *, truncate: bool) -> None:
        self.what, self.times, self.truncate = what, times, truncate
        self.spoilt: dict[str, int] = {}
        self._write = storage._write
        monkeypatch.setattr(storage, "_write", self)

    def __call__(self, path: str, content: bytes) -> None:
        count = self.spoilt.get(path, 0)
        if self.what in path and count < self.times:
            self.spoilt[path] = count + 1
            content = content[: len(content) // 2] if self.truncate else content[:-1] + bytes([content[-1] ^ 1])
        self._write(path, content)


@pytest.mark.parametrize("truncate", [True, False])
def test_what_was_spoilt_once_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truncate: bool) -> None:
    spoiler = Spoiler(monkeypatch, "file", 1, truncate=truncate)
    write_file(str(tmp_path / "file"), b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    assert spoiler.spoilt == {str(tmp_path / "file"): 1}


@pytest.mark.parametrize("truncate", [True, False])
def test_a_storage_that_goes_on_spoiling_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truncate: bool
) -> None:
    Spoiler(monkeypatch, "file", 99, truncate=truncate)
    with pytest.raises(
        StorageError, match=rf"{tmp_path}/file: written 2 times, the content read back differed each time"
    ):
        write_file(str(tmp_path / "file"), b"0123456789")
    assert not (tmp_path / "file").exists(), "nothing is left that looks valid"


@pytest.mark.parametrize("name", ["ivar/c", "records/", "summary.json"])
def test_a_shard_or_record_that_cannot_be_written_is_not_taken_for_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    survey = SurveyConfig(root=str(write_survey(tmp_path / "survey", {"8000-1": 0.02, "8000-2": 0.03}, size=9)))
    prepare(CONFIG, survey, str(tmp_path / "whole"), seed=3)
    with monkeypatch.context() as spoilt:
        Spoiler(spoilt, name, 99, truncate=True)
        with pytest.raises(StorageError, match="read back differed"):
            prepare(CONFIG, survey, str(tmp_path / "cut"), seed=3)
    if name != "summary.json":
        with pytest.raises(StoreError, match="not finished"):
            WindowStore.open(str(tmp_path / "cut"))
    prepare(CONFIG, survey, str(tmp_path / "cut"), seed=3)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_shard_is_written_over_whatever_is_in_its_place(tmp_path: Path) -> None:
    store = WindowStore.create_or_resume(str(tmp_path / "s.zarr"), plan())
    windows = synthetic_windows(np.random.default_rng(0), 4, (3, 2, 8))
    store.write_shard("train", 0, windows)
    shard = next(path for path in (tmp_path / "s.zarr/train/flux/c/0").rglob("*") if path.is_file())
    good = shard.read_bytes()
    shard.write_bytes(good[: len(good) // 2])
    store.write_shard("train", 0, windows)
    assert shard.read_bytes() == good


def test_a_store_that_was_replaced_is_not_written_to(tmp_path: Path) -> None:
    path = str(tmp_path / "s.zarr")
    WindowStore.create_or_resume(path, plan())
    assert open_store(path, "identity") is open_store(path, "identity")
    with pytest.raises(StoreError, match="replaced by another store"):
        open_store(path, "another")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "drpall.csv"
    path.write_text("plateifu,z\n1-1,0.03\n")
    monkeypatch.setattr(LocalFileSystem, "cat_file", None)
    with pytest.raises(OSError, match="it has 20 bytes, expected 10 at most"):
        storage.read_file(str(path), 10)
    with monkeypatch.context() as patch:
        patch.setattr(tables, "LARGEST_WHOLE", 10)
        with pytest.raises(
            tables.TableError, match=r"drpall\.csv: not a table that can be read as .csv: it has 20 bytes"
        ):
            tables.read_table(path)
