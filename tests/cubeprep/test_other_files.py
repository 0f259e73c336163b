"""A store of other files: another release under the same names, a survey that was moved, a corrected radius."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cubeprep.cluster import DaskConfig
from cubeprep.prepare import plan_store, prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.store import StoreError, WindowStore
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.windows import WindowConfig
from tests.logcube import write_survey

WINDOWS = WindowConfig(lines=("Ha-6564",), size=8, min_lines=1)
CONFIG = PrepareConfig(windows=WINDOWS, galaxies_per_shard=1, dask=DaskConfig(num_workers=0))
REDSHIFTS = {"8000-0": 0.02, "8000-1": 0.03, "8000-2": 0.04}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[SurveyConfig, SurveyConfig]:
    """Two releases of one survey: the same galaxies and names of files, other contents."""
    root = tmp_path_factory.mktemp("releases")
    write_survey(root / "dr1", REDSHIFTS, size=9)
    write_survey(root / "dr2", REDSHIFTS, size=10)
    return SurveyConfig(root=str(root / "dr1")), SurveyConfig(root=str(root / "dr2"))


def interrupt(path: Path) -> None:
    """Makes a store as if its last shard had not been written."""
    (path / "summary.json").unlink()
    sorted((path / "records").iterdir())[-1].unlink()


@pytest.mark.parametrize("finished", [True, False])
def test_a_store_of_another_release_is_refused(
    releases: tuple[SurveyConfig, SurveyConfig], tmp_path: Path, finished: bool
) -> None:
    first, second = releases
    path = tmp_path / "s.zarr"
    prepare(CONFIG, first, str(path), seed=1)
    if not finished:
        interrupt(path)
    with pytest.raises(StoreError, match=r"8000-\d was read from .*dr1/.*, and .*dr2/.* has other contents: crc32:"):
        prepare(CONFIG, second, str(path), seed=1)
    prepare(CONFIG, first, str(path), seed=1)


def test_a_survey_that_was_moved_goes_on_and_each_row_names_the_file_that_was_read(
    releases: tuple[SurveyConfig, SurveyConfig], tmp_path: Path
) -> None:
    path, moved = tmp_path / "s.zarr", tmp_path / "moved"
    prepare(CONFIG, releases[0], str(path), seed=1)
    interrupt(path)
    shutil.copytree(str(releases[0].root), moved)
    prepare(CONFIG, SurveyConfig(root=str(moved)), str(path), seed=1)
    sources = WindowStore.open(str(path)).galaxies()["source"]
    assert sorted("moved" in source for source in sources) == [False, False, True]


def test_a_finished_store_needs_its_files_no_longer(
    releases: tuple[SurveyConfig, SurveyConfig], tmp_path: Path
) -> None:
    path, moved = str(tmp_path / "s.zarr"), tmp_path / "moved"
    shutil.copytree(str(releases[0].root), moved)
    cubes = sorted(moved.rglob("*LOGCUBE.fits.gz"))
    (tmp_path / "files.txt").write_text("\n".join(map(str, [*cubes, *moved.glob("drpall*")])))
    survey = SurveyConfig(root=str(tmp_path / "files.txt"))
    summary = prepare(CONFIG, survey, path, seed=1)
    for cube in cubes:
        cube.unlink()
    assert prepare(CONFIG, survey, path, seed=1) == summary


def test_a_radius_is_part_of_the_identity_where_windows_are_scaled_by_it(
    releases: tuple[SurveyConfig, SurveyConfig],
) -> None:
    survey = releases[0]
    reader = make_reader(survey)
    targets = [replace(target, re_arcsec=2.0) for target in select_targets(survey, reader)]
    corrected = [replace(targets[0], re_arcsec=3.0), *targets[1:]]
    for space, same in (("crop", True), ("scale-to-re", False)):
        config = CONFIG.model_copy(update={"windows": WINDOWS.model_copy(update={"space": space})})
        plans = [plan_store(some, config, survey, reader.facts, seed=1) for some in (targets, corrected)]
        assert (plans[0].identity == plans[1].identity) == same
