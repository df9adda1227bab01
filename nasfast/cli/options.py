"""The options of ``nasfast search`` and ``nasfast compare``, made from the fields of their settings."""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import copy
from dataclasses import Field, fields
from typing import Any, Literal, get_args, get_origin

import click

from nasfast.cli.help import Option
from nasfast.config.base import option_name
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.gradient import CPU, DIGITS, PCDARTS, SearchConfig
from nasfast.config.oneshot import DIGITS as ONE_SHOT_DIGITS
from nasfast.config.oneshot import OneShotConfig
from nasfast.config.settings import Settings
from nasfast.strategies.registry import DIFFERENTIABLE, ONE_SHOT, STRATEGIES
from nasfast.utils.suggest import must_be_one_of

COMMON = (
    *("data", "space", "strategy", "estimator", "table"),
    *("budget", "evaluations", "epochs", "batch_size", "seed", "device"),
)
"""Settings that ``search --help`` shows; :data:`KINDS` have the others."""

KINDS: dict[str, type[Any]] = {"gradient": SearchConfig, "blackbox": BlackBoxConfig, "oneshot": OneShotConfig}
"""Kinds of search by the name that ``--help-for`` takes, with their settings."""

Decorator = Callable[[Any], Any]

_OF_EVERY_RUN = ("out", "resume", "config", "quiet", "plugin", "help_for")
_OTHER_DEFAULTS: dict[type[Settings], tuple[tuple[str, dict[str, Any]], ...]] = {
    SearchConfig: (("pcdarts", PCDARTS), ("digits", DIGITS), ("a folder on a CPU", CPU)),
    OneShotConfig: (("digits", ONE_SHOT_DIGITS),),
}


def settings_options(*kinds: type[Settings], shown: Collection[str] | None = None) -> Decorator:
    """One option per field of the kinds, None or () where it was not given; the first kind describes it.

    Where ``shown`` is given, the help leaves out the others.
    """
    options: dict[str, Decorator] = {}
    for kind in kinds:
        for f in fields(kind):
            if f.name not in options:
                options[f.name] = _option(f, kind, hidden=shown is not None and f.name not in shown)

    def decorate(command: Any) -> Any:
        for option in reversed(options.values()):
            command = option(command)
        return command

    return decorate


def _option(f: Field[Any], config: type[Settings], hidden: bool) -> Decorator:
    hint, name = config.types()[f.name], option_name(f.name)
    parts = get_args(hint) or (hint,)
    choices = "|".join(parts) if get_origin(hint) is Literal else None
    many = isinstance(f.default, tuple)
    kind = str if many or choices else next(k for k in (bool, int, float, str) if k in parts)
    return click.option(
        f"{name}/--no-{name[2:]}" if kind is bool else name,
        cls=Option,
        type=kind,
        default=None,
        multiple=many,
        metavar="NAME" if f.name == "strategy" else choices,
        panel=config.panels.get(f.metadata["panel"], f.metadata["panel"]),
        hidden=hidden,
        help=_help(f, config),
    )


def _help(f: Field[Any], config: type[Settings]) -> str:
    return str(f.metadata["help"]) + _default(f, config)


def _default(f: Field[Any], config: type[Settings]) -> str:
    """The default of a field and where it differs by data set or strategy, as text for the help."""
    gradient = config is SearchConfig
    if gradient and f.name == "strategy":
        return (
            f" By gradients: {', '.join(DIFFERENTIABLE)}; with a shared network: {', '.join(ONE_SHOT)}; by "
            f"evaluations: {', '.join(STRATEGIES)}. Default: darts; of a space as the estimator."
        )
    if f.default in (None, "", ()) or f.name == "space" or (isinstance(f.default, bool) and not gradient):
        return ""
    parts = [str(f.default).lower() if isinstance(f.default, bool) else str(f.default)]
    parts += [f"{who} {values[f.name]}" for who, values in _OTHER_DEFAULTS.get(config, ()) if f.name in values]
    if f.name == "warmup_epochs":
        parts.append("pcdarts 3 of 10")
    return f" Default: {'; '.join(parts)}."


def _show_help(context: click.Context, _: click.Parameter, kind: str | None) -> None:
    """Show the help with every option of one kind of search, and no other."""
    if kind is None:
        return
    if kind not in KINDS:
        raise click.BadParameter(must_be_one_of(kind, KINDS))
    # What several kinds have was described by the first of them, whose defaults and ranges are its own.
    own = {f.name: _help(f, KINDS[kind]) for f in fields(KINDS[kind])}
    shown = {*own, *_OF_EVERY_RUN, *(("measure_speed",) if kind == "gradient" else ())}
    options = [copy(option) for option in context.command.params if isinstance(option, click.Option)]
    for option in options:
        option.hidden = option.name not in shown
        option.help = own.get(option.name or "", option.help)
    command = copy(context.command)
    command.params = list(options)
    click.echo(command.get_help(context))
    context.exit()


help_for_option = click.option(
    "--help-for",
    metavar="KIND",
    is_eager=True,
    expose_value=False,
    callback=_show_help,
    help="Show every option of one kind of search and exit: "
    f"{', '.join(f'{name} ({len(fields(config))})' for name, config in KINDS.items())}.",
)
