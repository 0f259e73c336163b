"""The benchmark of whole surveys: what is measured, resumed and reported."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import survey
from benchmarks.survey_costs import Cost, measure, on_disk, read_cost, save_cost
from benchmarks.survey_cubes import BAD, SIZE, SPAXEL_ARCSEC, planned, write_cubes
from cubeprep.config import load_config
from cubeprep.prepare_config import GalaxyConfig
from cubeprep.shard import extract_galaxy
from cubeprep.store import WindowStore
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.windows import WindowConfig
from jobs.config import ProjectConfig
from tests.test_architecture import ROOT

# Needs 200 MiB, burns 0.3 processor seconds in a child, writes a file, and fails unless a second argument is given.
STAGE = f"""
import subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from benchmarks.survey_costs import record_peak
record_peak(Path(sys.argv[1]))
block = b"x" * (200 << 20)
burn = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", burn], check=True)
Path(sys.argv[2], sys.argv[3]).write_bytes(b"x" * 1000_000)
time.sleep(2)
sys.exit(int(sys.argv[4]))
"""


def run_stage(folder: Path, name: str, code: int) -> Cost:
    record = folder / "stage.json"
    workspace = folder / "workspace"
    workspace.mkdir(exist_ok=True)
    command = [sys.executable, "-c", STAGE, str(record.with_suffix(".peak")), str(workspace), name, str(code)]
    return measure(command, workspace, record, folder / "stage.log")


@pytest.mark.slow
def test_a_command_is_measured_with_its_children(tmp_path: Path) -> None:
    found = run_stage(tmp_path, "a", 0)
    assert found.seconds > 0.3
    assert 200 < found.driver_mib <= found.largest_mib <= found.together_mib < 2000
    assert (found.disk_mb, found.files, found.runs) == (1.0, 1, 1)
    assert read_cost(tmp_path / "stage.json") == found


@pytest.mark.slow
def test_an_interrupted_command_costs_what_both_runs_cost(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"exit code 1; see .*stage\.log"):
        run_stage(tmp_path, "a", 1)
    assert not (tmp_path / "stage.json").exists()
    first = read_cost(tmp_path / "stage.partial")
    assert first.seconds > 0.3
    both = run_stage(tmp_path, "b", 0)
    assert both.seconds > first.seconds + 0.3
    assert (both.disk_mb, both.files, both.runs) == (2.0, 2, 2)
    assert not (tmp_path / "stage.partial").exists()


def test_costs_add_and_peaks_do_not() -> None:
    both = Cost(1.0, 10, 20, 30, 4.0, 5, 1).then(Cost(2.0, 11, 19, 31, 1.0, 2, 1))
    assert both == Cost(3.0, 11, 20, 31, 5.0, 7, 2)


def test_the_size_of_a_folder_can_be_taken_away(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 500)
    assert on_disk(tmp_path) == Cost(disk_mb=0.0005, files=1)
    assert on_disk(tmp_path, -1).then(on_disk(tmp_path)) == Cost()
    assert on_disk(tmp_path / "none") == Cost()


def test_the_documentation_names_its_commands_and_stages() -> None:
    page = (ROOT / "docs" / "ten-thousand.md").read_text()
    assert "python -m benchmarks.survey --galaxies 10000" in page
    assert "python -m benchmarks.survey --full-size" in page
    assert f"| | {' | '.join(survey.STAGES)} |" in page
    assert "ten-thousand" in (ROOT / "docs" / "background.md").read_text().split()


def test_sizes_grow_tenfold_up_to_the_one_asked_for() -> None:
    assert survey.sizes_up_to(10_000) == [100, 1000, 10_000]
    assert survey.sizes_up_to(2500) == [100, 1000, 2500]
    assert survey.sizes_up_to(12) == [12]


def grown(power: float, kb: float) -> dict[int, dict[str, Cost]]:
    """Costs that grow with a power of the number of galaxies, and in memory by kB a galaxy."""
    return {
        size: dict.fromkeys(survey.STAGES, Cost(0.01 * size**power, 100 + kb * size / 1024, 300, 400, size, 2 * size))
        for size in (100, 1000, 10_000)
    }


def test_growth_is_that_between_the_two_largest_surveys() -> None:
    found = survey.figures(grown(1.5, 4.8))
    assert found["score_power"] == pytest.approx(1.5)
    assert found["prepare_driver_kb_per_galaxy"] == pytest.approx(4.8)
    assert found["train_ms_per_galaxy_100"] == pytest.approx(10 * 100**0.5)
    assert found["export_files_1000"] == 2000
    rows = [table.row_count for table in survey.tables(grown(1, 0))]
    assert rows == [len(survey.STAGES)] * 3


def test_one_survey_has_no_growth() -> None:
    costs = {100: grown(1, 0)[100]}
    assert not [name for name in survey.figures(costs) if "power" in name or "kb_per" in name]
    assert survey.tables(costs)


def test_stages_that_were_measured_are_not_repeated(tmp_path: Path) -> None:
    costs = {stage: Cost(seconds=index + 1.0) for index, stage in enumerate(survey.STAGES)}
    (tmp_path / "costs").mkdir()
    for stage, cost in costs.items():
        save_cost(tmp_path / "costs" / f"{stage}.json", cost)
    assert survey.run_survey(tmp_path, 12, 1) == costs
    assert not (tmp_path / "workspace").exists()


@pytest.mark.slow
def test_the_cubes_are_read_as_logcubes(tmp_path: Path) -> None:
    write_cubes(tmp_path, 3, 1)
    config = SurveyConfig(root=str(tmp_path))
    reader = make_reader(config)
    targets = select_targets(config, reader)
    assert sorted(target.plateifu for target in targets) == sorted(item.target.plateifu for item in planned(3))
    windows = GalaxyConfig(windows=WindowConfig(size=SIZE, sampling="conserve", continuum="sidebands"))
    outcome, found, _ = extract_galaxy(reader, targets[0], windows)
    assert outcome.code == ""
    assert outcome.signal_share is not None
    assert outcome.median_snr is not None
    assert np.mean(found.mask == 0) > 0.2  # the hexagon within the square
    sky = json.loads(outcome.wcs)
    assert sky["CD2_2"] * 3600 == pytest.approx(SPAXEL_ARCSEC)
    assert BAD == 1 | 1 << 10
    # Existing cubes are kept.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.fits.gz")}
    write_cubes(tmp_path, 3, 1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.fits.gz")} == before


@pytest.mark.slow
def test_stages_are_run_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(survey, "STAGES", ("simulate", "prepare"))
    monkeypatch.setattr(sys, "argv", ["survey", "--galaxies", "4", "--workers", "1", "--work", str(tmp_path)])
    survey.main()
    values = dict(re.findall(r"^(\w+)=(\S+)$", capsys.readouterr().out, re.M))
    assert all(float(values[f"{stage}_ms_per_galaxy_4"]) > 0 for stage in survey.STAGES)
    assert float(values["simulate_files_4"]) == 6  # cubes, drpall and the mark of a simulation
    store = WindowStore.open(str(tmp_path / "4" / "workspace" / "windows.zarr"))
    assert len(store.galaxies().query("status == 'accepted'")) == 4
    # What the later stages read; they run in `make test-long`.
    config = load_config(ProjectConfig, tmp_path / "4" / "survey.yaml")
    assert config.model.kind == "masked"
    assert config.train.folds == 5


@pytest.mark.long
def test_a_whole_survey_is_run_and_reported(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.survey", "--galaxies", "14", "--workers", "1", "--work", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    values = dict(re.findall(r"^(\w+)=(\S+)$", done.stdout, re.M))
    assert all(float(values[f"{stage}_ms_per_galaxy_14"]) > 0 for stage in survey.STAGES)
    assert float(values["simulate_files_14"]) == 16  # cubes, drpall and the mark of a simulation
    assert (tmp_path / "14" / "workspace" / "explore.html").is_file()
