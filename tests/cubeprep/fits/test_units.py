"""Units of flux and errors, as headers of many instruments write them."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io.fits import Header
from hypothesis import given
from hypothesis import strategies as st

from cubeprep.cube import Rejected
from cubeprep.fits.units import flux_unit, inverse_variance, noise_unit, parse_unit

MUSE = "10**(-20)*erg/s/cm**2/Angstrom"


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("1E-17 erg/s/cm^2/Ang/spaxel", 1),
        ("10**(-16) erg /s /cm**2 /angstrom /pixel", 10),
        ("10**(-16) erg/s/cm2/A/pixel", 10),
        (MUSE, 1e-3),
        ("10**-20 Angstrom-1 cm-2 erg s-1", 1e-3),
        ("1e-20 erg / (Angstrom cm2 s)", 1e-3),
        (".1E-16 erg/s/cm2/A", 1),
        (".5e-17 erg/s/cm2/A", 0.5),
        ("erg/s/cm2/A*.5e-17", 0.5),
        ("10.e-17 erg.s-1.cm-2.A-1", 10),
        ("1D-18 ergs/sec/cm^2/A", 0.1),
        ("10^-16 erg/s/cm^2/nm", 1),
        ("1e-16 erg s-1 cm-2 um-1 spaxel-1", 1e-3),
        ("1e-16 FLAM", 10),
        ("erg.s-1.cm-2.AA-1", 1e17),
        ("W m^-2 um^-1", 1e16),
        ("1e-20 W/m2/nm", 0.1),
        ("10**(-20)*(erg/s/cm**2/Angstrom)", 1e-3),
        ("1E-17 erg s^{-1} cm^{-2} Angstrom^{-1}", 1),
    ],
)
def test_densities_by_wavelength(unit: str, scale: float) -> None:
    found = flux_unit(Header({"BUNIT": unit}), "cube")
    assert found.scale(np.array([5000.0])) == pytest.approx(scale, rel=1e-11)


@pytest.mark.parametrize(
    ("unit", "janskys"),
    [("Jy", 1), ("mJy/spaxel", 1e-3), ("1e-23 erg/s/cm2/Hz", 1), ("uJy", 1e-6), ("erg/s/cm2/Hz", 1e23)],
)
def test_densities_by_frequency_go_by_wavelength(unit: str, janskys: float) -> None:
    wave = np.array([4000.0, 5000.0, 10000.0])
    found = flux_unit(Header({"BUNIT": unit}), "cube").scale(wave)
    want = (janskys * u.Jy).to(1e-17 * u.erg / u.s / u.cm**2 / u.AA, u.spectral_density(wave * u.AA)).value
    np.testing.assert_allclose(found[:, 0, 0], want, rtol=1e-6)
    assert found.shape == (3, 1, 1)
    assert (1 / found**2 > 0).all(), "the factor of inverse variances"


def test_fluxes_by_solid_angle_take_the_size_of_a_spaxel() -> None:
    header = Header({"BUNIT": "1e-16 erg/s/cm2/Angstrom/arcsec**2"})
    assert flux_unit(header, "cube", spaxel_arcsec=0.5).factor == pytest.approx(10 * 0.25)
    with pytest.raises(Rejected, match="does not say how large a spaxel is"):
        flux_unit(header, "cube")
    steradian = Header({"BUNIT": "1e-16 erg/s/cm2/Angstrom/sr"})
    assert flux_unit(steradian, "cube", spaxel_arcsec=2).factor == pytest.approx(
        10 * 4 * (1 * u.arcsec**2).to_value(u.sr)
    )


@pytest.mark.parametrize(
    "unit",
    [
        "", "counts", "1e-20 erg/s", "adu", "electron/s", "1e-17 erg/s/cm2", "1e-17 erg/s/cm2/pixel", "10^(-16)", "mag",
        "1e-17 erg/s/cm2/A**", "((1e-17 erg", "1e-17 erg/s/cm2/A)", "0 erg/s/cm2/A", "1e-17 erg/s cm2 A", "mJy/beam",
        "erg**999999999", "1e-17 photon/s/cm2/A", "1e-17 erg/s/cm2/A2", "1e-17 erg//s/cm2/A/",
        "10**-16.5 erg/s/cm2/A", "1e-16.5 erg/s/cm2/A", "10^(-16.5) erg/s/cm2/A", "1.2.3e-17 erg/s/cm2/A",
        "erg/s.1e-17/cm2/A",
    ],
)  # fmt: skip
def test_what_is_no_flux_is_refused_with_the_card(unit: str) -> None:
    with pytest.raises(Rejected, match="cube: BUNIT = ") as caught:
        flux_unit(Header({"BUNIT": unit}), "cube")
    assert caught.value.code == "bad_unit"
    assert repr(unit) in caught.value.reason
    assert "expected" in caught.value.reason


def test_a_flux_by_fibre_is_none_by_spaxel() -> None:
    with pytest.raises(Rejected, match="a flux by fibre, expected one by spaxel or by arcsec2"):
        flux_unit(Header({"BUNIT": "1e-17 erg/s/cm2/A/fiber"}), "cube")


@pytest.mark.parametrize("unit", ["1e+16 erg / (Angstrom cm2 s)", "1e-40 erg / (Angstrom cm2 s)"])
def test_a_scale_that_cannot_be_is_refused(unit: str) -> None:
    with pytest.raises(Rejected, match=r"times 1e-17 erg/s/cm2, expected 1e-12 to 1e\+19") as caught:
        flux_unit(Header({"BUNIT": unit}), "cube")
    assert caught.value.code == "bad_unit"


def test_maps_are_integrated_over_wavelength_and_spectra_are_not() -> None:
    by_map = Header({"BUNIT": "1E-17 erg/s/cm^2/spaxel"})
    assert flux_unit(by_map, "maps", integrated=True).factor == 1
    with pytest.raises(Rejected, match="no unit of flux"):
        flux_unit(by_map, "maps")
    with pytest.raises(Rejected, match="no unit of flux"):
        flux_unit(Header({"BUNIT": MUSE}), "maps", integrated=True)


@pytest.mark.parametrize(
    ("text", "kind", "factor"),
    [
        (f"({MUSE})**2", "variance", 1),
        (f"{MUSE}**2", "variance", 1),  # as the MUSE pipeline writes it
        ("10**-40 Angstrom-2 cm-4 erg2 s-2", "variance", 1),
        ("1e-34 erg2 / (Angstrom2 cm4 s2)", "variance", 1e6),
        (MUSE, "sigma", 1),
        ("1e-17 erg/s/cm2/Angstrom", "sigma", 1e3),
        ("1e40 erg-2 cm4 s2 Angstrom2", "ivar", 1),
        ("", "variance", 1),
    ],
)
def test_errors_are_what_their_own_unit_says(text: str, kind: str, factor: float) -> None:
    data = flux_unit(Header({"BUNIT": MUSE}), "cube")
    found = noise_unit(Header({"BUNIT": text}), data, MUSE, "cube", kind="variance")
    assert found[0] == kind
    assert found[1] == pytest.approx(factor)


@pytest.mark.parametrize(
    ("stated", "text", "want"),
    [
        ("MSE", "", "variance"), ("RMSE", "", "sigma"), ("INVMSE", "", "ivar"), ("FLAG32BIT", "", "variance"),
        ("rmse", MUSE, "sigma"), ("MSE", MUSE, "sigma"), ("MSE", f"{MUSE}**2", "variance"),
        ("INVRMSE", "", None), ("RMSE", f"{MUSE}**2", None), ("MSE", "1e-17 erg/s/cm2/A", None),
    ],
)  # fmt: skip
def test_hduclas3_is_the_kind_of_errors_and_agrees_with_their_unit(stated: str, text: str, want: str | None) -> None:
    data = flux_unit(Header({"BUNIT": MUSE}), "cube")
    header = Header({"EXTNAME": "STAT", "HDUCLAS3": stated} | ({"BUNIT": text} if text else {}))
    if want:
        assert noise_unit(header, data, MUSE, "cube", kind="variance")[0] == want
        return
    with pytest.raises(Rejected, match=r"bad_unit: cube: .*STAT.*expected"):
        noise_unit(header, data, MUSE, "cube", kind="variance")


def test_inverse_variances_that_hduclas3_calls_otherwise_are_refused() -> None:
    data = flux_unit(Header({"BUNIT": MUSE}), "cube")
    with pytest.raises(Rejected, match="HDUCLAS3 = 'MSE' of IVAR, expected INVMSE or no card"):
        noise_unit(Header({"EXTNAME": "IVAR", "HDUCLAS3": "MSE"}), data, MUSE, "cube", kind="ivar")


@pytest.mark.parametrize("scale", ["10**(-40)*", "1e-13 ", ""])
def test_sigmas_out_of_all_proportion_to_the_fluxes_are_refused(scale: str) -> None:
    data = flux_unit(Header({"BUNIT": MUSE}), "cube")
    with pytest.raises(Rejected, match=r"bad_unit: cube: .*makes sigmas in .* expected 1e-06 to 1e") as caught:
        noise_unit(Header({"BUNIT": f"{scale}erg/s/cm**2/Angstrom"}), data, MUSE, "cube", kind="variance")
    assert MUSE in caught.value.reason


@pytest.mark.parametrize("text", ["Jy2", "erg/s", "what", "10**(-20)*erg/s/cm**2/Angstrom**3"])
def test_errors_of_another_unit_are_refused(text: str) -> None:
    data = flux_unit(Header({"BUNIT": MUSE}), "cube")
    with pytest.raises(Rejected, match=r"cube: BUNIT = .* of STAT") as caught:
        noise_unit(Header({"BUNIT": text, "EXTNAME": "STAT"}), data, MUSE, "cube", kind="variance")
    assert caught.value.code == "bad_unit"


def test_inverse_variances_stay_so_whatever_header_they_were_copied_from() -> None:
    text = "1E-17 erg/s/cm^2/spaxel"
    data = flux_unit(Header({"BUNIT": text}), "maps", integrated=True)
    for own in ("", text, "(1E-17 erg/s/cm^2/spaxel)^{-2}"):
        assert noise_unit(Header({"BUNIT": own}), data, text, "maps", kind="ivar") == ("ivar", 1)
    with pytest.raises(Rejected, match="expected its power -2"):
        noise_unit(Header({"BUNIT": f"({text})^2"}), data, text, "maps", kind="ivar")


def test_errors_of_each_kind_become_the_same_inverse_variance() -> None:
    sigma = np.array([0.5, 2.0, np.nan, 0.0, -1.0])
    want = np.array([4, 0.25, np.nan, 0, 0])
    np.testing.assert_allclose(inverse_variance(sigma, "sigma", 1.0), want)
    np.testing.assert_allclose(inverse_variance(sigma * np.abs(sigma), "variance", 1.0), want)
    np.testing.assert_allclose(inverse_variance(sigma / 10, "sigma", 10.0), want)
    np.testing.assert_allclose(inverse_variance(want, "ivar", 1.0), want)


SPELLINGS = {
    "erg": ("erg", "ergs", "erg"),
    "s": ("s", "sec", "second"),
    "cm": ("cm",),
    "Angstrom": ("Angstrom", "angstrom", "A", "AA", "Ang"),
}


@given(
    st.data(), st.integers(-25, -8), st.permutations(["erg", "s", "cm", "Angstrom"]), st.sampled_from(["**", "^", ""])
)
def test_any_spelling_is_the_same_unit(data: st.DataObject, exponent: int, order: list[str], power: str) -> None:
    powers = {"erg": 1, "s": -1, "cm": -2, "Angstrom": -1}
    parts = []
    for name in order:
        spelled = data.draw(st.sampled_from(SPELLINGS[name]))
        value = powers[name]
        negative = f"({value})" if power and data.draw(st.booleans()) else str(value)
        parts.append(spelled if value == 1 else f"{spelled}{power}{negative}")
    scale = data.draw(st.sampled_from([f"1e{exponent}", f"10**({exponent})", f"10^{exponent}", f"1.0E{exponent}"]))
    text = data.draw(st.sampled_from([" ", "*", " * "])).join([scale, *parts])
    want = 10.0**exponent * u.erg / u.s / u.cm**2 / u.AA
    assert parse_unit(text).to(want) == pytest.approx(1)
