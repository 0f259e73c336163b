"""Messages to other programs on this machine over SAMP (IVOA 1.3): tables to TOPCAT, positions to Aladin, rows back.

A hub must be running; TOPCAT and Aladin start one. Clients listen on the loopback interface alone.
"""

import hashlib
import queue
import uuid
import xmlrpc.client
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cubeprep.storage import write_file
from cubeprep.words import counted
from jobs.tables.write import to_astropy, votable_bytes
from modeling.catalog import Catalog

TABLE, POSITION, HIGHLIGHT = "table.load.votable", "coord.pointAt.sky", "table.highlight.row"
ANSWER_SECONDS = 60
METADATA = {
    "samp.name": "Cubescout",
    "samp.description.text": "Unusual galaxies of integral-field surveys",
}


class SampError(ValueError):
    """There is no hub, or none of its clients takes a message."""


class TableFile(NamedTuple):
    """A VOTable file to be sent.

    Attributes:
        path: path of the file.
        table_id: identifier of the table in messages.
        title: name of the table for users.
    """

    path: Path
    table_id: str
    title: str


class Samp:
    """A connection to the hub."""

    def __init__(self, client: Any, to: str = "") -> None:
        """Keeps the client of a hub, and the name of the only program to send to; empty for all."""
        self._client, self._to = client, to.lower()

    @property
    def is_connected(self) -> bool:
        """Whether the hub still answers."""
        try:
            self._client.ping()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def send_table(self, table: TableFile) -> list[str]:
        """Sends a table, and waits until each program has read it; returns the programs' names.

        Raises:
            SampError: no program takes tables, or one could not read it.
        """
        parameters = {"url": table.path.absolute().as_uri(), "table-id": table.table_id, "name": table.title}
        names = []
        for recipient, name in self._recipients(TABLE).items():
            answer = self._answer_to(recipient, TABLE, parameters)
            if answer is None:
                raise SampError(f"{name} has not answered to {table.path} within {ANSWER_SECONDS} s")
            if answer.get("samp.status") == "samp.ok":
                names.append(name)
                continue
            error = str(answer.get("samp.error", {}).get("samp.errortxt", answer.get("samp.status")))
            # TOPCAT's answer; its rows are those of this table.
            if "duplicate table-id" not in error.lower():
                raise SampError(f"{name} could not read {table.path}: {error}")
            names.append(f"{name} (which has them already)")
        return names

    def _answer_to(self, recipient: str, message: str, parameters: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Answer of a program to a message; None if it does not come in time."""
        # Not `ecall_and_wait`: the hub of Astropy and PyVO loses an answer that comes at once.
        answers: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        tag = f"{message}-{uuid.uuid4().hex[:8]}"
        self._client.bind_receive_response(tag, lambda key, sender, found, answer: answers.put(answer))
        self._client.ecall(recipient, tag, message, **parameters)
        try:
            return answers.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            return None

    def point_at(self, ra_deg: float, dec_deg: float) -> list[str]:
        """Sends an ICRS position; returns the programs' names.

        Raises:
            SampError: no program takes positions.
        """
        recipients = self._recipients(POSITION)
        for recipient in recipients:
            self._client.enotify(recipient, POSITION, ra=f"{ra_deg:.8f}", dec=f"{dec_deg:.8f}")
        return list(recipients.values())

    def on_row(self, table_id: str, tell: Callable[[int], None]) -> None:
        """Calls `tell` with the number of each row, from 0, that a program highlights in a table sent before."""

        def receive(key: str, sender: str, mtype: str, parameters: Mapping[str, str], extra: Any) -> None:
            if parameters.get("table-id") == table_id:
                tell(int(parameters["row"]))

        def receive_call(key: str, sender: str, call: str, mtype: str, parameters: Any, extra: Any) -> None:
            receive(key, sender, mtype, parameters, extra)
            self._client.reply(call, {"samp.status": "samp.ok", "samp.result": {}})

        self._client.bind_receive_notification(HIGHLIGHT, receive)
        self._client.bind_receive_call(HIGHLIGHT, receive_call)

    def _recipients(self, message: str) -> dict[str, str]:
        """Names of the programs that take a message, by their id."""
        found = self._names(self._client.get_subscribed_clients(message))
        chosen = {client: name for client, name in found.items() if self._to in ("", name.lower())}
        if not chosen:
            others = f"; {', '.join(found.values())} would" if found else ""
            there = self._names(self._client.get_registered_clients()).values()
            if self._to and self._to not in map(str.lower, there):
                raise SampError(f"{message}: {self._to} is not at the SAMP hub{others}")
            who = self._to or "no program at the SAMP hub"
            raise SampError(f"{message}: {who} takes {'no ' if self._to else ''}such messages{others}")
        return chosen

    def _names(self, clients: Iterable[str]) -> dict[str, str]:
        """Names of programs by their id."""
        return {str(client): str(self._client.get_metadata(client).get("samp.name", client)) for client in clients}


@contextmanager
def connected(to: str = "") -> Iterator[Samp]:
    """A connection to the hub of this user, or that of SAMP_HUB, for the duration of the block.

    Args:
        to: name of the only program to send to; empty for all.

    Raises:
        SampError: no hub is running.
    """
    from pyvo import samp

    # Otherwise it would look up this machine's name on the network, and listen there.
    with samp.conf.set_temp("use_internet", False):
        client = samp.SAMPIntegratedClient(metadata=METADATA, addr="127.0.0.1")
        try:
            client.connect()
        except (samp.SAMPHubError, OSError) as error:
            raise SampError("no SAMP hub is running here: start TOPCAT or Aladin, or set SAMP_HUB") from error
        try:
            yield Samp(client, to)
        finally:
            client.disconnect()


def table_file(catalog: Catalog, folder: Path, survey: str, names: Sequence[str]) -> TableFile:
    """Writes rows of a catalog, in the order of `names`, as a VOTable.

    Args:
        catalog: the catalog.
        folder: folder of the file, in the workspace that the title names.
        survey: name from `survey_links.survey_name`.
        names: plateifu of the rows, of which the catalog has all.
    """
    table = catalog.table.set_index("plateifu", drop=False).loc[list(names)].reset_index(drop=True)
    content = votable_bytes(to_astropy(replace(catalog, table=table), survey))
    # Equal selections share an id; a new selection does not replace tables that programs have loaded.
    table_id = f"cubescout-{hashlib.sha256(content).hexdigest()[:8]}"
    path = folder / f"{table_id}.vot"
    write_file(str(path), content)
    return TableFile(path, table_id, f"Cubescout {folder.absolute().parent.name}, {counted(len(names), 'galaxy')}")


def position_of(catalog: Catalog, plateifu: str) -> tuple[float, float]:
    """Right ascension and declination of a galaxy, degrees.

    Raises:
        SampError: the catalog does not have them.
    """
    row: Any = catalog.table.set_index("plateifu").loc[plateifu]
    ra_deg, dec_deg = (float(row.get(name, np.nan)) for name in ("ra_deg", "dec_deg"))
    if not np.isfinite([ra_deg, dec_deg]).all():
        raise SampError(f"{plateifu}: the catalog has no position of it")
    return ra_deg, dec_deg


def send_chosen(catalog: Catalog, folder: Path, survey: str, names: Sequence[str], as_table: bool) -> str:
    """Sends galaxies as a table, or the position of each; returns a summary that names the programs.

    Raises:
        SampError: nothing could be sent.
    """
    with connected() as hub:
        if as_table:
            programs = hub.send_table(table_file(catalog, folder, survey, names))
            return f"{counted(len(names), 'galaxy')} sent to {', '.join(programs)}"
        to = [", ".join(hub.point_at(*position_of(catalog, name))) for name in names]
        return "; ".join(f"Position of {name} sent to {programs}" for name, programs in zip(names, to, strict=True))
