"""Scores every galaxy and writes the anomaly catalog.

Applies the model `score.model` (default: the champion of the MLflow registry; a model's folder works too) to the
galaxies of the window store as observed. If it was trained with `train.folds`, each galaxy is scored by the models that
were not trained on it. Runs in this process or as `score.num_workers` tasks on Ray; an interrupted run resumes with the
remaining shards.

The catalog, catalog.parquet in the workspace, has one row per galaxy: scores, p- and q-values, the most significant
residuals in words, the reason code of a likely artefact, nearest neighbours in latent space and UMAP positions, with
units, descriptions and provenance. The latents, maps of the residuals, and the catalog as FITS and VOTable are written
beside it. All but the maps are registered in MLflow.

Scores: score_combined, the default ranking, measures how far the galaxy's most unusual line, in the region where it is
most unusual, deviates from the reconstruction, in units of the scatter among ordinary galaxies, half of which are below
0. It is corrected for flux, S/N, size and redshift. score_unexplained is the fraction of the signal that the
reconstruction does not explain; score_mae is the paper's mean absolute error; docs/scoring.md describes these and the
others.

Prints Spearman's correlation of the scores with flux and S/N: near 1 or -1, a score only sorts galaxies by these.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.config import MistakeError, digest
from cubeprep.locks import only_writer
from cubeprep.store import WindowStore
from cubeprep.version import code_version
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, command, following_command
from jobs.console.progress import console
from jobs.models.opening import ScoringModel, open_model
from jobs.models.survey_scores import (
    CALIBRATING,
    Survey,
    labelled_finds,
    score_columns,
    score_survey,
    with_calibration,
    with_survey_facts,
    work_folder,
)
from jobs.tables.survey_links import page_urls_of_store, survey_name, with_links
from jobs.tables.write import write_exports
from modeling.catalog import (
    CatalogError,
    build_table,
    describe_columns,
    latents_path,
    read_catalog,
    write_catalog,
    write_latents,
)
from modeling.latents.neighbours import nearest_neighbours, standardise
from modeling.latents.umap_map import embed
from modeling.network.pretrained import PRETRAINED, read_card
from modeling.scoring.artefacts import CODES
from modeling.scoring.attribution import attribution_path, write_attribution
from modeling.scoring.ensemble import combine
from modeling.scoring.hypotheses.naming import INSTRUMENTAL
from modeling.scoring.residual_sums import Scores, nuisance_correlations, scores_from_sums
from modeling.scoring.survey_scorer import clear

NUM_PRINTED = 5
MIN_CORRELATED = 10  # galaxies; a rank correlation of fewer is meaningless


def run(config: ProjectConfig, force: bool = False) -> int:
    """Writes and registers the catalog; returns the exit code.

    Raises:
        InUseError: another process scores in this workspace.
        MistakeError: the model was trained on windows made with other settings, and `force` is not set.
    """
    # Of two runs at once, one would remove shards and maps that the other still needs.
    with only_writer(str(config.workspace / "scoring")):
        return _score(config, force)


def _score(config: ProjectConfig, force: bool) -> int:
    """Writes and registers the catalog, as the only process; returns the exit code."""
    from modeling.tracking.catalog_registry import register_catalog
    from modeling.tracking.runs import flatten

    store = WindowStore.open(config.store_path)
    config = with_survey_facts(config, store)
    model = with_calibration(config, store, open_model(config, store))
    if not force:
        check_windows(model, store)
    labelled_finds(config, store.galaxies())  # a damaged file of labels is told before the galaxies are scored
    survey = score_survey(config, store, model)
    table, provenance = assemble(config, store, model, survey)
    provenance["model"]["differing_windows"] = model.differing_windows(store)
    kept = keep_earlier(config.catalog_path, provenance)
    if kept:
        console.print(f"The earlier catalog was of another store or model: moved to {kept}")
    path, latents = config.catalog_path, latents_path(config.catalog_path)
    velocity_kms = store.coordinate(store.splits[0], "velocity_kms")
    maps = attribution_path(path)
    created_utc = provenance["created_utc"]
    write_attribution(maps, survey.shards, store.line_names, velocity_kms, store.identity, created_utc)
    write_latents(latents, survey.galaxies["plateifu"].tolist(), survey.means.scores.latent, provenance)
    del survey  # several kB a galaxy; the table suffices from here on
    columns = describe_columns(store.line_names, flux_unit(store), config.score.rank_by)
    urls = page_urls_of_store(store.attrs, config, table)
    table, columns = with_links(table.assign(url=urls), columns, survey_name(config))
    write_catalog(path, table, columns, provenance)
    exports = write_exports(path, survey_name(config))
    registered = register_catalog(
        config.tracking_uri,
        config.tracking.experiment,
        path,
        catalog_name=config.tracking.catalog_name,
        extra_artifacts=[latents, *exports],
        provenance=flatten(provenance | {"judges": {}, "by_redshift": {}}),
        store=store,
        model=model.reference,
    )
    clear(work_folder(config, store, model))
    _print_summary(config, table, provenance, registered.version)
    return EXIT_OK


def check_windows(model: ScoringModel, store: WindowStore) -> None:
    """Checks that a store's windows were made like those that the model was trained on.

    Raises:
        MistakeError: they were not; the message names the settings that differ.
    """
    differing = model.differing_windows(store)
    if differing:
        raise MistakeError(
            f"{model.reference} was trained on other windows than those of {store.path}, where {'; '.join(differing)}. "
            "Its scores would be meaningless: train a model on this store, or use --force."
        )


def assemble(
    config: ProjectConfig, store: WindowStore, model: ScoringModel, survey: Survey
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The catalog's table and its provenance."""
    latent = standardise(survey.means.scores.latent)
    searched = max(config.score.num_neighbours, config.score.umap_neighbours - 1)
    nearest = nearest_neighbours(latent, survey.galaxies["mangaid"].to_numpy(), searched)
    flat, deep = (
        embed(
            latent,
            num_dimensions,
            nearest,
            num_neighbours=config.score.umap_neighbours,
            min_dist=config.score.umap_min_dist,
            seed=config.seed,
        )
        for num_dimensions in (2, 3)
    )
    neighbours = nearest.nearest(config.score.num_neighbours)
    finds = labelled_finds(config, survey.galaxies)
    calibrating = survey.calibrating(finds)
    found = combine(survey.means, neighbours, survey.galaxies["z"].to_numpy(dtype=float), calibrating)
    snr = survey.means.scores.snr
    scores = scores_from_sums(survey.sums, snr, config.score.rank_by, combined=found.combined)
    table = build_table(
        survey.galaxies,
        scores,
        store.line_names,
        maps=(flat, deep),
        neighbours=neighbours,
        survey_scores=score_columns(survey, found, config.score.fdr),
    )
    by_redshift = found.by_redshift and found.by_redshift.to_json()
    provenance = make_provenance(config, store, model, scores) | {
        "num_calibration_galaxies": int((calibrating & np.isfinite(found.combined)).sum()),
        "num_labelled_detections": int(finds.sum()),
        "judges": list(survey.ensemble.scorers),
        "by_redshift": by_redshift,
    }
    return table, provenance


def keep_earlier(path: Path, provenance: Mapping[str, Any]) -> Path | None:
    """Moves the catalog of another store or model, with the files beside it, out of the way of a new one.

    Returns:
        Its folder, `earlier/CREATED` beside the catalog; None if there is no such catalog.
    """
    try:
        earlier = read_catalog(path).provenance
    except CatalogError:
        return None
    if _made_from(earlier) == _made_from(provenance):
        return None
    created = re.sub(r"[^0-9T]", "", earlier.get("created_utc", "").partition("+")[0])
    folder = path.parent / "earlier" / (created or "undated")
    folder.mkdir(parents=True, exist_ok=True)
    # The catalog last: if this is interrupted, a rerun still finds it, and moves the rest.
    for file in sorted(path.parent.glob(f"{path.stem}.*"), key=lambda file: file == path):
        file.rename(folder / file.name)
    return folder


def _made_from(provenance: Mapping[str, Any]) -> tuple[Any, Any]:
    return provenance["store"]["identity"], provenance["model"].get("digest")


def make_provenance(config: ProjectConfig, store: WindowStore, model: ScoringModel, scores: Scores) -> dict[str, Any]:
    """Provenance of a catalog and how its scores depend on flux and S/N; JSON values."""
    return {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "config": config.score.model_dump(mode="json"),
        "config_sha256": digest(config.score),
        "seed": config.seed,
        "store": {"identity": store.identity, "path": store.path, "flux_unit": flux_unit(store)},
        "model": model.provenance,
        "calibration": "model" if model.calibration else "survey",
        "num_galaxies": len(scores.score),
        "rank_by": config.score.rank_by,
        "spearman": nuisance_correlations(scores),
    }


def flux_unit(store: WindowStore) -> str:
    """The unit of the store's flux."""
    return str(store.attrs["flux_unit"])


def _print_summary(config: ProjectConfig, table: pd.DataFrame, provenance: dict[str, Any], version: str) -> None:
    if config.score.model == PRETRAINED:
        console.print(f"Note: the model is {PRETRAINED}. {read_card()['description']}")
    elif provenance["model"]["trained_on"] not in ("", provenance["store"]["identity"]):
        console.print(f"Note: {provenance['model']['reference']} was trained on another store.")
    shown = table.head(NUM_PRINTED)
    title = "The one galaxy" if len(table) == 1 else "The most unusual galaxies"
    first = f", first {len(shown)} of {len(table)} ({config.catalog_path} has all)" if len(shown) < len(table) else ""
    console.print(f"{title}, by score_{config.score.rank_by}{first}:", markup=False)
    for row in shown.to_dict("records"):
        why = " ".join(part for part in (row["reason_1"], row["triage"] and f"[{row['triage']}]") if part)
        given, used = f"{row['z']:.4f}", f"{row.get('z_used', row['z']):.4f}"
        z = given if given == used else f"{used} (the survey's: {given})"
        console.print(f"  {row['rank']:>3}  {row['plateifu']:<14} score {row['score']:.4g}  z {z}  {why}", markup=False)
    for code in dict.fromkeys(filter(None, shown["triage"])):
        console.print(f"  [{code}]: {CODES[code]}", markup=False)
    if provenance["calibration"] == "model":
        console.print("Scores are relative to the galaxies that the model was calibrated on (score.calibration)")
    console.print(f"{counted(len(table), 'galaxy')}, {_flagged(table)}")
    for line in detections(config, table):
        console.print(line, markup=False)
    if len(table) >= MIN_CORRELATED:
        for line in correlations(provenance["spearman"], config.score.rank_by):
            console.print(line)
    console.print(f"Catalog: {config.catalog_path} (MLflow: {config.tracking.catalog_name} version {version})")
    if following := following_command("score", "explore"):
        console.print(f"Next: {following}", markup=False)


def detections(config: ProjectConfig, table: pd.DataFrame) -> Iterator[str]:
    """Yields how many detections there are, what they were calibrated on, and what they lack."""
    finds, validation = labelled_finds(config, table), table["split"].isin(CALIBRATING).to_numpy()
    calibrating = validation & ~finds & table["score_combined"].notna().to_numpy()
    number, found = int(calibrating.sum()), int(table["is_find"].sum())
    if not number:
        why = (
            "all galaxies of the validation split are labelled as unusual"
            if validation.any()
            else "that split is empty"
        )
        yield f"No p-values, and so no detections, without an ordinary galaxy in the validation split: {why}"
        return
    left_out = int((validation & finds).sum())
    without = f", {left_out} labelled as unusual left out" if left_out else ""
    rate = f"at a false discovery rate of {config.score.fdr:g}"
    yield f"{counted(found, 'detection')} {rate}, by {counted(number, 'galaxy')} of the validation split{without}"
    if found:
        return
    needed = math.ceil(table["p_value"].notna().sum() / (number + 1) / config.score.fdr)
    if needed > len(table) - number:
        yield f"So few allow no detection: no p-value is below 1/{number + 1}"
        return
    first = table[calibrating].nlargest(NUM_PRINTED, "score_combined")
    above = int((table["score_combined"] > first["score_combined"].iloc[0]).sum())
    yield (
        f"About {needed} galaxies must score above all of these, {above} do. If the highest of them are unusual, label "
        f"them and run `score` again (docs/scoring.md, Detections): {', '.join(first['plateifu'])}"
    )


def _flagged(table: pd.DataFrame) -> str:
    """Numbers of likely artefacts, by reason code or hypothesis, and of other galaxies with displaced lines."""
    moved = table["triage"] == "redshift"
    likely = (table["triage"] != "") & ~moved | table["hypothesis"].isin(INSTRUMENTAL)
    displaced, artefacts = int((moved & ~likely).sum()), counted(int(likely.sum()), "likely artefact")
    return f"{artefacts}, {displaced} with displaced lines" if displaced else artefacts


def correlations(spearman: dict[str, dict[str, float | None]], rank_by: str) -> Iterator[str]:
    """Lines on rank correlations; without those that are undefined, as of fewer than three galaxies."""
    for name, label in (("score", f"score ({rank_by})"), ("mae", "the paper's MAE")):
        values = {"flux": spearman[name]["flux"], "S/N": spearman[name]["snr"]}
        if known := [f"{other} {value:+.2f}" for other, value in values.items() if value is not None]:
            yield f"Spearman of {label}: {', '.join(known)}"


if __name__ == "__main__":
    command("score")()
