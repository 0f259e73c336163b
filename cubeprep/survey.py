"""Configuration of a survey, its reader and facts, and the selection of its galaxies."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from cubeprep.config import Config, ConfigError, MistakeError
from cubeprep.cube import CubeReader, MapReader, Target
from cubeprep.facts import SurveyFacts
from cubeprep.registry import check_reader_name, known_readers, reader_class
from cubeprep.storage import is_remote
from cubeprep.words import closest, suggestion

SIMULATED_SURVEY = "simulate.json"  # `cubescout simulate` writes it to the root of its survey


FARTHEST = 20.0  # no galaxy's redshift is larger


class SurveyConfig(Config):
    """Files of a survey, and the selection of galaxies."""

    reader: str = Field("manga-logcube", description="Name of a reader, or package.module of your own")
    root: str | None = Field(None, description="Folder or URL with the cubes; default: the output of `simulate`")
    table: str | None = Field(
        None, description="Table of the survey (path or URL); default: drpall*.fits in the root (MaNGA)"
    )
    maps_root: str | None = Field(
        None, description="manga-logcube: folder or URL with the DAP MAPS that prepare.velocity reads"
    )
    galaxies: tuple[str, ...] | None = Field(None, description="Only these observations (plateifu); default: all found")
    z_min: float = Field(0.0, description="Lowest redshift; galaxies below it are rejected")
    z_max: float = Field(
        0.08, description="Highest redshift; 0.08 is the paper's limit. MaNGA covers the 19 default lines up to 0.5"
    )
    reject_quality: tuple[str, ...] = Field(
        ("CRITICAL",), description="Names of the survey's quality bits whose galaxies are rejected"
    )
    mask_bits: tuple[str, ...] | None = Field(
        None, description="Names of the survey's mask bits that mask a sample; default: the reader's"
    )
    duplicates: Literal["keep", "first", "best"] = Field(
        "keep",
        description="Repeat observations of an object: keep all, the first by plateifu, or the best (fewest quality "
        "bits, then deepest)",
    )
    line_map: Literal["GFLUX", "SFLUX"] = Field(
        "GFLUX", description="manga-maps: fluxes of Gaussian fits, or summed fluxes"
    )

    @field_validator("galaxies", mode="before")
    @classmethod
    def _names_as_text(cls, names: Any) -> Any:
        """Names that YAML takes for whole numbers, such as 41144."""
        if not isinstance(names, list | tuple):
            return names
        return tuple(str(name) if type(name) is int else name for name in names)

    @field_validator("reader")
    @classmethod
    def _known_reader(cls, name: str) -> str:
        return check_reader_name(name)


def make_reader(config: SurveyConfig) -> Any:
    """Reader of a survey: a `CubeReader` or a `MapReader` that also has `find_targets()`.

    Raises:
        ConfigError: the reader cannot be imported.
        MistakeError: the survey has no mask bit or quality bit of a configured name.
    """
    made = reader_class(config.reader)
    try:
        return made(config)
    except ValueError as error:
        raise MistakeError(str(error)) from error


def facts_of(name: str) -> SurveyFacts | None:
    """Facts of a survey; None if its reader is unknown or not installed.

    Args:
        name: name of a reader (`manga-maps`), the part of it before a dash (`manga`), or `package.module`.
    """
    matching = [name] if "." in name else [known for known in known_readers() if f"{known}-".startswith(f"{name}-")]
    try:
        return None if not name or not matching else reader_class(matching[0]).facts
    except ConfigError:  # the store was made elsewhere, by a reader that is not installed here
        return None


def facts_of_files(config: SurveyConfig, reader: Any) -> SurveyFacts:
    """Facts of the reader's survey, without the page URL for simulated galaxies, which have no public pages."""
    facts: SurveyFacts = reader.facts
    return replace(facts, page_url="") if is_simulated(str(config.root)) else facts


def is_simulated(root: str) -> bool:
    """Whether the files below a root were made by `cubescout simulate`."""
    return not is_remote(root) and (Path(root) / SIMULATED_SURVEY).is_file()


def survey_facts(attrs: Mapping[str, Any]) -> SurveyFacts:
    """Facts of the survey that a store was made from, with the spaxel size of the store's own grid.

    A store of an earlier version does not record them and gets those of its reader.

    Args:
        attrs: attributes of a `WindowStore`.
    """
    config = attrs.get("config", {})
    kept = attrs.get("survey_facts")
    # A store names a reader, and never imports its module.
    reader = str(config.get("survey", {}).get("reader", ""))
    found = SurveyFacts.from_json(kept) if kept else facts_of(reader if "." not in reader else "")
    facts = found or SurveyFacts(str(attrs.get("flux_unit", "")))
    windows = config.get("prepare", {}).get("windows", {})
    space = windows.get("space", "crop")
    if facts.spaxel_arcsec is None or space == "crop":
        return facts
    # A grid in units of the effective radius differs from galaxy to galaxy.
    return replace(facts, spaxel_arcsec=facts.spaxel_arcsec * windows["bin_factor"] if space == "bin" else None)


def select_targets(config: SurveyConfig, reader: Any) -> list[Target]:
    """Targets of a survey, sorted by plateifu; those outside the selection carry the reason of their rejection.

    Args:
        config: selection of the galaxies.
        reader: reader of the survey.

    Raises:
        MistakeError: no galaxy is found, or several files or table rows have one plateifu.
    """
    found = list(reader.find_targets())
    if others := [item for item in found if not isinstance(item, Target)]:
        shown = f"{config.reader}: find_targets gives {others[0]!r}, expected cubeprep.cube.Target"
        raise ConfigError("survey.reader", [f"{shown}; see docs/new-reader.md"])
    targets = sorted(found, key=lambda target: target.plateifu)
    if config.galaxies is not None:
        targets = _only(targets, config.galaxies)
    if not targets:
        raise MistakeError(f"{config.root}: no galaxies of the kind {config.reader} found")
    repeated = [name for name, count in Counter(target.plateifu for target in targets).items() if count > 1]
    if repeated:
        raise MistakeError(f"{config.root}: several files or table rows for {', '.join(repeated[:5])}")
    return _without_duplicates([_checked(target, config) for target in targets], config)


def _only(targets: list[Target], wanted: tuple[str, ...]) -> list[Target]:
    found = {target.plateifu: target for target in targets}
    return [found.get(name) or _absent(name, found) for name in sorted(set(wanted))]


def _absent(name: str, known: Iterable[str]) -> Target:
    reason = f"{name}: no such observation found{suggestion(closest(name, known, 3))}"
    return Target(name, name, np.nan, np.nan, np.nan, (), rejected=("missing_file", reason))


def _checked(target: Target, config: SurveyConfig) -> Target:
    """The target, rejected with a reason if it is outside the selection."""
    if target.rejected:
        return target
    where = target.paths[0] if target.paths else target.plateifu
    if not np.isfinite(target.z) or target.z <= -1:
        return replace(target, rejected=("no_redshift", f"{where}: the survey's table has no redshift for it"))
    if target.z == 0:  # exactly, as no galaxy has
        return replace(target, rejected=("no_redshift", f"{where}: its redshift is 0, which stands for an unknown one"))
    if not config.z_min <= target.z <= config.z_max:
        limits = f"survey.z_min = {config.z_min:g} to survey.z_max = {config.z_max:g}"
        doubt = " (is it a velocity in km/s?)" if target.z > FARTHEST else ""
        return replace(target, rejected=("redshift_range", f"{where}: z = {target.z:.5f} is outside {limits}{doubt}"))
    bad = [name for name in target.quality if name in config.reject_quality]
    if bad:
        return replace(target, rejected=("quality", f"{where}: the survey's quality flag has {', '.join(bad)}"))
    return target


def _without_duplicates(targets: list[Target], config: SurveyConfig) -> list[Target]:
    """Rejects all but one of the observations of an object; those rejected already are not considered."""
    if config.duplicates == "keep":
        return targets
    repeats: dict[str, list[Target]] = {}
    for target in targets:
        if not target.rejected:
            repeats.setdefault(target.mangaid, []).append(target)
    kept = {
        mangaid: some[0] if config.duplicates == "first" else min(some, key=_rank) for mangaid, some in repeats.items()
    }

    def checked(target: Target) -> Target:
        best = kept.get(target.mangaid, target)
        if target.rejected or target is best:
            return target
        reason = f"{target.paths[0]}: {target.mangaid} was observed as {best.plateifu} too, which is kept: "
        return replace(target, rejected=("duplicate", reason + _why(best, target, config)))

    return [checked(target) for target in targets]


def _rank(target: Target) -> tuple[int, float, str]:
    """Sort key that puts better observations first: fewest quality bits, then deepest, then by name."""
    return len(target.quality), -target.depth if np.isfinite(target.depth) else np.inf, target.plateifu


def _why(best: Target, other: Target, config: SurveyConfig) -> str:
    """Reason why one of two observations was kept."""
    if config.duplicates == "best" and len(best.quality) < len(other.quality):
        return f"it has {len(best.quality)} quality bits against {len(other.quality)}"
    if config.duplicates == "best" and _rank(best)[1] < _rank(other)[1]:
        return f"it is deeper, {best.depth:.4g} against {other.depth:.4g}"
    return "it is the first by name"


__all__ = [
    "CubeReader",
    "MapReader",
    "SurveyConfig",
    "SurveyFacts",
    "facts_of",
    "make_reader",
    "select_targets",
    "survey_facts",
]
