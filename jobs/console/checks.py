"""Checks of the machine for `cubescout doctor`: packages, compiler, GPU, memory, disk, Ray. None changes anything."""

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from cubeprep.memory import free_memory

if TYPE_CHECKING:
    from packaging.requirements import Requirement

GB = 1e9
MIN_MEMORY_GB, GOOD_MEMORY_GB = 2.0, 4.0
MIN_DISK_GB, GOOD_DISK_GB = 1.0, 10.0
GOOD_SHARED_GB = 1.0
CONNECT_SECONDS = 5.0


class Finding(NamedTuple):
    """Result of one check.

    Attributes:
        level: `ok`; `note` if it works, but slower or with less; `fail` if it does not work.
        what: name of the check.
        text: result in words.
        advice: remedy; empty if none is needed.
    """

    level: Literal["ok", "note", "fail"]
    what: str
    text: str
    advice: str = ""


class CheckFailedError(Exception):
    """A check failed, and nothing that depends on it can be checked; the argument is the finding."""

    @property
    def finding(self) -> Finding:
        """The finding, of level `fail`."""
        found: Finding = self.args[0]
        return found


def versions() -> Iterator[Finding]:
    """Installed versions against those that the package requires, and against constraints.txt in a checkout."""
    from packaging.requirements import Requirement

    needed = [Requirement(text) for text in requires("cubescout") or []]
    needed = [item for item in needed if item.marker is None or item.marker.evaluate({"extra": ""})]
    wrong = [f"{item.name} {installed(item.name)} (needs {item.specifier})" for item in needed if not _meets(item)]
    if not needed:
        yield Finding("note", "packages", "nothing tells which ones Cubescout requires", "install cubescout with pip")
    elif wrong:
        yield Finding("fail", "packages", ", ".join(wrong), "pip install --constraint constraints.txt cubescout")
    else:
        yield Finding("ok", "packages", f"the {len(needed)} that Cubescout requires have the versions it requires")
    constraints = Path(__file__).parents[2] / "constraints.txt"
    if constraints.is_file():
        yield _tested(constraints.read_text(), {item.name.lower() for item in needed})


def _meets(needed: "Requirement") -> bool:
    return needed.specifier.contains(installed(needed.name) or "0", prereleases=True)


def installed(name: str) -> str:
    """Version of an installed package; empty if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _tested(constraints: str, names: set[str]) -> Finding:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", constraints, re.MULTILINE))
    # A local part such as +cu128 names another build of the same release.
    differ = [
        f"{name} {found} (tested: {wanted})"
        for name, wanted in pinned.items()
        if name.lower() in names and (found := installed(name).partition("+")[0]) != wanted
    ]
    if differ:
        return Finding("note", "tested versions", ", ".join(differ), "pip install --constraint constraints.txt ...")
    return Finding("ok", "tested versions", "those of constraints.txt")


def kernel() -> Iterator[Finding]:
    """Whether the ConvLSTM's kernel for the processor compiles, which takes about a second the first time."""
    from modeling.network.convlstm_cpu import available

    if available():
        yield Finding("ok", "compiler", "the CPU kernel of the ConvLSTM compiles and loads")
    elif os.environ.get("CUBESCOUT_NATIVE") == "0":
        yield Finding("note", "compiler", "CUBESCOUT_NATIVE=0 disables the CPU kernel", "unset CUBESCOUT_NATIVE")
    else:
        yield Finding(
            "note",
            "compiler",
            "no CPU kernel: a ConvLSTM runs on PyTorch's operations, about three times slower",
            "install a C compiler with OpenMP (such as gcc), or name one in CC",
        )


def compiler() -> str | None:
    """Path of the C compiler that Triton would use; None if there is none."""
    return next(filter(None, map(shutil.which, (os.environ.get("CC") or "gcc", "clang"))), None)


def gpu() -> Iterator[Finding]:
    """GPU and Triton, whose kernel it runs."""
    import torch

    from modeling.network.triton_support import has_triton

    if not torch.cuda.is_available():
        build = "" if torch.version.cuda else "; this PyTorch is built for CPUs alone"
        yield Finding("ok", "GPU", f"none that PyTorch can use{build}: trains and scores on the CPU")
        return
    found = torch.cuda.get_device_properties(0)
    shown = f"{found.name}, {found.total_memory / GB:.0f} GB, compute capability {found.major}.{found.minor}"
    if has_triton() and compiler() is None:
        advice = "install gcc, or name a compiler in CC"
        yield Finding("note", "GPU", f"{shown}; Triton finds no C compiler, which its kernels need", advice)
    elif has_triton():
        yield Finding("ok", "GPU", f"{shown}; Triton {installed('triton')}")
    else:
        yield Finding("note", "GPU", f"{shown}, without Triton: no kernel for the ConvLSTM", "pip install triton")


def memory() -> Iterator[Finding]:
    """Free memory, within the limit of a container."""
    free = free_memory() / GB
    text = f"{free:.1f} GB free"
    if free < MIN_MEMORY_GB:
        yield Finding("fail", "memory", text, f"needed: {MIN_MEMORY_GB:g} GB; end other programs")
    elif free < GOOD_MEMORY_GB:
        yield Finding("note", "memory", text, "--set train.num_workers=0 --set prepare.dask.num_workers=1 needs least")
    else:
        yield Finding("ok", "memory", text)


def folder(what: str, path: Path) -> Iterator[Finding]:
    """Whether a folder, or the nearest that exists above it, can be written to and has room."""
    path = path.absolute()
    there = next(parent for parent in (path, *path.parents) if parent.is_dir())
    free = shutil.disk_usage(there).free / GB
    text = f"{path}: {free:.1f} GB free"
    if not os.access(there, os.W_OK):
        yield Finding("fail", what, f"{path}: {there} cannot be written to", "choose another folder, or its owner")
    elif free < MIN_DISK_GB:
        yield Finding("fail", what, text, "make room, or choose a folder on another disk")
    elif free < GOOD_DISK_GB:
        yield Finding("note", what, text, "a window store takes about 1 to 4 MB for each galaxy and view")
    else:
        yield Finding("ok", what, text)


def temporary() -> Iterator[Finding]:
    """The temporary folder, and whether its path is short enough for Ray's sockets."""
    from modeling.ray_session import SOCKET_BYTES, short_folder

    path = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    yield from folder("TMPDIR", Path(path))
    with short_folder() as made:
        if made is None:
            yield Finding("ok", "sockets", f"paths below {path} stay within {SOCKET_BYTES} bytes")
        else:
            where = str(Path(made).parent)
            yield Finding("note", "sockets", f"{path} is too long a path for Ray's sockets: Ray works below {where}")


def ray() -> Iterator[Finding]:
    """Reachability of the cluster of RAY_ADDRESS, or the needs of a local Ray."""
    address = os.environ.get("RAY_ADDRESS")
    if address in (None, "", "local"):
        given = f"RAY_ADDRESS={address}" if address else "no RAY_ADDRESS"
        yield Finding("ok", "Ray", f"{installed('ray')}, {given}: a local Ray starts when it is needed")
        yield from _shared_memory()
        return
    if address == "auto":
        yield Finding("note", "Ray", f"{installed('ray')}, RAY_ADDRESS=auto: a cluster must run on this machine")
        return
    host, _, port = address.partition("://")[2 if "://" in address else 0].rpartition(":")
    check_reachable("Ray", host, port, "start the cluster, or correct RAY_ADDRESS")
    yield Finding("ok", "Ray", f"{installed('ray')}; {host}:{port} of RAY_ADDRESS answers")


def _shared_memory() -> Iterator[Finding]:
    place = Path("/dev/shm")  # noqa: S108 - the folder of Ray's object store
    if place.is_dir() and (free := shutil.disk_usage(place).free / GB) < GOOD_SHARED_GB:
        advice = "start the container with --shm-size=2g"
        yield Finding("note", "shared memory", f"{place}: {free:.2f} GB, so that Ray uses the disk", advice)


def check_reachable(what: str, host: str, port: str, advice: str) -> None:
    """Checks that something listens at an address, since the clients of services would retry for minutes.

    Raises:
        CheckFailedError: nothing does.
    """
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise CheckFailedError(Finding("fail", what, f"{host}:{port}: {error}", advice)) from error
