"""What is installed and cited: the source distribution, the wheel built from it, and CITATION.cff."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGES = ("cubeprep", "jobs", "modeling")
SOURCE = (*PACKAGES, "pyproject.toml", "README.md", "LICENSE")

# Run without the checkout: reads data files of all packages from the installed wheel alone.
USE = """
import sys
sys.path.insert(0, {site!r})
import cubeprep, jobs, modeling
assert all(package.__path__[0].startswith({site!r}) for package in (cubeprep, jobs, modeling)), cubeprep.__path__
from cubeprep.simulate import stars
from cubeprep.stars.templates import templates
from importlib.metadata import distribution
from jobs.config import load_project
from jobs.page.document import bundle
assert stars._table()[0].size > 1000
assert templates() is not None
assert "dataset.ready" in bundle()
(command,) = distribution("cubescout").entry_points.select(name="cubescout")
assert command.load().name == "main"
print(*[load_project(name).preset for name in {presets!r}])
"""


def files_of(package: str) -> set[str]:
    """Files of a package in the checkout that belong into a wheel."""
    paths = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in paths}


def run(folder: Path, *arguments: str) -> str:
    """Output of this Python, run in a folder."""
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel built from the source distribution, as an index would do, without a network."""
    folder = tmp_path_factory.mktemp("package")
    for name in SOURCE:
        path, copy = ROOT / name, folder / "source" / name
        copy.parent.mkdir(exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy)
    run(folder / "source", "-c", "from setuptools.build_meta import build_sdist; build_sdist('..')")
    (archive,) = folder.glob("cubescout-*.tar.gz")
    run(folder, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-build-isolation", "--no-deps", archive.name)
    (made,) = folder.glob("cubescout-*.whl")
    return made


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {name for package in PACKAGES for name in files_of(package)}
    assert {"jobs/configs/line.yaml", "jobs/page/client/main.js", "modeling/network/convlstm_cpu.c"} < expected
    assert held == expected


@pytest.mark.slow
def test_the_installed_wheel_finds_its_presets_templates_and_page(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(tmp_path, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site), str(wheel))
    presets = sorted(path.stem for path in (ROOT / "jobs" / "configs").glob("*.yaml"))
    printed = run(tmp_path, "-I", "-c", USE.format(site=str(site), presets=presets))
    assert printed.split() == presets


def check_citation(cff: dict[str, Any]) -> None:
    """The parts of the Citation File Format 1.2.0 that this file uses.

    Raises:
        AssertionError: a key is missing or unknown, or a value is of another kind.
    """
    known = {"abstract", "authors", "identifiers", "keywords", "license", "title", "type", "url", "version", "year"}
    assert cff.keys() <= known | {"cff-version", "message", "preferred-citation"}
    assert cff["cff-version"] == "1.2.0"
    assert cff["type"] in ("software", "dataset")
    assert isinstance(cff["message"], str)
    for work in (cff, cff["preferred-citation"]):
        assert work.keys() - {"cff-version", "message", "preferred-citation"} <= known
        assert isinstance(work["title"], str)
        assert work["authors"]
        for one in work["authors"]:
            assert one.keys() in ({"name"}, {"given-names", "family-names"})
            assert all(isinstance(value, str) for value in one.values())
    assert isinstance(cff["preferred-citation"]["year"], int)
    assert cff["preferred-citation"]["type"] == "article"
    assert all(one.keys() == {"type", "value", "description"} for one in cff["preferred-citation"]["identifiers"])


def test_the_citation_is_valid_and_of_this_version_and_licence() -> None:
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    check_citation(cff)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cff["version"], cff["license"]) == (project["version"], project["license"])
    assert sorted(cff["keywords"]) == sorted(project["keywords"])
    assert cff["preferred-citation"]["url"] == project["urls"]["Paper"]
    with pytest.raises(AssertionError):
        check_citation(cff | {"autors": []})
    with pytest.raises(KeyError):
        check_citation({key: value for key, value in cff.items() if key != "title"})
