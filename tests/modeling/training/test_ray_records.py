"""Records of Ray that a kill has left half written, or of which it has left only some."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from modeling.training.ray_records import can_resume_search, remove_half_written

TIME = "2026-11-26_13-44-02"
RECORDS = ("tuner.pkl", f"experiment_state-{TIME}.json", f"search_gen_state-{TIME}.json", f"searcher-state-{TIME}.pkl")
STATE = {"trials": ["ü", 1.5], "random": np.random.default_rng(0)}


@pytest.fixture
def search(tmp_path: Path) -> Path:
    folder = tmp_path / "search"
    folder.mkdir()
    for name in RECORDS:
        as_json = json.dumps(STATE["trials"], ensure_ascii=False).encode()
        (folder / name).write_bytes(as_json if name.startswith("experiment") else pickle.dumps(STATE))
    return folder


@pytest.mark.parametrize("record", RECORDS)
def test_each_record_that_ends_anywhere_too_early_is_removed_and_only_that(search: Path, record: str) -> None:
    whole = (search / record).read_bytes()
    remove_half_written(str(search.parent), search.name)
    assert {path.name for path in search.iterdir()} == set(RECORDS)
    for length in range(len(whole)):
        (search / record).write_bytes(whole[:length])
        remove_half_written(str(search.parent), search.name)
        assert {path.name for path in search.iterdir()} == set(RECORDS) - {record}, length


@pytest.mark.parametrize("missing", [None, *RECORDS])
def test_a_search_resumes_from_all_its_records(search: Path, missing: str | None) -> None:
    if missing:
        (search / missing).unlink()
    assert can_resume_search(str(search.parent), search.name) == (missing is None)
    assert not can_resume_search(str(search.parent), "another")
