"""Sends the catalog, its first galaxies, or positions to TOPCAT, Aladin and other programs over SAMP.

Without PLATEIFU it sends the catalog as a table (with --top N its N most unusual galaxies; with --match PREFIX the
table that `crossmatch` made) to every program that takes tables. With PLATEIFU it sends the position of each galaxy in
turn, which Aladin shows. --to NAME sends to one program alone. With --listen it stays connected after sending the
table, and prints each galaxy whose row is highlighted there, until Ctrl-C.

TOPCAT and Aladin start a SAMP hub; one must be running. Tables are sent as files of this machine, VOTables in
WORKSPACE/samp, and nothing is sent over the network. `cubescout explore --serve` has buttons for the same.
"""

import time
from collections.abc import Sequence

from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.command import EXIT_OK, CommandError, command
from jobs.console.progress import console
from jobs.tables.matches import matches_path
from jobs.tables.read import observations
from jobs.tables.samp import Samp, connected, position_of, table_file
from jobs.tables.survey_links import survey_name
from modeling.catalog import Catalog, read_catalog


def run(
    config: ProjectConfig,
    plateifu: Sequence[str] = (),
    top: int | None = None,
    match: str | None = None,
    to: str = "",
    listen: bool = False,
) -> int:
    """Sends, and prints to which programs; returns the exit code."""
    if top is not None and plateifu and not listen:
        raise CommandError("--top is of the table, which is not sent where galaxies are named; leave out one of them")
    path = matches_path(config.catalog_path, match) if match else config.catalog_path
    if match and not path.is_file():
        raise CommandError(f"--match {match}: there is no {path}; `cubescout crossmatch` makes one")
    catalog = read_catalog(path)
    plateifu = observations(plateifu, catalog.table, path, config.store_path)
    with connected(to) as hub:
        for name in plateifu:
            programs = hub.point_at(*position_of(catalog, name))
            console.print(f"{name}: position sent to {', '.join(programs)}", markup=False)
        if listen or not plateifu:
            names = catalog.table["plateifu"].tolist()[:top]
            table = table_file(catalog, config.workspace / "samp", survey_name(config), names)
            if listen:
                hub.on_row(table.table_id, lambda row: print_row(catalog, row))
            programs = hub.send_table(table)
            console.print(f"{counted(len(names), 'galaxy')} sent to {', '.join(programs)}", markup=False)
        if listen:
            wait(hub)
    return EXIT_OK


def wait(hub: Samp) -> None:
    """Waits until the hub ends or the user interrupts."""
    console.print(
        "Highlight rows to see the galaxies here (TOPCAT sends them by the activation action `Send row index`); "
        "stop with Ctrl-C",
        markup=False,
    )
    try:
        while hub.is_connected:
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


def print_row(catalog: Catalog, row: int) -> None:
    """Prints the galaxy in a row of the catalog."""
    if 0 <= row < len(catalog.table):
        found = catalog.table.iloc[row]
        text = f"{found['plateifu']}  rank {found['rank']}  score {found['score']:.4g}  {found.get('reason_1') or ''}"
        console.print(text.rstrip(), markup=False)


if __name__ == "__main__":
    command("samp")()
