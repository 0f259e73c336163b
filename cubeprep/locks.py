"""Locks by which one process at a time writes to a folder."""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cubeprep.config import MistakeError
from cubeprep.storage import is_remote

logger = logging.getLogger(__name__)

HELD = (errno.EACCES, errno.EAGAIN)


class InUseError(MistakeError):
    """Another process writes to the folder."""


@contextmanager
def only_writer(path: str) -> Iterator[None]:
    """Keeps other processes that ask for it out of a folder, by a lock on the file `.NAME.lock` beside it.

    The operating system releases the lock when the process ends, also if it is killed; its children do not hold it.
    URLs are not locked, nor are folders on a file system without locks, or beside which nothing can be written.

    Args:
        path: folder, which need not exist, or URL.

    Raises:
        InUseError: another process holds the lock; the message names it and its host.
    """
    folder = Path(path).absolute()
    descriptor = None
    if not is_remote(path):
        with suppress(OSError):  # whoever writes here finds out why it fails; a finished store may be read
            folder.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW  # the holder is written into it, not into what a link is to
            descriptor = os.open(folder.with_name(f".{folder.name}.lock"), flags, 0o666)
    if descriptor is None:
        yield
        return
    with os.fdopen(descriptor, "r+") as file:
        try:
            # Not `flock`, whose lock children inherit and keep when the process is killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                holder = file.read().strip() or "another process"
                raise InUseError(f"{folder}: {holder} is writing here; wait until it has ended, or stop it") from error
            logger.warning("%s: cannot be locked (%s); no second run may write here", folder, error)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
