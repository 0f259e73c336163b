"""One stage of `benchmarks.survey` in a process of its own, which records its peak memory.

    python -m benchmarks.survey_stage PEAK_FILE COMMAND [ARGUMENTS]

COMMAND is one of `cubescout`, or `small-cubes`, which writes those of `benchmarks.survey_cubes`.
"""

import sys
from pathlib import Path

from benchmarks.survey_costs import record_peak

SMALL_CUBES = "small-cubes"


def main(peak: str, command: str, *arguments: str) -> None:
    """Runs the stage."""
    record_peak(Path(peak))
    if command == SMALL_CUBES:
        from benchmarks.survey_cubes import write_cubes

        root, num_galaxies, num_workers = arguments
        write_cubes(Path(root), int(num_galaxies), int(num_workers))
        return
    from jobs.cli import main as cubescout

    cubescout([command, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
