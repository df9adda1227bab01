"""``nasfast predict``."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from nasfast.cli.arguments import PATH, device_option, label_option, quiet_option, run_argument
from nasfast.cli.errors import one_line_errors
from nasfast.cli.help import Argument, Command


@click.command(cls=Command)
@run_argument
@click.argument(
    "images",
    cls=Argument,
    type=PATH,
    nargs=-1,
    required=True,
    metavar="IMAGES...",
    help="Image files, folders or archives, or tables of them.",
)
@click.option("--out", "-o", type=PATH, help="CSV file to write: file, prediction, and a column per class.")
@label_option
@device_option
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read.")
@quiet_option
@one_line_errors
def predict(
    run: Path,
    images: tuple[Path, ...],
    out: Path | None,
    label: str | None,
    device: str,
    skip_bad: bool,
    quiet: bool,
) -> None:
    """Say what a retrained network sees in images."""
    from nasfast import api
    from nasfast.utils.progress import Progress

    call = inspect.unwrap(api.predict_images)
    found = call(run, images, label=label, device=device, skip_bad=skip_bad, progress=Progress(quiet=quiet))
    if out is not None:
        found.to_csv(out)
        print(f"wrote {out}: {len(found.files)} image{'s' * (len(found.files) != 1)}")
    elif found.files:
        print(found)
