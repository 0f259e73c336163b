"""Click commands of the jobs, exit codes, and error messages."""

import ast
import importlib
import io
import logging
import shlex
import sys
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import click

from cubeprep.config import MistakeError
from cubeprep.redact import redacted_output
from jobs.config import ProjectConfig, load_project
from jobs.console.keys import complete_config, complete_set
from jobs.console.options import OPTIONS

EXIT_OK = 0


EXIT_FAILED = 1


EXIT_USAGE = 2


EXIT_SET_ASIDE = 3


EXIT_REFUSED = 4
EXIT_LOST = 5


EXIT_INTERRUPTED = 130


class CommandError(MistakeError):
    """A mistake in a command, such as the name of a galaxy that the catalog lacks."""


Job = Callable[..., int]


JOBS = {
    "simulate": "Write a simulated survey as MaNGA data products.",
    "prepare": "Cut emission-line windows from cubes into a Zarr store.",
    "train": "Train a network on a window store.",
    "tune": "Search hyperparameters with Ray Tune.",
    "score": "Score every galaxy and write the anomaly catalog.",
    "explore": "Make the page of the most unusual galaxies.",
    "search": "Find the galaxies or regions most similar to a given one.",
    "assess": "Measure scores and neighbours of labelled galaxies.",
    "export": "Write the catalog as a FITS table and a VOTable, and its footprint.",
    "figures": "Draw the figures of a survey for a paper, as PDF and PNG.",
    "crossmatch": "Put columns of another catalog beside ours, by position.",
    "samp": "Send the catalog or positions to TOPCAT or Aladin.",
    "maps": "Write maps of galaxies as FITS files with world coordinates.",
    "label": "Add labels of galaxies to the workspace.",
    "rerank": "Rank the catalog again by labels.",
    "classify": "Learn classes from labels, and predict their probabilities.",
    "doctor": "Check this machine and the services of a configuration.",
    "demo": "Run the whole pipeline on a small simulated survey.",
}


# Commands with other arguments, defined in `jobs.cli`.
TOOLS = {
    "submit": "Run a job on a Ray cluster and follow it.",
    "promote": "Make a model the champion if it is no worse.",
    "reproduce": "Recompute a row of a catalog from its FITS file, and compare.",
    "config": "Describe a key of the configuration, or all keys of a section.",
    "columns": "Describe a column of the catalog, or list all.",
}


EPILOG = f"""CONFIG is a YAML file, or the name of a shipped configuration such as `demo`.

\b
Exit codes: {EXIT_OK} done; {EXIT_FAILED} failed; {EXIT_USAGE} the command or the configuration is wrong;
{EXIT_SET_ASIDE} done, but some galaxies were rejected, with reasons in the store's rejected.csv;
{EXIT_REFUSED} not promoted, because the model is worse;
{EXIT_LOST} submitted, but the connection was lost and the job may still be running;
{EXIT_INTERRUPTED} interrupted."""


def run_command(name: str, config: ProjectConfig, **options: Any) -> int:
    """Runs one job, and imports its module only now: torch, ray and mlflow load slowly."""
    job: Job = importlib.import_module(f"jobs.{name}").run
    return job(config, **options)


_CONFIG = click.argument("config", shell_complete=complete_config)


# Commands that take the configuration `demo` if none is given.
OF_DEMO = ("demo", "doctor")
_CONFIG_OF_DEMO = click.argument("config", default="demo", shell_complete=complete_config)


def command(name: str) -> click.Command:
    """Click command of a job."""

    @click.command(name, help=JOBS[name] + "\n\n" + details(name), epilog=EPILOG)
    @_CONFIG_OF_DEMO if name in OF_DEMO else _CONFIG
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=complete_set,
        help="Override one value, such as --set train.epochs=3. The value is YAML. May be repeated.",
    )
    def job_command(config: str, overrides: tuple[str, ...], **options: Any) -> None:
        sys.exit(guarded(lambda: run_command(name, load_project(config, overrides), **options)))

    job_command.params += OPTIONS.get(name, ())
    return job_command


def following_command(name: str, following: str) -> str:
    """Command line that runs another job with the configuration of job `name`; empty unless that one is running."""
    context = click.get_current_context(silent=True)
    if context is None or context.command.name != name:
        return ""
    overrides = [word for item in context.params["overrides"] for word in ("--set", item)]
    return shlex.join(["cubescout", following, context.params["config"], *overrides])


def guarded(action: Callable[[], int]) -> int:
    """Runs an action; errors that a user can correct become one message and an exit code, without secrets."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 has no ±
    with redacted_output():
        return _guarded(action)


def _guarded(action: Callable[[], int]) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for package in ("cubeprep", "modeling", "jobs"):
        logging.getLogger(package).setLevel(logging.INFO)
    try:
        return action()
    except KeyboardInterrupt:
        click.echo("cubescout: interrupted; run the same command to resume", err=True)
        return EXIT_INTERRUPTED
    except MistakeError as error:
        click.echo(f"cubescout: {error}", err=True)
        return EXIT_USAGE
    except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
        what = f"{error.filename}: {str(error.strerror).lower()}" if error.filename else str(error)
        click.echo(f"cubescout: {what}; choose another path", err=True)
        return EXIT_USAGE
    except (ValueError, OSError) as error:
        click.echo(f"cubescout: {error}", err=True)
        return EXIT_FAILED


def details(name: str) -> str:
    """Docstring of a job's module without its first line, read without importing the module."""
    text = ast.get_docstring(ast.parse((files("jobs") / f"{name}.py").read_text())) or ""
    return text.partition("\n")[2].strip()
