"""Messages, and progress: a bar on a terminal, lines in a log elsewhere."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(highlight=False, soft_wrap=True)

logger = logging.getLogger(__name__)

LINE_SECONDS = 60.0
# Speed and time left are shown after this many units, or this share if they are few: one unit cannot predict thousands.
FEWEST_UNITS, LEAST_SHARE = 10, 0.1
SPEED_SECONDS = 300.0  # averaging time of a terminal's bar; with 30 s, units of half a minute would make it jump


class Report(Protocol):
    """Function that receives progress."""

    def __call__(self, done: int, total: int, note: str = "", *, milestone: bool = False) -> None:
        """Takes the units done, their total, and a note; a milestone, such as an epoch, is always logged."""


class LogLines:
    """Progress as lines of a log: a line a minute at most, and one for each milestone."""

    def __init__(self, label: str, unit: str) -> None:
        self._label, self._unit = label, unit
        self._line_at = monotonic()
        # Units done by an earlier run do not count in the rate, which begins with the first report.
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int, note: str = "", *, milestone: bool = False) -> None:
        """Logs a line if it is time for one."""
        now = monotonic()
        first, since = self._first = self._first or (done, now)
        if not milestone and now - self._line_at < LINE_SECONDS:
            return
        self._line_at = now
        rate = (done - first) / (now - since) if now > since else 0.0
        parts = [f"{self._label}: {done:,} of {total:,} {self._unit}".rstrip()]
        if rate > 0 and is_enough(done - first, total):
            parts.append(f"{60 * rate:,.1f}/min")
            parts += [f"{_duration((total - done) / rate)} left"] if done < total else []
        logger.info(", ".join([*parts, *([note] if note else [])]))


def is_enough(done: int, total: int) -> bool:
    """Whether enough units are done to predict the speed.

    Args:
        done: units after the first report.
        total: units in total.
    """
    return done >= min(FEWEST_UNITS, LEAST_SHARE * total)


def _duration(seconds: float) -> str:
    """Duration in words, such as `2 h 05 min`; at least a second."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(seconds, 1):.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class SpeedColumn(ProgressColumn):
    """Units per minute, averaged over `SPEED_SECONDS`."""

    def render(self, task: Task) -> Text:
        """Speed as text; empty until it is known."""
        return Text(f"{60 * task.speed:,.1f}/min" if task.speed and task.fields["known"] else "")


class LeftColumn(TimeRemainingColumn):
    """Time left."""

    def render(self, task: Task) -> Text:
        """Time as text; dashes until it is known."""
        return super().render(task) if task.fields["known"] else Text("-:--:--", style="progress.remaining")


@contextmanager
def progress_bar(label: str, unit: str = "") -> Iterator[Report]:
    """Progress, updated by calling it with (done, total, note): a bar on a terminal, else lines of the log."""
    if not console.is_terminal:
        yield LogLines(label, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        SpeedColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        LeftColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True, speed_estimate_period=SPEED_SECONDS) as progress:
        task = progress.add_task(label, total=None, note="", known=False)
        first: int | None = None

        def report(done: int, total: int, note: str = "", *, milestone: bool = False) -> None:
            nonlocal first
            first = done if first is None else first
            progress.update(task, completed=done, total=total, note=note, known=is_enough(done - first, total))

        yield report
