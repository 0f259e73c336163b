"""Sphinx directives that write the reference of configuration keys and catalog columns from the code."""

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from cubeprep.config_keys import REQUIRED, ConfigKey, config_keys
from jobs.config import ProjectConfig, shipped_configs
from jobs.tables.column_texts import known_columns
from jobs.tables.ucds import ucd_of


class ConfigKeys(SphinxDirective):
    """All keys of the configuration, a heading for each section."""

    def run(self) -> list[nodes.Node]:
        """Nodes of the headings and keys."""
        return self.parse_text_to_nodes("\n".join(markdown_of_keys()), allow_section_headings=True)


class CatalogColumns(SphinxDirective):
    """All columns of the catalog."""

    def run(self) -> list[nodes.Node]:
        """Nodes of the columns."""
        return self.parse_text_to_nodes("\n".join(markdown_of_columns()), allow_section_headings=True)


class ShippedConfigurations(SphinxDirective):
    """The YAML files of the configurations that come with the package."""

    def run(self) -> list[nodes.Node]:
        """Nodes of the headings and files."""
        lines = []
        for name, path in shipped_configs().items():
            lines += [f"## {name}", "", "```yaml", path.read_text().rstrip(), "```", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def markdown_of_keys() -> Iterator[str]:
    """Lines of Markdown: sections as headings, keys as Sphinx's `confval`."""
    yield from ["## Top level", ""]
    for key in config_keys(ProjectConfig):
        yield from markdown_of_section(key) if key.is_section else markdown_of_key(key)


def markdown_of_section(section: ConfigKey) -> list[str]:
    """Lines of Markdown of a section's heading."""
    level = "#" * min(2 + section.path.count("."), 4)
    return [f"{level} {section.path}", "", f"{section.description}.", ""]


def markdown_of_key(key: ConfigKey) -> list[str]:
    """Lines of Markdown of one key."""
    default = key.default if key.default == REQUIRED else f"default {code(key.default)}"
    facts = [code(key.kind), key.constraints and code(key.constraints), key.unit, default]
    return [":::{confval} " + key.path, f"{key.description}.", "", ", ".join(filter(None, facts)), ":::", ""]


def markdown_of_columns() -> Iterator[str]:
    """Lines of Markdown of all columns, one for each."""
    for name, column in known_columns().items():
        facts = [column.kind, column.unit and code(column.unit), code(ucd_of(name))]
        yield from [f"`{name}`", f": {column.description}. *{', '.join(filter(None, facts))}*", ""]


def code(text: str) -> str:
    """Text as code."""
    return f"`{text}`"


def setup(app: Any) -> dict[str, Any]:
    """Registers the directives with Sphinx."""
    app.add_directive("config-keys", ConfigKeys)
    app.add_directive("shipped-configurations", ShippedConfigurations)
    app.add_directive("catalog-columns", CatalogColumns)
    return {"parallel_read_safe": True}
