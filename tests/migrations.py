"""MLflow's migrations run once in a process of the tests: they take a second of a processor for each new database."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from modeling.tracking import database


@pytest.fixture(scope="session", autouse=True)
def migrations_once() -> Iterator[None]:
    """Copies the tables of the first new database into the others; all else about them is made as ever."""
    make = database._make
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as tables, pytest.MonkeyPatch.context() as patch:

        @cache
        def patch_mlflow() -> None:  # at the first database, since MLflow takes seconds to import
            from mlflow.store.db import utils

            initialize = utils._initialize_tables

            def initialize_or_copy(engine: Any) -> None:
                with closing(sqlite3.connect(engine.url.database)) as made:
                    if not _is_empty(made):
                        initialize(engine)
                    elif not _is_empty(tables):
                        tables.backup(made)
                    else:
                        initialize(engine)
                        made.backup(tables)

            patch.setattr(utils, "_initialize_tables", initialize_or_copy)

        def make_with_copies(path: Path) -> None:
            patch_mlflow()
            make(path)

        patch.setattr(database, "_make", make_with_copies)
        yield


def _is_empty(tables: sqlite3.Connection) -> bool:
    return tables.execute("SELECT 1 FROM sqlite_master").fetchone() is None
