"""Labels that people give to galaxies: one line of JSON each, in a file that only grows.

A later label of a galaxy replaces an earlier one, and an empty label withdraws it; the earlier lines stay, so the
labels at any time can be recovered. Several processes may append at the same time.
"""

import fcntl
import getpass
import hashlib
import os
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

CATALOG_DIGITS = 12


class LabelError(ValueError):
    """Labels that cannot be read: an unreadable file, or a line that is no label."""


class Label(BaseModel):
    """Label of a galaxy, with its author, time and the catalog that they looked at.

    Attributes:
        plateifu: the observation.
        label: such as `interesting` or `artefact`; empty withdraws earlier labels.
        author: name of the person; the login name by default.
        time_utc: time of the label, UTC.
        catalog: version of the catalog that was looked at, of `catalog_version`; empty if there was none.
        note: free text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    plateifu: str = Field(min_length=1)
    label: str = Field(max_length=100)
    author: str = Field(default_factory=lambda: default_author(), min_length=1, max_length=100)
    time_utc: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    catalog: str = ""
    note: str = Field("", max_length=10_000)


COLUMNS = list(Label.model_fields)


def append(path: Path, labels: Iterable[Label]) -> int:
    """Appends labels to a file, all of them or none, and returns their number.

    The file is locked meanwhile. A last line without a newline was left by an `append` that crashed: it is removed.
    """
    lines = [label.model_dump_json() + "\n" for label in labels]
    if not lines:
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = _whole_bytes(path)
        file.truncate(end)
        try:
            file.write("".join(lines).encode())
            file.flush()
            # On the disk before this returns: a label is somebody's work, which a power cut must not take.
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), end)
            raise
    return len(lines)


def read(path: Path) -> pd.DataFrame:
    """All labels ever given, in order, with the columns of `Label`; no rows where there is no file.

    Raises:
        LabelError: a line is no label; the message names it.
    """
    content = path.read_bytes()[: _whole_bytes(path)] if path.exists() else b""
    # At b"\n" alone: JSON leaves characters in a note that `splitlines` would take for ends of lines, such as U+2028.
    rows = [_parse(path, number, line) for number, line in enumerate(content.split(b"\n")[:-1], start=1)]
    table = pd.DataFrame([row.model_dump() for row in rows], columns=COLUMNS)
    return table.astype({"time_utc": "datetime64[us, UTC]"})


def current(history: pd.DataFrame) -> pd.Series:
    """Current label of each galaxy that has one, by plateifu: its last label, unless that withdraws it."""
    last = history.drop_duplicates("plateifu", keep="last").set_index("plateifu")["label"]
    return last[last != ""]


def is_find(label: str, usual: Collection[str]) -> bool:
    """Whether a label means a detection: it is none of those that mean 'not interesting'. Capitals are ignored."""
    return label.casefold() not in {word.casefold() for word in usual}


def is_number(text: str) -> bool:
    """Whether a text is a number, as `float` reads it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_word(label: str) -> bool:
    """Whether a text may be a label: numbers, true and false may not, since `rerank` would take them for detections."""
    return not is_number(label) and label.strip().casefold() not in ("true", "false")


def catalog_version(path: Path) -> str:
    """First digits of the sha256 of a catalog's file; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:CATALOG_DIGITS]


def default_author() -> str:
    """Login name; `unknown` where the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _whole_bytes(path: Path) -> int:
    """Length of a file up to the end of its last complete line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        # From the end: the file may be long, and its last newline is nearly always in the last bytes.
        while end:
            start = max(0, end - 2**16)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _parse(path: Path, number: int, line: bytes) -> Label:
    try:
        return Label.model_validate_json(line)
    except ValidationError as error:
        causes = "; ".join(f"{'.'.join(map(str, item['loc']))} {item['msg']}".strip() for item in error.errors())
        raise LabelError(f"{path}, line {number}: no label ({causes})") from error
