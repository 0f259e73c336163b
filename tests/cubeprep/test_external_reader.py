"""A reader from outside the package: the one of docs/new-reader.md, installed and used; and readers by name."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from pydantic import ValidationError

from cubeprep.cluster import DaskConfig
from cubeprep.config import ConfigError
from cubeprep.cube import Target
from cubeprep.facts import SurveyFacts
from cubeprep.lines import LINES_BY_NAME
from cubeprep.prepare import prepare
from cubeprep.prepare_config import GalaxyConfig, PrepareConfig
from cubeprep.registry import built_in_readers, known_readers, reader_class
from cubeprep.shard import extract_galaxy
from cubeprep.store import WindowStore
from cubeprep.survey import SurveyConfig, facts_of, make_reader, select_targets, survey_facts
from cubeprep.windows import WindowConfig

ROOT = Path(__file__).parents[2]
Z = 0.02
HALPHA = LINES_BY_NAME["Ha-6564"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on `sys.path` where the documented reader is installed as pip would."""
    site = tmp_path / "site"
    package, metadata = site / "example_survey", site / "example_survey-1.0.dist-info"
    package.mkdir(parents=True)
    metadata.mkdir()
    text = (ROOT / "docs" / "new-reader.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (table,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    group, point = re.search(r'entry-points."(.*)"\]\n(.*)\n', table).groups()  # type: ignore[union-attr]
    (package / "__init__.py").write_text("")
    (package / "reader.py").write_text(code)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: example-survey\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{point.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield site
    for name in [name for name in sys.modules if name.startswith("example_survey")]:
        del sys.modules[name]


@pytest.fixture
def survey(tmp_path: Path) -> SurveyConfig:
    """Two galaxies of one emission line, 4 x 5 spaxels."""
    root = tmp_path / "cubes"
    root.mkdir()
    wave = 6000.0 + 1.25 * np.arange(1000)
    spectrum = 5 * np.exp(-0.5 * ((wave - HALPHA.rest_wave * (1 + Z)) / 2) ** 2) + 1
    cards = {"CTYPE3": "WAVE", "CUNIT3": "Angstrom", "CRVAL3": 6000.0, "CRPIX3": 1.0, "CDELT3": 1.25}
    header = fits.Header(cards | {"BUNIT": "1e-17 erg/s/cm2/Angstrom/spaxel"})
    for number in (1, 2):
        flux = np.broadcast_to(number * spectrum[:, None, None], (1000, 4, 5)).astype(np.float32)
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(flux, header, name="FLUX"), fits.ImageHDU(flux * 0 + 4, name="IVAR")]
        fits.HDUList(hdus).writeto(root / f"g{number}.fits")
    table = tmp_path / "targets.csv"
    table.write_text(f"name,z\ng1,{Z}\ng2,{Z}\n")
    return SurveyConfig(reader="muse", root=str(root), table=str(table))


def job(num_workers: int) -> PrepareConfig:
    windows = WindowConfig(lines=("Ha-6564",), size=8, sampling="conserve", continuum="sidebands")
    return PrepareConfig(windows=windows, dask=DaskConfig(num_workers=num_workers), galaxies_per_shard=1)


@pytest.mark.parametrize("name", ["example", "example_survey.reader"])
def test_the_documented_reader_prepares_a_store(site: Path, survey: SurveyConfig, tmp_path: Path, name: str) -> None:
    config = SurveyConfig.model_validate(survey.model_dump() | {"reader": name})
    assert "example" in known_readers()
    prepare(job(0), config, str(tmp_path / "store"), seed=0)
    store = WindowStore.open(str(tmp_path / "store"))
    windows = store.read_galaxy("g2")
    assert windows.flux.shape == (1, 1, 10, 8, 8)
    good = windows.mask[0, 0] == 0
    assert good.sum() == 10 * 4 * 5
    assert 6 < windows.flux[0, 0][good].max() < 10
    facts = store.attrs["survey_facts"]
    assert (facts["spaxel_arcsec"], facts["page_url"]) == (0.3, "https://survey.example/galaxies/{plateifu}")


@pytest.mark.slow
def test_dask_workers_find_the_reader_too(site: Path, survey: SurveyConfig, tmp_path: Path) -> None:
    config = SurveyConfig.model_validate(survey.model_dump() | {"reader": "example"})
    for workers, store in ((2, "dask"), (0, "here")):
        prepare(job(workers), config, str(tmp_path / store), seed=0)
    stores = [WindowStore.open(str(tmp_path / name)) for name in ("dask", "here")]
    assert sum(stores[0].num_shards(split) for split in stores[0].splits) > 1
    for name in ("g1", "g2"):
        first, second = (store.read_galaxy(name) for store in stores)
        np.testing.assert_array_equal(first.flux, second.flux)


@pytest.mark.slow
def test_a_configuration_is_checked_without_running_the_readers_code(site: Path) -> None:
    (site / "example_survey" / "reader.py").write_text("raise SystemExit('the reader was imported')\n")
    code = (
        "import sys, json\n"
        "from jobs.config import load_project\n"
        "config = load_project('muse', ('survey.reader=example',))\n"
        "print(json.dumps([config.survey.reader, 'example_survey' in sys.modules, 'astropy' in sys.modules]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["example", False, False]


def test_an_unknown_reader_names_those_that_are_known(site: Path) -> None:
    with pytest.raises(ValidationError, match=r"no reader 'manga_logcube'; did you mean manga-logcube\? known are"):
        SurveyConfig(reader="manga_logcube")
    with pytest.raises(ValidationError, match="did you mean example") as caught:
        SurveyConfig(reader="exampel")
    for name in known_readers():
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, "No module named 'absent_survey'; is its folder on PYTHONPATH"),
        ("import absent_package\n", "broken.py:1)"),
        ("x = 1\n", "it has no class Reader; see docs/new-reader.md"),
        ("x = (\n", "broken.py, line 1"),
        ("x = 1\nx.y\n", "AttributeError: 'int' object has no attribute 'y' ("),
        ("class Reader:\n    grid = 'linear'\n", "lacks facts, find_targets; see docs/new-reader.md"),
        ("class Reader:\n    grid = 'maps'\n    facts = find_targets = None\n", "lacks read_maps"),
    ],
)
def test_a_reader_that_is_none_is_a_mistake_in_the_configuration(site: Path, code: str | None, message: str) -> None:
    name = "absent_survey.reader" if code is None else "example_survey.broken"
    (site / "example_survey" / "broken.py").write_text(code or "")
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_reader(SurveyConfig(reader=name))


def test_two_packages_with_one_name_are_refused(site: Path) -> None:
    other = site / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[cubescout.readers]\nexample = other.reader\n")
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match=r"several installed packages.*example_survey\.reader, other\.reader"):
        reader_class("example")


def test_a_store_does_not_import_the_module_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_by_a_store.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    attrs = {"config": {"survey": {"reader": "imported_by_a_store.reader"}}, "flux_unit": "erg"}
    assert survey_facts(attrs) == SurveyFacts("erg")


def test_every_reader_of_the_package_has_what_a_reader_has() -> None:
    assert built_in_readers() == ["califa-elines", "manga-logcube", "manga-maps", "muse", "sami"]
    for name in built_in_readers():
        facts = reader_class(name).facts
        assert facts.flux_unit.startswith("1e-17 erg")
        assert facts.page_url.startswith("https://")
        assert facts.psf_fwhm_spaxels == facts.psf_fwhm_arcsec / facts.spaxel_arcsec
        assert facts_of(name) == facts
    assert facts_of("manga") == facts_of("manga-logcube")
    assert facts_of("no_such_survey.reader") is None
    assert facts_of("nothing") is None


def test_targets_that_are_none_are_a_mistake_in_the_configuration(survey: SurveyConfig) -> None:
    reader = SimpleNamespace(find_targets=lambda: [("gal0", 0.02)])
    with pytest.raises(ConfigError, match=r"find_targets gives \('gal0', 0.02\), expected cubeprep.cube.Target"):
        select_targets(survey, reader)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ("{}['FOO']", "gal0.fits: KeyError: 'FOO' (reader broken.py, line 4)"),
        ("7", "gal0.fits: TypeError: open of the reader gives a int, expected a list of arms"),
    ],
)
def test_a_galaxy_on_which_a_readers_code_fails_names_its_line(site: Path, result: str, reason: str) -> None:
    code = f"class Reader:\n    grid = 'linear'\n    def open(self, target):\n        return {result}\n"
    (site / "example_survey" / "broken.py").write_text(code)
    reader = importlib.import_module("example_survey.broken").Reader()
    target = Target("gal0", "gal0", 0.02, ra_deg=10.0, dec_deg=0.0, paths=("gal0.fits",))
    outcome, _, _ = extract_galaxy(reader, target, GalaxyConfig(windows=WindowConfig(size=8)))
    assert (outcome.code, outcome.reason) == ("unreadable", reason)
