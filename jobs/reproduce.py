"""Computes one galaxy's row of a catalog again, from its FITS file, and compares.

From the catalog come the store's identity and the model's version; from the store its configuration, the galaxy's file
and that file's checksum. The windows are cut anew, the model is run, and each score of the row is printed: recorded
against recomputed. Exit code 0 if all agree, 1 if one does not, or if the file has changed, the model is gone or the
galaxy unknown.
"""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from cubeprep.checksum import file_checksum
from cubeprep.cube import Target
from cubeprep.shard import GalaxyConfig, extract_galaxy
from cubeprep.store import WindowStore, code_version
from cubeprep.survey import SurveyConfig, make_reader
from cubeprep.windows import LineWindows
from jobs.cli import EXIT_FAILED, EXIT_OK
from jobs.progress import console
from modeling.catalog import SHARE_PREFIX, Catalog, read_catalog
from modeling.score import line_sums, median_snr, scores_from_sums

# Measured on one galaxy alone; other columns, such as ranks and neighbours, depend on the whole catalog.
SCORES = ("mae", "chi2", "unexplained", "relative")


class ReproduceError(ValueError):
    """A row that cannot be computed again."""


def reproduce(
    catalog: str,
    plateifu: str,
    *,
    store: str | None = None,
    tracking_uri: str | None = None,
    tolerance: float = 1e-6,
) -> int:
    """Recomputes a row and prints the comparison; returns the exit code.

    Raises:
        ValueError: catalog, store, file or model is not there, or not what the row was made from.
    """
    path = Path(catalog)
    found = read_catalog(path)
    row = _row(found, path, plateifu)
    windows_of = open_store(found, store)
    model = load_network(found, tracking_uri or f"sqlite:///{path.absolute().parent / 'mlflow.db'}")
    source = find_source(windows_of, plateifu)
    check_source(windows_of, source)
    console.print(f"{plateifu}: {source['source']} ({source['source_checksum'] or 'no checksum kept'})")
    console.print(f"store {windows_of.identity[:12]}, model {found.provenance['model']['reference']}", markup=False)
    made_by = found.provenance["code_version"]
    console.print(f"made by Cubescout {made_by}" + ("" if made_by == code_version() else f"; this is {code_version()}"))
    rank_by = found.provenance["rank_by"]
    recomputed = score_windows(cut_again(windows_of, source), model, windows_of.line_names, rank_by)
    return _compare(row, recomputed, tolerance)


def _row(found: Catalog, path: Path, plateifu: str) -> dict[str, Any]:
    rows = found.table[found.table["plateifu"] == plateifu].to_dict("records")
    if not rows:
        raise ReproduceError(f"{plateifu} is not in {path}")
    return {str(name): value for name, value in rows[0].items()}


def open_store(found: Catalog, path: str | None) -> WindowStore:
    """The store that a catalog was made from.

    Raises:
        ValueError: it is not there, or another one is.
    """
    kept = found.provenance["store"]
    store = WindowStore.open(path or kept["path"])
    if store.identity != kept["identity"]:
        identities = f"identity {store.identity[:12]}, the catalog's {kept['identity'][:12]}"
        raise ReproduceError(f"{store.path} is another store by now: {identities}")
    return store


def load_network(found: Catalog, tracking_uri: str) -> Any:
    """The model that a catalog was made by.

    Raises:
        ValueError: it is not there, or has other weights.
    """
    from jobs.score import weights_digest
    from modeling.checkpoint import load_model
    from modeling.tracking import resolve_model

    kept = found.provenance["model"]
    if kept.get("fold_digests"):
        raise ReproduceError("this catalog was scored by models of folds, whose rows cannot be computed again yet")
    network, _ = load_model(resolve_model(tracking_uri, kept["reference"]).directory)
    if weights_digest(network) != kept["digest"]:
        raise ReproduceError(f"{kept['reference']} has other weights than the catalog's model")
    return network


def find_source(store: WindowStore, plateifu: str) -> dict[str, Any]:
    """The store's own row of a galaxy.

    Raises:
        ReproduceError: the store has none.
    """
    rows = store.galaxies().query("plateifu == @plateifu and status == 'accepted'").to_dict("records")
    if not rows:
        raise ReproduceError(f"{plateifu} is not among the galaxies of {store.path}")
    return {str(name): value for name, value in rows[0].items()}


def check_source(store: WindowStore, source: dict[str, Any]) -> None:
    """Checks that the files of a galaxy are those that its windows were cut from.

    Raises:
        ValueError: one is gone or has changed.
    """
    kept = str(source["source_checksum"])
    if not kept.replace(";", ""):
        return
    kind = store.attrs["config"]["prepare"]["checksum"]
    for path, expected in zip(source["source"].split(";"), kept.split(";"), strict=True):
        now = file_checksum(path, kind)
        if now != expected:
            raise ReproduceError(f"{path} has changed since the store was made: {now}, it was {expected}")


def cut_again(store: WindowStore, source: dict[str, Any]) -> LineWindows:
    """The windows of one galaxy, from its files and with the store's own configuration.

    Raises:
        ReproduceError: they cannot be cut.
    """
    config = store.attrs["config"]
    galaxy = GalaxyConfig.model_validate({name: config["prepare"][name] for name in GalaxyConfig.model_fields})
    files = source["source"].split(";")
    survey = {**config["survey"], "root": str(Path(files[0]).parent) if "://" not in files[0] else files[0]}
    maps = None
    if galaxy.velocity.correct and len(files) > 1:  # readers with velocities have one cube, then its MAPS
        *files, maps = files
        survey["maps_root"] = str(Path(maps).parent)
    target = Target(
        source["plateifu"],
        source["mangaid"],
        source["z"],
        source["ra_deg"],
        source["dec_deg"],
        tuple(files),
        re_arcsec=source.get("re_arcsec", float("nan")),
        maps=maps,
    )
    outcome, windows = extract_galaxy(make_reader(SurveyConfig.model_validate(survey)), target, galaxy)
    if outcome.code:
        raise ReproduceError(outcome.reason)
    return windows


def score_windows(windows: LineWindows, network: Any, line_names: list[str], rank_by: str) -> dict[str, Any]:
    """What a catalog ranked by `rank_by` holds of one galaxy's own measures."""
    from modeling.inference import infer

    arrays = windows.flux[None], windows.ivar[None], windows.mask[None]
    sums = line_sums(*arrays, infer(network, *arrays).reconstruction)
    # Lines share chi2 unless the galaxies are ranked by absolute residuals.
    scores = scores_from_sums(sums, median_snr(*arrays), "mae" if rank_by in ("mae", "relative") else "chi2")
    values = {f"score_{name}": getattr(scores, name)[0] for name in SCORES}
    values |= {name: getattr(scores, name)[0] for name in ("total_flux", "median_snr", "num_good")}
    return values | {f"{SHARE_PREFIX}{name}": scores.line_shares[0, i] for i, name in enumerate(line_names)}


def _compare(row: dict[str, Any], recomputed: dict[str, Any], tolerance: float) -> int:
    table = Table("column", "recorded", "recomputed", "relative difference")
    differing = []
    for name, value in recomputed.items():
        if name not in row:
            continue
        difference = relative_difference(float(row[name]), float(value))
        table.add_row(name, f"{row[name]:.9g}", f"{value:.9g}", f"{difference:.1e}")
        if not difference <= tolerance:
            differing.append(name)
    console.print(table)
    if differing:
        console.print(f"Not reproduced to {tolerance:g}: {', '.join(differing)}")
        return EXIT_FAILED
    console.print(f"Reproduced to {tolerance:g}")
    return EXIT_OK


def relative_difference(first: float, second: float) -> float:
    """|first - second| over the larger of them, 0 for two NaN."""
    if np.isnan(first) and np.isnan(second):
        return 0.0
    return abs(first - second) / max(abs(first), abs(second), np.finfo(float).tiny)
