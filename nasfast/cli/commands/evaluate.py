"""``nasfast evaluate``."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from nasfast.cli.arguments import DeviceOption, LabelOption, QuietOption, RunArgument
from nasfast.cli.errors import one_line_errors


@one_line_errors
def evaluate(
    run: RunArgument,
    label: LabelOption = None,
    data: Annotated[
        str, typer.Option(help="Test on the test images of these data instead: a folder, digits or cifar10.")
    ] = "",
    device: DeviceOption = "cpu",
    quiet: QuietOption = False,
) -> None:
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
