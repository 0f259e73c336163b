"""Cards that break the standard: those that decide what the data mean cost their galaxy, others nothing."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeprep.cube import Rejected
from cubeprep.readers import manga_maps
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from tests.logcube import write_survey
from tests.maps import maps_hdus, write_maps


def spoil(path: Path, keyword: str, value: str, *, after: bytes = b"") -> None:
    """Gives the first card with a keyword, after some text, a value as it stands."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    start = content.index(f"{keyword:8}=".encode(), content.index(after))
    content[start : start + 80] = f"{keyword:8}= {value}".ljust(80).encode()
    path.write_bytes(gzip.compress(bytes(content), 1))


MAPS: dict[str, tuple[str, str, bytes]] = {
    "unit": ("BUNIT", "'1E-17 erg", b"'EMLINE_GFLUX'"),
    "channel": ("C01", "OII 3727 'x", b"'EMLINE_GFLUX'"),
    "size": ("NAXIS1", "6 6 6", b"'EMLINE_GFLUX_IVAR'"),
}


@pytest.mark.parametrize(("keyword", "value", "after"), MAPS.values(), ids=MAPS)
def test_maps_with_a_card_that_cannot_be_parsed_are_rejected(
    tmp_path: Path, keyword: str, value: str, after: bytes
) -> None:
    path = write_maps(tmp_path, maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03))
    if keyword == "NAXIS1":
        content = gzip.decompress(path.read_bytes())
        after = content[: content.index(after)][-2000:].split(b"XTENSION")[-1]  # NAXIS comes before EXTNAME
    spoil(path, keyword, value, after=after)
    reader = make_reader(SurveyConfig(reader="manga-maps", root=str(tmp_path)))
    (target,) = reader.find_targets()
    with pytest.raises(Rejected, match=path.name):
        reader.read_maps(target, ["Ha-6564"], None)


def open_logcube(root: Path) -> None:
    config = SurveyConfig(root=str(root))
    reader = make_reader(config)
    (target,) = select_targets(config, reader)
    (arm,) = reader.open(target)
    arm.read(np.arange(10), None)


def read_field(root: Path) -> None:
    manga_maps.read_velocity(str(next(root.glob("*MAPS*"))), "stars", None, shape=(6, 6), max_error_kms=1e9)


@pytest.mark.parametrize(
    ("keyword", "value", "read"),
    [
        ("CTYPE3", "'WAVE-LOG", open_logcube),
        ("CRVAL3", "3 621.6", open_logcube),
        ("NAXIS3", "4 563", open_logcube),
        ("SCINPVEL", "9 000", read_field),
    ],
)
def test_a_card_that_cannot_be_parsed_is_shown(
    tmp_path: Path, keyword: str, value: str, read: Callable[[Path], None]
) -> None:
    write_survey(tmp_path, {"8000-1": 0.03}, size=6)
    write_maps(tmp_path, maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03))
    read(tmp_path)
    for path in tmp_path.rglob("*.fits.gz"):
        if ("MAPS" in path.name) == (read is read_field):
            spoil(path, keyword, value)
    with pytest.raises(Rejected, match=rf"fits\.gz: [\"']{keyword} *= {value}[\"'] is no card, expected") as caught:
        read(tmp_path)
    assert caught.value.code == "bad_card"


def test_listing_survives_cards_that_cannot_be_parsed(tmp_path: Path) -> None:
    """One that is needed costs its own galaxy; one that is not needed costs none."""
    for name in ("8000-1", "8000-2", "8000-3"):
        hdus = maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03, plateifu=name)
        hdus[0].header["OBSERVER"] = "x"
        hdus[0].header["OBJRA"] = 10.0
        path = write_maps(tmp_path, hdus)
        if name != "8000-1":
            spoil(path, "OBSERVER" if name == "8000-2" else "OBJRA", "1 2 3")
    config = SurveyConfig(reader="manga-maps", root=str(tmp_path))
    rejected = {target.plateifu: target.rejected for target in select_targets(config, make_reader(config))}
    code, reason = rejected.pop("8000-3") or ("", "")
    assert rejected == {"8000-1": None, "8000-2": None}
    assert code == "unreadable"
    assert "8000-3-MAPS" in reason
    assert "OBJRA" in reason


def test_a_drpall_with_a_card_that_cannot_be_parsed_is_named(tmp_path: Path) -> None:
    write_survey(tmp_path, {"8000-1": 0.03}, size=6)
    path = tmp_path / "drpall.fits"
    content = bytearray(path.read_bytes())
    start = content.index(b"TFORM5  =")
    content[start : start + 80] = b"TFORM5  = 1 2".ljust(80)
    path.write_bytes(content)
    with pytest.raises(fits.VerifyError), fits.open(path) as hdus:
        hdus[1].header["TFORM5"]
    config = SurveyConfig(root=str(tmp_path))
    with pytest.raises(ValueError, match=r"drpall\.fits: cannot be read as drpall"):
        make_reader(config).find_targets()


@pytest.mark.parametrize("keyword", [b"\x17Z8\xb9\xdaB\xc2\n", b"CR@IX3  ", b"CRP\x09X3  ", b"CR\xd0IX3  "])
def test_a_keyword_that_is_not_text_is_damage(tmp_path: Path, keyword: bytes) -> None:
    """The card that it was is missing: without CRPIX3, wavelengths are a plane off."""
    write_survey(tmp_path, {"8000-1": 0.03}, size=6)
    write_maps(tmp_path, maps_hdus(np.zeros((6, 6)), np.zeros((6, 6), dtype=bool), z=0.03))
    reader = make_reader(SurveyConfig(reader="manga-maps", root=str(tmp_path)))
    (target,) = reader.find_targets()
    for path, card, use in (
        (next(tmp_path.rglob("*LOGCUBE*")), b"CRPIX3  =", lambda: open_logcube(tmp_path)),
        (next(tmp_path.rglob("*MAPS*")), b"PC2_2   =", lambda: reader.read_maps(target, ["Ha-6564"], None)),
    ):
        use()
        content = gzip.decompress(path.read_bytes())
        assert card in content
        path.write_bytes(gzip.compress(content.replace(card, keyword + b"="), 1))
        with pytest.raises(Rejected, match="is no card: its keyword is not text") as caught:
            use()
        assert caught.value.code == "bad_card"
        assert path.name in caught.value.reason


@pytest.mark.parametrize("card", ["/ --- astrometry ---", "(a note)", "eso.det = 3", "HIERARCH ESO OBS NAME = 'x'"])
def test_notes_and_foreign_keywords_are_no_damage(tmp_path: Path, card: str) -> None:
    write_survey(tmp_path, {"8000-1": 0.03}, size=6)
    path = next(tmp_path.rglob("*LOGCUBE*"))
    content = gzip.decompress(path.read_bytes())
    spare = b"END".ljust(80)
    start = content.index(spare, content.index(b"CTYPE3"))
    assert content[start + 80 : start + 160].isspace()
    path.write_bytes(gzip.compress(content[:start] + card.ljust(80).encode() + spare + content[start + 160 :], 1))
    open_logcube(tmp_path)
