"""The options of ``nasfast search`` and ``nasfast compare``, made from the fields of their settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from nasfast.config.base import option_name
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.compare import CompareConfig
from nasfast.config.gradient import DIGITS, PCDARTS, SearchConfig, default_of, field_type
from nasfast.config.oneshot import DIGITS as ONE_SHOT_DIGITS
from nasfast.config.oneshot import OneShotConfig
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
_TABLE_TOO = {f.name for f in fields(BlackBoxConfig)}


def with_search_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace ``**given`` in a command's signature by the options of SearchConfig, BlackBoxConfig and OneShotConfig."""
    return _with_options(command, [*_search_parameters(), *_space_parameters(), _help_for()], COMMON)


def with_compare_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace ``**given`` in a command's signature by the options of CompareConfig."""
    hints = get_type_hints(CompareConfig)
    return _with_options(command, [_space_parameter(f, hints[f.name]) for f in fields(CompareConfig)])


def _search_parameters() -> list[inspect.Parameter]:
    """One option per field of SearchConfig, None where it was not given."""
    parameters = []
    for f in fields(SearchConfig):
        kind: Any = field_type(f.name)
        metavar = None
        if get_origin(kind) is Literal:
            metavar, kind = "|".join(get_args(kind)), str
        if f.name == "strategy":
            metavar = "NAME"
        elif get_origin(kind) is tuple:
            kind = list[str]
        text = f.metadata["help"] + (_strategies() if f.name == "strategy" else _defaults(f.name))
        parameters.append(_parameter(f, kind, text, metavar))
    return parameters


def _space_parameters() -> list[inspect.Parameter]:
    """One option per field that a search of a space has and SearchConfig has not; None or [] where it was not given."""
    parameters: dict[str, inspect.Parameter] = {}
    shared = {f.name for f in fields(SearchConfig)}
    for config in (BlackBoxConfig, OneShotConfig):
        hints = get_type_hints(config)
        for f in fields(config):
            if f.name not in shared and f.name not in parameters:
                parameters[f.name] = _space_parameter(f, hints[f.name])
    return list(parameters.values())


def _space_parameter(f: Field[Any], hint: Any) -> inspect.Parameter:
    many = isinstance(f.default, tuple)
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    kind: Any = list[str] if many else str if choices else next(k for k in (bool, int, float, str) if k in _kinds(hint))
    return _parameter(f, kind, f.metadata["help"] + _space_default(f), "|".join(choices) or None)


def _parameter(f: Field[Any], kind: Any, text: str, metavar: str | None) -> inspect.Parameter:
    name = option_name(f.name)
    names = [f"{name}/--no-{name[2:]}"] if kind is bool else [name]
    option = typer.Option(*names, help=text, rich_help_panel=f.metadata["group"], show_default=False)
    option.metavar = metavar
    annotation: Any = Annotated.__class_getitem__((kind | None, option))  # type: ignore[attr-defined]
    return inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) or (hint,)


def _strategies() -> str:
    return (
        f" By gradients: {', '.join(DIFFERENTIABLE)}; with a shared network: {', '.join(ONE_SHOT)}; by evaluations: "
        f"{', '.join(STRATEGIES)}. Default: darts; of a space as the estimator."
    )


def _space_default(f: Field[Any]) -> str:
    if isinstance(f.default, (tuple, bool)) or f.default in (None, "") or f.name == "space":
        return ""
    small = f"; digits {ONE_SHOT_DIGITS[f.name]}" if f.name in ONE_SHOT_DIGITS and f.name not in _TABLE_TOO else ""
    return f" Default: {f.default}{small}."


def _defaults(name: str) -> str:
    """The default of a field and where it differs by data set or strategy, as text for the help."""
    default = default_of(name)
    if default in (None, "", ()):
        return ""
    parts = [str(default).lower() if isinstance(default, bool) else f"{default}"]
    parts += [f"{who} {table[name]}" for who, table in (("pcdarts", PCDARTS), ("digits", DIGITS)) if name in table]
    if name == "warmup_epochs":
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
    annotation: Any = Annotated.__class_getitem__((str | None, option))  # type: ignore[attr-defined]
    return inspect.Parameter("help_for", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _show_help(context: typer.Context, kind: str | None) -> None:
    if kind is None:
        return
    if kind not in KINDS:
        raise typer.BadParameter(must_be_one_of(kind, KINDS))
    shown = {f.name for f in fields(KINDS[kind])} | set(_OF_EVERY_RUN)
    shown |= {"measure_speed"} if kind == "gradient" else set()
    for parameter in context.command.params:
        parameter.hidden = parameter.name not in shown  # type: ignore[attr-defined]
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
