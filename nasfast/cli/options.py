"""The options of ``nasfast search``, made from the fields of its settings."""

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
from nasfast.config.oneshot import ONE_SHOT, OneShotConfig
from nasfast.strategies.registry import STRATEGIES

_TABLE_TOO = {f.name for f in fields(BlackBoxConfig)}


def _search_parameters() -> list[inspect.Parameter]:
    """One option per field of SearchConfig, None where it was not given."""
    parameters = []
    for f in fields(SearchConfig):
        kind = field_type(f.name)
        name = option_name(f.name)
        names = [f"{name}/--no-{name[2:]}"] if kind is bool else [name]
        option = typer.Option(
            *names, help=f.metadata["help"] + _defaults(f.name), rich_help_panel=f.metadata["group"], show_default=False
        )
        if get_origin(kind) is Literal:
            names = [*get_args(kind), *((*ONE_SHOT, *STRATEGIES) if f.name == "strategy" else ())]
            option.metavar, kind = "|".join(names), str
        if get_origin(kind) is tuple:
            kind = list[str]
        annotation: Any = Annotated.__class_getitem__((kind | None, option))  # type: ignore[attr-defined]
        parameters.append(
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
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
    names = [f"{option_name(f.name)}/--no-{option_name(f.name)[2:]}"] if kind is bool else [option_name(f.name)]
    option = typer.Option(
        *names, help=f.metadata["help"] + _space_default(f), rich_help_panel=f.metadata["group"], show_default=False
    )
    if choices:
        option.metavar = "|".join(choices)
    annotation: Any = Annotated.__class_getitem__((kind | None, option))  # type: ignore[attr-defined]
    return inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) or (hint,)


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


def with_search_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace ``**given`` in a command's signature by the options of SearchConfig, BlackBoxConfig and OneShotConfig."""
    return _with_options(command, _search_parameters() + _space_parameters())


def with_compare_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace ``**given`` in a command's signature by the options of CompareConfig."""
    hints = get_type_hints(CompareConfig)
    return _with_options(command, [_space_parameter(f, hints[f.name]) for f in fields(CompareConfig)])


def _with_options(command: Callable[..., None], options: list[inspect.Parameter]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        command(*args, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = own + options
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
