"""Cuts emission-line windows from a survey's cubes into a Zarr store.

Reads the cubes under `survey.root` with the reader `survey.reader` (manga-logcube, manga-maps, sami, muse,
califa-elines) and writes the windows of `prepare.windows` to `prepare.store`, a local path or an s3:// URL (credentials
and endpoint come from the usual `AWS_` environment variables). Training galaxies get `prepare.augment.num_views` rows;
with `prepare.augment.where: loader` they get one, and training makes the same views. Galaxies that cannot be used are
rejected, with reasons in the store's rejected.csv; the exit code is then 3. A rerun resumes an interrupted run; a store
made from another configuration is an error. The store and its configuration are recorded in MLflow as the parent of the
trainings on it.

Keys: seed, and those of the sections survey, prepare and dask_on_ray (with `prepare.dask.scheduler: ray`, which runs
the workers on the Ray cluster of RAY_ADDRESS): `cubescout config prepare` describes them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cubeprep.config import to_yaml
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, EXIT_SET_ASIDE, command
from jobs.console.progress import console, progress_bar

# Reasons for rejection that other files of the galaxy would not change.
SELECTED = {"quality", "redshift_range", "duplicate"}
# Those of galaxies rejected before the store is planned; it cannot accept them later.
LISTED = {"missing_file", "not_in_table", "bad_row", "no_redshift"}


def run(config: ProjectConfig) -> int:
    """Makes the store; returns the exit code."""
    survey = config.survey.model_copy(update={"root": config.survey_root})
    with _on_engine(config) as prepare_config, progress_bar("Cutting windows", unit="shards") as bar:
        summary = prepare(
            prepare_config,
            survey,
            config.store_path,
            seed=config.seed,
            on_shard=lambda done, total, rejected: bar(done, total, f"{rejected} rejected" if rejected else ""),
        )
    _track(config, summary)
    splits = ", ".join(f"{count} {name}" for name, count in summary["splits"].items())
    console.print(
        f"{summary['accepted']} of {counted(summary['galaxies'], 'galaxy')} ({splits}) in {config.store_path}"
    )
    for line in _remarks(config, summary):
        console.print(line, markup=False)
    if not summary["rejected"]:
        return EXIT_OK
    reasons = ", ".join(f"{count} {code}" for code, count in summary["reasons"].items())
    console.print(f"{summary['rejected']} rejected ({reasons}): see {config.store_path}/rejected.csv")
    if lacking := ", ".join(code for code in summary["reasons"] if code in LISTED):
        console.print(f"Once files and table are complete, galaxies rejected as {lacking} need a new workspace.")
    if summary["reasons"].keys() - SELECTED - LISTED:
        console.print("If you replace damaged files, retry them with `--set prepare.retry_rejected=true`.")
    return EXIT_SET_ASIDE


def _remarks(config: ProjectConfig, summary: dict[str, Any]) -> list[str]:
    """Warnings about accepted galaxies, which the counts do not show."""
    table, displaced = f"{config.store_path}/galaxies.parquet", summary.get("redshift_flags")
    remarks = []
    if displaced and not config.prepare.redshift.correct:
        remarks.append(
            f"{displaced} with lines displaced from the survey's redshift: see z_flag and z_offset_kms in {table}; "
            "with `prepare.redshift.correct`, in a new workspace, windows are cut at the measured redshift"
        )
    if summary.get("implausible"):
        remarks.append(f"{summary['implausible']} with implausible values: see `implausible` in {table}")
    if summary.get("remarks"):
        number = counted(summary["remarks"], "galaxy")
        remarks.append(f"{number} with remarks about files or the stellar fit: see `remarks` in {table}")
    if summary.get("correlated_noise"):
        remarks.append(
            f"{counted(summary['correlated_noise'], 'galaxy')} with correlated noise in neighbouring spaxels, so that "
            f"errors of binned spaxels are too small: by the factor `noise_ratio` in {table}"
        )
    if summary["accepted"] and not summary["splits"].get("validation"):
        remarks.append("No galaxy is left for validation, so catalogs of this store will have no p-values")
    return remarks


def _track(config: ProjectConfig, summary: dict[str, Any]) -> None:
    """Records the store in MLflow, once; trainings on it become children of this run."""
    from cubeprep.store import WindowStore
    from modeling.tracking.lineage import log_inputs, prepare_run
    from modeling.tracking.runs import start_run

    where, store = (config.tracking_uri, config.tracking.experiment), WindowStore.open(config.store_path)
    if prepare_run(*where, store.identity):
        return
    with start_run(*where, f"prepare-{store.identity[:12]}", {"job": "prepare"}) as tracked:
        values = config.model_dump(mode="json", include={"seed", "survey", "prepare"})
        log_inputs(tracked, to_yaml(config), values, store, "prepare")
        tracked.log_metrics({name: summary[name] for name in ("galaxies", "accepted", "rejected")}, 0)


@contextmanager
def _on_engine(config: ProjectConfig) -> Iterator[PrepareConfig]:
    """Section `prepare` with a scheduler's address; a scheduler on Ray runs for the duration of the block."""
    if config.prepare.dask.scheduler != "ray":
        yield config.prepare
        return
    from jobs.engines.dask_on_ray import dask_on_ray

    with dask_on_ray(config.dask_on_ray) as address:
        dask = config.prepare.dask.model_copy(update={"scheduler": address})
        yield config.prepare.model_copy(update={"dask": dask})


if __name__ == "__main__":
    command("prepare")()
