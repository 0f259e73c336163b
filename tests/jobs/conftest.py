"""Headless Chromium and a scored survey, one for all tests of a process, and catalogs without UMAP."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cubeprep.store import WindowStore
from jobs.config import ProjectConfig
from modeling.catalog import read_catalog, write_catalog
from modeling.latents import umap_map
from modeling.scoring.config import ScoreConfig

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip(f"no Chromium: on the PATH is none of {', '.join(BROWSERS)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--headless=new", "--disable-background-networking"]
        found = driver.chromium.launch(executable_path=chromium, args=flags)
        yield found
        found.close()


@contextmanager
def _without_umap() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(umap_map, "MIN_UMAP", 1000)
        yield


@pytest.fixture(scope="package", autouse=True)
def maps_without_umap() -> Iterator[None]:
    """Maps by PCA, as of few galaxies: UMAP takes ten seconds to compile, and has its own tests and `test_path`."""
    with _without_umap():
        yield


@pytest.fixture(scope="session")
def scored_once(tmp_path_factory: pytest.TempPathFactory) -> ProjectConfig:
    """A survey with a catalog, which is only copied: scoring takes seconds of a processor."""
    from jobs import score
    from tests.jobs.test_score import make_project

    config = make_project(tmp_path_factory.mktemp("scored"), repeats={3: 1})
    # The table of a store is in the order of its survey, which the shards do not have.
    store, table = WindowStore.open(config.store_path), io.BytesIO()
    store.galaxies().iloc[::-1].to_parquet(table, index=False)
    store.write_file("galaxies.parquet", table.getvalue())
    with _without_umap():
        assert score.run(config) == 0
    return config


@pytest.fixture(scope="module")
def project(scored_once: ProjectConfig, tmp_path_factory: pytest.TempPathFactory) -> ProjectConfig:
    """A scored survey of 15 galaxies, of which two pairs are of the same object, for the tests of a file."""
    from mlflow.tracking._tracking_service import utils

    workspace = tmp_path_factory.mktemp("project") / "scored"
    utils._artifact_repos_cache.clear()  # of folders by the run's number, which copies share
    shutil.copytree(scored_once.workspace, workspace)
    model = str(workspace / "model")
    config = scored_once.model_copy(update={"workspace": workspace, "score": ScoreConfig(model=model)})
    catalog = read_catalog(config.catalog_path)
    provenance = catalog.provenance | {"model": catalog.provenance["model"] | {"reference": model}}
    write_catalog(config.catalog_path, catalog.table, catalog.columns, provenance)
    return config
