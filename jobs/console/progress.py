"""Messages, and progress bars that appear only on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

Report = Callable[[int, int, str], None]


class SpeedColumn(ProgressColumn):
    """Units per minute, averaged over the last half minute."""

    def render(self, task: Task) -> Text:
        """Speed as text; empty until it is known."""
        return Text(f"{60 * task.speed:,.1f}/min" if task.speed else "")


@contextmanager
def progress_bar(label: str, unit: str = "") -> Iterator[Report]:
    """Progress bar, updated by calling it with (done, total, note); hidden without a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        SpeedColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(label, total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield report
