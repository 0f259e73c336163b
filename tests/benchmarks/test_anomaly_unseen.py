"""Families that no choice was made with."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.anomaly.all_families import load_families
from benchmarks.anomaly.inject import inject
from benchmarks.anomaly.scene import Host
from benchmarks.anomaly.simulated import make_source, plan
from benchmarks.anomaly.unseen import UNSEEN, compare, main
from cubeprep.simulate.config import SimulateConfig
from cubeprep.windows import WindowConfig

CONFIG = SimulateConfig(num_galaxies=2, bundle_shares={19: 1}, class_shares={"star_forming": 1}, repeat_fraction=0)


@pytest.fixture(scope="module")
def host() -> Host:
    windows = WindowConfig(size=16, sampling="conserve", continuum="sidebands")
    return Host(make_source(plan(CONFIG, 3)[0], CONFIG, 3, 16, 2), windows)


def test_no_family_is_one_of_the_benchmarks() -> None:
    names = {family.name for family in UNSEEN}
    assert len(names) == len(UNSEEN)
    assert not names & set(load_families())


@pytest.mark.parametrize("family", UNSEEN, ids=lambda family: family.name)
def test_each_family_changes_the_galaxy_by_as_much_as_it_can(family, host: Host) -> None:
    drawn = family.draw(host, 2, np.random.default_rng(7))
    found = inject(host, drawn, 1000.0)
    if np.isinf(drawn.max_strength):
        assert found.reached
    else:
        most = inject(host, replace(drawn, max_strength=1.0), 1e9)
        assert 0 < found.snr <= most.snr * 1.01
    assert np.abs(found.delta).max() > 0
    assert np.isfinite(found.delta).all()


def test_dust_takes_light_away_and_more_of_it_in_the_blue(host: Host) -> None:
    (dust,) = (family for family in UNSEEN if family.name == "dust_lane")
    light = dust.draw(host, 2, np.random.default_rng(7)).light(np.array([4000.0, 8000.0]), np.ones((2, 16, 16)))
    assert light.min() >= -1
    assert light.max() <= 0
    assert light[0].min() < light[1].min() < -0.5


def test_the_same_scores_have_no_difference_and_better_ones_a_higher_recall() -> None:
    names = [f"g{i}" for i in range(200)]
    clean = pd.DataFrame({"name": names, "mangaid": names, "good": np.arange(200) / 200})
    rows = pd.DataFrame({"twin": clean["name"], "family": "f", "reached": True, "good": 2.0})
    for table in (clean, rows):
        table["same"], table["bad"] = table["good"], -table["good"]
    found = compare(rows, clean, ["good", "same", "bad"]).set_index("family").loc["f"]
    assert found["good"] == "1.000 (1.000 to 1.000)"
    assert found["bad"] == "0.000 (0.000 to 0.000)"
    assert found["less same"] == "0.000 to 0.000"
    assert found["less bad"] == "1.000 to 1.000"


@pytest.mark.slow
def test_one_command_compares_detectors(tmp_path, capsys) -> None:
    arguments = ["--tier", "tiny", "--work", str(tmp_path), "--galaxies", "2", "--workers", "1"]
    table = main([*arguments, "--detectors", "PCA-32", "total flux"])
    assert table["number"].tolist() == [6, 1, 1, 1, 1, 1, 1]
    assert "less total flux" in table
    assert "6 injections" in capsys.readouterr().out
