"""Cost of a whole survey: every stage at 100, 1,000 and 10,000 galaxies, and how it grows.

Small simulated galaxies (8 x 8 spaxels of 2 arcsec, 19 lines, all 4,563 planes) are written, and then `prepare`,
`train` (a small masked network with five cross-fitting models), `score`, `export` and `explore` run, each as the real
command in a process of its own. Processor seconds, peak memory, disk and files of each stage are measured.

With `--full-size` the preset `line` runs on 16 and on 48 simulated LOGCUBEs of MaNGA's sizes instead, and the
difference gives the cost of each further galaxy.

Stages that have been measured are not repeated, and interrupted ones resume, so it can be stopped at any time:

    nice -n 19 python -m benchmarks.survey --galaxies 10000 --work runs/survey

10,000 galaxies take about 5 GB of disk and an hour of two cores.
"""

import argparse
import math
import os
import sys
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.anomaly.pool import ONE_THREAD
from benchmarks.survey_costs import Cost, measure, read_cost
from benchmarks.survey_cubes import SIZE, SPAXEL_ARCSEC
from benchmarks.survey_stage import SMALL_CUBES
from cubeprep.store import WindowStore

STAGES = ("simulate", "prepare", "train", "score", "export", "explore")
FULL_STAGES = ("simulate", "prepare", "train", "score")
FULL_SIZES, FULL_EPOCHS = (16, 48), 4


def sizes_up_to(num_galaxies: int) -> list[int]:
    """100, 1,000 and so on below a number of galaxies, and that number."""
    powers = [10**power for power in range(2, 9)]
    return [size for size in powers if size < num_galaxies] + [num_galaxies]


def configuration(workspace: Path, num_workers: int) -> dict[str, object]:
    """Configuration of a survey: that of `line` where the size of its windows and of its network do not matter."""
    return {
        "workspace": str(workspace),
        "seed": 20261126,
        "prepare": {
            "windows": {"size": SIZE, "sampling": "conserve", "continuum": "sidebands"},
            "augment": {"num_views": 1},
            "dask": {"num_workers": num_workers},
        },
        "model": {
            "kind": "masked", "latent_dim": 32, "context_channels": 8, "lstm_channels": 0, "error_modes": 1,
            "hidden_side": 3,
        },
        "train": {
            "epochs": 2, "batch_size": 16, "loss": "student-t", "lr": 2e-3, "num_workers": 0, "threads": 1,
            "folds": 5, "left_out": 2,
        },
        "score": {"spaxel_arcsec": SPAXEL_ARCSEC, "psf_fwhm_spaxels": 1.25},
    }  # fmt: skip


def run_survey(folder: Path, num_galaxies: int, num_workers: int) -> dict[str, Cost]:
    """Costs of the stages of a survey of small cubes."""
    folder.mkdir(parents=True, exist_ok=True)
    workspace, config = folder / "workspace", folder / "survey.yaml"
    config.write_text(yaml.safe_dump(configuration(workspace, num_workers)))
    cubes = [SMALL_CUBES, str(workspace / "survey"), str(num_galaxies), str(num_workers)]
    commands = {stage: cubes if stage == "simulate" else [stage, str(config)] for stage in STAGES}
    return run_stages(folder, commands)


def run_full_size(folder: Path, num_galaxies: int, num_workers: int) -> dict[str, Cost]:
    """Costs of the stages of `line` on simulated LOGCUBEs of MaNGA's sizes, with a few epochs of one model."""
    workspace = folder / "workspace"
    settings = {
        "workspace": workspace,
        "survey.root": workspace / "survey",
        "simulate.num_galaxies": num_galaxies,
        "simulate.num_workers": num_workers,
        "simulate.maps": [],
        "simulate.critical_fraction": 0,
        "prepare.dask.num_workers": num_workers,
        "train.epochs": FULL_EPOCHS,
        "train.folds": 0,
        "train.num_workers": 0,
        "train.threads": 1,
    }
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return run_stages(folder, {stage: [stage, "line", *changes] for stage in FULL_STAGES})


def run_stages(folder: Path, commands: dict[str, list[str]]) -> dict[str, Cost]:
    """Costs of stages, by name; those that were measured before are only read."""
    costs = folder / "costs"
    costs.mkdir(parents=True, exist_ok=True)
    found = {}
    for stage, arguments in commands.items():
        record = costs / f"{stage}.json"
        if not record.exists():
            print(f"{folder.name}: {stage}", flush=True)
            command = [sys.executable, "-m", "benchmarks.survey_stage", str(record.with_suffix(".peak")), *arguments]
            measure(command, folder / "workspace", record, folder / f"{stage}.log")
        found[stage] = read_cost(record)
    return found


def slope_kb(costs: dict[int, dict[str, Cost]], stage: str) -> float:
    """Growth of the driver's memory between the two largest surveys, kB a galaxy."""
    (fewer, small), (more, large) = list(costs.items())[-2:]
    return (large[stage].driver_mib - small[stage].driver_mib) * 1024 / (more - fewer)


def exponent(costs: dict[int, dict[str, Cost]], stage: str) -> float:
    """Growth of the processor time between the two largest surveys, as a power of the number of galaxies."""
    (fewer, small), (more, large) = list(costs.items())[-2:]
    return math.log(large[stage].seconds / small[stage].seconds) / math.log(more / fewer)


def tables(costs: dict[int, dict[str, Cost]]) -> list[Table]:
    """Costs per galaxy and their growth; peaks of memory and their growth; disk."""
    grows = len(costs) > 1
    time = Table("stage", *(f"{size:,}" for size in costs), "power", title="processor ms a galaxy")
    memory = Table(
        "stage", *(f"{size:,}" for size in costs), "driver kB a galaxy", title="peak MiB: driver, largest, all"
    )
    disk = Table("stage", *(f"{size:,}" for size in costs), title="MB; files")
    for stage in STAGES:
        each = [(size, found[stage]) for size, found in costs.items()]
        per_galaxy = [f"{1000 * cost.seconds / size:.1f}" for size, cost in each]
        time.add_row(stage, *per_galaxy, f"{exponent(costs, stage):.2f}" if grows else "")
        peaks = [f"{cost.driver_mib:.0f} {cost.largest_mib:.0f} {cost.together_mib:.0f}" for _, cost in each]
        memory.add_row(stage, *peaks, f"{slope_kb(costs, stage):.2f}" if grows else "")
        disk.add_row(stage, *(f"{cost.disk_mb:.1f}; {cost.files}" for _, cost in each))
    return [time, memory, disk]


def figures(costs: dict[int, dict[str, Cost]]) -> dict[str, float]:
    """Values by name."""
    found: dict[str, float] = {}
    for size, stages in costs.items():
        for stage, cost in stages.items():
            found[f"{stage}_ms_per_galaxy_{size}"] = 1000 * cost.seconds / size
            found[f"{stage}_driver_mib_{size}"] = cost.driver_mib
            found[f"{stage}_together_mib_{size}"] = cost.together_mib
            found[f"{stage}_disk_mb_{size}"] = cost.disk_mb
            found[f"{stage}_files_{size}"] = cost.files
    if len(costs) > 1:
        found |= {f"{stage}_driver_kb_per_galaxy": slope_kb(costs, stage) for stage in STAGES}
        found |= {f"{stage}_power": exponent(costs, stage) for stage in STAGES}
    return found


def full_size_figures(work: Path, num_workers: int) -> dict[str, float]:
    """Processor seconds that each further galaxy takes at MaNGA's sizes; fixed costs cancel out."""
    folders = {size: work / f"full-{size}" for size in FULL_SIZES}
    few, many = (run_full_size(folder, size, num_workers) for size, folder in folders.items())
    further = FULL_SIZES[1] - FULL_SIZES[0]
    found = {f"full_{stage}_s": (many[stage].seconds - few[stage].seconds) / further for stage in FULL_STAGES}
    found |= {f"full_{stage}_mb": (many[stage].disk_mb - few[stage].disk_mb) / further for stage in FULL_STAGES[:2]}
    fewer, more = (training_rows(folder / "workspace") for folder in folders.values())
    # Of one model, which scores its galaxies once to be calibrated and once for the catalog.
    return found | {
        "full_train_s_per_row": found["full_train_s"] * further / (more - fewer) / FULL_EPOCHS,
        "full_score_s_per_model": found["full_score_s"] / 2,
    }


def training_rows(workspace: Path) -> int:
    """Rows of the training split: galaxies times views."""
    return WindowStore.open(str(workspace / "windows.zarr")).num_rows("train")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=10000, help="largest survey; 100, 1,000 ... are run too")
    parser.add_argument("--work", type=Path, default=Path("runs/survey"), help="folder for cubes, stores and costs")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of simulate and prepare")
    parser.add_argument("--full-size", action="store_true", help="`line` on a few cubes of MaNGA's sizes instead")
    options = parser.parse_args()
    os.environ |= ONE_THREAD
    work = options.work.resolve()
    if options.full_size:
        found = full_size_figures(work, options.workers)
    else:
        sizes = sizes_up_to(options.galaxies)
        costs = {size: run_survey(work / str(size), size, options.workers) for size in sizes}
        for table in tables(costs):
            Console().print(table)
        found = figures(costs)
    for key, value in found.items():
        print(f"{key}={value:.4g}")


if __name__ == "__main__":
    main()
