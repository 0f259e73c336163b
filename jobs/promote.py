"""Compares a registered model with the champion, and promotes it if it is no worse.

MODEL@ALIAS, such as cubescout@candidate, or NAME/VERSION, is looked up in the registry of CONFIG (tracking.uri). Both
models are measured on the validation split of CONFIG's store. The negative log-likelihood decides: it compares models
of any loss and normalisation, but not a masked network with an autoencoder, which sees the data that it reconstructs;
between them --benchmark decides alone. chi2 is shown beside it, and both with the uncertainty from resampling galaxies.
With --benchmark, the results.parquet of an injection benchmark of each model (`python -m benchmarks.anomaly`), the
recall of anomalies below 1% false positives decides too.

A worse candidate is not promoted (exit code 4), unless --force is given. The values compared are kept as tags of the
version.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from cubeprep.store import WindowStore
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, EXIT_REFUSED, CommandError
from jobs.console.progress import console
from jobs.models.opening import open_model
from modeling.training.model_comparison import Comparison, compare, measure_split

SPLIT = "validation"
OURS = "Cubescout"


class PromotionError(CommandError):
    """A comparison that cannot be made."""


def promote(
    config: ProjectConfig, reference: str, *, benchmark: tuple[str, str] | None = None, force: bool = False
) -> int:
    """Moves the alias `champion`, or prints why not; returns the exit code.

    Raises:
        CommandError: the reference names no model and alias.
        ValueError: the model, the store or a benchmark result is missing or does not fit; the registry cannot be asked;
            or the kinds of the models differ, and neither `benchmark` nor `force` is given.
    """
    from modeling.tracking.models import CHAMPION, find_alias, find_version
    from modeling.tracking.runs import make_client

    name = reference.removeprefix("models:/")
    if not re.fullmatch(r"[^@/]+[@/][^@/]+", name):
        raise CommandError(f"{reference}: expected MODEL@ALIAS or MODEL/VERSION")
    client = make_client(config.tracking_uri)
    candidate = find_version(client, f"models:/{name}")
    champion = find_alias(client, candidate.name, CHAMPION)
    if champion is None:
        console.print(f"{candidate.name} has no champion to compare with")
    elif champion.version == candidate.version:
        console.print(f"{candidate.name} version {candidate.version} is already the champion")
        return EXIT_OK
    found = _compare(config, candidate, champion, benchmark, force) if champion is not None else []
    worse = [one.measure for one in found if one.decides and one.worse]
    if found and champion is not None:
        _print(found, candidate, champion)
    if worse and not force:
        console.print(f"Not promoted: worse by {'; '.join(worse)}. Use --force to promote it anyway.")
        return EXIT_REFUSED
    for one in found:
        text = f"{one.candidate:.6g} against {one.champion:.6g} of version {champion.version}"
        client.set_model_version_tag(candidate.name, candidate.version, f"promotion.{one.measure.split(',')[0]}", text)
    client.set_registered_model_alias(candidate.name, CHAMPION, candidate.version)
    console.print(f"{candidate.name} version {candidate.version} is the champion{' (forced)' if worse else ''}")
    return EXIT_OK


def _compare(
    config: ProjectConfig, candidate: Any, champion: Any, benchmark: tuple[str, str] | None, force: bool
) -> list[Comparison]:
    store = WindowStore.open(config.store_path)
    networks = [
        open_model(config, store, f"models:/{version.name}/{version.version}").network
        for version in (candidate, champion)
    ]
    kinds = [_kind(network) for network in networks]
    comparable = kinds[0] == kinds[1]
    if not (comparable or benchmark or force):
        raise PromotionError(
            f"{candidate.name} version {candidate.version} is a {kinds[0]} and the champion a {kinds[1]}, whose "
            "likelihoods do not compare: give --benchmark, or --force"
        )
    first, second = (measure_split(network, store, SPLIT) for network in networks)
    found = [replace(one, decides=one.decides and comparable) for one in compare(first, second)]
    if benchmark:
        ours, theirs = (read_benchmark(Path(path)) for path in benchmark)
        found.append(Comparison("pAUROC, injected anomalies", ours, theirs, higher_is_better=True))
    return found


def _kind(network: Any) -> str:
    """What a network's likelihood is of: models of different kinds are tested on different samples."""
    side = f" with hidden squares of {network.hidden_side} spaxels" if hasattr(network, "hidden_side") else ""
    return f"{type(network).__name__}{side}"


def read_benchmark(path: Path) -> float:
    """Our detector's recall of anomalies below 1% false positives, at the lowest contamination of the training.

    Raises:
        PromotionError: the file is not a result of the injection benchmark.
    """
    try:
        table = pd.read_parquet(path, columns=["name", "contamination", "pauroc"])
    except (ValueError, OSError) as error:
        raise PromotionError(f"{path}: not a results.parquet of the injection benchmark ({error})") from error
    ours = table[table["name"] == OURS].sort_values("contamination")
    if ours.empty:
        raise PromotionError(f"{path}: has no row {OURS}")
    return float(ours["pauroc"].iloc[0])


def _print(found: list[Comparison], candidate: Any, champion: Any) -> None:
    versions = f"candidate, version {candidate.version}", f"champion, version {champion.version}"
    table = Table("measure", *versions, "difference, 95% of resampled galaxies", "")
    for one in found:
        said = ("worse" if one.worse else "no worse") + ("" if one.decides else " (shown only)")
        low, high = one.interval
        between = f"{low:+.3g} to {high:+.3g}" if low == low else ""
        table.add_row(one.measure, f"{one.candidate:.6g}", f"{one.champion:.6g}", between, said)
    console.print(table)
