"""Progress bars and messages: on a terminal, and quiet elsewhere."""

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
    """What is done in a minute, over the last half minute."""

    def render(self, task: Task) -> Text:
        """Empty until there is something to tell."""
        return Text(f"{60 * task.speed:,.1f}/min" if task.speed else "")


@contextmanager
def progress_bar(label: str, unit: str = "") -> Iterator[Report]:
    """A bar that is moved by calling it with (done, total, note); nothing is shown where there is no terminal."""
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
