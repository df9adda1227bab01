"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from nasfast.cli.help import Argument

PATH = click.Path(path_type=Path)

run_argument = click.argument("run", cls=Argument, type=PATH, metavar="RUN", help="Run folder of a search.")
label_option = click.option(
    "--label", help="Which retrained network of the run: derived, best, random ... Default: what it found."
)
device_option = click.option("--device", default="cpu", help="Where to compute: cpu, cuda, cuda:1 ... Default: cpu.")
quiet_option = click.option("--quiet", is_flag=True, help="Show no progress.")
