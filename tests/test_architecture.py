"""Imports point inward and downward: the rules of docs/architecture.md, checked on the source."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FORBIDDEN = {
    "cubeprep": {"torch", "ray", "mlflow", "modeling", "jobs"},
    "modeling": {"dask", "distributed", "astropy", "jobs"},
}
# Rooms of each package, lowest first: a module imports from its own room and from those below it.
ROOMS = {
    "modeling": (
        ("resampling", "ray_session"),
        ("network",),
        ("checkpoint", "inference"),  # old addresses of two functions of `network`
        ("training",),
        ("latents",),
        ("scoring",),
        ("labels",),
        ("catalog",),
        ("tracking",),
    ),
    "jobs": (
        ("engines", "page"),
        ("config",),
        ("console",),
        ("tables",),
        ("models",),
        ("reports",),
        ("COMMAND",),
        ("api", "cli"),
    ),
}
# Commands that run others.
RUN_OTHERS = {"jobs.demo", "jobs.tune"}
# Modules of cubeprep that modeling may use: the store and what it is made of. None may import an engine or a reader.
SHARED = {
    "cubeprep.store",
    "cubeprep.storage",
    "cubeprep.config",
    "cubeprep.masks",
    "cubeprep.redact",
    "cubeprep.lines",
    "cubeprep.stars.templates",
    "cubeprep.line_ratios",
    "cubeprep.augment",
    "cubeprep.version",
    "cubeprep.files",
    "cubeprep.words",
}
# The networks, losses and the training loop run where there is torch and numpy, and nothing else.
TORCH_ONLY = (
    *(f"modeling.network.{name}" for name in ("convlstm", "convlstm_cpu", "convlstm_gpu", "compile_c", "autoencoder")),
    *(f"modeling.network.{name}" for name in ("channel_norm", "triton_support", "step_convolution")),
    *(f"modeling.network.{name}" for name in ("block_cpu", "error_modes_cpu", "winograd")),
    *(f"modeling.network.{name}" for name in ("spaxel_code", "masked", "checkpoint", "normalisation", "decoders")),
    *(f"modeling.network.{name}" for name in ("masked_network", "error_modes", "hiding", "line_groups", "transfer")),
    *(f"modeling.training.{name}" for name in ("losses", "objective", "masked_objective", "metrics", "fit", "context")),
    *(f"modeling.training.{name}" for name in ("on_device", "views")),
)
# Packages that a machine for the core alone may lack.
NOT_TORCH = {"triton", "ray", "zarr", "mlflow", "pydantic", "fsspec", "pandas", "safetensors", "yaml", "rich"}
# At import these cost seconds and hundreds of megabytes: inside functions only, but for the module of each engine.
LAZY = {"ray", "mlflow", "umap", "torch", "lsdb"}


@cache
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


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules_of(package: str) -> dict[str, Path]:
    return {name_of(path): path for path in sources(package)}


def imports_within(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """The modules among these that each imports, anywhere in its file."""
    return {name: (imported_modules(path) & modules.keys()) - {name} for name, path in modules.items()}


def room_of(module: str) -> int:
    package, _, rest = module.partition(".")
    room = rest.split(".")[0]
    rooms = [index for index, level in enumerate(ROOMS[package]) if room in level]
    return rooms[0] if rooms else ROOMS[package].index(("COMMAND",))


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_inward_only(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        tops = {module.split(".")[0] for module in imported_modules(path)}
        assert not tops & FORBIDDEN[package], path


def circle_of(graph: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {
        name: path
        for package in ("cubeprep", "modeling", "jobs", "benchmarks")
        for name, path in modules_of(package).items()
    }
    graph = imports_within(modules)
    assert sum(map(len, graph.values())) > 500  # imports are seen at all
    assert circle_of({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert circle_of(graph) == []


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_from_rooms_below(package: str) -> None:
    modules = {name: path for name, path in modules_of(package).items() if name != package}
    rooms = {room for level in ROOMS[package] for room in level} - {"COMMAND"}
    assert rooms <= {name.split(".")[1] for name in modules}
    for name, imported in imports_within(modules).items():
        own = name.split(".")[1]
        above = {m for m in imported if m.split(".")[1] != own and room_of(m) >= room_of(name)}
        assert not above or name in RUN_OTHERS, (name, above)


def test_commands_import_no_other_command() -> None:
    commands = {name: path for name, path in modules_of("jobs").items() if name.count(".") == 1}
    commands = {
        name: path
        for name, path in commands.items()
        if not path.name.startswith("__") and name not in ("jobs.api", "jobs.cli", "jobs.config")
    }
    assert {"jobs.prepare", "jobs.train", "jobs.score", "jobs.submit"} <= commands.keys()
    for name, imported in imports_within(commands).items():
        assert not imported or name in RUN_OTHERS, (name, imported)


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
    imported = imported_modules(modules_of("modeling")[name], top_level_only=True)
    assert not {m.split(".")[0] for m in imported} & NOT_TORCH
    # Of cubeprep, the one module that needs the standard library alone.
    assert all(m.startswith("cubeprep.files") for m in imported if m.startswith("cubeprep"))


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


@pytest.mark.slow
def test_the_core_of_modeling_imports_where_only_torch_and_numpy_are() -> None:
    blocked = NOT_TORCH | {"astropy", "dask"}
    import_without(list(TORCH_ONLY), blocked | {"pyarrow", "sklearn", "scipy"})


@pytest.mark.slow
def test_modeling_loads_no_dask_and_no_astropy_even_through_the_store() -> None:
    names = modules_of("modeling").keys() - {"modeling.tracking.pyfunc"}
    import_without(sorted(names), {"dask", "distributed", "astropy", "ray", "mlflow", "umap", "jobs"})


@pytest.mark.slow
def test_cubeprep_loads_no_torch() -> None:
    import_without(sorted(modules_of("cubeprep")), {"torch", "ray", "mlflow", "modeling", "jobs"})


def test_help_and_completion_wait_for_no_large_library() -> None:
    """A shell imports the command line with each key that it completes."""
    large = {"astropy", "dask", "distributed", "mlflow", "pandas", "ray", "rich", "scipy", "torch"}
    import_without(["jobs.cli"], large)


def test_packages_that_are_imported_are_declared_and_caps_say_why() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    entries = [*project["dependencies"], *project["optional-dependencies"]["hats"]]
    declared = {re.split(r"[\[<>=]", entry)[0].lower() for entry in entries} | {"distributed"}  # dask[distributed]
    imported = {
        name.partition(".")[0]
        for package in ("cubeprep", "modeling", "jobs")
        for path in sources(package)
        for name in imported_modules(path)
    }
    foreign = imported - set(sys.stdlib_module_names) - {"cubeprep", "modeling", "jobs"}
    providers = importlib.metadata.packages_distributions()
    assert len(foreign) > 20
    foreign -= {"triton"}  # of torch's builds for GPUs, and not missed without it
    assert {name for name in foreign if not declared & {one.lower() for one in providers.get(name, [name])}} == set()
    lines = text.splitlines()
    caps = [i for i, line in enumerate(lines) if re.search(r'^ +"[^"]*<', line)]
    assert caps
    assert all(lines[i - 1].strip().startswith("#") for i in caps)
