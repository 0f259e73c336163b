"""Anomaly catalog: one Parquet row per galaxy, most unusual first, with units, descriptions and provenance inside.

Columns carry `description` and `unit` as Parquet field metadata; the file's schema metadata holds the provenance as
JSON under `cubescout`. Latents, which few readers need, are in a second file beside it (`latents_path`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from cubeprep.config import MistakeError
from cubeprep.files import replacing
from cubeprep.line_ratios import COLUMNS as LINE_RATIOS
from cubeprep.line_ratios import described as described_ratios
from cubeprep.redact import redact
from modeling.latents.neighbours import Neighbours
from modeling.latents.umap_map import Embedding
from modeling.scoring.hypotheses.explain import VALUES
from modeling.scoring.residual_sums import Scores

CATALOG_FORMAT = 1
METADATA_KEY = b"cubescout"
SHARE_PREFIX = "share_"
SCORE_AGAIN = "`cubescout score` makes it again."
TEXT = (pa.types.is_string, pa.types.is_large_string)
NUMBER = (pa.types.is_floating, pa.types.is_integer)
TRUTH = "true | false"
NEEDED = {"plateifu": TEXT, "mangaid": TEXT, "z": NUMBER, "rank": NUMBER, "score": NUMBER}


class CatalogError(ValueError):
    """Not an anomaly catalog, or one of another format."""


class NoCatalogError(CatalogError, MistakeError):
    """There is no catalog where a command looks for one."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Store(_Section):
    identity: str
    path: str = ""


class _Model(_Section):
    reference: str
    digest: str = ""
    trained_on: str = ""
    fold_digests: list[str] = []
    num_left_out: int = 1


class _Provenance(_Section):
    """Types of the recorded values that commands use; catalogs of earlier versions lack some of them."""

    store: _Store
    model: _Model
    created_utc: str = ""
    code_version: str = ""
    rank_by: Literal["combined", "unexplained", "chi2", "relative", "mae"] = "combined"
    spearman: dict[str, dict[str, float | None]] = {}
    config: dict[str, Any] = {}
    judges: list[dict[str, Any]] = []
    by_redshift: dict[str, Any] | None = None


@dataclass(frozen=True)
class Column:
    """Description, unit and type of a column; an empty unit is none."""

    description: str
    unit: str = ""
    kind: str = "number"


@dataclass(frozen=True)
class Catalog:
    """Catalog as read from its file.

    Attributes:
        table: one row per galaxy, by rank.
        columns: description and unit of each column.
        provenance: store, model and calibration that the catalog was made from, as JSON values.
    """

    table: pd.DataFrame
    columns: dict[str, Column]
    provenance: dict[str, Any]

    @property
    def created_utc(self) -> str:
        """Time at which it was made; empty for catalogs of early versions, which lack it."""
        return str(self.provenance.get("created_utc", ""))


IDENTITY = {
    "plateifu": Column("Observation", kind="text"),
    "mangaid": Column("Object; repeat observations share it", kind="text"),
    "z": Column("Redshift, as the survey gives it"),
    "z_used": Column("Redshift of the windows: z, or that of the lines where prepare.redshift.correct replaced it"),
    "ra_deg": Column("Right ascension, ICRS", "deg"),
    "dec_deg": Column("Declination, ICRS", "deg"),
    "split": Column(
        "Split of the store; scores of `train` are optimistic unless models were cross-fitted (num_models)",
        kind="text",
    ),
}

HYPOTHESIS_UNITS = {
    "velocity_kms": "km / s",
    "fwhm_kms": "km / s",
    "separation_kms": "km / s",
    "wave_angstrom": "Angstrom",
}
# Columns of `ensemble.SurveyScores`, and of the artefacts and explanations of `GalaxyScorer`.
SURVEY_SCORES = {
    "score_combined": Column(
        "Deviation of the most unusual line, where it is most unusual (autoencoders: mean with that of all lines), in "
        "units of the scatter among ordinary galaxies, corrected for flux, S/N, size and redshift"
    ),
    "score_nll": Column("Mean (residual_sigma^2 - 1) / 2 of good samples: excess negative log-likelihood, nats"),
    "score_region": Column(
        "Excess chi2 of the most unusual region of spaxels, in units of its spread in ordinary galaxies"
    ),
    "score_peak": Column("The same as score_region, of the most unusual line of the most unusual region"),
    "score_latent_region": Column(
        "score_region of the residuals from the prediction of the whole galaxy: from its latent alone, or from other "
        "spaxels"
    ),
    "score_latent_peak": Column("score_peak of the same residuals as score_latent_region"),
    "score_density": Column("Mean distance to the nearest other objects in standardised latents; high is isolated"),
    "score_spread": Column("Standard deviation of score_combined over models; empty where one model scored"),
    "num_models": Column(
        "Models that scored it: where models were cross-fitted, those that never saw the galaxy", kind="integer"
    ),
    "p_value": Column(
        "Conformal p-value of the score among validation galaxies not labelled as unusual (with 450 or more, those of "
        "similar S/N and size)"
    ),
    "q_value": Column("False discovery rate at which the galaxy is still a detection (Benjamini & Hochberg; Storey)"),
    "is_find": Column(
        "Whether the galaxy is a detection: q_value is within the nominal false discovery rate", kind=TRUTH
    ),
    "triage": Column(
        "Reason code of an artefact, whose samples do not count in the score; empty for none", kind="text"
    ),
    "velocity_offset_kms": Column("Velocity of the lines in their windows; empty where lines disagree", "km / s"),
    "hypothesis": Column(
        "Best physical or instrumental hypothesis for the most significant region; empty for none", kind="text"
    ),
    "hypothesis_text": Column("The hypothesis with its numbers and errors, in words", kind="text"),
    "hypothesis_significance": Column("Significance of the hypothesis over an ordinary galaxy, in standard deviations"),
    **{f"hypothesis_{name}": Column(text, HYPOTHESIS_UNITS.get(name, "")) for name, text in VALUES.items()},
    **{
        f"reason_{i}": Column("What is unusual, most significant first; empty for none", kind="text") for i in (1, 2, 3)
    },
}


def describe_columns(line_names: Sequence[str], flux_unit: str, rank_by: str) -> dict[str, Column]:
    """Descriptions and units of all columns, in order.

    Args:
        line_names: [line].
        flux_unit: of the store.
        rank_by: name of the score that ranks.
    """
    residual = "the absolute residual" if rank_by in ("mae", "relative") else "chi2"
    described = IDENTITY | {
        "rank": Column("1 is the most unusual galaxy, by `score`", kind="integer"),
        # The mean absolute residual is the one score that is not a ratio: it has the unit of the flux.
        "score": Column(f"The score that ranks: score_{rank_by}", flux_unit if rank_by == "mae" else ""),
        "score_mae": Column("Mean |flux - reconstruction| over good samples (arXiv:2602.18426)", flux_unit),
        "score_chi2": Column("Mean (flux - reconstruction)^2 ivar over good samples; 1 is pure noise"),
        "score_unexplained": Column(
            "(score_chi2 - 1) over the mean flux^2 ivar of good samples: signal left unexplained"
        ),
        "score_relative": Column("score_mae over the mean |flux| of good samples"),
        **SURVEY_SCORES,
        "total_flux": Column(
            "Sum of flux over good samples and spaxels, continuum included where windows hold it",
            unit_of_sum(flux_unit),
        ),
        "strongest_line": Column(
            "Line with the highest S/N of its flux summed over all spaxels; empty if there is none", kind="text"
        ),
        "strongest_line_snr": Column("That S/N; covariance between spaxels is not included, so it is an upper limit"),
        "median_snr": Column("Median S/N of a single sample, flux sqrt(ivar), over all good samples of all lines"),
        "num_good": Column("Good samples, over all lines and spaxels", kind="integer"),
        "top_line": Column(f"Line with the largest share of {residual}; empty if there is none", kind="text"),
    }
    described |= {name: Column(*text) for name, text in described_ratios().items()}
    described |= {
        f"{SHARE_PREFIX}{name}": Column(f"Share of {name} in {residual}; empty where it has no good sample")
        for name in line_names
    }
    described |= {f"umap_{i}": Column("Position on the 2-D map of latents") for i in (1, 2)}
    described |= {f"umap3_{i}": Column("Position on the 3-D map of latents") for i in (1, 2, 3)}
    return described | {
        "embedding": Column(
            "How the maps were made: umap; pca for fewer than 5 galaxies; none if latents are all equal", kind="text"
        ),
        "neighbours": Column(
            "plateifu of the nearest galaxies in standardised latents, nearest first", kind="list of text"
        ),
        "neighbour_distances": Column(
            "Euclidean distance to each neighbour in standardised latents", kind="list of number"
        ),
        "neighbour_same_object": Column(
            "Whether each neighbour is another observation of the same object", kind=f"list of ({TRUTH})"
        ),
    }


def build_table(
    galaxies: pd.DataFrame,
    scores: Scores,
    line_names: Sequence[str],
    *,
    maps: tuple[Embedding, Embedding],
    neighbours: Neighbours,
    survey_scores: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Table of the catalog, ordered by rank.

    Args:
        galaxies: one row per galaxy, in the order of all other arguments: plateifu, mangaid, z, split and, if known,
            z_used, ra_deg, dec_deg, and the columns of `cubeprep.line_ratios`.
        scores: of those galaxies.
        line_names: [line].
        maps: in two and in three dimensions.
        neighbours: of the rows of `galaxies`.
        survey_scores: values of the columns `SURVEY_SCORES`, if they were computed.
    """
    plateifu = galaxies["plateifu"].to_numpy()
    flat, deep = maps
    columns: dict[str, Any] = {name: galaxies[name].to_numpy() for name in IDENTITY if name in galaxies}
    columns |= {"rank": scores.rank, "score": scores.score, "score_mae": scores.mae, "score_chi2": scores.chi2}
    columns |= {"score_unexplained": scores.unexplained}
    columns |= {"score_relative": scores.relative, **(survey_scores or {})}
    columns |= {"total_flux": scores.total_flux, "strongest_line": _named(scores.strongest_line, line_names)}
    columns |= {"strongest_line_snr": scores.strongest_line_snr, "median_snr": scores.median_snr}
    columns |= {"num_good": scores.num_good, "top_line": _named(scores.top_line, line_names)}
    columns |= {name: galaxies[name].to_numpy(dtype=float) for name in LINE_RATIOS if name in galaxies}
    columns |= {f"{SHARE_PREFIX}{name}": scores.line_shares[:, i] for i, name in enumerate(line_names)}
    columns |= {f"umap_{i + 1}": flat.coordinates[:, i] for i in range(2)}
    columns |= {f"umap3_{i + 1}": deep.coordinates[:, i] for i in range(3)}
    columns |= {
        "embedding": flat.method,
        "neighbours": [list(plateifu[row]) for row in neighbours.index],
        "neighbour_distances": [list(row) for row in neighbours.distance],
        "neighbour_same_object": [list(row) for row in neighbours.same_object],
    }
    return pd.DataFrame(columns).sort_values("rank", ignore_index=True)


def unit_of_sum(flux_unit: str) -> str:
    """The unit of a flux that was summed over spaxels."""
    return flux_unit.replace(" spaxel", "")


def _named(index: np.ndarray, line_names: Sequence[str]) -> list[str]:
    """Names of lines by index; empty for -1."""
    return [line_names[i] if i >= 0 else "" for i in index]


def latents_path(path: Path) -> Path:
    """Path of the file of latents beside a catalog."""
    return path.with_name(f"{path.stem}.latents.parquet")


def write_catalog(
    path: Path, table: pd.DataFrame, columns: Mapping[str, Column], provenance: Mapping[str, Any]
) -> None:
    """Writes a catalog: whole or not at all.

    Args:
        path: file to write.
        table: of `build_table`.
        columns: description and unit of each column of the table.
        provenance: JSON values.

    Raises:
        ValueError: a column has no description.
    """
    unknown = [name for name in table.columns if name not in columns]
    if unknown:
        raise ValueError(f"columns without a description: {', '.join(unknown)}")
    arrow = pa.Table.from_pandas(table, schema=_schema(table), preserve_index=False)
    described = [
        arrow.schema.field(name).with_metadata({"description": columns[name].description, "unit": columns[name].unit})
        for name in arrow.column_names
    ]
    _write(path, arrow.cast(pa.schema(described, metadata=_metadata(provenance))))


def write_latents(path: Path, plateifu: Sequence[str], latent: np.ndarray, provenance: Mapping[str, Any]) -> None:
    """Writes latents, [galaxy, dimension] float32 as the encoder gives them, beside a catalog."""
    latent = np.ascontiguousarray(latent, dtype=np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(latent.ravel()), latent.shape[1])
    table = pa.table({"plateifu": pa.array(list(plateifu), pa.string()), "latent": lists})
    _write(path, table.replace_schema_metadata(_metadata(provenance)))


def read_latents(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Plateifu [galaxy] and latents [galaxy, dimension] float32 from a file of latents.

    Raises:
        CatalogError: there is no such file, or it is damaged.
    """
    table = _read_parquet(path, "latents")
    missing = [name for name in ("plateifu", "latent") if name not in table.column_names]
    if missing or not pa.types.is_fixed_size_list(table.schema.field("latent").type):
        held = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
        raise CatalogError(f"{path}: no file of latents; it has {held or 'no columns'}. {SCORE_AGAIN}")
    latent = table["latent"].combine_chunks()
    values = latent.flatten().to_numpy().reshape(len(table), latent.type.list_size)
    return np.asarray(table["plateifu"].to_pylist(), dtype=str), values


def read_catalog(path: Path) -> Catalog:
    """Catalog from its file.

    Raises:
        CatalogError: there is no file, or it is not a catalog, damaged, empty, or of another format.
    """
    arrow = _read_parquet(path, "catalog")
    try:
        content = json.loads((arrow.schema.metadata or {}).get(METADATA_KEY, b"{}"))
        found = content.get("catalog_format")
    except (ValueError, AttributeError, RecursionError) as error:
        raise CatalogError(f"{path}: its provenance is not JSON, or no mapping. {SCORE_AGAIN}") from error
    if found != CATALOG_FORMAT:
        raise CatalogError(f"{path}: catalog format {found}, this version of Cubescout reads {CATALOG_FORMAT}")
    _check_catalog(arrow, content.get("provenance"), path)
    columns = {field.name: _column_of(field) for field in arrow.schema}
    return Catalog(arrow.to_pandas(), columns, content["provenance"])


def _column_of(field: pa.Field) -> Column:
    description, unit = ((field.metadata or {}).get(key, b"").decode() for key in (b"description", b"unit"))
    return Column(description, unit, kind_of(field.type))


def kind_of(found: pa.DataType) -> str:
    """Type of a column in words, as in `Column.kind`."""
    if pa.types.is_list(found):
        inner = kind_of(found.value_type)
        return f"list of ({inner})" if " " in inner else f"list of {inner}"
    words = {TRUTH: pa.types.is_boolean, "integer": pa.types.is_integer, "number": pa.types.is_floating}
    return next((word for word, fits in words.items() if fits(found)), "text")


def _read_parquet(path: Path, kind: str) -> pa.Table:
    if not path.is_file():
        raise NoCatalogError(f"{path}: no {kind} here. `cubescout score` makes one.")
    if path.suffix != ".parquet":
        raise CatalogError(f"{path}: expected the .parquet file that `cubescout score` wrote")
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise CatalogError(f"{path}: not a readable Parquet file ({error}). {SCORE_AGAIN}") from error


def _check_catalog(arrow: pa.Table, provenance: Any, path: Path) -> None:
    """Checks the columns that all commands rely on, and that store and model are recorded.

    Raises:
        CatalogError: a column is missing or of the wrong type, there is no galaxy, or no provenance.
    """
    for name, fits in NEEDED.items():
        if name not in arrow.column_names:
            raise CatalogError(f"{path}: no column {name!r}. {SCORE_AGAIN}")
        kind = arrow.schema.field(name).type
        if not any(is_kind(kind) for is_kind in fits) or (arrow[name].null_count and name != "z"):
            raise CatalogError(f"{path}: column {name!r} holds {kind} or missing values. {SCORE_AGAIN}")
    if not len(arrow):
        raise CatalogError(f"{path}: the catalog holds no galaxy. {SCORE_AGAIN}")
    try:
        _Provenance.model_validate(provenance)
    except ValidationError as error:
        item = error.errors()[0]
        where = ".".join(["provenance", *map(str, item["loc"])])
        raise CatalogError(f"{path}: {where}: {item['msg']}. {SCORE_AGAIN}") from error


def check_recorded(catalog: Catalog, path: Path, names: Sequence[str]) -> None:
    """Checks that the provenance of a catalog holds what a command needs, such as `model.digest`.

    Raises:
        CatalogError: something is missing.
    """
    for name in names:
        section, _, key = name.rpartition(".")
        held = catalog.provenance.get(section, {}) if section else catalog.provenance
        if key not in held:
            raise CatalogError(f"{path}: provenance.{name} is missing. {SCORE_AGAIN}")


def line_names_of(table: pd.DataFrame) -> list[str]:
    """Names of the lines that the catalog holds shares of, in order."""
    return [name.removeprefix(SHARE_PREFIX) for name in table.columns if name.startswith(SHARE_PREFIX)]


def _schema(table: pd.DataFrame) -> pa.Schema:
    """Schema that does not depend on the rows: pyarrow cannot infer the type of an empty list."""
    lists = {
        "neighbours": pa.string(),
        "neighbour_distances": pa.float64(),
        "neighbour_same_object": pa.bool_(),
        "other_observations": pa.string(),
    }
    inferred = pa.Schema.from_pandas(table.drop(columns=list(lists), errors="ignore"), preserve_index=False)
    fields = [
        pa.field(name, pa.list_(lists[name])) if name in lists else inferred.field(name) for name in table.columns
    ]
    return pa.schema(fields)


def _metadata(provenance: Mapping[str, Any]) -> dict[bytes, bytes]:
    content = {"catalog_format": CATALOG_FORMAT, "provenance": dict(provenance)}
    return {METADATA_KEY: redact(json.dumps(content)).encode()}


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
