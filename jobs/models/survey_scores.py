"""Scores a store with its models and derives the catalog's score columns: the middle steps of `cubescout score`."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cubeprep.config import MistakeError
from cubeprep.line_ratios import COLUMNS as LINE_RATIOS
from cubeprep.store import NEW_TABLES, StoreError, WindowStore
from cubeprep.survey import survey_facts
from jobs.config import ProjectConfig
from jobs.console.progress import progress_bar
from modeling.labels.labels import current, is_find, read
from modeling.scoring.ensemble import EnsembleMean, SurveyScores
from modeling.scoring.explanations import NUM_REASONS, reasons
from modeling.scoring.galaxy_scorer import SIGNIFICANCES, GalaxyScores
from modeling.scoring.hypotheses.explain import VALUES
from modeling.scoring.hypotheses.shard import Hypotheses
from modeling.scoring.residual_sums import LineSums
from modeling.scoring.survey_scorer import (
    MIN_HELD_OUT,
    ModelEnsemble,
    RunTasks,
    ShardScores,
    calibrate_ensemble,
    run_here,
    score_store,
)

if TYPE_CHECKING:
    from jobs.models.opening import ScoringModel

# Format of the shards' files; files of an earlier format are not read.
SHARD_FORMAT = 5
UNKNOWN_PSF_FWHM_SPAXELS = 5.0  # MaNGA's
# Splits whose galaxies were not used for training.
CALIBRATING = ("validation",)


@dataclass(frozen=True)
class Survey:
    """Results for all galaxies of a store, in one order.

    Attributes:
        galaxies: plateifu, mangaid, z, split and, if the store has them, z_used, ra_deg and dec_deg.
        means: means over the models; the maps are left out, they are in `shards`.
        reasons: [galaxy] phrases, the most significant first; that of the hypothesis is not among them.
        hypotheses: of the galaxies.
        shards: files of `ShardScores`.
        ensemble: the models with their calibrated scorers.
    """

    galaxies: pd.DataFrame
    means: EnsembleMean
    reasons: list[list[str]]
    hypotheses: Hypotheses
    shards: list[Path]
    ensemble: ModelEnsemble

    @property
    def sums(self) -> LineSums:
        """Sums from which the plain scores are computed."""
        return self.means.scores.sums

    def calibrating(self, finds: np.ndarray) -> np.ndarray:
        """[galaxy] bool, calibration galaxies of the p-values; `finds` [galaxy] bool are none.

        Unusual galaxies among them raise the p-values of others as unusual. Without those that somebody has labelled,
        p-values are lower and still valid (Bashari, Sesia & Romano 2025, arXiv:2502.04807).
        """
        return self.galaxies["split"].isin(CALIBRATING).to_numpy() & ~finds


def with_survey_facts(config: ProjectConfig, store: WindowStore) -> ProjectConfig:
    """The configuration with the reader of a store, and spaxel size and PSF of its survey where it leaves them out."""
    facts = survey_facts(store.attrs)
    # Commands after `prepare` are documented without `survey.reader`; links to the survey's pages depend on it.
    reader = store.attrs.get("config", {}).get("survey", {}).get("reader", config.survey.reader)
    known = {
        "psf_fwhm_spaxels": config.score.psf_fwhm_spaxels or facts.psf_fwhm_spaxels or UNKNOWN_PSF_FWHM_SPAXELS,
        "spaxel_arcsec": config.score.spaxel_arcsec or facts.spaxel_arcsec,
    }
    survey = config.survey.model_copy(update={"reader": reader})
    return config.model_copy(update={"score": config.score.model_copy(update=known), "survey": survey})


def score_survey(config: ProjectConfig, store: WindowStore, model: "ScoringModel") -> Survey:
    """Scores every galaxy of a store; resumes an interrupted run.

    Raises:
        ValueError: the store holds no galaxy.
    """
    if not num_accepted(store):
        raise ValueError(f"{store.path} holds no galaxy: all were rejected, see its rejected.csv")
    folder = work_folder(config, store, model)
    path = store.path if "://" in store.path else str(Path(store.path).absolute())
    ensemble = ModelEnsemble(
        path,
        (model.network, *model.folds),
        model.num_left_out,
        device=config.score.torch_device,
        psf_fwhm_spaxels=config.score.psf_fwhm_spaxels or UNKNOWN_PSF_FWHM_SPAXELS,
        spaxel_arcsec=config.score.spaxel_arcsec,
        north_up=survey_facts(store.attrs).north_up,
    )
    with progress_bar("Calibrating", unit="models") as bar:
        ensemble = calibrate_ensemble(
            ensemble,
            folder / "scorers.json",
            num_galaxies=config.score.calibration_galaxies,
            given=model.calibration,
            tell=partial(bar, milestone=True),
        )
    run_tasks: RunTasks = run_here
    if config.score.num_workers:
        from modeling.scoring.ray_score import run_with_ray

        run_tasks = run_with_ray(config.score.num_workers, gpus=float(config.score.torch_device.startswith("cuda")))
    with progress_bar("Scoring", unit="shards") as bar:
        shards = score_store(ensemble, folder, run_tasks=run_tasks, tell=bar)
    return _collect(config, store, ensemble, shards)


def num_accepted(store: WindowStore) -> int:
    """Number of galaxies of a store."""
    return int((store.galaxies()["status"] == "accepted").sum())


def with_calibration(config: ProjectConfig, store: WindowStore, model: "ScoringModel") -> "ScoringModel":
    """The model; its calibration is kept only if scores are to be relative to its galaxies.

    Raises:
        MistakeError: the configuration asks for it and the model has none.
    """
    asked = config.score.calibration == "model"
    if model.calibration is None:
        if asked:
            raise MistakeError(f"score.calibration is `model`, but {model.reference} comes without a calibration")
        return model
    few = config.score.calibration == "auto" and num_accepted(store) < MIN_HELD_OUT
    return model if asked or few else replace(model, calibration=None)


def work_folder(config: ProjectConfig, store: WindowStore, model: "ScoringModel") -> Path:
    """Folder of the shards' files until the catalog is written, specific to models and settings."""
    settings = config.score.model_dump(
        mode="json", include={"calibration_galaxies", "psf_fwhm_spaxels", "spaxel_arcsec"}
    )
    decisive: list[Any] = [SHARD_FORMAT, store.identity, model.digests, model.num_left_out, settings]
    decisive += filter(None, [model.calibration])
    return config.workspace / "scoring" / hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]


def _collect(config: ProjectConfig, store: WindowStore, ensemble: ModelEnsemble, shards: list[Path]) -> Survey:
    """All shards without their maps, and the reasons derived from the maps."""
    velocity_kms = store.coordinate(store.splits[0], "velocity_kms")
    in_words = partial(reasons, spaxel_arcsec=config.score.spaxel_arcsec, north_up=ensemble.north_up)
    names: list[str] = []
    phrases: list[list[str]] = []
    parts: list[EnsembleMean] = []
    explained: list[Hypotheses] = []
    kept: list[Path] = []
    for shard in shards:
        loaded = ShardScores.load(shard)
        if not len(loaded.plateifu):
            continue
        scores = loaded.means.scores
        for places, samples in zip(scores.by_place, scores.by_sample, strict=True):
            phrases.append(in_words(places, samples, store.line_names, velocity_kms))
        names += loaded.plateifu.tolist()
        parts.append(loaded.means.without_maps())
        explained.append(loaded.hypotheses)
        kept.append(shard)
    means, found = EnsembleMean.concatenate(parts), Hypotheses.concatenate(explained)
    return Survey(_identify(store, names), means, phrases, found, kept, ensemble)


def _identify(store: WindowStore, names: list[str]) -> pd.DataFrame:
    """The store's table of galaxies, in the order of scoring."""
    table = store.galaxies().set_index("plateifu")
    unknown = [name for name in names if name not in table.index]
    if unknown or table.index.has_duplicates:
        found = f"it lacks {', '.join(unknown[:3])}" if unknown else "it names a galaxy twice"
        raise StoreError(f"{store.path}/galaxies.parquet: damaged ({found}). {NEW_TABLES}")
    table = table.loc[names].reset_index()
    kept = ["plateifu", "mangaid", "z", "z_used", "ra_deg", "dec_deg", "split", "implausible", *LINE_RATIOS]
    return table[[name for name in kept if name in table]]


def labelled_finds(config: ProjectConfig, galaxies: pd.DataFrame) -> np.ndarray:
    """[galaxy] bool, galaxies with a label that means a detection, and other observations of the same objects."""
    labels = current(read(config.labels_path))
    finds = labels.index[[is_find(label, config.rerank.usual) for label in labels]]
    objects = galaxies.loc[galaxies["plateifu"].isin(finds), "mangaid"]
    return galaxies["mangaid"].isin(objects).to_numpy()


def score_columns(survey: Survey, found: SurveyScores, fdr: float) -> dict[str, Any]:
    """Columns `SURVEY_SCORES` of `modeling.catalog`."""
    scores: GalaxyScores = survey.means.scores
    codes = scores.code.astype(str)
    if "implausible" in survey.galaxies:  # not in stores of earlier versions
        # Implausible data override every other code.
        codes = np.where(survey.galaxies["implausible"].fillna("") != "", "implausible", codes)
    columns: dict[str, Any] = {
        "score_combined": found.combined,
        "score_nll": found.nll,
        **{f"score_{name}": getattr(found, name) for name in SIGNIFICANCES},
        "score_density": found.density,
        "score_spread": found.spread,
        "num_models": found.num_models.astype(np.int64),
        "p_value": found.p_value,
        "q_value": found.q_value,
        "is_find": np.nan_to_num(found.q_value, nan=1.0) <= fdr,
        "triage": codes.astype(object),
        "velocity_offset_kms": scores.velocity_kms,
    }
    found_names, texts = (values.tolist() for values in (survey.hypotheses.name, survey.hypotheses.text))
    columns |= {"hypothesis": found_names, "hypothesis_text": texts}
    columns["hypothesis_significance"] = survey.hypotheses.significance
    columns |= {f"hypothesis_{name}": values for name, values in zip(VALUES, survey.hypotheses.values.T, strict=True)}
    # A hypothesis comes first, or the two best where neither is clearly better: the line with the greatest residual may
    # be the wrong one, such as [N II] in the wing of a broad Halpha.
    reasons_of = [[*filter(None, [text]), *phrases] for text, phrases in zip(texts, survey.reasons, strict=True)]
    for i in range(NUM_REASONS):
        columns[f"reason_{i + 1}"] = [phrases[i] if i < len(phrases) else "" for phrases in reasons_of]
    return columns
