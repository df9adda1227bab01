"""``nasfast export``."""

from __future__ import annotations

from pathlib import Path

import click

from nasfast.cli.arguments import PATH, label_option, run_argument
from nasfast.cli.errors import one_line_errors
from nasfast.cli.help import Command


@click.command(cls=Command)
@run_argument
@click.option("--format", default="onnx", metavar="onnx|pt2", help="ONNX, or torch.export's program. Default: onnx.")
@click.option("--out", type=PATH, help="File to write. Default: RUN/model-LABEL.FORMAT.")
@label_option
@click.option("--force", is_flag=True, help="Overwrite the file.")
@one_line_errors
def export(run: Path, format: str, out: Path | None, label: str | None, force: bool) -> None:
    """Export a retrained network, checked to give the same outputs before it is written."""
    from nasfast import api

    target, difference = api.export_checked(run, format=format, out=out, label=label, force=force)
    print(f"wrote {target}; its outputs differ from PyTorch's by at most {difference:.1e}")
