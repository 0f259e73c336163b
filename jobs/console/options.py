"""Options of the commands beside CONFIG and --set; kept apart from the jobs, which are slow to import."""

from collections.abc import Mapping
from typing import Any

import click


class PathOrUrl(click.Path):
    """A path that exists, or a URL (also `models:/NAME@ALIAS`), which is checked only when it is read."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value unchanged, or a usage error that names the path."""
        return value if ":/" in value else super().convert(value, param, ctx)


def _label_table(*, required: bool) -> tuple[click.Parameter, ...]:
    """Options that name a table of labels and the labels to take from it."""
    return (
        click.Option(
            ["--labels"],
            required=required,
            type=click.Path(exists=True, dir_okay=False),
            help="Table of labels: CSV, ECSV, FITS, Parquet, VOTable or text.",
        ),
        click.Option(["--label"], metavar="COLUMN", help="Column of labels, or a threshold such as 'P_MERGE>0.5'."),
        click.Option(
            ["--bpt"], nargs=2, metavar="NII OIII", help="Columns of log NII/Ha and log OIII/Hb, for BPT classes."
        ),
        click.Option(["--key"], default="plateifu", show_default=True, help="Column with the galaxies' plateifu."),
    )


OPTIONS: Mapping[str, tuple[click.Parameter, ...]] = {
    "label": (
        click.Argument(["labels"], nargs=-1, metavar="[PLATEIFU=LABEL]..."),
        click.Option(
            ["--table"],
            type=click.Path(exists=True, dir_okay=False),
            help="Also read labels from a table with columns plateifu and label (CSV, ECSV, FITS, Parquet, VOTable).",
        ),
        click.Option(["--author"], help="Author of the labels; defaults to your login name."),
        click.Option(["--note"], default="", help="Note kept with each label."),
    ),
    "export": (
        click.Option(
            ["--format", "formats"],
            type=click.Choice(["fits", "votable", "moc", "hats"]),
            multiple=True,
            help="Format to write; may be repeated. Default: all but hats.",
        ),
        click.Option(
            ["--radius"],
            metavar="ANGLE",
            help="moc: radius of the circle around each galaxy, such as 16arcsec. Default: half the windows' diagonal.",
        ),
    ),
    "search": (
        click.Argument(["plateifu"]),
        click.Option(
            ["--region"], metavar="x0:x1,y0:y1", help="Search for regions similar to these spaxels of the galaxy."
        ),
        click.Option(
            ["--num"], type=click.IntRange(min=1), default=10, show_default=True, help="Number of neighbours."
        ),
        click.Option(
            ["--output"], type=click.Path(dir_okay=False), help="Also write the table to this file, .csv or .parquet."
        ),
    ),
    "crossmatch": (
        click.Argument(["table"], type=PathOrUrl(exists=True, dir_okay=False)),
        click.Option(
            ["--radius"], metavar="ANGLE", default="2arcsec", show_default=True, help="Largest distance of a match."
        ),
        click.Option(["--prefix"], help="Prefix of the new columns; default: the name of the file."),
        click.Option(["--ra"], metavar="COLUMN", help="Column of right ascension in TABLE, if its name is unusual."),
        click.Option(["--dec"], metavar="COLUMN", help="Column of declination in TABLE."),
        click.Option(
            ["--column", "columns"], multiple=True, help="Take this column of TABLE; may be repeated. Default: all."
        ),
    ),
    "samp": (
        click.Argument(["plateifu"], nargs=-1, metavar="[PLATEIFU]..."),
        click.Option(["--top"], type=click.IntRange(min=1), help="Send only so many of the most unusual galaxies."),
        click.Option(["--match"], metavar="PREFIX", help="Send the table that `crossmatch` made with this prefix."),
        click.Option(["--to"], metavar="NAME", default="", help="Send to this program alone, such as topcat."),
        click.Option(["--listen"], is_flag=True, help="Then print each galaxy whose row is highlighted."),
    ),
    "maps": (click.Argument(["plateifu"], nargs=-1, required=True, metavar="PLATEIFU..."),),
    "explore": (
        click.Option(["--serve"], is_flag=True, help="Serve a page of all galaxies on this machine instead."),
        click.Option(
            ["--port"],
            type=click.IntRange(0, 65535),
            default=8900,
            show_default=True,
            help="Port of --serve; 0 takes any free port.",
        ),
    ),
    "score": (
        click.Option(["--force"], is_flag=True, help="Use the model even if it was trained on windows made otherwise."),
    ),
    "train": (
        click.Option(["--resume"], metavar="RUN", help="Resume this training: its name, or the id of its MLflow run."),
        click.Option(
            ["--force"],
            is_flag=True,
            help="Start from train.start_from even if its windows were made otherwise, or it has seen these galaxies.",
        ),
    ),
    "tune": (click.Option(["--retrain"], is_flag=True, help="Then train with the best values, like tune.retrain."),),
    "assess": _label_table(required=True),
    "classify": (
        *_label_table(required=False),
        click.Option(
            ["--heads"],
            type=PathOrUrl(exists=True, dir_okay=False),
            metavar="FILE|MODEL",
            help="Apply classifiers learned before, such as models:/cubescout-classes@current, and learn none.",
        ),
    ),
    "figures": _label_table(required=False),
}
