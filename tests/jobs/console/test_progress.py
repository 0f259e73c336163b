import io
import re

import pytest
from rich.console import Console

from jobs.console import progress


def test_a_terminal_sees_count_speed_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=seen, force_terminal=True, width=120))
    with progress.progress_bar("Cutting windows", unit="shards") as bar:
        for done in range(501, 512):
            bar(done, 600, "3 rejected")
    text = re.sub(r"\x1b\[[0-9;]*m", "", seen.getvalue())
    assert re.search(r"511/600 shards [\d,.]+/min \d", text)
    assert "left:" in text
    assert "3 rejected" in text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> dict[str, float]:
    """Time that passes when a test says so, without a terminal."""
    now = {"s": 1000.0}
    monkeypatch.setattr(progress, "monotonic", lambda: now["s"])
    monkeypatch.setattr(progress, "console", Console(file=io.StringIO()))
    caplog.set_level("INFO", "jobs")
    return now


def test_a_log_gets_a_line_a_minute_with_rate_and_what_is_left(
    clock: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    with progress.progress_bar("Cutting windows", unit="shards") as bar:
        for done in range(301, 501):  # 300 were done by an earlier run
            bar(done, 1500, "3 rejected")
            clock["s"] += 1
    assert caplog.messages == [
        "Cutting windows: 361 of 1,500 shards, 60.0/min, 19 min left, 3 rejected",
        "Cutting windows: 421 of 1,500 shards, 60.0/min, 18 min left, 3 rejected",
        "Cutting windows: 481 of 1,500 shards, 60.0/min, 17 min left, 3 rejected",
    ]
    assert not progress.console.file.getvalue()


def test_speed_and_time_left_are_shown_once_they_mean_something(
    clock: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    with progress.progress_bar("Calibrating", unit="models") as bar:
        for done in range(1, 4):
            bar(done, 3, milestone=True)
            clock["s"] += 0.3
    assert caplog.messages == [
        "Calibrating: 1 of 3 models",
        "Calibrating: 2 of 3 models, 200.0/min, 1 s left",
        "Calibrating: 3 of 3 models, 200.0/min",
    ]


def test_a_terminal_sees_no_time_left_after_one_unit_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for last, known in ((501, False), (520, True)):
        seen = io.StringIO()
        monkeypatch.setattr(progress, "console", Console(file=seen, force_terminal=True, width=120))
        with progress.progress_bar("Cutting windows", unit="shards") as bar:
            for done in range(500, last + 1):
                bar(done, 60_000)
        text = [line for line in seen.getvalue().splitlines() if f"{last}/60000" in line][-1]
        assert ("/min" in text, "-:--:--" in text) == (known, not known)


def test_a_log_gets_a_line_for_each_epoch(clock: dict[str, float], caplog: pytest.LogCaptureFixture) -> None:
    with progress.progress_bar("Training", unit="steps") as bar:
        for done in range(1, 12):
            bar(done, 20_000, "epoch 1, loss 0.1", milestone=done in (2, 11))
            clock["s"] += 1
    assert caplog.messages == [
        "Training: 2 of 20,000 steps, epoch 1, loss 0.1",
        "Training: 11 of 20,000 steps, 60.0/min, 5 h 33 min left, epoch 1, loss 0.1",
    ]


def test_short_work_leaves_no_line(clock: dict[str, float], caplog: pytest.LogCaptureFixture) -> None:
    with progress.progress_bar("Cutting windows") as bar:
        bar(1, 2)
        bar(2, 2)
    assert caplog.messages == []
