"""Recomputes one galaxy's row of a catalog from its FITS file, and compares.

The catalog gives the store's identity, the model's version and the calibration of its scorers; the store gives its
configuration, the galaxy's file and the file's checksum. The windows are cut again, the models that scored the galaxy
score it again, and each score of the row is printed: recorded against recomputed. Ranks, p- and q-values, the density,
neighbours and UMAP positions depend on the whole survey and are not recomputed, nor are equivalent widths, line ratios,
hypotheses and reasons. Exit code 0 if all values agree; 1 if one differs or the file has changed; 2 if the galaxy is
not in the catalog, or the model or the store is missing.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from cubeprep.checksum import file_checksum
from cubeprep.cube import Target
from cubeprep.prepare_config import GalaxyConfig
from cubeprep.shard import extract_galaxy
from cubeprep.store import WindowStore
from cubeprep.survey import SurveyConfig, make_reader
from cubeprep.version import code_version
from cubeprep.windows import LineWindows
from jobs.console.command import EXIT_FAILED, EXIT_OK
from jobs.console.progress import console
from jobs.tables.read import check_known
from modeling.catalog import SHARE_PREFIX, Catalog, check_recorded, read_catalog
from modeling.scoring.calibration import NuisanceRegression
from modeling.scoring.ensemble import EnsembleMean, without_redshift
from modeling.scoring.galaxy_scorer import SIGNIFICANCES, GalaxyScorer
from modeling.scoring.residual_sums import scores_from_sums
from modeling.scoring.survey_scorer import ModelEnsemble, known_offsets_kms
from modeling.tracking.database import sqlite_uri

SCORES = ("mae", "chi2", "unexplained", "relative")
# For columns that may be near 0: differences below the tolerance times this are rounding, which depends on the galaxies
# that are scored together.
UNITS_OF_ROUNDING = {"score_unexplained": 1.0, "score_nll": 1.0, "velocity_offset_kms": 1.0}
RECORDED = ("code_version", "rank_by", "store.path", "model.digest", "model.fold_digests", "model.num_left_out")
COMBINED = ("score_combined", "score_spread")


class ReproduceError(ValueError):
    """A row that cannot be recomputed."""


def reproduce(
    catalog: str,
    plateifu: str,
    *,
    store: str | None = None,
    tracking_uri: str | None = None,
    tolerance: float = 1e-5,
) -> int:
    """Recomputes a row and prints the comparison; returns the exit code.

    Raises:
        ValueError: catalog, store, file or model is missing, or not the one that the row was made from.
    """
    path = Path(catalog)
    found = read_catalog(path)
    check_recorded(found, path, RECORDED)
    row = _row(found, path, plateifu, store or found.provenance["store"]["path"])
    windows_of = open_store(found, store)
    ensemble = load_ensemble(found, tracking_uri or sqlite_uri(path.parent / "mlflow.db"))
    source = find_source(windows_of, plateifu)
    check_source(windows_of, source)
    console.print(f"{plateifu}: {source['source']} ({source['source_checksum'] or 'no checksum recorded'})")
    console.print(f"store {windows_of.identity[:12]}, model {found.provenance['model']['reference']}", markup=False)
    made_by = found.provenance["code_version"]
    console.print(f"made by Cubescout {made_by}" + ("" if made_by == code_version() else f"; this is {code_version()}"))
    windows = cut_again(windows_of, source)
    known_offset_kms = known_offsets_kms(pd.DataFrame([source])).to_numpy()
    means = ensemble.score(
        (windows.flux[None], windows.ivar[None], windows.mask[None]), [source["mangaid"]], known_offset_kms
    )
    recomputed = own_columns(means, found, source["z"], windows_of.line_names)
    return _compare(row, recomputed, tolerance, unit_of_combined(found))


def _row(found: Catalog, path: Path, plateifu: str, store: str) -> dict[str, Any]:
    check_known([plateifu], found.table["plateifu"].tolist(), path, store)
    row = found.table[found.table["plateifu"] == plateifu].to_dict("records")[0]
    return {str(name): value for name, value in row.items()}


def open_store(found: Catalog, path: str | None) -> WindowStore:
    """The store that a catalog was made from.

    Raises:
        ValueError: it is missing, or another store has taken its place.
    """
    kept = found.provenance["store"]
    store = WindowStore.open(path or kept["path"])
    if store.identity != kept["identity"]:
        identities = f"identity {store.identity[:12]}, the catalog's {kept['identity'][:12]}"
        raise ReproduceError(f"{store.path} is no longer the same store: {identities}")
    return store


def load_ensemble(found: Catalog, tracking_uri: str) -> ModelEnsemble:
    """The models that scored a catalog, with their calibrated scorers.

    Raises:
        ValueError: they are missing, or have other weights.
    """
    from modeling.network.checkpoint import load_model, weights_digest
    from modeling.tracking.models import resolve_model
    from modeling.training.folds import load_folds

    kept = found.provenance["model"]
    if not found.provenance.get("judges") or "by_redshift" not in found.provenance:
        raise ReproduceError("this catalog does not record how its models were calibrated: score the store again")
    directory = resolve_model(tracking_uri, kept["reference"]).directory
    networks = (load_model(directory)[0], *load_folds(directory).models)
    if [weights_digest(network) for network in networks] != [kept["digest"], *kept["fold_digests"]]:
        raise ReproduceError(f"{kept['reference']} has other weights than the catalog's model")
    ensemble = ModelEnsemble("", networks, int(kept["num_left_out"]), tuple(found.provenance["judges"]))
    try:
        for pair in zip(networks, ensemble.scorers, strict=True):
            GalaxyScorer.from_json(*pair)
        unit_of_combined(found)
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise ReproduceError(
            f"the catalog's calibration (provenance.judges) cannot be used: {error!r}. Score the store again"
        ) from error
    return ensemble


def find_source(store: WindowStore, plateifu: str) -> dict[str, Any]:
    """The store's own row of a galaxy.

    Raises:
        ReproduceError: the store has none.
    """
    rows = store.galaxies().query("plateifu == @plateifu and status == 'accepted'").to_dict("records")
    if not rows:
        raise ReproduceError(f"{plateifu} is not in {store.path}")
    return {str(name): value for name, value in rows[0].items()}


def check_source(store: WindowStore, source: dict[str, Any]) -> None:
    """Checks that the files of a galaxy have not changed since its windows were cut.

    Raises:
        ValueError: one is missing or has changed.
    """
    kept = str(source["source_checksum"])
    if not kept.replace(";", ""):
        return
    kind = store.attrs["config"]["prepare"]["checksum"]
    for path, expected in zip(source["source"].split(";"), kept.split(";"), strict=True):
        now = file_checksum(path, kind)
        if now != expected:
            raise ReproduceError(f"{path} has changed since the store was made: checksum {now}, recorded {expected}")


def cut_again(store: WindowStore, source: dict[str, Any]) -> LineWindows:
    """The windows of one galaxy, cut from its files with the store's own configuration.

    Raises:
        ReproduceError: they cannot be cut.
    """
    config = store.attrs["config"]
    kept = GalaxyConfig.model_fields.keys() & config["prepare"].keys()
    galaxy = GalaxyConfig.model_validate({name: config["prepare"][name] for name in kept})
    files = source["source"].split(";")
    survey = {**config["survey"], "root": str(Path(files[0]).parent) if "://" not in files[0] else files[0]}
    maps = model = None
    if galaxy.windows.continuum == "dap":  # readers list the cube first, then its MAPS, then its model cube
        *files, model = files
    if galaxy.velocity.correct and len(files) > 1:
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
        model=model,
    )
    outcome, windows, _ = extract_galaxy(make_reader(SurveyConfig.model_validate(survey)), target, galaxy)
    if outcome.code:
        raise ReproduceError(outcome.reason)
    return windows


def own_columns(means: EnsembleMean, found: Catalog, z: float, line_names: list[str]) -> dict[str, Any]:
    """The columns that depend on one galaxy alone."""
    rank_by, by_redshift = found.provenance["rank_by"], found.provenance["by_redshift"]
    regression = by_redshift and NuisanceRegression.from_json(by_redshift)
    combined = without_redshift(means.combined, np.array([z], dtype=float), regression)
    galaxy = means.scores
    scores = scores_from_sums(galaxy.sums, galaxy.snr, rank_by, combined=combined)
    values = {f"score_{name}": getattr(scores, name)[0] for name in SCORES}
    significance = zip(SIGNIFICANCES, np.expm1(galaxy.significance[0]), strict=True)
    values |= {"score_combined": combined[0], "score_nll": galaxy.nll[0], **{f"score_{k}": v for k, v in significance}}
    values |= {"score_spread": means.spread[0], "velocity_offset_kms": galaxy.velocity_kms[0]}
    if not scores.num_good[0]:  # without observed samples scores are undefined
        values = dict.fromkeys(values, np.nan)
    values |= {"num_models": means.num_models[0]}
    values |= {
        name: getattr(scores, name)[0] for name in ("total_flux", "strongest_line_snr", "median_snr", "num_good")
    }
    return values | {f"{SHARE_PREFIX}{name}": scores.line_shares[0, i] for i, name in enumerate(line_names)}


def unit_of_combined(found: Catalog) -> float:
    """Largest change of `score_combined` for a change by 1 in the logarithm of a significance.

    The score has either sign and is in units of the calibration galaxies' spread. Near 0, or if that spread is small,
    rounding is not negligible relative to the score itself.
    """
    spreads = [state["spread"] for scorer in found.provenance["judges"] for state in scorer["standardisers"]]
    by_redshift = found.provenance["by_redshift"]
    return max(1.0, 1 / (min(spreads) * (by_redshift["spread"] if by_redshift else 1.0)))


def _compare(row: dict[str, Any], recomputed: dict[str, Any], tolerance: float, unit: float) -> int:
    table = Table("column", "recorded", "recomputed", "relative difference")
    shares = [name for name in recomputed if name.startswith(SHARE_PREFIX)]
    units = UNITS_OF_ROUNDING | dict.fromkeys(COMBINED, unit) | dict.fromkeys(shares, 1.0)
    differing = []
    for name, value in recomputed.items():
        if name not in row:
            continue
        difference = relative_difference(float(row[name]), float(value), units.get(name, 0.0))
        table.add_row(name, f"{row[name]:.9g}", f"{value:.9g}", f"{difference:.1e}")
        if not difference <= tolerance:
            differing.append(name)
    console.print(table)
    if differing:
        console.print(f"Not reproduced to {tolerance:g}: {', '.join(differing)}")
        return EXIT_FAILED
    console.print(f"Reproduced to {tolerance:g}")
    return EXIT_OK


def relative_difference(first: float, second: float, at_least: float = 0.0) -> float:
    """|first - second| divided by the largest of both magnitudes and `at_least`; 0 for two NaN."""
    if np.isnan(first) and np.isnan(second):
        return 0.0
    return abs(first - second) / max(abs(first), abs(second), at_least, np.finfo(float).tiny)
