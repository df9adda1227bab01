"""``nasfast search``."""

from __future__ import annotations

import inspect
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nasfast.cli.arguments import PATH, quiet_option
from nasfast.cli.errors import INTERRUPTED, fail, one_line_errors
from nasfast.cli.help import Command
from nasfast.cli.options import COMMON, KINDS, help_for_option, settings_options
from nasfast.errors import ConfigError


@click.command(cls=Command)
@click.option("--out", type=PATH, help="Run folder to make. Default: runs/DATA-STRATEGY.")
@click.option(
    "--resume", type=PATH, metavar="RUN", help="Go on with a run that was stopped. Takes its settings from there."
)
@click.option(
    "--config",
    type=PATH,
    help="JSON or TOML file of these settings, or the config.json of a run. Options win over it.",
)
@click.option(
    "--plugin",
    type=PATH,
    multiple=True,
    metavar="FILE",
    hidden=True,
    help="Python file with spaces or strategies of your own (register_space, register_strategy); it is run. May be "
    "repeated.",
)
@click.option(
    "--measure-speed",
    is_flag=True,
    hidden=True,
    help="Of a search by gradients: say at its end how long a step takes, and how long in plain PyTorch.",
)
@quiet_option
@settings_options(*KINDS.values(), shown=COMMON)
@help_for_option
@one_line_errors
def search(
    out: Path | None,
    resume: Path | None,
    config: Path | None,
    plugin: tuple[Path, ...],
    measure_speed: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Search cells on images, or with --space an architecture of that space; write the report.

    By gradients (darts, pcdarts, gdas, snas, drnas): cells without --space, or an architecture of one whose operations
    are where they are; the derived network is trained beside a random one, or both are looked up with --table.

    With --space and spos, fairnas or enas, or with --estimator oneshot: one network that all architectures share is
    trained on the images, and the architectures are compared with its weights.

    With --space and another strategy: architectures are evaluated one by one, by --estimator.
    """
    from nasfast import api
    from nasfast.cli.plugin import load_plugins
    from nasfast.config.base import option_name
    from nasfast.utils.progress import Progress

    # A polite kill (a batch system's, say) saves the state as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load_plugins(plugin)
    settings = {name: value for name, value in given.items() if value not in (None, ())}
    progress = Progress(quiet=quiet)
    if resume is not None:
        later = {name for kind in api.KINDS for name in kind.later}
        extra = [option_name(name) for name in settings if name not in later]
        extra += [name for name, value in (("--out", out), ("--config", config)) if value is not None]
        if extra:
            raise click.BadParameter(f"--resume takes its settings from {resume}; leave out {', '.join(extra)}")
        go_on = inspect.unwrap(api.resume_run)
        _run(resume, lambda: go_on(resume, progress=progress, **settings))
        return
    kind, chosen, own = api.plan_run(settings, config, {}, progress)
    if measure_speed and kind.name != "gradient":
        raise ConfigError("--measure-speed goes with a search by gradients, whose steps the fused kernels take")
    target = out or api.free_folder(chosen.run_name())
    _run(target, lambda: api.start_run(kind, chosen, own, target, progress))
    if measure_speed:
        from nasfast.search.gradient.speed import measure_steps

        print(f"speed      {measure_steps(chosen, progress)}")


def _run(target: Path, start: Callable[[], Any]) -> None:
    try:
        result = start()
    except KeyboardInterrupt as error:
        if not (target / "config.json").is_file():
            raise fail("interrupted before the run began; nothing was written", INTERRUPTED) from error
        again = shlex.join(["nasfast", "search", "--resume", str(target)])
        raise fail(f"interrupted; the state was saved, go on with: {again}", INTERRUPTED) from error
    if result is None:  # another rank has it
        return
    if result.was_finished:
        print(f"run {result.path} is finished, there is nothing to resume")
    print(result)
    print(f"report     {result.report}")
