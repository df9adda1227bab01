"""The ``nasfast`` command. Every error is one line on stderr and exit code 1 (2 for wrong usage); Ctrl-C is 130."""

from __future__ import annotations

import io
import os
import sys

import click

from nasfast.cli.errors import show_tracebacks
from nasfast.cli.group import Commands
from nasfast.utils.version import nasfast_version


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"nasfast {nasfast_version()}")
        context.exit()


@click.group(
    "nasfast",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def app(debug: bool) -> None:
    """Search network architectures: by gradients on fused kernels, with a shared network, or by evaluations."""
    show_tracebacks(debug)


def main() -> None:
    """Entry point of the ``nasfast`` command."""
    # OpenMP threads that spin at every barrier keep each other from running where cores are shared. It is read once,
    # when torch loads, which no command has done yet.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files are printed as they are, UTF-8 or not
    app(prog_name="nasfast")


if __name__ == "__main__":
    main()
