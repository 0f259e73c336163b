"""Links to the survey's page of each galaxy, and repeat observations of the same object."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from cubeprep.survey import facts_of, is_simulated, survey_facts
from jobs.config import ProjectConfig
from modeling.catalog import Column

SIMULATED = "simulated"
LINKS = {
    "url": Column("Page of the galaxy at its survey or archive; empty if there is none", kind="text"),
    "other_observations": Column(
        "plateifu of the other observations of the same object in this catalog", kind="list of text"
    ),
}
# Of a template of a page. A store may come from anybody, so `str.format` would be too powerful.
FIELD = re.compile(r"\{(plateifu|ra_deg|dec_deg)(?::(\.\d{1,2}f))?\}")


def survey_name(config: ProjectConfig) -> str:
    """Name of the survey that a project reads, or `simulated`."""
    if is_simulated(config.survey_root):
        return SIMULATED
    reader = config.survey.reader
    return reader if "." in reader else reader.partition("-")[0]


def with_links(
    table: pd.DataFrame, columns: Mapping[str, Column], survey: str
) -> tuple[pd.DataFrame, dict[str, Column]]:
    """A catalog's table and columns with `url` and `other_observations` added if missing."""
    derived: dict[str, Any] = {
        "url": page_urls(survey, table),
        "other_observations": other_observations(table["mangaid"].tolist(), table["plateifu"].tolist()),
    }
    missing = {name: values for name, values in derived.items() if name not in table}
    return table.assign(**missing), LINKS | dict(columns)


def page_urls(survey: str, table: pd.DataFrame) -> list[str]:
    """URL of each galaxy's page; empty if there is none, or if it needs a position that is unknown.

    Args:
        survey: name from `survey_name`; an unknown survey has no pages.
        table: plateifu and, if known, ra_deg and dec_deg.
    """
    facts = facts_of(survey)
    return _urls(facts.page_url if facts else "", table)


def page_urls_of_store(attrs: Mapping[str, Any], config: ProjectConfig, table: pd.DataFrame) -> list[str]:
    """URLs like those of `page_urls`, of galaxies of a store.

    Args:
        attrs: attributes of the `WindowStore`.
        config: decides for a store that records no facts of its survey, as those of earlier versions.
        table: as for `page_urls`.
    """
    if not attrs.get("survey_facts"):
        return page_urls(survey_name(config), table)
    # Commands after `prepare` need no `survey.root`, so only the store knows that its galaxies are simulated.
    return _urls(survey_facts(attrs).page_url, table)


def _urls(page: str, table: pd.DataFrame) -> list[str]:
    columns = [name for name in ("plateifu", "ra_deg", "dec_deg") if name in table]
    return [_url(page, row) for row in table[columns].to_dict("records")]


def other_observations(mangaid: Sequence[str], plateifu: Sequence[str]) -> list[list[str]]:
    """Other observations of the same object for each observation, in the order of the table."""
    of_object: dict[str, list[str]] = {}
    for galaxy, name in zip(mangaid, plateifu, strict=True):
        of_object.setdefault(galaxy, []).append(name)
    return [
        [other for other in of_object[galaxy] if other != name] for galaxy, name in zip(mangaid, plateifu, strict=True)
    ]


def _url(page: str, row: Mapping[Any, Any]) -> str:
    position = [row.get(name, np.nan) for name in ("ra_deg", "dec_deg")]
    if "{ra_deg" in page and not np.isfinite(position).all():
        return ""

    def value(field: re.Match[str]) -> str:
        name, form = field.groups()
        return quote(str(row["plateifu"])) if name == "plateifu" else format(row.get(name, np.nan), form or "")

    return FIELD.sub(value, page)
