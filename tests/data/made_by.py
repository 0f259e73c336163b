"""Makes `before_rooms/`: what users of version 0.1.0 have on their disks, as small as it gets.

Made by the code of commit 064c8e4, before its modules were moved. Never make it again with later code: it is there to
be read by later code. To make it again, from that commit:

    git worktree add /tmp/then 064c8e4 && PYTHONPATH=/tmp/then python tests/data/made_by.py before_rooms

Numbers are the same each time on one machine; ids of MLflow's runs and dates are not. Paths of the machine are taken
out afterwards: the survey's are said to be /data/manga, those of MLflow's files start with WORKSPACE in mlflow.sql (the
database, dumped) and are relative in MLmodel.
"""

import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from cubeprep.store import WindowStore

TINY = {
    "simulate.num_galaxies": 10,
    "simulate.bundle_shares": "{19: 1}",
    "simulate.num_workers": 1,
    "simulate.critical_fraction": 0.1,
    "prepare.dask.num_workers": 0,
    "prepare.windows.size": 8,
    "prepare.split.validation": 0.3,
    "prepare.galaxies_per_shard": 3,
    "train.num_workers": 0,
    "train.epochs": 2,
    "model.latent_dim": 4,
    "model.step_channels": 2,
    "model.lstm_channels": 2,
    "model.decoder_channels": 2,
}
# As the shipped configurations, but for sizes.
PRESETS = {
    "line": {
        "prepare.windows.num_samples": 6,
        "prepare.augment.num_views": 1,
        "model.spaxel_code": 2,
        "train.folds": 2,
        "train.left_out": 1,
    },
    "paper": {
        "prepare.windows.lines": "[Hb-4862, OIII-5008, Ha-6564]",
        "prepare.windows.num_samples": 4,
        "prepare.augment.num_views": 2,
    },
}
SURVEY = "/data/manga"
KEPT = ("windows.zarr", "catalog.parquet", "catalog.latents.parquet", "catalog.attribution.zarr", "labels.jsonl")
LABELS = ("interesting", "artefact")


def main(target: Path) -> None:
    """Makes both workspaces below `target`."""
    with tempfile.TemporaryDirectory() as scratch:
        survey = Path(scratch) / "survey"
        for preset, settings in PRESETS.items():
            # A relative workspace, so that no path of this machine gets into stores and catalogs.
            settings = {**TINY, **settings, "workspace": preset, "survey.root": survey}
            run_jobs(Path(scratch), preset, [f"--set={key}={value}" for key, value in settings.items()])
            neutralise_store(Path(scratch) / preset / "windows.zarr", survey)
            keep(Path(scratch) / preset, target / preset)
            write_digests(target / preset)


def run_jobs(folder: Path, preset: str, settings: list[str]) -> None:
    """Runs the jobs whose results are kept."""
    jobs = ["prepare", "train", "score"]
    if not (folder / "survey").exists():
        jobs.insert(0, "simulate")
    for job in jobs:
        run_job(folder, job, preset, *settings)
    names = pd.read_parquet(folder / preset / "catalog.parquet")["plateifu"]
    for name, label in zip(names, LABELS, strict=False):
        run_job(folder, "label", preset, f"{name}={label}", "--author=someone", "--note=a ring, März", *settings)
    run_job(folder, "label", preset, f"{names[1]}=", "--author=another", *settings)


def run_job(folder: Path, job: str, *arguments: str) -> None:
    """Runs one job, without kernels of the processor at hand; 3 says that galaxies were set aside."""
    command = [sys.executable, "-m", f"jobs.{job}", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"CUBESCOUT_NATIVE": "0", "OMP_NUM_THREADS": "1"})
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)


def neutralise_store(store: Path, survey: Path) -> None:
    """Puts another folder in place of the survey's."""
    table = pd.read_parquet(store / "galaxies.parquet")
    for name in ("source", "reason"):
        table[name] = table[name].str.replace(str(survey), SURVEY)
    content = io.BytesIO()
    table.to_parquet(content, index=False)
    (store / "galaxies.parquet").write_bytes(content.getvalue())
    for path in [store / "rejected.csv", store / "zarr.json", *(store / "records").iterdir()]:
        path.write_text(path.read_text().replace(str(survey), SURVEY))


def write_digests(workspace: Path) -> None:
    """Writes sha256 of flux, ivar and mask of each galaxy as observed, as `WindowStore` reads them."""
    store = WindowStore.open(str(workspace / "windows.zarr"))
    digests = {}
    for name in store.galaxies().query("status == 'accepted'")["plateifu"]:
        windows = store.read_galaxy(name)
        arrays = windows.flux, windows.ivar, windows.mask
        digests[name] = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
    (workspace / "windows.json").write_text(json.dumps(digests, indent=1) + "\n")


def keep(workspace: Path, target: Path) -> None:
    """Copies what is wanted of a workspace; the database as SQL."""
    target.mkdir(parents=True)
    for name in KEPT:
        copy = shutil.copytree if (workspace / name).is_dir() else shutil.copy2
        copy(workspace / name, target / name)
    (model,) = workspace.glob("mlartifacts/*/*/artifacts/model")
    copied = target / model.relative_to(workspace)
    shutil.copytree(model, copied)
    described = [line for line in (copied / "MLmodel").read_text().splitlines() if "        uri: " not in line]
    described = [line.split(": /")[0] + ": pyfunc.py" if "model_code_path" in line else line for line in described]
    (copied / "MLmodel").write_text("\n".join(described) + "\n")
    database = sqlite3.connect(workspace / "mlflow.db")
    dump = "\n".join(database.iterdump()).replace(str(workspace), "WORKSPACE").replace(str(workspace.parent), "FOLDER")
    (target / "mlflow.sql").write_text(dump + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
