"""A slice of the fuzz run: damaged files cost their own galaxy alone, and what contradicts itself is noticed."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from signal import pause

import pytest
from astropy.io import fits

from benchmarks.fuzz import FAULTS, contradicts_itself, run_survey
from benchmarks.fuzz_files import BASE, make_sources

SOURCES = ("manga-gz", "manga-plain", "maps-simulated")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    made = make_sources(folder, None)
    assert tuple(source.name for source in made) == SOURCES
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_no_damage_costs_another_galaxy_or_passes_in_silence(folder: Path, source: str) -> None:
    verdicts = run_survey(str(folder / source), [f"7-{i}" for i in range(12)])
    assert [verdict for verdict in verdicts if verdict.outcome in FAULTS] == []
    assert len(verdicts) == 12
    assert any(verdict.outcome == "set aside" for verdict in verdicts)


@pytest.mark.slow
def test_faults_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the product does wrong is seen: an exception, a loss, and values that pass in silence."""

    def broken(*_: object) -> None:
        raise KeyError("x")

    def lost(*_: object) -> None:
        raise ValueError("two galaxies of one name")

    place, seeds = str(folder / "manga-gz"), [f"7-{i}" for i in range(12)]
    for function, outcome in ((broken, "traceback"), (lost, "lost")):
        with monkeypatch.context() as patch:
            patch.setattr("benchmarks.fuzz.prepared", function)
            assert run_survey(place, seeds[:1])[0].outcome == outcome
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.fuzz.damage", lambda content, rng: ("voxels", with_other_voxels(content)))
        assert run_survey(place, seeds[:1])[0].outcome == "set aside"
        patch.setattr("cubeprep.fits.stream.FitsStream.finish", lambda self: None)
        (found,) = run_survey(place, seeds[:1])
    assert found.outcome == "silent", found
    assert found.sigmas > 1


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "endless"), [("SECONDS", lambda *_: spin()), ("HANGS_S", lambda *_: pause())])
def test_a_survey_without_end_is_a_crash(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, endless: Callable[..., object]
) -> None:
    monkeypatch.setattr("benchmarks.fuzz.prepared", endless)
    monkeypatch.setattr(f"benchmarks.fuzz.{limit}", 0.1)
    assert run_survey(str(folder / "manga-gz"), ["7-0"])[0].outcome == "crash"


def spin() -> None:
    # In Python: a signal's handler runs between its instructions, and never within a loop in C.
    while True:
        pass


def with_other_voxels(content: bytes) -> bytes:
    """A gzip file whose FLUX has a flipped bit in each voxel, while its CRC is that of the true values."""
    held = bytearray(gzip.decompress(content))
    with fits.open(io.BytesIO(bytes(held))) as hdus:
        place = hdus["FLUX"].fileinfo()
    voxels = slice(place["datLoc"] + 1, place["datLoc"] + place["datSpan"], 4)
    held[voxels] = bytes(value ^ 0x20 for value in held[voxels])
    return gzip.compress(bytes(held), 1)[:-8] + content[-8:]


@pytest.mark.slow
def test_what_contradicts_itself_is_known(folder: Path, tmp_path: Path) -> None:
    base = next((folder / "manga-gz").glob(f"*{BASE}*"))
    assert not contradicts_itself(base)
    content = bytearray(base.read_bytes())
    content[-6] ^= 1
    (tmp_path / "c.fits.gz").write_bytes(content)
    assert contradicts_itself(tmp_path / "c.fits.gz")
    plain = bytearray(next((folder / "manga-plain").glob(f"*{BASE}*")).read_bytes())
    plain[len(plain) // 2] ^= 1
    (tmp_path / "c.fits").write_bytes(plain)
    assert contradicts_itself(tmp_path / "c.fits")
