"""The score job on a small store with a small model: catalog, registry, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from cubeprep.facts import SurveyFacts
from cubeprep.locks import InUseError
from cubeprep.masks import good_samples
from cubeprep.store import WindowStore
from jobs import cli, explore, score
from jobs.config import ProjectConfig
from jobs.models.opening import open_model
from jobs.models.survey_scores import score_survey, with_calibration, with_survey_facts
from jobs.page.config import ExploreConfig
from jobs.tables.survey_links import survey_name
from modeling.catalog import Column, latents_path, read_catalog, read_latents, write_catalog
from modeling.labels.labels import Label, LabelError, append
from modeling.scoring.config import ScoreConfig
from tests.holders import holding
from tests.jobs.pages import provenance_of
from tests.synthetic import synthetic_store

SHAPE = (5, 4, 16)


def save_tiny_model(
    folder: Path, shape: tuple[int, int, int] = SHAPE, metadata: dict[str, Any] | None = None, seed: int = 0
) -> Path:
    """An untrained model: its scores are poor, but scores they are."""
    from modeling.network.autoencoder import make_model
    from modeling.network.checkpoint import save_model

    num_lines, num_samples, size = shape
    small = {"latent_dim": 6, "step_channels": 2, "lstm_channels": 2, "decoder_channels": 2}
    arguments = {"num_lines": num_lines, "num_samples": num_samples, "size": size, **small}
    save_model(folder, make_model(arguments, seed=seed), metadata or {})
    return folder


def make_project(workspace: Path, model: Path | None = None, num_galaxies: int = 3, **store: Any) -> ProjectConfig:
    """A finished store of 15 good galaxies and one rejected, and a config that names the model."""
    synthetic_store(workspace / "windows.zarr", shape=SHAPE, **store)
    model = model or save_tiny_model(workspace / "model")
    return ProjectConfig(
        workspace=workspace,
        score=ScoreConfig(model=str(model)),
        explore=ExploreConfig(num_galaxies=num_galaxies),
    )


def test_catalog_holds_every_valid_galaxy_once_with_its_own_identity(project: ProjectConfig) -> None:
    table = read_catalog(project.catalog_path).table
    store = WindowStore.open(project.store_path)
    accepted = store.galaxies().query("status == 'accepted'").set_index("plateifu")
    assert sorted(table["plateifu"]) == sorted(accepted.index)
    assert len(table) > store.attrs["splits"]["train"]["galaxies_per_shard"]  # more than one shard
    for row in table.itertuples():
        names = ["z", "z_used", "mangaid", "split"]
        assert tuple(getattr(row, name) for name in names) == tuple(accepted.loc[row.plateifu, names])


def test_scores_equal_those_of_one_galaxy_read_by_itself(project: ProjectConfig) -> None:
    from modeling.network.checkpoint import load_model
    from modeling.network.inference import infer

    table = read_catalog(project.catalog_path).table
    store = WindowStore.open(project.store_path)
    assert project.score.model is not None
    model, _ = load_model(Path(project.score.model))
    for row in table.iloc[[0, 7, -1]].itertuples():
        windows = store.read_galaxy(row.plateifu)
        arrays = windows.flux, windows.ivar, windows.mask
        good = good_samples(*arrays)
        residual = (windows.flux - infer(model, *arrays).reconstruction)[good].astype(np.float64)
        assert row.num_good == good.sum()
        assert row.score_mae == pytest.approx(np.abs(residual).mean(), rel=1e-4)
        assert row.score_chi2 == pytest.approx((residual**2 * windows.ivar[good]).mean(), rel=1e-4)
        assert row.score == row.score_combined


def test_latents_lie_beside_the_catalog(project: ProjectConfig) -> None:
    table = read_catalog(project.catalog_path).table
    plateifu, latent = read_latents(latents_path(project.catalog_path))
    assert sorted(plateifu) == sorted(table["plateifu"])
    assert latent.shape == (len(table), 6)


def test_provenance_names_store_model_config_and_correlations(project: ProjectConfig) -> None:
    provenance = read_catalog(project.catalog_path).provenance
    assert provenance["store"]["identity"] == WindowStore.open(project.store_path).identity
    assert provenance["model"]["reference"] == project.score.model
    assert len(provenance["model"]["digest"]) == len(provenance["config_sha256"]) == 64
    assert set(provenance["spearman"]) == {"score", "combined", "unexplained", "mae", "chi2", "relative"}
    assert -1 <= provenance["spearman"]["mae"]["flux"] <= 1


def test_the_catalog_is_registered_with_its_provenance(project: ProjectConfig) -> None:
    from modeling.tracking.runs import make_client

    client = make_client(project.tracking_uri)
    version = client.get_model_version_by_alias(project.tracking.catalog_name, "latest")
    assert version.tags["store.identity"] == WindowStore.open(project.store_path).identity
    assert version.tags["model.digest"] == read_catalog(project.catalog_path).provenance["model"]["digest"]
    names = {Path(item.path).name for item in client.list_artifacts(version.run_id, "catalog")}
    assert names == {"catalog.parquet", "catalog.latents.parquet", "catalog.fits", "catalog.vot"}


def test_correlations_that_are_undefined_are_left_out() -> None:
    found = {"score": {"flux": None, "snr": None}, "mae": {"flux": 0.5, "snr": -0.25}}
    assert list(score.correlations(found, "combined")) == ["Spearman of the paper's MAE: flux +0.50, S/N -0.25"]
    found["mae"]["snr"] = None
    assert list(score.correlations(found, "combined")) == ["Spearman of the paper's MAE: flux +0.50"]


@pytest.mark.slow
def test_the_same_again_gives_the_same_catalog(project: ProjectConfig) -> None:
    before = read_catalog(project.catalog_path).table
    score.run(project)
    pd.testing.assert_frame_equal(read_catalog(project.catalog_path).table, before)


@pytest.mark.slow
def test_p_values_compare_with_no_labelled_detection(project: ProjectConfig, tmp_path: Path) -> None:
    config = project.model_copy(update={"workspace": tmp_path})
    before = read_catalog(project.catalog_path).table.set_index("plateifu")
    first = before.index[before["split"] == "validation"][0]
    assert before["p_value"].notna().all()
    shutil.copytree(project.store_path, config.store_path)
    append(config.labels_path, [Label(plateifu=first, label="merger", author="ann")])
    score.run(config)
    catalog = read_catalog(config.catalog_path)
    same_object = before["mangaid"] == before.loc[first, "mangaid"]
    reference = before.loc[(before["split"] == "validation") & ~same_object, "score"].to_numpy()
    assert catalog.provenance["num_calibration_galaxies"] == len(reference)
    assert catalog.provenance["num_labelled_detections"] == same_object.sum()
    after = catalog.table.set_index("plateifu").loc[before.index]
    pd.testing.assert_series_equal(after["score"], before["score"])
    tested = after["split"] != "validation"
    expected = [(1 + (reference >= value).sum()) / (len(reference) + 1) for value in before.loc[tested, "score"]]
    np.testing.assert_allclose(after.loc[tested, "p_value"], expected)
    assert (after.loc[tested, "p_value"] < before.loc[tested, "p_value"]).any()


def test_damaged_labels_are_told_before_the_galaxies_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_project(tmp_path)
    config.labels_path.write_text("no label\n")
    monkeypatch.setattr(score, "score_survey", lambda *_: pytest.fail("scored"))
    with pytest.raises(LabelError, match=r"labels\.jsonl, line 1"):
        score.run(config)


@pytest.mark.slow
def test_an_injected_line_anomaly_ranks_first_and_is_named(tmp_path: Path) -> None:
    # An untrained model explains nothing of any galaxy, so that the share left unexplained is 1 for all: rank by chi2.
    config = make_project(tmp_path)
    config = config.model_copy(update={"score": config.score.model_copy(update={"rank_by": "chi2"})})
    store = WindowStore.open_unfinished(config.store_path)
    windows = store.read_shard("validation", 0)
    windows.flux[2, 3] += 50
    store.write_shard("validation", 0, windows)
    score.run(config)
    row = read_catalog(config.catalog_path).table.iloc[0]
    assert row["plateifu"] == windows.plateifu[2]
    assert row["top_line"] == store.line_names[3]


@pytest.mark.slow
def test_rank_by_mae_ranks_by_mae(project: ProjectConfig, tmp_path: Path) -> None:
    wanted = project.score.model_copy(update={"rank_by": "mae"})
    store = str(project.workspace / "windows.zarr")
    config = project.model_copy(
        update={"workspace": tmp_path, "score": wanted, "prepare": project.prepare.model_copy(update={"store": store})}
    )
    score.run(config)
    table = read_catalog(config.catalog_path).table
    assert (np.diff(table["score_mae"]) <= 0).all()
    assert (table["score"] == table["score_mae"]).all()


@pytest.mark.parametrize(
    ("shape", "named", "message"),
    [
        ((4, 4, 16), None, r"\. prepare\.windows\.lines: the model takes 4, the store holds 5"),
        ((5, 2, 16), None, r"\. prepare\.windows\.num_samples: the model takes 2, the store holds 4"),
        ((5, 4, 8), None, r"\. prepare\.windows\.size: the model takes 8, the store holds 16"),
        (SHAPE, ["a", "b", "c", "d", "e"], "lines: the model takes a, b, c, d, e, the store holds Heta-3836"),
    ],
)
def test_a_model_for_other_windows_is_refused(
    tmp_path: Path, shape: tuple[int, int, int], named: list[str] | None, message: str
) -> None:
    folder = save_tiny_model(tmp_path / "model", shape, {"line_names": named} if named else {})
    config = make_project(tmp_path, model=folder)
    with pytest.raises(ValueError, match=message):
        score.run(config)
    assert not config.catalog_path.exists()


@pytest.mark.slow
def test_a_model_of_other_windows_scores_only_if_forced_and_the_earlier_catalog_is_kept(tmp_path: Path) -> None:
    config = make_project(tmp_path)
    settings = WindowStore.open(config.store_path).window_settings
    assert score.run(config) == 0
    good = config.catalog_path.read_bytes()
    other = {"window_settings": settings | {"prepare.windows.continuum": "sidebands", "flux_unit": "counts"}}
    folder = save_tiny_model(tmp_path / "other", metadata=other)
    config = config.model_copy(update={"score": ScoreConfig(model=str(folder))})
    with pytest.raises(ValueError, match="continuum is None, the model was trained on sidebands; flux_unit is 1e-17"):
        score.run(config)
    assert config.catalog_path.read_bytes() == good
    assert not (tmp_path / "earlier").exists()
    # The same weights: what differs is only known from the model's record.
    assert score.run(config, force=True) == 0
    assert len(read_catalog(config.catalog_path).provenance["model"]["differing_windows"]) == 2


@pytest.mark.slow
def test_a_galaxy_whose_values_cannot_be_right_says_so_in_the_catalog(tmp_path: Path) -> None:
    config = make_project(tmp_path)
    store = WindowStore.open_unfinished(config.store_path)
    galaxies = store.galaxies()
    doubtful = galaxies["plateifu"] == galaxies["plateifu"].iloc[2]
    store.finish(galaxies.assign(implausible=np.where(doubtful, "flux 1000 times that of the others", "")), {})
    assert score.run(config) == 0
    table = read_catalog(config.catalog_path).table.set_index("plateifu")
    assert (table["triage"] == "implausible").sum() == 1
    assert table.loc[galaxies["plateifu"].iloc[2], "triage"] == "implausible"


@pytest.mark.slow
def test_a_catalog_of_another_model_is_kept_with_the_files_beside_it(tmp_path: Path) -> None:
    config = make_project(tmp_path)
    assert score.run(config) == 0
    files = {path.name for path in tmp_path.glob("catalog.*")}
    assert score.run(config) == 0  # of the same model and store
    assert not (tmp_path / "earlier").exists()
    good = config.catalog_path.read_bytes()
    folder = save_tiny_model(tmp_path / "other", seed=1)
    assert score.run(config.model_copy(update={"score": ScoreConfig(model=str(folder))})) == 0
    (kept,) = (tmp_path / "earlier").iterdir()
    assert (kept / "catalog.parquet").read_bytes() == good
    assert {path.name for path in kept.iterdir()} == files == {path.name for path in tmp_path.glob("catalog.*")}


def test_an_earlier_catalog_is_kept_whole_though_it_is_moved_in_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"reference": "models:/m/1", "digest": "1"}
    provenance = {"created_utc": "2026-11-26T10:00:00+00:00", "store": {"identity": "1"}, "model": model}
    other = provenance | {"model": model | {"digest": "2"}}
    names = {"catalog.fits", "catalog.latents.parquet", "catalog.parquet", "catalog.vot"}
    for name in names:
        (tmp_path / name).touch()
    path = tmp_path / "catalog.parquet"
    row = {"plateifu": "8000-1", "mangaid": "1-1", "z": 0.03, "rank": 1, "score": 2.0}
    write_catalog(path, pd.DataFrame([row]), dict.fromkeys(row, Column("A value")), provenance)
    rename, moves = Path.rename, iter(range(2))

    def cut(file: Path, target: Path) -> Path:
        if next(moves, None) is None:
            raise KeyboardInterrupt
        return rename(file, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", cut)
        with pytest.raises(KeyboardInterrupt):
            score.keep_earlier(path, other)
    kept = score.keep_earlier(path, other)
    assert kept is not None
    assert {file.name for file in kept.iterdir()} == names
    assert read_catalog(kept / "catalog.parquet").provenance["model"]["digest"] == "1"


@pytest.mark.slow
def test_by_default_the_champion_is_taken_and_its_version_kept(tmp_path: Path) -> None:
    from modeling.tracking.models import register_model
    from modeling.tracking.runs import start_run

    config = make_project(tmp_path)
    config = config.model_copy(update={"score": ScoreConfig()})
    with start_run(config.tracking_uri, "test", "train") as run:
        register_model(
            run, tmp_path / "model", model_name="cubescout", store_identity="synthetic-0", loss=1.0, comparable="mae"
        )
    score.run(config)
    model = read_catalog(config.catalog_path).provenance["model"]
    assert (model["reference"], model["version"]) == ("models:/cubescout/1", "1")
    assert explore.run(config) == 0
    assert provenance_of(config.page_path)["model"]["reference"] == "models:/cubescout/1"


def test_without_a_champion_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    synthetic_store(tmp_path / "windows.zarr", shape=SHAPE)
    with pytest.raises(ValueError, match="models:/cubescout@champion"):
        score.run(ProjectConfig(workspace=tmp_path))


def test_a_store_without_galaxies_is_an_error(tmp_path: Path) -> None:
    config = make_project(tmp_path)
    store = WindowStore.open_unfinished(config.store_path)
    store.finish(store.galaxies().assign(status="rejected"), {})
    with pytest.raises(ValueError, match="all were rejected"):
        score.run(config)


def test_the_catalog_links_repeats_and_the_survey_s_pages(project: ProjectConfig) -> None:
    table = read_catalog(project.catalog_path).table
    assert (table["url"] == [f"https://dr17.sdss.org/marvin/galaxy/{name}/" for name in table["plateifu"]]).all()
    for row in table.itertuples():
        same = table.query("mangaid == @row.mangaid and plateifu != @row.plateifu")["plateifu"]
        assert list(row.other_observations) == list(same)
        objects = table.set_index("plateifu")["mangaid"][list(row.neighbours)]
        assert list(row.neighbour_same_object) == list(objects == row.mangaid)
    assert table["other_observations"].map(len).sum() == 4, "a pair of repeats in each split"


@pytest.mark.slow
def test_the_store_decides_whether_galaxies_have_pages(tmp_path: Path) -> None:
    # The configuration is that of a command after `prepare`, without the root of the simulated survey.
    config = make_project(tmp_path, survey_facts=SurveyFacts("erg", spaxel_arcsec=0.5).to_json())
    assert survey_name(config) == "manga"
    assert score.run(config) == 0
    assert (read_catalog(config.catalog_path).table["url"] == "").all()


def test_a_second_run_in_the_workspace_is_refused_before_it_touches_anything(tmp_path: Path) -> None:
    with holding(tmp_path / "scoring"), pytest.raises(InUseError, match="scoring: process"):
        score.run(ProjectConfig(workspace=tmp_path))


@pytest.mark.slow
def test_the_reader_is_that_of_the_store(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "w.zarr", shape=SHAPE)
    config = ProjectConfig(workspace=tmp_path)
    assert with_survey_facts(config, store).survey.reader == config.survey.reader == "manga-logcube"
    store.attrs["config"]["survey"] = {"reader": "sami"}
    assert with_survey_facts(config, store).survey.reader == "sami"


def test_scores_of_few_galaxies_are_relative_to_those_that_the_model_was_calibrated_on(tmp_path: Path) -> None:
    config = make_project(tmp_path)
    store = WindowStore.open(config.store_path)

    def combined(model: Path, calibration: str = "auto") -> np.ndarray:
        update = {"model": str(model), "calibration": calibration}
        chosen = config.model_copy(update={"score": config.score.model_copy(update=update)})
        opened = with_calibration(chosen, store, open_model(chosen, store))
        survey = score_survey(with_survey_facts(chosen, store), store, opened)
        scorers.append(survey.ensemble.scorers[0])
        return survey.means.combined

    scorers: list[dict[str, Any]] = []
    own = combined(tmp_path / "model")
    # As if ordinary galaxies were less significant by 3 standard deviations.
    state = json.loads(json.dumps(scorers[0]))
    for regression in state["standardisers"]:
        regression["location"][0] -= 3 * regression["spread"]
    state["fall"] = 0.1
    calibrated = save_tiny_model(tmp_path / "calibrated", metadata={"calibration": state})
    np.testing.assert_allclose(combined(calibrated), own + 3, rtol=1e-4, atol=1e-4)
    assert scorers[-1]["fall"] == scorers[0]["fall"]  # of the survey's PSF
    np.testing.assert_allclose(combined(calibrated, "survey"), own, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="comes without a calibration"):
        combined(tmp_path / "model", "model")


def test_models_and_stores_that_cannot_be_used_are_mistakes_of_the_command(tmp_path: Path) -> None:
    config = make_project(tmp_path)
    settings = WindowStore.open(config.store_path).window_settings
    other = save_tiny_model(tmp_path / "other", metadata={"window_settings": settings | {"flux_unit": "counts"}})
    small = save_tiny_model(tmp_path / "small", (5, 4, 8))
    for model, said in {
        "pretraind": "pretraind: no model directory, and not of the form models:/NAME@ALIAS; did you mean pretrained?",
        "models:/cubescout@champoin": "models:/cubescout@champoin: there is no registry at",
        str(other): "was trained on other windows than those of",
        str(small): "prepare.windows.size: the model takes 8, the store holds 16",
    }.items():
        values = {"workspace": tmp_path, "score.model": model}
        result = CliRunner().invoke(cli.main, ["score", "demo", *(f"--set={k}={v}" for k, v in values.items())])
        assert (result.exit_code, said in result.output) == (2, True), result.output


def summary(
    workspace: Path,
    triage: list[str],
    capsys: pytest.CaptureFixture[str],
    **columns: list[Any],
) -> str:
    """What `cubescout score my.yaml --set seed=2` prints of galaxies with these reason codes and further columns."""
    config = ProjectConfig(workspace=workspace)
    rows = [
        {"rank": i + 1, "plateifu": f"8000-{i}", "score": 3.0, "z": 0.03, "reason_1": "", "triage": code}
        for i, code in enumerate(triage)
    ]
    table = pd.DataFrame(rows).assign(
        **{"is_find": False, "p_value": np.nan, "split": "test", "hypothesis": "", "mangaid": "", "score_combined": 3.0}
        | columns
    )
    provenance = {"store": {"identity": "1"}, "model": {"trained_on": ""}, "calibration": "survey", "spearman": {}}
    job = click.Command("score", callback=lambda **_: score._print_summary(config, table, provenance, "1"))
    job.params = [click.Argument(["config"]), click.Option(["--set", "overrides"], multiple=True)]
    job.main(["my.yaml", "--set", "seed=2"], standalone_mode=False)
    return capsys.readouterr().out


def test_the_summary_says_what_is_left_out_what_codes_mean_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = summary(tmp_path, ["redshift", "spike", "", "", "redshift", "edge", "redshift"], capsys)
    assert f"The most unusual galaxies, by score_combined, first 5 of 7 ({tmp_path}/catalog.parquet has all):" in text
    assert "  [redshift]: all lines displaced by the same velocity: scored at the redshift of the lines" in text
    assert "  [spike]: sharper than the point-spread function" in text
    assert "[edge]" not in text, "of no galaxy that is shown"
    assert "7 galaxies, 2 likely artefacts, 3 with displaced lines\nNo p-values, and so no detections," in text
    assert text.splitlines()[-1] == "Next: cubescout explore my.yaml --set seed=2"


def test_a_hypothesis_of_the_instrument_is_a_likely_artefact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["sky_line", "broad_balmer", "spike", "shifted_images", "lost_light"]
    text = summary(tmp_path, ["redshift", "", "spike", "", "redshift"], capsys, hypothesis=named)
    assert "3 likely artefacts, 1 with displaced lines" in text


def test_the_summary_gives_the_redshift_of_the_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = summary(tmp_path, ["", ""], capsys, z_used=[0.0337, 0.03]).splitlines()
    assert "z 0.0337 (the survey's: 0.0300)  " in lines[1]
    assert "z 0.0300  " in lines[2]


def test_the_summary_says_what_detections_were_calibrated_on_and_what_they_lack(tmp_path: Path) -> None:
    config = ProjectConfig(workspace=tmp_path)

    def said(num_validation: int, *, num: int = 60, detected: bool = False) -> str:
        split = ["train"] * (num - num_validation) + ["validation"] * num_validation
        names = [f"8000-{i}" for i in range(num)]
        values = {"mangaid": names, "score_combined": np.arange(num, 0, -1.0), "p_value": 0.5, "is_find": detected}
        return "\n".join(score.detections(config, pd.DataFrame({"plateifu": names, "split": split} | values)))

    assert said(0).endswith("without an ordinary galaxy in the validation split: that split is empty")
    few = "0 detections at a false discovery rate of 0.1, by 2 galaxies of the validation split\n"
    assert said(2) == f"{few}So few allow no detection: no p-value is below 1/3"
    many = "0 detections at a false discovery rate of 0.1, by 40 galaxies of the validation split\n"
    assert said(40).startswith(f"{many}About 15 galaxies must score above all of these, 20 do. If the highest of them")
    assert said(40).endswith(": 8000-20, 8000-21, 8000-22, 8000-23, 8000-24")
    append(config.labels_path, [Label(plateifu=f"8000-{i}", label="merger", author="ann") for i in (20, 21)])
    labelled = said(40).replace("\n", " ")
    assert "by 38 galaxies of the validation split, 2 labelled as unusual left out About 16" in labelled
    assert labelled.endswith(": 8000-22, 8000-23, 8000-24, 8000-25, 8000-26")
    assert said(40, detected=True) == (
        "60 detections at a false discovery rate of 0.1, by 38 galaxies of the validation split, 2 labelled as unusual "
        "left out"
    )
    append(config.labels_path, [Label(plateifu=f"8000-{i}", label="merger", author="ann") for i in range(58, 60)])
    assert said(2).endswith("all galaxies of the validation split are labelled as unusual")


def test_the_summary_of_one_galaxy_is_in_the_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = summary(tmp_path, [""], capsys)
    assert text.splitlines()[0] == "The one galaxy, by score_combined:"
    assert "1 galaxy, 0 likely artefacts\n" in text
