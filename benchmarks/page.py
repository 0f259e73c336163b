"""How fast the page is with 10,000 galaxies, served and as a file that holds 24 of them, in headless Chromium.

Each galaxy has windows of the paper's size (19 lines x 10 samples x 32 x 32); those of a few are shown under all names,
so that thumbnails and inference cost as much as for a survey. Every view starts with an empty browser cache and an
empty server. Chromium runs without a GPU.

    python -m benchmarks.page
"""

import argparse
import socket
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.store import Windows, WindowStore
from modeling.catalog import Catalog, describe_columns

CHROMIUM = Path("/usr/bin/chromium")
TOKEN = "benchmark"
NUM_STORED = 16
NUM_HELD = 24
# Runs in the page: the time from an event until the count of galaxies has changed and is on the screen.
WATCH = """(event) => {
  let began;
  window.took = null;
  window.addEventListener(event, ({ timeStamp }) => { began = timeStamp; }, { once: true, capture: true });
  const observer = new MutationObserver(() => {
    observer.disconnect();
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => { window.took = performance.now() - began; };
      channel.port2.postMessage(0);
    });
  });
  observer.observe(document.getElementById("count"), { childList: true, characterData: true, subtree: true });
}"""
# Evaluated once, since the page's policy forbids Playwright's own polling.
SEEN = """async () => {
  const next = () => new Promise((done) => requestAnimationFrame(done));
  const seen = () => {
    const frame = document.getElementById("gallery").getBoundingClientRect();
    const images = [...document.querySelectorAll("#gallery img")].filter((image) => {
      const box = image.getBoundingClientRect(); return box.top < frame.bottom && box.bottom > frame.top; });
    return document.documentElement.dataset.ready && images.length && images.every((i) => i.complete && i.naturalWidth);
  };
  while (!seen()) await next();
  return performance.now();
}"""
TOOK = """async () => {
  while (window.took === null) await new Promise((done) => requestAnimationFrame(done));
  return window.took;
}"""


def make_catalog(store: WindowStore, num_galaxies: int) -> Catalog:
    """A catalog of random numbers with all columns, its points in a few clouds."""
    rng = np.random.default_rng(0)
    columns = describe_columns(store.line_names, "flux", "unexplained")
    names = np.array([f"{8000 + i // 12}-{1901 + i % 12}" for i in range(num_galaxies)])
    values: dict[str, Any] = {name: rng.lognormal(0, 1, num_galaxies) for name in columns}
    values |= {"plateifu": names, "mangaid": [f"1-{i}" for i in range(num_galaxies)], "embedding": "umap"}
    values |= {"rank": np.arange(1, num_galaxies + 1), "score": np.sort(values["score"])[::-1]}
    values |= {"split": rng.choice(["train", "validation", "test"], num_galaxies, p=[0.8, 0.1, 0.1])}
    values |= {"top_line": rng.choice(store.line_names, num_galaxies)}
    cloud = rng.integers(0, 6, num_galaxies)
    for name in [name for name in columns if name.startswith("umap")]:
        values[name] = rng.normal(0, 1, num_galaxies) + rng.normal(0, 4, 6)[cloud]
    near = rng.integers(0, num_galaxies, (num_galaxies, 5))
    values |= {"neighbours": list(names[near]), "neighbour_distances": list(np.sort(rng.random((num_galaxies, 5))))}
    values |= {"neighbour_same_object": list(np.zeros((num_galaxies, 5), bool))}
    model = {"reference": "untrained", "version": "", "digest": "", "trained_on": ""}
    spearman = {"score": {"flux": 0.0, "snr": 0.0}, "mae": {"flux": 0.0, "snr": 0.0}}
    provenance = {"rank_by": "unexplained", "spearman": spearman, "model": model, "store": {"identity": store.identity}}
    table = pd.DataFrame({name: values[name] for name in columns if name in values})
    return Catalog(table, columns, provenance)


def make_source(folder: Path, num_galaxies: int) -> Any:
    """Contents of the page, with empty caches."""
    from jobs.page.source import Source
    from modeling.network.autoencoder import make_model
    from modeling.network.inference import infer

    store = WindowStore.open(str(folder / "windows.zarr"))
    rng = np.random.default_rng(1)
    catalog = make_catalog(store, num_galaxies)
    alias = dict(zip(catalog.table["plateifu"], rng.choice(stored_names(store), num_galaxies), strict=True))
    lines, samples, size = store.shape
    network = make_model({"num_lines": lines, "num_samples": samples, "size": size, "latent_dim": 64}, seed=0)

    def reconstruct(windows: Windows) -> np.ndarray:
        return infer(network, windows.flux, windows.ivar, windows.mask).reconstruction

    return Source(
        catalog,
        store,
        catalog_path=folder / "catalog.parquet",
        labels_path=folder / "labels.jsonl",
        reconstruct=reconstruct,
        thumbnail_line="Ha-6564",
        read_windows=lambda name: store.read_galaxy(alias[name]),
    )


@contextmanager
def served(folder: Path, num_galaxies: int) -> Iterator[str]:
    """The address of a fresh server."""
    from jobs.page.server import make_app

    with serving(make_app(make_source(folder, num_galaxies), TOKEN), TOKEN) as address:
        yield address


@contextmanager
def serving(app: Any, token: str) -> Iterator[str]:
    """The address of an application that runs in a thread, with its secret."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/#token={token}"
        server.should_exit = True
        thread.join()


@contextmanager
def exported(folder: Path, num_galaxies: int, num_held: int) -> Iterator[str]:
    """The address of an exported file, opened without a server."""
    from jobs.page.export import export_page

    path = folder / "explore.html"
    if not path.exists():
        page, held = export_page(make_source(folder, num_galaxies), num_held, lambda *_: None)
        path.write_text(page)
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {len(held)} galaxies in full")
    yield path.as_uri()


def stored_names(store: WindowStore) -> list[str]:
    """The galaxies of a store that have windows."""
    table = store.galaxies()
    return [str(name) for name in table.loc[table["status"] == "accepted", "plateifu"]]


def measure(browser: Any, address: str) -> dict[str, float]:
    """One visit: times of a person's first actions, in seconds or, by name, milliseconds."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    tab = context.new_page()
    tab.goto(address)
    found = {"first_view_s": tab.evaluate(SEEN) / 1000}
    tab.wait_for_selector("#map[data-ready=true]", timeout=60_000)
    found["map_s"] = tab.evaluate("performance.now()") / 1000
    box = tab.locator("#map canvas").bounding_box()
    inside = [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7), (0.3, 0.32)]
    corners = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in inside]
    tab.evaluate(WATCH, "pointerup")
    tab.mouse.move(*corners[0])
    tab.mouse.down()
    for corner in corners[1:]:
        tab.mouse.move(*corner, steps=5)
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    tab.mouse.up()
    found["brush_ms"] = tab.evaluate(TOOK)
    tab.evaluate(WATCH, "change")
    tab.fill("[data-column=z][data-end=high]", "1")
    tab.keyboard.press("Tab")
    found["filter_ms"] = tab.evaluate(TOOK)
    began = tab.evaluate("performance.now()")
    tab.locator(".card").nth(2).click()
    tab.locator(".panel canvas").first.wait_for()
    found["galaxy_s"] = (tab.evaluate("performance.now()") - began) / 1000
    context.close()
    return found


def main() -> None:
    """Visits both forms of the page in turn."""
    from playwright.sync_api import sync_playwright

    from tests.synthetic import synthetic_store

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=10_000)
    parser.add_argument("--visits", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        synthetic_store(Path(folder) / "windows.zarr", num_train=NUM_STORED, num_validation=2, num_views=1)
        flags = ["--no-sandbox", "--headless=new", "--disable-background-networking", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        visits: dict[str, list[dict[str, float]]] = {"served": [], "file": []}
        for _ in range(arguments.visits):
            with served(Path(folder), arguments.galaxies) as address:
                visits["served"].append(measure(browser, address))
            with exported(Path(folder), arguments.galaxies, NUM_HELD) as address:
                visits["file"].append(measure(browser, address))
        browser.close()
    report(arguments.galaxies, visits)


def report(num_galaxies: int, visits: dict[str, list[dict[str, float]]]) -> None:
    """Prints medians and ranges of both forms, and the figures that have a goal."""
    labels = {
        "first_view_s": "first view: gallery and its thumbnails, s",
        "map_s": "the map of all galaxies is there, s",
        "brush_ms": "lasso let go to subset on screen, ms",
        "filter_ms": "filter to subset on screen, ms",
        "galaxy_s": "a galaxy opened, inference included, s",
    }
    for form, of_form in visits.items():
        print(f"{form}, {num_galaxies} galaxies, {len(of_form)} visits: median (range)")
        for name, label in labels.items():
            values = sorted(visit[name] for visit in of_form)
            print(f"  {label:<44} {statistics.median(values):8.3g}  ({values[0]:.3g} to {values[-1]:.3g})")
        for name in ("first_view_s", "brush_ms"):
            print(f"{form}_{name}={statistics.median(visit[name] for visit in of_form):.3g}")


if __name__ == "__main__":
    main()
