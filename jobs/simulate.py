"""Writes a simulated survey as true MaNGA files.

In WORKSPACE/survey, or in survey.root if that is set: drpall.fits; one gzipped LOGCUBE per galaxy as
PLATE/stack/manga-PLATE-IFU-LOGCUBE.fits.gz; DAP MAPS as DAPTYPE/PLATE/IFU/manga-PLATE-IFU-MAPS-DAPTYPE.fits.gz; and
truth.parquet with the class and the physics of each, which no other job reads. Files that are already there are kept,
so an interrupted run goes on where it stopped; a folder that holds a survey of another config or seed is refused.

Keys: seed; simulate.num_galaxies, simulate.num_workers (all cores by default), simulate.bundle_shares (large bundles
make large files: about 16 MB for 19 fibres, 77 MB for 127), simulate.class_shares, simulate.redshift_range,
simulate.depth, simulate.unusual_fraction, simulate.repeat_fraction, simulate.critical_fraction (observations that
prepare sets aside), simulate.cubes, simulate.maps (dr15 has 22 lines, dr17 has 35). The same config and seed give the
same bytes. docs/simulation.md says what is in them, and how like the real files they are.
"""

from pathlib import Path

from cubeprep.simulate.survey import simulate_survey
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, command
from jobs.console.progress import console, progress_bar


def run(config: ProjectConfig) -> int:
    """Simulates the survey; returns the exit code.

    Raises:
        ValueError: the survey's root is a URL, or holds another simulation.
    """
    if "://" in config.survey_root:
        raise ValueError(f"survey.root: simulate writes to a local folder, found {config.survey_root}")
    with progress_bar("Simulating", unit="galaxies") as bar:
        root = Path(config.survey_root)
        simulate_survey(config.simulate, config.seed, root, lambda done, total: bar(done, total, ""))
    console.print(f"{config.simulate.num_galaxies} simulated galaxies in {config.survey_root}")
    return EXIT_OK


if __name__ == "__main__":
    command("simulate")()
