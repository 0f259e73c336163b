"""The command line: `cubescout NAME CONFIG --set a.b=value`, and commands with other arguments."""

import sys
from pathlib import Path
from typing import Any

import click

from cubeprep.words import closest, suggestion
from jobs.config import load_project
from jobs.console.command import EPILOG, EXIT_OK, JOBS, TOOLS, command, details, guarded
from jobs.console.keys import complete_config, complete_key, complete_set, describe
from jobs.console.options import PathOrUrl

KEY_EPILOG = """Prints type, default, constraints, unit, meaning and the values of shipped configurations, as
`cubescout config train.lr`, or of all keys of a section, as `cubescout config train`. Without KEY it lists the
sections. An unknown key is answered with the closest one and the exit code 2."""

COLUMN_EPILOG = """Prints type, unit, UCD and meaning of a column, as `cubescout columns z`, and of all columns that
continue its name, as `cubescout columns score`. Without NAME it lists all columns. LINE stands for the name of each
line. The unit of flux is that of the store; here, MaNGA's."""

_SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_set,
    help="Override one value of CONFIG. May be repeated.",
)


def _command(name: str) -> Any:
    return click.command(name, help=f"{TOOLS[name]}\n\n{details(name)}", epilog=EPILOG)


@_command("submit")
@click.argument("job", type=click.Choice(list(JOBS)))
@click.argument("config", shell_complete=complete_config)
@click.argument("arguments", nargs=-1, metavar="[-- ARGUMENTS]...")
@_SET
@click.option("--address", metavar="URL", help="Address of the cluster's dashboard.")
@click.option(
    "--follow/--no-follow", default=True, show_default=True, help="Show the output and wait until the job ends."
)
def _submit(
    job: str, config: str, arguments: tuple[str, ...], overrides: tuple[str, ...], address: str | None, follow: bool
) -> None:
    from jobs.submit import submit as run

    parsed = command(job)
    found, more, _ = parsed.make_parser(click.Context(parsed, info_name=job)).parse_args([config, *arguments])
    if more:
        raise click.UsageError(f"{job} takes no such argument: {' '.join(more)}")
    for parameter in parsed.params:
        path = found.get(parameter.name) if isinstance(parameter.type, click.Path) else None
        if isinstance(path, str) and ":/" not in path and not Path(path).is_absolute():
            raise click.UsageError(f"{path}: expected an absolute path, on a disk that the nodes share")
    sys.exit(guarded(lambda: run(job, config, overrides, arguments=arguments, address=address, follow=follow)))


@_command("promote")
@click.argument("model", metavar="MODEL@ALIAS")
@click.argument("config", default="demo", shell_complete=complete_config)
@_SET
@click.option(
    "--benchmark",
    nargs=2,
    type=click.Path(exists=True, dir_okay=False),
    metavar="CANDIDATE CHAMPION",
    help="Injection benchmark results (results.parquet) of both models.",
)
@click.option("--force", is_flag=True, help="Promote even a model that is worse or of another kind.")
def _promote(
    model: str, config: str, overrides: tuple[str, ...], benchmark: tuple[str, str] | None, force: bool
) -> None:
    from jobs.promote import promote as run

    sys.exit(guarded(lambda: run(load_project(config, overrides), model, benchmark=benchmark, force=force)))


@_command("reproduce")
@click.argument("catalog", type=click.Path(exists=True, dir_okay=False))
@click.argument("plateifu")
@click.option(
    "--store", type=PathOrUrl(exists=True), help="Path or URL of the window store; default: the recorded one."
)
@click.option("--tracking-uri", help="URI of MLflow's backend; default: mlflow.db beside the catalog.")
@click.option("--tolerance", type=float, default=1e-5, show_default=True, help="Largest relative difference accepted.")
def _reproduce(catalog: str, plateifu: str, **options: Any) -> None:
    from jobs.reproduce import reproduce as run

    sys.exit(guarded(lambda: run(catalog, plateifu, **options)))


@click.command("config", help=TOOLS["config"], epilog=KEY_EPILOG)
@click.argument("key", required=False, shell_complete=complete_key)
def _config(key: str | None) -> None:
    sys.exit(guarded(lambda: _say(describe(key))))


def _say(text: str) -> int:
    click.echo(text)
    return EXIT_OK


def _complete_column(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from jobs.tables.column_texts import known_columns

    return [name for name in known_columns() if name.startswith(incomplete)]


@click.command("columns", help=TOOLS["columns"], epilog=COLUMN_EPILOG)
@click.argument("name", required=False, shell_complete=_complete_column)
def _columns(name: str | None) -> None:
    from jobs.tables.column_texts import describe as describe_column

    sys.exit(guarded(lambda: _say(describe_column(name))))


_TOOLS = {tool.name: tool for tool in (_submit, _promote, _reproduce, _config, _columns)}


class _Jobs(click.Group):
    """Commands, built when they are requested."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*JOBS, *TOOLS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in JOBS:
            return command(cmd_name)
        return _TOOLS.get(cmd_name) or super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = suggestion(closest(args[0], self.list_commands(ctx)))
            raise click.UsageError(
                f"{error.message} {hint.removeprefix('; ').capitalize()}".rstrip(), error.ctx
            ) from None


@click.group(cls=_Jobs, epilog=EPILOG)
@click.version_option(package_name="cubescout")
def main() -> None:
    """Find unusual galaxies in integral-field surveys, without labels.

    The pipeline: simulate (or your own cubes), prepare, train or tune, score, explore.
    On the catalog: search, assess, label and rerank, classify, crossmatch, export, figures, maps,
    samp, reproduce.
    On a cluster: submit JOB. On models: promote. This machine: doctor.
    On the configuration: config KEY. On the catalog's columns: columns NAME.
    """


if __name__ == "__main__":
    main()
