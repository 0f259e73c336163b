import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from astropy import units as u

from cubeprep import store as module
from cubeprep.config import MistakeError
from cubeprep.store import FLUX_UNIT, SplitPlan, StoreError, StorePlan, Windows, WindowStore
from tests.synthetic import synthetic_store, synthetic_windows

SHAPE = (3, 2, 8)


def plan(**changes: object) -> StorePlan:
    split = SplitPlan(["a-1", "a-2", "a-3"], ["1", "2", "3"], [0.01, 0.02, 0.03], num_views=2, galaxies_per_shard=2)
    made = StorePlan(
        ["Hb", "Ha", "NII"],
        [1.0, 2.0, 3.0],
        np.array([-35.0, 35.0]),
        8,
        FLUX_UNIT,
        {"train": split},
        "identity",
        {"windows": {"size": 8}},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_shards_are_written_whole_and_read_back(tmp_path: Path) -> None:
    store = WindowStore.create_or_resume(str(tmp_path / "s.zarr"), plan())
    windows = synthetic_windows(np.random.default_rng(0), 4, SHAPE)
    store.write_shard("train", 0, windows)
    assert store.num_shards("train") == 2
    assert len(list((tmp_path / "s.zarr/train/flux/c").rglob("*"))) == 5, "one shard is one file in its folders"
    with pytest.raises(ValueError, match=r"train/1 has 2 rows, 4 were given"):
        store.write_shard("train", 1, windows)
    valid = store._arrays.open("train", "valid")
    valid[:] = True
    got = store.read_shard("train", 0)
    for name in ("flux", "ivar", "mask"):
        np.testing.assert_array_equal(getattr(got, name), getattr(windows, name))
    assert got.plateifu.tolist() == ["a-1", "a-1", "a-2", "a-2"]
    assert got.view.tolist() == [0, 1, 0, 1]
    with pytest.raises(StoreError, match=r"train/flux/c/1/0/0/0/0: missing\. .* delete records/train-00001\.json"):
        store.read_shard("train", 1)


def test_an_unfinished_store_is_not_read(tmp_path: Path) -> None:
    path = str(tmp_path / "s.zarr")
    WindowStore.create_or_resume(path, plan())
    with pytest.raises(StoreError, match="not finished"):
        WindowStore.open(path)


def test_a_store_of_another_configuration_is_refused_by_what_differs(tmp_path: Path) -> None:
    path = str(tmp_path / "s.zarr")
    WindowStore.create_or_resume(path, plan())
    WindowStore.create_or_resume(path, plan())
    with pytest.raises(StoreError, match=r"windows\.size \(stored 8, now 16\)"):
        WindowStore.create_or_resume(path, plan(identity="other", config={"windows": {"size": 16}}))
    elsewhere = r"of other galaxies or files, .*\. Choose another workspace or another path \(prepare\.store\), or del"
    with pytest.raises(MistakeError, match=elsewhere):
        WindowStore.create_or_resume(path, plan(identity="other"))


def test_creation_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    WindowStore.create_or_resume(str(path), plan())
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["cubescout"]["created"] = False
    (path / "zarr.json").write_text(json.dumps(metadata))
    (path / "train" / "z" / "zarr.json").unlink()
    store = WindowStore.create_or_resume(str(path), plan())
    assert store.coordinate("train", "z").tolist() == [0.01, 0.01, 0.02, 0.02, 0.03, 0.03]


def test_a_path_with_brackets_is_resumed_and_leftovers_of_a_killed_creation_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "run[v2]*" / "w.zarr"
    path.mkdir(parents=True)
    (path / ".zarr.json.12.partial").touch()
    made = WindowStore.create_or_resume(str(path), plan())
    rows = [{"plateifu": "1-1", "code": "", "reason": ""}]
    made.write_record("train", 0, rows)
    assert WindowStore.create_or_resume(str(path), plan()).read_records() == {("train", 0): rows}


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not a window store"):
        WindowStore.create_or_resume(str(tmp_path), plan())
    with pytest.raises(StoreError, match="cubescout prepare"):
        WindowStore.open(str(tmp_path / "nowhere"))
    path = tmp_path / "s.zarr"
    WindowStore.create_or_resume(str(path), plan())
    (path / "zarr.json").write_text(
        (path / "zarr.json").read_text().replace('"format_version": 2', '"format_version": 99')
    )
    with pytest.raises(StoreError, match="format 99"):
        WindowStore.open(str(path))


def test_galaxies_set_aside_are_not_read(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "s.zarr", shape=SHAPE)
    names = {name for _, windows in WindowStore.open(store.path).iter_galaxies() for name in windows.plateifu}
    table = store.galaxies()
    assert names == set(table.loc[table["status"] == "accepted", "plateifu"])
    (rejected,) = table.loc[table["status"] == "rejected", "plateifu"]
    with pytest.raises(KeyError, match=rejected):
        store.read_galaxy(rejected)
    assert "made so" in (tmp_path / "s.zarr" / "rejected.csv").read_text()


def test_a_finished_store_opens_in_xarray_with_names_and_units(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "s.zarr", shape=SHAPE)
    data = xr.open_zarr(store.path, group="train", consolidated=False)
    assert data["flux"].dims == ("row", "line", "sample", "y", "x")
    assert data["flux"].attrs["units"] == FLUX_UNIT
    assert data["mask"].attrs["flag_meanings"].split()[0] == "SURVEY"
    assert {"plateifu", "mangaid", "z", "view", "valid", "rest_wave", "velocity_kms"} <= set(data.coords)
    chosen = data["flux"].isel(row=1).sel(line="NeIII-3869").to_numpy()
    np.testing.assert_array_equal(chosen, store.read_shard("train", 0).flux[1, 1])


def test_files_beside_the_arrays_appear_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = WindowStore.create_or_resume(str(tmp_path / "s.zarr"), plan())
    store.write_file("summary.json", b"{}")

    def full_disk(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        store.write_file("summary.json", b"half")
    assert store.read_file("summary.json") == b"{}"


def test_windows_select_keeps_rows_together() -> None:
    windows = synthetic_windows(np.random.default_rng(0), 4, SHAPE)
    chosen = windows.select(np.array([3, 1]))
    assert isinstance(chosen, Windows)
    assert chosen.plateifu.tolist() == ["1-3", "1-1"]
    np.testing.assert_array_equal(chosen.flux[0], windows.flux[3])


def test_a_store_says_that_it_is_created_only_when_all_of_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, bytes]] = []
    write = module.write_file

    def recording(path: str, content: bytes) -> None:
        written.append((path, content))
        write(path, content)

    monkeypatch.setattr(module, "write_file", recording)
    WindowStore.create_or_resume(str(tmp_path / "s.zarr"), plan())
    said = [
        (i, json.loads(content)["attributes"]["cubescout"]["created"])
        for i, (path, content) in enumerate(written)
        if path == f"{tmp_path}/s.zarr/zarr.json"
    ]
    assert said == [(0, False), (len(written) - 1, True)]
    assert len(written) > 10


@pytest.mark.parametrize("num_writes", [1, 5, 12])
def test_a_store_whose_creation_was_cut_off_anywhere_is_made_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_writes: int
) -> None:
    path, write, count = tmp_path / "s.zarr", module.write_file, []

    def failing(path: str, content: bytes) -> None:
        count.append(path)
        if len(count) > num_writes:
            raise OSError(28, "No space left on device")
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_file", failing)
        with pytest.raises(OSError, match="No space left"):
            WindowStore.create_or_resume(str(path), plan())
    store = WindowStore.create_or_resume(str(path), plan())
    assert store.coordinate("train", "z").tolist() == [0.01, 0.01, 0.02, 0.02, 0.03, 0.03]


def test_units_of_the_store_are_by_spaxel() -> None:
    unit = u.Unit(FLUX_UNIT.replace("spaxel", "pix"))
    assert unit.is_equivalent(u.erg / u.s / u.cm**2 / u.AA / u.pix)
    assert FLUX_UNIT == "1e-17 erg / (s cm2 Angstrom spaxel)"


GALAXIES = pd.DataFrame(
    {"plateifu": ["a-1", "a-2", "a-3"], "mangaid": "1", "z": 0.1, "status": "accepted", "code": "", "reason": ""}
)


@pytest.mark.parametrize("name", ["valid", "galaxies.parquet", "rejected.csv"])
def test_a_store_counts_as_finished_only_when_all_its_tables_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store, write = WindowStore.create_or_resume(str(tmp_path / "s.zarr"), plan()), module.write_file

    def failing(path: str, content: bytes) -> None:
        if name in path:
            raise OSError(28, "No space left on device")
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_file", failing)
        with pytest.raises(OSError, match="No space left"):
            store.finish(GALAXIES, {})
    assert not store.finished
    store.finish(GALAXIES, {})
    assert store.finished


def test_a_store_that_is_reopened_is_unfinished_before_a_record_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, remove = WindowStore.create_or_resume(str(tmp_path / "s.zarr"), plan()), module.remove_file
    store.write_record("train", 0, [])
    store.finish(GALAXIES, {})
    removed: list[str] = []

    def interrupted(path: str) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        remove(path)

    monkeypatch.setattr(module, "remove_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.reopen([("train", 0)])
    assert not store.finished
    assert ("train", 0) in store.read_records()


def flips(content: bytes, start: int = 0, stop: int | None = None, number: int = 24) -> Iterator[bytes]:
    """The content with one bit flipped, at random places between two positions."""
    rng = random.Random(0)
    for _ in range(number):
        damaged = bytearray(content)
        damaged[rng.randrange(start, stop or len(content))] ^= 1 << rng.randrange(8)
        yield bytes(damaged)


@pytest.fixture
def store(tmp_path: Path) -> WindowStore:
    return synthetic_store(tmp_path / "s.zarr", shape=SHAPE)


@pytest.mark.parametrize("name", ["plateifu", "mangaid", "z", "view", "valid", "line", "rest_wave", "velocity_kms"])
def test_a_damaged_or_missing_coordinate_is_refused_by_name(store: WindowStore, name: str) -> None:
    """A bit of a name would make a galaxy another one, and galaxies without `valid` would be none."""
    path = Path(store.path) / "train" / name / "c" / "0"
    content, wanted = path.read_bytes(), store.coordinate("train", name)
    refused = 0
    for damaged in flips(content):
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(WindowStore.open(store.path).coordinate("train", name), wanted)
        except StoreError as error:
            refused += 1
            assert f"train/{name}: damaged" in str(error)  # noqa: PT017 - some flips are harmless
            assert "run `cubescout prepare` again" in str(error)  # noqa: PT017
    assert refused >= 20
    path.unlink()
    with pytest.raises(StoreError, match=rf"train/{name}/c/0: missing\. .*cubescout prepare"):
        WindowStore.open(store.path).coordinate("train", name)
    if name in ("plateifu", "view", "valid"):
        with pytest.raises(StoreError, match=rf"train/{name}/c/0: missing"):
            WindowStore.open(store.path).read_shard("train", 0)


def test_a_flipped_bit_in_the_table_of_galaxies_is_refused_or_harmless(tmp_path: Path) -> None:
    store = WindowStore.create_or_resume(str(tmp_path / "s.zarr"), plan())
    store.finish(GALAXIES, {})
    path, refused = Path(store.path) / "galaxies.parquet", 0
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for damaged in flips(content, 4, footer):
        path.write_bytes(damaged)
        try:
            pd.testing.assert_frame_equal(store.galaxies(), GALAXIES)
        except StoreError as error:
            refused += 1
            assert re.search(r"galaxies\.parquet: damaged .*delete summary\.json", str(error))  # noqa: PT017
    assert refused >= 12
