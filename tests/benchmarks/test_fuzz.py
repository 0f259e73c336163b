"""A slice of the fuzz run: damaged files cost their own galaxy alone, and what contradicts itself is noticed."""

from pathlib import Path

import pytest

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
        patch.setattr("cubeprep.fits.stream.FitsStream.finish", lambda self: None)
        patch.setattr("benchmarks.fuzz_files._edit_card", lambda content, rng: content)
        outcomes = [verdict for start in range(0, 96, 12) for verdict in run_survey(place, names(start))]
    assert any(verdict.outcome == "silent" and verdict.sigmas > 1 for verdict in outcomes)


def names(start: int) -> list[str]:
    return [f"8-{i}" for i in range(start, start + 12)]


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
