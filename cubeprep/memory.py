"""Free memory of this machine."""

import os
import re
from pathlib import Path


def free_memory() -> float:
    """Free memory in bytes: of the machine, or of the container (cgroup v2) if it has a limit.

    Cached files count as free in both.
    """
    try:
        text = Path("/proc/meminfo").read_text()
        free = int(re.findall(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024.0
    except (OSError, IndexError):  # macOS has no such file
        free = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit, used, parts = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current", "stat"))
    try:
        cached = sum(map(int, re.findall(r"^(?:in)?active_file (\d+)$", parts.read_text(), re.MULTILINE)))
        return min(free, float(limit.read_text()) - float(used.read_text()) + cached)
    except (OSError, ValueError):  # no such limit, or `max`
        return free
