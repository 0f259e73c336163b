"""Scores every galaxy and writes the anomaly catalog.

Runs the model `score.model` (by default the champion of the MLflow registry; the folder of a saved model works too)
over the galaxies of the window store, as observed. The catalog, catalog.parquet in the workspace, holds one row a
galaxy: four scores, the rank by the one that `score.rank_by` names, the share of each line in the residual, the nearest
neighbours in latent space and UMAP positions; units, descriptions and provenance are inside. Latents lie beside it, in
catalog.latents.parquet, and the catalog as a FITS table and a VOTable. All are registered in MLflow.

Scores: score_unexplained, the share of the signal that the model leaves over, noise subtracted (ranks by default);
score_chi2, its reduced chi2; score_relative, the mean absolute error over the mean absolute flux; score_mae, the
paper's mean absolute error.

The job prints how the scores follow flux and S/N (Spearman): near 1 or -1, a score only sorts galaxies by these.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.config import digest
from cubeprep.store import WindowStore, code_version
from jobs.cli import EXIT_OK, command
from jobs.config import ProjectConfig
from jobs.export import write_exports
from jobs.progress import console, progress_bar
from jobs.survey_links import survey_name, with_links
from modeling.catalog import build_table, describe_columns, latents_path, write_catalog, write_latents
from modeling.embedding import embed
from modeling.neighbours import nearest_neighbours, standardise
from modeling.score import (
    LineSums,
    Scores,
    line_sums,
    median_snr,
    nuisance_correlations,
    scores_from_sums,
)

NUM_PRINTED = 5


@dataclass(frozen=True)
class ScoringModel:
    """A model that fits a store.

    Attributes:
        network: the torch module.
        reference: such as `models:/cubescout/3`, or a folder.
        version: in the registry; empty for a folder.
        digest: sha256 of its weights.
        trained_on: identity of the store that it was trained on; empty where that was not kept.
    """

    network: Any
    reference: str
    version: str
    digest: str
    trained_on: str

    @property
    def provenance(self) -> dict[str, str]:
        """What a catalog keeps of it."""
        kept = ("reference", "version", "digest", "trained_on")
        return {name: getattr(self, name) for name in kept}


@dataclass(frozen=True)
class Survey:
    """What inference leaves of all galaxies of a store, in one order.

    Attributes:
        galaxies: plateifu, mangaid, z, split and, if the store has them, ra_deg and dec_deg.
        sums: [galaxy, line].
        snr: [galaxy] of `median_snr`.
        latent: [galaxy, dimension] float32.
    """

    galaxies: pd.DataFrame
    sums: LineSums
    snr: np.ndarray
    latent: np.ndarray


def run(config: ProjectConfig) -> int:
    """Writes and registers the catalog; returns the exit code."""
    from modeling.tracking import flatten, register_catalog

    store = WindowStore.open(config.store_path)
    model = open_model(config, store)
    survey = infer_survey(config, store, model)
    scores = scores_from_sums(survey.sums, survey.snr, config.score.rank_by)
    provenance = make_provenance(config, store, model, scores)
    table = assemble(config, store, survey, scores)
    latents = latents_path(config.catalog_path)
    write_latents(latents, survey.galaxies["plateifu"].tolist(), survey.latent, provenance)
    columns = describe_columns(store.line_names, flux_unit(store), config.score.rank_by)
    table, columns = with_links(table, columns, survey_name(config))
    write_catalog(config.catalog_path, table, columns, provenance)
    exports = write_exports(config.catalog_path, survey_name(config))
    registered = register_catalog(
        config.tracking_uri,
        config.tracking.experiment,
        config.catalog_path,
        catalog_name=config.tracking.catalog_name,
        extra_artifacts=[latents, *exports],
        provenance=flatten(provenance),
    )
    _print_summary(config, table, provenance, registered.version)
    return EXIT_OK


def open_model(config: ProjectConfig, store: WindowStore, reference: str | None = None) -> ScoringModel:
    """Resolves and loads a model, and checks that it is one for this store.

    Args:
        config: says where the registry is, and which model is wanted.
        store: to be scored.
        reference: another model than the config's.

    Raises:
        ValueError: there is no such model, or its lines, samples or size are not the store's.
    """
    from modeling.checkpoint import load_model
    from modeling.tracking import resolve_model

    wanted = reference or config.score.model or f"models:/{config.tracking.model_name}@champion"
    found = resolve_model(config.tracking_uri, wanted)
    network, metadata = load_model(found.directory)
    check_fits(network, metadata, store, wanted)
    # An alias moves on to other versions: what is kept names the version.
    name = re.split("[@/]", wanted.removeprefix("models:/"))[0]
    resolved = f"models:/{name}/{found.version}" if found.version else str(found.directory.absolute())
    trained_on = str(metadata.get("store_identity", ""))
    return ScoringModel(network, resolved, found.version or "", weights_digest(network), trained_on)


def check_fits(network: Any, metadata: dict[str, Any], store: WindowStore, reference: str) -> None:
    """Checks that a model was made for windows such as the store's.

    Raises:
        ValueError: naming what both have.
    """
    takes: dict[str, Any] = {"lines": network.num_lines, "samples": network.num_samples, "size": network.size}
    holds: dict[str, Any] = dict(zip(takes, store.shape, strict=True))
    named = metadata.get("line_names")
    if named is not None and list(named) != store.line_names:
        takes["lines"], holds["lines"] = ", ".join(named), ", ".join(store.line_names)
    differing = [f"{name}: the model takes {takes[name]}, the store holds {holds[name]}" for name in takes]
    differing = [text for text, name in zip(differing, takes, strict=True) if takes[name] != holds[name]]
    if differing:
        raise ValueError(f"model {reference} does not fit the store {store.path}. {'; '.join(differing)}")


def weights_digest(network: Any) -> str:
    """sha256 of a model's weights: names, shapes and values, in whatever file they came."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        values = np.ascontiguousarray(tensor.detach().cpu().numpy())
        found.update(f"{name} {values.dtype} {values.shape}".encode())
        found.update(values.tobytes())
    return found.hexdigest()


def infer_survey(config: ProjectConfig, store: WindowStore, model: ScoringModel) -> Survey:
    """Runs the model over a store, a shard at a time: memory holds one shard and what is left of the others.

    Raises:
        ValueError: the store holds no galaxy.
    """
    from modeling.inference import infer

    names: list[str] = []
    splits: list[str] = []
    parts: list[tuple[LineSums, np.ndarray, np.ndarray]] = []
    total = sum(store.num_shards(split) for split in store.splits)
    with progress_bar("Scoring", unit="shards") as bar:
        for split, windows in store.iter_galaxies():
            arrays = windows.flux, windows.ivar, windows.mask
            found = infer(model.network, *arrays, batch_size=config.score.batch_size, device=config.score.device)
            parts.append((line_sums(*arrays, found.reconstruction), median_snr(*arrays), found.latent))
            names += list(windows.plateifu)
            splits += [split] * len(windows)
            bar(len(parts), total, f"{len(names)} galaxies")
    if not parts:
        raise ValueError(f"{store.path} holds no galaxy: all were set aside, see its rejected.csv")
    sums, snr, latent = zip(*parts, strict=True)
    return Survey(
        _identify(store, names, splits), LineSums.concatenate(sums), np.concatenate(snr), np.concatenate(latent)
    )


def _identify(store: WindowStore, names: list[str], splits: list[str]) -> pd.DataFrame:
    """The store's table of galaxies, in the order in which they were scored."""
    table = store.galaxies().set_index("plateifu").loc[names].reset_index()
    kept = ["plateifu", "mangaid", "z", "ra_deg", "dec_deg"]
    return table[[name for name in kept if name in table]].assign(split=splits)


def assemble(config: ProjectConfig, store: WindowStore, survey: Survey, scores: Scores) -> pd.DataFrame:
    """The catalog's table: scores, neighbours and maps of the latents."""
    latent = standardise(survey.latent)
    flat, deep = (
        embed(
            latent,
            num_dimensions,
            num_neighbours=config.score.umap_neighbours,
            min_dist=config.score.umap_min_dist,
            seed=config.seed,
        )
        for num_dimensions in (2, 3)
    )
    neighbours = nearest_neighbours(latent, survey.galaxies["mangaid"].to_numpy(), config.score.num_neighbours)
    return build_table(survey.galaxies, scores, store.line_names, maps=(flat, deep), neighbours=neighbours)


def make_provenance(config: ProjectConfig, store: WindowStore, model: ScoringModel, scores: Scores) -> dict[str, Any]:
    """What a catalog was made from, and how far its scores are to be trusted; JSON values."""
    return {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "config": config.score.model_dump(mode="json"),
        "config_sha256": digest(config.score),
        "seed": config.seed,
        "store": {"identity": store.identity, "path": store.path, "flux_unit": flux_unit(store)},
        "model": model.provenance,
        "num_galaxies": len(scores.score),
        "rank_by": config.score.rank_by,
        "spearman": nuisance_correlations(scores),
    }


def flux_unit(store: WindowStore) -> str:
    """The unit of the store's flux."""
    return str(store.attrs["flux_unit"])


def _print_summary(config: ProjectConfig, table: pd.DataFrame, provenance: dict[str, Any], version: str) -> None:
    if provenance["model"]["trained_on"] not in ("", provenance["store"]["identity"]):
        console.print(f"Note: {provenance['model']['reference']} was trained on another store.")
    console.print(f"The most unusual of {len(table)} galaxies, by score_{config.score.rank_by}:")
    for row in table.head(NUM_PRINTED).to_dict("records"):
        top = f"{row['top_line']} {row['share_' + row['top_line']]:.0%}" if row["top_line"] else "no residual"
        console.print(
            f"  {row['rank']:>3}  {row['plateifu']:<14} score {row['score']:.4g}  z {row['z']:.4f}  {top}", markup=False
        )
    for name, label in (("score", f"score ({config.score.rank_by})"), ("mae", "the paper's MAE")):
        found = provenance["spearman"][name]
        console.print(f"Spearman of {label}: flux {_signed(found['flux'])}, S/N {_signed(found['snr'])}")
    console.print(f"Catalog: {config.catalog_path} (MLflow: {config.tracking.catalog_name} version {version})")


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.2f}"


if __name__ == "__main__":
    command("score")()
