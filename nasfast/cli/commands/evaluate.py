"""``nasfast evaluate``."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from nasfast.cli.arguments import device_option, label_option, quiet_option, run_argument
from nasfast.cli.errors import one_line_errors
from nasfast.cli.help import Command


@click.command(cls=Command)
@run_argument
@label_option
@click.option("--data", default="", help="Test on the test images of these data instead: as of a search.")
@device_option
@quiet_option
@one_line_errors
def evaluate(run: Path, label: str | None, data: str, device: str, quiet: bool) -> None:
    """Test a retrained network on the test images of its run."""
    from nasfast import api
    from nasfast.retrain.from_run import read_stored_search
    from nasfast.utils.numbers import percent_text
    from nasfast.utils.progress import Progress

    name = read_stored_search(run).label if label is None else label
    test = inspect.unwrap(api.evaluate_model)
    accuracy, loss = test(run, label=label, data=data, device=device, progress=Progress(quiet=quiet))
    name = f"{name} on {data}" if data else name
    print(f"{name}: test accuracy {percent_text(accuracy)}, test loss {loss:.4f}")
