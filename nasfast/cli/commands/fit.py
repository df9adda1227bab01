"""``nasfast fit``."""

from __future__ import annotations

import atexit
import gc
import inspect
import shlex
import signal
from pathlib import Path

import click
from click.core import ParameterSource

from nasfast.cli.arguments import PATH, quiet_option
from nasfast.cli.errors import INTERRUPTED, fail, one_line_errors
from nasfast.cli.help import Argument, Command


@click.command(cls=Command)
@click.argument(
    "data",
    cls=Argument,
    type=PATH,
    nargs=-1,
    metavar="DATA...",
    help="A table: CSV, TSV, Parquet, Feather, JSON lines or ARFF, or several files of one.",
)
@click.option("--target", metavar="COLUMN", help="The column to predict.")
@click.option(
    "--budget",
    default="5m",
    metavar="TEXT",
    help="What it may cost, from the start to the written model: '30s', '10m', '1h 30m', or '20 trials'. Default: 5m.",
)
@click.option("--out", type=PATH, metavar="MODEL", help="Folder for the model. Default: models/DATA.")
@click.option(
    "--task",
    default="auto",
    type=click.Choice(["auto", "binary", "multiclass", "regression"]),
    help="What the target is. Default: as its values say.",
)
@click.option("--metric", help="What is to be good: roc_auc, log_loss, accuracy, f1_macro, rmse, mae ...")
@click.option(
    "--types",
    default="",
    metavar="COL=KIND,...",
    help="Kinds of columns, where the guess is wrong: number, category, date, text or ignored.",
)
@click.option("--group", metavar="COLUMN", help="Rows with one value of it are never on both sides of a split.")
@click.option("--time", metavar="COLUMN", help="Judge by rows that are later than those trained on.")
@click.option("--weight", metavar="COLUMN", help="How much each row counts.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Of everything random. Default: 0.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: as many as there are cores.")
@click.option(
    "--replay",
    type=PATH,
    metavar="MODEL",
    help="Try what the fit of this model tried, with its settings, and make the same model again.",
)
@click.option(
    "--resume", type=PATH, metavar="MODEL", help="Go on with a fit that was stopped. Takes everything from there."
)
@quiet_option
@one_line_errors
def fit(data: tuple[Path, ...], out: Path | None, resume: Path | None, quiet: bool, **given: object) -> None:
    """Fit a model to a table: networks are searched for it, and weighed with trees and a linear model."""
    from nasfast import api
    from nasfast.automl.clock import process_start
    from nasfast.utils.progress import Progress

    # Before it ends, the interpreter looks at every object once more: a second of the budget, for nothing, since every
    # file is closed when it has been written.
    atexit.register(gc.freeze)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    context = click.get_current_context()
    options = [o for o in context.command.params if isinstance(o, click.Option) and o.name not in ("resume", "quiet")]
    extra = [o.opts[0] for o in options if context.get_parameter_source(o.name or "") is ParameterSource.COMMANDLINE]
    if resume is not None and (data or extra):
        what = ", ".join(extra) or "DATA"
        raise click.BadParameter(f"--resume takes everything from {resume}; leave out {what}")
    if resume is None and not (data and given["target"]):
        raise click.UsageError(f"Missing {'option --target' if data else 'argument DATA...'}")
    folder = resume or out or api.free_model_folder(data[0])
    shared = {"start": process_start(), "progress": Progress(quiet=quiet)}
    try:
        if resume is not None:
            result = inspect.unwrap(api.resume_fit)(resume, **shared)
        else:
            result = inspect.unwrap(api.fit_model)(data, out=folder, **shared, **given)
    except KeyboardInterrupt as error:
        again = shlex.join(["nasfast", "fit", "--resume", str(folder)])
        model = "the best model so far is there" if api.is_model(folder) else "there is no model yet"
        raise fail(f"interrupted; {model}, go on with: {again}", INTERRUPTED) from error
    print(result)
    print(f"predict    {shlex.join(['nasfast', 'predict', str(folder), 'TABLE', '--out', 'predictions.csv'])}")
