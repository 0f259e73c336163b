"""Keys of a configuration as text: type, default, constraints, unit and meaning, taken from its pydantic classes.

The reference page of the documentation and `cubescout config KEY` both show this.
"""

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from cubeprep.config import Config, ConfigError
from cubeprep.words import closest, suggestion

REQUIRED = "required"
NAMES: dict[Any, str] = {int: "integer", float: "number", bool: "true | false", str: "text", Path: "path"}
NAMES |= {type(None): "null", Any: "any value"}
# The last word of a numeric key is its unit; keys without one name it as `json_schema_extra={"unit": ...}`.
UNITS = {
    "kms": "km / s",
    "arcsec": "arcsec",
    "spaxels": "spaxel",
    "dex": "dex",
    "re": "Re",
    "s": "s",
    "mib": "MiB",
    "bits": "bit",
}
# Attributes of the constraints in a field's metadata.
CONSTRAINTS = {
    "ge": ">= {}",
    "gt": "> {}",
    "le": "<= {}",
    "lt": "< {}",
    "multiple_of": "a multiple of {}",
    "min_length": "at least {} long",
    "pattern": "matches {}",
}


@dataclass(frozen=True)
class ConfigKey:
    """Description of one key of a configuration.

    Attributes:
        path: dotted path, as `--set` takes it.
        kind: type of the value, in words; `section` for a section.
        default: as YAML; `required` if there is none, empty for a section.
        constraints: such as `>= 1`; empty for none.
        unit: empty for none.
        description: meaning of the key.
    """

    path: str
    kind: str
    default: str
    constraints: str
    unit: str
    description: str

    @property
    def is_section(self) -> bool:
        """Whether the key is a section, which contains other keys."""
        return self.kind == "section"

    @property
    def text(self) -> str:
        """Description in a few lines of plain text."""
        facts = {"type": self.kind, "default": self.default, "constraints": self.constraints, "unit": self.unit}
        lines = [f"  {name:<12} {value}" for name, value in facts.items() if value]
        return "\n".join([f"{self.path}: {self.description}", *lines])


def config_keys(model: type[Config]) -> list[ConfigKey]:
    """Descriptions of all keys of a configuration in their order, each section before its keys.

    Args:
        model: class of the configuration.
    """
    return list(_keys(model, model.model_construct(), ""))


def find_keys(model: type[Config], path: str) -> list[ConfigKey]:
    """Description of a key, and of all keys in it if it is a section.

    Args:
        model: class of the configuration.
        path: dotted path of the key.

    Raises:
        ConfigError: there is no such key; the message names the closest one.

    Examples:
        >>> from cubeprep.augment import AugmentConfig
        >>> print(find_keys(AugmentConfig, "max_shift")[0].text)
        max_shift: Largest shift along each axis; 0: no shifts
          type         integer
          default      5
          constraints  >= 0
          unit         spaxel
    """
    keys = config_keys(model)
    found = [key for key in keys if key.path == path or key.path.startswith(f"{path}.")]
    if not found:
        paths = [key.path for key in keys]
        close = [key for key in paths if key.endswith(f".{path}")] or closest(path, paths)
        hint = suggestion(close[:1], "; known are " + ", ".join(model.model_fields))
        raise ConfigError(path, [f"unknown key{hint}"])
    return found


def _keys(section: type[Config], defaults: Any, prefix: str) -> Iterator[ConfigKey]:
    for name, field in section.model_fields.items():
        path, description = prefix + name, field.description or ""
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Config):
            yield ConfigKey(path, "section", "", "", "", description)
            yield from _keys(inner, getattr(defaults, name), f"{path}.")
        else:
            default = REQUIRED if field.is_required() else as_yaml(getattr(defaults, name))
            yield ConfigKey(path, _kind(inner), default, _constraints(field.metadata), _unit(name, field), description)


def as_yaml(value: Any) -> str:
    """A value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.strip().removesuffix("...").strip()


def _kind(annotation: Any) -> str:
    """A type in the words of YAML, in which configurations are written."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(as_yaml, inner))
    if origin in (Union, types.UnionType):
        return " | ".join(map(_kind, inner))
    if origin in (tuple, list):
        number = "" if origin is list or Ellipsis in inner else f"{len(inner)} "
        kinds = dict.fromkeys(_kind(each) for each in inner if each is not Ellipsis)
        return f"list of {number}{_grouped(' | '.join(kinds))}"
    if origin is dict:
        keys, values = (_grouped(_kind(each)) for each in inner)
        return f"mapping of {keys} to {values}"
    return NAMES.get(annotation) or str(annotation.__name__)


def _grouped(kind: str) -> str:
    return f"({kind})" if " " in kind else kind


def _constraints(metadata: Sequence[Any]) -> str:
    found = [
        text.format(value)
        for limit in metadata
        for name, text in CONSTRAINTS.items()
        if (value := getattr(limit, name, None)) is not None
    ]
    return ", ".join(found)


def _unit(name: str, field: FieldInfo) -> str:
    if isinstance(field.json_schema_extra, dict):
        return str(field.json_schema_extra.get("unit", ""))
    numeric = {int, float} & {field.annotation, *get_args(field.annotation)}
    return UNITS.get(name.rpartition("_")[2], "") if numeric else ""
