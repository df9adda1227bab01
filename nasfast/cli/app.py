"""The ``nasfast`` command. Every error is one line on stderr and exit code 1 (2 for wrong usage); Ctrl-C is 130."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from nasfast.cli.commands.compare import compare
from nasfast.cli.commands.evaluate import evaluate
from nasfast.cli.commands.export import export
from nasfast.cli.commands.info import info
from nasfast.cli.commands.predict import predict
from nasfast.cli.commands.report import report
from nasfast.cli.commands.retrain import retrain
from nasfast.cli.commands.search import search
from nasfast.cli.errors import Commands, show_tracebacks
from nasfast.utils.version import nasfast_version

app = typer.Typer(
    name="nasfast",
    cls=Commands,
    help="Search network architectures: by gradients on fused kernels, with a shared network, or by evaluations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (search, compare, retrain, evaluate, predict, export, report, info):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"nasfast {nasfast_version()}")
        raise typer.Exit


@app.callback()
def global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    show_tracebacks(debug)


def main() -> None:
    """Entry point of the ``nasfast`` command."""
    # OpenMP threads that spin at every barrier keep each other from running where cores are shared. It is read once,
    # when torch loads, which no command has done yet.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    app(prog_name="nasfast")


if __name__ == "__main__":
    main()
