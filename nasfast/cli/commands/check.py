"""``nasfast check``."""

from __future__ import annotations

from pathlib import Path

import click

from nasfast.cli.arguments import PATH
from nasfast.cli.errors import one_line_errors
from nasfast.cli.help import Argument, Command


@click.command(cls=Command)
@click.argument(
    "data",
    cls=Argument,
    type=PATH,
    nargs=-1,
    required=True,
    metavar="DATA...",
    help="Tables of the same columns: CSV, TSV, JSON lines or ARFF, packed by gzip or not, Parquet, Feather.",
)
@click.option("--target", required=True, metavar="COLUMN", help="Column to predict.")
@click.option(
    "--task",
    default="auto",
    help="What to predict: auto, binary, multiclass, regression or multilabel. Default: told from the values.",
)
@click.option(
    "--types",
    multiple=True,
    metavar="COLUMN=KIND,...",
    help="Kinds of columns: number, category, date, date:dmy (or mdy, ymd), number:comma, text, ignored. May be "
    "repeated.",
)
@click.option("--group", metavar="COLUMN", help="Column whose rows of one value stay together in splits.")
@click.option("--time", metavar="COLUMN", help="Column by which the latest rows are tested on.")
@click.option("--split", metavar="COLUMN", help="Column that says which rows to train on and which to test on.")
@click.option("--weight", metavar="COLUMN", help="Column with the weight of each row.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def check(
    data: tuple[Path, ...],
    target: str,
    task: str,
    types: tuple[str, ...],
    group: str | None,
    time: str | None,
    split: str | None,
    weight: str | None,
    as_json: bool,
) -> None:
    """Look at a table before anything is trained on it: kinds of columns, leaks, duplicates, drift, guesses."""
    from nasfast.cli.check_page import as_content, print_check
    from nasfast.tables import parse_types, read_table
    from nasfast.tables.checks import check_table

    kinds = parse_types(types)
    roles = {"group": group, "time": time, "split": split, "weight": weight}
    result = check_table(read_table(list(data)), target, task, roles, kinds)
    if as_json:
        print(as_content(result))
    else:
        print_check(result)
