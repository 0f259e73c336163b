from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from jobs.reports.tune_report import NLL, plot_parallel, print_table, trials_table, write_table
from modeling.training.ray_tune import Trial


def trial(
    name: str, nll: float, epochs: int, *, lr: float = 0.01, loss: str = "mae", error: str | None = None
) -> Trial:
    history = [{"epoch": float(epoch)} for epoch in range(epochs)]
    return Trial(name, {"train.lr": lr, "train.loss": loss}, history, nll, error)


TRIALS = [
    trial("a", 1.0, 3, lr=1e-4),
    trial("b", 2.0, 1, loss="gaussian"),
    trial("c", float("inf"), 0, lr=0.1, error="ValueError: [bold]it[/bold] diverged"),
]


def test_a_table_holds_each_trial_with_its_state_and_reason(tmp_path: Path) -> None:
    table = trials_table(TRIALS, epochs=3)
    assert table["state"].tolist() == ["done", "stopped early", "failed"]
    assert table[NLL].tolist()[:2] == [1.0, 2.0]
    assert np.isnan(table[NLL][2])
    assert table["reason"].tolist() == ["", "", "ValueError: [bold]it[/bold] diverged"]
    csv, parquet = write_table(table, tmp_path / "search")
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), table)
    read = pd.read_csv(csv, keep_default_na=False, na_values={NLL: [""]})
    pd.testing.assert_frame_equal(read, table, check_dtype=False)


def test_the_terminal_names_what_was_set_aside(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(trials_table(TRIALS, epochs=3))
    text = capsys.readouterr().out
    assert "stopped early" in text
    assert "Trial c failed: ValueError: [bold]it[/bold] diverged" in text


def lines_of(color: tuple[int, int, int], path: Path) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(pixels - color).sum(axis=-1) < 30).sum())


def test_parallel_coordinates_show_the_best_and_the_failed(tmp_path: Path) -> None:
    red = (214, 39, 40)
    whole = plot_parallel(trials_table(TRIALS, epochs=3), tmp_path / "a.png")
    assert lines_of(red, whole) > 500
    failed = plot_parallel(trials_table(TRIALS[2:], epochs=3), tmp_path / "b.png")
    assert lines_of(red, failed) == 0


@pytest.mark.parametrize("values", [[True, False, True], [1, 1, 1], [None, 0.5, 1.0], ["x", "x", "x"]])
def test_any_kind_of_parameter_can_be_drawn(tmp_path: Path, values: list[object]) -> None:
    trials = [Trial(str(n), {"model.key": value}, [], 1.0 + n, None) for n, value in enumerate(values)]
    assert plot_parallel(trials_table(trials, epochs=1), tmp_path / "a.png").stat().st_size > 1000
