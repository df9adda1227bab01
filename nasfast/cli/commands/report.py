"""``nasfast report``."""

from __future__ import annotations

from pathlib import Path

import click

from nasfast.cli.arguments import run_argument
from nasfast.cli.errors import one_line_errors
from nasfast.cli.help import Command


@click.command(cls=Command)
@run_argument
@one_line_errors
def report(run: Path) -> None:
    """Write the report of a run, as far as it has come."""
    from nasfast import api

    print(api.build_report(run))
