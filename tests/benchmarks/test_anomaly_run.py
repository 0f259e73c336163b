"""The benchmark from one command, at its smallest; and that nothing outside knows of it."""

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.anomaly import dataset
from benchmarks.anomaly.__main__ import EXPERIMENT, main, runs_unasked
from benchmarks.anomaly.all_detectors import load_detectors
from benchmarks.anomaly.all_families import load_families
from benchmarks.anomaly.dataset import Data, bytes_digest, prepare_data
from benchmarks.anomaly.detectors.detector import DETECTORS, Scored
from benchmarks.anomaly.evaluate import Entry, load_entries, standardised, thresholds
from benchmarks.anomaly.execute import Task, execute, is_done, save
from benchmarks.anomaly.kept import kept_path, read_kept, write_kept
from benchmarks.anomaly.report import as_markdown, make_report
from benchmarks.anomaly.rows import assign_folds, plan_rows
from benchmarks.anomaly.samples import choose, training_store
from benchmarks.anomaly.tiers import TIERS, Run
from cubeprep.store import Windows, WindowStore

ROOT = Path(__file__).parents[2]
TINY = TIERS["tiny"]
QUICK = ["random", "total flux", "PCA-32", "PCA + ECOD"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    return prepare_data(TINY, tmp_path_factory.mktemp("benchmark"), 1)


@pytest.mark.slow
def test_a_seed_gives_the_same_bytes_on_one_worker_and_on_two(data, tmp_path):
    assert bytes_digest(prepare_data(TINY, tmp_path, 2).folder) == bytes_digest(data.folder)


@pytest.mark.slow
def test_what_was_interrupted_goes_on(data):
    before = bytes_digest(data.folder)
    (data.folder / "fold-0.zarr" / "records" / "test-00000.json").unlink()
    again = prepare_data(TINY, data.folder.parent, 1)
    assert bytes_digest(again.folder) == before
    pd.testing.assert_frame_equal(again.rows, data.rows)


@pytest.mark.slow
def test_stores_hold_the_rows_and_truth_of_the_plan(data):
    for fold in range(TINY.num_folds):
        store, truth = WindowStore.open(data.store(fold)), data.truth(fold)
        rows = data.rows[data.rows["fold"] == fold]
        assert store.coordinate("test", "plateifu").tolist() == rows["name"].tolist()
        assert len(truth["mask"]) == len(rows)
        injected = rows["kind"].isin(["A", "C"]).to_numpy()
        assert truth["mask"][injected].any(axis=(1, 2, 3, 4)).all()
        assert not truth["mask"][~injected].any()
        np.testing.assert_allclose(truth["line_snr2"][injected].sum(1) ** 0.5, rows["snr"][injected], rtol=1e-3)


def test_objects_stay_in_one_fold_and_one_half():
    names = [f"1-{i // 2}" for i in range(40)]
    found = assign_folds(names, 3, 0)
    assert len(found) == 20
    assert {fold for fold, _ in found.values()} == {0, 1, 2}
    assert sorted({half for _, half in found.values()}) == [0, 1]


@pytest.mark.slow
def test_models_never_see_the_objects_that_they_score(data):
    for contamination in (0.0, 0.3):
        chosen = choose(data, 0, Run(seed=1, contamination=contamination))
        scored = set(data.rows.loc[data.rows["fold"] == 0, "mangaid"])
        assert not scored & set(chosen["mangaid"])
        by_split = chosen.groupby("split")["mangaid"].agg(set)
        assert not by_split["train"] & by_split["validation"]
        injected = chosen["name"].str.contains("+", regex=False)
        assert not injected[chosen["split"] == "validation"].any()
        assert injected.sum() == np.ceil(contamination * (chosen["split"] == "train").sum())


@pytest.mark.slow
def test_a_training_sample_is_a_store_with_views(data):
    store = training_store(data, 1, Run(seed=0, contamination=0.3))
    assert store.num_rows("train") % TINY.augment.num_views == 0
    name = store.coordinate("train", "plateifu")[0]
    original = WindowStore.open(data.store(0)).read_galaxy(name)
    np.testing.assert_array_equal(store.read_galaxy(name).flux, original.flux)


def test_folds_have_one_scale_each():
    rows = pd.DataFrame({"family": ["", "", "", "x", "", ""], "fold": [0, 0, 0, 0, 1, 1], "half": [0, 1, 1, 0, 0, 1]})
    found = standardised(np.array([1.0, 2.0, 4.0, 10.0, 30.0, np.nan]), rows)
    np.testing.assert_allclose(found, [-1, 0, 2, 8, 1, -1])


@pytest.mark.parametrize("draw", ["uniform", "normal", "standard_cauchy"])
def test_thresholds_of_one_half_hold_for_the_other_whatever_the_scores(draw):
    rng, rates = np.random.default_rng(0), []
    rows = pd.DataFrame({"family": "", "fold": np.repeat([0, 1], 1000), "half": np.tile([0, 1], 1000)})
    for _ in range(40):
        score = standardised(getattr(rng, draw)(size=2000), rows)
        rates.append((score > thresholds(score, rows)).mean())
    assert np.mean(rates) == pytest.approx(0.01, abs=0.0015)


@pytest.mark.slow
def test_scores_are_kept_and_can_be_made_again(data):
    tasks = execute(data, QUICK, 1)
    first = {task.path: np.load(task.path)["score"] for task in tasks}
    times = {path: path.stat().st_mtime_ns for path in first}
    execute(data, QUICK, 1)
    assert {path: path.stat().st_mtime_ns for path in first} == times
    for path in first:
        path.unlink()
    execute(data, QUICK, 1)
    for path, score in first.items():
        np.testing.assert_array_equal(np.load(path)["score"], score)


def test_results_without_the_real_cubes_are_made_again(data, tmp_path):
    detector, run = "random", TIERS["tiny"].runs[0]
    plain, real = (replace(data, folder=tmp_path, real_digest=digest) for digest in ("", "ab"))
    tasks = {
        name: Task(some, detector, run, fold, tmp_path / f"{fold}.npz")
        for name, some, fold in (("plain", plain, 0), ("first", real, 0), ("second", real, 1))
    }
    assert not any(map(is_done, tasks.values()))
    for fold in (0, 1):
        save(tmp_path / f"{fold}.npz", Scored(np.zeros(3)), 1.0, 1.0)
    assert {name: is_done(task) for name, task in tasks.items()} == {"plain": True, "first": False, "second": True}
    save(tmp_path / "0.npz", Scored(np.zeros(3)), 1.0, 1.0, real_digest="ab")
    assert is_done(tasks["first"])


def test_real_cubes_are_made_again_where_their_files_changed(tmp_path, monkeypatch):
    made = []

    def real_rows(*_):
        made.append(1)
        one = np.zeros((1, 1, 1, 1, 1), np.float32)
        return Windows(one, one, one, np.array(["a"]), np.zeros(1, int)), pd.DataFrame({"name": ["a"]})

    monkeypatch.setattr(dataset, "real_rows", real_rows)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "cube.fits").write_bytes(b"1")
    tier = TIERS["tiny"]
    digests = [dataset._make_real(tier.data, tmp_path, tmp_path / "real") for _ in range(2)]
    assert digests[0] == digests[1]
    assert len(made) == 1
    assert Data(tmp_path, tier, pd.DataFrame()).real() is None
    found = Data(tmp_path, tier, pd.DataFrame(), digests[0]).real()
    assert found is not None
    assert found[1]["name"].tolist() == ["a"]
    (tmp_path / "real" / "other.fits").write_bytes(b"2")
    assert dataset._make_real(tier.data, tmp_path, tmp_path / "real") != digests[0]
    assert len(made) == 2


@pytest.mark.slow
def test_the_oracle_is_above_all(data):
    entries = load_entries(data, execute(data, QUICK, 1))
    assert entries[-1].name == "oracle matched filter"
    copies = (data.rows["kind"] == "A").to_numpy()
    (score,) = entries[-1].scores.values()
    assert score[copies].min() > score[(data.rows["kind"] == "").to_numpy()].max()


@pytest.mark.slow
def test_one_command_leaves_tables_plots_lines_and_a_run(data, tmp_path, capsys):
    import mlflow

    work = data.folder.parent  # with the rows that were made before
    report = main(["--tier", "tiny", "--work", str(work), "--workers", "1", "--real", str(tmp_path / "none")])
    folder = work / "results-tiny"
    table = pd.read_parquet(folder / "results.parquet")
    assert set(load_detectors()) <= set(table["name"])  # losing rows too
    assert {"paper AE: chi2", "PCA-32: mae", "oracle matched filter"} <= set(table["name"])
    printed = capsys.readouterr().out
    for name in (
        *("pauroc_gain_vs_paper", "pauroc_gain_vs_best_classical", "spearman_flux", "spearman_snr"),
        *("fdr_at_10", "artefact_share_top100", "aupro", "pointing_game", "hypothesis_accuracy", "data_sha256"),
    ):
        assert f"\n{name}=" in printed, name
    assert report.figures["aupro"] > 0
    client = mlflow.MlflowClient(f"sqlite:///{work / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["pauroc"] == pytest.approx(report.figures["pauroc"])
    kept = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert kept >= {"results.md", "results.parquet", "families.parquet", "roc.png", "recall.png", "config.yaml"}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif("CUBESCOUT_BENCHMARK" not in os.environ, reason="a quarter of an hour: set CUBESCOUT_BENCHMARK=1")
def test_the_small_tier_gives_every_line(tmp_path):
    command = [sys.executable, "-m", "benchmarks.anomaly", "--tier", "small", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    figures = dict(line.split("=") for line in done.stdout.splitlines() if line.count("=") == 1 and " " not in line)
    assert float(figures["pauroc"]) > 0.005
    assert 0 <= float(figures["artefact_share_top100"]) <= 1
    table = pd.read_parquet(tmp_path / "results-small" / "results.parquet").set_index("name")
    assert table.loc["random", "auroc"].mean() == pytest.approx(0.5, abs=0.06)
    assert table.loc["oracle matched filter", "auroc"] > 0.99


def test_nothing_outside_knows_of_the_benchmark_and_models_know_no_family():
    names = {*load_families(), "benchmarks"}
    for package in ("cubeprep", "modeling", "jobs"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            assert not [name for name in imported if name.split(".")[0] == "benchmarks"], path
            if package == "modeling":
                texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
                assert not texts & names, path


@pytest.mark.slow
def test_the_survey_tier_judges_on_two_thousand_galaxies():
    tier, small = TIERS["survey"], TIERS["small"]
    rows = plan_rows(tier.data, tier.num_folds)
    clean = rows[rows["family"] == ""]
    assert clean["mangaid"].nunique() >= 2000
    assert set(rows["family"]) == {"", *load_families()}
    assert rows["kind"].value_counts().to_dict() == {
        kind: len(clean) * n for kind, n in {"": 1, "A": 3, "C": 1, "N": 1}.items()
    }
    assert rows.groupby("fold")["mangaid"].nunique().min() >= 1000
    assert tier.num_folds == 2
    assert len({run.seed for run in tier.network_runs}) == 2
    assert len(tier.runs) == len(tier.slow_runs) == 1
    trained = (*tier.runs, *tier.network_runs, *tier.slow_runs, *tier.paper_runs)
    assert all(run.contamination == tier.headline == 0.01 for run in trained)
    # The small tier's galaxies but more of them, so that figures of the two can be compared.
    same = {"windows", "bin_factor", "amplitudes"}
    assert tier.data.model_dump(include=same) == small.data.model_dump(include=same)
    assert tier.data.simulate.bundle_shares == small.data.simulate.bundle_shares
    assert (tier.default.model.kind, tier.autoencoder.model.kind) == ("masked", "ae")


def test_the_papers_networks_run_in_the_survey_tier_only_when_asked():
    groups = {name: detector.group for name, detector in load_detectors().items()}
    left_out = {name for name, group in groups.items() if not runs_unasked(group, TIERS["survey"])}
    assert left_out == {"paper AE", "paper VAE"}
    assert all(runs_unasked(group, TIERS["small"]) for group in groups.values())


@pytest.mark.slow
def test_kept_scores_of_the_paper_belong_to_their_data(data, tmp_path, capsys):
    run = TINY.paper_runs[0]
    scores = np.linspace(0, 1, len(data.rows))
    kept = Entry("paper AE", "", "paper", {run: scores}, {run: {"aupro": 0.5}}, seconds=7.0, training=["epoch 3 of 5"])
    others = [Entry("paper AE", "chi2", "paper", {run: scores}), Entry("PCA-32", "", "classical", {run: scores})]
    path = kept_path("tiny", tmp_path)
    assert read_kept(path, data.rows) == []
    write_kept(path, [kept, *others], data.rows)
    (found,) = read_kept(path, data.rows.assign(flux=data.rows["flux"] * (1 + 1e-5)))
    assert (found.name, found.group, found.seconds, found.training) == ("paper AE", "paper", 7.0, ["epoch 3 of 5"])
    np.testing.assert_allclose(found.scores[run], scores, rtol=1e-6)
    assert found.located == {run: {"aupro": 0.5}}
    assert read_kept(path, data.rows.assign(flux=data.rows["flux"].to_numpy()[::-1])) == []
    assert read_kept(path, data.rows.iloc[1:]) == []
    assert "of other data" in capsys.readouterr().out
    (found,) = read_kept(path, data.rows.assign(flux=data.rows["flux"] * 1.002))
    measured = "flux by 0.20% and median_snr by 0.00%"
    note = f"scored in another version's windows of the same rows; in the median {measured} off"
    assert found.training == ["epoch 3 of 5", note]
    assert note in capsys.readouterr().out


@pytest.mark.slow
def test_gains_are_over_the_best_classical_score_and_without_the_paper_if_it_did_not_run(data):
    clean = (data.rows["kind"] == "").to_numpy()
    perfect, half = (np.where(clean, 0.0, value) for value in (1.0, np.arange(len(clean)) % 2))
    run = TINY.runs[0]
    located = {run: {"aupro": 1.0, "pointing_game": 1.0, "top1_line": 1.0}}
    entries = [
        Entry("Cubescout", "", "ours", {run: perfect}, located),
        Entry("PCA-32", "", "classical", {run: np.zeros(len(clean))}),
        Entry("PCA-32", "chi2", "classical", {run: half}),
        Entry("total flux", "", "floor", {run: perfect}),
    ]
    report = make_report(data, entries)
    assert report.rivals == {"best_classical": "PCA-32: chi2"}
    gain = report.figures["pauroc_gain_vs_best_classical"]
    assert 0 < gain < 1
    assert (
        report.figures["pauroc_gain_vs_best_classical_low"]
        <= gain
        <= report.figures["pauroc_gain_vs_best_classical_high"]
    )
    assert not [name for name in report.figures if "paper" in name]
    text = as_markdown(report, data, entries, "a title")
    assert "best_classical: PCA-32: chi2" in text
    assert "`--paper` runs them" in text


def test_every_baseline_of_the_protocol_is_there():
    wanted = {"random", "total flux", "median S/N", "mean cube", "line ratios (Mahalanobis)", "PCA-32", "PCA-128"}
    wanted |= {"PCA + IsolationForest", "PCA + ECOD", "PCA + KNN", "PCA + LOF", "Conv2D AE per line"}
    wanted |= {"paper AE", "paper VAE", "Cubescout, autoencoder, lines permuted", "Cubescout, autoencoder", "Cubescout"}
    strong = {"PCA-512", "PCA-512, rotated copies", "HMF", "RX on spaxels"}
    wanted |= strong | {"physical features + ECOD", "physical features + IsolationForest", "plain masked network"}
    assert wanted == set(load_detectors()) == set(DETECTORS)
