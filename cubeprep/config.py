"""Strict configuration: reads YAML and `--set` into frozen pydantic sections and reports all mistakes at once."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cubeprep.redact import redact
from cubeprep.words import closest, counted, suggestion

# Kinds of values in the words of YAML, by the first part of pydantic's type of the error.
EXPECTED = {
    "float": "a number", "int": "a whole number", "bool": "true or false", "string": "a text", "tuple": "a list",
    "dict": "a section", "model": "a section", "path": "a path",
}  # fmt: skip


class Config(BaseModel):
    """Base class of all configuration sections: unknown keys are errors, and values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MistakeError(ValueError):
    """A mistake in a command, or in a configuration or table that it names; commands exit with 2."""


class ConfigError(MistakeError):
    """Invalid configuration; `mistakes` lists everything wrong with it."""

    def __init__(self, source: str, mistakes: list[str]) -> None:
        self.source = source
        self.mistakes = mistakes
        super().__init__(
            "\n".join([f"{source}: {counted(len(mistakes), 'mistake')}", *(f"  {mistake}" for mistake in mistakes)])
        )


ConfigT = TypeVar("ConfigT", bound=Config)


FEW_KEYS = 8  # a message lists the keys of a section that has no more


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which no mapping has a key twice: of two, PyYAML silently drops the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(getattr(key, "value", ""))
        return super().construct_mapping(node, deep)


def load_config(
    model: type[ConfigT],
    path: Path,
    overrides: Iterable[str] = (),
    start: Callable[[dict[str, Any]], dict[str, Any]] = lambda tree: {},
) -> ConfigT:
    """Configuration from a YAML file with overrides applied.

    Args:
        model: class of the configuration.
        path: the YAML file.
        overrides: items `a.b=value`; values are YAML.
        start: values, by section, of keys that neither the file nor an override sets, given those that they set.

    Raises:
        ConfigError: the file cannot be read, an override is malformed, or a value is invalid.
    """
    try:
        tree = yaml.load(path.read_text(), _UniqueKeys) or {}  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        # Without the excerpt, which may hold a password that is cut off from the rest of its URL.
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(str(path), [f"{error.problem or error.context}{where}"]) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(str(path), [" ".join(str(error).split())]) from error
    if not isinstance(tree, dict):
        raise ConfigError(str(path), [f"expected a mapping at the top, found {type(tree).__name__}"])
    overrides = list(overrides)
    mistakes = [mistake for item in overrides if (mistake := _override(tree, item))]
    try:
        config = model.model_validate(_merged(start(tree), tree))
    except ValidationError as error:
        mistakes += _described(error.errors(), model)
    if mistakes:
        raise config_error(path, mistakes, overrides)
    return config


def config_error(path: Path, mistakes: Sequence[str], overrides: Sequence[str]) -> ConfigError:
    """Error that marks the mistakes of overrides by `--set`, and names the file only if it holds others.

    Args:
        path: the YAML file.
        mistakes: texts that begin with a key and a colon.
        overrides: as of `load_config`.
    """
    keys = [item.partition("=")[0] for item in overrides]
    marked = [f"--set {text}" if _is_of(text.partition(":")[0], keys) else text for text in mistakes]
    return ConfigError(str(path) if any(not text.startswith("--set ") for text in marked) else "command line", marked)


def _is_of(where: str, keys: Sequence[str]) -> bool:
    """Whether a key is one of some keys, contains one, or is in one."""
    return any(f"{where}.".startswith(f"{key}.") or key.startswith(f"{where}.") for key in keys)


def digest(*configs: Config) -> str:
    """Identity of one or more sections: sha256 (hex) of their class names and resolved values."""
    resolved = [[type(config).__name__, config.model_dump(mode="json")] for config in configs]
    return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()


def to_yaml(config: Config) -> str:
    """Resolved configuration as YAML, to be saved with the product it was used for."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _merged(start: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """Values of both, section by section; where both have one, that of `tree`."""
    both = {key: _merged(start[key], value) for key, value in tree.items()
            if isinstance(value, dict) and isinstance(start.get(key), dict)}  # fmt: skip
    return start | tree | both


def _override(tree: dict[str, Any], item: str) -> str | None:
    """Sets one `a.b=value` in `tree`; returns a description of the mistake, or None."""
    key, equals, text = item.partition("=")
    if not equals or not key:
        return f"--set {item}: expected key.subkey=value"
    try:
        value = yaml.load(text, _UniqueKeys)  # noqa: S506 - a safe loader
    except yaml.YAMLError:
        return f"--set {key}: its value is not YAML"
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            return f"--set {item}: {parent} holds a value, not a section"
        node = child
    node[leaf] = value
    return None


def _described(errors: Iterable[Any], model: type[Config]) -> list[str]:
    """One text for each key, also where pydantic has an error for each type that the key may have."""
    of_key: dict[str, list[Any]] = {}
    for error in errors:
        of_key.setdefault(".".join(map(str, _key(error["loc"], model))) or "(top)", []).append(error)
    return [f"{where}: {_describe(alike, model)}" for where, alike in of_key.items()]


def _key(loc: Sequence[Any], model: type[Config]) -> list[Any]:
    """Parts of a key: the place of pydantic's error without the types that it tried there."""
    key: list[Any] = []
    for part in loc:
        others = [each for each in get_args(_annotation(key, model)) if each is not NoneType]
        if not (len(others) > 1 and get_origin(_annotation(key, model)) in (Union, UnionType)):
            key.append(part)
    return key


def _describe(errors: Sequence[Any], model: type[Config]) -> str:
    first = errors[0]
    if first["type"] == "extra_forbidden":
        return f"unknown key{_did_you_mean(first['loc'], model)}"
    found = "" if first["type"] == "missing" else f" (found {redact(repr(first['input']))})"
    others = [_text(error).removeprefix("expected ").removeprefix("must be ") for error in errors[1:]]
    return f"{', or '.join([_text(first), *others])}{found}{_example(first, model)}"


def _text(error: Any) -> str:
    """Pydantic's message without its own words."""
    kind, _, rest = error["type"].partition("_")
    if kind in EXPECTED and rest in ("type", "parsing", "from_float"):
        return f"expected {EXPECTED[kind]}"
    return str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")


def _example(error: Any, model: type[Config]) -> str:
    """Example of how to set a text that YAML takes for a number, or a list of one value; empty for other errors."""
    found, loc = error["input"], [part for part in error["loc"] if isinstance(part, str)]
    if error["type"] not in ("string_type", "tuple_type") or found is None or isinstance(found, dict | list):
        return ""
    is_text = error["type"] == "string_type" or "str" in str(_annotation(loc, model))
    value = f'"{found}"' if is_text and not isinstance(found, str) else str(found)
    in_list = error["type"] == "tuple_type" or len(loc) < len(error["loc"])
    return f"; for example --set '{'.'.join(loc)}={f'[{value}]' if in_list else value}'"


def _annotation(loc: Sequence[str], model: type[Config]) -> Any:
    """Type of a key; None if it is unknown."""
    found: Any = model
    for part in loc:
        fields = getattr(found, "model_fields", {})
        found = fields[part].annotation if part in fields else None
    return found


def _did_you_mean(loc: Sequence[Any], model: type[Config]) -> str:
    """Hint with the same key in sections of the section, or its closest key, or else all keys of a small section."""
    section = _annotation(loc[:-1], model)
    name, fields = str(loc[-1]), getattr(section, "model_fields", {})
    deeper = [f"{key}.{name}" for key, field in fields.items() if name in getattr(field.annotation, "model_fields", {})]
    return suggestion(
        deeper or closest(name, fields), f"; known are {', '.join(fields)}" if len(fields) <= FEW_KEYS else ""
    )
