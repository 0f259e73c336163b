"""Checks this machine and the services of a configuration, and advises remedies.

Checks the installed packages against the required and the tested versions, the C compiler for the CPU kernel, GPU and
Triton, memory, disk, the temporary folder and the length of Ray's socket paths, the cluster of RAY_ADDRESS, and, of
CONFIG (default: demo), the survey's folder, the workspace, the store, the storage of checkpoints, and MLflow. On S3 it
writes a small object beside the store, and removes it; nothing else is changed. `cubescout submit doctor CONFIG` checks
the machines of a cluster.

Each line begins with ok, note (it works, but slower or with less) or FAIL. The exit code is 1 if anything fails.
Passwords, keys and signatures are never printed.
"""

from collections.abc import Callable, Iterator

import click

from jobs.config import ProjectConfig
from jobs.console import checks, services
from jobs.console.checks import CheckFailedError, Finding
from jobs.console.command import EXIT_FAILED, EXIT_OK, command
from jobs.console.progress import console

Check = Callable[[], Iterator[Finding]]


def run(config: ProjectConfig) -> int:
    """Prints all findings; returns the exit code."""
    context, failed = click.get_current_context(silent=True), 0
    if context:
        console.print(f"This machine, and the configuration {context.params['config']}:", markup=False)
    for finding in findings(config):
        level = finding.level.upper() if finding.level == "fail" else finding.level
        console.print(f"{level:<5} {finding.what}: {finding.text}", markup=False)
        if finding.advice:
            console.print(f"      -> {finding.advice}", markup=False)
        failed += finding.level == "fail"
    console.print(f"{failed} of these checks failed" if failed else "All checks passed")
    return EXIT_FAILED if failed else EXIT_OK


def findings(config: ProjectConfig) -> Iterator[Finding]:
    """Findings of all checks, and of errors of clients."""
    of_machine: dict[str, Check] = {
        "packages": checks.versions,
        "compiler": checks.kernel,
        "GPU": checks.gpu,
        "memory": checks.memory,
        "TMPDIR": checks.temporary,
        "Ray": checks.ray,
    }
    of_config: dict[str, Check] = {
        "survey.root": lambda: services.survey(config),
        "workspace": lambda: checks.folder("workspace", config.workspace),
        "prepare.store": lambda: services.written("prepare.store", config.prepare.store),
        "train.storage": lambda: services.written("train.storage", config.train.storage),
        "MLflow": lambda: services.tracking(config),
    }
    for what, check in (of_machine | of_config).items():
        try:
            yield from check()
        except CheckFailedError as error:
            yield error.finding
        except Exception as error:  # noqa: BLE001 - of many clients; the other checks continue
            text = f"{type(error).__name__}: {error}".partition("\n")[0]
            yield Finding("fail", what, text, "correct the key, the address or the credentials that the message names")


if __name__ == "__main__":
    command("doctor")()
