"""Processes that tests run and kill, forked from one that has imported what they need.

Importing takes most of the time of a short command. A test of what a new interpreter does starts one instead.
"""

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

# Ray is not among them: it reads its token and what a worker is told by its environment once, on import.
PRELOADED = (
    *(f"jobs.{name}" for name in ("cli", "prepare", "train", "tune", "score", "explore")),
    *("distributed", "mlflow.pyfunc", "modeling.tracking.models", "modeling.training.ray_train"),
    "torch._dynamo",  # PyTorch imports it with the first optimizer, which takes a second
)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(list(PRELOADED))


def start(target: Callable[..., None], *arguments: Any, output: Path | None = None) -> ForkServerProcess:
    """Starts a function in a process of its own.

    Args:
        target: the function, of an importable module.
        *arguments: its arguments, which can be pickled.
        output: folder of the files `stdout` and `stderr` of the process; by default they go nowhere.
    """
    process = CONTEXT.Process(target=_run, args=(target, arguments, dict(os.environ), Path.cwd(), output))
    process.start()
    return process


def run(target: Callable[..., None], *arguments: Any, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Runs a function in a process of its own, to its end: its exit code and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        process = start(target, *arguments, output=Path(folder))
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
        printed = [(Path(folder) / name).read_text() for name in ("stdout", "stderr")]
    assert process.exitcode is not None, f"it hangs: {printed}"
    return subprocess.CompletedProcess([target.__name__, *arguments], process.exitcode, *printed)


def cubescout(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command `cubescout` with these words behind it."""
    return run(_cubescout, *words)


def _cubescout(*words: str) -> None:
    from jobs import cli

    sys.argv = ["cubescout", *words]
    cli.main()


def _run(
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    environment: Mapping[str, str],
    folder: Path,
    output: Path | None,
) -> None:
    """What an interpreter does for its main module."""
    for stream, name in ((1, "stdout"), (2, "stderr")):
        path = output / name if output else os.devnull
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        target(*arguments)
    except Exception:  # noqa: BLE001 - as an interpreter does
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()
