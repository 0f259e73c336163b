"""Ray's workers in tests, forked from a process that has imported PyTorch and what else they need but Ray.

Importing takes each worker three seconds of a processor. Ray starts this file in place of its own program for workers:
it asks the process of the tests for a fork that runs that program, and each of the two ends with the other.
"""

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ADDRESS = "CUBESCOUT_RAY_WORKERS"  # path of the socket on which forks are asked for
LONGEST = 1 << 20  # bytes of a request

_FORKS: dict[int, int] = {}  # process of a fork by the process that asked for it


def ask() -> None:
    """Asks for a fork with this process's arguments, environment and folder, and waits for its end."""
    request = {"pid": os.getpid(), "folder": str(Path.cwd()), "environment": dict(os.environ), "words": sys.argv[1:]}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as tests:
        tests.connect(os.environ[ADDRESS])
        tests.send(json.dumps(request).encode())
        tests.recv(1)


def work(folder: str, environment: dict[str, str], words: Sequence[str]) -> None:
    """Runs Ray's program for workers."""
    import runpy

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    program = str(Path(spec.origin).parent / "_private" / "workers" / "default_worker.py")
    sys.argv = [program, *words]
    runpy.run_path(program, run_name="__main__")


def forks_of(pids: Sequence[int]) -> list[int]:
    """Processes of the forks that these processes have asked for."""
    return [_FORKS[pid] for pid in pids if pid in _FORKS]


@contextmanager
def forked_workers() -> Iterator[None]:
    """A Ray that this process starts in the block forks its workers, for as long as the block lasts.

    Where the system lacks sockets of this kind (macOS), Ray starts its workers itself.
    """
    import tempfile
    import threading

    import pytest

    if not hasattr(socket, "SOCK_SEQPACKET"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="csray") as folder, pytest.MonkeyPatch.context() as patch:
        address = f"{folder}/workers"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(address)
            listener.listen()
            threading.Thread(target=_accept, args=(listener,), daemon=True).start()
            patch.setenv(ADDRESS, address)
            use(patch.setattr)
            yield
            listener.shutdown(socket.SHUT_RDWR)


def use(set_attribute: Callable[[type, str, Any], None] = setattr) -> None:
    """A Ray that this process starts from now on runs this file for its workers."""
    from modeling.ray_session import set_environment

    set_environment()  # which Ray reads as it is imported
    from ray._private.parameter import RayParams

    make = RayParams.__init__

    def make_with_our_program(params: Any, *arguments: Any, **options: Any) -> None:
        make(params, *arguments, **options | {"worker_path": __file__})

    set_attribute(RayParams, "__init__", make_with_our_program)


def _accept(listener: socket.socket) -> None:
    import threading
    from contextlib import suppress

    with suppress(OSError):  # at the end
        while True:
            asking, _ = listener.accept()
            threading.Thread(target=_fork, args=(asking,), daemon=True).start()


def _fork(asking: socket.socket) -> None:
    from multiprocessing.connection import wait

    from tests import forks

    with asking:
        request = json.loads(asking.recv(LONGEST))
        worker = forks.start(work, request["folder"], request["environment"], request["words"])
        assert worker.pid
        _FORKS[request["pid"]] = worker.pid
        if worker.sentinel not in wait([asking, worker.sentinel]):
            worker.kill()
        worker.join()
        del _FORKS[request["pid"]]


if __name__ == "__main__":
    ask()
