import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from pydantic import ValidationError

from cubeprep.simulate import drp
from cubeprep.simulate import survey as module
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.survey import make_observation, plan_survey, simulate_survey
from cubeprep.survey_files import fits_bytes

SMALL = SimulateConfig(num_galaxies=3, num_workers=1, bundle_shares={19: 1}, repeat_fraction=0.34, maps=())
MAPS_ONLY = SMALL.model_copy(update={"num_galaxies": 2, "repeat_fraction": 0, "cubes": False, "maps": ("dr17",)})
SEED = 5


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("survey")
    simulate_survey(SMALL, SEED, root)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# The survey: files, bytes, interruptions.


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_workers(survey, tmp_path):
    simulate_survey(SMALL.model_copy(update={"num_workers": 2}), SEED, tmp_path)
    assert contents(tmp_path) == contents(survey)
    assert len(contents(survey)) == SMALL.num_galaxies + 3


@pytest.mark.slow
def test_bytes_of_maps_do_not_depend_on_the_number_of_workers_or_on_cubes(survey, tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        simulate_survey(MAPS_ONLY.model_copy(update={"num_workers": workers}), SEED, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(list((tmp_path / "one").rglob("*MAPS*.fits.gz"))) == 2
    assert not list((tmp_path / "one").rglob("*LOGCUBE*"))


def test_another_seed_gives_another_survey(survey, tmp_path):
    simulate_survey(SMALL.model_copy(update={"num_galaxies": 1}), SEED + 1, tmp_path)
    with fits.open(tmp_path / "drpall.fits") as one, fits.open(survey / "drpall.fits") as other:
        assert one["MANGA"].data["nsa_z"][0] != other["MANGA"].data["nsa_z"][0]


def test_the_gzip_header_has_no_time(survey):
    for path in survey.rglob("*.fits.gz"):
        with path.open("rb") as file, gzip.GzipFile(fileobj=file) as member:
            member.read(1)
            assert member.mtime == 0


def test_an_interrupted_run_resumes(survey, tmp_path):
    def stop(done, total):
        assert total == SMALL.num_galaxies
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_survey(SMALL, SEED, tmp_path, stop)
    (first,) = tmp_path.rglob("*LOGCUBE.fits.gz")
    times = first.stat().st_mtime_ns
    assert not (tmp_path / "drpall.fits").exists()

    calls = []
    simulate_survey(SMALL, SEED, tmp_path, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert first.stat().st_mtime_ns == times
    assert contents(tmp_path) == contents(survey)


@pytest.mark.slow
def test_a_crash_leaves_no_half_file(survey, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(drp, "line_spread", fail)
        with pytest.raises(OSError, match="disk full"):
            simulate_survey(SMALL, SEED, tmp_path)
    assert not list(tmp_path.rglob("*.fits.gz"))
    (tmp_path / ".truth.parquet.1.partial").write_bytes(b"of a process that was killed")
    simulate_survey(SMALL, SEED, tmp_path)
    assert contents(tmp_path) == contents(survey)


def test_another_survey_in_the_same_folder_is_refused(survey):
    before = contents(survey)
    with pytest.raises(ValueError, match=r"depth \(1.0, now 2.0\)"):
        simulate_survey(SMALL.model_copy(update={"depth": 2.0}), SEED, survey)
    with pytest.raises(ValueError, match=r"seed \(5, now 6\)"):
        simulate_survey(SMALL, SEED + 1, survey)
    assert contents(survey) == before


def test_a_damaged_identity_is_refused(tmp_path):
    (tmp_path / "simulate.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        simulate_survey(SMALL, SEED, tmp_path)


def test_drpall_lists_the_cubes_that_are_there(survey):
    with fits.open(survey / "drpall.fits") as hdus:
        hdus.verify("exception")
        table = hdus["MANGA"].data
        assert hdus["MANGA"].columns["plate"].format == "J"
    truth = pq.read_table(survey / "truth.parquet").to_pylist()
    assert [row["plateifu"] for row in truth] == table["plateifu"].tolist()
    np.testing.assert_array_equal(table["nsa_z"], [row["z"] for row in truth])
    for row in table:
        assert row["plateifu"] == f"{row['plate']}-{row['ifudsgn']}"
        path = survey / str(row["plate"]) / "stack" / f"manga-{row['plateifu']}-LOGCUBE.fits.gz"
        header = fits.getheader(path)
        assert (header["PLATEIFU"], header["MANGAID"]) == (row["plateifu"], row["mangaid"])
        assert (header["OBJRA"], header["MNGTARG1"]) == (row["objra"], row["mngtarg1"])
        assert int(row["ifudsgn"][:-2]) == row["ifudesignsize"] == 19


def test_repeats_are_the_same_galaxy_observed_again(survey):
    rows = pq.read_table(survey / "truth.parquet").to_pylist()
    first, again = sorted(rows, key=lambda row: [r["mangaid"] for r in rows].count(row["mangaid"]))[-2:]
    assert first["mangaid"] == again["mangaid"]
    assert first["plateifu"] != again["plateifu"]
    assert (first["z"], first["log_mass"], first["oh"]) == (again["z"], again["log_mass"], again["oh"])
    assert first["psf_fwhm_arcsec"] != again["psf_fwhm_arcsec"]


def test_repeats_show_the_same_clumps(tmp_path, monkeypatch):
    clumps = {}

    def drawn(galaxy, psf_fwhm_arcsec, rng):
        clumps.setdefault(item.source, []).append(rng.random())
        raise InterruptedError

    monkeypatch.setattr(module, "galaxy_maps", drawn)
    for item in plan_survey(SMALL, SEED):
        with pytest.raises(InterruptedError):
            make_observation(SMALL, SEED, tmp_path, item)
    assert sorted(map(len, clumps.values())) == [1, 2]
    assert sorted(len(set(values)) for values in clumps.values()) == [1, 1]
    assert len({value for values in clumps.values() for value in values}) == 2


def test_a_cube_is_a_true_logcube(survey):
    path = sorted(survey.rglob("*LOGCUBE.fits.gz"))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(fits_bytes(str(path))) as hdus:
            hdus.verify("exception")
            names = [hdu.name for hdu in hdus]
            flux, ivar, mask = (hdus[name].data for name in ("FLUX", "IVAR", "MASK"))
            header, wave = hdus["FLUX"].header, hdus["WAVE"].data
            post, pre, sres = (hdus[name].data for name in ("LSFPOST", "LSFPRE", "SPECRES"))
            psf, image = hdus["GPSF"].data, hdus["GIMG"].data
    assert names[:7] == ["PRIMARY", "FLUX", "IVAR", "MASK", "LSFPOST", "LSFPRE", "WAVE"]
    assert flux.shape == ivar.shape == mask.shape == post.shape == (4563, 34, 34)
    assert (flux.dtype.name, mask.dtype.name) == ("float32", "int32")
    assert header["BUNIT"] == "1E-17 erg/s/cm^2/Ang/spaxel"
    assert (header["ERRDATA"], header["QUALDATA"], header["CTYPE3"]) == ("IVAR", "MASK", "WAVE-LOG")
    np.testing.assert_allclose(np.diff(np.log10(wave)), 1e-4, rtol=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy turns Angstrom into m, and says so
        from_wcs = WCS(header).spectral.all_pix2world(np.arange(4563), 0)[0] * 1e10
    np.testing.assert_allclose(from_wcs, wave, rtol=1e-9)
    inside = mask[0] == 0
    np.testing.assert_allclose(post[:, inside].mean(axis=1) * sres * 2.3548, wave, rtol=1e-4)
    assert (pre[:, inside] < post[:, inside]).all()
    assert psf.sum() == pytest.approx(1, rel=1e-5)
    assert image[17, 17] > 3 * np.median(image[inside]) > 0


def test_nothing_outside_the_bundle(survey):
    with fits.open(fits_bytes(str(sorted(survey.rglob("*LOGCUBE.fits.gz"))[0]))) as hdus:
        flux, ivar, mask = (hdus[name].data for name in ("FLUX", "IVAR", "MASK"))
    nothing = mask & 1 > 0
    assert 0.3 < nothing.mean() < 0.47
    assert not flux[nothing].any()
    assert not ivar[nothing].any()
    assert (ivar[~nothing] > 0).all()
    # As in the real files: where nothing was seen, coverage is low and there is no use.
    assert (mask[nothing] & 2 > 0).all()
    assert (mask[mask != 0] & 1 << 10 > 0).all()
    assert np.isfinite(flux).all()


# The plan and the configuration.


def test_the_plan_has_the_shares_of_the_config():
    config = SimulateConfig(num_galaxies=200, repeat_fraction=0.05, unusual_fraction=0.0)
    plan = plan_survey(config, 0)
    galaxies = [item.galaxy for item in plan if item.index == item.source]
    assert len(galaxies) == 190
    for name, share in config.class_shares.items():
        assert sum(g.galaxy_class == name for g in galaxies) == pytest.approx(190 * share, abs=1)
    assert len({item.target.plateifu for item in plan}) == 200
    assert len({item.target.mangaid for item in plan}) == 190
    assert all(0.015 <= g.z <= 0.075 for g in galaxies)
    # Size goes with mass among galaxies of the same kind.
    late = [g for g in galaxies if g.galaxy_class == "star_forming"]
    assert np.corrcoef([g.log_mass for g in late], [np.log10(g.re_arcsec * g.z) for g in late])[0, 1] > 0.4


def test_a_plan_is_drawn_when_asked_and_always_the_same():
    plan = plan_survey(SimulateConfig(num_galaxies=40, repeat_fraction=0.2), 4)
    assert plan[7] == plan[7]
    assert plan[7] is not plan[7]
    assert plan[-1].index == 39
    assert [item.index for item in plan[3:6]] == [3, 4, 5]
    repeat = plan[39]
    assert repeat.source < repeat.index
    assert repeat.galaxy == plan[repeat.source].galaxy
    assert repeat.target != plan[repeat.source].target
    with pytest.raises(IndexError):
        plan[40]


def test_critical_failures_are_as_many_as_asked():
    plan = plan_survey(SimulateConfig(num_galaxies=100, critical_fraction=0.05), 4)
    assert sum(item.target.defects.flags(30) for item in plan) == 5


def test_unusual_galaxies_are_as_many_as_asked():
    plan = plan_survey(SimulateConfig(num_galaxies=100, repeat_fraction=0, unusual_fraction=0.06), 1)
    assert sorted(item.galaxy.unusual for item in plan if item.galaxy.unusual) == sorted(
        2 * ["broad_line", "offnuclear_agn", "blueberry"]
    )


def test_more_workers_or_a_json_detour_do_not_change_the_identity(survey):
    identity = json.loads((survey / "simulate.json").read_text())
    assert "num_workers" not in identity["simulate"]
    assert SimulateConfig.model_validate(json.loads(SMALL.model_dump_json())) == SMALL


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bundle_shares": {20: 1.0}}, "unknown bundle sizes"),
        ({"bundle_shares": {19: 0.0}}, "bundle_shares"),
        ({"class_shares": {"seyfert": -1.0}}, "class_shares"),
        ({"class_shares": {"quasar": 1.0}}, "quasar"),
        ({"redshift_range": (0.05, 0.02)}, "redshift_range"),
        ({"depth": 0}, "depth"),
        ({"maps": ["dr15", "dr15"]}, "each form once"),
        ({"cubes": False, "maps": []}, "at least one kind"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(ValidationError, match=message):
        SimulateConfig(**values)
