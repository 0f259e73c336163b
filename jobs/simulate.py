"""Writes a simulated survey as MaNGA data products.

Writes to WORKSPACE/survey, or to survey.root if set: drpall.fits; one gzipped LOGCUBE per galaxy as
PLATE/stack/manga-PLATE-IFU-LOGCUBE.fits.gz; DAP MAPS as DAPTYPE/PLATE/IFU/manga-PLATE-IFU-MAPS-DAPTYPE.fits.gz; and
truth.parquet with the class and physical parameters of each galaxy, which no other job reads before the catalog is
made. Existing files are kept, so an interrupted run resumes; a folder with a survey of another configuration or seed is
an error.

Keys: seed, and those of the section simulate, which `cubescout config simulate` describes. Large bundles make large
files: about 16 MB for 19 fibres, 77 MB for 127. The same configuration and seed give the same bytes.
docs/simulation.md describes the files and compares them with real ones.
"""

from pathlib import Path

from cubeprep.simulate.survey import simulate_survey
from cubeprep.words import counted
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
    console.print(f"{counted(config.simulate.num_galaxies, 'simulated galaxy')} in {config.survey_root}")
    return EXIT_OK


if __name__ == "__main__":
    command("simulate")()
