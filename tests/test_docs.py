"""README.md and docs/ name only modules, files and configuration keys that exist."""

import re
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from cubeprep.config import Config
from jobs.config import ProjectConfig
from jobs.console.command import JOBS, TOOLS
from modeling.training.config import TrainingJob
from tests.test_architecture import ROOT, modules_of

PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "reference").glob("*.md")], key=str
)
PACKAGES = ("benchmarks", "cubeprep", "jobs", "modeling", "tests")
# `package/path.py`, also with another suffix or none, and `package.module` with attributes of it.
PATH = re.compile(rf"\b(?:{'|'.join(PACKAGES)})/[\w/]*\w(?:\.\w+)?")
DOTTED = re.compile(rf"(?<![\w./@-])(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
CODE = re.compile(r"`([^`\n]+)`")
KEY = re.compile(r"[a-z_]+(?:\.[a-z_0-9]+)+")
SUFFIXES = (".csv", ".fits", ".html", ".json", ".jsonl", ".md", ".npz", ".parquet", ".py", ".vot", ".yaml")
LINK = re.compile(r"\]\(([^)#\s]+)\)")


@cache
def all_modules() -> dict[str, Path]:
    return {module: path for package in PACKAGES for module, path in modules_of(package).items()}


def is_module_or_attribute(name: str) -> bool:
    """Whether a dotted name is a module, or a name that is defined in one."""
    modules = all_modules()
    if name in modules:
        return True
    module, _, attribute = name.rpartition(".")
    if module not in modules:
        return False
    return re.search(rf"^(?:def|class) {attribute}\b|^{attribute}\b.*=", modules[module].read_text(), re.M) is not None


def config_keys(section: type[Config], prefix: str = "") -> dict[str, str]:
    """Descriptions of all dotted keys of a configuration, those of sections included."""
    keys = {}
    for name, field in section.model_fields.items():
        keys[prefix + name] = field.description or ""
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Config):
                keys |= config_keys(kind, f"{prefix}{name}.")
    return keys


def unknown_keys(text: str) -> set[str]:
    """Names in backticks that look like keys of a section of the configuration and are none."""
    keys = config_keys(ProjectConfig).keys()
    sections = {key.partition(".")[0] for key in keys if "." in key}
    named = {match[0] for code in CODE.findall(text) for match in [re.match(KEY, code)] if match}
    files = {name for name in named if Path(name).suffix in SUFFIXES}
    return {name for name in named - files if name.partition(".")[0] in sections and name not in keys}


def test_the_checks_see_what_is_wrong() -> None:
    assert PATH.findall("see `modeling/nowhere.py` and modeling.scoring.nothing") == ["modeling/nowhere.py"]
    assert DOTTED.findall("see `modeling/nowhere.py` and modeling.scoring.nothing") == ["modeling.scoring.nothing"]
    assert is_module_or_attribute("modeling.scoring.attribution.read_attribution")
    assert not is_module_or_attribute("modeling.scoring.attribution.write_nothing")
    assert unknown_keys("`train.epochs`, `train.epoch: 3` and `prepare.windows.size`") == {"train.epoch"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_modules_files_and_links_that_exist(page: Path) -> None:
    text = page.read_text()
    # `NAME` stands for any name.
    missing: list[Any] = [path for path in PATH.findall(text) if "NAME" not in path and not (ROOT / path).exists()]
    missing += [name for name in DOTTED.findall(text) if not is_module_or_attribute(name)]
    missing += [link for link in LINK.findall(text) if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_configuration_keys_that_exist(page: Path) -> None:
    assert unknown_keys(page.read_text()) == set()


@pytest.mark.parametrize("section", [ProjectConfig, TrainingJob])
def test_every_section_and_key_has_a_description(section: type[Config]) -> None:
    assert [key for key, text in config_keys(section).items() if len(text.split()) < 2] == []


def test_the_picture_shows_every_command_of_the_pipeline() -> None:
    shown = re.findall(r'class="command"[^>]*>([^<]+)<', (ROOT / "docs" / "architecture.svg").read_text())
    beside = {"submit", "demo", "doctor", "config", "columns"}
    assert sorted(shown) == sorted({*JOBS, *TOOLS} - beside)


def test_the_picture_shows_every_room_and_no_other() -> None:
    shown = set(re.findall(r'class="room"[^>]*>([^<]+)<', (ROOT / "docs" / "architecture.svg").read_text()))
    folders = {
        f"{path.name}/"
        for package in ("cubeprep", "modeling", "jobs")
        for path in (ROOT / package).iterdir()
        if (path / "__init__.py").is_file()
    }
    assert {name for name in shown if name.endswith("/")} == folders
    assert all((ROOT / "cubeprep" / name).exists() or (ROOT / "modeling" / name).exists() for name in shown - folders)
