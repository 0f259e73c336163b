"""SAMP against a hub on loopback: a table as TOPCAT reads it, a position as Aladin takes it, a row that comes back."""

import queue
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from astropy.table import Table
from click.testing import CliRunner
from pyvo import samp

from jobs import cli
from jobs import samp as job
from jobs.tables import samp as samp_messages
from jobs.tables.samp import send_chosen
from modeling.catalog import read_catalog
from tests.jobs.catalogs import write_synthetic_catalog


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A hub of this test alone, which clients find by SAMP_HUB."""
    lock = tmp_path / "samp-lock"
    with samp.conf.set_temp("use_internet", False):
        server = samp.SAMPHubServer(web_profile=False, addr="127.0.0.1", lockfile=str(lock), mode="multiple")
        server.start()
        monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{lock.as_uri()}")
        yield server
        server.stop()


class Program:
    """A program at the hub that keeps what it is sent, as TOPCAT and Aladin are."""

    def __init__(self, hub: Any, name: str, fails: str = "") -> None:
        self.client = samp.SAMPIntegratedClient(metadata={"samp.name": name}, addr="127.0.0.1")
        self.client.connect(hub)
        self.tables: list[dict[str, str]] = []
        self.positions: list[dict[str, str]] = []
        self.came = threading.Event()
        self.fails = fails

    def take_tables(self) -> "Program":
        self.client.bind_receive_call("table.load.votable", self._table)
        return self

    def take_positions(self) -> "Program":
        self.client.bind_receive_notification("coord.pointAt.sky", self._position)
        return self

    def _table(self, key: str, sender: str, call: str, mtype: str, parameters: Any, extra: Any) -> None:
        self.tables.append(dict(parameters))
        self.came.set()
        answer = {"samp.status": "samp.ok", "samp.result": {}}
        if self.fails:
            answer = {"samp.status": "samp.error", "samp.error": {"samp.errortxt": self.fails}}  # type: ignore[dict-item]
        self.client.reply(call, answer)

    def _position(self, key: str, sender: str, mtype: str, parameters: Any, extra: Any) -> None:
        self.positions.append(dict(parameters))
        self.came.set()


@pytest.fixture
def programs(hub: Any) -> Iterator[tuple[Program, Program]]:
    topcat, aladin = Program(hub, "topcat").take_tables(), Program(hub, "Aladin").take_tables().take_positions()
    yield topcat, aladin
    for program in (topcat, aladin):
        program.client.disconnect()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_synthetic_catalog(tmp_path / "catalog.parquet", num_galaxies=12)
    return tmp_path


def run(workspace: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.main, ["samp", "demo", *arguments, "--set", f"workspace={workspace}"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, result.output


def test_the_first_galaxies_arrive_as_a_votable(workspace: Path, programs: tuple[Program, Program]) -> None:
    code, text = run(workspace, "--top", "5", "--to", "TOPCAT")
    assert code == 0, text
    assert "5 galaxies sent to topcat" in text
    topcat, aladin = programs
    assert aladin.tables == []
    (message,) = topcat.tables
    table = Table.read(url2pathname(urlsplit(message["url"]).path), format="votable")
    catalog = read_catalog(workspace / "catalog.parquet").table
    assert table["plateifu"].tolist() == catalog["plateifu"].tolist()[:5]
    assert table["ra_deg"].unit == "deg"
    assert message["table-id"].startswith("cubescout-")
    assert message["name"] == f"Cubescout {workspace.name}, 5 galaxies"


def test_a_position_arrives_at_the_program_that_takes_positions(
    workspace: Path, programs: tuple[Program, Program]
) -> None:
    row = read_catalog(workspace / "catalog.parquet").table.iloc[3]
    code, text = run(workspace, row["plateifu"])
    assert code == 0, text
    assert f"{row['plateifu']}: position sent to Aladin" in text
    topcat, aladin = programs
    assert aladin.came.wait(20)
    (position,) = aladin.positions
    assert float(position["ra"]) == pytest.approx(row["ra_deg"], abs=1e-8)
    assert float(position["dec"]) == pytest.approx(row["dec_deg"], abs=1e-8)
    assert topcat.tables == aladin.tables == []


@pytest.mark.slow
def test_a_program_that_does_not_answer_is_named(workspace: Path, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samp_messages, "ANSWER_SECONDS", 0.5)
    silent = Program(hub, "Silent")
    silent.client.bind_receive_call("table.load.votable", lambda *message: None)
    code, text = run(workspace)
    silent.client.disconnect()
    assert code == 1
    assert "Silent has not answered to" in text


def test_highlighted_rows_come_back(
    workspace: Path, programs: tuple[Program, Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    topcat, _ = programs
    seen, came = [], threading.Event()

    def print_row(catalog: Any, row: int) -> None:
        seen.append(catalog.table["plateifu"].iloc[row])
        came.set()

    def highlight(hub: Any) -> None:
        assert hub.is_connected
        (table,) = topcat.tables
        for name, row in (("another-table", "1"), (table["table-id"], "7")):
            topcat.client.enotify_all("table.highlight.row", **{"table-id": name, "row": row})
        assert came.wait(20)
        came.clear()
        row = {"table-id": table["table-id"], "row": "2"}
        (recipient,) = topcat.client.get_subscribed_clients("table.highlight.row")
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        topcat.client.bind_receive_response("row", lambda key, sender, tag, answer: answers.put(answer))
        topcat.client.ecall(recipient, "row", "table.highlight.row", **row)
        assert answers.get(timeout=20)["samp.status"] == "samp.ok"
        assert came.wait(20)

    monkeypatch.setattr(job, "print_row", print_row)
    monkeypatch.setattr(job, "wait", highlight)
    code, text = run(workspace, "--listen")
    assert code == 0, text
    names = read_catalog(workspace / "catalog.parquet").table["plateifu"]
    assert seen == [names[7], names[2]]


def test_a_highlighted_row_is_printed_as_a_galaxy(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = read_catalog(workspace / "catalog.parquet")
    job.print_row(catalog, 2)
    job.print_row(catalog, 12)  # a row that is not there
    assert capsys.readouterr().out.startswith(f"{catalog.table['plateifu'][2]}  rank 3  score ")


def test_the_page_sends_a_position_or_a_table_of_any_number(workspace: Path, programs: tuple[Program, Program]) -> None:
    topcat, _ = programs
    catalog = read_catalog(workspace / "catalog.parquet")
    names = catalog.table["plateifu"].tolist()
    send = partial(send_chosen, catalog, workspace / "samp", "manga")
    assert send(names[1:2], False) == f"Position of {names[1]} sent to Aladin"
    assert send(names[1:2], True).startswith("1 galaxy sent to ")
    text = send([names[4], names[2]], True)
    assert text in ("2 galaxies sent to topcat, Aladin", "2 galaxies sent to Aladin, topcat")
    _, message = topcat.tables
    table = Table.read(url2pathname(urlsplit(message["url"]).path), format="votable")
    assert table["plateifu"].tolist() == [names[4], names[2]]


def test_a_number_of_galaxies_beside_their_names_is_refused(workspace: Path) -> None:
    code, text = run(workspace, "--top", "3", "8000-1901")
    assert code == 2
    assert "--top is of the table" in text


def test_without_a_hub_it_says_what_to_start(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(workspace / 'none').as_uri()}")
    code, text = run(workspace)
    assert code == 1
    assert "no SAMP hub is running here: start TOPCAT or Aladin" in text


def test_programs_that_take_nothing_and_failures_are_named(workspace: Path, hub: Any) -> None:
    code, text = run(workspace)
    assert code == 1
    assert "table.load.votable: no program at the SAMP hub takes such messages" in text
    program = Program(hub, "splat", fails="no memory").take_tables()
    code, text = run(workspace, "--to", "ds9")
    assert code == 1
    assert "table.load.votable: ds9 is not at the SAMP hub; splat would" in text
    code, text = run(workspace, "8000-1901", "--to", "splat")
    assert code == 1
    assert "coord.pointAt.sky: splat takes no such messages" in text
    code, text = run(workspace)
    assert code == 1
    assert "splat could not read" in text
    assert "no memory" in text
    program.fails = "Duplicate table-id: table 'cubescout-0' has already been received"  # as TOPCAT answers
    code, text = run(workspace, "--top", "5")
    assert code == 0
    assert "5 galaxies sent to splat (which has them already)" in text
    program.client.disconnect()
    assert run(workspace, "8-1")[0] == 2
    code, text = run(workspace, "--match", "wise")
    assert code == 2
    assert "catalog.match-wise.parquet; `cubescout crossmatch` makes one" in text
