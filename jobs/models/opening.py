"""Opens models: from the registry or a folder for a store, or the model that scored a catalog."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cubeprep.config import MistakeError
from cubeprep.store import Windows, WindowStore
from jobs.config import ProjectConfig
from modeling.catalog import Catalog, check_recorded


@dataclass(frozen=True)
class ScoringModel:
    """A model with the shape of a store's windows.

    Attributes:
        network: the torch module.
        reference: such as `models:/cubescout/3`, or a folder.
        version: in the registry; empty for a folder.
        digest: sha256 of its weights.
        trained_on: identity of the store that it was trained on; empty if not recorded.
        folds: models of cross-fitting, each trained without some galaxies; empty if there are none.
        num_left_out: folds that each of them was trained without.
        window_settings: of the store that it was trained on; None if not recorded.
        calibration: `GalaxyScorer.to_json`, where the model comes with a calibration on ordinary galaxies.
    """

    network: Any
    reference: str
    version: str
    digest: str
    trained_on: str
    folds: tuple[Any, ...] = ()
    num_left_out: int = 1
    window_settings: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None

    def differing_windows(self, store: WindowStore) -> list[str]:
        """Settings of the store's windows that differ from those the model was trained on, with both values."""
        return differing_windows(self.window_settings, store)

    @property
    def digests(self) -> list[str]:
        """sha256 of the weights of the model and of those of its folds."""
        from modeling.network.checkpoint import weights_digest

        return [self.digest, *(weights_digest(network) for network in self.folds)]

    @property
    def provenance(self) -> dict[str, Any]:
        """Values that a catalog records."""
        kept = ("reference", "version", "digest", "trained_on", "num_left_out")
        return {name: getattr(self, name) for name in kept} | {"fold_digests": self.digests[1:]}


def differing_windows(trained_on: dict[str, Any] | None, store: WindowStore) -> list[str]:
    """Settings of a store's windows that differ from those a model was trained on, with both values.

    Where both sizes of a spaxel are known, they are compared instead of the binning factor.

    Args:
        trained_on: `window_settings` of the model's store; None if not recorded, when nothing can be compared.
        store: the other store.
    """
    if trained_on is None:
        return []
    found = store.window_settings
    sizes_known = None not in (trained_on.get("spaxel_arcsec"), found["spaxel_arcsec"])
    left_out = "prepare.windows.bin_factor" if sizes_known else "spaxel_arcsec"
    return [
        f"{key} is {found.get(key)}, the model was trained on {trained_on.get(key)}"
        for key in dict.fromkeys([*trained_on, *found])
        if key != left_out and trained_on.get(key) != found.get(key)
    ]


def open_model(config: ProjectConfig, store: WindowStore, reference: str | None = None) -> ScoringModel:
    """Resolves and loads a model, and checks that it fits this store.

    Args:
        config: gives the registry and the model.
        store: the store to score.
        reference: a model to open instead of the configuration's.

    Raises:
        MistakeError: there is no such model, or its lines, samples or size are not the store's.
    """
    from modeling.network.checkpoint import load_model, weights_digest
    from modeling.tracking.models import resolve_model
    from modeling.training.folds import load_folds

    wanted = reference or config.score.model or f"models:/{config.tracking.model_name}@champion"
    found = resolve_model(config.tracking_uri, wanted)
    network, metadata = load_model(found.directory)
    check_fits(network, metadata, store, wanted)
    trained_on = str(metadata.get("store_identity", ""))
    folds = load_folds(found.directory)
    return ScoringModel(
        network,
        found.reference,
        found.version or "",
        weights_digest(network),
        trained_on,
        folds=tuple(folds.models),
        num_left_out=folds.left_out,
        window_settings=metadata.get("window_settings"),
        calibration=metadata.get("calibration"),
    )


def check_fits(network: Any, metadata: dict[str, Any], store: WindowStore, reference: str) -> None:
    """Checks that a model fits the windows of a store.

    Raises:
        MistakeError: lines, samples or size differ; the message names both.
    """
    from modeling.network.transfer import WINDOW_KEYS

    takes: dict[str, Any] = {key: getattr(network, name) for name, key in WINDOW_KEYS.items()}
    holds: dict[str, Any] = dict(zip(takes, store.shape, strict=True))
    named = metadata.get("line_names")
    if named is not None and list(named) != store.line_names:
        takes[WINDOW_KEYS["num_lines"]], holds[WINDOW_KEYS["num_lines"]] = ", ".join(named), ", ".join(store.line_names)
    differing = [f"{name}: the model takes {takes[name]}, the store holds {holds[name]}" for name in takes]
    differing = [text for text, name in zip(differing, takes, strict=True) if takes[name] != holds[name]]
    if differing:
        raise MistakeError(f"model {reference} does not fit the store {store.path}. {'; '.join(differing)}")


def as_scored(catalog: Catalog, model: ScoringModel, device: str) -> Callable[[Windows], np.ndarray]:
    """Function that returns the mean reconstruction by the models that scored a galaxy.

    These are the fold models that were not trained on it, or the main model if there are no folds.
    """
    from modeling.network.inference import reconstruct
    from modeling.scoring.survey_scorer import ModelEnsemble

    ensemble = ModelEnsemble("", (model.network, *model.folds), model.num_left_out)
    mangaid = catalog.table.set_index("plateifu")["mangaid"]

    def mean(windows: Windows) -> np.ndarray:
        counts = ensemble.counts([str(mangaid[windows.plateifu.astype(str)[0]])])[:, 0]
        arrays = windows.flux, windows.ivar, windows.mask
        chosen = [network for network, count in zip(ensemble.networks, counts, strict=True) if count]
        return np.asarray(np.mean([reconstruct(network, *arrays, device=device) for network in chosen], axis=0))

    return mean


def check_same_store(catalog: Catalog, store: WindowStore, path: Path) -> None:
    """Checks that the catalog was made from this store.

    Raises:
        MistakeError: it was made from another.
    """
    scored = catalog.provenance["store"]["identity"]
    if scored != store.identity:
        raise MistakeError(
            f"{path} is the catalog of another store (identity {scored[:12]}), not of {store.path} "
            f"(identity {store.identity[:12]}). Run `cubescout score` first."
        )


def reopen_model(config: ProjectConfig, catalog: Catalog, store: WindowStore) -> ScoringModel:
    """The model that scored a catalog.

    Raises:
        MistakeError: it is missing, or its weights have changed.
    """
    check_recorded(catalog, config.catalog_path, ["model.digest"])
    made_by = catalog.provenance["model"]
    model = open_model(config, store, made_by["reference"])
    if model.digest != made_by["digest"]:
        raise MistakeError(
            f"{made_by['reference']} is no longer the model of {config.catalog_path}: the digest of its weights is "
            f"{model.digest[:12]}, recorded was {made_by['digest'][:12]}. Does tracking.uri name the registry "
            "used for scoring? If so, run `cubescout score` again."
        )
    return model
