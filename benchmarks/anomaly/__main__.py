"""Runs the injection benchmark: `python -m benchmarks.anomaly --tier small`. See docs/benchmark.md."""

import argparse
import os
import platform
import time
from pathlib import Path

from benchmarks.anomaly.all_detectors import load_detectors, use_modules
from benchmarks.anomaly.dataset import ROOT, Data, bytes_digest, prepare_data
from benchmarks.anomaly.evaluate import load_entries
from benchmarks.anomaly.execute import execute
from benchmarks.anomaly.kept import kept_path, read_kept, write_kept
from benchmarks.anomaly.plots import write_plots
from benchmarks.anomaly.report import Report, make_report, write_report
from benchmarks.anomaly.tiers import TIERS, Tier
from modeling.tracking.database import sqlite_uri

EXPERIMENT = "cubescout-benchmark"


def main(arguments: list[str] | None = None) -> Report:
    """Report of a tier, whose results are written to the work folder and to MLflow; resumes an earlier run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", choices=TIERS, default="small")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark"), help="folder for data and results")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes")
    parser.add_argument("--real", type=Path, default=ROOT.parent / "shared" / "data", help="folder with real cubes")
    parser.add_argument(
        "--paper", action="store_true", help="train the paper's networks in a tier that leaves them out"
    )
    parser.add_argument(
        "--detectors", nargs="+", default=[], metavar="MODULE", help="modules outside the benchmark with detectors"
    )
    parser.add_argument("--tracking", help="MLflow tracking URI; default: SQLite in the work folder")
    options = parser.parse_args(arguments)
    use_modules(options.detectors)
    real = options.real if options.real.is_dir() else None
    began, tier = time.perf_counter(), TIERS[options.tier]
    hours = f"{tier.cpu_hours:g} processor hours, {tier.cpu_hours / options.workers:.2g} with {options.workers} workers"
    print(f"Tier {options.tier}: about {hours}; what an earlier run made is used", flush=True)
    data = prepare_data(tier, options.work, options.workers, real)
    print(f"{len(data.rows)} rows of {data.rows['mangaid'].nunique()} galaxies in {time.perf_counter() - began:.0f} s")
    digest, folder = bytes_digest(data.folder), options.work / f"results-{options.tier}"
    shown = read_kept(kept_path(options.tier), data.rows) if tier.paper_asked and not options.paper else []
    names = [name for name, found in load_detectors().items() if options.paper or runs_unasked(found.group, tier)]
    entries = [*load_entries(data, execute(data, names, options.workers)), *shown]
    if tier.paper_asked and options.paper:
        write_kept(kept_path(options.tier, folder), entries, data.rows)
        print(f"{kept_path(options.tier, folder)}: copy it to {kept_path(options.tier).parent} to keep it")
    report = make_report(data, entries)
    report.figures["wall_seconds"] = time.perf_counter() - began
    title = f"Injection benchmark, tier {options.tier}, {len(data.rows)} rows, data sha256 {digest[:16]}"
    paths = [*write_report(report, data, entries, folder, title), *write_plots(report, data, entries, folder)]
    track(options.tracking or sqlite_uri(options.work / "mlflow.db"), options.tier, data, report, paths)
    print(paths[0].read_text())
    print(f"data_sha256={digest}")
    return report


def runs_unasked(group: str, tier: Tier) -> bool:
    """Whether detectors of a group are run without `--paper`."""
    return not (tier.paper_asked and group == "paper")


def track(uri: str, tier: str, data: Data, report: Report, paths: list[Path]) -> None:
    """Records a run in MLflow: configuration, figures, tables and plots."""
    from cubeprep.config import to_yaml
    from modeling.tracking.runs import start_run

    tags = {"job": "benchmark", "tier": tier, "machine": f"{os.cpu_count()} x {platform.machine()}"}
    with start_run(uri, EXPERIMENT, f"anomaly-{tier}", tags) as run:
        run.log_config(to_yaml(data.tier), {"tier": tier, "data": data.folder.name})
        run.log_metrics(report.figures, 0)
        for path in paths:
            run.log_file(path)


if __name__ == "__main__":
    main()
