import dataclasses
import gzip
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from cubeprep import shard as module
from cubeprep.augment import augment, view_rng
from cubeprep.cluster import DaskConfig
from cubeprep.cube import Target
from cubeprep.facts import SurveyFacts
from cubeprep.prepare import plan_store, prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.split import SplitConfig, assign_splits
from cubeprep.store import StoreError, WindowStore
from cubeprep.survey import SurveyConfig
from cubeprep.windows import WindowConfig
from tests.logcube import cube_hdus, write_drpall, write_gzipped, write_survey
from tests.s3 import point_at

IN_PROCESS = DaskConfig(num_workers=0)
CONFIG = PrepareConfig(windows=WindowConfig(size=8), galaxies_per_shard=2, dask=IN_PROCESS)
REDSHIFTS = {f"8000-{i}": 0.02 + 0.01 * i for i in range(5)}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> SurveyConfig:
    return SurveyConfig(root=str(write_survey(tmp_path_factory.mktemp("survey"), REDSHIFTS, size=9)))


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_survey_becomes_a_store(survey: SurveyConfig, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    path = str(tmp_path / "s.zarr")
    summary = prepare(CONFIG, survey, path, seed=3, on_shard=lambda *counts: seen.append(counts))
    store = WindowStore.open(path)
    assert summary == store.summary()
    assert (summary["accepted"], summary["rejected"]) == (5, 0)
    assert summary["splits"] == {"train": 3, "validation": 1, "test": 1}
    assert seen == [(1, 4, 0), (2, 4, 0), (3, 4, 0), (4, 4, 0)]
    assert store.num_rows("train") == 12
    for split in store.splits:
        for shard in range(store.num_shards(split)):
            windows = store.read_shard(split, shard)
            for row in np.flatnonzero(windows.view > 0):
                first = row - windows.view[row]
                rng = view_rng(3, str(windows.plateifu[row]), int(windows.view[row]))
                want = augment(windows.flux[first], windows.ivar[first], windows.mask[first], CONFIG.augment, rng)
                np.testing.assert_array_equal(windows.flux[row], want[0])
                np.testing.assert_array_equal(windows.mask[row], want[2])
    galaxy = store.read_galaxy("8000-2")
    halpha = store.line_names.index("Ha-6564")
    assert 3 <= np.nanargmax(galaxy.flux[0, halpha, :, 4, 4]) <= 6


@pytest.mark.slow
def test_workers_write_the_same_bytes_as_one_process(survey: SurveyConfig, tmp_path: Path) -> None:
    distributed = CONFIG.model_copy(update={"dask": DaskConfig(num_workers=2)})
    for name, config in (("one", CONFIG), ("two", distributed)):
        prepare(config, survey, str(tmp_path / name), seed=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
def test_records_read_one_at_a_time_make_the_same_table(
    survey: SurveyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"galaxies_per_shard": 1})
    tables = []
    for number in (1, 1000):
        monkeypatch.setattr("cubeprep.galaxy_table.RECORDS_AT_ONCE", number)
        prepare(config, survey, str(tmp_path / str(number)), seed=1)
        tables.append(WindowStore.open(str(tmp_path / str(number))).galaxies())
    assert len(list((tmp_path / "1" / "records").iterdir())) > 2
    assert list(tables[0]["plateifu"]) == sorted(tables[0]["plateifu"])
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_in_the_same_store(
    survey: SurveyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(CONFIG, survey, str(tmp_path / "whole"), seed=3)
    path, made = str(tmp_path / "cut"), []
    extract = module.extract_galaxy

    def counting(*args: object) -> object:
        made.append(args)
        if len(made) == 4:
            raise KeyboardInterrupt
        return extract(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "extract_galaxy", counting)
    with pytest.raises(KeyboardInterrupt):
        prepare(CONFIG, survey, path, seed=3)
    with pytest.raises(StoreError, match="not finished"):
        WindowStore.open(path)
    (tmp_path / "cut" / "train" / "flux" / "c.0123.partial").write_bytes(b"of a writer that was killed")
    prepare(CONFIG, survey, path, seed=3)
    assert len(made) == 4 + 2, "the three galaxies of finished shards are not read again"
    assert contents(tmp_path / "whole") == contents(tmp_path / "cut")
    prepare(CONFIG, survey, path, seed=3)
    assert len(made) == 4 + 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flux", "ivar", "mask"])
def test_a_shard_that_is_lost_or_damaged_is_an_error_and_is_made_again_as_it_says(
    survey: SurveyConfig, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "s.zarr"
    prepare(CONFIG, survey, str(path), seed=3)
    whole, shard = contents(path), path / f"train/{name}/c/1/0/0/0/0"
    content = shard.read_bytes()
    names = [str(row) for row in WindowStore.open(str(path)).read_shard("train", 1).plateifu]
    for damage in (content[:40] + bytes([content[40] ^ 16]) + content[41:], None):
        if damage is None:
            shard.unlink()
        else:
            shard.write_bytes(damage)
        store = WindowStore.open(str(path))
        for read, which in ((store.read_shard, ("train", 1)), (store.read_galaxy, (names[0],))):
            with pytest.raises(StoreError, match=f"{name}/c/1/0/0/0/0: (damaged|missing).* delete records/train-00001"):
                read(*which)
        assert len(store.read_shard("train", 0))
        (path / "records/train-00001.json").unlink()
        (path / "summary.json").unlink()
        prepare(CONFIG, survey, str(path), seed=3)
        assert contents(path) == whole


def test_another_configuration_is_refused(survey: SurveyConfig, tmp_path: Path) -> None:
    path = str(tmp_path / "s.zarr")
    prepare(CONFIG, survey, path, seed=3)
    before = contents(tmp_path)
    other = CONFIG.model_copy(update={"windows": WindowConfig(size=8, num_samples=12)})
    with pytest.raises(StoreError, match=r"prepare\.windows\.num_samples \(stored 10, now 12\)"):
        prepare(other, survey, path, seed=3)
    with pytest.raises(StoreError, match=r"seed \(stored 3, now 4\)"):
        prepare(CONFIG, survey, path, seed=4)
    assert contents(tmp_path) == before


TARGET = Target("8000-1", "7-1", 0.03, 180.0, 10.0, ("a/cube.fits",))


def test_the_identity_is_of_galaxies_redshifts_and_files_but_not_of_their_folder() -> None:
    def identity(**changes: object) -> str:
        targets = [dataclasses.replace(TARGET, **changes)]
        return plan_store(targets, CONFIG, SurveyConfig(), SurveyFacts(""), seed=3).identity

    others = [{"plateifu": "8000-2"}, {"mangaid": "7-2"}, {"z": 0.0301}, {"paths": ("a/b.fits",)}, {"maps": "m.fits"}]
    assert len({identity(), *(identity(**changes) for changes in others)}) == 6
    assert identity(paths=("elsewhere/cube.fits",)) == identity()


def test_training_galaxies_alone_have_augmented_views() -> None:
    targets = [dataclasses.replace(TARGET, plateifu=f"8000-{i}", mangaid=f"7-{i}") for i in range(10)]
    plan = plan_store(targets, CONFIG, SurveyConfig(), SurveyFacts(""), seed=3)
    assert {name: split.num_views for name, split in plan.splits.items()} == {"train": 4, "validation": 1, "test": 1}


def set_data(name: str, value: float) -> Callable[[fits.HDUList], None]:
    def change(hdus: fits.HDUList) -> None:
        hdus[name].data[:] = value

    return change


def set_card(key: str, value: object) -> Callable[[fits.HDUList], None]:
    def change(hdus: fits.HDUList) -> None:
        hdus["FLUX"].header[key] = value

    return change


def remove(*names: str) -> Callable[[fits.HDUList], None]:
    def change(hdus: fits.HDUList) -> None:
        for name in names:
            del hdus[name]

    return change


def replace(
    name: str, make: Callable[[np.ndarray], fits.ImageHDU | fits.BinTableHDU]
) -> Callable[[fits.HDUList], None]:
    def change(hdus: fits.HDUList) -> None:
        new = make(hdus[name].data)
        new.name = name
        header = hdus[name].header
        hdus[name] = new
        for key in ("CTYPE3", "CRPIX3", "CRVAL3", "CD3_3", "BUNIT"):
            if key in header:
                hdus[name].header[key] = header[key]

    return change


def as_table(data: np.ndarray) -> fits.BinTableHDU:
    return fits.BinTableHDU(np.zeros(3, dtype=[("a", "f4")]))


# What is wrong with a file: the code that its galaxy gets, its redshift in the table, and how the file is damaged, in
# its HDUs (first list) or in its bytes.
BAD_HDUS: dict[str, tuple[str, float, Callable[[fits.HDUList], None]]] = {
    "no FLUX": ("missing_hdu", 0.03, remove("FLUX")),
    "no IVAR": ("missing_hdu", 0.03, remove("IVAR")),
    "no MASK": ("missing_hdu", 0.03, remove("MASK")),
    "a primary HDU alone": ("missing_hdu", 0.03, remove("FLUX", "IVAR", "MASK", "WAVE")),
    "all masked": ("all_masked", 0.03, set_data("MASK", 1 << 10)),
    "all dead fibres": ("all_masked", 0.03, set_data("MASK", 1 << 2)),
    "all NaN": ("all_nan", 0.03, set_data("FLUX", np.nan)),
    "all infinite": ("all_nan", 0.03, set_data("FLUX", np.inf)),
    "NaN variance": ("all_nan", 0.03, set_data("IVAR", np.nan)),
    "no variance": ("all_masked", 0.03, set_data("IVAR", 0)),
    "negative variance": ("all_masked", 0.03, set_data("IVAR", -1)),
    "IVAR of another shape": ("bad_shape", 0.03, replace("IVAR", lambda data: fits.ImageHDU(data[:, :-1]))),
    "MASK of another shape": ("bad_shape", 0.03, replace("MASK", lambda data: fits.ImageHDU(data[:-1]))),
    "a mask of floats": ("bad_shape", 0.03, replace("MASK", lambda data: fits.ImageHDU(data.astype(np.float32)))),
    "FLUX a table": ("bad_shape", 0.03, replace("FLUX", as_table)),
    "FLUX an image": ("bad_shape", 0.03, replace("FLUX", lambda data: fits.ImageHDU(data[0]))),
    "a short spectrum": ("no_coverage", 0.03, replace("FLUX", lambda data: fits.ImageHDU(data[:300]))),
    "linear wavelengths": ("bad_wave", 0.03, set_card("CTYPE3", "AWAV")),
    "no wavelengths": ("bad_wave", 0.03, set_card("CTYPE3", "")),
    "a step of zero": ("bad_wave", 0.03, set_card("CD3_3", 0.0)),
    "a negative wavelength": ("bad_wave", 0.03, set_card("CRVAL3", -3621.6)),
    "another step": ("bad_wave", 0.03, set_card("CD3_3", 1.7)),
    "counts": ("bad_unit", 0.03, set_card("BUNIT", "counts")),
    "no unit": ("bad_unit", 0.03, set_card("BUNIT", "")),
    "lines out of range": ("no_coverage", 0.6, set_card("OBSERVER", "fine")),
    "no redshift": ("no_redshift", -9999.0, set_card("OBSERVER", "fine")),
    "a redshift of NaN": ("no_redshift", float("nan"), set_card("OBSERVER", "fine")),
    "redshift too high": ("redshift_range", 0.9, set_card("OBSERVER", "fine")),
    "redshift too low": ("redshift_range", -0.5, set_card("OBSERVER", "fine")),
}


def edited(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda content: gzip.compress(gzip.decompress(content).replace(old, new, 1), 1)


BAD_BYTES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "truncated": ("truncated", lambda content: content[: len(content) // 3]),
    "truncated in a header": ("truncated", lambda content: gzip.compress(gzip.decompress(content)[:4000])),
    "damaged": ("unreadable", lambda content: content[:9000] + bytes(200) + content[9200:]),
    "empty": ("missing_hdu", lambda content: b""),
    "a gzip of nothing": ("missing_hdu", lambda content: gzip.compress(b"")),
    "text": ("unreadable", lambda content: b"404 not found\n" * 1000),
    "an open quote": ("bad_card", edited(b"'WAVE-LOG'", b"'WAVE-LOG ")),
    "two sizes": ("bad_card", edited(b"NAXIS3  =                 4563", b"NAXIS3  =           4563 4563 ")),
    "text in gzip": ("unreadable", lambda content: gzip.compress(b"404 not found\n" * 1000)),
}


def gzipped(hdus: fits.HDUList) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        hdus.writeto(file, output_verify="ignore")
    return buffer.getvalue()


def bad_files() -> Iterator[tuple[str, str, float, bytes]]:
    """Each kind of damage: name, code, redshift in the table, bytes."""
    for kind, (code, z, change) in BAD_HDUS.items():
        hdus = cube_hdus(0.03, size=9)
        change(hdus)
        yield kind, code, z, gzipped(hdus)
    whole = gzipped(cube_hdus(0.03, size=9))
    for kind, (code, damage) in BAD_BYTES.items():
        yield kind, code, 0.03, damage(whole)


@pytest.mark.slow
def test_each_bad_galaxy_is_set_aside_with_its_reason_and_no_other(tmp_path: Path) -> None:
    root = write_survey(tmp_path / "survey", REDSHIFTS, size=9)
    (root / "drpall.fits").unlink()
    expected, rows = {}, [(name, f"7-{name}", z) for name, z in REDSHIFTS.items()]
    for i, (kind, code, z, content) in enumerate(bad_files()):
        plateifu = f"9000-{i}"
        (root / f"manga-{plateifu}-LOGCUBE.fits.gz").write_bytes(content)
        rows.append((plateifu, f"7-{plateifu}", z))
        expected[plateifu] = (kind, code)
    assert len(expected) >= 25
    write_drpall(root, rows)
    summary = prepare(CONFIG, SurveyConfig(root=str(root), z_max=0.7), str(tmp_path / "s.zarr"), seed=3)
    table = WindowStore.open(str(tmp_path / "s.zarr")).galaxies().set_index("plateifu")
    found = {plateifu: (kind, table.loc[plateifu, "code"]) for plateifu, (kind, _) in expected.items()}
    assert found == expected
    assert (summary["accepted"], summary["rejected"]) == (len(REDSHIFTS), len(expected))
    assert (table.loc[list(REDSHIFTS), "status"] == "accepted").all()
    for plateifu, (kind, _) in expected.items():
        assert f"manga-{plateifu}-LOGCUBE.fits.gz" in table.loc[plateifu, "reason"], kind
    listed = (tmp_path / "s.zarr" / "rejected.csv").read_text().splitlines()
    assert len(listed) == 1 + len(expected)


def test_a_bad_galaxy_leaves_the_others_as_they_were(survey: SurveyConfig, tmp_path: Path) -> None:
    prepare(CONFIG, survey, str(tmp_path / "good.zarr"), seed=3)
    root = write_survey(tmp_path / "survey", REDSHIFTS, size=9)
    path = root / "8000" / "stack" / "manga-8000-3-LOGCUBE.fits.gz"
    path.write_bytes(path.read_bytes()[:5000])
    prepare(CONFIG, SurveyConfig(root=str(root)), str(tmp_path / "bad.zarr"), seed=3)
    good, bad = (WindowStore.open(str(tmp_path / name)) for name in ("good.zarr", "bad.zarr"))
    for plateifu in set(REDSHIFTS) - {"8000-3"}:
        np.testing.assert_array_equal(good.read_galaxy(plateifu).flux, bad.read_galaxy(plateifu).flux)
    with pytest.raises(KeyError):
        bad.read_galaxy("8000-3")


@pytest.mark.slow
def test_gzip_is_verified_unless_asked_otherwise(survey: SurveyConfig, tmp_path: Path) -> None:
    root = write_survey(tmp_path / "survey", REDSHIFTS, size=9)
    path = root / "8000" / "stack" / "manga-8000-3-LOGCUBE.fits.gz"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of the CRC
    path.write_bytes(content)
    damaged = SurveyConfig(root=str(root))
    assert prepare(CONFIG, damaged, str(tmp_path / "full.zarr"), seed=3)["reasons"] == {"truncated": 1}
    quick = CONFIG.model_copy(update={"verify": "windows"})
    assert prepare(quick, damaged, str(tmp_path / "quick.zarr"), seed=3)["rejected"] == 0
    prepare(CONFIG, survey, str(tmp_path / "good.zarr"), seed=3)
    good, found = (WindowStore.open(str(tmp_path / name)) for name in ("good.zarr", "quick.zarr"))
    assert good.identity == found.identity
    for plateifu in REDSHIFTS:
        np.testing.assert_array_equal(good.read_galaxy(plateifu).flux, found.read_galaxy(plateifu).flux)


@pytest.mark.slow
def test_mended_files_are_read_again_when_asked_for(tmp_path: Path) -> None:
    root = write_survey(tmp_path / "survey", REDSHIFTS, size=9)
    cube = root / "8000" / "stack" / "manga-8000-3-LOGCUBE.fits.gz"
    whole = cube.read_bytes()
    cube.write_bytes(whole[:5000])
    survey, path = SurveyConfig(root=str(root)), str(tmp_path / "s.zarr")
    assert prepare(CONFIG, survey, path, seed=3)["rejected"] == 1
    cube.write_bytes(whole)
    assert prepare(CONFIG, survey, path, seed=3)["rejected"] == 1
    retry = CONFIG.model_copy(update={"retry_rejected": True})
    assert prepare(retry, survey, path, seed=3)["rejected"] == 0
    prepare(CONFIG, survey, str(tmp_path / "whole.zarr"), seed=3)
    assert contents(tmp_path / "s.zarr") == contents(tmp_path / "whole.zarr")


def test_a_galaxy_of_which_too_little_is_covered_is_set_aside(tmp_path: Path) -> None:
    root = write_survey(tmp_path / "survey", {"8000-1": 0.03, "8000-2": 0.03}, size=9)
    hdus = cube_hdus(0.03, size=9)
    hdus["MASK"].data[:, :, :5] |= 1 << 10
    write_gzipped(hdus, root / "8000" / "stack" / "manga-8000-2-LOGCUBE.fits.gz")
    config = CONFIG.model_copy(update={"min_covered": 0.6})
    assert prepare(config, SurveyConfig(root=str(root)), str(tmp_path / "s.zarr"), seed=3)["accepted"] == 1
    table = WindowStore.open(str(tmp_path / "s.zarr")).galaxies().set_index("plateifu")
    assert table["code"].to_dict() == {"8000-1": "", "8000-2": "low_coverage"}
    assert "60.0% are asked for" in table.loc["8000-2", "reason"]


def test_repeat_observations_left_out_are_counted(tmp_path: Path) -> None:
    root = write_survey(tmp_path / "survey", {"8000-1": 0.03, "8000-2": 0.03}, size=9)
    (root / "drpall.fits").unlink()
    write_drpall(root, [("8000-1", "7-1", 0.03), ("8000-2", "7-1", 0.03)], columns={"nexp": [3.0, 9.0]})
    survey = SurveyConfig(root=str(root), duplicates="best")
    summary = prepare(CONFIG, survey, str(tmp_path / "s.zarr"), seed=3)
    assert (summary["accepted"], summary["reasons"]) == (1, {"duplicate": 1})
    assert "observed as 8000-2 too" in (tmp_path / "s.zarr" / "rejected.csv").read_text()


def test_a_store_may_be_made_from_the_same_files_elsewhere(survey: SurveyConfig, tmp_path: Path) -> None:
    prepare(CONFIG, survey, str(tmp_path / "s.zarr"), seed=3)
    moved = tmp_path / "moved"
    moved.symlink_to(str(survey.root))
    prepare(CONFIG, SurveyConfig(root=str(moved)), str(tmp_path / "s.zarr"), seed=3)


def test_settings_that_do_not_fit_the_survey_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_samples"):
        prepare(CONFIG, SurveyConfig(reader="manga-maps", root=str(tmp_path)), str(tmp_path / "s"), seed=0)
    with pytest.raises(ValueError, match="sampling"):
        prepare(CONFIG, SurveyConfig(reader="sami", root=str(tmp_path)), str(tmp_path / "s"), seed=0)
    one_sample = CONFIG.model_copy(update={"windows": WindowConfig(num_samples=1)})
    with pytest.raises(ValueError, match="no galaxies"):
        prepare(one_sample, SurveyConfig(reader="manga-maps", root=str(tmp_path)), str(tmp_path / "s"), seed=0)


@given(
    mangaids=st.lists(st.text(max_size=5), min_size=1, max_size=60),
    validation=st.floats(0, 0.5),
    test=st.floats(0, 0.49),
    seed=st.integers(0, 100),
)
def test_repeat_observations_share_a_split(mangaids: list[str], validation: float, test: float, seed: int) -> None:
    config = SplitConfig(validation=validation, test=test)
    splits = assign_splits(mangaids, config, seed)
    assert set(splits) == set(mangaids)
    assert "train" in splits.values()
    assert splits == assign_splits(mangaids[::-1], config, seed)
    count = Counter(splits.values())
    assert abs(count["validation"] - validation * len(splits)) <= 0.5 + 1e-9
    most = len(splits) - count["validation"] - 1  # one is left for training
    assert abs(count["test"] - min(test * len(splits), most)) <= 0.5 + 1e-9


@pytest.fixture
def s3_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a moto server in this process."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    point_at(monkeypatch, server.get_host_and_port()[1])
    s3fs.S3FileSystem().mkdir("cubes")
    yield "cubes"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.s3
def test_cubes_from_s3_make_the_same_store_on_s3(survey: SurveyConfig, tmp_path: Path, s3_bucket: str) -> None:
    import fsspec

    fs = fsspec.filesystem("s3")
    fs.put(str(survey.root), f"{s3_bucket}/survey", recursive=True)
    on_s3 = survey.model_copy(update={"root": f"s3://{s3_bucket}/survey"})
    config = CONFIG.model_copy(update={"dask": DaskConfig(num_workers=1)})
    prepare(config, on_s3, f"s3://{s3_bucket}/windows.zarr", seed=3)
    prepare(CONFIG, survey, str(tmp_path / "local.zarr"), seed=3)
    remote, local = WindowStore.open(f"s3://{s3_bucket}/windows.zarr"), WindowStore.open(str(tmp_path / "local.zarr"))
    assert remote.summary()["accepted"] == 5
    for plateifu in REDSHIFTS:
        np.testing.assert_array_equal(remote.read_galaxy(plateifu).flux, local.read_galaxy(plateifu).flux)
    with pytest.raises(StoreError, match="another configuration"):
        prepare(config, on_s3, f"s3://{s3_bucket}/windows.zarr", seed=4)
    assert prepare(config, on_s3, f"s3://{s3_bucket}/windows.zarr", seed=3) == remote.summary()


def test_the_split_depends_on_the_seed() -> None:
    names = [f"1-{i}" for i in range(60)]
    splits = [assign_splits(names, SplitConfig(), seed) for seed in range(4)]
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            assert sum(first[name] != second[name] for name in names) > 10


def test_a_shard_is_written_before_the_record_that_says_it_is(
    survey: SurveyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str, int]] = []
    for name in ("write_shard", "write_record"):
        write = getattr(WindowStore, name)

        def recording(
            self: WindowStore,
            split: str,
            shard: int,
            rest: object,
            name: str = name,
            write: Callable[..., None] = write,
        ) -> None:
            write(self, split, shard, rest)
            done.append((name, split, shard))

        monkeypatch.setattr(WindowStore, name, recording)
    prepare(CONFIG, survey, str(tmp_path / "s.zarr"), seed=3)
    assert len(done) == 8
    for shard, record in zip(done[::2], done[1::2], strict=True):
        assert (shard[0], record[0]) == ("write_shard", "write_record")
        assert shard[1:] == record[1:]


def test_a_shard_that_cannot_be_written_leaves_no_record(
    survey: SurveyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(WindowStore, "write_shard", full_disk)
    with pytest.raises(OSError, match="No space left"):
        prepare(CONFIG, survey, str(tmp_path / "s.zarr"), seed=3)
    assert not (tmp_path / "s.zarr" / "records").exists()
