"""The shipped configuration for a few galaxies: real cubes and the model of the package."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from jobs import cli
from modeling.network import pretrained


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not (pretrained.FOLDER / "model.json").is_file(), reason="this version has no pretrained model")
def test_real_cubes_are_scored_by_the_model_of_the_package(real_data: Path, tmp_path: Path) -> None:
    settings = {
        "survey.reader": "sami",
        "survey.root": str(real_data / "sami" / "cubes"),
        "workspace": str(tmp_path),
        "prepare.dask.num_workers": "0",
    }
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    for command in ("prepare", "score"):
        result = CliRunner().invoke(cli.main, [command, "few", *overrides])
        assert result.exit_code == 0, result.output
    catalog = pd.read_parquet(tmp_path / "catalog.parquet").set_index("plateifu")
    assert sorted(catalog.index) == ["41144_A", "56140_A", "572402_A"]
    assert catalog["score"].notna().all()
    assert ("No p-values, and so no detections" in result.output) == catalog["p_value"].isna().all()
    assert "it has seen no real galaxy" in result.output
    assert "Spearman" not in result.output
    # They do not depend on what else is in the workspace.
    alone = [*overrides, "--set", f"workspace={tmp_path}/alone", "--set", "survey.galaxies=[56140_A]"]
    for command in ("prepare", "score"):
        assert CliRunner().invoke(cli.main, [command, "few", *alone]).exit_code == 0
    of_one = pd.read_parquet(tmp_path / "alone" / "catalog.parquet")
    assert of_one["score"].tolist() == pytest.approx([catalog["score"]["56140_A"]], rel=1e-4)
    assert catalog["url"].str.contains("simbad").all()
    region = CliRunner().invoke(cli.main, ["search", "few", "41144_A", "--region", "6:10,6:10", *overrides])
    assert region.exit_code == 0, region.output
    # Its own settings fine-tune the model of the package.
    short = ["--set", "train.epochs=1", "--set", "train.num_workers=0"]
    trained = CliRunner().invoke(cli.main, ["train", "few", *overrides, *short])
    assert trained.exit_code == 0, trained.output
