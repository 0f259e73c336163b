"""World coordinates of headers, against astropy's own."""

import warnings

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS, FITSFixedWarning
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeprep.cube import Rejected
from cubeprep.fits.wcs import AIR, VACUUM, read_axes, spaxel_arcsec, wavelengths
from cubeprep.lines import air_to_vacuum

KINDS = (*VACUUM, *AIR)
ANGSTROMS = {"Angstrom": 1.0, "nm": 10.0, "um": 1e4, "m": 1e10}
ARCSECS = {"deg": 3600.0, "arcsec": 1.0, "arcmin": 60.0}


def header_of(
    *, kind: str = "WAVE", unit: str = "Angstrom", style: str = "CD", sky_unit: str = "deg",
    matrix: np.ndarray | None = None, step: float = 1.25, first: float = 4750.0, pixel: float = 1.0,
) -> Header:  # fmt: skip
    """A header of 7 x 5 spaxels and 100 planes; `matrix` [2, 2] arcsec, wavelengths in Angstrom."""
    cards: dict = {
        "NAXIS": 3,
        "NAXIS1": 7,
        "NAXIS2": 5,
        "NAXIS3": 100,
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CTYPE3": kind,
    }
    cards |= {"CUNIT1": sky_unit, "CUNIT2": sky_unit, "CUNIT3": unit, "CRPIX1": 4.0, "CRPIX2": 3.0, "CRPIX3": pixel}
    cards |= {"CRVAL1": 150.0, "CRVAL2": 2.0, "CRVAL3": first / ANGSTROMS[unit]}
    whole = np.zeros((3, 3))
    whole[:2, :2] = (np.diag([-0.2, 0.2]) if matrix is None else matrix) / ARCSECS[sky_unit]
    whole[2, 2] = step / ANGSTROMS[unit]
    scales = np.ones(3)
    if style == "PC":  # a rotation in PC, steps in CDELT
        scales = np.array([np.hypot(*whole[0, :2]) or 1, np.hypot(*whole[1, :2]) or 1, whole[2, 2]])
    name = "CD" if style == "CD" else "PC"
    for i in range(3):
        for j in range(3):
            cards[f"{name}{i + 1}_{j + 1}"] = float(whole[i, j] / scales[i])
    if style != "CD":
        cards |= {f"CDELT{i + 1}": float(scales[i]) for i in range(3)}
    return Header(cards)


def astropy_axes(header: Header) -> tuple[np.ndarray, float]:
    """Wavelengths in the header's kind of medium, Angstrom, and the side of a spaxel, by astropy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(header)
        planes = np.arange(header["NAXIS3"])
        wave = wcs.wcs_pix2world(np.stack([planes * 0 + 3, planes * 0 + 2, planes], axis=1), 0)[:, 2] * 1e10
    return wave, float(np.sqrt(abs(np.linalg.det(wcs.celestial.pixel_scale_matrix))) * 3600)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    unit=st.sampled_from(list(ANGSTROMS)),
    style=st.sampled_from(["CD", "PC", "PC1"]),
    sky_unit=st.sampled_from(list(ARCSECS)),
    angle=st.floats(0, 2 * np.pi),
    shear=st.floats(-0.5, 0.5),
    flip=st.booleans(),
    sides=st.tuples(st.floats(0.05, 2), st.floats(0.05, 2)),
    step=st.floats(0.1, 5),
    pixel=st.floats(-500, 500),
)
def test_any_legal_header_means_what_it_means_to_astropy(
    kind: str, unit: str, style: str, sky_unit: str, angle: float, shear: float, flip: bool,
    sides: tuple[float, float], step: float, pixel: float,
) -> None:  # fmt: skip
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1, shear], [0, 1]]) @ np.diag([-sides[0] if flip else sides[0], sides[1]])
    first = 4750.0 + (pixel * step if "-LOG" not in kind else 0)
    header = header_of(
        kind=kind, unit=unit, style=style, sky_unit=sky_unit, matrix=matrix, step=step, first=first, pixel=pixel
    )
    axes = read_axes(header, "cube")
    wave, side = astropy_axes(header)
    np.testing.assert_allclose(axes.wave, air_to_vacuum(wave) if kind in AIR else wave, rtol=1e-9)
    assert axes.spaxel_arcsec == pytest.approx(side, rel=1e-6)
    assert side == pytest.approx(np.sqrt(sides[0] * sides[1]), rel=1e-6)


def test_steps_in_pc_with_cdelt_of_one_are_those_of_cd() -> None:
    for kind in ("WAVE-LOG", "AWAV"):
        cd, pc = (wavelengths(header_of(kind=kind, style=style), "c", kinds=KINDS) for style in ("CD", "PC1"))
        np.testing.assert_array_equal(cd, pc)
        assert cd[1] - cd[0] == pytest.approx(1.25, rel=1e-3)


def test_cards_that_are_not_there_have_the_standards_values() -> None:
    header = header_of()
    for key in [key for key in header if key.startswith(("CD", "CRPIX3"))]:
        del header[key]
    header["CDELT1"], header["CDELT2"], header["CDELT3"], header["CRPIX3"] = -0.5 / 3600, 0.5 / 3600, 2.0, 1.0
    assert spaxel_arcsec(header) == pytest.approx(0.5)
    assert np.diff(wavelengths(header, "c", kinds=KINDS))[0] == pytest.approx(2)
    del header["CUNIT1"], header["CUNIT2"], header["CUNIT3"]
    assert spaxel_arcsec(header) == pytest.approx(0.5)
    assert wavelengths(header, "c", kinds=KINDS)[0] == pytest.approx(4750)
    del header["CRPIX3"]
    assert wavelengths(header, "c", kinds=KINDS)[0] == pytest.approx(4752), "the reference is pixel 0, the first is 1"


def test_pc_is_in_steps_of_the_world_axis() -> None:
    header = header_of(style="PC")
    header["PC3_1"] = 0.1  # of 1.25 Angstrom, not of a spaxel in degrees
    with pytest.raises(Rejected, match=r"wavelengths vary over the sky .*0\.125"):
        wavelengths(header, "c", kinds=KINDS)


def test_a_step_in_cdelt_beside_a_cd_of_the_sky_is_the_step() -> None:
    header = header_of()
    del header["CD3_3"], header["CD3_1"], header["CD3_2"]
    header["CDELT3"] = 2.0
    assert np.diff(wavelengths(header, "c", kinds=KINDS))[0] == pytest.approx(2)


def test_what_the_sky_is_in_another_unit_or_is_not_said_is_not_known() -> None:
    header = header_of()
    header["CUNIT1"] = "pixel"
    assert np.isnan(spaxel_arcsec(header))
    del header["CUNIT1"]
    for kind, known in (("RA---TAN-SIP", True), ("GLON-CAR", True), ("LINEAR", False), ("PIXEL", False), ("", False)):
        header["CTYPE1"] = kind
        assert np.isfinite(spaxel_arcsec(header)) == known, "no CUNIT1: degrees on the sky alone"
    assert np.isnan(spaxel_arcsec(Header()))
    assert np.isnan(spaxel_arcsec(Header({"CDELT1": 0.0, "CDELT2": 0.0})))


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"CTYPE3": "VELO"}, "CTYPE3 = 'VELO', expected 'WAVE'"),
        ({"CTYPE3": "FREQ"}, "CTYPE3 = 'FREQ'"),
        ({"CTYPE3": ""}, "CTYPE3 = ''"),
        ({"CTYPE3": "DEC--TAN", "CTYPE1": "AWAV"}, r"wavelength is axis 1 \(CTYPE1 = 'AWAV'\), expected axis 3"),
        ({"CUNIT3": "km/s"}, "CUNIT3 = 'km/s', expected a length"),
        ({"CUNIT3": "furlong"}, "CUNIT3 = 'furlong', expected a length"),
        ({"CUNIT3": "", "CRVAL3": 475.0}, "no CUNIT3, and wavelengths from 475"),
        ({"CRVAL3": "N/A"}, "CRVAL3 = 'N/A', expected a number"),
        ({"CRPIX3": "x"}, "CRPIX3 = 'x', expected a number"),
        ({"CRVAL3": -4750.0}, "CRVAL3 = -4750.0"),
        ({"CD3_3": -1.25}, "step -1.25; expected wavelengths that increase"),
        ({"CD3_3": 0.0}, "step 0"),
        ({"CD3_3": "one"}, "the step of axis 3 is not known"),
        ({"CRPIX3": 5000.0}, r"wavelengths from -1498.75 to"),
        ({"CD3_1": 0.1}, "wavelengths vary over the sky"),
        ({"CD1_3": 0.1}, "positions on the sky vary with wavelength"),
        ({"SPECSYS": "SOURCE"}, "PRIMARY has SPECSYS = 'SOURCE', expected TOPOCENT, .* or no card"),
        ({"SPECSYS": "CMBDIPOL"}, "SPECSYS = 'CMBDIPOL'"),
        ({"AIRORVAC": "air"}, "AIRORVAC = 'air', expected 'vac' or no card beside wavelengths of type WAVE"),
        ({"CTYPE3": "AWAV", "AIRORVAC": "Vacuum"}, "AIRORVAC = 'Vacuum', expected 'air'"),
        ({"CDELT3": 2.5, "PC3_3": 1.0}, "cube.fits: CD3_3 = 1.25, but CDELT3 times PC3_3 is 2.5"),
        ({"NAXIS3": 1}, "NAXIS3 = 1"),
        ({"NAXIS3": 250_000_000}, "NAXIS3 = 250000000, expected 1 to 200000"),
    ],
)
def test_what_is_not_understood_is_refused_with_keyword_value_and_what_was_expected(
    cards: dict[str, object], message: str
) -> None:
    header = header_of()
    for key, value in cards.items():
        header[key] = value
    with pytest.raises(Rejected, match=message) as caught:
        wavelengths(header, "the/cube.fits", kinds=KINDS)
    assert caught.value.reason.startswith("the/cube.fits: ")
    assert caught.value.reason.count("the/cube.fits") == 1
    assert caught.value.code in ("bad_wave", "bad_axes", "bad_shape")


@pytest.mark.parametrize(
    "cards",
    [
        {"SPECSYS": "BARYCENT"}, {"SPECSYS": "heliocent"}, {"SPECSYS": " "}, {"AIRORVAC": "vac"},
        {"CDELT3": 1.0}, {"CDELT3": 1.25}, {"CDELT3": 1.0, "PC3_3": 1.2501},
    ],
)  # fmt: skip
def test_cards_that_agree_with_the_wavelengths_leave_them(cards: dict[str, object]) -> None:
    header = header_of()
    header.update(cards)
    np.testing.assert_array_equal(wavelengths(header, "c", kinds=KINDS), wavelengths(header_of(), "c", kinds=KINDS))


def test_no_step_at_all_is_no_step_of_one() -> None:
    header = header_of()
    for key in [key for key in header if key.startswith("CD")]:
        del header[key]
    with pytest.raises(Rejected, match="no CD3_3, PC3_3 or CDELT3"):
        wavelengths(header, "c", kinds=KINDS)


def test_a_fourth_axis_of_length_one_is_none() -> None:
    header = header_of()
    header["NAXIS"], header["NAXIS4"] = 4, 1
    plain = wavelengths(header_of(), "c", kinds=KINDS)
    np.testing.assert_array_equal(wavelengths(header, "c", kinds=KINDS), plain)
    header["NAXIS4"] = 2
    with pytest.raises(Rejected, match=r"no image of three axes \(None, \[2, 100, 5, 7\]\)"):
        wavelengths(header, "c", kinds=KINDS)
