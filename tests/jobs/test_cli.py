import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cubeprep.config import ConfigError
from jobs import cli
from jobs.config import ProjectConfig, find_config, load_project
from jobs.console import command
from jobs.tables.column_texts import known_columns
from modeling.network.config import ModelConfig
from tests.jobs.catalogs import write_synthetic_catalog
from tests.logcube import write_survey
from tests.test_architecture import ROOT

SHIPPED = sorted(path.stem for path in find_config("demo").parent.glob("*.yaml"))


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.main, arguments, prog_name="cubescout")
    return result.exit_code, result.output


def test_help_lists_the_jobs_and_exit_codes() -> None:
    code, text = invoke("--help")
    assert code == 0
    assert all(name in text for name in command.JOBS)
    assert "Exit codes" in text


@pytest.mark.parametrize("name", command.JOBS)
def test_each_job_has_help_worth_reading_and_runs_as_a_module(name: str) -> None:
    assert f'if __name__ == "__main__":\n    command("{name}")()' in (ROOT / "jobs" / f"{name}.py").read_text()
    code, text = invoke(name, "--help")
    assert code == 0
    assert "--set" in text
    assert len(text.split()) > 60


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_are_valid(name: str) -> None:
    assert isinstance(load_project(name), ProjectConfig)


def test_a_configuration_has_the_values_of_its_preset_where_it_sets_none(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: sami\nworkspace: mine\nsurvey: {root: cubes, z_max: 0.05}\n")
    config, shipped = load_project(str(path), ("prepare.windows.min_lines=7",)), load_project("sami")
    assert (config.survey.reader, config.survey.root, config.survey.z_max) == ("sami", "cubes", 0.05)
    windows = shipped.prepare.windows.model_copy(update={"min_lines": 7})
    assert config.prepare.windows == windows != ProjectConfig(workspace=tmp_path).prepare.windows
    assert load_project(str(path), ("preset=''",)).survey.reader == "manga-logcube"
    path.write_text("preset: sammi\nworkspace: mine\n")
    with pytest.raises(ConfigError, match=r"preset: .*did you mean sami\?"):
        load_project(str(path))


def test_the_papers_preset_is_the_papers(recwarn: pytest.WarningsRecorder) -> None:
    config = load_project("paper")
    windows = config.prepare.windows
    assert (len(windows.line_names), windows.num_samples, windows.size, windows.sampling) == (19, 10, 32, "nearest")
    assert windows.continuum == "none"
    assert config.prepare.augment.num_views == 4
    assert config.prepare.augment.max_shift == 5
    assert config.survey.z_max == 0.08


def test_all_mistakes_are_listed_and_the_exit_code_is_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "workspace: x\nseed: -1\nsurvey: {reader: hubble}\nprepare: {windows: {lines: [Ha-1]}}\nnonsense: 1\n"
    )
    code, text = invoke("prepare", str(path), "--set", "prepare.galaxies_per_shard=0")
    assert code == 2
    for part in ("5 mistakes", "seed", "survey.reader", "unknown lines", "nonsense: unknown key", "galaxies_per_shard"):
        assert part in text, text


def test_prepare_refuses_a_size_that_train_would_and_no_other(tmp_path: Path) -> None:
    from modeling.network.autoencoder import make_model

    for size in range(8, 34):
        code, text = invoke("prepare", "demo", f"--set=workspace={tmp_path}", f"--set=prepare.windows.size={size}")
        try:
            make_model(ModelConfig(step_channels=1, lstm_channels=1).arguments((1, 1, size)), seed=0)
        except ValueError:
            assert code == 2
            assert f"prepare.windows.size: {size}; models take a multiple of 8" in text
        else:
            assert "survey.root: " in text
            assert "does not exist. Give the folder with the cubes" in text
    assert code == 2
    assert "such as 32 or 40" in text
    assert list(tmp_path.iterdir()) == []


def test_prepare_refuses_a_masked_network_that_train_would_refuse(tmp_path: Path) -> None:
    values = {"workspace": tmp_path, "model.kind": "masked", "model.hidden_side": 32, "prepare.windows.size": 32}
    code, text = invoke("prepare", "demo", *(f"--set={key}={value}" for key, value in values.items()))
    assert code == 2
    assert "train.loss: mae; model.kind masked predicts a variance too, which takes student-t or gaussian" in text
    assert "model.hidden_side: 32; expected less than prepare.windows.size, 32" in text
    code, text = invoke("prepare", "line", f"--set=workspace={tmp_path}", "--set=prepare.windows.lines=[Ha-6564]")
    assert code == 2
    assert "prepare.windows.lines: one line; model.kind masked predicts lines from others" in text


def test_an_unknown_configuration_names_the_shipped_ones() -> None:
    code, text = invoke("prepare", "nowhere.yaml")
    assert code == 2
    assert "demo" in text
    assert "paper" in text


@pytest.mark.parametrize("name", [name for name in command.JOBS if name not in command.OF_DEMO])
def test_a_job_without_configuration_is_a_usage_error(name: str) -> None:
    code, text = invoke(name)
    assert code == 2
    assert "Missing argument" in text


def test_windows_that_the_survey_cannot_have_are_a_configuration_error(tmp_path: Path) -> None:
    code, text = invoke(
        "prepare", "sami", "--set", f"survey.root={tmp_path}", "--set", "prepare.windows.sampling=nearest"
    )
    assert code == 2
    assert "windows.sampling: sami has a linear wavelength grid" in text


@pytest.mark.parametrize(("name", "near"), [("prepear", "Did you mean prepare?"), ("xyzzy", "'xyzzy'.\n")])
def test_unknown_commands_are_usage_errors_that_name_the_closest(name: str, near: str) -> None:
    code, text = invoke(name, "demo")
    assert code == 2
    assert text.endswith(f"{near}\n" if near.endswith("?") else near)


def test_a_model_without_alias_is_a_usage_error_and_makes_no_registry(tmp_path: Path) -> None:
    code, text = invoke("promote", "cubescout", "demo", "--set", f"workspace={tmp_path}")
    assert code == 2
    assert "cubescout: expected MODEL@ALIAS or MODEL/VERSION" in text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    code, text = invoke(
        "prepare", "paper", "--set", f"workspace={tmp_path}", "--set", f"survey.root={tmp_path / 'none'}"
    )
    assert code == 2
    assert text.startswith("cubescout: ")
    assert "survey.root: " in text
    assert "does not exist. Give the folder with the cubes" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "words",
    [
        ("crossmatch", "demo", "{}"),
        ("label", "demo", "--table", "{}"),
        ("assess", "demo", "--labels", "{}"),
        ("classify", "demo", "--labels", "{}"),
        ("classify", "demo", "--heads", "{}"),
        ("figures", "demo", "--labels", "{}"),
        ("rerank", "{}"),
        ("reproduce", "{}", "1-1"),
        ("reproduce", str(find_config("demo")), "1-1", "--store", "{}"),
        ("promote", "a@b", "demo", "--benchmark", "{}", "{}"),
        ("submit", "prepare", "{}"),
    ],
)
def test_a_file_that_does_not_exist_is_a_mistake_in_the_command(tmp_path: Path, words: tuple[str, ...]) -> None:
    missing = tmp_path / "missing.fits"
    code, text = invoke(*(word.format(missing) for word in words))
    assert code == 2
    assert f"{missing}" in text
    assert "Errno" not in text


@pytest.mark.parametrize("words", [("crossmatch", "demo", "{}"), ("label", "demo", "--table", "{}")])
def test_a_table_that_cannot_be_read_is_a_mistake_in_the_command(tmp_path: Path, words: tuple[str, ...]) -> None:
    table = tmp_path / "t.fits"
    table.write_text("nonsense")
    write_synthetic_catalog(tmp_path / "catalog.parquet")
    code, text = invoke(*(word.format(table) for word in words), "--set", f"workspace={tmp_path}")
    assert code == 2
    assert f"cubescout: {table}: not a table that can be read as .fits" in text


@pytest.mark.slow
def test_prepare_runs_as_a_module_and_says_whether_galaxies_were_set_aside(tmp_path: Path) -> None:
    for name, redshift in (("all", 0.03), ("some", 0.5)):
        write_survey(tmp_path / name / "survey", {"1-1": 0.02, "1-2": redshift}, size=9)

    def words(name: str) -> list[str]:
        settings = {
            "workspace": tmp_path / name,
            "survey.root": tmp_path / name / "survey",
            "prepare.dask.num_workers": 0,
            "prepare.windows.size": 8,
        }
        return ["paper", *(f"--set={key}={value}" for key, value in settings.items())]

    code, text = invoke("prepare", *words("all"))
    assert code == 0, text
    assert "rejected.csv" not in text
    command = [sys.executable, "-m", "jobs.prepare", *words("some")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 3, result.stderr
    assert "rejected.csv" in result.stdout
    for name in ("all", "some"):
        assert (tmp_path / name / "windows.zarr" / "summary.json").exists()


def test_memory_that_arrow_has_freed_is_free_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    # In a process of its own, since it depends on what is imported first.
    program = "import jobs.cli, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "system"


def test_a_mistake_of_set_names_the_key_and_not_the_file() -> None:
    code, text = invoke("prepare", "demo", "--set", "train.epochs=many", "--set", "train.epoch=3", "--set", "seed")
    assert code == 2
    assert text.splitlines()[0] == "cubescout: command line: 3 mistakes"
    assert "--set train.epochs: expected a whole number (found 'many')" in text
    assert "--set train.epoch: unknown key; did you mean epochs?" in text
    assert "--set seed: expected key.subkey=value" in text
    assert "demo.yaml" not in text


def test_mistakes_are_in_our_words() -> None:
    code, text = invoke(
        "prepare", "demo", "--set", "survey.reader=sammi", "--set", "score.fdr=abc", "--set", "prepare.retry_rejected=3"
    )
    assert code == 2
    assert "--set survey.reader: no reader 'sammi'; did you mean sami?" in text
    assert "--set score.fdr: expected a number (found 'abc')" in text
    assert "--set prepare.retry_rejected: expected true or false (found 3)" in text


def test_a_mistake_of_sections_together_is_that_of_set_if_it_made_it() -> None:
    code, text = invoke("prepare", "demo", "--set", "prepare.windows.size=20")
    assert code == 2
    assert text.splitlines()[0] == "cubescout: command line: 1 mistake"
    assert "--set prepare.windows.size: 20; models take a multiple of 8" in text


def test_a_mistake_of_the_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("workspace: x\nseed: -1\n")
    code, text = invoke("prepare", str(path), "--set", "train.epochs=many")
    assert code == 2
    assert text.splitlines()[0] == f"cubescout: {path}: 2 mistakes"
    assert "  seed: " in text
    assert "  --set train.epochs: " in text


def test_a_key_is_described_and_an_unknown_one_is_not() -> None:
    code, text = invoke("config", "train.lr")
    assert code == 0
    assert "type         number" in text
    assert f"default      {load_project('demo').train.lr}" in text
    code, text = invoke("config", "prepare.split")
    assert code == 0
    assert "prepare.split.validation: " in text
    assert "prepare.split.test: " in text
    assert "train.lr" not in text
    assert all(f"{name} " in invoke("config")[1] for name in ProjectConfig.model_fields)
    assert "presets      demo: sidebands; few: stars; line: stars" in invoke("config", "prepare.windows.continuum")[1]
    assert "presets" not in invoke("config", "prepare.dask.dashboard_port")[1]
    code, text = invoke("config", "lr")
    assert code == 2
    assert "did you mean train.lr?" in text


def test_a_column_is_described_and_an_unknown_one_is_not() -> None:
    code, text = invoke("columns", "num_good")
    assert code == 0
    assert text.splitlines()[1:] == ["  type         integer", "  UCD          meta.number"]
    assert "num_good: Good samples" in text
    assert "unit         deg" in invoke("columns", "ra_deg")[1]
    assert "share_LINE: " in invoke("columns", "share_Ha-6564")[1]
    assert [line for line in invoke("columns", "neighbour")[1].splitlines() if line[:1] != " "][::2] == [
        "neighbour_distances: Euclidean distance to each neighbour in standardised latents",
        "neighbour_same_object: Whether each neighbour is another observation of the same object",
    ]
    assert "ew_Ha: unknown column; did you mean ew_ha_angstrom?" in invoke("columns", "ew_Ha")[1]
    code, text = invoke("columns", "scor_peak")
    assert code == 2
    assert "scor_peak: unknown column; did you mean score_peak?" in text
    code, text = invoke("columns")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == list(known_columns())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cubescout columns umap_", ["umap_1", "umap_2"]),
        ("cubescout prep", ["prepare"]),
        ("cubescout score mu", ["muse"]),
        ("cubescout train line --set train.l", ["train.lr=", "train.loss=", "train.left_out="]),
        ("cubescout config prepare.split", ["prepare.split", "prepare.split.validation", "prepare.split.test"]),
    ],
)
def test_shells_complete_commands_configurations_and_keys(words: str, expected: list[str]) -> None:
    environment = {"_CUBESCOUT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    result = CliRunner().invoke(cli.main, [], prog_name="cubescout", env=environment)
    assert [line.removeprefix("plain,") for line in result.output.splitlines()] == expected
