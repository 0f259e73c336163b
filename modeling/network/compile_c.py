"""Compiles C kernels at first use for this machine's processor; without a C compiler there are none.

The library is kept in the user's cache (`$XDG_CACHE_HOME/cubescout`, else `~/.cache/cubescout`) under a digest of its
source, the headers beside it, its flags and the processor, so a home directory shared by several kinds of machines
holds one for each. Compiling takes about a second. `CUBESCOUT_NATIVE=0` in the environment turns kernels off.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
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
    if target.exists():
        return target
    # Beside the target, so that the rename is atomic: another process sees no library or a complete one.
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        for flags in FLAGS:
            command = [compiler, *COMMON_FLAGS, *flags, str(source), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)  # noqa: S603
            if done.returncode == 0:
                made.replace(target)
                return target
    raise OSError(done.stderr.strip()[-500:])


def _cache() -> Path:
    """Folder that only this user writes to; a temporary one where the home directory is not writable."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cubescout"
        # Others must not be able to put a library there: it is loaded and run.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError) as error:
        logger.debug("no cache in the home: %s", error)
    return Path(tempfile.mkdtemp(prefix="cubescout-"))


def _processor() -> str:
    """Description that distinguishes processors: their kind and, on Linux, their features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return "\n".join([platform.machine(), platform.processor(), *sorted(set(features))])
