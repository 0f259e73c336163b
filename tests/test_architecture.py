"""Imports point inward: the rules of docs/architecture.md, checked on the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FORBIDDEN = {
    "cubeprep": {"torch", "ray", "mlflow", "modeling", "jobs"},
    "modeling": {"dask", "distributed", "astropy", "jobs"},
}
# What modeling may know of cubeprep: the store and what it is made of. None of these may import an engine or a reader.
SHARED = {
    "cubeprep.store",
    "cubeprep.storage",
    "cubeprep.config",
    "cubeprep.masks",
    "cubeprep.lines",
    "cubeprep.augment",
}
# The networks, losses and the training loop run where there is torch and numpy, and nothing else.
TORCH_ONLY = ("convlstm", "autoencoder", "losses", "fit", "context", "checkpoint")
# At import these cost seconds and hundreds of megabytes: inside functions only, but for the module of each engine.
LAZY = {"ray", "mlflow", "umap", "torch"}


def imported_modules(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    modules = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_inward_only(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        tops = {module.split(".")[0] for module in imported_modules(path)}
        assert not tops & FORBIDDEN[package], path


def test_modeling_shares_only_the_store_with_cubeprep() -> None:
    for path in sources("modeling"):
        used = {m for m in imported_modules(path) if m.startswith("cubeprep.")}
        assert all(any(m == s or m.startswith(s + ".") for s in SHARED) for m in used), (path, used)
    for module in SHARED:
        path = ROOT / f"{module.replace('.', '/')}.py"
        tops = {m.split(".")[0] for m in imported_modules(path)}
        assert not tops & {"dask", "distributed", "astropy"}, path
        assert {m for m in imported_modules(path) if m in ("cubeprep.readers", "cubeprep.prepare")} == set(), path


@pytest.mark.parametrize("name", TORCH_ONLY)
def test_the_core_of_modeling_needs_torch_and_numpy_alone(name: str) -> None:
    tops = {m.split(".")[0] for m in imported_modules(ROOT / f"modeling/{name}.py", top_level_only=True)}
    third_party = tops & {
        "ray",
        "zarr",
        "mlflow",
        "pydantic",
        "fsspec",
        "pandas",
        "safetensors",
        "yaml",
        "cubeprep",
        "rich",
    }
    assert not third_party


def test_jobs_import_no_heavy_engine_at_import() -> None:
    for path in sources("jobs"):
        tops = {m.split(".")[0] for m in imported_modules(path, top_level_only=True)}
        assert not tops & LAZY, path
