"""A process that holds a lock, for tests of what a second one is told."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Its child lives on, and inherits what is open.
HOLD = """
import os, sys, time
from cubeprep.locks import only_writer
with only_writer(sys.argv[1]):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
    os._exit(0)
"""


class Holder:
    """A process that holds a lock; `child` is the id of its child."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        with self._process.stdout as printed:
            self.pid, self.child = self._process.pid, int(printed.readline())

    def kill(self) -> None:
        """Kills the process, but not its child."""
        self._process.kill()
        self._process.wait()


@contextmanager
def holding(folder: Path) -> Iterator[Holder]:
    """Another process is the only writer of the folder during the block, unless it is killed."""
    holder = Holder(folder)
    try:
        yield holder
    finally:
        os.kill(holder.child, signal.SIGKILL)
        holder.kill()
