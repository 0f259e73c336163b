"""Makes the workspace that the notebook is run on: twelve simulated galaxies, and a network trained for seconds."""

import os
from pathlib import Path
from typing import Any

from jobs.config import ProjectConfig, load_project
from jobs.console.command import EXIT_OK, run_command

JOBS = ("simulate", "prepare", "train", "score")
SETTINGS = {
    "simulate.num_galaxies": 12,
    "simulate.bundle_shares": "{19: 1}",
    "simulate.num_workers": 1,
    "simulate.critical_fraction": 0,
    "prepare.dask.num_workers": 0,
    "prepare.windows.size": 16,
    "prepare.windows.num_samples": 6,
    "prepare.augment.num_views": 1,
    "prepare.split": "{validation: 0.3, test: 0}",
    "train.num_workers": 0,
    "train.threads": 1,
    "train.epochs": 12,
    "model.latent_dim": 4,
    "model.step_channels": 4,
    "model.lstm_channels": 4,
    "model.decoder_channels": 4,
}


def tiny_project(workspace: Path) -> ProjectConfig:
    """The demo, made smaller."""
    return load_project("demo", tuple(f"{key}={value}" for key, value in {**SETTINGS, "workspace": workspace}.items()))


def make(app: Any, _: Any) -> None:
    """Makes the survey beside the site, unless an earlier build did."""
    from modeling.latents import umap_map

    config = tiny_project(Path(app.outdir).parent / "survey")
    umap_map.MIN_UMAP = 1000  # UMAP takes ten seconds to compile; PCA takes its place
    if not config.catalog_path.exists():
        for job in JOBS:
            if (code := run_command(job, config)) != EXIT_OK:
                raise RuntimeError(f"cubescout {job} for the notebook's survey: exit code {code}")
    os.environ["CUBESCOUT_WORKSPACE"] = str(config.workspace)


def setup(app: Any) -> dict[str, Any]:
    """Registers the extension with Sphinx."""
    app.connect("config-inited", make)
    return {"parallel_read_safe": True}
