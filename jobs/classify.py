"""Learns classes of galaxies from labels, and predicts their probabilities for the whole catalog.

Labels come from a table (--labels, with --label, --bpt and --key as for `assess`), or, without one, from the
workspace's labels.jsonl. Each label is learned against all other galaxies that the labels cover, by a logistic
regression on latents and scores. It needs at least 10 objects with the label and 10 without. A galaxy that the labels
cover gets its probability from a classifier that has not seen its object; so the printed quality is that of unseen
galaxies: area under the ROC curve and average precision, with 95% intervals from a bootstrap over objects, and the
Brier score beside that of the label's share. Probabilities hold for galaxies drawn like the labelled ones.

Writes catalog.classes.parquet beside the catalog, also as FITS and VOTable, with a column probability_LABEL for each
label, and catalog.classes.json, the classifiers as plain numbers. Both are registered in MLflow as
`tracking.model_name` with `-classes` after it. --heads applies such classifiers (models:/NAME@current, or the file) to
a catalog that the same model has scored.

With few labels, or to decide which galaxies to look at next, use `rerank`.
"""

import hashlib
import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.config import MistakeError
from cubeprep.redact import redact
from cubeprep.version import code_version
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, command
from jobs.console.progress import console
from jobs.tables.features import latents_of, score_names, scores_of
from jobs.tables.label_tables import Labels, check_label_options, read_labels
from jobs.tables.survey_links import LINKS, survey_name
from jobs.tables.write import write_exports
from modeling.catalog import Catalog, Column, check_recorded, read_catalog, write_catalog
from modeling.labels.classes import MIN_OBJECTS, Classified, Features, Quality, classify, few_objects
from modeling.labels.head_file import HEAD_FILE, HeadError, HeadFile, read_heads, write_heads
from modeling.labels.labels import LabelError, catalog_version, current, read

PREFIX = "probability_"
NO_LETTERS = "label"  # in the column of a label without ASCII letters and digits
KEPT = ("plateifu", "mangaid", "z", "ra_deg", "dec_deg", "rank", "score", *LINKS)


class FewLabelsError(LabelError, MistakeError):
    """Too few labels to learn from."""


def run(
    config: ProjectConfig,
    labels: str | None = None,
    label: str | None = None,
    bpt: tuple[str, str] | None = None,
    key: str = "plateifu",
    heads: str | None = None,
) -> int:
    """Writes and registers probabilities and classifiers; returns the exit code."""
    check_label_options(labels, label, bpt, key, heads)
    catalog = read_catalog(config.catalog_path)
    check_recorded(catalog, config.catalog_path, ["model.digest"])
    if heads:
        return _apply(config, catalog, heads)
    names = catalog.table["plateifu"].tolist()
    if labels:
        found = read_labels(Path(labels), names, label=label, bpt=bpt or None, key=key)
    else:
        found = own_labels(config.labels_path, names)
    features, learned = learn(config, catalog, found)
    provenance = make_provenance(config, found)
    path = config.workspace / HEAD_FILE
    write_heads(
        path,
        {name: one.head for name, one in learned.items()},
        features,
        model_digest=catalog.provenance["model"]["digest"],
        quality={name: _plain(one.quality) for name, one in learned.items()},
        provenance=provenance,
    )
    written = _write(config, catalog, {name: one.probability for name, one in learned.items()}, found, provenance)
    version = _register(config, catalog, path, written, learned, provenance)
    _print(found, learned)
    console.print(f"Probabilities: {written[0]} (MLflow: {version})", markup=False)
    return EXIT_OK


def learn(config: ProjectConfig, catalog: Catalog, found: Labels) -> tuple[Features, dict[str, Classified]]:
    """Features of the catalog's galaxies, and the classification of each label with enough objects.

    Raises:
        FewLabelsError: no label has enough.
    """
    table = catalog.table
    latent, objects = latents_of(table, config.catalog_path), table["mangaid"].to_numpy(dtype=object)
    rows = pd.Series(np.arange(len(table)), table["plateifu"])[found.plateifu].to_numpy()
    few = few_objects(found.labelled, objects[rows])
    enough = {name: chosen for name, chosen in found.labelled.items() if name not in few}
    if not enough:
        counts = "; ".join(f"{name}: {num} with, {others} without" for name, (num, others) in few.items())
        raise FewLabelsError(
            f"{found.source}: {counted(len(found.plateifu), 'galaxy')} of the catalog, objects with and without each "
            f"label: {counts}. Each label needs {MIN_OBJECTS} of both; `cubescout rerank` learns from fewer"
        )
    features = Features.of(latent, tuple(score_names(table)))
    values = features(latent, scores_of(table))
    return features, {
        name: classify(values, objects, rows, chosen, seed=config.seed) for name, chosen in enough.items()
    }


def own_labels(path: Path, known: list[str]) -> Labels:
    """Labels of the workspace, each against the galaxies with other labels.

    Args:
        path: the file of labels.
        known: plateifu of the catalog, in order.

    Raises:
        FewLabelsError: no label is of a galaxy in the catalog.
    """
    said = current(read(path))
    names = np.array([name for name in known if name in said.index], dtype=object)
    if not len(names):
        raise FewLabelsError(f"{path}: no labels of galaxies in this catalog; label some, or give --labels TABLE")
    words = said[names].to_numpy(dtype=object)
    return Labels(names, {str(word): words == word for word in sorted(set(words))}, len(said), path.name)


def columns_of(labels: list[str]) -> dict[str, str]:
    """Name of the column of each label: letters, digits and underscores, different for all, ignoring case."""
    columns: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        name = plain = PREFIX + (re.sub(r"\W+", "_", label, flags=re.ASCII).strip("_") or NO_LETTERS)
        number = 1
        while name.casefold() in taken:  # FITS does not tell capitals from small letters
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.casefold())
        columns[label] = name
    return columns


def make_provenance(config: ProjectConfig, found: Labels) -> dict[str, Any]:
    """Provenance of the classes, as JSON values."""
    cells = [f"{name} {chosen.astype(int).tolist()}" for name, chosen in found.labelled.items()]
    text = "\n".join([*found.plateifu, *cells])
    return made_now(config) | {
        "seed": config.seed,
        "labels": found.source,
        "labels_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "num_labelled": len(found.plateifu),
    }


def made_now(config: ProjectConfig) -> dict[str, Any]:
    """Provenance of a table that is made now from the catalog, as JSON values."""
    return {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "catalog": catalog_version(config.catalog_path),
    }


def _apply(config: ProjectConfig, catalog: Catalog, reference: str) -> int:
    """Predicts with classifiers that were learned before."""
    found = _open_heads(config, reference)
    table, model = catalog.table, catalog.provenance["model"]
    if found.model_digest != model["digest"]:
        raise HeadError(
            f"{reference} takes latents of another model (weights {found.model_digest[:12]}) than that of "
            f"{config.catalog_path}, {model['reference']} (weights {model['digest'][:12]})"
        )
    missing = [name for name in found.scores if name not in table]
    if missing:
        raise HeadError(f"{reference} takes {', '.join(missing)}, which {config.catalog_path} lacks")
    scores = table[found.scores].to_numpy(dtype=float)
    values = found.features(latents_of(table, config.catalog_path), scores)
    probabilities = {name: found.head(name).probability(values) for name in found.heads}
    learned = {"reference": redact(reference), **found.provenance}
    written = _write(config, catalog, probabilities, None, made_now(config) | {"heads": learned})
    console.print(f"Probabilities of {', '.join(probabilities)} by {reference}: {written[0]}", markup=False)
    return EXIT_OK


def _open_heads(config: ProjectConfig, reference: str) -> HeadFile:
    from modeling.tracking.catalog_registry import download_registered

    if not reference.startswith("models:/"):
        return read_heads(Path(reference))
    return read_heads(download_registered(config.tracking_uri, reference, HEAD_FILE))


def _write(
    config: ProjectConfig,
    catalog: Catalog,
    probabilities: dict[str, np.ndarray],
    found: Labels | None,
    provenance: dict[str, Any],
) -> list[Path]:
    """Writes the table of probabilities in all formats; returns its paths."""
    table = catalog.table[[name for name in KEPT if name in catalog.table]].copy()
    columns = {str(name): catalog.columns[str(name)] for name in table}
    if found is not None:
        labels = _texts(found)
        table["label"] = [labels.get(name, "") for name in table["plateifu"]]
        table["labelled"] = table["plateifu"].isin(found.plateifu)
        columns |= {
            "label": Column("Labels of the galaxy, of those that were learned from; empty for none"),
            "labelled": Column("Whether the labels cover it; its probabilities are then of heads that did not see it"),
        }
    for label, name in columns_of(list(probabilities)).items():
        table[name] = probabilities[label]
        columns[name] = Column(f"Probability of the label {label!r} among galaxies drawn like the labelled ones")
    kept = {key: catalog.provenance[key] for key in ("store", "model")}
    path = config.catalog_path.with_name(f"{config.catalog_path.stem}.classes.parquet")
    write_catalog(path, table, columns, kept | provenance)
    return [path, *write_exports(path, survey_name(config))]


def _texts(found: Labels) -> dict[str, str]:
    words = {
        name: [label for label, chosen in found.labelled.items() if chosen[i]] for i, name in enumerate(found.plateifu)
    }
    return {name: ", ".join(labels) for name, labels in words.items()}


def _register(
    config: ProjectConfig,
    catalog: Catalog,
    heads: Path,
    written: list[Path],
    learned: dict[str, Classified],
    provenance: dict[str, Any],
) -> str:
    from modeling.tracking.catalog_registry import register_classes

    columns = columns_of(list(learned))
    metrics = {
        f"{columns[label].removeprefix(PREFIX)}/{name}": value
        for label, one in learned.items()
        for name, value in _figures(one.quality).items()
    }
    model = catalog.provenance["model"]
    registered = register_classes(
        config.tracking_uri,
        config.tracking.experiment,
        heads,
        name=f"{config.tracking.model_name}-classes",
        extra_artifacts=written,
        metrics=metrics,
        provenance=provenance | {"model": model["reference"], "model_digest": model["digest"]},
        model=model["reference"],
    )
    return f"{registered.name} version {registered.version}"


def _figures(quality: Quality) -> dict[str, float]:
    return {
        "auroc": quality.auroc.value,
        "auroc_low": quality.auroc.low,
        "auroc_high": quality.auroc.high,
        "average_precision": quality.average_precision.value,
        "brier": quality.brier,
        "brier_of_share": quality.brier_of_share,
    }


def _plain(quality: Quality) -> dict[str, Any]:
    return asdict(quality) | {"reliability": quality.reliability.round(6).tolist()}


def _print(found: Labels, learned: dict[str, Classified]) -> None:
    console.print(
        f"{counted(len(found.plateifu), 'galaxy')} of the catalog, {found.source}; of those left out:", markup=False
    )
    for name, one in learned.items():
        quality = one.quality
        share = quality.num_labelled / (quality.num_labelled + quality.num_others)
        console.print(
            f"  {name:<16} {quality.num_labelled:>5}  AUROC {quality.auroc}  average precision "
            f"{quality.average_precision} by chance {share:.2f}  Brier {quality.brier:.3f} (of the share: "
            f"{quality.brier_of_share:.3f})",
            markup=False,
        )
        rows = "  ".join(f"{mean:.2f}: {part:.2f} ({num:.0f})" for mean, part, num in quality.reliability)
        console.print(f"    mean probability: observed share (galaxies)  {rows}", markup=False)
    few = [name for name in found.labelled if name not in learned]
    if few:
        console.print(f"  fewer than {MIN_OBJECTS} objects with or without the label: {', '.join(few)}", markup=False)


if __name__ == "__main__":
    command("classify")()
