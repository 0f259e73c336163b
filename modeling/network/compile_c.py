"""Compiles C kernels at first use for this machine's processor; without a C compiler there are none.

The library lies in the user's cache (`$XDG_CACHE_HOME/cubescout`, else `~/.cache/cubescout`) under a name made of its
source, the headers beside it, its flags and the processor, so that a home that several kinds of machines share holds
one for each. Whoever can write there can run code as this user, so a folder or a library that others own or may write
to is not used. Compiling takes about a second. `CUBESCOUT_NATIVE=0` in the environment does without kernels.
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

# Tried in this order: Apple's compiler has no OpenMP, and some compilers have no `native`.
FLAGS = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())
COMMON_FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-shared", "-fPIC")
# Parameters of glibc's mallopt, by the names in malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """Library compiled from the C file `name` beside this module; None, with the reason logged, where there is none.

    Code that uses a kernel works on large buffers, so from then on glibc keeps freed ones: see `keep_freed_memory`.
    """
    keep_freed_memory()
    if os.environ.get("CUBESCOUT_NATIVE") == "0":
        return None
    candidates = (shutil.which(c) for c in (os.environ.get("CC"), "cc", "gcc", "clang") if c)
    compiler = next(filter(None, candidates), None)
    if compiler is None:
        logger.info("no C compiler: %s runs on PyTorch's operations, about three times slower", name)
        return None
    try:
        return ctypes.CDLL(str(_compiled(Path(__file__).parent / name, compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("%s cannot be compiled by %s and runs on PyTorch's operations: %s", name, compiler, error)
        return None


def keep_freed_memory() -> bool:
    """Makes glibc keep freed buffers instead of returning them to the kernel; False where there is no glibc.

    A training step frees and allocates the same hundreds of megabytes again and again. By default each of their pages
    faults and is zeroed every time, which took up to a third of a step. In return the process keeps its peak memory.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def _compiled(source: Path, compiler: str) -> Path:
    """Path of the library of `source`, from the cache or compiled now; several processes may do this at once."""
    texts = [path.read_text() for path in (source, *sorted(source.parent.glob("*.h")))]
    identity = "\n".join([*texts, compiler, str((COMMON_FLAGS, FLAGS)), _processor()])
    target = _cache() / f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if target.exists() and (reason := _why_not_ours(target, writable=0o022)):
        logger.warning("%s is not used and compiled anew: %s", target, reason)
    elif target.exists():
        return target
    # Beside the target, so that the rename is atomic: another process sees no library or a complete one.
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        for flags in FLAGS:
            command = [compiler, *COMMON_FLAGS, *flags, str(source), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)  # noqa: S603
            if done.returncode == 0:
                made.chmod(0o700)
                made.replace(target)
                return target
    raise OSError(done.stderr.strip()[-500:])


def _cache() -> Path:
    """A folder that only this user reads and writes; it lasts where there is such a one in the home."""
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
    """What lets others change the content of a folder, or put another in its place; empty if nothing does."""
    if reason := _why_not_ours(folder, writable=0o077):
        return reason
    for parent in folder.parents:
        found = parent.stat()
        if found.st_uid not in (0, os.geteuid()):
            return f"{parent} belongs to user {found.st_uid}"
        # In a folder with the sticky bit, such as /tmp, only the owner of an entry renames it.
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            return f"{parent} may be written to by others (mode {stat.S_IMODE(found.st_mode):o}, expected 755 or less)"
    return ""


def _why_not_ours(path: Path, *, writable: int) -> str:
    """Why a folder or file may hold what others put there: a link, another owner, or one of the bits of `writable`."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link"
    if found.st_uid != os.geteuid():
        return f"{path} belongs to user {found.st_uid}, expected {os.geteuid()}"
    if found.st_mode & writable:
        return f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):o}, expected 700)"
    return ""


def _processor() -> str:
    """Description that distinguishes processors: their kind and, on Linux, their features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return "\n".join([platform.machine(), platform.processor(), *sorted(set(features))])
