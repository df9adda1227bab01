"""``nasfast predict``."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from nasfast.cli.arguments import PATH, device_option, label_option, quiet_option
from nasfast.cli.errors import one_line_errors
from nasfast.cli.help import Argument, Command


@click.command(cls=Command)
@click.argument(
    "model", cls=Argument, type=PATH, metavar="MODEL", help="Model of `nasfast fit`, or run folder of a search."
)
@click.argument(
    "inputs",
    cls=Argument,
    type=PATH,
    nargs=-1,
    required=True,
    metavar="INPUT...",
    help="Tables, for a model that was fitted to one; else image files, folders or archives, or tables of them.",
)
@click.option("--out", "-o", type=PATH, help="CSV file to write: prediction, and a column p_CLASS per class.")
@click.option("--explain", is_flag=True, help="Add a column: why, the three columns that mattered most in each row.")
@label_option
@device_option
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read.")
@quiet_option
@one_line_errors
def predict(
    model: Path,
    inputs: tuple[Path, ...],
    out: Path | None,
    explain: bool,
    label: str | None,
    device: str,
    skip_bad: bool,
    quiet: bool,
) -> None:
    """Predict each row of a table, or say what a retrained network sees in images."""
    from nasfast import api
    from nasfast.utils.progress import Progress

    progress = Progress(quiet=quiet)
    if api.is_model(model):
        given = [name for name, value in (("--label", label), ("--skip-bad", skip_bad)) if value]
        if given:
            raise click.BadParameter(f"{given[0]} is for images; {model} was fitted to a table")
        rows = inspect.unwrap(api.predict_table)(model, inputs, out=out, explain=explain, progress=progress)
        if out is not None:
            print(f"wrote {out}: {rows} row{'s' * (rows != 1)}")
        return
    if explain:
        raise click.BadParameter(f"--explain is for models of tables; {model} is a run of a search")
    call = inspect.unwrap(api.predict_images)
    found = call(model, inputs, label=label, device=device, skip_bad=skip_bad, progress=progress)
    if out is not None:
        found.to_csv(out)
        print(f"wrote {out}: {len(found.files)} image{'s' * (len(found.files) != 1)}")
    elif found.files:
        print(found)
