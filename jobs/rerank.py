"""Ranks the catalog again by labels, and suggests which galaxies to label next.

Reads catalog.parquet, catalog.latents.parquet and labels.jsonl. A label in `rerank.usual` (`usual`, `artefact` ...)
means that a galaxy is not interesting; any other label means a detection. A Gaussian process on latents, scores, the
excess of each line and the hypothesis predicts how labels differ from the score's ranking: galaxies similar to labelled
detections move up, those similar to rejected ones move down. Without labels the ranking is that of the score.

Writes ranking.parquet beside the catalog: rank_by_labels, the expected label (1 is a detection), its uncertainty, and
`ask`, the order in which labels would help most. One round: `cubescout rerank CONFIG`, look at the galaxies it
suggests, `cubescout label CONFIG 8485-1901=blueberry 8485-1902=artefact`, and repeat.
"""

import hashlib
import io
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from cubeprep.storage import write_file
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, command
from jobs.console.progress import console
from jobs.tables.features import by_line_of, latents_of, scores_of
from modeling.catalog import METADATA_KEY, read_catalog
from modeling.labels.labels import catalog_version, current, is_find, read
from modeling.labels.rerank import Reranker, Reranking, ask_next
from modeling.latents.neighbours import standardise

NUM_TOP = 50


def run(config: ProjectConfig) -> int:
    """Writes the ranking and prints which galaxies to label next; returns the exit code."""
    catalog = read_catalog(config.catalog_path)
    said = current(read(config.labels_path))
    table = catalog.table.assign(label=[said.get(name, "") for name in catalog.table["plateifu"]])
    labels = finds_of(table["label"], config.rerank.usual)
    latent = standardise(latents_of(table, config.catalog_path))
    hypothesis = table["hypothesis"].fillna("").to_numpy(dtype=str) if "hypothesis" in table else None
    by_line = by_line_of(table, config.catalog_path, catalog.created_utc)
    reranker = Reranker(latent, table["score"].to_numpy(), scores_of(table), by_line, hypothesis)
    found = reranker(labels)
    asked = ask_next(reranker, labels, table["mangaid"].to_numpy(dtype=object), config.rerank.num_next)
    ranking = ranking_table(table, found, asked)
    provenance = {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "catalog": catalog_version(config.catalog_path),
        "num_labels": len(labels),
        "labels_sha256": hashlib.sha256(said.sort_index().to_json().encode()).hexdigest(),
        "usual": list(config.rerank.usual),
    }
    write_file(str(config.ranking_path), _encoded(ranking, provenance))
    _print(config, ranking, labels, num_unknown=int((~said.index.isin(table["plateifu"])).sum()))
    return EXIT_OK


def finds_of(labels: pd.Series, usual: tuple[str, ...]) -> dict[int, bool]:
    """Whether each labelled row is a detection, by row number; rows without a label are left out."""
    return {row: is_find(label, usual) for row, label in enumerate(labels) if label}


def ranking_table(table: pd.DataFrame, found: Reranking, asked: np.ndarray) -> pd.DataFrame:
    """One row per galaxy, most likely detections first."""
    ask = np.zeros(len(table), dtype=np.int64)
    ask[asked] = np.arange(1, len(asked) + 1)
    columns = {
        "plateifu": table["plateifu"],
        "rank_by_labels": found.rank,
        "expected": found.value,
        "uncertainty": found.uncertainty,
        "rank": table["rank"],
        "score": table["score"],
        "label": table["label"],
        "ask": ask,
    }
    return pd.DataFrame(columns).sort_values("rank_by_labels", ignore_index=True)


def _encoded(ranking: pd.DataFrame, provenance: dict[str, Any]) -> bytes:
    arrow = pa.Table.from_pandas(ranking, preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(arrow.replace_schema_metadata({METADATA_KEY: json.dumps(provenance).encode()}), buffer)
    return buffer.getvalue()


def _print(config: ProjectConfig, ranking: pd.DataFrame, labels: dict[int, bool], num_unknown: int) -> None:
    finds = sum(labels.values())
    console.print(
        f"{counted(len(labels), 'label')} ({counted(finds, 'detection')}) for {counted(len(ranking), 'galaxy')}",
        markup=False,
    )
    if num_unknown:
        console.print(f"{counted(num_unknown, 'label')} of galaxies outside this catalog left out")
    if labels and len(ranking) > NUM_TOP:
        new = ranking.head(NUM_TOP).query("rank > @NUM_TOP and label == ''")
        outside = f"have no label and are not among the first {NUM_TOP} by score"
        console.print(f"Of the {NUM_TOP} most likely detections, {len(new)} {outside}")
    console.print(f"Ranking: {config.ranking_path}", markup=False)
    if not ranking["ask"].any():
        console.print("All galaxies have a label; none is left to label next")
        return
    table = Table(title="To label next (expected label: 1 for a detection, 0 for none)", title_justify="left")
    for name in ("plateifu", "expected", "uncertainty", "rank_by_labels", "rank"):
        table.add_column(name, justify="left" if name == "plateifu" else "right")
    for row in ranking[ranking["ask"] > 0].sort_values("ask").to_dict("records"):
        numbers = (f"{row['expected']:.2f}", f"{row['uncertainty']:.2f}", str(row["rank_by_labels"]), str(row["rank"]))
        table.add_row(row["plateifu"], *numbers)
    console.print(table)


if __name__ == "__main__":
    command("rerank")()
