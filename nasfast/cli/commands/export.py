"""``nasfast export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasfast.cli.arguments import LabelOption, RunArgument
from nasfast.cli.errors import one_line_errors


@one_line_errors
def export(
    run: RunArgument,
    format: Annotated[str, typer.Option(metavar="onnx|pt2", help="ONNX, or torch.export's program.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="File to write. Default: RUN/model-LABEL.FORMAT.")] = None,
    label: LabelOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Export a retrained network, checked to give the same outputs before it is written."""
    from nasfast import api

    target, difference = api.export_checked(run, format=format, out=out, label=label, force=force)
    print(f"wrote {target}; its outputs differ from PyTorch's by at most {difference:.1e}")
