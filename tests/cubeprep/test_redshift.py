from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeprep.cube import Planes
from cubeprep.extract import extract_windows
from cubeprep.prepare_config import GalaxyConfig
from cubeprep.redshift import (
    NOT_MEASURED,
    PROFILE_SIGMA_KMS,
    SEARCH,
    RedshiftConfig,
    RedshiftOffset,
    _fit,
    corrected,
    is_displaced,
    measure_offset,
    summed,
)
from cubeprep.shard import extract_galaxy
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.survey import simulate_survey
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.windows import WindowConfig
from tests.cubeprep.test_readers import SIX_ANGSTROM
from tests.cubeprep.test_windows import ArrayArm
from tests.logcube import WAVE, line_spectrum, write_survey

CONFIG = WindowConfig(size=8)


@settings(deadline=None, max_examples=40)
@given(z=st.floats(0.01, 0.07), offset_kms=st.floats(-800, 800), seed=st.integers(0, 1000))
def test_the_offset_of_a_wrong_redshift_is_measured(z: float, offset_kms: float, seed: int) -> None:
    true_z = (1 + z) * (1 + offset_kms / 299792.458) - 1
    noise = np.random.default_rng(seed).normal(0, 0.05, len(WAVE))
    arm = ArrayArm(WAVE, line_spectrum(WAVE, true_z, flux=5.0) + 3 + noise, np.full(len(WAVE), 400.0))
    offset = extract_windows([arm], z, CONFIG, check_redshift=True).offset
    assert offset.offset_kms == pytest.approx(offset_kms, abs=60)
    assert offset.snr > 20
    assert corrected(z, offset) == pytest.approx(true_z, abs=3e-4)


def test_one_bright_line_does_not_outvote_the_others() -> None:
    """A spectrum whose [N II] is far above Halpha, as in a LINER, is not taken for one at +940 km/s."""
    z = 0.03
    spectrum = line_spectrum(WAVE, z, flux=2.0)
    centre = 6585.271 * (1 + z)
    spectrum += 20 * np.exp(-0.5 * ((WAVE - centre) / 3) ** 2)
    arm = ArrayArm(WAVE, spectrum, np.full(len(WAVE), 1e4))
    assert abs(extract_windows([arm], z, CONFIG, check_redshift=True).offset.offset_kms) < 60


@pytest.mark.slow
def test_stars_without_gas_are_not_taken_for_lines_elsewhere(tmp_path: Path) -> None:
    """Passive galaxies have [N II] at most, on absorption lines that are far more significant."""
    settings = SimulateConfig(
        num_galaxies=10, class_shares={"passive": 1}, bundle_shares={19: 1}, unusual_fraction=0, maps=(), num_workers=1
    )
    simulate_survey(settings, 1, tmp_path)
    reader = make_reader(SurveyConfig(root=str(tmp_path)))
    outcomes = [extract_galaxy(reader, target, GalaxyConfig(windows=CONFIG))[0] for target in reader.find_targets()]
    assert len(outcomes) == 10
    assert not any(outcome.z_flag for outcome in outcomes)


def test_without_lines_there_is_no_signal() -> None:
    # The same noise in all 20 x 20 spaxels: its ivar is that of their sum.
    arm = ArrayArm(WAVE, np.random.default_rng(0).normal(1, 0.05, len(WAVE)), np.full(len(WAVE), 1.0))
    assert extract_windows([arm], 0.03, CONFIG, check_redshift=True).offset.snr < 20


@pytest.mark.parametrize("correct", [False, True])
def test_a_wrong_redshift_is_flagged_and_corrected_if_asked(tmp_path: Path, correct: bool) -> None:
    root = write_survey(tmp_path, {"1-1": 0.03}, size=9)
    reader = make_reader(SurveyConfig(root=str(root)))
    (target,) = select_targets(SurveyConfig(root=str(root)), reader)
    wrong = replace(target, z=0.0315)
    config = GalaxyConfig(windows=CONFIG, redshift=RedshiftConfig(correct=correct))
    outcome, windows, _ = extract_galaxy(reader, wrong, config)
    assert outcome.z_flag
    assert outcome.z_offset_kms == pytest.approx(-437, abs=40)
    assert outcome.z_used == pytest.approx(0.03 if correct else 0.0315, abs=2e-4)
    halpha = windows.flux[CONFIG.line_names.index("Ha-6564"), :, 4, 4]
    assert (3 <= int(np.nanargmax(halpha)) <= 6) == correct


@pytest.mark.realdata
def test_of_the_real_galaxies_only_sami_56140_is_flagged(real_data: Path) -> None:
    """Its Halpha peaks 6 Angstrom from where the table's redshift puts it: a horn of its fast rotation."""
    survey = SurveyConfig(reader="sami", root=str(real_data / "sami" / "cubes"))
    reader = make_reader(survey)
    config = GalaxyConfig(windows=SIX_ANGSTROM)
    outcomes = {target.mangaid: extract_galaxy(reader, target, config)[0] for target in select_targets(survey, reader)}
    assert {name: outcome.z_flag for name, outcome in outcomes.items()} == {
        "41144": False,
        "56140": True,
        "572402": False,
    }
    assert outcomes["56140"].z_offset_kms < -200
    assert abs(outcomes["41144"].z_offset_kms) < 30
    assert abs(outcomes["572402"].z_offset_kms) < 30


@pytest.mark.parametrize(
    ("offset_kms", "snr", "stars_kms", "displaced"),
    [
        (-222, 233, -54, False),  # SAMI 56140 A, whose gas rotates fast
        (-222, 233, np.nan, True),
        (-222, 233, -190, True),  # stars and gas alike
        (300, 233, 280, True),
        (300, 99, 280, False),
        (199, 233, 0, False),
        (900, 233, 20, True),  # no star is looked for there
    ],
)
def test_lines_that_the_stars_do_not_follow_say_nothing_of_the_redshift(
    offset_kms: float, snr: float, stars_kms: float, displaced: bool
) -> None:
    assert is_displaced(RedshiftOffset(offset_kms, snr), RedshiftConfig(), stars_kms) is displaced


def test_redshifts_and_velocities_combine_as_factors() -> None:
    assert corrected(0.5, RedshiftOffset(29979.2458, 100)) == pytest.approx(1.5 * 1.1 - 1)
    assert corrected(0.0, RedshiftOffset(29979.2458, 100)) == pytest.approx(0.1)


VELOCITY_KMS = SEARCH.velocity_kms


def spectrum(height: float, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A line at +300 km/s on noise, with errors of one."""
    line = height * np.exp(-0.5 * ((VELOCITY_KMS - 300) / PROFILE_SIGMA_KMS) ** 2)
    return line + np.random.default_rng(seed).normal(0, noise, len(VELOCITY_KMS)), np.ones(len(VELOCITY_KMS))


@pytest.mark.parametrize(
    ("heights", "agree"),
    [
        ([20, 20], True),  # two lines are all that is covered
        ([20, 0], False),
        ([20, 20, 20], True),
        ([20, 20, 0], False),  # two of three
        ([20, 20, 20, 0, 0, 0], True),
        ([20, 20, 0, 0, 0, 0], False),
    ],
)
def test_an_offset_takes_three_lines_or_both_of_two(heights: list[float], agree: bool) -> None:
    offset = measure_offset([spectrum(height) for height in heights], VELOCITY_KMS)
    assert (offset != NOT_MEASURED) == agree
    if agree:
        assert offset.offset_kms == pytest.approx(300, abs=20)


def test_bumps_of_a_window_are_measured_in_gaussian_sigmas() -> None:
    """A line on a crest of waves counts beyond 1.5 robust standard deviations, not 1.5 median absolute deviations."""
    wobble = 12 * np.cos(2 * np.pi * (VELOCITY_KMS - 300) / 500)
    found = []
    for factor in np.arange(0, 2, 0.02):
        line = factor * 12 * np.exp(-0.5 * ((VELOCITY_KMS - 300) / PROFILE_SIGMA_KMS) ** 2)
        flux, ivar = wobble + line, np.ones(len(VELOCITY_KMS))
        signed = _fit(flux, ivar, VELOCITY_KMS)
        scatter = np.median(np.abs(signed - np.median(signed)))
        peak = signed[np.abs(VELOCITY_KMS - VELOCITY_KMS[signed.argmax()]) <= 150].max()
        accepted = measure_offset([(flux, ivar)] * 3, VELOCITY_KMS) != NOT_MEASURED
        assert accepted == (peak > max(1.5 * 1.4826 * scatter, 5))
        found.append((accepted, peak > 1.5 * scatter))
    assert (False, True) in found, "a peak lies between the two rules"
    assert (True, True) in found


def test_an_artefact_of_one_line_does_not_outvote_the_others() -> None:
    """A residual of the sky, say, ten times as bright as any line: its vote counts no more than that of a good line."""
    flux, ivar = spectrum(30)
    spoiled = flux + 300 * np.exp(-0.5 * ((VELOCITY_KMS + 600) / PROFILE_SIGMA_KMS) ** 2)
    found = measure_offset([(flux, ivar)] * 5 + [(spoiled, ivar)], VELOCITY_KMS)
    assert found.offset_kms == pytest.approx(300, abs=20)


def test_each_sample_is_a_sum_over_the_same_spaxels() -> None:
    mask = np.zeros((4, 2, 2), dtype=np.uint8)
    mask[1, 0, 0], mask[3] = 1, 2  # one spaxel is masked in one sample, and one sample is not covered
    flux, ivar = summed(Planes(np.where(mask, 0, 5.0), np.where(mask, 0, 4.0), mask))
    np.testing.assert_array_equal(flux[:3], 15)
    np.testing.assert_allclose(ivar, [4 / 3, 4 / 3, 4 / 3, 0])
