"""The whole pipeline on a simulated survey: six jobs, one after the other, on this machine.

The training uses the best values that the search finds.
"""

import shlex
import sys
import time
from pathlib import Path
from typing import Any

from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, EXIT_SET_ASIDE, command, run_command
from jobs.console.progress import console

# The steps with their options; `tune --retrain` trains as `train` does, with the best values that it has found.
STEPS: dict[str, dict[str, Any]] = {
    "simulate": {},
    "prepare": {},
    "tune": {"retrain": True},
    "score": {},
    "explore": {},
}


def _compare_with_truth(config: ProjectConfig) -> None:
    """Prints the ranks of galaxies simulated as unusual; no earlier job reads this truth."""
    import pandas as pd

    from modeling.catalog import read_catalog

    path = Path(config.survey_root) / "truth.parquet"
    if not path.exists():
        return
    truth = pd.read_parquet(path, columns=["plateifu", "unusual"]).query("unusual != ''")
    ranks = read_catalog(config.catalog_path).table.set_index("plateifu")["rank"]
    found = truth.join(ranks, on="plateifu", how="inner").sort_values("rank")
    shown = ", ".join(f"{row.unusual} {row.rank}" for row in found.itertuples())
    console.print(f"Ranks among {counted(len(ranks), 'galaxy')} of the {len(found)} simulated as unusual: {shown}")


def run(config: ProjectConfig) -> int:
    """Runs all jobs and prints where the results are; stops at the first that fails."""
    began = time.monotonic()
    for number, (name, options) in enumerate(STEPS.items(), start=1):
        step_began = time.monotonic()
        title = "tune and train" if name == "tune" else name
        console.print(f"[bold]{number}/{len(STEPS)} {title}[/bold]")
        code = run_command(name, config, **options)
        if code not in (EXIT_OK, EXIT_SET_ASIDE):
            return code
        console.print(f"[dim]{name} took {time.monotonic() - step_began:.0f} s[/dim]")
    _compare_with_truth(config)
    console.print(f"\nDone in {time.monotonic() - began:.0f} s. The results:")
    console.print(f"  catalog  {config.catalog_path}")
    console.print(f"  page     {config.page_path}  (open it in a browser)")
    mlflow = shlex.join([sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1"])
    console.print(
        f"  MLflow   {mlflow} --backend-store-uri {shlex.quote(config.tracking_uri)}  (http://127.0.0.1:5000)"
    )
    return EXIT_OK


if __name__ == "__main__":
    command("demo")()
