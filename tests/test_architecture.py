"""Imports point inward: the rules of docs/architecture.md, checked on the source."""

import ast
import subprocess
import sys
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
TORCH_ONLY = ("convlstm", "convlstm_cpu", "native", "autoencoder", "losses", "fit", "context", "checkpoint")
# What the machine of the core may lack.
NOT_TORCH = {"ray", "zarr", "mlflow", "pydantic", "fsspec", "pandas", "safetensors", "yaml", "rich"}
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
    assert not tops & (NOT_TORCH | {"cubeprep"})


def test_jobs_import_no_heavy_engine_at_import() -> None:
    for path in sources("jobs"):
        tops = {m.split(".")[0] for m in imported_modules(path, top_level_only=True)}
        assert not tops & LAZY, path


ALONE = """
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {blocked!r}:
            raise ImportError(f"{{name}} is not to be had here")

sys.meta_path.insert(0, Block())
for name in {modules!r}:
    importlib.import_module(name)
"""


def import_without(modules: list[str], blocked: set[str]) -> None:
    code = ALONE.format(blocked=blocked, modules=modules)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)


def test_the_core_of_modeling_imports_where_only_torch_and_numpy_are() -> None:
    blocked = NOT_TORCH | {"astropy", "dask"}
    import_without([f"modeling.{name}" for name in TORCH_ONLY], blocked | {"cubeprep", "pyarrow", "sklearn", "scipy"})


def test_modeling_loads_no_dask_and_no_astropy_even_through_the_store() -> None:
    names = [f"modeling.{path.stem}" for path in sources("modeling") if path.stem not in ("__init__", "pyfunc")]
    import_without(names, {"dask", "distributed", "astropy", "ray", "mlflow", "umap", "jobs"})


def test_cubeprep_loads_no_torch() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources("cubeprep")]
    import_without([name for name in names if "__init__" not in name], {"torch", "ray", "mlflow", "modeling", "jobs"})
