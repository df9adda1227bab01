"""The command line as Markdown, read from its click commands."""

from __future__ import annotations

from typing import Any

import click

from nasfast.cli.app import app
from nasfast.cli.help import options_by_panel


def pages() -> str:
    """A section for every command: its text, its arguments, and its options by their groups."""
    context = click.Context(app)
    names = sorted(app.list_commands(context))
    return "\n\n".join(_section(name, app.get_command(context, name)) for name in names)


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    shown = [_metavar(p) if p.required else f"[{_metavar(p)}]" for p in arguments]
    usage = " ".join(["nasfast", name, "[OPTIONS]", *shown])
    parts = [f"## nasfast {name}", f"```text\n{usage}\n```", _plain(command.help or "")]
    for title, options in options_by_panel(command.params).items():
        rows = [f"| {_names(o)} | {_cell(o.help or '')} |" for o in options]
        parts.append("\n".join([f"**{title}**\n", "| option | meaning |", "|:--|:--|", *rows]))
    return "\n\n".join(parts)


def _names(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    return f"{names} `{_cell(_metavar(option))}`" + (", repeatable" if option.multiple else "")


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _cell(text: str) -> str:
    """Text that may stand in a table: a bar would end its cell, and a star is no emphasis."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _plain(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
