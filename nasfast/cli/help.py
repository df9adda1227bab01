"""How the help of a command looks: its arguments, then its options under the titles of their panels."""

from __future__ import annotations

import textwrap
from typing import Any

import click

_OPTIONS = "Options"
_NAMES_WIDTH = 30


class Argument(click.Argument):
    """An argument with a line of help."""

    def __init__(self, names: list[str], help: str, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.help = help


class Option(click.Option):
    """An option that is shown under the title of its panel."""

    def __init__(self, names: list[str], panel: str = _OPTIONS, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.panel = panel


class Command(click.Command):
    """A command whose help has its options by their panels."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click leaves it out where a value is missing
            raise

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Nothing: they stand with the options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_tables(formatter, self._panels(ctx))

    def _panels(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        arguments = [p for p in self.params if isinstance(p, Argument)]
        panels = {"Arguments": [(p.human_readable_name, p.help or "") for p in arguments]}
        for title, options in options_by_panel(self.get_params(ctx)).items():
            panels[title] = [row for option in options if (row := option.get_help_record(ctx)) is not None]
        return panels


def options_by_panel(parameters: list[click.Parameter]) -> dict[str, list[click.Option]]:
    """The options that are shown, by the title of their panel."""
    panels: dict[str, list[click.Option]] = {}
    for parameter in parameters:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            panels.setdefault(getattr(parameter, "panel", _OPTIONS), []).append(parameter)
    return panels


def write_tables(formatter: click.HelpFormatter, tables: dict[str, list[tuple[str, str]]]) -> None:
    """Write tables of names and what they mean, whose second columns begin in one place."""
    names = [name for rows in tables.values() for name, _ in rows]
    width = max((len(name) for name in names if len(name) <= _NAMES_WIDTH), default=_NAMES_WIDTH)
    for title, rows in tables.items():
        if rows:
            with formatter.section(title):
                for name, text in rows:
                    _write_row(formatter, name, text, width)


def _write_row(formatter: click.HelpFormatter, name: str, text: str, width: int) -> None:
    """Write a row; unlike click's own, names such as zero-cost are not broken at their hyphens."""
    margin = " " * formatter.current_indent
    indent = f"{margin}{'':<{width}}  "
    first = f"{margin}{name:<{width}}  "
    if len(name) > width:
        formatter.write(f"{margin}{name}\n")
        first = indent
    lines = textwrap.wrap(text, formatter.width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
    formatter.write("\n".join(lines or [first.rstrip()]) + "\n")
