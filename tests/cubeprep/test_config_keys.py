"""Descriptions of configuration keys, taken from the classes."""

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field

from cubeprep.config import Config, ConfigError
from cubeprep.config_keys import REQUIRED, config_keys, find_keys
from jobs.config import ProjectConfig


class Inner(Config):
    limit_kms: float | None = Field(None, gt=0, lt=1e4, description="A limit")
    side: int = Field(4, ge=1, multiple_of=4, description="A side", json_schema_extra={"unit": "spaxel"})
    named_bits: tuple[str, ...] = Field(("A", "no"), description="Names, which have no unit")


class Outer(Config):
    folder: Path = Field(description="A folder")
    kind: Literal["one", "none"] | tuple[int, ...] = Field("none", description="A choice")
    shares: dict[int, float] = Field({19: 2.0}, description="Shares")
    limits: tuple[float, float] = Field((0.5, 1.0), description="Limits")
    inner: Inner = Field(Inner(side=8), description="A section")


KEYS = {key.path: key for key in config_keys(Outer)}


@pytest.mark.parametrize(
    ("path", "kind", "default", "constraints", "unit"),
    [
        ("folder", "path", REQUIRED, "", ""),
        ("kind", "one | none | list of integer", "none", "", ""),
        ("shares", "mapping of integer to number", "{19: 2.0}", "", ""),
        ("limits", "list of 2 number", "[0.5, 1.0]", "", ""),
        ("inner", "section", "", "", ""),
        ("inner.limit_kms", "number | null", "null", "> 0, < 10000.0", "km / s"),
        ("inner.side", "integer", "8", ">= 1, a multiple of 4", "spaxel"),
        ("inner.named_bits", "list of text", "[A, 'no']", "", ""),
    ],
)
def test_a_key_is_described_by_its_field(path: str, kind: str, default: str, constraints: str, unit: str) -> None:
    key = KEYS[path]
    assert (key.kind, key.default, key.constraints, key.unit) == (kind, default, constraints, unit)
    assert key.is_section == (path == "inner")


def test_sections_come_before_their_keys_and_text_leaves_out_what_is_empty() -> None:
    assert list(KEYS) == ["folder", "kind", "shares", "limits", "inner"] + [
        f"inner.{name}" for name in ("limit_kms", "side", "named_bits")
    ]
    assert KEYS["inner.side"].text.splitlines() == [
        "inner.side: A side",
        "  type         integer",
        "  default      8",
        "  constraints  >= 1, a multiple of 4",
        "  unit         spaxel",
    ]
    assert KEYS["inner"].text.splitlines() == ["inner: A section", "  type         section"]


def test_a_section_is_found_with_its_keys_and_an_unknown_key_with_a_hint() -> None:
    assert [key.path for key in find_keys(Outer, "inner")] == [path for path in KEYS if path.startswith("inner")]
    assert [key.path for key in find_keys(Outer, "inner.side")] == ["inner.side"]
    with pytest.raises(ConfigError, match=r"inner\.sides: 1 mistake\n.*did you mean inner\.side\?"):
        find_keys(Outer, "inner.sides")
    with pytest.raises(ConfigError, match=r"did you mean inner\.limit_kms\?"):
        find_keys(Outer, "limit_kms")
    with pytest.raises(ConfigError, match=r"unknown key; known are folder, .*inner"):
        find_keys(Outer, "nonsense")


def default_of(section: Any, path: str) -> Any:
    for name in path.split("."):
        section = getattr(section, name)
    return section


def test_defaults_of_the_project_are_yaml_that_the_configuration_accepts() -> None:
    keys = [key for key in config_keys(ProjectConfig) if not key.is_section]
    assert len(keys) > 100
    tree: dict[str, Any] = {"workspace": "runs"}
    for key in keys:
        assert "\n" not in key.default
        if key.default != REQUIRED:
            *parents, leaf = key.path.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = yaml.safe_load(key.default)
    assert ProjectConfig.model_validate(tree) == ProjectConfig(workspace=Path("runs"))
    assert [key.path for key in keys if key.default == REQUIRED] == ["workspace"]
