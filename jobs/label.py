"""Adds labels of galaxies to the workspace.

Labels are kept in labels.jsonl, one line each with time, author and the version of the catalog in use. The file is
append-only: a later label of a galaxy replaces an earlier one, and an empty one (`8485-1901=`) withdraws it. Any word
may be a label. If the catalog lacks one of the galaxies, the command names it and writes nothing.
"""

from collections.abc import Collection
from pathlib import Path

from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, CommandError, command
from jobs.console.progress import console
from jobs.tables.read import UnknownNameError, column_of, keyed, observations, read_table
from modeling.catalog import read_catalog
from modeling.labels.labels import Label, append, catalog_version, current, default_author, is_find, is_word, read


def run(
    config: ProjectConfig,
    labels: tuple[str, ...] = (),
    table: str | None = None,
    author: str | None = None,
    note: str = "",
) -> int:
    """Adds labels, given as PLATEIFU=LABEL and by a table; returns the exit code."""
    catalog = read_catalog(config.catalog_path).table
    of_table = _pairs_of_table(Path(table), catalog["plateifu"].tolist()) if table else []
    pairs = [_split(text) for text in labels] + of_table
    if not pairs:
        raise CommandError("no labels given; use `cubescout label CONFIG 8485-1901=interesting` or --table FILE")
    given, values = zip(*pairs, strict=True)
    try:
        names = observations(given, catalog, config.catalog_path, config.store_path)
    except UnknownNameError as error:
        raise CommandError(f"{table or 'labels'}: {error}. No label was added.") from error
    pairs = list(zip(names, values, strict=True))
    _check_consistent(pairs)
    labelled = current(read(config.labels_path)).index
    without = [name for name, label in pairs if not label and name not in labelled]
    if without:
        raise CommandError(f"{', '.join(without)}: without a label, so there is none to withdraw. No label was added.")
    version = catalog_version(config.catalog_path)
    author = author or default_author()
    append(
        config.labels_path,
        [Label(plateifu=name, label=label, author=author, catalog=version, note=note) for name, label in pairs],
    )
    added = sum(label != "" for _, label in pairs)
    done = [f"{counted(added, 'label')} by {author} added to {config.labels_path}"] if added else []
    if added < len(pairs):
        done.append(f"{counted(len(pairs) - added, 'label')} withdrawn by {author}")
    counts = current(read(config.labels_path)).value_counts()
    finds = [label for label in counts.index if is_find(label, config.rerank.usual)]
    shown = ", ".join(f"{label} {number}" for label, number in counts.items())
    console.print(f"{', '.join(done)}; now {shown or 'none'}", markup=False)
    if finds:
        console.print(
            f"Labels that mean an unusual galaxy, to `rerank` and to the p-values of `score`: {', '.join(finds)}. "
            "Add others to `rerank.usual`.",
            markup=False,
        )
    return EXIT_OK


def _split(text: str) -> tuple[str, str]:
    plateifu, equals, label = text.partition("=")
    if not equals or not plateifu.strip():
        raise CommandError(
            f"{text!r}: expected PLATEIFU=LABEL, such as 8485-1901=interesting or '8485-1901=wrong redshift'"
        )
    if not is_word(label):
        raise CommandError(f"{text!r}: the label is {label.strip()}, expected a word such as artefact")
    return plateifu.strip(), label.strip()


def _pairs_of_table(path: Path, known: Collection[str]) -> list[tuple[str, str]]:
    label = column_of(keyed(read_table(path), path, known=known), "label", path)
    given = label[label.notna()]
    other = given[[not (isinstance(value, str) and is_word(value)) for value in given]]
    if len(other):
        name, value = other.index[0], other.iloc[0]
        raise CommandError(f"{path}: the label of {name} is {value}, expected a word such as artefact")
    pairs = [(str(name), value.strip()) for name, value in given.items() if value.strip()]
    if not pairs:
        raise CommandError(f"{path}: no row has a label; `cubescout label CONFIG 8485-1901=` withdraws one")
    if len(pairs) < len(label):
        console.print(f"{path}: {counted(len(label) - len(pairs), 'row')} without a label left out", markup=False)
    return pairs


def _check_consistent(pairs: list[tuple[str, str]]) -> None:
    """Refuses two labels of one galaxy, of which only the last would count."""
    given: dict[str, str] = {}
    for name, label in pairs:
        if given.setdefault(name, label) != label:
            raise CommandError(f"{name}: given as {given[name]!r} and as {label!r}; expected one label")


if __name__ == "__main__":
    command("label")()
