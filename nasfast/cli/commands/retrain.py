"""``nasfast retrain``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import click

from nasfast.cli.arguments import PATH, quiet_option, run_argument
from nasfast.cli.errors import INTERRUPTED, fail, one_line_errors
from nasfast.cli.help import Command


@click.command(cls=Command)
@run_argument
@click.option("--label", help="Name of this training within the run. Default: derived, or best.")
@click.option(
    "--genotype", type=PATH, help="Of cells: a genotype's file, JSON or as published. Default: RUN/genotype.json."
)
@click.option(
    "--arch", help="Of a space: its text, with training settings or without. Default: what the run has found."
)
@click.option(
    "--space-set",
    multiple=True,
    help="Of a space: its setting, like channels=16. Default: as the run. May be repeated.",
)
@click.option("--epochs", type=int, help="Epochs. Default: as the run.")
@click.option("--channels", type=int, help="Of cells: channels of the first cell. Default: as the run.")
@click.option("--layers", type=int, help="Of cells: how many. Default: as the run.")
@click.option("--batch-size", type=int, help="Images per step. Default: as the run.")
@click.option("--lr", type=float, help="First epoch's learning rate. Default: as the run.")
@click.option(
    "--drop-path", type=float, help="Of cells: probability that a path is dropped, at the end. Default: as the run."
)
@click.option("--cutout", type=int, help="Side of the blanked square in pixels, 0: none. Default: by the image's size.")
@click.option(
    "--auxiliary/--no-auxiliary", default=None, help="Of cells: train with the auxiliary head. Default: with it."
)
@click.option(
    "--inherit",
    is_flag=True,
    help="Start from what the search has trained: of cells its network, with its channels and layers; of a space the "
    "architecture's own weights, or those in the shared network.",
)
@click.option("--seed", type=int, help="Seed. Default: as the run.")
@click.option("--device", help="Where to compute. Default: as the run.")
@click.option("--force", is_flag=True, help="Start again where this label was trained already.")
@quiet_option
@one_line_errors
def retrain(run: Path, label: str | None, force: bool, quiet: bool, space_set: tuple[str, ...], **given: Any) -> None:
    """Train the network that a search has found; goes on where an earlier training of this label was stopped."""
    from nasfast import api
    from nasfast.search.result import retraining_table
    from nasfast.utils.progress import Progress

    train = inspect.unwrap(api.retrain_run)
    try:
        result = train(
            run, label=label, overwrite=force, progress=Progress(quiet=quiet), space_set=space_set or None, **given
        )
    except KeyboardInterrupt as error:
        raise fail("interrupted; the state was saved, the same command goes on", INTERRUPTED) from error
    print("\n".join(retraining_table([result])))
    print(f"report     {run / 'report.html'}")
