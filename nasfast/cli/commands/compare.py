"""``nasfast compare``."""

from __future__ import annotations

import inspect
import shlex
import signal
from pathlib import Path
from typing import Any

import click

from nasfast.cli.arguments import PATH, quiet_option
from nasfast.cli.errors import INTERRUPTED, fail, one_line_errors
from nasfast.cli.help import Command
from nasfast.cli.options import settings_options
from nasfast.config.compare import CompareConfig


@click.command(cls=Command)
@click.option("--out", type=PATH, help="Run folder to make. Default: runs/DATA-SPACE-compare.")
@click.option(
    "--resume",
    type=PATH,
    metavar="RUN",
    help="Go on with a comparison that was stopped. Takes its settings from there.",
)
@quiet_option
@settings_options(CompareConfig)
@one_line_errors
def compare(out: Path | None, resume: Path | None, quiet: bool, **given: Any) -> None:
    """Compare estimators: how well each ranks architectures as the full training does, and what that costs."""
    from nasfast import api
    from nasfast.compare.kind import COMPARISON
    from nasfast.config.base import option_name
    from nasfast.utils.progress import Progress

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = {name: value for name, value in given.items() if value not in (None, ())}
    progress = Progress(quiet=quiet)
    chosen = None
    if resume is not None:
        extra = [option_name(name) for name in settings] + (["--out"] if out is not None else [])
        if extra:
            raise click.BadParameter(f"--resume takes its settings from {resume}; leave out {', '.join(extra)}")
        target = resume
    else:
        chosen = COMPARISON.make_settings(settings)
        target = out or api.free_folder(chosen.run_name())
    try:
        if chosen is None:
            result = inspect.unwrap(api.resume_run)(target, progress=progress)
        else:
            result = api.start_run(COMPARISON, chosen, {}, target, progress)
    except KeyboardInterrupt as error:
        again = shlex.join(["nasfast", "compare", "--resume", str(target)])
        raise fail(f"interrupted; go on with: {again}", INTERRUPTED) from error
    print(result)
    print(f"report     {result.report}")
