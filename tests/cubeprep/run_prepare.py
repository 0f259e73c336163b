"""`prepare` of the small survey that crashes are tested on, and Dask's commands, for forks of `tests.forks`."""

import sys
from multiprocessing import forkserver

import dask
from dask.cli import run_cli

from cubeprep.cluster import DaskConfig
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.survey import SurveyConfig
from cubeprep.windows import WindowConfig


def run(root: str, store: str, *scheduler: str) -> None:
    """Writes a store of one galaxy a shard, on two workers of its own or on a scheduler.

    Its workers come from the same server of forks as it does, so that kills hit their work rather than their imports.
    """
    # It knows the server's address, but would start another one (Python 3.11).
    forkserver._forkserver.ensure_running = lambda: None
    dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    workers = DaskConfig(scheduler=scheduler[0]) if scheduler else DaskConfig(num_workers=2)
    config = PrepareConfig(windows=WindowConfig(size=8), galaxies_per_shard=1, dask=workers)
    prepare(config, SurveyConfig(root=root), store, seed=3)


def dask_command(*words: str) -> None:
    """Runs the command `dask` with these words behind it."""
    sys.argv = ["dask", *words]
    run_cli()
