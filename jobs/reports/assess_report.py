"""Report of `assess` in Markdown, and as one self-contained HTML file."""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from cubeprep.words import counted
from jobs.tables.label_tables import Labels
from modeling.catalog import Catalog
from modeling.labels.label_statistics import LEVEL, Assessment, Estimate

CAPTIONS = {
    "scores": "Distribution of the scores of all assessed galaxies and of each label, each normalised to 1.",
    "roc": "ROC curves of the score. The diagonal is chance.",
    "latents": "Galaxies of each label on the map of latents.",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #d0d7de; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
img { max-width: 100%; height: auto }
"""
LEGEND = f"""Intervals contain {LEVEL:.0%} of a bootstrap over objects; those of AUROC also Newcombe's (2006), which
is the wider for few galaxies. AUROC: the probability that a galaxy with the label scores higher than one without it
(0.5 by chance). Top k%: over-representation of the label among the highest scores (1 by chance); 0.00 (0.00 to 0.00)
means that none of its galaxies is there, which does not exclude a higher rate."""


def results_table(assessed: Mapping[str, Assessment], by_score: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """One row per label: counts, estimates with intervals, and AUROC of each score."""
    return pd.DataFrame(
        [
            {"label": name, "num_labelled": found.num_labelled, "num_others": found.num_others}
            | _columns("auroc", found.auroc)
            | {
                key: value
                for percentage, estimate in found.enrichment.items()
                for key, value in _columns(f"enrichment_top_{percentage:g}", estimate).items()
            }
            | _columns("neighbour_purity", found.purity)
            | {"purity_by_chance": found.chance}
            | {f"auroc_{score}": value for score, value in by_score[name].items()}
            for name, found in assessed.items()
        ]
    )


def describe(catalog: Catalog, labels: Labels, path: Path, assessed: Mapping[str, Assessment]) -> dict[str, Any]:
    """Facts for the introduction of the report, as JSON values."""
    few = [f"{name} ({chosen.sum()})" for name, chosen in labels.labelled.items() if name not in assessed]
    return {
        "table": path.name,
        "source": labels.source,
        "num_rows": labels.num_rows,
        "num_assessed": len(labels.plateifu),
        "num_catalog": len(catalog.table),
        "num_trained": num_trained(catalog),
        "few": few,
        "score": f"score_{catalog.provenance.get('rank_by', '')}".rstrip("_"),
        "model": catalog.provenance.get("model", {}).get("reference", "unknown"),
        "created": datetime.now(UTC).isoformat(timespec="minutes"),
    }


def num_trained(catalog: Catalog) -> int:
    """Number of galaxies scored by a model that was trained on them; 0 if models were cross-fitted."""
    provenance = catalog.provenance
    here = provenance.get("model", {}).get("trained_on") in ("", provenance.get("store", {}).get("identity"))
    if not here or len(provenance.get("judges", [])) > 1:
        return 0
    return int((catalog.table["split"] == "train").sum())


def markdown_of(facts: Mapping[str, Any], results: pd.DataFrame, plots: list[str]) -> str:
    """Report in Markdown, which refers to plots in files beside it.

    Args:
        facts: facts of `describe`.
        results: table of `results_table`.
        plots: names of the plots, keys of `CAPTIONS`; their files are `NAME.png`.
    """
    lines = [
        f"# Labels of {as_text(facts['table'])} in score and latent space",
        "",
        *_introduction(facts),
        "",
        "## Ranks",
        "",
    ]
    tops = [
        name.removesuffix("_low")
        for name in map(str, results)
        if name.startswith("enrichment") and name.endswith("_low")
    ]
    header = ["label", "galaxies", "others", "AUROC", *(f"top {name.rsplit('_', 1)[1]}%" for name in tops)]
    lines += _table(
        header,
        [
            [as_text(row["label"]), str(row["num_labelled"]), str(row["num_others"])]
            + [_interval(row, name) for name in ("auroc", *tops)]
            for row in results.to_dict("records")
        ],
    )
    lines += [
        "",
        LEGEND,
        "",
        "## Latent space",
        "",
    ]
    lines += _table(
        ["label", "same label among 10 neighbours", "by chance"],
        [
            [as_text(row["label"]), _interval(row, "neighbour_purity"), f"{row['purity_by_chance']:.2f}"]
            for row in results.to_dict("records")
        ],
    )
    scores = [name for name in map(str, results) if name.startswith("auroc_score")]
    lines += ["", "## AUROC by each score", ""]
    lines += _table(
        ["label", *(name.removeprefix("auroc_") for name in scores)],
        [[as_text(row["label"]), *(f"{row[name]:.2f}" for name in scores)] for row in results.to_dict("records")],
    )
    for name in plots:
        lines += ["", f"![{CAPTIONS[name]}]({name}.png)", "", CAPTIONS[name]]
    return "\n".join(lines) + "\n"


def html_of(markdown: str, folder: Path) -> str:
    """Report as one HTML document with the plots of `folder` embedded."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)

    def inline(match: re.Match[str]) -> str:
        content = base64.b64encode((folder / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{content}"'

    body = re.sub(r'src="([\w-]+\.png)"', inline, body)
    title = re.sub("<.*?>", "", body.partition("</h1>")[0])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def as_text(value: object) -> str:
    """Markdown that shows a text literally, since names and labels may contain links, images or HTML."""
    return re.sub(r"([\\`*_\[\]<>&!|~#])", r"\\\1", " ".join(str(value).split()))


def _introduction(facts: Mapping[str, Any]) -> list[str]:
    counts = f"{facts['num_assessed']} of the {counted(facts['num_catalog'], 'galaxy')} of the catalog are assessed"
    lines = [
        f"Labels: {as_text(facts['source'])}, {counted(facts['num_rows'], 'row')}. {counts}.",
        f"Ranked by {as_text(facts['score'])} of {as_text(facts['model'])}. {facts['created']}.",
    ]
    if facts["num_trained"]:
        lines.append(
            f"The model was trained on {counted(facts['num_trained'], 'galaxy')} of the catalog; their "
            "scores are biased low."
        )
    if facts["few"]:
        lines.append(
            f"Too few galaxies with or without the label for a measurement: {as_text(', '.join(facts['few']))}."
        )
    lines.append("Labels are not the truth about anomaly: never tune a model on them.")
    return [line for text in lines for line in (text, "")][:-1]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    return [line(header), "|" + "---|" * len(header), *map(line, rows)]


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _interval(row: Mapping[Any, Any], name: str) -> str:
    return str(Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"]))
