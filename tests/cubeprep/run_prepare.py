"""`prepare` of the small survey that crashes are tested on, in a process of its own: by fork, or as a command."""

import os
import sys

import distributed  # noqa: F401 - here, so that forks find it imported

from cubeprep.cluster import DaskConfig
from cubeprep.prepare import PrepareConfig, prepare
from cubeprep.survey import SurveyConfig
from cubeprep.windows import WindowConfig


def run(root: str, store: str, *scheduler: str) -> None:
    """Writes a store of one galaxy a shard, on two workers of its own or on a scheduler."""
    dask = DaskConfig(scheduler=scheduler[0]) if scheduler else DaskConfig(num_workers=2)
    config = PrepareConfig(windows=WindowConfig(size=8), galaxies_per_shard=1, dask=dask)
    prepare(config, SurveyConfig(root=root), store, seed=3)


def run_silently(root: str, store: str) -> None:
    """The same without a word of it or of its workers."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    run(root, store)


if __name__ == "__main__":
    run(*sys.argv[1:])
