"""Keys of the configuration as text, and completion of keys and of names of configurations in a shell."""

from typing import Any

import click
import yaml

from cubeprep.config_keys import ConfigKey, as_yaml, config_keys, find_keys
from jobs.config import ProjectConfig, shipped_configs


def describe(key: str | None) -> str:
    """Description of a key, of all keys of a section, or without a key of all sections and keys at the top.

    Raises:
        ConfigError: there is no such key; the message names the closest one.
    """
    if key is not None:
        presets = {name: yaml.safe_load(path.read_text()) for name, path in shipped_configs().items()}
        return "\n\n".join(_with_presets(found, presets) for found in find_keys(ProjectConfig, key))
    top = [found for found in config_keys(ProjectConfig) if "." not in found.path]
    width = max(len(found.path) for found in top)
    return "\n".join(f"{found.path:<{width}}  {found.description}" for found in top)


def _with_presets(key: ConfigKey, presets: dict[str, Any]) -> str:
    """Description of a key, and the values that `presets`, the shipped configurations by name, give it."""
    values = {name: _value(tree, key.path) for name, tree in presets.items()}
    given = [f"{name}: {as_yaml(value)}" for name, value in values.items() if value is not None]
    if key.is_section or not given:
        return key.text
    return f"{key.text}\n  {'presets':<12} {'; '.join(given)}"


def _value(tree: Any, path: str) -> Any:
    """Value at a dotted path of nested mappings; None if there is none."""
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def complete_config(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Shipped configurations whose names begin with `incomplete`, or files."""
    from click.shell_completion import CompletionItem

    names = [name for name in shipped_configs() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def complete_key(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Keys that begin with `incomplete`."""
    return [found.path for found in config_keys(ProjectConfig) if found.path.startswith(incomplete)]


def complete_set(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Keys of values that begin with `incomplete`, with the equals sign."""
    found = [key for key in config_keys(ProjectConfig) if not key.is_section]
    return [f"{key.path}=" for key in found if key.path.startswith(incomplete)]
