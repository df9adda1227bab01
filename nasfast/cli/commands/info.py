"""``nasfast info``."""

from __future__ import annotations

import json

import click

from nasfast.cli.errors import one_line_errors
from nasfast.cli.help import Command


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def info(as_json: bool) -> None:
    """Show versions, the extension's build and instruction set, threads, and the GPU or why there is none."""
    from nasfast.runs.environment import describe_environment

    content = describe_environment()
    if as_json:
        print(json.dumps(content, indent=2, default=str))
        return
    extension = content.pop("extension")
    built = {"": extension} if isinstance(extension, str) else extension
    for name, value in (content | {f"extension {name}".strip(): value for name, value in built.items()}).items():
        print(f"{name:<22} {value}")
