"""Speed and memory of the simulation: LOGCUBEs on one core, without compression, and MAPS.

A LOGCUBE of 19 fibres (34 x 34 spaxels) or 127 fibres (74 x 74) is drawn, observed and written in full, to /dev/null
instead of gzip. MAPS are measured and written in the same way. Times are processor times summed over threads, so they
are those of one core, independent of other load.

    python -m benchmarks.simulate [--repeats 7]
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from cubeprep.simulate import dapfile, drp
from cubeprep.simulate.cube import Cube, observe
from cubeprep.simulate.dap import write_maps
from cubeprep.simulate.defects import draw_defects
from cubeprep.simulate.drp import write_logcube
from cubeprep.simulate.galaxy import Galaxy, draw_galaxy
from cubeprep.simulate.maps import GalaxyMaps, galaxy_maps
from cubeprep.simulate.target import Target


@contextmanager
def to_nowhere(_: Path) -> Iterator[object]:
    """/dev/null in place of a gzip file."""
    with open(os.devnull, "wb") as file:  # noqa: PTH123
        yield file


def make(num_fibres: int, seed: int) -> tuple[Target, Galaxy, GalaxyMaps, Cube]:
    """Everything needed for a LOGCUBE, from a random seed."""
    galaxy = draw_galaxy("star_forming", "", num_fibres, (0.015, 0.075), np.random.default_rng(seed))
    defects = draw_defects(num_fibres, critical=False, rng=np.random.default_rng(seed))
    target = Target(8001, f"{num_fibres}01", f"1-{seed}", 2.54, defects)
    maps = galaxy_maps(galaxy, target.psf_fwhm_arcsec, np.random.default_rng(seed))
    return target, galaxy, maps, observe(galaxy, maps, 1.0, 10, np.random.default_rng(seed), defects)


def logcube(num_fibres: int, seed: int) -> None:
    """Makes one LOGCUBE."""
    target, galaxy, _, cube = make(num_fibres, seed)
    write_logcube(Path("unused"), target, galaxy, cube)


def seconds(action: Callable[[int], None], repeats: int) -> float:
    """Median seconds of several runs, after a warm-up."""
    action(0)
    times = []
    for seed in range(1, repeats + 1):
        began = time.process_time()
        action(seed)
        times.append(time.process_time() - began)
    return statistics.median(times)


def main(repeats: int) -> None:
    """Prints the figures."""
    with mock.patch.object(drp, "whole_gzip", to_nowhere), mock.patch.object(dapfile, "whole_gzip", to_nowhere):
        print(f"logcubes_per_second_34={1 / seconds(lambda seed: logcube(19, seed), repeats):.2f}")
        made = make(19, 1)
        print(f"maps_per_second_34={1 / seconds(lambda _: one_maps(made), max(repeats // 2, 1)):.2f}")
        print(f"logcubes_per_second_74={1 / seconds(lambda seed: logcube(127, seed), max(repeats // 2, 1)):.2f}")
    with tempfile.TemporaryDirectory() as folder:
        target, galaxy, _, cube = made
        began = time.process_time()
        write_logcube(Path(folder) / "cube.fits.gz", target, galaxy, cube)
        print(f"seconds_of_writing_with_gzip_34={time.process_time() - began:.2f}")
    print(f"peak_memory_mib={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def one_maps(made: tuple[Target, Galaxy, GalaxyMaps, Cube]) -> None:
    """Makes one MAPS file of 35 lines."""
    target, galaxy, maps, cube = made
    write_maps({"dr17": Path("unused")}, target, galaxy, maps, cube)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    main(parser.parse_args().repeats)
