"""``nasfast predict``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from nasfast.cli.arguments import DeviceOption, LabelOption, QuietOption, RunArgument
from nasfast.cli.errors import one_line_errors


@one_line_errors
def predict(
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Image files, or folders of them.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="CSV file to write: file, prediction, and a column per class.")
    ] = None,
    label: LabelOption = None,
    device: DeviceOption = "cpu",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    quiet: QuietOption = False,
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
