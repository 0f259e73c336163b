"""What a command takes beside CONFIG and --set; apart from the jobs, which are slow to import."""

from collections.abc import Mapping

import click


def _label_table(*, required: bool) -> tuple[click.Parameter, ...]:
    """A table of labels, and what to take from it."""
    return (
        click.Option(
            ["--labels"], required=required, type=click.Path(exists=True, dir_okay=False), help="Table of labels."
        ),
        click.Option(["--label"], metavar="COLUMN", help="Column of labels, or a threshold such as P_MERGE>0.5."),
        click.Option(
            ["--bpt"], nargs=2, metavar="NII OIII", help="Columns of log NII/Ha and log OIII/Hb, to be classed."
        ),
        click.Option(["--key"], default="plateifu", show_default=True, help="Column that names galaxies."),
    )


OPTIONS: Mapping[str, tuple[click.Parameter, ...]] = {
    "label": (
        click.Argument(["labels"], nargs=-1, metavar="[PLATEIFU=LABEL]..."),
        click.Option(
            ["--table"],
            type=click.Path(exists=True, dir_okay=False),
            help="Also those of a table with the columns plateifu and label: CSV, ECSV, FITS, Parquet, VOTable.",
        ),
        click.Option(["--author"], help="Who says so; by default the name that you are logged in with."),
        click.Option(["--note"], default="", help="Kept with each of the labels."),
    ),
    "export": (
        click.Option(
            ["--format", "formats"],
            type=click.Choice(["fits", "votable"]),
            multiple=True,
            help="One of the formats alone; may be repeated. By default both.",
        ),
    ),
    "search": (
        click.Argument(["plateifu"]),
        click.Option(["--region"], metavar="x0:x1,y0:y1", help="Search for regions like these spaxels of the galaxy."),
        click.Option(["--num"], type=click.IntRange(min=1), default=10, show_default=True, help="Neighbours wanted."),
        click.Option(["--output"], type=click.Path(dir_okay=False), help="Also write them, as .csv or .parquet."),
    ),
    "explore": (
        click.Option(["--serve"], is_flag=True, help="Serve the page of all galaxies on this machine instead."),
        click.Option(
            ["--port"],
            type=click.IntRange(0, 65535),
            default=8900,
            show_default=True,
            help="Of --serve; 0 takes a free one.",
        ),
    ),
    "train": (
        click.Option(["--resume"], metavar="RUN", help="Go on with this training: its name, or its MLflow run's id."),
    ),
    "tune": (click.Option(["--retrain"], is_flag=True, help="Then train with the best values, as tune.retrain does."),),
    "assess": _label_table(required=True),
    "figures": _label_table(required=False),
}
