"""Cost of a command: processor seconds, memory of its processes, and its files on disk (Linux).

Processor time is that of the command and of all children that it waited for. Memory is read twice a second: the peak of
each process as the kernel keeps it, and the sum over the processes of their proportional share (PSS), in which shared
pages count once. The driver writes its own peak when it ends, so that no peak is missed between two readings.
"""

import atexit
import json
import re
import resource
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from cubeprep.files import replacing

INTERVAL_S = 0.5
EXIT_CODES = (0, 3)  # 3: done, with rejected galaxies


@dataclass(frozen=True)
class Cost:
    """Cost of a stage.

    Attributes:
        seconds: processor seconds, user and system, children included.
        driver_mib: peak memory of the process that was started.
        largest_mib: that of its largest process.
        together_mib: largest sum over all processes at one time.
        disk_mb: growth of its folder, 1e6 bytes.
        files: growth of the number of files there.
        runs: how often it was started; more than 1 after interruptions.
    """

    seconds: float = 0.0
    driver_mib: float = 0.0
    largest_mib: float = 0.0
    together_mib: float = 0.0
    disk_mb: float = 0.0
    files: int = 0
    runs: int = 0

    def then(self, later: "Cost") -> "Cost":
        """Cost of both, one after the other."""
        mine, theirs = asdict(self), asdict(later)
        return Cost(**{k: max(v, theirs[k]) if k.endswith("_mib") else v + theirs[k] for k, v in mine.items()})


def read_cost(record: Path) -> Cost:
    """A cost from its JSON file."""
    return Cost(**json.loads(record.read_text()))


def save_cost(record: Path, cost: Cost) -> None:
    """Writes a cost as JSON, whole or not at all."""
    with replacing(record) as partial:
        partial.write_text(json.dumps(asdict(cost)) + "\n")


def record_peak(path: Path) -> None:
    """Makes this process write its peak memory, MiB, when it ends."""
    atexit.register(lambda: path.write_text(str(memory_mib("self", "status", "VmHWM"))))


def memory_mib(process: int | str, file: str, key: str) -> float:
    """A value of /proc/PROCESS/FILE, MiB; 0 of a process that has just ended."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{process}/{file}").read_text(), re.M)
    return int(found[1]) / 1024 if found else 0.0


def measure(command: Sequence[str], folder: Path, record: Path, log: Path) -> Cost:
    """Runs a command to its end, and returns and records its cost, with that of earlier runs that were interrupted.

    Args:
        command: program and arguments; it calls `record_peak` with `record` and the suffix `.peak`.
        folder: where it writes.
        record: file of the cost, JSON. Until the command has ended, that of the part so far has the suffix `.partial`.
        log: file to which its output is appended.

    Raises:
        RuntimeError: the command failed.
    """
    unfinished, peak = record.with_suffix(".partial"), record.with_suffix(".peak")
    # Files from before the first run count as negative, so that the growth is right after interruptions too.
    earlier, spent = read_cost(unfinished) if unfinished.exists() else on_disk(folder, -1), children_seconds()
    seen = Cost()
    with log.open("a") as file, psutil.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            now = read_processes(process)
            seen = replace(seen.then(now), seconds=now.seconds, runs=1)
            save_cost(unfinished, earlier.then(seen))
            time.sleep(INTERVAL_S)
    if process.returncode not in EXIT_CODES:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}; see {log}")
    driver = float(peak.read_text())
    ended = Cost(children_seconds() - spent, driver, driver, driver)
    cost = earlier.then(replace(seen, seconds=0).then(ended).then(on_disk(folder)))
    save_cost(record, cost)
    unfinished.unlink(missing_ok=True)
    return cost


def read_processes(process: psutil.Process) -> Cost:
    """Processor seconds so far and memory now of a process and its descendants that still run."""
    seconds = largest = together = 0.0
    with suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error, OSError):  # it has ended
                times = each.cpu_times()
                seconds += times.user + times.system + times.children_user + times.children_system
                largest = max(largest, memory_mib(each.pid, "status", "VmHWM"))
                together += memory_mib(each.pid, "smaps_rollup", "Pss")
    return Cost(seconds, largest_mib=largest, together_mib=together)


def children_seconds() -> float:
    """Processor seconds of all children that this process and theirs have waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def on_disk(folder: Path, sign: int = 1) -> Cost:
    """Size and number of the files below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return Cost(disk_mb=sign * sum(sizes) / 1e6, files=sign * len(sizes))
