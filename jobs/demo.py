"""The main job from end to end on a simulated survey: six jobs, one after the other, on this machine."""

import shlex
import time

from jobs.cli import EXIT_OK, EXIT_SET_ASIDE, run_job
from jobs.config import ProjectConfig
from jobs.progress import console

STEPS = ("simulate", "prepare", "tune", "train", "score", "explore")


def run(config: ProjectConfig) -> int:
    """Runs all jobs and says where their results are; stops at the first that fails."""
    began = time.monotonic()
    for number, name in enumerate(STEPS, start=1):
        step_began = time.monotonic()
        console.print(f"[bold]{number}/{len(STEPS)} {name}[/bold]")
        code = run_job(name, config)
        if code not in (EXIT_OK, EXIT_SET_ASIDE):
            return code
        console.print(f"[dim]{name} took {time.monotonic() - step_began:.0f} s[/dim]")
    console.print(f"\nDone in {time.monotonic() - began:.0f} s. The results:")
    console.print(f"  catalog  {config.catalog_path}")
    console.print(f"  page     {config.page_path}  (open it in a browser)")
    console.print(f"  MLflow   mlflow ui --host 127.0.0.1 --backend-store-uri {shlex.quote(config.tracking_uri)}")
    return EXIT_OK
