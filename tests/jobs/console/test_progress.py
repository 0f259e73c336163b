import io
import re

import pytest
from rich.console import Console

from jobs.console import progress


def test_a_terminal_sees_count_speed_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=seen, force_terminal=True, width=120))
    with progress.progress_bar("Cutting windows", unit="shards") as bar:
        for done in range(501, 511):
            bar(done, 600, "3 rejected")
    text = re.sub(r"\x1b\[[0-9;]*m", "", seen.getvalue())
    assert re.search(r"510/600 shards [\d,.]+/min \d", text)
    assert "left:" in text
    assert "3 rejected" in text


def test_a_log_file_sees_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=seen))
    with progress.progress_bar("Cutting windows") as bar:
        bar(1, 2)
    assert not seen.getvalue().strip()
