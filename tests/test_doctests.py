"""Examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

from jobs import score
from tests.jobs.test_score import make_project
from tests.test_architecture import modules_of

MODULES = [
    name
    for package in ("cubeprep", "modeling", "jobs")
    for name, path in modules_of(package).items()
    if ">>> " in path.read_text()
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_project(tmp_path_factory.mktemp("doctests"))
    assert score.run(config) == 0
    return config.workspace


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name: str, workspace: Path) -> None:
    results = doctest.testmod(importlib.import_module(name), extraglobs={"workspace": workspace})
    assert results.failed == 0
    assert results.attempted > 0


def test_every_function_for_notebooks_has_an_example() -> None:
    api = importlib.import_module("jobs.api")
    tests = doctest.DocTestFinder(exclude_empty=True).find(api, "api")
    assert {test.name.removeprefix("api.") for test in tests} >= set(api.__all__)
