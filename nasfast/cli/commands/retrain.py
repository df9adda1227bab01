"""``nasfast retrain``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from nasfast.cli.arguments import QuietOption, RunArgument
from nasfast.cli.errors import INTERRUPTED, fail, one_line_errors


@one_line_errors
def retrain(
    run: RunArgument,
    label: Annotated[
        str | None, typer.Option(help="Name of this training within the run. Default: derived, or best.")
    ] = None,
    genotype: Annotated[
        Path | None,
        typer.Option(help="Of cells: a genotype's file, JSON or as published. Default: RUN/genotype.json."),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="Of a space: its text, with training settings or without. Default: what the run has found."),
    ] = None,
    space_set: Annotated[
        list[str] | None,
        typer.Option(help="Of a space: its setting, like channels=16. Default: as the run. May be repeated."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs. Default: as the run.")] = None,
    channels: Annotated[
        int | None, typer.Option(help="Of cells: channels of the first cell. Default: as the run.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Of cells: how many. Default: as the run.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step. Default: as the run.")] = None,
    lr: Annotated[float | None, typer.Option(help="First epoch's learning rate. Default: as the run.")] = None,
    drop_path: Annotated[
        float | None,
        typer.Option(help="Of cells: probability that a path is dropped, at the end. Default: as the run."),
    ] = None,
    cutout: Annotated[
        int | None,
        typer.Option(help="Side of the blanked square in pixels, 0: none. Default: by the image's size."),
    ] = None,
    auxiliary: Annotated[
        bool | None, typer.Option(help="Of cells: train with the auxiliary head. Default: with it.")
    ] = None,
    inherit: Annotated[
        bool,
        typer.Option(
            "--inherit",
            help="Start from what the search has trained: of cells its network, with its channels and layers; of "
            "a space the architecture's own weights, or those in the shared network.",
        ),
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed. Default: as the run.")] = None,
    device: Annotated[str | None, typer.Option(help="Where to compute. Default: as the run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Start again where this label was trained already.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Train the network that a search has found; goes on where an earlier training of this label was stopped."""
    from nasfast import api
    from nasfast.search.result import retraining_table
    from nasfast.utils.progress import Progress

    train = inspect.unwrap(api.retrain_run)
    try:
        result = train(
            run, label=label, overwrite=force, inherit=inherit, progress=Progress(quiet=quiet), genotype=genotype,
            arch=arch, space_set=space_set or None, epochs=epochs, channels=channels, layers=layers,
            batch_size=batch_size, lr=lr, drop_path=drop_path, cutout=cutout, auxiliary=auxiliary, seed=seed,
            device=device,
        )  # fmt: skip
    except KeyboardInterrupt as error:
        raise fail("interrupted; the state was saved, the same command goes on", INTERRUPTED) from error
    print("\n".join(retraining_table([result])))
    print(f"report     {run / 'report.html'}")
