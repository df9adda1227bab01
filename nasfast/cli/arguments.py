"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a search.")]
LabelOption = Annotated[
    str | None,
    typer.Option(help="Which retrained network of the run: derived, best, random ... Default: what it found."),
]
DeviceOption = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1 ...")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
