"""Compilation of C kernels for this machine's processor, on first use; without a C compiler there are no kernels.

Libraries are kept in the user's cache (`$XDG_CACHE_HOME/cubescout`, else `~/.cache/cubescout`). Their names contain a
digest of the source, the headers beside it, the flags and the processor, so that machines of different kinds can share
a home directory. Whoever can write to the cache can run code as this user, so a folder or library that others own or
can write to is not used. Compilation takes about a second. `CUBESCOUT_NATIVE=0` in the environment disables kernels.
"""

import atexit
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

# Tried in this order: Apple's compiler lacks OpenMP, and some compilers do not know `native`.
FLAGS = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())
COMMON_FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-shared", "-fPIC")
# Parameters of glibc's mallopt, named as in malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """Library compiled from the C file `name` of this package; None, with the reason logged, if that fails.

    Code that uses kernels works on large buffers, so glibc is also told to keep freed ones (`keep_freed_memory`).
    """
    keep_freed_memory()
    if os.environ.get("CUBESCOUT_NATIVE") == "0":
        return None
    candidates = (shutil.which(c) for c in (os.environ.get("CC"), "cc", "gcc", "clang") if c)
    compiler = next(filter(None, candidates), None)
    if compiler is None:
        logger.info("no C compiler: PyTorch and NumPy do what %s would, a few times slower", name)
        return None
    source = Path(__file__).parents[1] / name
    try:
        made = _compiled(source, compiler)
        try:
            return ctypes.CDLL(str(made))
        except OSError:  # a kept library that a full disk or a power cut damaged
            return ctypes.CDLL(str(_compiled(source, compiler, anew=True)))
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning(
            "%s cannot be compiled by %s; PyTorch and NumPy do the same more slowly: %s", name, compiler, error
        )
        return None


def keep_freed_memory() -> bool:
    """Makes glibc keep freed buffers instead of returning them to the kernel; returns False without glibc.

    Every training step allocates and frees the same hundreds of megabytes. By default each of their pages faults and is
    zeroed every time, which took up to a third of a step. The price is that the process keeps its peak memory.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def _compiled(source: Path, compiler: str, *, anew: bool = False) -> Path:
    """Path of the library of `source`, from the cache or compiled now; safe with several processes at once."""
    texts = [path.read_text() for path in (source, *sorted(source.parent.glob("*.h")))]
    identity = "\n".join([*texts, compiler, str((COMMON_FLAGS, FLAGS)), _processor()])
    target = _cache() / f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if target.exists() and (reason := _why_not_ours(target, writable=0o022)):
        logger.warning("%s is not used and compiled anew: %s", target, reason)
    elif target.exists() and not anew:
        return target
    # Compiled beside the target and renamed, so that other processes see either no library or a complete one.
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        for flags in FLAGS:
            command = [compiler, *COMMON_FLAGS, *flags, str(source), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)  # noqa: S603
            if done.returncode == 0:
                made.chmod(0o700)
                with made.open(
                    "rb"
                ) as file:  # a power cut after the new name would leave a library without its content
                    os.fsync(file.fileno())
                made.replace(target)
                return target
    raise OSError(done.stderr.strip()[-500:])


def _cache() -> Path:
    """Folder that only this user reads and writes: the cache, or a temporary one if the cache is not private."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "cubescout"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = _why_not_private(folder) or ("" if os.access(folder, os.W_OK) else "it cannot be written to")
    except (OSError, RuntimeError) as error:
        reason = str(error)
    if not reason:
        return folder
    logger.warning("kernels are compiled for this process alone, since they cannot be kept: %s", reason)
    scratch = Path(tempfile.mkdtemp(prefix="cubescout-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return scratch


def _why_not_private(folder: Path) -> str:
    """Reason why others can change or replace a folder, in words; empty if they cannot."""
    if reason := _why_not_ours(folder, writable=0o077):
        return reason
    for parent in folder.parents:
        found = parent.stat()
        if found.st_uid not in (0, os.geteuid()):
            return f"{parent} belongs to user {found.st_uid}"
        # In a folder with the sticky bit, such as /tmp, only the owner of an entry can rename it.
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            return f"{parent} may be written to by others (mode {stat.S_IMODE(found.st_mode):o}, expected 755 or less)"
    return ""


def _why_not_ours(path: Path, *, writable: int) -> str:
    """Reason why others may have written a folder or file: it is a link, has another owner, or a bit of `writable`."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link"
    if found.st_uid != os.geteuid():
        return f"{path} belongs to user {found.st_uid}, expected {os.geteuid()}"
    if found.st_mode & writable:
        return f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):o}, expected 700)"
    return ""


def _processor() -> str:
    """Text that distinguishes processors: their architecture and, on Linux, their features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return "\n".join([platform.machine(), platform.processor(), *sorted(set(features))])
