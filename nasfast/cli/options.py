"""The options of ``nasfast search`` and ``nasfast compare``, made from the fields of their settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from nasfast.config.base import option_name
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.compare import CompareConfig
from nasfast.config.gradient import CPU, DIGITS, PCDARTS, SearchConfig
from nasfast.config.oneshot import DIGITS as ONE_SHOT_DIGITS
from nasfast.config.oneshot import OneShotConfig
from nasfast.config.settings import Settings
from nasfast.strategies.registry import DIFFERENTIABLE, ONE_SHOT, STRATEGIES
from nasfast.utils.suggest import must_be_one_of

COMMON = (
    *("out", "resume", "config", "quiet", "data", "space", "strategy", "estimator", "table"),
    *("budget", "evaluations", "epochs", "batch_size", "seed", "device"),
)
"""What ``search --help`` shows; :data:`KINDS` have the others."""

KINDS: dict[str, type[Any]] = {"gradient": SearchConfig, "blackbox": BlackBoxConfig, "oneshot": OneShotConfig}
"""Kinds of search by the name that ``--help-for`` takes, with their settings."""

_OF_EVERY_RUN = ("out", "resume", "config", "quiet", "plugin", "help_for")
_OTHER_DEFAULTS: dict[type[Settings], tuple[tuple[str, dict[str, Any]], ...]] = {
    SearchConfig: (("pcdarts", PCDARTS), ("digits", DIGITS), ("a folder on a CPU", CPU)),
    OneShotConfig: (("digits", ONE_SHOT_DIGITS),),
}


def with_search_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace ``**given`` in a command's signature by the options of all kinds of search."""
    return _with_options(command, [*_search_parameters(), _help_for()], COMMON)


def with_compare_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace ``**given`` in a command's signature by the options of CompareConfig."""
    return _with_options(command, [_parameter(f, CompareConfig) for f in fields(CompareConfig)])


def _search_parameters() -> list[inspect.Parameter]:
    """One option per field of the kinds of search, None or [] where it was not given; the first kind describes it."""
    parameters: dict[str, inspect.Parameter] = {}
    for config in KINDS.values():
        parameters |= {f.name: _parameter(f, config) for f in fields(config) if f.name not in parameters}
    return list(parameters.values())


def _parameter(f: Field[Any], config: type[Settings]) -> inspect.Parameter:
    hint, name = config.types()[f.name], option_name(f.name)
    parts = get_args(hint) or (hint,)
    choices = "|".join(parts) if get_origin(hint) is Literal else None
    many = isinstance(f.default, tuple)
    kind: Any = list[str] if many else str if choices else next(k for k in (bool, int, float, str) if k in parts)
    names = [f"{name}/--no-{name[2:]}"] if kind is bool else [name]
    panel = config.panels.get(f.metadata["panel"], f.metadata["panel"])
    option = typer.Option(*names, help=_help(f, config), rich_help_panel=panel, show_default=False)
    option.metavar = "NAME" if f.name == "strategy" else choices
    return _keyword(f.name, kind, option)


def _keyword(name: str, kind: Any, option: Any) -> inspect.Parameter:
    annotation: Any = Annotated.__class_getitem__((kind | None, option))  # type: ignore[attr-defined]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


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


def _help_for() -> inspect.Parameter:
    """The option that lists every option of one kind of search, and no other."""
    counts = ", ".join(f"{name} ({len(fields(config))})" for name, config in KINDS.items())
    option = typer.Option(
        "--help-for",
        metavar="KIND",
        help=f"Show every option of one kind of search and exit: {counts}.",
        callback=_show_help,
        is_eager=True,
        show_default=False,
    )
    return _keyword("help_for", str, option)


def _show_help(context: typer.Context, kind: str | None) -> None:
    if kind is None:
        return
    if kind not in KINDS:
        raise typer.BadParameter(must_be_one_of(kind, KINDS))
    shown = {f.name for f in fields(KINDS[kind])} | set(_OF_EVERY_RUN)
    shown |= {"measure_speed"} if kind == "gradient" else set()
    own = {f.name: _help(f, KINDS[kind]) for f in fields(KINDS[kind])}
    for parameter in context.command.params:
        parameter.hidden = parameter.name not in shown  # type: ignore[attr-defined]
        # What several kinds have was described by the first of them, whose defaults and ranges are its own.
        parameter.help = own.get(parameter.name or "", parameter.help)  # type: ignore[attr-defined]
    context.command.get_help(context)
    raise typer.Exit


def _with_options(
    command: Callable[..., None], options: list[inspect.Parameter], shown: tuple[str, ...] = ()
) -> Callable[..., None]:
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        kwargs.pop("help_for", None)
        command(*args, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = own + options
    if shown:
        for parameter in parameters:
            get_args(parameter.annotation)[1].hidden = parameter.name not in (*shown, "help_for")
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
